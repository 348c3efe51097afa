//! The settings of one issuer.

use std::path::{Path, PathBuf};

use http::Uri;

use super::keys::fetch::{self, UriError};
use crate::cluster::Credentials;
use crate::issue::authenticate::Audiences;
use crate::model::{Lifetime, TrustDomain};

/// An issuer of service-account tokens, and what its word is good for.
#[derive(Clone, Debug)]
pub struct IssuerConfig {
    /// The `iss` of its tokens, exactly.
    pub issuer: String,
    /// A token must be for one of these.
    pub audiences: Audiences,
    /// Where its public keys are.
    pub keys: KeySource,
    /// The trust domain of the identities it speaks for.
    pub trust_domain: TrustDomain,
    /// The namespaces it may speak for; `None` for any.
    pub namespaces: Option<Vec<String>>,
    /// The id of the cluster it stands for. A `clusterid` header that says otherwise is refused; issuers with the same `iss` differ in it.
    pub cluster: String,
    /// The longest life of a token, from `iat` (or `nbf`) to `exp`.
    pub max_token_life: Lifetime,
}

/// Where an issuer's public keys come from.
#[derive(Clone, Debug)]
pub enum KeySource {
    /// A file: a JSON Web Key Set (RFC 7517) or PEM `PUBLIC KEY` blocks. Read anew at every refresh.
    File(PathBuf),
    /// A JSON Web Key Set at this URI.
    JwksUri(Uri, HttpOptions),
    /// The key set that this document names: the issuer's `/.well-known/openid-configuration` (OpenID Connect Discovery 1.0).
    Discovery(Uri, HttpOptions),
    /// The API server's `/openid/v1/jwks`: the URI in its discovery document may lead to an address that cannot be reached from here.
    ApiServer(Credentials),
}

/// How a key set is fetched over HTTP.
#[derive(Clone, Debug, Default)]
pub struct HttpOptions {
    /// Takes `http://` too, where whoever sits on the path can make himself any workload.
    pub allow_http: bool,
    /// PEM certificates to trust in place of the system's, or a directory with them; read anew at every refresh.
    pub ca_file: Option<PathBuf>,
}

impl KeySource {
    /// The key set at an address.
    pub fn jwks_uri(text: &str, http: HttpOptions) -> Result<Self, UriError> {
        Ok(Self::JwksUri(fetch::checked_uri(text, http.allow_http)?, http))
    }

    /// What is found through discovery at an issuer's own address.
    pub fn discovery(issuer: &str, http: HttpOptions) -> Result<Self, UriError> {
        Ok(Self::Discovery(fetch::discovery_uri(issuer, http.allow_http)?, http))
    }

    /// The file of keys, if they are in one.
    pub fn jwks_file(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            _ => None,
        }
    }

    /// The file or directory that says whom to trust on the way to the keys.
    pub fn ca_file(&self) -> Option<&Path> {
        match self {
            Self::JwksUri(_, http) | Self::Discovery(_, http) => http.ca_file.as_deref(),
            Self::File(_) | Self::ApiServer(_) => None,
        }
    }
}
