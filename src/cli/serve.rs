//! `countersign serve`: be the CA.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;

use super::output;
use crate::app::config::Config;
use crate::app::read_settings::CONFIG_VARIABLE;
use crate::app::serve;
use crate::app::settings::Settings;
use crate::platform::process;

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
    /// Check the settings, print them complete with defaults, and end. `countersign check` also looks at the CA's files.
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
--validate prints all of them.
";

/// Where settings come from, for every command that needs them.
#[derive(Debug, Args)]
pub struct SettingsSource {
    /// The settings, YAML. Without it, the defaults.
    #[arg(long, short, value_name = "FILE", env = CONFIG_VARIABLE)]
    pub config: Option<PathBuf>,
    /// One setting, over those of the file and of COUNTERSIGN_* variables; repeatable.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub assignments: Vec<String>,
}

impl SettingsSource {
    /// The settings as written, complete with defaults, and as checked.
    pub fn load(&self) -> anyhow::Result<(Settings, Config)> {
        let settings = self.settings()?;
        let config = Config::check(&settings, &process::environment())
            .map_err(|problems| anyhow::anyhow!("these settings cannot work:\n{problems}"))?;
        Ok((settings, config))
    }

    /// The settings as written, complete with defaults.
    pub fn settings(&self) -> anyhow::Result<Settings> {
        Settings::load(self.config.as_deref(), &process::environment(), &self.assignments)
            .context("the settings cannot be read")
    }
}

/// Settings complete with defaults, as YAML. They hold no secrets.
pub fn print_settings(settings: &Settings) -> anyhow::Result<()> {
    output::result(serde_saphyr::to_string(settings)?.trim_end());
    Ok(())
}

pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let (settings, config) = arguments.source.load()?;
    if arguments.validate {
        print_settings(&settings)?;
        return Ok(ExitCode::SUCCESS);
    }
    serve::run(&config, arguments.new_root)?;
    Ok(ExitCode::SUCCESS)
}
