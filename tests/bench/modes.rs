//! The measurements: which calls, against which server, between which two looks at the clock.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::runtime::Runtime;

use crate::answers;
use crate::bound::{Bound, Probe};
use crate::figures::{median, quantile};
use crate::load::{Caller, Outcome};
use crate::machine::{Cores, allow_connections};
use crate::material::{Algorithm, Tokens};
use crate::report::{Memory, Round, Speed, Start};
use crate::server::{Server, Stage};

/// Warm calls come over this many connections.
const WARM_CONNECTIONS: usize = 4;
/// Calls on their way at any time.
const IN_FLIGHT: usize = 64;
/// Enough that the server always has one to work on.
const COLD_IN_FLIGHT: usize = 32;
/// So many calls are prepared at once for the long memory run.
const BATCH: usize = 50_000;

/// How much of everything.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Rounds of each speed; odd.
    pub rounds: usize,
    /// Calls before the clock starts.
    pub prewarm: usize,
    /// Calls in a warm round.
    pub warm: usize,
    /// Calls in a cold round.
    pub cold: usize,
    /// Rounds of each number of connections; odd.
    pub connection_rounds: usize,
    /// The numbers of connections.
    pub connections: &'static [usize],
    /// Certificates issued for the memory figure.
    pub issued: usize,
}

/// One set of tokens, the server that takes them, and what is left of them.
pub struct Scene {
    /// How tokens are signed.
    pub algorithm: Algorithm,
    /// Where the demo left everything.
    pub stage: Stage,
    /// Unused tokens.
    pub tokens: Tokens,
}

/// What all measurements share.
pub struct Bench {
    /// Who runs where.
    pub cores: Cores,
    /// The bound's keys.
    pub probe: Probe,
    /// The callers', on this thread.
    pub runtime: Runtime,
    /// How much.
    pub sizes: Sizes,
    /// Every sample of the bound.
    pub bounds: Vec<Bound>,
}

impl Bench {
    /// Warm and cold calls, every algorithm in every round, so that a slow minute of the machine strikes all alike.
    pub fn speed(&mut self, scenes: &mut [Scene], warm: bool, cold: bool) -> Result<Vec<Speed>> {
        let servers = scenes
            .iter()
            .map(|scene| scene.stage.start())
            .collect::<Result<Vec<_>>>()?;
        let mut rounds = vec![[Vec::new(), Vec::new()]; scenes.len()];
        for _ in 0..self.sizes.rounds {
            for ((scene, server), [warm_rounds, cold_rounds]) in scenes.iter_mut().zip(&servers).zip(&mut rounds) {
                if warm {
                    let round = self.warm(scene, server, WARM_CONNECTIONS, self.sizes.prewarm, self.sizes.warm);
                    warm_rounds.push(round.context("warm calls")?);
                }
                if cold {
                    cold_rounds.push(self.cold(scene, server).context("cold calls")?);
                }
            }
        }
        let mut speeds = Vec::new();
        for (number, mode) in ["warm", "cold"].into_iter().enumerate() {
            for (scene, rounds) in scenes.iter().zip(&mut rounds) {
                let rounds = std::mem::take(&mut rounds[number]);
                if !rounds.is_empty() {
                    speeds.push(Speed::of(mode, scene.algorithm, rounds));
                }
            }
        }
        Ok(speeds)
    }

    /// The same calls over more and more connections.
    pub fn connections(&mut self, scene: &mut Scene) -> Result<Vec<Speed>> {
        let counts = self.sizes.connections;
        allow_connections(counts.iter().copied().max().unwrap_or(0))?;
        let mut rounds = vec![Vec::new(); counts.len()];
        for _ in 0..self.sizes.connection_rounds {
            for (count, rounds) in counts.iter().zip(&mut rounds) {
                let server = scene.stage.start()?;
                let round = self.warm(scene, &server, *count, 0, self.sizes.warm);
                rounds.push(round.with_context(|| format!("{count} connections"))?);
            }
        }
        Ok(counts
            .iter()
            .zip(rounds)
            .map(|(count, rounds)| Speed::of(count.to_string(), scene.algorithm, rounds))
            .collect())
    }

