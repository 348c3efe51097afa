//! `countersign demo`: see it work.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use clap::{Args, ValueEnum};

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
    /// Leave everything in this directory: root-cert.pem, cert-chain.pem, key.pem, token, jwks.json, serve.yaml, address, and the CA in ca.
    ///
    /// Without it, a new directory under the system's directory for temporary files. It stays, for the printed commands to use; the demo says
    /// where it is and how to remove it.
    #[arg(long, value_name = "DIRECTORY")]
    pub dir: Option<PathBuf>,
    /// Stay up afterwards, until SIGTERM or SIGINT; the CA's address is in DIRECTORY/address as soon as it listens.
    #[arg(long)]
    pub keep: bool,
    /// Also write DIRECTORY/tokens: this many tokens, one a line, each for an account and a pod of its own.
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    pub tokens: usize,
    /// How tokens are signed. Kubernetes signs with RS256; ES256 needs no key of yours.
    #[arg(long, value_enum, default_value_t = TokenAlgorithm::Es256)]
    pub tokens_algorithm: TokenAlgorithm,
    /// The RSA key that signs tokens with RS256, and only with it, PEM: `openssl genrsa 2048` makes one.
    #[arg(long, value_name = "FILE", required_if_eq("tokens_algorithm", "rs256"))]
    pub token_key: Option<PathBuf>,
}

const AFTER_HELP: &str = "\
Examples:
  See it once
    countersign demo
  Keep the CA up and ask it for another certificate
    countersign demo --dir /tmp/d --keep &
    until test -s /tmp/d/address; do sleep 0.1; done
    countersign request --ca \"$(cat /tmp/d/address)\" --root /tmp/d/root-cert.pem --token /tmp/d/token --out /tmp/mine
  Tokens for a load test
    countersign demo --dir /tmp/load --keep --tokens 100000 &
";

/// How demo tokens are signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TokenAlgorithm {
    /// ECDSA on P-256.
    Es256,
    /// RSA.
    Rs256,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    if arguments.token_key.is_some() && arguments.tokens_algorithm == TokenAlgorithm::Es256 {
        bail!("--token-key is for RS256; give --tokens-algorithm rs256 too");
    }
    let options = Options {
        directory: arguments.dir.clone(),
        keep: arguments.keep,
        tokens: arguments.tokens,
        token_key: arguments.token_key.clone(),
    };
    demo::run_blocking(&options, |step| output::result(step))?;
    Ok(ExitCode::SUCCESS)
}
