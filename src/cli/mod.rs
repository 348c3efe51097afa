//! The command line: one file per command.
//!
//! Takes: arguments and the environment. Gives: text on standard output, an exit status. Not here: what the commands do; that is `app`'s and
//! `agent`'s.

mod check;
mod completions;
mod demo;
mod init;
mod output;
mod request;
mod root;
mod serve;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// countersign is a certificate authority for Istio-style service meshes.
///
/// Proxies send it a certificate request and their Kubernetes service-account token; it checks both and answers with a certificate for
/// spiffe://<trust domain>/ns/<namespace>/sa/<service account>, as Istio's own CA does. Istio's proxies use it unmodified.
#[derive(Debug, Parser)]
#[command(version, after_long_help = AFTER_HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
First steps:
  countersign demo                          see it work, on this machine alone
  countersign check --config serve.yaml     are these settings and this CA sound?
  countersign serve --config serve.yaml     be the CA

Exit status: 0 when all went well, 1 when it did not, 2 when the command line is wrong.
";

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Arguments),
    Request(Box<request::Arguments>),
    Check(check::Arguments),
    Root(root::Arguments),
    Init(init::Arguments),
    Demo(demo::Arguments),
    Completions(completions::Arguments),
}

/// Runs the program.
pub fn run() -> ExitCode {
    let ended = match Cli::parse().command {
        Command::Serve(arguments) => serve::run(&arguments),
        Command::Request(arguments) => request::run(&arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Root(arguments) => root::run(&arguments),
        Command::Init(arguments) => init::run(&arguments),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Completions(arguments) => completions::run(&arguments),
    };
    ended.unwrap_or_else(|error| {
        output::failure(&error);
        ExitCode::FAILURE
    })
}
