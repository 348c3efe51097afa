//! Real programs, started for tests and ended with them.

pub mod countersign;
pub mod istio;
pub mod kubernetes;

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// The longest that anything here is waited for.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The path in an environment variable that `tests/run` sets.
pub fn part(variable: &str) -> PathBuf {
    match std::env::var_os(variable) {
        Some(path) => path.into(),
        None => panic!("{variable} is not set: run tests/run, or eval \"$(tests/real/parts/build)\" before"),
    }
}

/// A running program and everything it said. It is killed when this is dropped, and by the kernel when the test process ends.
pub struct Program {
    name: String,
    child: Child,
    said: Arc<(Mutex<Vec<String>>, Condvar)>,
}

impl Program {
    /// Starts it.
    pub fn start(name: &str, command: &Command) -> Self {
        // The kernel's signal comes when the starting *thread* ends, so it is one that lives as long as the process.
        let mut guarded = Command::new("setpriv");
        guarded
            .args(["--pdeathsig", "KILL", "--"])
            .arg(command.get_program())
            .args(command.get_args());
        guarded.envs(command.get_envs().filter_map(|(key, value)| Some((key, value?))));
        if let Some(directory) = command.get_current_dir() {
            guarded.current_dir(directory);
        }
        guarded
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            sender.send(guarded.spawn()).unwrap();
            loop {
                std::thread::park();
            }
        });
        let mut child = receiver
            .recv()
            .unwrap()
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let said = Arc::new((Mutex::new(Vec::new()), Condvar::new()));
        let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        listen(out, said.clone());
        listen(err, said.clone());
        Self {
            name: name.to_owned(),
            child,
            said,
        }
    }

    /// Waits for a line that holds `text`, behind the first `skip` lines; says which it was.
    pub fn wait_for(&self, text: &str, skip: usize) -> (usize, String) {
        let (lines, more) = &*self.said;
        let end = Instant::now() + PATIENCE;
        let mut lines = lines.lock().unwrap();
        loop {
            if let Some((position, line)) = lines
                .iter()
                .enumerate()
                .skip(skip)
                .find(|(_, line)| line.contains(text))
            {
                return (position, line.clone());
            }
            let left = end.saturating_duration_since(Instant::now());
            assert!(
                !left.is_zero(),
                "{} never said {text:?}:\n{}",
                self.name,
                lines.join("\n")
            );
            lines = more.wait_timeout(lines, left).unwrap().0;
        }
    }

    /// Everything so far.
    pub fn said(&self) -> Vec<String> {
        self.said.0.lock().unwrap().clone()
    }

    /// Asks it to end (SIGTERM) and waits; its exit code.
    pub fn stop(&mut self) -> Option<i32> {
        self.signal("TERM");
        self.child.wait().unwrap().code()
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Sends a signal.
    pub fn signal(&self, signal: &str) {
        let status = Command::new("kill")
            .args(["-s", signal, &self.child.id().to_string()])
            .status()
            .unwrap();
        assert!(status.success());
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let said = self.said();
            println!(
                "--- {}:\n{}",
                self.name,
                said[said.len().saturating_sub(60)..].join("\n")
            );
        }
    }
}

fn listen(stream: impl std::io::Read + Send + 'static, said: Arc<(Mutex<Vec<String>>, Condvar)>) {
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines() {
            let Ok(line) = line else { return };
            said.0.lock().unwrap().push(line);
            said.1.notify_all();
        }
    });
}

/// Waits until `what` is true.
pub fn until(what: &str, mut check: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !check() {
        assert!(Instant::now() < end, "never: {what}");
        std::thread::yield_now();
    }
}

/// A port that nobody had a moment ago.
pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// Runs a command to its end and gives what it printed; panics unless it succeeds.
pub fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{command:?}\n{}\n{}",
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}
