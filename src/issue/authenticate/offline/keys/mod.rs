//! An issuer's public keys: read from the documents they are published in, held, refreshed.
//!
//! Takes: a JSON Web Key Set (RFC 7517) or PEM. Gives: a [`KeySet`], checked key by key against our own list of algorithms. Around it:
//! `fetch` brings documents (`bundle` says whom it trusts), `refresh` decides when, `store` hands the current set to requests.

pub mod bundle;
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

/// Whether checking such a signature takes so long that it belongs off the async threads.
pub fn is_slow(algorithm: Algorithm) -> bool {
    algorithm == Algorithm::ES384 && KeyAlgorithm::P384.is_slow_to_verify()
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    macro_rules! vector {
        ($name:literal) => {
            include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/keys/", $name))
        };
    }

    fn ec(curve: &str, length: usize) -> Value {
        use base64::Engine;
        let number = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(vec![7; length]);
        json!({ "kty": "EC", "crv": curve, "x": number, "y": number, "kid": curve })
    }

    /// An RSA key of so many bits with the exponent 65537.
    fn rsa(bits: usize) -> Value {
        use base64::Engine;
        let mut number = vec![0xff; bits.div_ceil(8)];
        number[0] = 0xff >> (bits.div_ceil(8) * 8 - bits);
        let number = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(number);
        json!({ "kty": "RSA", "n": number, "e": "AQAB", "kid": "rsa" })
    }

    fn with(mut key: Value, name: &str, value: impl Into<Value>) -> Value {
        key[name] = value.into();
        key
    }

    fn parse(keys: impl Into<Value>) -> Result<KeySet, KeySetError> {
        KeySet::parse(json!({ "keys": keys.into() }).to_string().as_bytes())
    }

    /// What is said of a set of this one key.
    fn refusal(key: Value) -> String {
        match parse(vec![key.clone()]) {
            Err(KeySetError::NoneUsable(why)) => why.join("; "),
            other => panic!("{key}: {other:?}"),
        }
    }

    #[test]
    fn a_key_is_for_one_algorithm() {
        for (key, algorithm) in [
            (ec("P-256", 32), Algorithm::ES256),
            (ec("P-384", 48), Algorithm::ES384),
            (rsa(2048), Algorithm::RS256),
            (rsa(4096), Algorithm::RS256),
            (with(ec("P-256", 32), "alg", "ES256"), Algorithm::ES256),
            (with(ec("P-256", 32), "use", "sig"), Algorithm::ES256),
            (with(ec("P-256", 32), "key_ops", vec!["verify"]), Algorithm::ES256),
            (with(ec("P-256", 32), "x5t", "unknown to us"), Algorithm::ES256),
        ] {
            let set = parse(vec![key.clone()]).unwrap();
            assert_eq!(set.keys[0].algorithm(), algorithm, "{key}");
        }
    }

    #[test]
    fn unusable_keys_are_left_out_with_a_reason() {
        for (key, why) in [
            (ec("P-521", 66), "curve"),
            (ec("P-256", 31), "point"),
            (ec("P-256", 48), "point"),
            (ec("P-384", 32), "point"),
            (with(ec("P-256", 32), "y", "AAAA"), "differ in length"),
            (with(ec("P-256", 32), "x", "+/=="), "base64url"),
            (with(ec("P-256", 32), "use", "enc"), "use"),
            (with(ec("P-256", 32), "use", 1), "not a JSON Web Key"),
            (with(ec("P-256", 32), "alg", "RS256"), "alg"),
            (with(ec("P-256", 32), "alg", "ES384"), "alg"),
            (with(ec("P-256", 32), "alg", "HS256"), "alg"),
            (with(ec("P-256", 32), "alg", "unheard of"), "alg"),
            (with(ec("P-256", 32), "key_ops", vec!["sign"]), "key_ops"),
            (with(ec("P-256", 32), "d", "AAAA"), "secret"),
            (rsa(2047), "2047 bits"),
            (rsa(4097), "4097 bits"),
            (with(rsa(2048), "n", ""), "0 bits"),
            (with(rsa(2048), "e", "Aw"), "exponent"),
            (with(rsa(2048), "e", "AQAA"), "exponent"),
            (with(rsa(2048), "e", ""), "exponent"),
            (with(rsa(2048), "alg", "RS512"), "alg"),
            (with(rsa(2048), "alg", "PS256"), "alg"),
            (json!({ "kty": "oct", "k": "c2VjcmV0", "kid": "hmac" }), "secret"),
            (json!({ "kty": "OKP", "crv": "Ed25519", "x": "AAAA" }), "RSA or EC"),
            (json!({ "kty": "unheard of" }), "RSA or EC"),
            (json!("text"), "not a JSON Web Key"),
        ] {
            let said = refusal(key.clone());
            assert!(said.contains(why), "{key}: {said}");
            // Beside a good key it does no harm.
            let set = parse(vec![with(ec("P-256", 32), "kid", "good"), key]).unwrap();
            assert_eq!((set.len(), set.skipped().len()), (1, 1));
        }
    }

    #[test]
    fn sets_that_cannot_be_relied_on_are_refused() {
        let key = || ec("P-256", 32);
        assert_eq!(
            parse(vec![key(), key()]).unwrap_err(),
            KeySetError::Twice("P-256".into())
        );
        let many: Vec<_> = (0..65).map(|number| with(key(), "kid", number.to_string())).collect();
        assert_eq!(parse(many[..64].to_vec()).unwrap().len(), 64);
        assert_eq!(parse(many).unwrap_err(), KeySetError::TooMany(65));
        assert_eq!(parse(Vec::<Value>::new()).unwrap_err(), KeySetError::NoneUsable(vec![]));
        for document in [
            "{}",
            r#"{"keys":{}}"#,
            r#"{"keys":[]"#,
            r#"{"keys":[],"keys":[]}"#,
            "[]",
            "",
            "no PEM",
        ] {
            let refused = KeySet::parse(document.as_bytes());
            assert!(
                matches!(refused, Err(KeySetError::Unreadable(_))),
                "{document}: {refused:?}"
            );
        }
    }

    #[test]
    fn pem_keys_bear_the_names_that_an_api_server_gives_them() {
        let text = [
            vector!("rsa-2048.pub.pem"),
            vector!("p256.pub.pem"),
            vector!("p384.pub.pem"),
            vector!("rsa-4096.pub.pem"),
        ]
        .concat();
        let set = KeySet::parse(text.as_bytes()).unwrap();
        assert_eq!((set.len(), set.skipped().len()), (4, 0));
        // By `openssl pkey -pubout -outform DER | openssl dgst -sha256 -binary`.
        let key = set.named("uJpO-gHmCAVUHFTGbhxCBGjyUvkL5mT2iO9YMILLRCs").unwrap();
        assert_eq!(key.algorithm(), Algorithm::RS256);
    }

    #[test]
    fn pem_keys_are_held_to_the_same_list() {
        for (text, why) in [
            (vector!("rsa-1024.pub.pem"), "1024 bits"),
            (vector!("rsa-8192.pub.pem"), "8192 bits"),
            (vector!("rsa-exponent-3.pub.pem"), "exponent"),
            (vector!("p521.pub.pem"), "curve"),
            (vector!("ed25519.pub.pem"), "curve Ed25519"),
        ] {
            match KeySet::parse(text.as_bytes()) {
                Err(KeySetError::NoneUsable(said)) => assert!(said[0].contains(why), "{said:?}"),
                other => panic!("{other:?}"),
            }
        }
        let private = [vector!("rsa-2048.pub.pem"), vector!("rsa-2048.pem")].concat();
        assert_eq!(
            KeySet::parse(private.as_bytes()).unwrap_err(),
            KeySetError::NotPublic(2)
        );
    }
}
