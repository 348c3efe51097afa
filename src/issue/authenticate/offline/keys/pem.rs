//! Public keys in PEM, such as `sa.pub` of a cluster's control plane.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::{KeySetError, MOST_KEYS, VerificationKey};
use crate::model::{KeyAlgorithm, pem};
use crate::platform::crypto::sha256;

/// Every key of a text, or why it is not usable.
pub fn read(text: &[u8]) -> Result<Vec<Result<VerificationKey, String>>, KeySetError> {
    let blocks = pem::blocks(text, MOST_KEYS).map_err(|error| KeySetError::Unreadable(error.to_string()))?;
    blocks
        .iter()
        .enumerate()
        .map(|(position, block)| match block.label.as_str() {
            "PUBLIC KEY" => Ok(key(&block.der)),
            _ => Err(KeySetError::NotPublic(position + 1)),
        })
        .collect()
}

fn key(der: &[u8]) -> Result<VerificationKey, String> {
    let info = match SubjectPublicKeyInfo::from_der(der) {
        Ok(([], info)) => info,
        _ => return Err("it is not a SubjectPublicKeyInfo".into()),
    };
    // The name that the API server gives a key (Kubernetes, pkg/serviceaccount/jwt.go, keyIDFromPublicKey), so that its tokens find theirs.
    let kid = Some(URL_SAFE_NO_PAD.encode(sha256(der)));
    let (algorithm, bits) = KeyAlgorithm::read(der).map_err(|error| error.to_string())?;
    match algorithm {
        KeyAlgorithm::Rsa(_) => match info.parsed() {
            Ok(PublicKey::RSA(key)) => VerificationKey::rsa(kid, key.modulus, key.exponent),
            _ => return Err("it is not an RSA key".into()),
        },
        curve => VerificationKey::ec(kid, curve, bits),
    }
    .map_err(|error| error.to_string())
}
