//! Our own list of public-key algorithms and of the signatures we accept from them. Parsers and crypto libraries take more (x509-parser
//! verifies SHA-1 and RSA-1024): what is not listed here is refused before any of them is asked.

use std::fmt;

use x509_parser::oid_registry as oid;
use x509_parser::x509::{AlgorithmIdentifier, SubjectPublicKeyInfo};

/// Smallest and largest RSA modulus, in bits.
pub const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=4096;

/// A public key algorithm that we accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyAlgorithm {
    /// RSA with a modulus of this many bits.
    Rsa(usize),
    /// ECDSA on P-256.
    P256,
    /// ECDSA on P-384.
    P384,
    /// Ed25519.
    Ed25519,
}

/// Why a key is not accepted.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum KeyError {
    /// RSA outside [`RSA_BITS`].
    #[error("RSA keys of {0} bits are not accepted, only 2048 to 4096")]
    RsaSize(usize),
    /// RSA public exponent outside 65537..2^33.
    #[error("the RSA public exponent is not accepted, only odd ones from 65537 to 2^33")]
    RsaExponent,
    /// A curve that is not on the list.
    #[error("the elliptic curve {0} is not accepted, only P-256 and P-384")]
    Curve(String),
    /// An algorithm that is not on the list.
    #[error("the key algorithm {0} is not accepted, only RSA, ECDSA and Ed25519")]
    Algorithm(String),
    /// The key's bytes do not fit its algorithm.
    #[error("the public key cannot be read as {0}")]
    Malformed(&'static str),
}

impl KeyAlgorithm {
    /// Reads the algorithm of a public key, strictly: parameters exactly as the algorithm's RFC has them (RFC 3279, 5480, 8410), the point
    /// uncompressed and of the right length.
    pub fn of(spki: &SubjectPublicKeyInfo<'_>) -> Result<Self, KeyError> {
        let algorithm = &spki.algorithm;
        let key = spki.subject_public_key.data.as_ref();
        if spki.subject_public_key.unused_bits != 0 {
            return Err(KeyError::Malformed("whole bytes"));
        }
        if algorithm.algorithm == oid::OID_PKCS1_RSAENCRYPTION {
            if !algorithm
                .parameters
                .as_ref()
                .is_none_or(|any| any.tag().0 == 5 && any.data.is_empty())
            {
                return Err(KeyError::Malformed("RSA (parameters must be NULL)"));
            }
            return rsa(key);
        }
        if algorithm.algorithm == oid::OID_KEY_TYPE_EC_PUBLIC_KEY {
            let curve = algorithm
                .parameters
                .as_ref()
                .and_then(|any| any.as_oid().ok())
                .ok_or(KeyError::Malformed("a key on a named curve"))?;
            let (found, length) = if curve == oid::OID_EC_P256 {
                (Self::P256, 65)
            } else if curve == oid::OID_NIST_EC_P384 {
                (Self::P384, 97)
            } else {
                return Err(KeyError::Curve(curve.to_id_string()));
            };
            return match key.first() {
                Some(4) if key.len() == length => Ok(found),
                _ => Err(KeyError::Malformed("an uncompressed curve point")),
            };
        }
        if algorithm.algorithm == oid::OID_SIG_ED25519 {
            return match (algorithm.parameters.is_none(), key.len()) {
                (true, 32) => Ok(Self::Ed25519),
                _ => Err(KeyError::Malformed("Ed25519 (32 bytes, no parameters)")),
            };
        }
        Err(KeyError::Algorithm(algorithm.algorithm.to_id_string()))
    }

    /// Reads an RSA key given as its two unsigned numbers, big-endian (RFC 7518, 6.3.1): the same rules as for one in DER.
    pub fn of_rsa(modulus: &[u8], exponent: &[u8]) -> Result<Self, KeyError> {
        let bits = significant(modulus).first().map_or(0, |first| {
            significant(modulus).len() * 8 - first.leading_zeros() as usize
        });
        if !RSA_BITS.contains(&bits) {
            return Err(KeyError::RsaSize(bits));
        }
        let exponent = significant(exponent);
        let value = exponent.iter().fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
        // FIPS 186-5, 5.1 wants 2^16 < e < 2^256; ring takes up to 2^33.
        if exponent.len() <= 8 && value % 2 == 1 && (65_537..1 << 33).contains(&value) {
            Ok(Self::Rsa(bits))
        } else {
            Err(KeyError::RsaExponent)
        }
    }

    /// Whether signing with such a key, or checking its signature, takes so long (over about 200 µs) that it belongs off the async threads.
    pub fn is_slow_to_sign(self) -> bool {
        matches!(self, Self::Rsa(_) | Self::P384)
    }

