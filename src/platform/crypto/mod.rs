//! The one crypto stack, `ring`, behind the few things we need of it: signing keys, checking signatures, hashes, the TLS provider, and the
//! same primitives for the JWT library. Another stack would replace this folder and nothing else.

mod jwt;
mod roots;
mod signing_key;
pub mod tls_names;
mod tls_policy;
mod token_key;
mod verify;

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring as ring_provider};

pub use jwt::install_jwt_provider;
pub use roots::{RootsError, certificates, roots};
pub use signing_key::{KeyFormat, PrivateKeyError, SigningError, SigningKey};
pub use tls_policy::{TlsPolicy, TlsPolicyError};
pub use token_key::{TokenKey, TokenKeyError};
pub use verify::{public_key, verify};

/// SHA-256.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref());
    hash
}

/// The key identifier of a public key, given the bits of its SubjectPublicKeyInfo: the leftmost 160 bits of their SHA-256 (RFC 7093, 2,
/// method 1). No SHA-1, and what current Go writes, so that Istio's certificates and ours agree.
pub fn key_identifier(public_key: &[u8]) -> [u8; 20] {
    let mut id = [0; 20];
    id.copy_from_slice(&sha256(public_key)[..20]);
    id
}

/// The provider for every TLS connection of the process. AES-128 comes first: every client of ours offers it, and the SHA-384 of the
/// AES-256 suite has no hardware path in ring, which costs a third of a handshake.
pub fn tls_provider() -> Arc<CryptoProvider> {
    let mut provider = ring_provider::default_provider();
    provider.cipher_suites.sort_by_key(|suite| {
        !matches!(
            suite.suite(),
            rustls::CipherSuite::TLS13_AES_128_GCM_SHA256
                | rustls::CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
                | rustls::CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
        )
    });
    Arc::new(provider)
}
