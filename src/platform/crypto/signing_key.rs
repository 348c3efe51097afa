//! Private keys that sign: RSA 2048 to 4096, P-256, P-384, Ed25519.

use std::fmt;

use ring::rand::SystemRandom;
use ring::signature::{self, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair, RsaKeyPair};
use zeroize::Zeroizing;

use crate::model::key_algorithm::SignatureAlgorithm;
use crate::model::{KeyAlgorithm, der};

/// How a private key is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyFormat {
    /// `RSA PRIVATE KEY` (RFC 8017, A.1.2).
    Pkcs1,
    /// `EC PRIVATE KEY` (RFC 5915), with or without the public point.
    Sec1,
    /// `PRIVATE KEY` (RFC 5958).
    Pkcs8,
}

/// A private key in a form that signs. It cannot print itself.
pub struct SigningKey {
    algorithm: KeyAlgorithm,
    pair: Pair,
    random: SystemRandom,
}

enum Pair {
    Rsa(Box<RsaKeyPair>),
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

/// Why a private key cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PrivateKeyError {
    /// Its bytes are not what its label says.
    #[error("the key is not a readable {0} private key")]
    Malformed(&'static str),
    /// The crypto library refuses it.
    #[error("the key was refused ({0})")]
    Rejected(String),
    /// It belongs to another certificate.
    #[error("the key does not belong to the certificate")]
    Mismatch,
}

/// The crypto library could not sign.
#[derive(Debug, thiserror::Error)]
#[error("signing failed")]
pub struct SigningError;

impl SigningKey {
    /// Reads a private key whose public half is known, usually from its certificate: `algorithm` and the bits of its SubjectPublicKeyInfo.
    /// Fails unless the two belong together.
    pub fn read(
        format: KeyFormat,
        der: &[u8],
        algorithm: KeyAlgorithm,
        public_key: &[u8],
    ) -> Result<Self, PrivateKeyError> {
        let rejected = |error: ring::error::KeyRejected| PrivateKeyError::Rejected(error.to_string());
        let pair = match (algorithm, format) {
            (KeyAlgorithm::Rsa(_), KeyFormat::Pkcs1) => {
                Pair::Rsa(Box::new(RsaKeyPair::from_der(der).map_err(rejected)?))
            }
            (KeyAlgorithm::Rsa(_), KeyFormat::Pkcs8) if pkcs8_is(der, RSA_ENCRYPTION) => {
                Pair::Rsa(Box::new(RsaKeyPair::from_pkcs8(der).map_err(rejected)?))
            }
            (KeyAlgorithm::P256 | KeyAlgorithm::P384, KeyFormat::Sec1) => ecdsa(algorithm, der, public_key)?,
            (KeyAlgorithm::P256 | KeyAlgorithm::P384, KeyFormat::Pkcs8) if pkcs8_is(der, EC_PUBLIC_KEY) => {
                ecdsa(algorithm, pkcs8(der)?.1, public_key)?
            }
            (KeyAlgorithm::Ed25519, KeyFormat::Pkcs8) if pkcs8_is(der, ED25519) => {
                Pair::Ed25519(Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).map_err(rejected)?)
            }
            (_, KeyFormat::Pkcs8) => {
                pkcs8(der)?;
                return Err(PrivateKeyError::Mismatch);
            }
            _ => return Err(PrivateKeyError::Mismatch),
        };
        let key = Self {
            algorithm,
            pair,
            random: SystemRandom::new(),
        };
        if key.public_key() == public_key {
            Ok(key)
        } else {
            Err(PrivateKeyError::Mismatch)
        }
    }

    /// Signs a message with [`SignatureAlgorithm::preferred`].
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SigningError> {
        match &self.pair {
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&signature::RSA_PKCS1_SHA256, &self.random, message, &mut signature)
                    .map_err(|_| SigningError)?;
                Ok(signature)
            }
            Pair::Ecdsa(pair) => Ok(pair
                .sign(&self.random, message)
                .map_err(|_| SigningError)?
                .as_ref()
                .to_vec()),
            Pair::Ed25519(pair) => Ok(pair.sign(message).as_ref().to_vec()),
        }
    }

    /// The key's algorithm.
    pub fn algorithm(&self) -> KeyAlgorithm {
        self.algorithm
    }

    /// What [`Self::sign`] makes.
    pub fn signature_algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::preferred(self.algorithm)
    }

    /// The public half as it stands in the bit string of a SubjectPublicKeyInfo.
    pub fn public_key(&self) -> &[u8] {
        match &self.pair {
            Pair::Rsa(pair) => pair.public_key().as_ref(),
            Pair::Ecdsa(pair) => pair.public_key().as_ref(),
            Pair::Ed25519(pair) => pair.public_key().as_ref(),
        }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.algorithm)
    }
}

const RSA_ENCRYPTION: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1];
const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1];
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];

