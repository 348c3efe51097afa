//! Kubernetes objects that tests need: pods with their accounts and tokens, and accounts that may review tokens.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::certificate::now;
use super::cluster::{ApiServer, Cluster, cluster};
use super::openssl;

/// The audience of Istio's tokens.
pub const AUDIENCE: &str = "istio-ca";

/// A pod in a namespace of its own.
pub struct Pod {
    /// Its namespace.
    pub namespace: String,
    /// Its service account.
    pub account: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// Its node.
    pub node: String,
}

impl Pod {
    /// Makes one, with all it needs.
    pub fn new() -> Self {
        let server = &cluster().server;
        let namespace = new_namespace(server);
        let node = format!("node-of-{namespace}");
        let (account, name) = ("sleep".to_owned(), "sleep-1".to_owned());
        make(
            server,
            "/api/v1/nodes",
            &json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}}),
        );
        new_account(server, &namespace, &account);
        let pod = make(
            server,
            &format!("/api/v1/namespaces/{namespace}/pods"),
            &json!({
                "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
                "spec": {
                    "serviceAccountName": account, "nodeName": node,
                    "containers": [{"name": "app", "image": "app"}],
                },
            }),
        );
        let uid = pod["metadata"]["uid"].as_str().unwrap().to_owned();
        Self {
            namespace,
            account,
            name,
            uid,
            node,
        }
    }

    /// Its identity.
    pub fn identity(&self) -> String {
        format!("spiffe://cluster.local/ns/{}/sa/{}", self.namespace, self.account)
    }

    /// A token as kubelet mounts it: bound to the pod.
    pub fn token(&self) -> String {
        self.token_for(AUDIENCE, &cluster().server)
    }

    /// A token for anybody, from any API server.
    pub fn token_for(&self, audience: &str, server: &ApiServer) -> String {
        let bound = json!({"kind": "Pod", "apiVersion": "v1", "name": self.name, "uid": self.uid});
        let spec = json!({"audiences": [audience], "expirationSeconds": 3600, "boundObjectRef": bound});
        request_token(server, &self.namespace, &self.account, spec)
    }

    /// Deletes the pod.
    pub fn delete(&self) {
        let path = format!("/api/v1/namespaces/{}/pods/{}", self.namespace, self.name);
        cluster().server.delete(&path);
    }
}

/// A token, in a file of its own.
pub fn token_file(directory: &Path, token: &str) -> PathBuf {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let path = directory.join(format!("token-{}", NUMBER.fetch_add(1, Ordering::Relaxed)));
    std::fs::write(&path, token).unwrap();
    path
}

/// A service account for a CA.
pub struct Reviewer {
    namespace: String,
    token: String,
}

impl Reviewer {
    /// One that may create token reviews and nothing else.
    pub fn new() -> Self {
        let reviewer = Self::without_rights();
        reviewer.grant();
        reviewer
    }

    /// One that may do nothing.
    pub fn without_rights() -> Self {
        let server = &cluster().server;
        let namespace = new_namespace(server);
        new_account(server, &namespace, ACCOUNT);
        let token = request_token(server, &namespace, ACCOUNT, json!({"expirationSeconds": 3600}));
        Self { namespace, token }
    }

    /// Lets it create token reviews.
    pub fn grant(&self) {
        let rules =
            json!([{"apiGroups": ["authentication.k8s.io"], "resources": ["tokenreviews"], "verbs": ["create"]}]);
        self.grant_rules(&self.namespace, &rules);
    }

    /// Lets it do this, besides.
    pub fn grant_also(&self, rules: &Value) {
        self.grant_rules(&format!("{}-also", self.namespace), rules);
    }

    fn grant_rules(&self, name: &str, rules: &Value) {
        let server = &cluster().server;
        make(
            server,
            &format!("{RBAC}/clusterroles"),
            &json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules}),
        );
        make(
            server,
            &format!("{RBAC}/clusterrolebindings"),
            &json!({
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": name},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
                "subjects": [{"kind": "ServiceAccount", "namespace": self.namespace, "name": ACCOUNT}],
            }),
        );
    }

    /// Takes that back.
    pub fn revoke(&self) {
        let server = &cluster().server;
        server.delete(&format!("{RBAC}/clusterrolebindings/{}", self.namespace));
        server.delete(&format!("{RBAC}/clusterroles/{}", self.namespace));
    }

    /// What the API server calls it.
    pub fn user(&self) -> String {
        format!("system:serviceaccount:{}:{ACCOUNT}", self.namespace)
    }

    /// Its kubeconfig, in a file.
    pub fn kubeconfig(&self, directory: &Path, server: &ApiServer) -> PathBuf {
        let path = directory.join("kubeconfig");
        std::fs::write(&path, server.kubeconfig(&self.token)).unwrap();
        path
    }
}

const ACCOUNT: &str = "countersign";
const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

fn new_namespace(server: &ApiServer) -> String {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let name = format!("test-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    make(
        server,
        "/api/v1/namespaces",
        &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}),
    );
    name
}

fn new_account(server: &ApiServer, namespace: &str, name: &str) {
    make(
        server,
        &format!("/api/v1/namespaces/{namespace}/serviceaccounts"),
        &json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}}),
    );
}

fn make(server: &ApiServer, path: &str, object: &Value) -> Value {
    server
        .create(path, object)
        .unwrap_or_else(|status| panic!("POST {path}: {status}"))
}

fn request_token(server: &ApiServer, namespace: &str, account: &str, spec: Value) -> String {
    let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token");
    let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec});
    let answer = make(server, &path, &request);
    answer["status"]["token"].as_str().unwrap().to_owned()
}

/// The token again, with other claims, signed with this key: what the API server would have made at another time.
pub fn resigned(token: &str, key: &Path, change: impl FnOnce(&mut Value)) -> String {
    let parts: Vec<&str> = token.split('.').collect();
    let mut claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts[1]).unwrap()).unwrap();
    change(&mut claims);
    let signed = format!("{}.{}", parts[0], URL_SAFE_NO_PAD.encode(claims.to_string()));
    let signature = openssl::sign_sha256(key, signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// A token of the cluster that ends this many seconds from now; negative for one that has ended.
pub fn ending_in(seconds: i64, token: &str, cluster: &Cluster) -> String {
    let end = now() + seconds;
    resigned(token, &cluster.token_key(), |claims| {
        claims["exp"] = json!(end);
        claims["iat"] = json!(end - 3600);
        claims["nbf"] = json!(end - 3600);
    })
}
