//! The program under test, as a child process on its own core, seen only from outside: its doors and what the kernel says of it.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::figures;
use crate::machine::Cores;
use crate::material::Algorithm;

const PATIENCE: Duration = Duration::from_secs(20);

/// A folder that the demo has filled: settings, root, CA, tokens.
pub struct Stage {
    program: PathBuf,
    folder: PathBuf,
    cores: Cores,
}

impl Stage {
    /// Has the demo fill a folder, with `tokens` tokens of distinct accounts and pods.
    pub fn build(
        program: &Path,
        folder: PathBuf,
        (algorithm, rsa_key): (Algorithm, &Path),
        tokens: usize,
        cores: Cores,
    ) -> Result<Self> {
        let mut demo = Command::new(program);
        demo.arg("demo").arg("--dir").arg(&folder);
        demo.arg("--tokens").arg(tokens.to_string());
        match algorithm {
            Algorithm::Es256 => demo.args(["--tokens-algorithm", "es256"]),
            Algorithm::Rs256 => demo.args(["--tokens-algorithm", "rs256", "--token-key"]).arg(rsa_key),
        };
        cores.move_to_both()?;
        let made = demo.stdin(Stdio::null()).output();
        cores.move_to_loads()?;
        let made = made.with_context(|| format!("starting {}", program.display()))?;
        ensure!(
            made.status.success(),
            "the demo failed: {}",
            String::from_utf8_lossy(&made.stderr)
        );
        Ok(Self {
            program: program.to_owned(),
            folder,
            cores,
        })
    }

    /// A file that the demo left.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Starts the server on its core and waits until it is ready. Its log goes to a file, as it would in a cluster.
    pub fn start(&self) -> Result<Server> {
        let settings = self.file("serve.yaml");
        let text = fs::read_to_string(&settings).with_context(|| format!("reading {}", settings.display()))?;
        let address = |section| {
            figures::address(&text, section).with_context(|| format!("{}: no {section}.address", settings.display()))
        };
        let (door, monitoring) = (address("listen")?, address("monitoring")?);
        let log = self.file("serve.log");
        let output = File::create(&log)?;
        let mut serve = Command::new(&self.program);
        serve.arg("serve").arg("--config").arg(&settings);
        // The whole load comes from one address.
        serve.args(["--set", "listen.connectionsPerAddress=20000"]);
        serve.args(["--set", "listen.callsInFlightPerAddress=1000"]);
        serve.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);

        let started = Instant::now();
        let child = self
            .cores
            .on_servers(|| serve.spawn())?
            .context("starting the server")?;
        let mut server = Server {
            child,
            door,
            until_ready: Duration::ZERO,
        };
        while !ready(monitoring) {
            if server.child.try_wait()?.is_some() || started.elapsed() > PATIENCE {
                bail!("the server did not get ready: {}", fs::read_to_string(&log)?);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        server.until_ready = started.elapsed();
        Ok(server)
    }
}

/// A running server. Ends with this value.
pub struct Server {
    child: Child,
    /// Where it takes calls.
    pub door: SocketAddr,
    /// From its start to its first "ready".
    pub until_ready: Duration,
}

impl Server {
    /// The CPU time of all its threads so far.
    pub fn cpu(&self) -> Result<Duration> {
        let folder = format!("/proc/{}", self.child.id());
        let mut living = Duration::ZERO;
        for thread in fs::read_dir(format!("{folder}/task"))? {
            // A thread may end between the listing and the reading.
            let text = fs::read_to_string(thread?.path().join("schedstat")).unwrap_or_default();
            living += figures::schedstat(&text).unwrap_or_default();
        }
        let ticks = figures::ticks(&fs::read_to_string(format!("{folder}/stat"))?).context("reading the ticks")?;
        Ok(figures::cpu_time(living, ticks))
    }

    /// Its resident memory in bytes.
    pub fn resident(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        figures::resident(&status).context("reading the resident memory")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn ready(monitoring: SocketAddr) -> bool {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(monitoring)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}
