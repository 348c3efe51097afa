//! The machine under the bench: which core is whose, how many files may be open, what to print about it.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::{Resource, Rlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

/// The two cores in use: the server's own, and the one that everything else shares.
#[derive(Clone, Copy, Debug)]
pub struct Cores {
    server: CpuSet,
    load: CpuSet,
    both: CpuSet,
}

/// What a reader must know of the machine to judge its figures.
#[derive(Debug, Serialize)]
pub struct Machine {
    /// As `/proc/cpuinfo` names it.
    pub processor: String,
    /// How many cores we may use.
    pub cores: usize,
    /// The kernel's release.
    pub kernel: String,
}

impl Cores {
    /// The last two cores that we may use: the first one has more of the kernel's interrupts.
    pub fn choose() -> Result<Self> {
        let allowed = sched_getaffinity(None)?;
        let mut cores = (0..CpuSet::MAX_CPU).rev().filter(|core| allowed.is_set(*core));
        let (server, load) = cores
            .next()
            .zip(cores.next())
            .context("the bench needs two cores, one for the server and one for the load; this process may use one")?;
        let set = |cores: &[usize]| {
            let mut set = CpuSet::new();
            cores.iter().for_each(|core| set.set(*core));
            set
        };
        Ok(Self {
            server: set(&[server]),
            load: set(&[load]),
            both: set(&[server, load]),
        })
    }

    /// Moves this thread, and whatever it starts from now on, to the server's core while `work` runs; then to the load's.
    pub fn on_servers<T>(self, work: impl FnOnce() -> T) -> Result<T> {
        sched_setaffinity(None, &self.server)?;
        let result = work();
        self.move_to_loads()?;
        Ok(result)
    }

    /// Moves this thread to the load's core.
    pub fn move_to_loads(self) -> Result<()> {
        Ok(sched_setaffinity(None, &self.load)?)
    }

    /// Lets this thread use both cores: for work done while no clock runs.
    pub fn move_to_both(self) -> Result<()> {
        Ok(sched_setaffinity(None, &self.both)?)
    }
}

impl Machine {
    /// Asks the kernel.
    pub fn look() -> Result<Self> {
        let processors = fs::read_to_string("/proc/cpuinfo")?;
        let processor = processors
            .lines()
            .find_map(|line| line.strip_prefix("model name"))
            .map_or("unknown", |rest| rest.trim_start_matches([' ', '\t', ':']));
        Ok(Self {
            processor: processor.to_owned(),
            cores: sched_getaffinity(None)?.count() as usize,
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned(),
        })
    }
}

/// Raises the limit of open files, for us and the servers we start, as far as is allowed; it must suffice for `connections`.
pub fn allow_connections(connections: usize) -> Result<()> {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    rustix::process::setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    )?;
    let wanted = connections as u64 + 200;
    ensure!(
        limit.maximum.is_none_or(|maximum| maximum >= wanted),
        "{connections} connections need {wanted} open files: raise the hard limit (ulimit -Hn)"
    );
    Ok(())
}

/// The CPU time of this thread.
pub fn thread_cpu() -> Duration {
    clock(ClockId::ThreadCPUTime)
}

/// The CPU time of this process.
pub fn process_cpu() -> Duration {
    clock(ClockId::ProcessCPUTime)
}

fn clock(id: ClockId) -> Duration {
    // Neither clock can go below zero.
    Duration::try_from(clock_gettime(id)).unwrap_or_default()
}
