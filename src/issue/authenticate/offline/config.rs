//! The settings of one issuer, and what of them can be judged before any token comes.

use std::path::PathBuf;
use std::time::Duration;

use super::keys::fetch::{UriError, checked_uri, discovery_uri};
use crate::model::{Identity, Lifetime, TrustDomain};

/// The clock skew when nothing else is set.
pub const DEFAULT_CLOCK_SKEW: Duration = Duration::from_secs(30);
/// The largest clock skew that may be set.
pub const MOST_CLOCK_SKEW: Duration = Duration::from_secs(5 * 60);

/// An issuer of service-account tokens, and what its word is good for.
#[derive(Clone)]
pub struct IssuerConfig {
    /// The `iss` of its tokens, exactly.
    pub issuer: String,
    /// A token must be for one of these. Never empty.
    pub audiences: Vec<String>,
    /// Where its public keys are.
    pub keys: KeySource,
    /// The trust domain of the identities it speaks for.
    pub trust_domain: TrustDomain,
    /// The namespaces it may speak for; `None` for any.
    pub namespaces: Option<Vec<String>>,
    /// The id of the cluster it stands for. A `clusterid` header that says otherwise is refused; issuers with the same `iss` differ in it.
    pub cluster: String,
    /// The longest life of a token, from `iat` (or `nbf`) to `exp`. 24 hours unless the settings say otherwise.
    pub max_token_life: Lifetime,
    /// How far `iat` and `nbf` may lie ahead of our clock: [`DEFAULT_CLOCK_SKEW`], at most [`MOST_CLOCK_SKEW`]. Never given to `exp`.
    pub clock_skew: Duration,
}

/// Where an issuer's public keys come from.
#[derive(Clone)]
pub enum KeySource {
    /// A file: a JSON Web Key Set (RFC 7517) or PEM `PUBLIC KEY` blocks. Read anew at every refresh.
    File(PathBuf),
    /// A JSON Web Key Set at this URI.
    JwksUri {
        /// The URI.
        uri: String,
        /// How to go there.
        http: HttpOptions,
    },
    /// The key set that the issuer's `/.well-known/openid-configuration` names (OpenID Connect Discovery 1.0).
    Discovery {
        /// How to go there.
        http: HttpOptions,
    },
    /// The API server's `/openid/v1/jwks`: the URI in its discovery document may lead to an address that cannot be reached from here.
    ApiServer(kube::Client),
}

/// How a key set is fetched over HTTP.
#[derive(Clone, Debug, Default)]
pub struct HttpOptions {
    /// Takes `http://` too, where whoever sits on the path can make himself any workload.
    pub allow_http: bool,
    /// PEM certificates to trust in place of the system's, or a directory with them; read anew at every refresh.
    pub ca_file: Option<PathBuf>,
}

/// Why issuers are not acceptable.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// No issuer at all.
    #[error("no token issuer is configured")]
    None,
    /// A part is missing.
    #[error("token issuer {issuer:?} has no {what}: set one")]
    Empty {
        /// The issuer.
        issuer: String,
        /// What is missing.
        what: &'static str,
    },
    /// The same twice.
    #[error(
        "token issuer {issuer:?} is configured twice for cluster {cluster:?}: remove one, or give them different clusters"
    )]
    Twice {
        /// The issuer.
        issuer: String,
        /// Its cluster.
        cluster: String,
    },
    /// A namespace that cannot be one.
    #[error("token issuer {issuer:?}: {why}")]
    Namespace {
        /// The issuer.
        issuer: String,
        /// The finding.
        why: String,
    },
    /// Too large a skew.
    #[error("token issuer {issuer:?}: a clock skew of {seconds} s is too large, at most 300 s are accepted")]
    ClockSkew {
        /// The issuer.
        issuer: String,
        /// What was set.
        seconds: u64,
    },
    /// A URI that is not accepted.
    #[error("token issuer {issuer:?}: {why}")]
    Uri {
        /// The issuer.
        issuer: String,
        /// The finding.
        why: UriError,
    },
}

impl IssuerConfig {
    /// Whether these settings can work.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let issuer = || self.issuer.clone();
        let empty = |what| Err(ConfigError::Empty { issuer: issuer(), what });
        if self.issuer.is_empty() {
            return empty("name (its iss)");
        }
        // Without an audience of ours, a token that a workload gave to anybody would be good here (RFC 8725, 3.9).
        if self.audiences.is_empty() || self.audiences.iter().any(String::is_empty) {
            return empty("audience, or an empty one");
        }
        if self.cluster.is_empty() {
            return empty("cluster id");
        }
        if self.namespaces.as_ref().is_some_and(Vec::is_empty) {
            return empty("namespace it may speak for");
        }
        for namespace in self.namespaces.iter().flatten() {
            Identity::new(&self.trust_domain, namespace, "default").map_err(|error| ConfigError::Namespace {
                issuer: issuer(),
                why: error.to_string(),
            })?;
        }
        if self.clock_skew > MOST_CLOCK_SKEW {
            return Err(ConfigError::ClockSkew {
                issuer: issuer(),
                seconds: self.clock_skew.as_secs(),
            });
        }
        match &self.keys {
            KeySource::JwksUri { uri, http } => checked_uri(uri, http.allow_http).map(drop),
            KeySource::Discovery { http } => discovery_uri(&self.issuer, http.allow_http).map(drop),
            KeySource::File(_) | KeySource::ApiServer(_) => Ok(()),
        }
        .map_err(|why| ConfigError::Uri { issuer: issuer(), why })
    }
}
