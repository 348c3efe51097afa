//! Our own list of public-key algorithms and of the signatures we accept from them. Parsers and crypto libraries take more (x509-parser
//! verifies SHA-1 and RSA-1024): what is not listed here is refused before any of them is asked.

use std::fmt;

use x509_parser::asn1_rs::Oid;

use super::der;

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

/// The whole AlgorithmIdentifier of each kind of key (RFC 3279, 2.3.1; RFC 5480, 2.1.1; RFC 8410, 3). One spelling each: Go and webpki refuse
/// others, such as RSA without NULL, so a certificate with one would be refused by its owner's peers.
mod identifier {
    pub const RSA: &[u8] = &[0x30, 13, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 5, 0];
    pub const P256: &[u8] = &[
        0x30, 19, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7,
    ];
    pub const P384: &[u8] = &[
        0x30, 16, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 5, 0x2b, 0x81, 4, 0, 34,
    ];
    pub const ED25519: &[u8] = &[0x30, 5, 6, 3, 0x2b, 0x65, 0x70];
}

impl KeyAlgorithm {
    /// Reads a DER SubjectPublicKeyInfo, strictly: the algorithm, and the content of the bit string, which holds the key. Whether a curve's
    /// point lies on it is for the crypto library to say.
    pub fn read(info: &[u8]) -> Result<(Self, &[u8]), KeyError> {
        let [algorithm, key] =
            der::members(der::SEQUENCE, info).ok_or(KeyError::Malformed("a SubjectPublicKeyInfo"))?;
        let Some([0, key @ ..]) = key.of(der::BIT_STRING) else {
            return Err(KeyError::Malformed("whole bytes"));
        };
        let found = match (algorithm.whole, key) {
            (identifier::RSA, key) => rsa(key)?,
            (identifier::P256, [4, ..]) if key.len() == 65 => Self::P256,
            (identifier::P384, [4, ..]) if key.len() == 97 => Self::P384,
            (identifier::ED25519, _) if key.len() == 32 => Self::Ed25519,
            _ => return Err(not_listed(algorithm)),
        };
        Ok((found, key))
    }

