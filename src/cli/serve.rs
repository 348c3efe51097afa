//! `countersign serve`: be the CA.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;

use super::output;
use crate::app::config::Config;
use crate::app::read_settings::CONFIG_VARIABLE;
use crate::app::serve;
use crate::app::settings::Settings;
use crate::platform::process;
use crate::telemetry::log;

/// Be the CA: answer Istio's proxies over gRPC.
///
/// Signs with the CA that is plugged in (the files of Istio's `cacerts` secret), or with a root of its own that it makes at the first start.
/// Callers prove themselves with Kubernetes service-account tokens. SIGTERM and SIGINT end it after the calls in flight.
#[derive(Debug, Args)]
#[command(after_long_help = AFTER_HELP)]
pub struct Arguments {
    #[command(flatten)]
    pub source: SettingsSource,
    /// Make another self-signed root when the one that was there is lost.
    ///
    /// Without it, a root that existed and cannot be read stops the start: workloads that trust it would refuse certificates of another.
    #[arg(long)]
    pub new_root: bool,
    /// Print a settings file with every setting, its default and what it means, and end.
    #[arg(long, conflicts_with_all = ["validate", "new_root", "config", "assignments"])]
    pub print_config: bool,
    /// Check the settings, print them complete with defaults, and end. `countersign check` also looks at the files that they name.
    #[arg(long)]
    pub validate: bool,
}

const AFTER_HELP: &str = "\
Examples:
  In a cluster, all defaults: tokens are reviewed by the API server, the CA is in /etc/cacerts or made
    countersign serve
  Settings from a file, one of them from the command line
    countersign serve --config serve.yaml --set logging.level=debug
  The same from the environment
    COUNTERSIGN_LOGGING_LEVEL=debug countersign serve --config serve.yaml

Every key of the file is a variable too: listen.callsInFlight is COUNTERSIGN_LISTEN_CALLS_IN_FLIGHT.
--print-config prints all of them with what they mean, --validate as they are in force.
";

/// Where settings come from, for every command that needs them.
#[derive(Debug, Args)]
pub struct SettingsSource {
    /// The settings, YAML; - for standard input. Without it, the defaults.
    #[arg(long, short, value_name = "FILE", env = CONFIG_VARIABLE)]
    pub config: Option<PathBuf>,
    /// One setting, over those of the file and of COUNTERSIGN_* variables; repeatable.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub assignments: Vec<String>,
}

impl SettingsSource {
    /// The settings as written, complete with defaults.
    pub fn read(&self) -> anyhow::Result<Settings> {
        Settings::load(self.config.as_deref(), &process::environment(), &self.assignments)
            .context("the settings cannot be read")
    }
}

/// Settings complete with defaults, as YAML. They hold no secrets.
pub fn print_settings(settings: &Settings) -> anyhow::Result<()> {
    output::result(serde_saphyr::to_string(settings)?.trim_end())
}

/// Written from the definitions of the settings, as is `docs/settings.md`; a test sees to it.
const COMMENTED_SETTINGS: &str = include_str!("../../docs/serve.yaml");

pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    if arguments.print_config {
        output::result(COMMENTED_SETTINGS.trim_end())?;
        return Ok(ExitCode::SUCCESS);
    }
    let settings = arguments.source.read()?;
    if arguments.validate {
        print_settings(&settings)?;
    }
    let mut config = match Config::check(&settings, &process::environment()) {
        Ok(config) => config,
        Err(problems) if settings.logging.format == "json" && !arguments.validate => {
            let format = log::Format::Json;
            return Ok(status(serve::refuse(
                &problems,
                &log::Config {
                    format,
                    ..Default::default()
                },
            )?));
        }
        Err(problems) => bail!("these settings cannot work:\n{problems}"),
    };
    if arguments.validate {
        for missing in &config.missing_here {
            output::note(format_args!("note: {missing}; not checked here"));
        }
        return Ok(ExitCode::SUCCESS);
    }
    config.ca.self_signed.new_root = arguments.new_root;
    Ok(status(serve::run(&config)?))
}

fn status(ended: serve::Ended) -> ExitCode {
    match ended {
        serve::Ended::AsAsked => ExitCode::SUCCESS,
        serve::Ended::Failed => ExitCode::FAILURE,
    }
}
