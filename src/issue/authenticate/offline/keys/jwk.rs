//! JSON Web Key Sets (RFC 7517), as API servers and OpenID providers publish them.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse};

use super::{KeySetError, VerificationKey};
use crate::model::KeyAlgorithm;

#[derive(serde::Deserialize)]
struct Document {
    keys: Vec<serde_json::Value>,
}

/// Every key of a set, or why it is not usable: sets mix purposes and algorithms (RFC 7517, 5 has unknown ones ignored).
pub fn read(document: &[u8]) -> Result<Vec<Result<VerificationKey, String>>, KeySetError> {
    let document: Document =
        serde_json::from_slice(document).map_err(|error| KeySetError::Unreadable(error.to_string()))?;
    Ok(document.keys.into_iter().map(key).collect())
}

fn key(value: serde_json::Value) -> Result<VerificationKey, String> {
    if ["d", "k"].iter().any(|private| value.get(private).is_some()) {
        return Err("it is published with its secret part".into());
    }
    let jwk: Jwk = serde_json::from_value(value).map_err(|error| format!("it is not a JSON Web Key: {error}"))?;
    let common = jwk.common;
    if !matches!(common.public_key_use, None | Some(PublicKeyUse::Signature)) {
        return Err("its use is not sig".into());
    }
    if common
        .key_operations
        .is_some_and(|operations| !operations.contains(&KeyOperations::Verify))
    {
        return Err("its key_ops do not include verify".into());
    }
    let key = match &jwk.algorithm {
        AlgorithmParameters::RSA(key) => VerificationKey::rsa(common.key_id, &number(&key.n)?, &number(&key.e)?),
        AlgorithmParameters::EllipticCurve(key) => {
            let curve = match key.curve {
                EllipticCurve::P256 => KeyAlgorithm::P256,
                EllipticCurve::P384 => KeyAlgorithm::P384,
                _ => return Err("its curve is not P-256 or P-384".into()),
            };
            let (x, y) = (number(&key.x)?, number(&key.y)?);
            // RFC 7518, 6.2.1.2: both are as long as the curve's field, so their lengths alone cannot shift one into the other.
            if x.len() != y.len() {
                return Err("its coordinates differ in length".into());
            }
            VerificationKey::ec(common.key_id, curve, &[&[4], x.as_slice(), y.as_slice()].concat())
        }
        _ => return Err("its type is not RSA or EC".into()),
    }
    .map_err(|error| error.to_string())?;
    match common.key_algorithm {
        Some(named) if named != key.algorithm.into() => Err(format!("its alg is not {:?}", key.algorithm)),
        _ => Ok(key),
    }
}

fn number(text: &str) -> Result<Vec<u8>, String> {
    URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|_| "one of its numbers is not base64url".into())
}
