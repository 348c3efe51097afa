//! Checking signatures of the algorithms on our list.

use ring::signature::{self, UnparsedPublicKey, VerificationAlgorithm};

use crate::model::KeyAlgorithm;
use crate::model::key_algorithm::{KeyError, SignatureAlgorithm};

/// Whether `signature` is a signature of `message` by the key with these SubjectPublicKeyInfo bits. A signature algorithm that does not fit
/// the key is no signature.
pub fn verify(
    key: KeyAlgorithm,
    public_key: &[u8],
    algorithm: SignatureAlgorithm,
    message: &[u8],
    signature: &[u8],
) -> bool {
    let verifier: &dyn VerificationAlgorithm = match (key, algorithm) {
        (KeyAlgorithm::Rsa(_), SignatureAlgorithm::RsaSha256) => &signature::RSA_PKCS1_2048_8192_SHA256,
        (KeyAlgorithm::Rsa(_), SignatureAlgorithm::RsaSha384) => &signature::RSA_PKCS1_2048_8192_SHA384,
        (KeyAlgorithm::Rsa(_), SignatureAlgorithm::RsaSha512) => &signature::RSA_PKCS1_2048_8192_SHA512,
        (KeyAlgorithm::P256, SignatureAlgorithm::EcdsaSha256) => &signature::ECDSA_P256_SHA256_ASN1,
        (KeyAlgorithm::P256, SignatureAlgorithm::EcdsaSha384) => &signature::ECDSA_P256_SHA384_ASN1,
        (KeyAlgorithm::P384, SignatureAlgorithm::EcdsaSha256) => &signature::ECDSA_P384_SHA256_ASN1,
        (KeyAlgorithm::P384, SignatureAlgorithm::EcdsaSha384) => &signature::ECDSA_P384_SHA384_ASN1,
        (KeyAlgorithm::Ed25519, SignatureAlgorithm::Ed25519) => &signature::ED25519,
        _ => return false,
    };
    UnparsedPublicKey::new(verifier, public_key)
        .verify(message, signature)
        .is_ok()
}

/// The algorithm and the bit-string content of a DER SubjectPublicKeyInfo, or why its key is not accepted.
pub fn public_key(info: &[u8]) -> Result<(KeyAlgorithm, Vec<u8>), KeyError> {
    KeyAlgorithm::read(info).map(|(algorithm, key)| (algorithm, key.to_vec()))
}
