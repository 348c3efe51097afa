//! `countersign demo`: see it work.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::output;
use crate::app::demo::{self, Options};

/// See it work on this machine: a CA, a token issuer and a workload that gets its certificate.
///
/// Needs no cluster, no root rights and no other program. Starts the CA on loopback, makes a service-account token as a Kubernetes API server
/// would, asks for a certificate as Istio's agent does, checks it, tells what it did step by step, and prints the openssl lines to check it
/// oneself.
#[derive(Debug, Args)]
#[command(after_long_help = AFTER_HELP)]
pub struct Arguments {
    /// Leave everything in this directory: root-cert.pem, cert-chain.pem, key.pem, token, jwks.json, serve.yaml.
    ///
    /// Without it, a new directory under the system's directory for temporary files.
    #[arg(long, value_name = "DIRECTORY")]
    pub dir: Option<PathBuf>,
    /// Stay up afterwards, until SIGTERM or SIGINT; the CA's address is in DIRECTORY/address.
    #[arg(long)]
    pub keep: bool,
    /// Also write DIRECTORY/tokens: this many tokens, one a line, each for an account and a pod of its own.
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    pub tokens: usize,
    /// Sign tokens with this RSA key and RS256, as Kubernetes does; PEM: `openssl genrsa 2048` makes one.
    ///
    /// Without it, they are signed with a new P-256 key and ES256.
    #[arg(long, value_name = "FILE")]
    pub token_key: Option<PathBuf>,
}

const AFTER_HELP: &str = "\
Examples:
  See it once
    countersign demo
  Keep the CA up and ask it for another certificate
    countersign demo --dir /tmp/d --keep &
    countersign request --ca \"$(cat /tmp/d/address)\" --root /tmp/d/root-cert.pem --token /tmp/d/token --out /tmp/mine
  Tokens for a load test
    countersign demo --dir /tmp/d --keep --tokens 100000 &
";

pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let options = Options {
        directory: arguments.dir.clone(),
        keep: arguments.keep,
        tokens: arguments.tokens,
        token_key: arguments.token_key.clone(),
    };
    demo::run_blocking(&options, |step| output::result(step))?;
    Ok(ExitCode::SUCCESS)
}
