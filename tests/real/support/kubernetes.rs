//! One real API server (with etcd, without kubelet or controllers) for all tests of the process.

use std::path::PathBuf;
use std::process::Command;
use std::sync::{LazyLock, Mutex};

use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::api::{Api, DeleteParams, PostParams};
use serde_json::json;

use super::{Program, free_port, part, run, until};

/// The API server.
pub struct Cluster {
    pub address: String,
    directory: PathBuf,
    _etcd: Program,
    server: Mutex<Program>,
}

static CLUSTER: LazyLock<Cluster> = LazyLock::new(Cluster::start);

/// The one of this process.
pub fn cluster() -> &'static Cluster {
    &CLUSTER
}

impl Cluster {
    fn start() -> Self {
        let assets = part("KUBEBUILDER_ASSETS");
        let directory = tempfile::Builder::new().prefix("cs").tempdir().unwrap().keep();
        let path = |name: &str| directory.join(name).display().to_string();
        let (client, peer) = (
            format!("unix://{}", path("c.sock")),
            format!("unix://{}", path("p.sock")),
        );
        let etcd = Program::start(
            "etcd",
            Command::new(assets.join("etcd")).args([
                &format!("--data-dir={}", path("etcd")),
                "--unsafe-no-fsync",
                &format!("--listen-client-urls={client}"),
                &format!("--advertise-client-urls={client}"),
                &format!("--listen-peer-urls={peer}"),
                &format!("--initial-advertise-peer-urls={peer}"),
                &format!("--initial-cluster=default={peer}"),
            ]),
        );
        run(Command::new("openssl").args(["genrsa", "-out", &path("sa.key"), "2048"]));
        std::fs::write(directory.join("tokens.csv"), "admintoken,admin,admin,system:masters\n").unwrap();
        let port = free_port();
        let server = Program::start(
            "kube-apiserver",
            Command::new(assets.join("kube-apiserver")).args([
                &format!("--etcd-servers={client}"),
                &format!("--cert-dir={}", path("certs")),
                &format!("--secure-port={port}"),
                "--bind-address=127.0.0.1",
                "--service-account-issuer=https://kubernetes.default.svc",
                &format!("--service-account-key-file={}", path("sa.key")),
                &format!("--service-account-signing-key-file={}", path("sa.key")),
                "--authorization-mode=Node,RBAC",
                &format!("--token-auth-file={}", path("tokens.csv")),
                "--service-cluster-ip-range=10.0.0.0/24",
                "--disable-admission-plugins=ServiceAccount",
            ]),
        );
        let cluster = Self {
            address: format!("https://127.0.0.1:{port}"),
            directory,
            _etcd: etcd,
            server: Mutex::new(server),
        };
        until("the API server is ready", || {
            cluster.raw("/readyz").is_some_and(|answer| answer == "ok")
        });
        cluster
    }

    /// A GET as the administrator; `None` when nobody answers or the answer is an error.
    pub fn raw(&self, path: &str) -> Option<String> {
        let certificates = self.directory.join("certs/apiserver.crt");
        certificates.exists().then_some(())?;
        self.block_on(async |client| {
            client
                .request_text(http::Request::get(path).body(Vec::new()).unwrap())
                .await
                .ok()
        })
    }

