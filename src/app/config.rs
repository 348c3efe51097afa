//! Settings that were checked: plain data, grouped as the parts of the program need it. It holds no secret: keys and tokens stay in files.
//!
//! Takes: [`Settings`] and what the host says of itself. Gives: [`Config`], or every problem at once. Not here: files behind paths.

mod check;
mod check_authentication;
mod check_roots;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::settings::Settings;
use crate::authority::{CaKind, RootAlgorithm};
use crate::model::{Lifetime, TrustDomain};
use crate::roots;
use crate::server::ServingSource;
use crate::telemetry::log;

/// Everything that `serve` needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The trust domain of every identity that is certified.
    pub trust_domain: TrustDomain,
    /// This cluster's name.
    pub cluster_id: String,
    /// The doors for proxies.
    pub listen: Listen,
    /// The door for metrics, health and readiness.
    pub monitoring: SocketAddr,
    /// The key and certificate that sign.
    pub ca: Ca,
    /// What is issued to workloads.
    pub certificates: Certificates,
    /// What our own TLS listener shows.
    pub serving_certificate: ServingSource,
    /// Who is believed; at least one of them is on.
    pub authentication: Authentication,
    /// The ConfigMaps that hold roots, if they are kept.
    pub root_config_maps: Option<RootConfigMaps>,
    /// What is logged, and how.
    pub logging: log::Config,
    /// Longest wait for calls in flight at the end.
    pub drain: Duration,
}

/// The doors for proxies, and their bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// gRPC over TLS.
    pub address: SocketAddr,
    /// gRPC without TLS, if somebody asked for it.
    pub plaintext: Option<SocketAddr>,
    /// Most connections at once.
    pub connections: usize,
    /// Most calls at once on one connection.
    pub streams_per_connection: u32,
    /// Largest request.
    pub message_bytes: usize,
    /// Largest set of headers.
    pub header_list_bytes: u32,
    /// Longest TLS handshake.
    pub handshake: Duration,
    /// Longest call.
    pub call: Duration,
    /// Most calls at once.
    pub calls_in_flight: usize,
    /// Threads that serve; `None` for one per processor.
    pub threads: Option<usize>,
}

/// The key and certificate that sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ca {
    /// Which of the two below.
    pub source: CaKind,
    /// Plugged-in files.
    pub directory: PathBuf,
    /// Where a root of our own is kept.
    pub self_signed_directory: PathBuf,
    /// The key of a new root of our own.
    pub self_signed_algorithm: RootAlgorithm,
    /// The lifetime of a new root of our own.
    pub self_signed_lifetime: Lifetime,
}

/// What is issued to workloads. minimum ≤ default ≤ maximum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Certificates {
    /// When none is asked for.
    pub default_lifetime: Lifetime,
    /// The longest that may be asked for.
    pub maximum_lifetime: Lifetime,
    /// The shortest that may be asked for.
    pub minimum_lifetime: Lifetime,
    /// Whether requests that name anything else than the identity are refused.
    pub strict_csr: bool,
}

/// Who is believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authentication {
    /// How to reach the API server; `None` for the way of a pod in the cluster.
    pub kubeconfig: Option<PathBuf>,
    /// The API server's reviews.
    pub token_review: Option<TokenReview>,
    /// Issuers whose tokens are verified here.
    pub issuers: Vec<Issuer>,
    /// Certificates that this CA issued before.
    pub client_certificates: bool,
}

/// The ConfigMaps that hold roots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootConfigMaps {
    /// What is distributed where.
    pub distribution: roots::Config,
    /// A root that all of them hold may sign without an admin's word for it.
    pub prove_spread: bool,
}

/// Reviews by the API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenReview {
    /// At least one.
    pub audiences: Vec<String>,
}

/// An issuer whose tokens are verified here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuer {
    /// What the tokens' `iss` says.
    pub issuer: String,
    /// At least one.
    pub audiences: Vec<String>,
    /// Where its keys are.
    pub keys: KeySource,
    /// Who signs for the server of those keys; `None` for the CAs that the host trusts.
    pub ca_file: Option<PathBuf>,
    /// Whether keys may come over plain HTTP.
    pub allow_http: bool,
    /// The trust domain that it speaks for.
    pub trust_domain: TrustDomain,
    /// The namespaces that it speaks for; `None` for all.
    pub namespaces: Option<Vec<String>>,
    /// The cluster that it speaks for.
    pub cluster_id: String,
    /// The longest life of a token.
    pub maximum_token_life: Lifetime,
}

/// Where an issuer's public keys are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// OpenID discovery at the issuer's own address.
    Discovery,
    /// The API server that we have credentials for.
    Cluster,
    /// This address.
    Uri(String),
    /// This file.
    File(PathBuf),
}

/// One value that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {finding}")]
pub struct Problem {
    /// Its key, such as `listen.address`.
    pub key: String,
    /// The value, the rule that it breaks, and what to do.
    pub finding: String,
}

/// All values that cannot be; at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// One by one.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter()
    }
}

/// One a line.
impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.0.iter().map(Problem::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl std::error::Error for Problems {}

impl Config {
    /// Checks settings. `environment` is only asked whether this is a pod in a cluster.
    pub fn check(settings: &Settings, environment: &BTreeMap<String, String>) -> Result<Self, Problems> {
        check::config(settings, environment).map_err(Problems)
    }
}
