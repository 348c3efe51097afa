//! What was found: as tables for people, as JSON for machines, and against the targets.

use std::fmt::Write;

use serde::Serialize;

use crate::bound::Bound;
use crate::figures::median;
use crate::machine::Machine;
use crate::material::Algorithm;

/// Above this the load is what was measured, not the server.
const LOAD_BUSY: f64 = 0.9;
/// Below this something else ran on the server's core, which costs the server its caches.
const SERVER_BUSY: f64 = 0.9;
const MEGABYTE: f64 = 1e6;

/// All findings of one run.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Where.
    pub machine: Machine,
    /// The crypto alone, CPU microseconds: medians of all samples of the run.
    pub bound: Option<Bound>,
    /// Warm and cold connections.
    pub speed: Vec<Speed>,
    /// Warm calls over more and more connections.
    pub connections: Vec<Speed>,
    /// Resident memory.
    pub memory: Option<Memory>,
    /// Start and size.
    pub start: Option<Start>,
}

/// One measured window.
#[derive(Debug, Clone, Serialize)]
pub struct Round {
    /// Certificates in it.
    pub certificates: usize,
    /// The server's CPU microseconds for each.
    pub cost: f64,
    /// The bound, as measured just before and just after.
    pub bound: f64,
    /// Certificates a second.
    pub throughput: f64,
    /// How busy the server kept its core, 0 to 1.
    pub server_busy: f64,
    /// How busy the callers kept theirs.
    pub load_busy: f64,
    /// Microseconds that half of the calls did not exceed.
    pub p50: f64,
    /// Microseconds that 99 % of the calls did not exceed.
    pub p99: f64,
}

/// One way of calling, over all its rounds.
#[derive(Debug, Serialize)]
pub struct Speed {
    /// `warm`, `cold`, or a number of connections.
    pub mode: String,
    /// How tokens are signed.
    pub tokens: Algorithm,
    /// Median over the rounds of bound / cost, 0 to 1.
    pub share: f64,
    /// Medians of everything else.
    pub median: Round,
    /// The load was too busy for the figure to mean anything.
    pub void: bool,
    /// As measured.
    pub rounds: Vec<Round>,
}

/// Resident memory of the server, bytes.
#[derive(Debug, Serialize)]
pub struct Memory {
    /// Once ready.
    pub idle: u64,
    /// How many certificates were issued then, over 64 connections.
    pub issued: usize,
    /// After them.
    pub after: u64,
    /// How much one idle connection takes: number of connections, bytes for each.
    pub connections: Vec<(usize, f64)>,
}

/// The program before its first call.
#[derive(Debug, Serialize)]
pub struct Start {
    /// Milliseconds from its start to its first "ready", median.
    pub until_ready: f64,
    /// Bytes of the program without symbols.
    pub size: u64,
}

impl Speed {
    /// Sums up at least one round.
    pub fn of(mode: impl Into<String>, tokens: Algorithm, rounds: Vec<Round>) -> Self {
        let middle = |pick: fn(&Round) -> f64| median(&rounds.iter().map(pick).collect::<Vec<_>>()).unwrap_or(f64::NAN);
        let load_busy = middle(|round| round.load_busy);
        Self {
            mode: mode.into(),
            tokens,
            share: middle(|round| round.bound / round.cost),
            void: load_busy > LOAD_BUSY,
            median: Round {
                certificates: rounds.iter().map(|round| round.certificates).sum(),
                cost: middle(|round| round.cost),
                bound: middle(|round| round.bound),
                throughput: middle(|round| round.throughput),
                server_busy: middle(|round| round.server_busy),
                load_busy,
                p50: middle(|round| round.p50),
                p99: middle(|round| round.p99),
            },
            rounds,
        }
    }
}

