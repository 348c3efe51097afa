//! `countersign check`: are these settings and this CA sound?

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;

use super::output;
use super::serve::{SettingsSource, print_settings};
use crate::app::ca::authority_config;
use crate::authority::{self, Inspection, LoadedCa};
use crate::model::Timestamp;
use crate::platform::{Clock, SystemClock};

/// Are these settings and this CA sound?
///
/// Reads settings as `serve` does, then looks at the CA's files: does the key fit, does the chain hold, does anything expire soon? Writes
/// nothing and needs no network. Every finding names the file and the remedy.
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
    #[arg(long)]
    print: bool,
}

const AFTER_HELP: &str = "\
Examples:
  Before a rollout, with the file that serve will get
    countersign check --config serve.yaml
  Before making the secret cacerts
    countersign check --cacerts ./cluster1
  In a monitoring job beside the CA
    countersign check --config serve.yaml --running

Exit status: 0 when serve would start (warnings included), 1 when it would not. With --running: 0 when all is well, also while a change of root
goes its way; 1 when the files are bad or gone, nothing signs, a change needs a person, or nobody answers.
";

pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    if arguments.running {
        return super::root::check(&arguments.source);
    }
    let now = SystemClock.now();
    let inspection = match &arguments.cacerts {
        Some(directory) => authority::inspect_plugged_in(directory, now)?,
        None => {
            let (settings, config) = arguments.source.load()?;
            if arguments.print {
                print_settings(&settings)?;
            }
            output::result("settings: ok");
            if !config.authentication.issuers.is_empty() {
                output::result(
                    "note: tokens that are verified offline stay good until they expire, also when their pod is deleted",
                );
            }
            authority::inspect(&authority_config(&config, false), now).context("the CA")?
        }
    };
    Ok(report(&inspection, arguments.cacerts.is_some(), now))
}

/// `must_exist`: a folder that was named is expected to hold a CA; one that settings lead to may still be empty.
fn report(inspection: &Inspection, must_exist: bool, now: Timestamp) -> ExitCode {
    let source = &inspection.source;
    for error in &inspection.report.errors {
        output::result(format_args!("error: {error}"));
    }
    for warning in &inspection.report.warnings {
        output::result(format_args!("warning: {warning}"));
    }
    match &inspection.ca {
        Some(ca) => {
            output::result(format_args!("{source}: ok"));
            describe(ca, now);
            ExitCode::SUCCESS
        }
        None if !inspection.report.errors.is_empty() => {
            output::result(format_args!("{source}: cannot be used"));
            ExitCode::FAILURE
        }
        None if must_exist => {
            output::result(format_args!("{source}: there is none"));
            ExitCode::FAILURE
        }
        None => {
            output::result(format_args!("{source}: there is none yet; serve will make one"));
            ExitCode::SUCCESS
        }
    }
}

fn describe(ca: &LoadedCa, now: Timestamp) {
    let members = ca.chain().iter().map(|member| ("chain", member));
    let roots = ca.roots().roots().iter().map(|root| ("root", root));
    for (kind, certificate) in members.chain(roots) {
        let end = certificate.validity().not_after;
        output::result(format_args!(
            "  {kind}  {}, until {end} ({} days)",
            certificate.subject_text(),
            end.since(now) / 86_400
        ));
    }
    output::result(format_args!("  key    {}", ca.key().algorithm()));
}
