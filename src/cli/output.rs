//! The only place that prints. Results go to standard output, for people and scripts; everything else to standard error. A reader that went
//! away (`| head`) is no failure, so errors of writing are passed over.

use std::fmt::Display;
use std::io::{IsTerminal, Write};

/// One piece of the result, with a newline.
pub fn result(text: impl Display) {
    let _ = writeln!(std::io::stdout(), "{text}");
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

/// Why the command failed, causes included; many of our errors name theirs already.
pub fn failure(error: &anyhow::Error) {
    let text = error
        .chain()
        .map(ToString::to_string)
        .fold(String::new(), |told, cause| match told {
            told if told.is_empty() => cause,
            told if told.contains(&cause) => told,
            told => format!("{told}: {cause}"),
        });
    note(format_args!("countersign: {text}"));
}
