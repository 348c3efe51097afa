//! The program under test: started, looked at from outside, ended.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::cluster::{ApiServer, ISSUER, cluster};
use super::pods::Reviewer;
use super::process::{Process, command, scratch};
use super::wait::{PATIENCE, until};

/// A running `countersign serve` with a directory of its own.
pub struct Countersign {
    process: Process,
    /// Where proxies call.
    pub address: SocketAddr,
    monitoring: SocketAddr,
    root: PathBuf,
    directory: TempDir,
}

/// What an HTTP door answers.
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The text.
    pub body: String,
}

/// Settings for tokens that are reviewed by this API server, for this account.
pub fn reviewed_by(server: &ApiServer, reviewer: &Reviewer, directory: &Path) -> Value {
    let kubeconfig = reviewer.kubeconfig(directory, server);
    json!({"authentication": {"tokenReview": {"kubeconfig": kubeconfig}}})
}

/// Settings for tokens that are verified with the keys that the API server publishes.
pub fn verified_offline(directory: &Path) -> Value {
    let keys = directory.join("jwks.json");
    std::fs::write(&keys, cluster().server.text("/openid/v1/jwks").unwrap()).unwrap();
    json!({"authentication": {"issuers": [{"issuer": ISSUER, "jwksFile": keys}]}})
}

/// Settings for keys that are fetched from the API server, which is not asked about tokens.
pub fn keys_of_cluster(kubeconfig: &Path) -> Value {
    json!({"authentication": {
        "tokenReview": {"enabled": false, "kubeconfig": kubeconfig},
        "issuers": [{"issuer": ISSUER, "discovery": "cluster"}],
    }})
}

/// Settings that leave thousands of clients at one address, as tests have them, the room that all addresses together have.
pub fn roomy() -> Value {
    json!({"listen": {"connections": 10_000, "callsInFlight": 10_000}})
}

/// Settings with others laid over them.
pub fn with(mut settings: Value, changes: Value) -> Value {
    lay_over(&mut settings, changes);
    settings
}

fn lay_over(settings: &mut Value, changes: Value) {
    match (settings, changes) {
        (Value::Object(settings), Value::Object(changes)) => {
            for (key, change) in changes {
                lay_over(settings.entry(key).or_insert(Value::Null), change);
            }
        }
        (value, change) => *value = change,
    }
}

impl Countersign {
    /// Starts it with a root of its own, unless the settings say otherwise, and waits until it can answer.
    pub fn start(settings: Value) -> Self {
        let server = Self::start_unready(settings);
        until("readiness", PATIENCE, || {
            (server.readiness().status == 200).then_some(())
        });
        server
    }

    /// Starts it, and waits until it listens.
    pub fn start_unready(settings: Value) -> Self {
        let directory = scratch();
        let own_ca = directory.path().join("ca");
        let settings = with(
            json!({
                "listen": {"address": "127.0.0.1:0", "threads": 2},
                "monitoring": {"address": "127.0.0.1:0"},
                "ca": {"type": "self-signed", "selfSigned": {"directory": own_ca}},
                "servingCertificate": {"names": ["istiod.istio-system.svc", "127.0.0.1"]},
                "logging": {"format": "json"},
            }),
            settings,
        );
        let ca = match settings["ca"]["type"].as_str() {
            Some("self-signed") => &settings["ca"]["selfSigned"]["directory"],
            _ => &settings["ca"]["directory"],
        };
        let root = Path::new(ca.as_str().unwrap()).join("root-cert.pem");
        // JSON is YAML.
        std::fs::write(directory.path().join("serve.yaml"), settings.to_string()).unwrap();
        let mut process = run(directory.path(), None);
        let (address, monitoring) = process.wait_for("addresses", PATIENCE, listening);
        Self {
            process,
            address,
            monitoring,
            root,
            directory,
        }
    }

    /// Starts it again, at the same address, after it ended.
    pub fn start_again(&mut self) {
        self.process = run(self.directory.path(), Some((self.address, self.monitoring)));
        self.process.wait_for("addresses", PATIENCE, listening);
    }

    /// Lays other settings over its own, for its next start.
    pub fn change_settings(&self, changes: Value) {
        let path = self.directory.path().join("serve.yaml");
        let settings = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        std::fs::write(path, with(settings, changes).to_string()).unwrap();
    }

    /// The roots that clients need.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// `SIGKILL`.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// `SIGTERM`; it must end well, and within its own limit for calls in flight.
    pub fn stop(&mut self) {
        self.process.signal(Signal::TERM);
        let status = self.process.wait_for_end(Duration::from_secs(15));
        assert!(status.success(), "{status}");
    }

    /// Everything that it logged since it was started last.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// The lines of its log with this message.
    pub fn events(&self, message: &str) -> Vec<Value> {
        events(&self.log(), message)
    }

    /// The first line of its log with this message. The log is written behind the answers, so it may take a moment.
    pub fn event(&self, message: &str) -> Value {
        until(&format!("line {message:?} in the log"), PATIENCE, || {
            self.events(message).into_iter().next()
        })
    }

    /// What the log says of the last refusal in what is done.
    pub fn refusal(&self, done: impl FnOnce()) -> String {
        let before = self.events("refused").len();
        done();
        let refusals = until("a refusal in the log", PATIENCE, || {
            Some(self.events("refused")).filter(|refusals| refusals.len() > before)
        });
        refusals.last().unwrap()["detail"].as_str().unwrap().to_owned()
    }

    /// `/readyz`.
    pub fn readiness(&self) -> Answer {
        self.get("/readyz")
    }

    /// The value of a metric, named with its labels as Prometheus writes them; none if there is no such line.
    pub fn metric(&self, name: &str) -> Option<f64> {
        let metrics = self.get("/metrics").body;
        let line = metrics
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
        Some(line.parse().unwrap())
    }

    fn get(&self, path: &str) -> Answer {
        let mut stream = TcpStream::connect(self.monitoring).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
        )
        .unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        Answer {
            status: head.split(' ').nth(1).unwrap().parse().unwrap(),
            body: body.to_owned(),
        }
    }
}

fn run(directory: &Path, addresses: Option<(SocketAddr, SocketAddr)>) -> Process {
    let mut serve = command(Path::new(env!("CARGO_BIN_EXE_countersign")));
    serve.args(["serve", "--config"]).arg(directory.join("serve.yaml"));
    if let Some((address, monitoring)) = addresses {
        serve.args(["--set", &format!("listen.address={address}")]);
        serve.args(["--set", &format!("monitoring.address={monitoring}")]);
    }
    Process::start("countersign", directory, serve)
}

fn listening(log: &str) -> Option<(SocketAddr, SocketAddr)> {
    let line = events(log, "listening").pop()?;
    let address = |name: &str| line[name].as_str().unwrap().parse().unwrap();
    Some((address("address"), address("monitoring")))
}

fn events(log: &str, message: &str) -> Vec<Value> {
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["message"] == message).collect()
}
