//! The only place that prints. Results go to standard output, for people and scripts; everything else to standard error. A result that cannot
//! be written is a failure, except that a reader went away (`| head`).

use std::fmt::Display;
use std::io::{ErrorKind, Write};

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

/// Why the command failed.
pub fn failure(error: &anyhow::Error) {
    note(format_args!("countersign: {}", explain(error)));
}
