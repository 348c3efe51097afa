//! Settings as they are written.
//!
//! Here is the list of all fields with their defaults; `docs/settings.md` and `docs/serve.yaml` are written from it (`tests/it/reference.rs`). How texts become it is in `read_settings`; whether values make sense is asked in `config`.

use std::path::{Path, PathBuf};

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::names::Names;

/// What `serve` and `check` can be told. An empty file means all defaults.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Settings {
    /// The SPIFFE trust domain of every identity that is certified.
    pub trust_domain: String,
    /// This cluster's name, as its proxies send it in the `clusterid` header.
    pub cluster_id: String,
    /// The door for proxies.
    pub listen: Listen,
    /// The door for metrics, health and readiness.
    pub monitoring: Monitoring,
    /// The door for the admin of this host.
    pub admin: Admin,
    /// The key and certificate that sign.
    pub ca: Ca,
    /// What is issued to workloads.
    pub certificates: Certificates,
    /// What our own TLS listener shows.
    pub serving_certificate: ServingCertificate,
    /// What our own TLS listener takes.
    pub tls: Tls,
    /// Who is believed.
    pub authentication: Authentication,
    /// How the cluster learns which roots to trust.
    pub roots: Roots,
    /// What is logged, and how.
    pub logging: Logging,
    /// How the process ends.
    pub shutdown: Shutdown,
}

/// `listen`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Listen {
    /// Address and port for gRPC over TLS; port 0 takes any free one.
    pub address: String,
    /// Address and port for gRPC without TLS. Absent: there is none. Only for a proxy of your own in front, on the same host.
    pub plaintext: Option<String>,
    /// Most connections open at once: 1 to 1000000.
    pub connections: u32,
    /// Most of them from one address. Absent: a quarter. Raise it, up to all, where many proxies share an address: behind a load balancer.
    pub connections_per_address: Option<u32>,
    /// Most calls at once on one connection: 1 to 100000.
    pub streams_per_connection: u32,
    /// Largest request, in bytes: 4096 to 4194304.
    pub message_bytes: u32,
    /// Largest set of headers of one call, in bytes: 8192 to 1048576.
    pub header_list_bytes: u32,
    /// Longest wait for a new connection to speak, its TLS handshake included, in seconds: 1 to 60.
    pub handshake_seconds: u32,
    /// Longest call, in seconds: 1 to 60; then it is answered `UNAVAILABLE`. Connections whose answers wait longer for their reader are closed.
    pub call_seconds: u32,
    /// Most calls at once: 1 to 100000; one more is answered `RESOURCE_EXHAUSTED`.
    pub calls_in_flight: u32,
    /// Most of them from one address. Absent: a quarter. Raise it, up to all, where many proxies share an address: behind a load balancer.
    pub calls_in_flight_per_address: Option<u32>,
    /// Threads that serve: 1 to 1024. Absent: one for every processor that the container may use.
    pub threads: Option<u32>,
}

/// `monitoring`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Monitoring {
    /// Address and port for `/metrics`, `/healthz` and `/readyz`.
    pub address: String,
}

/// `admin`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Admin {
    /// Unix socket on which `countersign root` finds the running CA; for root and the CA's own user alone. Absent: `admin.sock` in
    /// `ca.selfSigned.directory`. Empty: there is none.
    pub socket: Option<String>,
}

/// `ca`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Ca {
    /// `plugged-in` (files in `directory`), `self-signed` (a root of our own), or `auto`: plugged in when `directory` has such files.
    pub r#type: String,
    /// Where plugged-in files lie: `ca-cert.pem`, `ca-key.pem`, `root-cert.pem`, `cert-chain.pem`, or `tls.crt`, `tls.key`, `ca.crt`.
    pub directory: String,
    /// A root of our own.
    pub self_signed: SelfSigned,
}

/// `ca.selfSigned`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct SelfSigned {
    /// Where its key and certificate are kept: a volume that outlives the pod, for one process.
    pub directory: String,
    /// Of a new key: `p256` or `p384`.
    pub algorithm: String,
    /// Of a new root; longer than `certificates.defaultLifetime`.
    pub lifetime: String,
}

/// `certificates`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Certificates {
    /// For callers that ask for no lifetime; neither more than the maximum nor less than the minimum.
    pub default_lifetime: String,
    /// Asking for more is refused.
    pub maximum_lifetime: String,
    /// Asking for less is refused: shorter certificates make clients renew without end. At least 10s.
    pub minimum_lifetime: String,
    /// Refuse certificate requests that name anything else than the caller's identity. Istio's agents send half-empty names: off.
    pub strict_csr: bool,
}

