//! The plugged-in folder while we run: looked at again and again, by content.
//!
//! Kubelet swaps a symbolic link, people copy file by file, editors write in place; watching for events would have to understand all of them,
//! and misses some on network file systems. A few kilobytes read twice a second miss nothing.
//!
//! What is found counts only when two looks in a row agree: a bundle that was cut exactly between two certificates is valid PEM.

use std::path::PathBuf;

use super::finding::{Finding, Report};
use super::snapshot::LoadedCa;
use super::{layout, plugged_in};
use crate::model::Timestamp;
use crate::platform::files::FileError;

/// Bad files are judged again after this time, since some faults end by themselves (a certificate that is not valid yet).
const JUDGE_AGAIN_SECONDS: i64 = 60;

/// A folder and what is known of it.
#[derive(Debug)]
pub(super) struct Folder {
    directory: PathBuf,
    /// As it was at the last look.
    seen: Option<[u8; 32]>,
    /// What was judged last, and when that is worth doing again.
    judged: Option<([u8; 32], Option<Timestamp>)>,
}

/// What a look found.
#[derive(Debug)]
pub(super) enum Look {
    /// Nothing new.
    Same,
    /// Something is being written.
    Settling,
    /// No file of a CA is left.
    Gone,
    /// A sound CA, and what should be said of it.
    Found(Box<LoadedCa>, Vec<Finding>),
    /// Files that are no CA.
    Bad(Vec<Finding>),
}

impl Folder {
    /// A folder that was not looked at yet.
    pub fn new(directory: PathBuf) -> Self {
        Self {
            directory,
            seen: None,
            judged: None,
        }
    }

    /// What was judged counts as new again.
    pub fn judge_again(&mut self) {
        self.judged = None;
    }

    /// Looks once. Files that cannot be read are findings, not errors.
    pub fn look(&mut self, now: Timestamp) -> Look {
        let content = layout::digest(&self.directory);
        let before = self.seen.replace(content);
        if let Some((judged, again)) = self.judged
            && judged == content
            && again.is_none_or(|again| now < again)
        {
            return Look::Same;
        }
        if before != Some(content) {
            return Look::Settling;
        }
        let mut report = Report::default();
        let loaded = plugged_in::load(&self.directory, now, &mut report);
        if layout::digest(&self.directory) != content {
            return Look::Settling;
        }
        let again = now.plus(JUDGE_AGAIN_SECONDS);
        self.judged = Some((
            content,
            loaded.as_ref().ok().and_then(Option::as_ref).is_none().then_some(again),
        ));
        match loaded {
            Ok(Some(loaded)) => Look::Found(Box::new(loaded), report.warnings),
            Ok(None) if report.errors.is_empty() => Look::Gone,
            Ok(None) => Look::Bad(report.errors),
            Err(FileError { action, path, source }) => Look::Bad(vec![Finding::new(
                path.display(),
                format!("cannot {action} it: {source}"),
                "let the user of this process read it",
            )]),
        }
    }
}