    /// Idle, after many calls, and with idle connections.
    pub fn memory(&mut self, scene: &mut Scene) -> Result<Memory> {
        let server = scene.stage.start()?;
        settle();
        let idle = server.resident()?;
        let caller = self.caller(&scene.stage, &server)?;
        let lines = self.runtime.block_on(caller.lines(IN_FLIGHT))?;
        let mut issued = 0;
        while issued < self.sizes.issued {
            let calls = scene.tokens.prepare(BATCH.min(self.sizes.issued - issued))?;
            issued += calls.len();
            self.runtime.block_on(caller.warm(&lines, IN_FLIGHT, calls))?;
        }
        let after = server.resident()?;
        drop((lines, server));

        let server = scene.stage.start()?;
        settle();
        let base = server.resident()?;
        let caller = self.caller(&scene.stage, &server)?;
        let mut lines = Vec::new();
        let mut connections = Vec::new();
        for count in self.sizes.connections.iter().copied().filter(|count| *count >= 1000) {
            allow_connections(count)?;
            lines.extend(self.runtime.block_on(caller.lines(count - lines.len()))?);
            let grown = server.resident()?.saturating_sub(base);
            connections.push((count, grown as f64 / count as f64));
        }
        Ok(Memory {
            idle,
            issued,
            after,
            connections,
        })
    }

    fn warm(
        &mut self,
        scene: &mut Scene,
        server: &Server,
        connections: usize,
        prewarm: usize,
        count: usize,
    ) -> Result<Round> {
        let first = scene.tokens.prepare(prewarm)?;
        let calls = scene.tokens.prepare(count)?;
        let caller = self.caller(&scene.stage, server)?;
        let lines = self.runtime.block_on(caller.lines(connections))?;
        self.runtime.block_on(caller.warm(&lines, IN_FLIGHT, first))?;
        self.timed(scene, server, caller.warm(&lines, IN_FLIGHT, calls))
    }

    fn cold(&mut self, scene: &mut Scene, server: &Server) -> Result<Round> {
        let calls = scene.tokens.prepare(self.sizes.cold)?;
        let caller = self.caller(&scene.stage, server)?;
        self.timed(scene, server, caller.cold(COLD_IN_FLIGHT, calls))
    }

    fn caller(&self, stage: &Stage, server: &Server) -> Result<Caller> {
        Caller::new(server.door, &stage.file("root-cert.pem"))
    }

    /// Looks at the clocks around a run, and at the bound before and after it.
    fn timed(&mut self, scene: &Scene, server: &Server, run: impl Future<Output = Result<Outcome>>) -> Result<Round> {
        let before = self.cores.on_servers(|| self.probe.measure())?;
        let start = server.cpu()?;
        let mut outcome = self.runtime.block_on(run)?;
        let cpu = (server.cpu()? - start).as_secs_f64();
        let after = self.cores.on_servers(|| self.probe.measure())?;
        self.bounds.extend([before, after]);
        answers::judge(&outcome, &scene.stage.file("root-cert.pem"))?;
        let wall = outcome.wall.as_secs_f64();
        Ok(Round {
            certificates: outcome.calls,
            cost: cpu * 1e6 / outcome.calls as f64,
            bound: (before.of(scene.algorithm) + after.of(scene.algorithm)) / 2.0,
            throughput: outcome.calls as f64 / wall,
            server_busy: cpu / wall,
            load_busy: outcome.load.as_secs_f64() / wall,
            p50: quantile(&mut outcome.latencies, 0.5).unwrap_or(0).into(),
            p99: quantile(&mut outcome.latencies, 0.99).unwrap_or(0).into(),
        })
    }
}

/// Five starts, and the size of the program.
pub fn start(stage: &Stage, program: &Path, folder: &Path) -> Result<Start> {
    let mut times = Vec::new();
    for _ in 0..5 {
        times.push(stage.start()?.until_ready.as_secs_f64() * 1e3);
    }
    let stripped: PathBuf = folder.join("stripped");
    let status = Command::new("strip").arg("-o").arg(&stripped).arg(program).status();
    ensure!(status.context("starting strip")?.success(), "strip failed");
    Ok(Start {
        until_ready: median(&times).unwrap_or(f64::NAN),
        size: std::fs::metadata(&stripped)?.len(),
    })
}

/// What a program does just after it said that it is ready, such as a first check of everything, is over soon.
fn settle() {
    std::thread::sleep(Duration::from_secs(1));
}
