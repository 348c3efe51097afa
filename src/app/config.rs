//! Settings that were checked: plain data, in the very types that the parts of the program take. It holds no secret: keys and tokens stay in
//! files.
//!
//! Takes: [`Settings`] and what the host says of itself. Gives: [`Config`], or every problem at once. Not here: files behind paths (`look`).

mod check;
mod check_authentication;
mod check_roots;
mod check_tls;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use super::settings::Settings;
use crate::authority;
use crate::cluster::Credentials;
use crate::issue::Policy;
use crate::issue::authenticate::offline::IssuerConfig;
use crate::issue::authenticate::token_review::TokenReviewConfig;
use crate::model::TrustDomain;
use crate::roots;
use crate::server;
use crate::telemetry::log;

/// Everything that `serve` needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// The doors.
    pub server: server::Config,
    /// The Unix socket for the admin of this host.
    pub admin: Option<PathBuf>,
    /// The key and certificate that sign.
    pub ca: authority::Config,
    /// What is issued to workloads.
    pub policy: Policy,
    /// Who is believed; reviews or issuers are among it.
    pub authentication: Authentication,
    /// The ConfigMaps that hold roots, if they are kept.
    pub root_config_maps: Option<RootConfigMaps>,
    /// What is logged, and how.
    pub logging: log::Config,
    /// What only a pod in a cluster has, where this is none: `serve` will not start here.
    pub missing_here: Vec<Problem>,
}

/// Who is believed.
#[derive(Clone, Debug)]
pub struct Authentication {
    /// The API server's reviews, and how it is reached.
    pub token_review: Option<(Credentials, TokenReviewConfig)>,
    /// Issuers whose tokens are verified here.
    pub issuers: Vec<IssuerConfig>,
    /// The trust domain whose certificates, issued by this CA before, may be renewed with.
    pub client_certificates: Option<TrustDomain>,
}

/// The ConfigMaps that hold roots.
#[derive(Clone, Debug)]
pub struct RootConfigMaps {
    /// How the API server is reached.
    pub credentials: Credentials,
    /// What is distributed where.
    pub distribution: roots::Config,
    /// A root that all of them hold may sign without an admin's word for it.
    pub prove_spread: bool,
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
pub struct Problems(pub(super) Vec<Problem>);

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