/// `servingCertificate`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct ServingCertificate {
    /// DNS names and addresses under which proxies dial us.
    pub names: Vec<String>,
    /// Of a serving certificate that we issue to ourselves; it is renewed in time. At least 60s and `certificates.minimumLifetime`.
    pub lifetime: String,
    /// A certificate of your own in place of ours: PEM, leaf first. Goes with `keyFile`; both are read again when they change.
    pub certificate_file: Option<String>,
    /// Its key.
    pub key_file: Option<String>,
}

/// `tls`, under the names of Istio's `meshConfig`, and of OpenShift's TLS profiles
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Tls {
    /// `TLSV1_2` or `TLSV1_3`; `VersionTLS12` and the like do as well. `TLS_AUTO`: TLS 1.2.
    pub min_protocol_version: String,
    /// The same; `TLS_AUTO`: TLS 1.3.
    pub max_protocol_version: String,
    /// Cipher suites of TLS 1.2 by their names in IANA's list or in OpenSSL, the best first: a list, or a text with commas. Empty: all that there
    /// are. Those of TLS 1.3 may stand among them and are always on.
    pub cipher_suites: Names,
    /// Key-exchange groups, the best first, such as `X25519`, `P-256` or `CurveP256`: a list, or a text with commas. Empty: all that there are,
    /// in the client's order.
    pub ecdh_curves: Names,
}

/// `authentication`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Authentication {
    /// Ask the API server about tokens.
    pub token_review: TokenReview,
    /// Verify tokens here, with the issuers' public keys.
    pub issuers: Vec<Issuer>,
    /// Let workloads renew with a certificate that this CA issued before.
    pub client_certificates: bool,
}

/// `authentication.tokenReview`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct TokenReview {
    /// Absent: on in a cluster or with `kubeconfig`, and wherever there are no `issuers`.
    pub enabled: Option<bool>,
    /// A token must be meant for one of these.
    pub audiences: Vec<String>,
    /// How to reach the API server from outside its cluster. Absent: as a pod in the cluster.
    pub kubeconfig: Option<String>,
}

/// One of `authentication.issuers`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Issuer {
    /// Exactly what the tokens' `iss` says.
    pub issuer: String,
    /// A token must be meant for one of these.
    pub audiences: Vec<String>,
    /// Where its keys are found when neither `jwksUri` nor `jwksFile` says so: `issuer`, through OpenID discovery at the issuer's own address, or
    /// `cluster`, from the API server with our own credentials. Absent: `issuer`.
    pub discovery: Option<String>,
    /// Address of its keys.
    pub jwks_uri: Option<String>,
    /// File of its keys.
    pub jwks_file: Option<String>,
    /// Who signs for the server at those addresses: PEM, or a directory with `ca.crt`, `ca-bundle.crt` or `extra.pem`, as ConfigMaps are mounted.
    /// Read again at every fetch. Absent: the CAs that the host trusts.
    pub ca_file: Option<String>,
    /// Keys may come over `http://`: whoever sits on the way can then make any identity.
    pub allow_http: bool,
    /// The trust domain that it speaks for. Absent: ours.
    pub trust_domain: Option<String>,
    /// The namespaces that it speaks for. Absent: all.
    pub namespaces: Option<Vec<String>>,
    /// The cluster that it speaks for, to tell clusters with the same issuer apart by the `clusterid` header. Absent: ours.
    pub cluster_id: Option<String>,
    /// Tokens that live longer are refused.
    pub maximum_token_life: String,
}

/// `roots`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Roots {
    /// A ConfigMap in every namespace, which proxies mount.
    pub config_maps: RootConfigMaps,
}

/// `roots.configMaps`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct RootConfigMaps {
    /// Keep them. Absent: in a cluster.
    pub enabled: Option<bool>,
    /// Their name.
    pub name: String,
    /// The namespaces that get one, as in Istio's mesh config: one of these must match. Empty: all.
    pub discovery_selectors: Vec<LabelSelector>,
    /// Only namespaces with the label `maistra.io/member-of` of this value, and the namespace of this name itself: an OpenShift mesh's control plane.
    pub members_of: Option<String>,
    /// Also replace what istiod or istio-csr wrote last, unless they restore it. For the move away from them.
    pub take_over: bool,
    /// Let another root sign without an admin's word for it, once every one of these ConfigMaps holds it. Off where clients outside of these
    /// namespaces check us with a root file of their own, such as virtual machines.
    pub prove_spread: bool,
    /// How long it may take a node to bring a changed ConfigMap into its running pods.
    pub arrival: String,
    /// Most writes a second.
    pub writes_per_second: u32,
}