impl Report {
    /// Every target that was missed or could not be judged. Parts that were not asked for are not judged.
    pub fn missed(&self) -> Vec<String> {
        let mut missed = Vec::new();
        for speed in &self.speed {
            let (mode, share) = (&speed.mode, speed.share * 100.0);
            if speed.void {
                missed.push(format!("{mode} {}: void, the load was too busy", speed.tokens.name()));
            }
            let target = match (speed.mode.as_str(), speed.tokens) {
                ("warm", Algorithm::Rs256) => 70.0,
                ("cold", Algorithm::Rs256) => 25.0,
                _ => continue,
            };
            if share.is_nan() || share < target {
                missed.push(format!("{mode} RS256: {share:.1} % of the bound, wanted {target} %"));
            }
        }
        let mut at_most = |what: &str, found: f64, limit: f64, unit: &str| {
            if found > limit {
                missed.push(format!("{what}: {found:.1} {unit}, allowed {limit} {unit}"));
            }
        };
        if let Some(memory) = &self.memory {
            at_most("idle memory", memory.idle as f64 / MEGABYTE, 25.0, "MB");
            at_most("memory after issuing", memory.after as f64 / MEGABYTE, 60.0, "MB");
        }
        if let Some(start) = &self.start {
            at_most("start", start.until_ready, 300.0, "ms");
            at_most("size", start.size as f64 / MEGABYTE, 25.0, "MB");
        }
        missed
    }

    /// For people.
    pub fn table(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let Machine {
            processor,
            cores,
            kernel,
        } = &self.machine;
        writeln!(out, "{processor}, {cores} cores, Linux {kernel}.")?;
        writeln!(
            out,
            "Absolute times are noisy and this machine's own; the shares, measured side by side, are the figures.\n"
        )?;
        if let Some(bound) = &self.bound {
            writeln!(
                out,
                "The bound, CPU µs: CSR {:.1}, token {:.1} (RS256) or {:.1} (ES256), signature {:.1}; together {:.1} or {:.1}\n",
                bound.csr, bound.rs256, bound.es256, bound.signature, bound.with_rs256, bound.with_es256,
            )?;
        }
        speeds(out, "connections", &self.speed)?;
        speeds(out, "how many", &self.connections)?;
        if let Some(memory) = &self.memory {
            writeln!(
                out,
                "resident, idle                 {:8.1} MB",
                memory.idle as f64 / MEGABYTE
            )?;
            let after = memory.after as f64 / MEGABYTE;
            writeln!(out, "resident, after {:>9} calls {after:8.1} MB", memory.issued)?;
            for (count, bytes) in &memory.connections {
                writeln!(out, "each of {count:>6} idle connections {:8.1} kB", bytes / 1e3)?;
            }
            writeln!(out)?;
        }
        if let Some(start) = &self.start {
            writeln!(out, "start to ready                 {:8.1} ms", start.until_ready)?;
            writeln!(
                out,
                "program, stripped              {:8.1} MB",
                start.size as f64 / MEGABYTE
            )?;
        }
        Ok(())
    }
}

fn speeds(out: &mut String, first: &str, speeds: &[Speed]) -> std::fmt::Result {
    if speeds.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "{first:<12} tokens   share  CPU µs/cert  bound µs   certs/s  server busy  load busy   p50 ms   p99 ms"
    )?;
    for Speed {
        mode,
        tokens,
        share,
        median,
        void,
        ..
    } in speeds
    {
        writeln!(
            out,
            "{mode:<12} {:<6} {:5.1} %  {:11.1}  {:8.1}  {:8.0}  {:9.0} %  {:7.0} %  {:7.2}  {:7.2}{}",
            tokens.name(),
            share * 100.0,
            median.cost,
            median.bound,
            median.throughput,
            median.server_busy * 100.0,
            median.load_busy * 100.0,
            median.p50 / 1e3,
            median.p99 / 1e3,
            if *void {
                "  VOID: the load is the limit"
            } else if median.server_busy < SERVER_BUSY {
                "  (the server did not have its core to itself)"
            } else {
                ""
            },
        )?;
    }
    writeln!(out)
}
