//! `countersign completions`: what a shell needs to complete our commands, from the same definitions as `--help`.

use std::process::ExitCode;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{Cli, output};

/// Print what a shell needs to complete countersign's commands and options.
#[derive(Debug, Args)]
#[command(after_long_help = AFTER_HELP)]
pub struct Arguments {
    /// The shell.
    #[arg(value_name = "SHELL", value_parser = ["bash", "zsh", "fish"])]
    shell: String,
}

const AFTER_HELP: &str = "\
Examples:
  For this bash
    source <(countersign completions bash)
  For every bash, zsh or fish of this account
    countersign completions bash >~/.local/share/bash-completion/completions/countersign
    countersign completions zsh >\"${fpath[1]}/_countersign\"
    countersign completions fish >~/.config/fish/completions/countersign.fish
";

pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let shell = match arguments.shell.as_str() {
        "zsh" => Shell::Zsh,
        "fish" => Shell::Fish,
        _ => Shell::Bash,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "countersign", &mut script);
    output::result(String::from_utf8(script)?.trim_end())?;
    Ok(ExitCode::SUCCESS)
}
