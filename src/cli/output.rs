//! The only place that prints. Results go to standard output, for people and scripts; everything else to standard error. A result that cannot
//! be written is a failure, except that a reader went away (`| head`).

use std::fmt::Display;
use std::io::{ErrorKind, IsTerminal, Write};

use anyhow::Context;

use crate::app::serve::explain;

/// For whom a result is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// For scripts.
    Json,
}

/// Whether results go to a person's eyes.
pub fn is_terminal() -> bool {
    std::io::stdout().is_terminal()
}

/// One piece of the result, with a newline.
pub fn result(text: impl Display) -> anyhow::Result<()> {
    match writeln!(std::io::stdout(), "{text}") {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error).context("cannot write to standard output"),
        _ => Ok(()),
    }
}

/// Something that a person should know and a script should not read.
pub fn note(text: impl Display) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// How something goes, on standard error: a line for each change of what it says; on a terminal also a short line that is written over.
pub struct Progress {
    terminal: bool,
    told: String,
}

impl Progress {
    /// Nothing told yet.
    pub fn new() -> Self {
        Self {
            terminal: std::io::stderr().is_terminal(),
            told: String::new(),
        }
    }

    /// `moving` changes with every look and is for terminals alone.
    pub fn show(&mut self, words: &str, moving: &str) {
        // Back to the line's start, and clear it.
        let clear = if self.terminal { "\r\x1b[2K" } else { "" };
        if self.told != words {
            note(format_args!("{clear}{words}"));
            words.clone_into(&mut self.told);
        }
        if self.terminal {
            let _ = write!(std::io::stderr(), "{clear}{moving}");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.terminal {
            let _ = write!(std::io::stderr(), "\r\x1b[2K");
        }
    }
}

/// Why the command failed.
pub fn failure(error: &anyhow::Error) {
    note(format_args!("countersign: {}", explain(error)));
}
