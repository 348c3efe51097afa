//! `cargo build --release --workspace && target/release/bench target/release/countersign`: what one certificate costs the built program,
//! against the bound (what its crypto alone would cost), on this machine.
//!
//! The program runs as a child on a core of its own; callers share the other one. Every token and every CSR is used once. A figure is a
//! ratio of two CPU times that were measured side by side: it carries over to other machines, while the times themselves do not.
#![expect(
    clippy::disallowed_methods,
    reason = "the bench is a program of its own: it looks at the clock, reads /proc and starts the server"
)]
#![expect(clippy::print_stdout, reason = "it prints what it found")]

mod answers;
mod bound;
mod call;
mod figures;
mod load;
mod machine;
mod material;
mod modes;
mod report;
mod server;
mod trust;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};

use bound::{Bound, Probe};
use machine::{Cores, Machine};
use material::{Algorithm, Tokens};
use modes::{Bench, Scene, Sizes};
use report::Report;
use server::Stage;

/// The callers must need less CPU than the server, which has the same one.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What one certificate costs the server, against what its crypto alone would cost.
#[derive(Debug, Parser)]
struct Options {
    /// The program to measure: target/release/countersign, as built with this one.
    program: PathBuf,
    /// A few seconds for each part: for a first look.
    #[arg(long, conflicts_with = "long")]
    quick: bool,
    /// A million certificates for the memory figure.
    #[arg(long)]
    long: bool,
    /// Only this part; may be repeated.
    #[arg(long, value_enum)]
    only: Vec<Part>,
    /// Writes the figures to this file, too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Fails when a target is missed.
    #[arg(long)]
    check: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    Warm,
    Cold,
    Connections,
    Memory,
    Start,
}

const QUICK: Sizes = Sizes {
    rounds: 3,
    prewarm: 200,
    warm: 2_000,
    cold: 600,
    connection_rounds: 1,
    connections: &[1, 10, 100, 1_000],
    issued: 10_000,
};

const FULL: Sizes = Sizes {
    rounds: 9,
    prewarm: 500,
    warm: 5_000,
    cold: 2_000,
    connection_rounds: 3,
    connections: &[1, 10, 100, 1_000, 10_000],
    issued: 100_000,
};

fn main() -> Result<ExitCode> {
    let options = Options::parse();
    ensure!(
        !cfg!(debug_assertions),
        "the bound is measured in this program: build it with --release, too"
    );
    let folder = tempfile::tempdir()?;
    let report = run(&options, folder.path())?;
    print!("{}", report.table());
    if let Some(file) = &options.json {
        std::fs::write(file, serde_json::to_string_pretty(&report)?)
            .with_context(|| format!("writing {}", file.display()))?;
    }
    let missed = report.missed();
    for miss in &missed {
        println!("MISSED  {miss}");
    }
    Ok(if options.check && !missed.is_empty() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn run(options: &Options, folder: &Path) -> Result<Report> {
    let wanted = |part| options.only.is_empty() || options.only.contains(&part);
    let machine = Machine::look()?;
    let cores = Cores::choose()?;
    cores.move_to_loads()?;
    let sizes = match (options.quick, options.long) {
        (true, _) => QUICK,
        (_, true) => Sizes {
            issued: 1_000_000,
            ..FULL
        },
        _ => FULL,
    };

    let key_file = folder.join("token-key.pem");
    let rsa_key = material::rsa_key(&key_file)?;
    let scene = |algorithm: Algorithm, tokens: usize| -> Result<Scene> {
        let place = folder.join(algorithm.name());
        let stage = Stage::build(&options.program, place, (algorithm, &key_file), tokens, cores)?;
        Ok(Scene {
            algorithm,
            tokens: Tokens::open(&stage.file("tokens"), cores)?,
            stage,
        })
    };
    let (warm, cold) = (wanted(Part::Warm), wanted(Part::Cold));
    let speed_tokens =
        sizes.rounds * (usize::from(warm) * (sizes.prewarm + sizes.warm) + usize::from(cold) * sizes.cold);
    let connection_tokens =
        usize::from(wanted(Part::Connections)) * sizes.connections.len() * sizes.connection_rounds * sizes.warm;
    let memory_tokens = usize::from(wanted(Part::Memory)) * sizes.issued;

    let mut bench = Bench {
        cores,
        probe: Probe::new(&rsa_key)?,
        runtime: tokio::runtime::Builder::new_current_thread().enable_all().build()?,
        sizes,
        bounds: Vec::new(),
    };
    let mut scenes = vec![scene(
        Algorithm::Es256,
        speed_tokens + connection_tokens + memory_tokens + 1,
    )?];
    if warm || cold {
        scenes.insert(0, scene(Algorithm::Rs256, speed_tokens)?);
    }
    let speed = if warm || cold {
        bench.speed(&mut scenes, warm, cold)?
    } else {
        Vec::new()
    };
    let es256 = scenes.last_mut().context("no scene")?;
    let connections = if wanted(Part::Connections) {
        bench.connections(es256)?
    } else {
        Vec::new()
    };
    let memory = wanted(Part::Memory).then(|| bench.memory(es256)).transpose()?;
    let start = wanted(Part::Start)
        .then(|| modes::start(&es256.stage, &options.program, folder))
        .transpose()?;
    Ok(Report {
        machine,
        bound: Bound::median(&bench.bounds),
        speed,
        connections,
        memory,
        start,
    })
}