    /// Reads an RSA key given as its two unsigned numbers, big-endian (RFC 7518, 6.3.1): the same rules as for one in DER.
    pub fn of_rsa(modulus: &[u8], exponent: &[u8]) -> Result<Self, KeyError> {
        let (modulus, exponent) = (significant(modulus), significant(exponent));
        let bits = modulus.len() * 8 - modulus.first().map_or(0, |first| first.leading_zeros() as usize);
        if !RSA_BITS.contains(&bits) {
            return Err(KeyError::RsaSize(bits));
        }
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
    let malformed = KeyError::Malformed("RSA (a modulus and an exponent)");
    let numbers = der::members(der::SEQUENCE, key)
        .and_then(|[modulus, exponent]| Some((unsigned(modulus)?, unsigned(exponent)?)));
    let (modulus, exponent) = numbers.ok_or(malformed)?;
    KeyAlgorithm::of_rsa(modulus, exponent)
}

/// The content of an INTEGER that is not negative and has no byte too many (X.690, 8.3.2).
fn unsigned(number: der::Element<'_>) -> Option<&[u8]> {
    match number.of(der::INTEGER)? {
        content @ ([0..=0x7f] | [0, 0x80..=0xff, ..] | [1..=0x7f, ..]) => Some(content),
        _ => None,
    }
}

/// An unsigned number without leading zeros.
fn significant(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    &number[zeros..]
}

/// What to say of a key whose algorithm, or whose length, is not on the list.
fn not_listed(algorithm: der::Element<'_>) -> KeyError {
    let parts = algorithm.of(der::SEQUENCE).and_then(der::first);
    let Some((oid, parameters)) = parts.and_then(|(first, rest)| Some((first.of(der::OID)?, rest))) else {
        return KeyError::Malformed("a SubjectPublicKeyInfo");
    };
    // The object identifiers inside the identifiers above.
    if oid == &identifier::RSA[4..13] {
        KeyError::Malformed("RSA (parameters must be NULL)")
    } else if oid == &identifier::P256[4..11] {
        match der::only(der::OID, parameters) {
            None => KeyError::Malformed("a key on a named curve"),
            Some(curve) if curve == &identifier::P256[13..] || curve == &identifier::P384[13..] => {
                KeyError::Malformed("an uncompressed curve point")
            }
            Some(curve) => KeyError::Curve(dotted(curve)),
        }
    } else if oid == &identifier::ED25519[4..] {
        KeyError::Malformed("Ed25519 (32 bytes, no parameters)")
    } else {
        KeyError::Algorithm(dotted(oid))
    }
}

/// An object identifier for people. Callers choose it: it stays short.
fn dotted(oid: &[u8]) -> String {
    if oid.len() > 32 {
        return format!("with an identifier of {} bytes", oid.len());
    }
    Oid::new(oid.into()).to_id_string()
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
    const ALL: [Self; 6] = [
        Self::RsaSha256,
        Self::RsaSha384,
        Self::RsaSha512,
        Self::EcdsaSha256,
        Self::EcdsaSha384,
        Self::Ed25519,
    ];

    /// Reads a whole DER AlgorithmIdentifier; `None` when it is not on the list (SHA-1, MD5, PSS, …) or its parameters are not what its RFC
    /// says: NULL or nothing for RSA (RFC 4055, 5), nothing for the others (RFC 5758, 3.2; RFC 8410, 3).
    pub fn read(identifier: &[u8]) -> Option<Self> {
        let fits = |listed: &Self| match listed.der() {
            whole if whole == identifier => true,
            [_, _, oid @ .., 5, 0] => der::only(der::SEQUENCE, identifier) == Some(oid),
            _ => false,
        };
        Self::ALL.into_iter().find(fits)
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A SubjectPublicKeyInfo with a modulus of so many bits, all ones.
    fn rsa_info(bits: usize, exponent: u64) -> Vec<u8> {
        let modulus: Vec<u8> = [vec![0xff_u8 >> ((8 - bits % 8) % 8)], vec![0xff; (bits - 1) / 8]].concat();
        let key = yasna::construct_der(|writer| {
            writer.write_sequence(|writer| {
                writer.next().write_bigint_bytes(&modulus, true);
                writer.next().write_u64(exponent);
            });
        });
        info(identifier::RSA, &key)
    }

    fn info(identifier: &[u8], key: &[u8]) -> Vec<u8> {
        yasna::construct_der(|writer| {
            writer.write_sequence(|writer| {
                writer.next().write_der(identifier);
                writer.next().write_bitvec_bytes(key, key.len() * 8);
            });
        })
    }

    fn read(info: &[u8]) -> Result<KeyAlgorithm, KeyError> {
        KeyAlgorithm::read(info).map(|(algorithm, _)| algorithm)
    }

    #[test]
    fn rsa_has_bounds() {
        for (bits, good) in [
            (1024, false),
            (2047, false),
            (2048, true),
            (2049, true),
            (4096, true),
            (4097, false),
            (16_384, false),
        ] {
            let wanted = if good {
                Ok(KeyAlgorithm::Rsa(bits))
            } else {
                Err(KeyError::RsaSize(bits))
            };
            assert_eq!(read(&rsa_info(bits, 65_537)), wanted);
        }
        for exponent in [0, 1, 3, 17, 65_535, 65_536, 65_538, (1 << 33) + 1, u64::MAX] {
            assert_eq!(
                read(&rsa_info(2048, exponent)),
                Err(KeyError::RsaExponent),
                "{exponent}"
            );
        }
        for exponent in [65_537, 65_539, (1 << 33) - 1] {
            assert_eq!(
                read(&rsa_info(2048, exponent)),
                Ok(KeyAlgorithm::Rsa(2048)),
                "{exponent}"
            );
        }
    }

    #[test]
    fn numbers_are_judged_like_der() {
        let modulus = [0xff; 256];
        assert_eq!(KeyAlgorithm::of_rsa(&modulus, &[1, 0, 1]), Ok(KeyAlgorithm::Rsa(2048)));
        assert_eq!(
            KeyAlgorithm::of_rsa(&[&[0, 0], &modulus[..]].concat(), &[0, 1, 0, 1]),
            Ok(KeyAlgorithm::Rsa(2048))
        );
        assert_eq!(
            KeyAlgorithm::of_rsa(&modulus[1..], &[1, 0, 1]),
            Err(KeyError::RsaSize(2040))
        );
        assert_eq!(KeyAlgorithm::of_rsa(&[], &[1, 0, 1]), Err(KeyError::RsaSize(0)));
        // 2^64 + 65537 would be 65537 if it wrapped.
        assert_eq!(
            KeyAlgorithm::of_rsa(&modulus, &[1, 0, 0, 0, 0, 0, 1, 0, 1]),
            Err(KeyError::RsaExponent)
        );
        assert_eq!(KeyAlgorithm::of_rsa(&modulus, &[]), Err(KeyError::RsaExponent));
    }

    #[test]
    fn what_an_error_repeats_stays_short() {
        let long = yasna::construct_der(|writer| {
            writer.write_sequence(|writer| {
                writer
                    .next()
                    .write_der(&[&[6, 0x82, 0x10, 0], &[1; 0x1000][..]].concat())
            });
        });
        let error = read(&info(&long, &[0; 32])).unwrap_err().to_string();
        assert!(error.len() < 200, "{error}");
        assert!(error.contains("4096 bytes"), "{error}");
    }

    #[test]
    fn signatures_are_read_in_the_form_that_we_write() {
        for algorithm in SignatureAlgorithm::ALL {
            assert_eq!(SignatureAlgorithm::read(algorithm.der()), Some(algorithm));
            let whole = algorithm.der();
            for bit in 0..whole.len() * 8 {
                let mut changed = whole.to_vec();
                changed[bit / 8] ^= 1 << (bit % 8);
                assert_ne!(
                    SignatureAlgorithm::read(&changed),
                    Some(algorithm),
                    "{algorithm:?}, bit {bit}"
                );
            }
        }
        let without_null = [&[0x30, 11], &SignatureAlgorithm::RsaSha512.der()[2..13]].concat();
        assert_eq!(
            SignatureAlgorithm::read(&without_null),
            Some(SignatureAlgorithm::RsaSha512)
        );
    }

    #[test]
    fn we_sign_with_what_we_accept() {
        for key in [
            KeyAlgorithm::Rsa(2048),
            KeyAlgorithm::P256,
            KeyAlgorithm::P384,
            KeyAlgorithm::Ed25519,
        ] {
            assert!(
                SignatureAlgorithm::ALL.contains(&SignatureAlgorithm::preferred(key)),
                "{key}"
            );
        }
    }

    proptest! {
        #[test]
        fn never_panics(noise in prop::collection::vec(any::<u8>(), 0..200), oid in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = KeyAlgorithm::read(&noise);
            let _ = SignatureAlgorithm::read(&noise);
            let curve = [&[6, oid.len() as u8], &oid[..]].concat();
            let curve = yasna::construct_der(|writer| writer.write_sequence(|writer| {
                writer.next().write_der(&identifier::P256[2..11]);
                writer.next().write_der(&curve);
            }));
            for key in [info(&curve, &noise), info(&[&[0x30, oid.len() as u8 + 2, 6, oid.len() as u8], &oid[..]].concat(), &noise)] {
                let _ = KeyAlgorithm::read(&key).map_err(|error| error.to_string());
            }
        }
    }
}
