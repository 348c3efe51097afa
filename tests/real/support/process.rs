//! Programs that run beside the tests.
//!
//! They end with the value that holds them. They also end with this process, even when it is killed: the kernel sees to that
//! (`PR_SET_PDEATHSIG`). It counts the death of the *thread* that started a program, and every test is a thread, so one thread that never
//! ends starts them all.

use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::wait::until;

/// How much of a log is shown when a test fails.
const SHOWN_LINES: usize = 60;

/// A running program, and the file that its output goes to.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    /// Where its part of that file begins.
    begin: usize,
}

type Order = (Command, Sender<std::io::Result<Child>>);

static STARTER: LazyLock<Mutex<Sender<Order>>> = LazyLock::new(|| {
    let (order, orders) = channel::<Order>();
    std::thread::spawn(move || {
        for (mut command, started) in orders {
            let _ = started.send(command.spawn());
        }
    });
    Mutex::new(order)
});

/// A command that ends with this process.
pub fn command(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command.stdin(Stdio::null());
    command
}

fn spawn(command: Command) -> std::io::Result<Child> {
    let (started, answer) = channel();
    STARTER.lock().unwrap().send((command, started)).unwrap();
    answer.recv().unwrap()
}

impl Process {
    /// Starts what [`command`] made. Its output goes to `name`.log in `directory`.
    pub fn start(name: &str, directory: &Path, mut command: Command) -> Self {
        let log = directory.join(format!("{name}.log"));
        // A program that is started again goes on in the same file, for people who look.
        let output = File::options().create(true).append(true).open(&log).unwrap();
        let begin = usize::try_from(output.metadata().unwrap().len()).unwrap();
        command.stdout(output.try_clone().unwrap()).stderr(output);
        let child = spawn(command).unwrap_or_else(|error| panic!("starting {name} (with setpriv): {error}"));
        Self {
            name: name.to_owned(),
            child,
            log,
            begin,
        }
    }

    /// All its output so far, as far as the lines are complete.
    pub fn log(&self) -> String {
        let file = std::fs::read(&self.log).unwrap_or_default();
        let text = file.get(self.begin..).unwrap_or_default();
        let end = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        String::from_utf8_lossy(&text[..end]).into_owned()
    }

    /// What `look` finds in its output; fails at once when the program ends without it.
    pub fn wait_for<T>(&mut self, what: &str, limit: Duration, mut look: impl FnMut(&str) -> Option<T>) -> T {
        let name = self.name.clone();
        until(&format!("{what} of {name}"), limit, || {
            let ended = self.child.try_wait().unwrap();
            let found = look(&self.log());
            match ended {
                Some(status) if found.is_none() => panic!("{name} ended with {status} before {what}"),
                _ => found,
            }
        })
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let id = Pid::from_child(&self.child);
        kill_process(id, signal).unwrap_or_else(|error| panic!("signalling {}: {error}", self.name));
    }

    /// How it ends, without further ado.
    pub fn wait_for_end(&mut self, limit: Duration) -> ExitStatus {
        let what = format!("the end of {}", self.name);
        until(&what, limit, || self.child.try_wait().unwrap())
    }

    /// `SIGKILL`, as the kernel's out-of-memory killer does it.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        assert_eq!(self.child.wait().unwrap().signal(), Some(9));
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let shown = &lines[lines.len().saturating_sub(SHOWN_LINES)..];
            eprintln!("---- {} said last:\n{}\n----", self.name, shown.join("\n"));
        }
    }
}

/// Runs a program to its end; its standard output, when it succeeds.
pub fn output(command: &mut Command) -> Result<String, String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    Err(format!("{command:?} ended with {}:\n{text}{errors}", output.status))
}

/// A directory that goes with the value.
pub fn scratch() -> TempDir {
    tempfile::Builder::new().prefix("countersign-").tempdir().unwrap()
}

/// A directory for the whole run. Values that last as long as the process are never dropped, so a shell removes it once this process is gone.
pub fn lasting_scratch() -> PathBuf {
    let directory = scratch().keep();
    // Signals for the whole group are not for it. What still runs in the directory is being killed at the same time.
    let script = r#"trap "" INT TERM HUP; read -r _; until rm -rf -- "$1"; do sleep 0.1; done"#;
    let mut remover = Command::new("sh");
    remover.args(["-c", script, "sh"]).arg(&directory);
    remover
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let remover = remover.spawn().unwrap();
    // Its end of file comes when the kernel closes our side.
    static HELD: Mutex<Vec<Child>> = Mutex::new(Vec::new());
    HELD.lock().unwrap().push(remover);
    directory
}
