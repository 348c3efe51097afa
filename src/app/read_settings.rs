//! How settings are read: one YAML file, then environment variables, then `--set`, each over the one before.
//!
//! Takes: texts. Gives: [`Settings`], complete with defaults. Not here: whether values make sense (`config`).
//!
//! Every field can be set in three ways that need no code of their own: `listen.callsInFlight` in the file is
//! `COUNTERSIGN_LISTEN_CALLS_IN_FLIGHT` in the environment and `--set listen.callsInFlight=…` on the command line. Values are YAML there too:
//! `[a, b]` is a list.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;
use serde_saphyr::{Error as YamlError, MessageFormatter, UserMessageFormatter};

use super::settings::Settings;
use crate::platform::files::{self, FileError};

/// Why a text is not settings.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file's text is wrong at a place.
    #[error("{origin}:{line}:{column}: {finding}")]
    Place {
        /// The file.
        origin: String,
        /// From 1.
        line: u64,
        /// From 1.
        column: u64,
        /// What is wrong and what to do.
        finding: String,
    },
    /// A variable or `--set` is wrong.
    #[error("{origin}: {finding}")]
    Override {
        /// The variable or key.
        origin: String,
        /// What is wrong and what to do.
        finding: String,
    },
}

/// Largest settings file.
const MOST_BYTES: u64 = 1 << 20;

impl Settings {
    /// Reads all three sources; without a file, the defaults are what the others are laid over.
    pub fn load(
        file: Option<&Path>,
        environment: &BTreeMap<String, String>,
        assignments: &[String],
    ) -> Result<Self, SettingsError> {
        let written = match file {
            Some(path) => Self::parse(
                &files::read_text_or_pipe(path, MOST_BYTES)?,
                &path.display().to_string(),
            )?,
            None => Self::default(),
        };
        let settings = written.with_environment(environment)?;
        assignments
            .iter()
            .try_fold(settings, |settings, assignment| settings.with_assignment(assignment))
    }

    /// Reads the text of a file; `origin` is its name in errors.
    pub fn parse(text: &str, origin: &str) -> Result<Self, SettingsError> {
        let options = serde_saphyr::options! {
            strict_booleans: true,
            with_snippet: false,
        };
        serde_saphyr::from_str_with_options::<Option<Self>>(text, options)
            .map(Option::unwrap_or_default)
            .map_err(|error| {
                let place = error.location();
                let (line, column) = place.map_or((0, 0), |place| (place.line(), place.column()));
                let written = usize::try_from(line)
                    .ok()
                    .and_then(|line| text.lines().nth(line.checked_sub(1)?));
                SettingsError::Place {
                    origin: origin.to_owned(),
                    line,
                    column,
                    finding: explain(&error, written),
                }
            })
    }

    /// Lays environment variables named `COUNTERSIGN_…` over these settings. Names that Kubernetes invents for a service called `countersign`
    /// are passed over; any other unknown name is an error.
    pub fn with_environment(self, environment: &BTreeMap<String, String>) -> Result<Self, SettingsError> {
        let by_variable: BTreeMap<String, String> = paths().into_iter().map(|path| (variable(&path), path)).collect();
        environment
            .iter()
            .filter(|(name, _)| name.starts_with(PREFIX) && *name != CONFIG_VARIABLE && !is_service_link(name))
            .try_fold(self, |settings, (name, value)| match by_variable.get(name) {
                Some(path) => settings.with(path, value, name),
                None => Err(SettingsError::Override {
                    origin: name.clone(),
                    finding: unknown("variable", name, by_variable.keys().map(String::as_str)),
                }),
            })
    }

    /// Lays `path=value`, as `--set` takes it, over these settings.
    pub fn with_assignment(self, assignment: &str) -> Result<Self, SettingsError> {
        let refuse = |finding| SettingsError::Override {
            origin: format!("--set {assignment}"),
            finding,
        };
        let Some((path, value)) = assignment.split_once('=') else {
            return Err(refuse("write it as key=value, such as logging.level=debug".into()));
        };
        let paths = paths();
        if !paths.iter().any(|known| known == path) {
            return Err(refuse(unknown("key", path, paths.iter().map(String::as_str))));
        }
        self.with(path, value, &format!("--set {path}"))
    }

    fn with(self, path: &str, text: &str, origin: &str) -> Result<Self, SettingsError> {
        let refuse = |finding: String| SettingsError::Override {
            origin: origin.to_owned(),
            finding,
        };
        let mut tree = serde_json::to_value(&self).map_err(|error| refuse(error.to_string()))?;
        let pointer = format!("/{}", path.replace('.', "/"));
        let mut with_value = |value: Value| {
            if let Some(place) = tree.pointer_mut(&pointer) {
                *place = value;
            }
            tree.clone()
        };
        // Where a text fits, the value is taken as it is: `0`, `true` and `no` are texts there.
        if let Ok(settings) = serde_json::from_value(with_value(Value::String(text.to_owned()))) {
            return Ok(settings);
        }
        let read = |error: YamlError| refuse(explain(&error, Some(text)));
        let options = || serde_saphyr::options! { strict_booleans: true, with_snippet: false };
        let value = serde_saphyr::from_str_with_options(text, options()).map_err(read)?;
        // As YAML, which JSON is, so that a value that does not fit is told in the words that it is told in for a file.
        serde_saphyr::from_str_with_options(&with_value(value).to_string(), options()).map_err(read)
    }
}

