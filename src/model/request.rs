//! What a caller asks for and what it proves itself with, freed from its wire format.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls_pki_types::CertificateDer;

/// One call for a certificate.
#[derive(Debug)]
pub struct Request {
    /// The certificate request, PEM, as it came.
    pub csr: String,
    /// Wanted lifetime in seconds; zero or less asks for the default.
    pub lifetime: i64,
    /// Another identity than the caller's own, as ztunnel asks for on behalf of the pods of its node.
    pub impersonation: Option<Impersonation>,
    /// What the caller proves itself with.
    pub credentials: Credentials,
    /// The `clusterid` header when it came exactly once and is not empty. It selects who checks a token; it proves nothing.
    pub cluster_id: Option<String>,
    /// Where the call came from, for the log.
    pub peer: Option<SocketAddr>,
}

/// The identity wanted in place of the caller's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Impersonation {
    /// An identity's text, not yet parsed.
    Identity(String),
    /// Something else than a text stood there.
    NotText,
}

/// What a caller proves itself with. Every part is optional.
#[derive(Debug, Default)]
pub struct Credentials {
    /// The bearer token of the `authorization` header.
    pub token: Option<BearerToken>,
    /// The certificate of the TLS connection; the handshake proved that the peer holds its key.
    pub client_certificate: Option<Arc<ClientCertificate>>,
}

/// A certificate that a TLS peer presented and whose key it holds. Nothing else is known about it: it is judged at every call, since
/// connections outlive certificates. What else the peer sent is not kept: only a certificate that our own signer signed counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The peer's own certificate.
    pub leaf: CertificateDer<'static>,
}

/// A bearer token. It cannot print itself.
#[derive(Clone)]
pub struct BearerToken(zeroize::Zeroizing<String>);

impl BearerToken {
    /// Takes the text behind `Bearer `.
    pub fn new(token: String) -> Self {
        Self(token.into())
    }

    /// The token itself, for those who check it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for BearerToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BearerToken({} bytes)", self.0.len())
    }
}
