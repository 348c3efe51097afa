//! A Kubernetes API without a cluster: etcd, kube-apiserver, and a client for administrators.
//!
//! One of them serves the whole run. A test that has to hurt an API server starts another one beside it, on the same data.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::process::{Process, command, lasting_scratch, output};
use super::wait::{PATIENCE, until};
use super::{openssl, part};

/// What the tokens' `iss` says.
pub const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// The one of this run.
pub fn cluster() -> &'static Cluster {
    static CLUSTER: LazyLock<Cluster> = LazyLock::new(Cluster::start);
    // Every test says so by itself, not only the one that comes first.
    part("KUBEBUILDER_ASSETS");
    &CLUSTER
}

/// etcd and an API server.
pub struct Cluster {
    directory: PathBuf,
    /// The one that nobody hurts.
    pub server: ApiServer,
    _etcd: Process,
}

impl Cluster {
    fn start() -> Self {
        let directory = lasting_scratch();
        let etcd = start_etcd(&directory);
        std::fs::write(directory.join("audit.yaml"), AUDIT_POLICY).unwrap();
        openssl::rsa_key(&directory.join("tokens.key"), 2048);
        let server = ApiServer::start(&directory, "apiserver", &["tokens.key"]);
        Self {
            directory,
            server,
            _etcd: etcd,
        }
    }

    /// The key that signs this cluster's tokens.
    pub fn token_key(&self) -> PathBuf {
        self.directory.join("tokens.key")
    }

    /// Another API server on the same data. It signs tokens with the first of these keys, and accepts those of all.
    pub fn another_server(&self, name: &str, token_keys: &[&str]) -> ApiServer {
        ApiServer::start(&self.directory, name, token_keys)
    }

    /// A key for tokens, for [`Self::another_server`].
    pub fn new_token_key(&self, name: &str) {
        openssl::rsa_key(&self.directory.join(name), 2048);
    }
}

/// Of token reviews, who asked: never the tokens.
const AUDIT_POLICY: &str = r#"
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
  resources: [{group: authentication.k8s.io, resources: [tokenreviews]}]
- level: None
"#;

fn start_etcd(directory: &Path) -> Process {
    // Unix sockets: no port for others to take.
    let client = format!("unix://{}", directory.join("etcd.sock").display());
    let peer = format!("unix://{}", directory.join("peer.sock").display());
    let mut etcd = command(&part("KUBEBUILDER_ASSETS").join("etcd"));
    etcd.arg("--unsafe-no-fsync");
    etcd.arg("--data-dir").arg(directory.join("etcd"));
    etcd.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
    etcd.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
    etcd.args(["--initial-cluster", &format!("default={peer}")]);
    Process::start("etcd", directory, etcd)
}

/// A running kube-apiserver, spoken to as its administrator.
pub struct ApiServer {
    /// The program.
    pub process: Process,
    name: String,
    directory: PathBuf,
    port: u16,
    admin: String,
    client: kube::Client,
    runtime: Runtime,
}

impl ApiServer {
    fn start(directory: &Path, name: &str, token_keys: &[&str]) -> Self {
        let port = free_port();
        let admin = output(std::process::Command::new("openssl").args(["rand", "-hex", "16"])).unwrap();
        let admin = admin.trim().to_owned();
        let users = format!("{admin},admin,admin,system:masters\n");
        std::fs::write(directory.join(format!("{name}.users")), users).unwrap();
        let mut process = run(directory, name, port, token_keys);
        let certificate = directory.join(name).join("apiserver.crt");
        process.wait_for("certificate", PATIENCE, |_| certificate.exists().then_some(()));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let kubeconfig = kubeconfig(port, &certificate, &admin);
        let client = until("a certificate of the API server", PATIENCE, || {
            runtime.block_on(client(&kubeconfig))
        });
        let server = Self {
            process,
            name: name.to_owned(),
            directory: directory.to_owned(),
            port,
            admin,
            client,
            runtime,
        };
        server.wait_until_ready();
        server
    }

    fn wait_until_ready(&self) {
        until("the API server to be ready", Duration::from_secs(60), || {
            self.text("/readyz").filter(|answer| answer == "ok")
        });
    }

    /// Ends it, and starts it again at the same address with these keys for tokens.
    pub fn restart(&mut self, token_keys: &[&str]) {
        self.process.kill();
        self.process = run(&self.directory, &self.name, self.port, token_keys);
        self.wait_until_ready();
    }

    /// A kubeconfig for the bearer of a token, for this API server.
    pub fn kubeconfig(&self, token: &str) -> String {
        kubeconfig(self.port, &self.certificate(), token)
    }

    /// Who signs for it: PEM.
    pub fn certificate(&self) -> PathBuf {
        self.directory.join(&self.name).join("apiserver.crt")
    }