fn ecdsa(algorithm: KeyAlgorithm, sec1: &[u8], public_key: &[u8]) -> Result<Pair, PrivateKeyError> {
    let (signing, length): (&EcdsaSigningAlgorithm, _) = match algorithm {
        KeyAlgorithm::P384 => (&signature::ECDSA_P384_SHA384_ASN1_SIGNING, 48),
        _ => (&signature::ECDSA_P256_SHA256_ASN1_SIGNING, 32),
    };
    let secret = sec1_secret(sec1)?;
    // Some tools drop or add leading zeros; the number is the same.
    let significant = secret
        .iter()
        .position(|byte| *byte != 0)
        .map_or(&[][..], |start| &secret[start..]);
    let mut scalar = Zeroizing::new(vec![0; length]);
    let start = length.checked_sub(significant.len()).ok_or(PrivateKeyError::Mismatch)?;
    scalar[start..].copy_from_slice(significant);
    // The library derives the point from the scalar and compares: a key of another certificate is refused as inconsistent.
    EcdsaKeyPair::from_private_key_and_public_key(signing, &scalar, public_key, &SystemRandom::new())
        .map(Pair::Ecdsa)
        .map_err(|error| match error.to_string().as_str() {
            "InconsistentComponents" => PrivateKeyError::Mismatch,
            other => PrivateKeyError::Rejected(other.to_owned()),
        })
}

/// The private number of an RFC 5915 ECPrivateKey. Curve and point, where present, are not needed: the certificate has both.
fn sec1_secret(key: &[u8]) -> Result<&[u8], PrivateKeyError> {
    let read = || {
        let (version, rest) = der::first(der::only(der::SEQUENCE, key)?)?;
        let (secret, rest) = der::first(rest)?;
        has_only(rest, &[0xa0, 0xa1])?;
        (version.whole == [der::INTEGER, 1, 1]).then_some(secret.of(der::OCTET_STRING)?)
    };
    read().ok_or(PrivateKeyError::Malformed("EC"))
}

/// The algorithm's object identifier and the inner key of an RFC 5958 OneAsymmetricKey.
fn pkcs8(key: &[u8]) -> Result<(&[u8], &[u8]), PrivateKeyError> {
    let read = || {
        let (version, rest) = der::first(der::only(der::SEQUENCE, key)?)?;
        let (algorithm, rest) = der::first(rest)?;
        let (inner, rest) = der::first(rest)?;
        // Attributes, the public key.
        has_only(rest, &[0xa0, 0x81, 0xa1])?;
        let (oid, _) = der::first(algorithm.of(der::SEQUENCE)?)?;
        matches!(version.whole, [der::INTEGER, 1, 0 | 1]).then_some((oid.of(der::OID)?, inner.of(der::OCTET_STRING)?))
    };
    read().ok_or(PrivateKeyError::Malformed("PKCS#8"))
}

/// Whether elements have only these tags.
fn has_only(elements: &[u8], tags: &[u8]) -> Option<()> {
    der::each(elements, |element| tags.contains(&element.tag).then_some(()))
}

fn pkcs8_is(key: &[u8], algorithm: &[u8]) -> bool {
    pkcs8(key).is_ok_and(|(found, _)| found == algorithm)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const POINT: &[u8] = &[4; 65];

    fn read(format: KeyFormat, key: &[u8]) -> Result<SigningKey, PrivateKeyError> {
        SigningKey::read(format, key, KeyAlgorithm::P256, POINT)
    }

    /// A length that wraps around when it is added to a position.
    #[test]
    fn lengths_beyond_memory_are_refused() {
        let endless = [&[0xa0, 0x88][..], &[0xff; 8]].concat();
        let key = |head: &[u8]| {
            let content = [head, &endless[..]].concat();
            [&[0x30, content.len() as u8][..], &content].concat()
        };
        let sec1 = key(&[2, 1, 1, 4, 1, 7]);
        assert_eq!(
            read(KeyFormat::Sec1, &sec1).err(),
            Some(PrivateKeyError::Malformed("EC"))
        );
        let pkcs8 = key(&[2, 1, 0, 0x30, 3, 6, 1, 0x2a, 4, 1, 7]);
        assert_eq!(
            read(KeyFormat::Pkcs8, &pkcs8).err(),
            Some(PrivateKeyError::Malformed("PKCS#8"))
        );
    }

    proptest! {
        #[test]
        fn never_panics(noise in prop::collection::vec(any::<u8>(), 0..80)) {
            for format in [KeyFormat::Pkcs1, KeyFormat::Sec1, KeyFormat::Pkcs8] {
                prop_assert!(read(format, &noise).is_err());
                let whole = [&[0x30, noise.len() as u8][..], &noise].concat();
                prop_assert!(read(format, &whole).is_err());
            }
        }
    }
}
