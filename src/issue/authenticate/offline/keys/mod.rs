//! An issuer's public keys: read from the documents they are published in, held, refreshed.
//!
//! Takes: a JSON Web Key Set (RFC 7517) or PEM. Gives: a [`KeySet`], checked key by key against our own list of algorithms. Around it:
//! `fetch` brings documents, `refresh` decides when, `store` hands the current set to requests.

pub mod fetch;
mod jwk;
mod pem;
pub mod refresh;
pub mod store;

use std::sync::Arc;

use jsonwebtoken::{Algorithm, DecodingKey};

use crate::model::KeyAlgorithm;
use crate::model::key_algorithm::KeyError;
use crate::platform::crypto::sha256;

/// Most keys in a set. Issuers publish two or three.
const MOST_KEYS: usize = 64;

/// A public key of an issuer, and the one algorithm it is for.
#[derive(Debug)]
pub struct VerificationKey {
    kid: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
}

impl VerificationKey {
    /// An RSA key by its numbers, big-endian.
    fn rsa(kid: Option<String>, modulus: &[u8], exponent: &[u8]) -> Result<Self, KeyError> {
        KeyAlgorithm::of_rsa(modulus, exponent)?;
        // ring takes no leading zeros.
        let [modulus, exponent] =
            [modulus, exponent].map(|number| &number[number.iter().take_while(|byte| **byte == 0).count()..]);
        Ok(Self {
            kid,
            algorithm: Algorithm::RS256,
            key: DecodingKey::from_rsa_raw_components(modulus, exponent),
        })
    }

    /// A key on a curve, by its uncompressed point. The curve fixes the algorithm (RFC 7518, 3.4).
    fn ec(kid: Option<String>, curve: KeyAlgorithm, point: &[u8]) -> Result<Self, KeyError> {
        let (algorithm, length) = match curve {
            KeyAlgorithm::P256 => (Algorithm::ES256, 65),
            KeyAlgorithm::P384 => (Algorithm::ES384, 97),
            other => return Err(KeyError::Curve(other.to_string())),
        };
        if point.len() != length {
            return Err(KeyError::Malformed("an uncompressed curve point"));
        }
        Ok(Self {
            kid,
            algorithm,
            key: DecodingKey::from_ec_der(point),
        })
    }

    /// The one algorithm it is for.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Whether an encoded signature is its signature; `None` if that is not base64url.
    pub fn verifies(&self, signed: &str, signature: &str) -> Option<bool> {
        jsonwebtoken::crypto::verify(signature, signed.as_bytes(), &self.key, self.algorithm).ok()
    }
}

/// The algorithms that we verify, by the names of RFC 7518, 3.1.
pub fn algorithm_named(name: &str) -> Option<Algorithm> {
    match name {
        "RS256" => Some(Algorithm::RS256),
        "ES256" => Some(Algorithm::ES256),
        "ES384" => Some(Algorithm::ES384),
        _ => None,
    }
}

/// The usable keys of one document. Never empty; no two have the same `kid`.
#[derive(Debug)]
pub struct KeySet {
    keys: Vec<Arc<VerificationKey>>,
    skipped: Vec<String>,
    document: [u8; 32],
}

/// Why a document gives no key set.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum KeySetError {
    /// Neither of the two formats.
    #[error("the key set is neither a JSON Web Key Set nor PEM: {0}")]
    Unreadable(String),
    /// A block that is not a public key.
    #[error(
        "block {0} of the PEM text is not a PUBLIC KEY: give public keys alone (openssl pkey -pubout makes one of a private key)"
    )]
    NotPublic(usize),
    /// Too many.
    #[error("the key set has {0} keys, and at most {MOST_KEYS} are accepted")]
    TooMany(usize),
    /// Two keys with one name.
    #[error("the key set has two keys named {0:?}: which one a token means cannot be told")]
    Twice(String),
    /// Nothing to verify with.
    #[error("the key set has no usable key: {}", if .0.is_empty() { "it is empty".to_owned() } else { .0.join("; ") })]
    NoneUsable(Vec<String>),
}

impl KeySet {
    /// Reads a document. Keys that we cannot use are left out: an issuer may publish keys for other purposes beside.
    pub fn parse(document: &[u8]) -> Result<Self, KeySetError> {
        let candidates = match document.trim_ascii_start().first() {
            Some(b'{') => jwk::read(document)?,
            _ => pem::read(document)?,
        };
        if candidates.len() > MOST_KEYS {
            return Err(KeySetError::TooMany(candidates.len()));
        }
        let mut keys: Vec<Arc<VerificationKey>> = Vec::new();
        let mut skipped = Vec::new();
        for (position, candidate) in candidates.into_iter().enumerate() {
            match candidate {
                Ok(key) => {
                    if let Some(kid) = key
                        .kid
                        .as_ref()
                        .filter(|kid| keys.iter().any(|known| known.kid.as_ref() == Some(kid)))
                    {
                        return Err(KeySetError::Twice(kid.clone()));
                    }
                    keys.push(Arc::new(key));
                }
                Err(why) => skipped.push(format!("key {}: {why}", position + 1)),
            }
        }
        if keys.is_empty() {
            return Err(KeySetError::NoneUsable(skipped));
        }
        Ok(Self {
            keys,
            skipped,
            document: sha256(document),
        })
    }

    /// How many keys it has.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Which keys were left out, and why.
    pub fn skipped(&self) -> &[String] {
        &self.skipped
    }

    /// Whether both come from the same document.
    pub fn is_same(&self, other: &KeySet) -> bool {
        self.document == other.document
    }

    /// The key of this name.
    fn named(&self, kid: &str) -> Option<&Arc<VerificationKey>> {
        self.keys.iter().find(|key| key.kid.as_deref() == Some(kid))
    }

    /// The keys for this algorithm.
    fn for_algorithm(&self, algorithm: Algorithm) -> impl Iterator<Item = &Arc<VerificationKey>> {
        self.keys.iter().filter(move |key| key.algorithm == algorithm)
    }
}