    /// As [`Self::is_slow_to_sign`], for checking a signature.
    pub fn is_slow_to_verify(self) -> bool {
        matches!(self, Self::P384)
    }
}

impl fmt::Display for KeyAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rsa(bits) => write!(f, "RSA-{bits}"),
            Self::P256 => f.write_str("P-256"),
            Self::P384 => f.write_str("P-384"),
            Self::Ed25519 => f.write_str("Ed25519"),
        }
    }
}

fn rsa(key: &[u8]) -> Result<KeyAlgorithm, KeyError> {
    use x509_parser::asn1_rs::{FromDer, Integer, Sequence};
    let malformed = || KeyError::Malformed("RSA (a modulus and an exponent)");
    let (rest, sequence) = Sequence::from_der(key).map_err(|_| malformed())?;
    let (after_modulus, modulus) = Integer::from_der(sequence.content.as_ref()).map_err(|_| malformed())?;
    let (after_exponent, exponent) = Integer::from_der(after_modulus).map_err(|_| malformed())?;
    if !rest.is_empty() || !after_exponent.is_empty() || is_negative(modulus.as_ref()) || is_negative(exponent.as_ref())
    {
        return Err(malformed());
    }
    KeyAlgorithm::of_rsa(modulus.as_ref(), exponent.as_ref())
}

/// An unsigned number without leading zeros.
fn significant(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    &number[zeros..]
}

fn is_negative(integer: &[u8]) -> bool {
    integer.first().is_some_and(|byte| byte & 0x80 != 0)
}

/// A signature algorithm that we accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SignatureAlgorithm {
    /// PKCS#1 v1.5 over SHA-256.
    RsaSha256,
    /// PKCS#1 v1.5 over SHA-384.
    RsaSha384,
    /// PKCS#1 v1.5 over SHA-512.
    RsaSha512,
    /// ECDSA over SHA-256.
    EcdsaSha256,
    /// ECDSA over SHA-384.
    EcdsaSha384,
    /// Ed25519.
    Ed25519,
}

impl SignatureAlgorithm {
    /// Reads a signature's algorithm; `None` when it is not on the list (SHA-1, MD5, PSS, …) or its parameters are not what its RFC says:
    /// NULL or nothing for RSA (RFC 4055, 5), nothing for the others (RFC 5758, 3.2; RFC 8410, 3).
    pub fn of(identifier: &AlgorithmIdentifier<'_>) -> Option<Self> {
        let null = identifier
            .parameters
            .as_ref()
            .is_none_or(|any| any.tag().0 == 5 && any.data.is_empty());
        let none = identifier.parameters.is_none();
        let id = &identifier.algorithm;
        let listed = [
            (oid::OID_PKCS1_SHA256WITHRSA, Self::RsaSha256, null),
            (oid::OID_PKCS1_SHA384WITHRSA, Self::RsaSha384, null),
            (oid::OID_PKCS1_SHA512WITHRSA, Self::RsaSha512, null),
            (oid::OID_SIG_ECDSA_WITH_SHA256, Self::EcdsaSha256, none),
            (oid::OID_SIG_ECDSA_WITH_SHA384, Self::EcdsaSha384, none),
            (oid::OID_SIG_ED25519, Self::Ed25519, none),
        ];
        listed
            .into_iter()
            .find(|(oid, _, fits)| id == oid && *fits)
            .map(|(_, found, _)| found)
    }

    /// What a key signs with when we choose: the hash that matches its strength (RFC 5480, 4).
    pub const fn preferred(key: KeyAlgorithm) -> Self {
        match key {
            KeyAlgorithm::Rsa(_) => Self::RsaSha256,
            KeyAlgorithm::P256 => Self::EcdsaSha256,
            KeyAlgorithm::P384 => Self::EcdsaSha384,
            KeyAlgorithm::Ed25519 => Self::Ed25519,
        }
    }

    /// The whole DER `AlgorithmIdentifier`.
    pub const fn der(self) -> &'static [u8] {
        match self {
            Self::RsaSha256 => &[0x30, 0x0d, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 0x0b, 5, 0],
            Self::RsaSha384 => &[0x30, 0x0d, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 0x0c, 5, 0],
            Self::RsaSha512 => &[0x30, 0x0d, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 0x0d, 5, 0],
            Self::EcdsaSha256 => &[0x30, 0x0a, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2],
            Self::EcdsaSha384 => &[0x30, 0x0a, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3],
            Self::Ed25519 => &[0x30, 5, 6, 3, 0x2b, 0x65, 0x70],
        }
    }
}
