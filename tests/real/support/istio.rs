//! Istio's clients: its agent as it is, and the scripted peer that is made of its packages.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde::Deserialize;
use serde_json::Value;

use super::countersign::Countersign;
use super::part;
use super::pods::Pod;
use super::process::{Process, command, output};

/// What one request came to.
#[derive(Debug, Deserialize)]
pub struct Signed {
    /// Whether there is a certificate.
    pub ok: bool,
    /// If not, why, as the client sees it.
    pub error: String,
    /// The gRPC code of a refusal, in Go's spelling.
    pub grpc_code: String,
    /// How many calls it took.
    pub attempts: u32,
    /// How long all of it took.
    pub seconds: f64,
    /// The answer's elements.
    #[serde(default)]
    pub chain: Vec<String>,
    /// Go's verdict on the answer, if it was asked for.
    #[serde(default)]
    pub verified: Option<bool>,
    /// Why not.
    #[serde(default)]
    pub verify_error: String,
}

impl Signed {
    /// There is a certificate, at once, and Go verifies it for both uses.
    pub fn assert_good(&self) {
        assert!(self.ok, "{self:?}");
        assert_eq!((self.attempts, self.verified), (1, Some(true)), "{}", self.verify_error);
    }

    /// There is none, with this code after that many calls.
    pub fn assert_refused(&self, code: &str, attempts: u32) {
        assert!(!self.ok, "{self:?}");
        assert_eq!((self.grpc_code.as_str(), self.attempts), (code, attempts), "{self:?}");
    }
}

/// What a plain gRPC client's request came to, and what went over its connection.
#[derive(Debug, Deserialize)]
pub struct Asked {
    /// The outcome; nobody verified it.
    #[serde(flatten)]
    pub signed: Signed,
    /// `TLS 1.3`, in Go's spelling.
    #[serde(default)]
    pub tls_version: String,
    /// The group of the key exchange, in Go's spelling.
    #[serde(default)]
    pub curve: String,
    /// What the server said of its own bounds.
    pub max_header_list_size: u32,
}

/// A call of the scripted peer.
pub struct Peer {
    arguments: Vec<String>,
    key: String,
    environment: Option<(&'static str, &'static str)>,
}

impl Peer {
    /// One that calls this CA, for this pod, with this token file (which may be missing).
    pub fn new(server: &Countersign, pod: &Pod, token: Option<&Path>) -> Self {
        let peer = Self {
            arguments: Vec::new(),
            key: "p256".into(),
            environment: None,
        };
        let peer = peer
            .with(["--ca", &server.address.to_string()])
            .with(["--root", server.root().to_str().unwrap()])
            .with(["--namespace", &pod.namespace, "--service-account", &pod.account]);
        match token {
            Some(token) => peer.with(["--token", token.to_str().unwrap()]),
            None => peer,
        }
    }

    /// With these arguments, too; a later flag wins over an earlier one.
    pub fn with<const N: usize>(mut self, arguments: [&str; N]) -> Self {
        self.arguments.extend(arguments.map(str::to_owned));
        self
    }

    /// With a key of this kind.
    pub fn with_key(mut self, kind: &str) -> Self {
        kind.clone_into(&mut self.key);
        self
    }

    /// With this variable in its environment.
    pub fn with_variable(mut self, name: &'static str, value: &'static str) -> Self {
        self.environment = Some((name, value));
        self
    }

    fn command(&self, mut command: Command, name: &str) -> Command {
        command.arg(name).args(&self.arguments).args(["--key", &self.key]);
        command.envs(self.environment);
        command
    }

    /// Asks once; Go judges the answer.
    pub fn sign(&self) -> Signed {
        let mut sign = self.command(Command::new(part("CITADEL_CLIENT")), "sign");
        let printed = output(sign.arg("--verify")).unwrap();
        serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{error}: {printed}"))
    }

    /// Asks once as a plain gRPC client, which sends what it is told and nothing else.
    pub fn ask(&self) -> Asked {
        let printed = output(&mut self.command(Command::new(part("CITADEL_CLIENT")), "ask")).unwrap();
        serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{error}: {printed}"))
    }

    /// Keeps secrets, as Istio's agent does, until the certificate was renewed that often.
    pub fn cache(self, directory: &Path, rotations: u32) -> Script {
        let peer = self.with(["--rotations", &rotations.to_string(), "--deadline", "90"]);
        peer.start("cache", directory)
    }

    /// Starts a sub-command that takes its time.
    pub fn start(&self, name: &str, directory: &Path) -> Script {
        let program = self.command(command(&part("CITADEL_CLIENT")), name);
        Script(Process::start(name, directory, program))
    }
}

/// The scripted peer at work.
pub struct Script(Process);

impl Script {
    /// Everything that it told so far.
    pub fn events(&self) -> Vec<Value> {
        events(&self.0.log())
    }

    /// Waits until it told that many events of this name.
    pub fn wait_for(&mut self, event: &str, number: usize, limit: Duration) -> Vec<Value> {
        self.0.wait_for(&format!("{number} {event:?}"), limit, |log| {
            let mut told = events(log);
            told.retain(|told| told["event"] == event);
            (told.len() >= number).then_some(told)
        })
    }

    /// Waits until the certificate was renewed that often.
    pub fn wait_for_rotations(&mut self, rotations: u64) {
        self.0.wait_for(&format!("rotation {rotations}"), LONG, |log| {
            let reached = |event: &Value| event["rotations"].as_u64() >= Some(rotations);
            events(log).iter().any(reached).then_some(())
        });
    }

