//! Structured logs: one line an event, text for people or JSON for machines, on standard error.

use std::io::IsTerminal;

use tracing::Subscriber;
use tracing_subscriber::EnvFilter;

use super::Metrics;
pub use super::line_writer::Flush;
use super::line_writer::{LineWriter, Worth, line_writer};
use super::text_fields::TextFields;
use crate::platform::process;

/// The target of the line of each refused call.
pub const REFUSED: &str = "countersign::refused";

/// How a line is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Which lines, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// How.
    pub format: Format,
    /// A level (`info`), or levels by module (`info,countersign::issue=debug`), as [`EnvFilter`] reads them.
    pub level: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            format: Format::Text,
            level: "info".into(),
        }
    }
}

/// Why there will be no log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Not a level or a list of levels.
    #[error(
        "{level:?} is not a log level: give error, warn, info, debug or trace, or a list such as info,countersign::issue=debug ({why})"
    )]
    Level {
        /// What was given.
        level: String,
        /// The finding.
        why: String,
    },
    /// No thread.
    #[error("the thread that writes the log cannot be started")]
    Thread(#[from] std::io::Error),
    /// Somebody else's log is installed in this process.
    #[error("this process has a log already")]
    Installed,
}

/// Checks a level as [`start`] will.
pub fn check_level(level: &str) -> Result<(), LogError> {
    filter(level).map(drop)
}

/// Starts the log of this process. Everything logged before the returned guard is dropped gets written.
pub fn start(config: &Config, metrics: &Metrics) -> Result<Flush, LogError> {
    let filter = filter(&config.level)?;
    // https://no-color.org
    let unwanted = process::environment()
        .get("NO_COLOR")
        .is_some_and(|said| !said.is_empty());
    let colours = config.format == Format::Text && !unwanted && std::io::stderr().is_terminal();
    let (writer, flush) = line_writer(std::io::stderr(), Worth::ALL.map(|worth| metrics.log_lines_lost(worth)))?;
    tracing::subscriber::set_global_default(subscriber(config.format, filter, colours, writer))
        .map_err(|_| LogError::Installed)?;
    Ok(flush)
}

fn filter(level: &str) -> Result<EnvFilter, LogError> {
    let refuse = |why: String| LogError::Level {
        level: level.to_owned(),
        why,
    };
    if level.trim().is_empty() {
        return Err(refuse("it is empty".into()));
    }
    // A lone word that is not a level would be read as the name of a module and silence everything else.
    if level.parse::<tracing::level_filters::LevelFilter>().is_err() && !level.contains('=') {
        return Err(refuse("no such level".into()));
    }
    EnvFilter::builder()
        .parse(level)
        .map_err(|error| refuse(error.to_string()))
}

fn subscriber(
    format: Format,
    filter: EnvFilter,
    colours: bool,
    writer: LineWriter,
) -> Box<dyn Subscriber + Send + Sync> {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(colours)
        .with_writer(writer);
    match format {
        Format::Text => Box::new(builder.fmt_fields(TextFields::default()).finish()),
        Format::Json => Box::new(
            builder
                .json()
                .flatten_event(true)
                .with_current_span(false)
                .with_span_list(false)
                .finish(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::sync::{Arc, Mutex, PoisonError};

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: Format, level: &str, log: impl FnOnce()) -> String {
        let memory = Memory::default();
        let (writer, flush) = line_writer(memory.clone(), Default::default()).unwrap();
        tracing::subscriber::with_default(subscriber(format, filter(level).unwrap(), false, writer), log);
        drop(flush);
        String::from_utf8(memory.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn json_lines_are_flat_objects() {
        let text = logged(Format::Json, "info", || {
            tracing::info!(serial = "01AB", lifetime = 60, "certificate issued");
            tracing::debug!("unseen");
        });
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 1, "{text}");
        assert_eq!(lines[0]["serial"], "01AB");
        assert_eq!(lines[0]["lifetime"], 60);
        assert_eq!(lines[0]["message"], "certificate issued");
        assert_eq!(lines[0]["level"], "INFO");
    }

    #[test]
    fn levels_by_module() {
        let text = logged(Format::Text, "warn,countersign::telemetry=debug", || {
            tracing::debug!("seen");
            tracing::info!(target: "elsewhere", "unseen");
        });
        assert!(text.contains("seen") && !text.contains("unseen"), "{text}");
    }

    #[test]
    fn refuses_what_is_no_level() {
        for bad in [
            "",
            " ",
            "loud",
            "countersign=loud",
            "info,countersign=loud",
            "info,[debug",
        ] {
            assert!(filter(bad).is_err(), "{bad:?}");
        }
        assert!(filter("info").is_ok() && filter("INFO").is_ok() && filter("off").is_ok());
    }
}
