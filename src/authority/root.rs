//! Making a self-signed root.
//!
//! Takes: what it is to be. Gives: its key and certificate in PEM. Not here: files.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose,
    PublicKeyData, SerialNumber,
};
use time::OffsetDateTime;
use zeroize::Zeroizing;

use crate::model::{Lifetime, Serial, Timestamp, pem};
use crate::platform::{Random, RandomError, crypto};

/// The key of a root that we make.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RootAlgorithm {
    /// ECDSA on P-256: the fastest for every client of a mesh.
    #[default]
    P256,
    /// ECDSA on P-384.
    P384,
}

/// A new root.
pub(super) struct NewRoot {
    pub key: Zeroizing<String>,
    pub certificate: String,
}

/// Why no root could be made.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// The certificate library refused.
    #[error("cannot make a root: {0}")]
    Rcgen(#[from] rcgen::Error),
    /// The lifetime leads out of what a certificate can say.
    #[error("cannot make a root: its lifetime ends outside the years that a certificate can name")]
    Time,
    /// Another make than ours, such as a version 1 certificate.
    #[error("cannot renew the root: its certificate has an unusual shape; make another root (countersign root rotate)")]
    Shape,
    /// No randomness.
    #[error("cannot make a root: {0}")]
    Random(#[from] RandomError),
}

/// Makes a key and a root certificate for it.
pub(super) fn make(
    algorithm: RootAlgorithm,
    organization: &str,
    lifetime: Lifetime,
    now: Timestamp,
    random: &dyn Random,
) -> Result<NewRoot, RootError> {
    let key = KeyPair::generate_for(match algorithm {
        RootAlgorithm::P256 => &rcgen::PKCS_ECDSA_P256_SHA256,
        RootAlgorithm::P384 => &rcgen::PKCS_ECDSA_P384_SHA384,
    })?;
    let time = |at: Timestamp| {
        OffsetDateTime::from_unix_timestamp(at.unix())
            .ok()
            .filter(|time| (1950..=9999).contains(&time.year()))
            .ok_or(RootError::Time)
    };
    let mut parameters = CertificateParams::default();
    parameters.not_before = time(now.plus(-lifetime.backdate()))?;
    parameters.not_after = time(now.plus(lifetime.seconds()))?;
    parameters.serial_number = Some(SerialNumber::from_slice(
        Serial::from_random(random.bytes16()?).as_bytes(),
    ));
    parameters.distinguished_name = name(organization, &key.subject_public_key_info());
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    parameters.key_identifier_method = KeyIdMethod::PreSpecified(crypto::key_identifier(key.public_key_raw()).to_vec());
    let certificate = parameters.self_signed(&key)?;
    Ok(NewRoot {
        key: Zeroizing::new(pem::encode("PRIVATE KEY", key.serialized_der())),
        certificate: pem::certificate(certificate.der()),
    })
}

/// A name of its own for every root: verifiers try each root of a matching name, and give up after a number of signatures.
fn name(organization: &str, public_key_info: &[u8]) -> DistinguishedName {
    let fingerprint: String = crypto::sha256(public_key_info)
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let mut name = DistinguishedName::new();
    // RFC 5280, A.1: an organization has at most 64 characters; a trust domain may have 255.
    let organization: String = organization.chars().take(64).collect();
    if !organization.is_empty() {
        name.push(DnType::OrganizationName, organization);
    }
    name.push(DnType::CommonName, format!("countersign root {fingerprint}"));
    name
}
