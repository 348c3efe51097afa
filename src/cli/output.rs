//! The only place that prints. Results go to standard output, for people and scripts; everything else to standard error. A reader that went
//! away (`| head`) is no failure, so errors of writing are passed over.

use std::fmt::Display;
use std::io::Write;

/// For whom a result is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// For scripts.
    Json,
}

/// One piece of the result, with a newline.
pub fn result(text: impl Display) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Something that a person should know and a script should not read.
pub fn note(text: impl Display) {
    let _ = writeln!(std::io::stderr(), "{text}");
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