    /// `SIGTERM`.
    pub fn signal(&self) {
        self.0.signal(Signal::TERM);
    }

    /// Waits until it is done.
    pub fn wait_until_done(&mut self) -> Vec<Value> {
        self.wait_until_done_within(LONG)
    }

    /// Waits until it is done, for so long.
    pub fn wait_until_done_within(&mut self, limit: Duration) -> Vec<Value> {
        let status = self.0.wait_for_end(limit);
        assert!(status.success(), "{status}: {:?}", self.events());
        self.events()
    }
}

const LONG: Duration = Duration::from_secs(60);

fn events(log: &str) -> Vec<Value> {
    // The other lines are Istio's own log.
    log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// How many calls Istio's client makes when each is refused with the same gRPC code.
pub fn attempts_by_code() -> Vec<(u64, u64)> {
    let printed = output(Command::new(part("CITADEL_CLIENT")).arg("retry")).unwrap();
    let lines = events(&printed);
    lines
        .iter()
        .map(|line| (line["code"].as_u64().unwrap(), line["attempts"].as_u64().unwrap()))
        .collect()
}

/// `pilot-agent` as it is, without Envoy: it writes its certificates to files.
pub struct PilotAgent {
    process: Process,
    directory: PathBuf,
}

/// How an agent is set up.
pub struct PilotAgentSetup<'a> {
    /// Where it works; nothing else may.
    pub directory: &'a Path,
    /// The CA's address, as the agent is told it.
    pub ca_address: String,
    /// The roots that the CA is judged by.
    pub root: &'a Path,
    /// The pod that it believes to be in.
    pub pod: &'a Pod,
    /// More of its environment.
    pub environment: &'a [(&'a str, &'a str)],
}

impl PilotAgent {
    /// Starts it. A token lies where [`Self::give_token`] puts it.
    pub fn start(setup: &PilotAgentSetup<'_>) -> Self {
        let directory = setup.directory;
        for folder in ["etc/istio/pod", "certs"] {
            std::fs::create_dir_all(directory.join(folder)).unwrap();
        }
        // In the proxy's configuration the port 0 is refused; the annotation is read later, and takes it.
        let annotations = "status.sidecar.istio.io/port=\"0\"\n";
        std::fs::write(directory.join("etc/istio/pod/annotations"), annotations).unwrap();
        let mut agent = command(&part("PILOT_AGENT"));
        agent.current_dir(directory).env_clear().env("PATH", "/usr/bin:/bin");
        agent.args([
            "proxy",
            "sidecar",
            "--log_output_level=default:info,cache:debug,citadelclient:debug,ca:debug",
        ]);
        agent.envs([
            ("DISABLE_ENVOY", "true"),
            ("CLOUD_PLATFORM", "none"),
            (
                "PROXY_CONFIG",
                r#"{discoveryAddress: "127.0.0.1:1", controlPlaneAuthPolicy: NONE, configPath: ./proxy}"#,
            ),
            ("INSTANCE_IP", "127.0.0.1"),
            ("POD_NAME", &setup.pod.name),
            ("POD_NAMESPACE", &setup.pod.namespace),
            ("SERVICE_ACCOUNT", &setup.pod.account),
            ("TRUST_DOMAIN", "cluster.local"),
            ("ISTIO_META_CLUSTER_ID", "Kubernetes"),
            ("CA_ADDR", &setup.ca_address),
            ("OUTPUT_CERTS", "./certs"),
            ("GRPC_XDS_BOOTSTRAP", "./grpc-bootstrap.json"),
            ("SECRET_TTL", "10s"),
            ("SECRET_GRACE_PERIOD_RATIO", "0.5"),
        ]);
        agent
            .env("CA_ROOT_CA", setup.root)
            .envs(setup.environment.iter().copied());
        Self {
            process: Process::start("pilot-agent", directory, agent),
            directory: directory.to_owned(),
        }
    }

    /// Puts a token where kubelet would.
    pub fn give_token(directory: &Path, token: &str) {
        let folder = directory.join("var/run/secrets/tokens");
        std::fs::create_dir_all(&folder).unwrap();
        // By a rename, as kubelet does it: an agent never reads half a token.
        std::fs::write(folder.join("new"), token).unwrap();
        std::fs::rename(folder.join("new"), folder.join("istio-token")).unwrap();
    }

    /// A file that it wrote: `key.pem`, `cert-chain.pem` or `root-cert.pem`.
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.join("certs").join(name)
    }

    /// Waits until it has obtained a certificate that many times.
    pub fn wait_for_certificates(&mut self, number: usize) {
        let what = format!("certificate {number}");
        self.process.wait_for(&what, LONG, |log| {
            let (made, _) = log
                .match_indices("generated new workload certificate")
                .nth(number - 1)?;
            log[made..].contains("output the resource to ./certs").then_some(())
        });
    }

    /// Waits for a line in its log.
    pub fn wait_for_line(&mut self, part: &str) {
        self.process.wait_for(&format!("line with {part:?}"), LONG, |log| {
            log.contains(part).then_some(())
        });
    }

    /// `SIGTERM`; it ends well.
    pub fn stop(&mut self) {
        self.process.signal(Signal::TERM);
        let status = self.process.wait_for_end(LONG);
        assert!(status.success(), "{status}");
    }
}