    /// The administrator's token, which is no service account's.
    pub fn admin_token(&self) -> &str {
        &self.admin
    }

    /// How many token reviews this user asked for, refused ones included.
    pub fn reviews_by(&self, user: &str) -> usize {
        let events = std::fs::read_to_string(self.directory.join(format!("{}.audit", self.name))).unwrap();
        let events = events.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        events.filter(|event| event["user"]["username"] == user).count()
    }

    /// `POST`, with the answer or the HTTP status.
    pub fn create(&self, path: &str, object: &Value) -> Result<Value, u16> {
        let body = serde_json::to_vec(object).unwrap();
        let request = http::Request::post(path).header("content-type", "application/json");
        self.call(request.body(body).unwrap())
    }

    /// `GET`, if it is there.
    pub fn get(&self, path: &str) -> Option<Value> {
        match self.call(http::Request::get(path).body(Vec::new()).unwrap()) {
            Ok(object) => Some(object),
            Err(404) => None,
            Err(status) => panic!("GET {path}: {status}"),
        }
    }

    /// `PATCH`, as RFC 7396 says, in the name of this writer.
    pub fn patch(&self, path: &str, writer: &str, change: &Value) -> Value {
        let request = http::Request::patch(format!("{path}?fieldManager={writer}"));
        let request = request.header("content-type", "application/merge-patch+json");
        self.call(request.body(serde_json::to_vec(change).unwrap()).unwrap())
            .unwrap_or_else(|status| panic!("PATCH {path}: {status}"))
    }

    /// `DELETE`, at once.
    pub fn delete(&self, path: &str) {
        let options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0});
        let request = http::Request::delete(path).header("content-type", "application/json");
        let request = request.body(serde_json::to_vec(&options).unwrap()).unwrap();
        self.call(request)
            .unwrap_or_else(|status| panic!("DELETE {path}: {status}"));
    }

    /// `GET` of something that is no object.
    pub fn text(&self, path: &str) -> Option<String> {
        let request = http::Request::get(path).body(Vec::new()).unwrap();
        self.runtime.block_on(self.client.request_text(request)).ok()
    }

    fn call(&self, request: http::Request<Vec<u8>>) -> Result<Value, u16> {
        let asked = format!("{} {}", request.method(), request.uri());
        match self.runtime.block_on(self.client.request(request)) {
            Ok(answer) => Ok(answer),
            Err(kube::Error::Api(status)) => Err(status.code),
            Err(error) => panic!("{asked}: {error}"),
        }
    }
}

fn run(directory: &Path, name: &str, port: u16, token_keys: &[&str]) -> Process {
    let in_directory = |name: &str| directory.join(name).display().to_string();
    let mut server = command(&part("KUBEBUILDER_ASSETS").join("kube-apiserver"));
    let flags = [
        ("etcd-servers", format!("unix://{}", in_directory("etcd.sock"))),
        ("cert-dir", in_directory(name)),
        ("bind-address", "127.0.0.1".into()),
        ("secure-port", port.to_string()),
        ("service-account-issuer", ISSUER.into()),
        ("service-account-signing-key-file", in_directory(token_keys[0])),
        ("authorization-mode", "Node,RBAC".into()),
        ("token-auth-file", in_directory(&format!("{name}.users"))),
        ("service-cluster-ip-range", "10.0.0.0/24".into()),
        // Nobody makes default accounts here.
        ("disable-admission-plugins", "ServiceAccount".into()),
        ("audit-policy-file", in_directory("audit.yaml")),
        ("audit-log-path", in_directory(&format!("{name}.audit"))),
        ("audit-log-mode", "blocking".into()),
    ];
    for (flag, value) in flags {
        server.arg(format!("--{flag}={value}"));
    }
    for key in token_keys {
        server.arg(format!("--service-account-key-file={}", in_directory(key)));
    }
    Process::start(name, directory, server)
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// In JSON, which is YAML.
fn kubeconfig(port: u16, certificate: &Path, token: &str) -> String {
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "it",
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
        "clusters": [{"name": "it", "cluster": {
            "server": format!("https://127.0.0.1:{port}"), "certificate-authority": certificate,
        }}],
        "users": [{"name": "it", "user": {"token": token}}],
    })
    .to_string()
}

/// `None` while the certificate's file is being written.
async fn client(kubeconfig: &str) -> Option<kube::Client> {
    let provider = countersign::platform::crypto::tls_provider();
    // An error means that one is installed already.
    let _ = provider.as_ref().clone().install_default();
    let kubeconfig = kube::config::Kubeconfig::from_yaml(kubeconfig).unwrap();
    let options = kube::config::KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await.ok()?;
    kube::Client::try_from(config).ok()
}
