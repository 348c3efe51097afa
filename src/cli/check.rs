//! `countersign check`: are these settings and this CA sound?

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::output::{self, Format};
use super::serve::{SettingsSource, print_settings};
use crate::app::config::Config;
use crate::app::{look, serve};
use crate::authority::{self, Inspection, LoadedCa, Source};
use crate::model::Timestamp;
use crate::platform::{Clock, SystemClock, files, process};

/// Are these settings and this CA sound?
///
/// Reads settings as `serve` does, then looks at every file that they name: does the CA's key fit, does the chain hold, does anything expire
/// soon, are there keys to verify tokens with? Writes nothing and needs no network. Every finding names the file and the remedy.
#[derive(Debug, Args)]
#[command(after_long_help = AFTER_HELP)]
pub struct Arguments {
    #[command(flatten)]
    source: SettingsSource,
    /// Look at this folder of plugged-in files alone, without any settings.
    #[arg(long, value_name = "DIRECTORY", conflicts_with_all = ["config", "assignments", "print"])]
    cacerts: Option<PathBuf>,
    /// Ask the CA that runs with these settings on this host, instead of looking at its files: are they in use, does it sign, does a change of root
    /// wait for somebody?
    #[arg(long, conflicts_with_all = ["cacerts", "print"])]
    running: bool,
    /// Also print the settings complete with defaults.
    #[arg(long, conflicts_with = "output")]
    print: bool,
    /// How to tell.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    output: Format,
}

const AFTER_HELP: &str = "\
Examples:
  Before a rollout, with the file that serve will get
    countersign check --config serve.yaml
  Before making the secret cacerts
    countersign check --cacerts ./cluster1
  In a monitoring job beside the CA
    countersign check --config serve.yaml --running

Exit status: 0 when serve would start and could sign (warnings included), 1 when not. What only the pod has (its credentials for the API
server) is told and not judged elsewhere; a port that somebody else listens on is not looked at. With --running: 0 when all is well, also
while a change of root goes its way; 1 when the files are bad or gone, nothing signs, a change needs a person, or nobody answers.
";

/// Everything that is told.
#[derive(Default, Serialize)]
struct Told {
    /// With any of these `serve` would not start, or not sign.
    errors: Vec<String>,
    /// Someone should look.
    warnings: Vec<String>,
    /// Worth knowing.
    notes: Vec<String>,
    #[serde(skip)]
    settings_fit: bool,
    ca: Option<Ca>,
}

#[derive(Serialize)]
struct Ca {
    source: String,
    state: &'static str,
    certificates: Vec<Certificate>,
    key: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Certificate {
    kind: &'static str,
    subject: String,
    not_after: String,
    days: i64,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    if arguments.running {
        return super::root::check(&arguments.source);
    }
    let now = SystemClock.now();
    let mut told = Told::default();
    match &arguments.cacerts {
        Some(directory) => told.folder(directory, now)?,
        None => {
            let settings = arguments.source.read()?;
            if arguments.print {
                print_settings(&settings)?;
            }
            match Config::check(&settings, &process::environment()) {
                Ok(config) => told.config(&config, now)?,
                Err(problems) => told.errors.extend(problems.iter().map(ToString::to_string)),
            }
        }
    }
    match arguments.output {
        Format::Text => told.print()?,
        Format::Json => output::result(serde_json::to_string_pretty(&told)?)?,
    }
    Ok(match told.errors.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

impl Told {
    fn config(&mut self, config: &Config, now: Timestamp) -> anyhow::Result<()> {
        self.settings_fit = true;
        let missing = config.missing_here.iter();
        self.notes
            .extend(missing.map(|missing| format!("{missing}; not checked here")));
        if !config.authentication.issuers.is_empty() {
            self.notes.push(
                "tokens that are verified offline stay good until they expire, also when their pod is deleted".into(),
            );
        }
        let problems = serve::runtime()?.block_on(look::files(config));
        self.errors.extend(problems.iter().map(ToString::to_string));
        match look::ca(config, now) {
            Ok((inspection, problems)) => {
                self.errors.extend(problems.iter().map(ToString::to_string));
                self.ca(inspection, problems.is_empty(), now);
            }
            Err(error) => self.errors.push(format!("ca: {error}")),
        }
        Ok(())
    }

    fn folder(&mut self, directory: &Path, now: Timestamp) -> anyhow::Result<()> {
        match files::exists(directory)? {
            true => self.ca(authority::inspect_plugged_in(directory, now)?, true, now),
            false => self.errors.push(format!("{} does not exist", directory.display())),
        }
        Ok(())
    }

    fn ca(&mut self, Inspection { ca, source, report }: Inspection, is_sound: bool, now: Timestamp) {
        self.errors.extend(report.errors.iter().map(ToString::to_string));
        self.warnings.extend(report.warnings.iter().map(ToString::to_string));
        if let (None, true, Source::PluggedIn(directory)) = (&ca, report.errors.is_empty(), &source) {
            let nothing = authority::Error::NothingPluggedIn(directory.clone());
            self.errors.push(nothing.to_string());
        }
        self.ca = Some(Ca {
            state: match (&ca, &source) {
                (Some(_), _) if is_sound => "ok",
                (None, Source::SelfSigned(_)) if is_sound && report.errors.is_empty() => {
                    "there is none yet; serve will make one"
                }
                _ => "cannot be used",
            },
            source: source.to_string(),
            certificates: ca.as_ref().map_or_else(Vec::new, |ca| certificates(ca, now)),
            key: ca.map(|ca| ca.key().algorithm().to_string()),
        });
    }

    fn print(&self) -> anyhow::Result<()> {
        if self.settings_fit {
            output::result("settings: ok")?;
        }
        for (kind, findings) in [
            ("note", &self.notes),
            ("error", &self.errors),
            ("warning", &self.warnings),
        ] {
            for finding in findings {
                output::result(format_args!("{kind}: {finding}"))?;
            }
        }
        let Some(ca) = &self.ca else { return Ok(()) };
        output::result(format_args!("{}: {}", ca.source, ca.state))?;
        for certificate in &ca.certificates {
            let Certificate {
                kind,
                subject,
                not_after,
                days,
            } = certificate;
            output::result(format_args!("  {kind:<5}  {subject}, until {not_after} ({days} days)"))?;
        }
        if let Some(key) = &ca.key {
            output::result(format_args!("  key    {key}"))?;
        }
        Ok(())
    }
}

fn certificates(ca: &LoadedCa, now: Timestamp) -> Vec<Certificate> {
    let members = ca.chain().iter().map(|member| ("chain", member));
    let roots = ca.roots().roots().iter().map(|root| ("root", root));
    members
        .chain(roots)
        .map(|(kind, certificate)| {
            let end = certificate.validity().not_after;
            Certificate {
                kind,
                subject: certificate.subject_text().to_owned(),
                not_after: end.to_string(),
                days: end.since(now) / 86_400,
            }
        })
        .collect()
}