/// One of `roots.configMaps.discoverySelectors`: Kubernetes' `LabelSelector`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct LabelSelector {
    /// Labels that a namespace must have, with these values.
    pub match_labels: BTreeMap<String, String>,
    /// Rules that must hold too.
    pub match_expressions: Vec<LabelExpression>,
}

/// One of `matchExpressions`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct LabelExpression {
    /// The label.
    pub key: String,
    /// `In`, `NotIn`, `Exists` or `DoesNotExist`.
    pub operator: String,
    /// For the first two.
    pub values: Vec<String>,
}

/// `logging`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Logging {
    /// `text` or `json`.
    pub format: String,
    /// `error`, `warn`, `info`, `debug`, `trace`, or levels by module: `info,countersign::issue=debug`.
    pub level: String,
}

/// `shutdown`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Shutdown {
    /// Longest wait for calls in flight after SIGTERM, in seconds: 0 to 3600.
    pub drain_seconds: u32,
}

impl Settings {
    /// Where the admin's door is; `None` when it is switched off.
    pub fn admin_socket(&self) -> Option<PathBuf> {
        match self.admin.socket.as_deref() {
            Some("") => None,
            Some(path) => Some(path.into()),
            None => Some(Path::new(&self.ca.self_signed.directory).join("admin.sock")),
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            trust_domain: "cluster.local".into(),
            cluster_id: "Kubernetes".into(),
            listen: Listen::default(),
            monitoring: Monitoring::default(),
            admin: Admin::default(),
            ca: Ca::default(),
            certificates: Certificates::default(),
            serving_certificate: ServingCertificate::default(),
            tls: Tls::default(),
            authentication: Authentication::default(),
            roots: Roots::default(),
            logging: Logging::default(),
            shutdown: Shutdown::default(),
        }
    }
}

impl Default for Listen {
    fn default() -> Self {
        Self {
            address: "0.0.0.0:15012".into(),
            plaintext: None,
            connections: 20_000,
            connections_per_address: None,
            streams_per_connection: 100,
            message_bytes: 64 << 10,
            header_list_bytes: 64 << 10,
            handshake_seconds: 10,
            call_seconds: 5,
            calls_in_flight: 1_000,
            calls_in_flight_per_address: None,
            threads: None,
        }
    }
}

impl Default for Monitoring {
    fn default() -> Self {
        Self {
            address: "0.0.0.0:15014".into(),
        }
    }
}

impl Default for Ca {
    fn default() -> Self {
        Self {
            r#type: "auto".into(),
            directory: "/etc/cacerts".into(),
            self_signed: SelfSigned::default(),
        }
    }
}

impl Default for SelfSigned {
    fn default() -> Self {
        Self {
            directory: "/var/lib/countersign".into(),
            algorithm: "p256".into(),
            lifetime: "87600h".into(),
        }
    }
}

impl Default for Certificates {
    fn default() -> Self {
        Self {
            default_lifetime: "24h".into(),
            maximum_lifetime: "2160h".into(),
            minimum_lifetime: "60s".into(),
            strict_csr: false,
        }
    }
}

impl Default for ServingCertificate {
    fn default() -> Self {
        Self {
            names: vec!["istiod.istio-system.svc".into()],
            lifetime: "168h".into(),
            certificate_file: None,
            key_file: None,
        }
    }
}

impl Default for Tls {
    fn default() -> Self {
        Self {
            min_protocol_version: "TLS_AUTO".into(),
            max_protocol_version: "TLS_AUTO".into(),
            cipher_suites: Names::default(),
            ecdh_curves: Names::default(),
        }
    }
}

impl Default for TokenReview {
    fn default() -> Self {
        Self {
            enabled: None,
            audiences: vec!["istio-ca".into()],
            kubeconfig: None,
        }
    }
}

impl Default for Issuer {
    fn default() -> Self {
        Self {
            issuer: String::new(),
            audiences: vec!["istio-ca".into()],
            discovery: None,
            jwks_uri: None,
            jwks_file: None,
            ca_file: None,
            allow_http: false,
            trust_domain: None,
            namespaces: None,
            cluster_id: None,
            maximum_token_life: "24h".into(),
        }
    }
}

impl Default for RootConfigMaps {
    fn default() -> Self {
        Self {
            enabled: None,
            name: "istio-ca-root-cert".into(),
            discovery_selectors: Vec::new(),
            members_of: None,
            take_over: false,
            prove_spread: true,
            arrival: "3m".into(),
            writes_per_second: 100,
        }
    }
}

impl Default for Logging {
    fn default() -> Self {
        Self {
            format: "text".into(),
            level: "info".into(),
        }
    }
}

impl Default for Shutdown {
    fn default() -> Self {
        Self { drain_seconds: 10 }
    }
}