    /// Runs something with an administrator's client.
    pub fn block_on<T>(&self, work: impl AsyncFnOnce(kube::Client) -> T) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let _ = countersign::platform::crypto::tls_provider()
                .as_ref()
                .clone()
                .install_default();
            let text = self.kubeconfig("admintoken");
            let kubeconfig = kube::config::Kubeconfig::from_yaml(&text).unwrap();
            let config = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default())
                .await
                .unwrap();
            work(kube::Client::try_from(config).unwrap()).await
        })
    }

    /// A kubeconfig for a bearer of this token.
    pub fn kubeconfig(&self, token: &str) -> String {
        let ca = self.directory.join("certs/apiserver.crt");
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": self.address, "certificate-authority": ca}}],
            "users": [{"name": "u", "user": {"token": token}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        })
        .to_string()
    }

    /// Creates a namespace, an account, a node and a pod of that account on it.
    pub fn workload(&self, namespace: &str, account: &str, pod: &str) {
        self.block_on(async |client| {
            let post = PostParams::default();
            let object = |value| serde_json::from_value(value).unwrap();
            let name = json!({"metadata": {"name": namespace}});
            let _ = Api::<Namespace>::all(client.clone())
                .create(&post, &serde_json::from_value(name).unwrap())
                .await;
            let name = json!({"metadata": {"name": account}});
            let accounts = Api::<ServiceAccount>::namespaced(client.clone(), namespace);
            let _ = accounts.create(&post, &serde_json::from_value(name).unwrap()).await;
            let name = json!({"metadata": {"name": "node-1"}});
            let _ = Api::<Node>::all(client.clone())
                .create(&post, &serde_json::from_value(name).unwrap())
                .await;
            let pods = Api::<Pod>::namespaced(client, namespace);
            let spec = json!({"metadata": {"name": pod}, "spec": {"serviceAccountName": account, "nodeName": "node-1",
                "containers": [{"name": "c", "image": "i"}]}});
            pods.create(&post, &object(spec)).await.unwrap();
        });
    }

    /// A token of an account for an audience, bound to a pod.
    pub fn token(&self, namespace: &str, account: &str, pod: &str, audience: &str) -> String {
        self.block_on(async |client| {
            let pods = Api::<Pod>::namespaced(client.clone(), namespace);
            let uid = pods.get(pod).await.unwrap().metadata.uid;
            let spec = TokenRequestSpec {
                audiences: Some(vec![audience.into()]),
                expiration_seconds: Some(3600),
                bound_object_ref: Some(BoundObjectReference {
                    api_version: Some("v1".into()),
                    kind: Some("Pod".into()),
                    name: Some(pod.into()),
                    uid,
                }),
                ..Default::default()
            };
            let request = TokenRequest {
                spec: Some(spec),
                ..Default::default()
            };
            let accounts = Api::<ServiceAccount>::namespaced(client, namespace);
            accounts
                .create_token_request(account, &PostParams::default(), &request)
                .await
                .unwrap()
                .status
                .unwrap()
                .token
                .unwrap()
        })
    }

    /// Deletes a pod at once.
    pub fn delete_pod(&self, namespace: &str, pod: &str) {
        self.block_on(async |client| {
            let pods = Api::<Pod>::namespaced(client, namespace);
            pods.delete(pod, &DeleteParams::default().grace_period(0))
                .await
                .unwrap();
        });
    }

    /// Allows an account exactly what the CA needs: to create token reviews.
    pub fn allow_reviews(&self, namespace: &str, account: &str) {
        self.block_on(async |client| {
            let post = PostParams::default();
            let role = json!({"metadata": {"name": "countersign"}, "rules": [
                {"apiGroups": ["authentication.k8s.io"], "resources": ["tokenreviews"], "verbs": ["create"]}]});
            let _ = Api::<ClusterRole>::all(client.clone())
                .create(&post, &serde_json::from_value(role).unwrap())
                .await;
            let binding = json!({"metadata": {"name": format!("countersign-{namespace}")},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "countersign"},
                "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": namespace}]});
            let bindings = Api::<ClusterRoleBinding>::all(client);
            bindings
                .create(&post, &serde_json::from_value(binding).unwrap())
                .await
                .unwrap();
        });
    }

    /// How many token reviews the API server has answered.
    pub fn reviews(&self) -> u64 {
        let metrics = self.raw("/metrics").unwrap();
        metrics
            .lines()
            .filter(|line| line.starts_with("apiserver_request_total{") && line.contains("resource=\"tokenreviews\""))
            .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as u64)
            .sum()
    }

    /// Stops or continues the API server (SIGSTOP, SIGCONT).
    pub fn signal(&self, signal: &str) {
        self.server.lock().unwrap().signal(signal);
    }
}