const PREFIX: &str = "COUNTERSIGN_";

/// Names the settings file itself.
pub const CONFIG_VARIABLE: &str = "COUNTERSIGN_CONFIG";

/// Kubernetes gives every pod `<NAME>_SERVICE_…` and `<NAME>_PORT…` for each service of its namespace.
fn is_service_link(name: &str) -> bool {
    name.starts_with("COUNTERSIGN_SERVICE_") || name == "COUNTERSIGN_PORT" || name.starts_with("COUNTERSIGN_PORT_")
}

/// The paths of all values, such as `listen.callsInFlight`.
fn paths() -> Vec<String> {
    fn walk(value: &Value, path: &str, found: &mut Vec<String>) {
        match value {
            Value::Object(fields) => fields.iter().for_each(|(name, value)| {
                let dot = if path.is_empty() { "" } else { "." };
                walk(value, &format!("{path}{dot}{name}"), found);
            }),
            _ => found.push(path.to_owned()),
        }
    }
    let mut found = Vec::new();
    walk(
        &serde_json::to_value(Settings::default()).unwrap_or_default(),
        "",
        &mut found,
    );
    found
}

/// `listen.callsInFlight` → `COUNTERSIGN_LISTEN_CALLS_IN_FLIGHT`
fn variable(path: &str) -> String {
    let mut name = PREFIX.to_owned();
    for c in path.chars() {
        match c {
            '.' => name.push('_'),
            upper if upper.is_ascii_uppercase() => name.extend(['_', upper]),
            lower => name.push(lower.to_ascii_uppercase()),
        }
    }
    name
}

/// What a YAML error says to somebody who knows our settings and not our types.
fn explain(error: &YamlError, written: Option<&str>) -> String {
    match error {
        YamlError::SerdeUnknownField { field, expected, .. } => {
            let elsewhere = || {
                paths()
                    .into_iter()
                    .find(|path| path.rsplit('.').next() == Some(field))
                    .map(|path| format!("unknown key {field:?} here; did you mean {path}?"))
            };
            let close = nearest(field, expected.iter().copied());
            match close.is_none().then(elsewhere).flatten() {
                Some(hint) => hint,
                None => unknown("key", field, expected.iter().copied()),
            }
        }
        other => {
            let what = match other {
                YamlError::InvalidScalar { ty: "u32", .. } => NUMBER.into(),
                YamlError::Unexpected { expected, .. } if expected.starts_with("mapping") => {
                    "a section of keys and values is expected".into()
                }
                YamlError::Unexpected { expected, .. } if expected.starts_with("sequence") => {
                    "a list is expected, such as [a, b]".into()
                }
                other => UserMessageFormatter.format_message(other),
            };
            written.map_or(what.to_string(), |line| format!("{what}, in {:?}", line.trim()))
        }
    }
}

const NUMBER: &str = "a whole number from 0 to 4294967295 is expected";

fn unknown<'a>(what: &str, given: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    match nearest(given, known.clone()) {
        Some(name) => format!("unknown {what} {given:?}; did you mean {name}?"),
        None if known.clone().count() > 12 => {
            format!("unknown {what} {given:?}; countersign serve --validate prints all settings")
        }
        None => format!(
            "unknown {what} {given:?}; known are {}",
            known.collect::<Vec<_>>().join(", ")
        ),
    }
}

/// The known name that was probably meant.
fn nearest<'a>(given: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let closeness = |name: &str| strsim::jaro_winkler(&given.to_lowercase(), &name.to_lowercase());
    known
        .map(|name| (closeness(name), name))
        .filter(|(closeness, _)| *closeness > 0.84)
        .max_by(|left, right| left.0.total_cmp(&right.0))
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_has_a_variable_of_its_own() {
        let paths = paths();
        let variables: std::collections::BTreeSet<String> = paths.iter().map(|path| variable(path)).collect();
        assert_eq!(variables.len(), paths.len());
        assert!(!variables.iter().any(|name| is_service_link(name)));
        assert_eq!(
            variable("ca.selfSigned.directory"),
            "COUNTERSIGN_CA_SELF_SIGNED_DIRECTORY"
        );
        for path in &paths {
            // Whatever the type, one of these fits.
            let set = ["[]", "true", "7"]
                .into_iter()
                .find_map(|value| Settings::default().with_assignment(&format!("{path}={value}")).ok());
            assert!(set.is_some(), "{path}");
        }
    }
}
