//! Making a self-signed root.
//!
//! Takes: what it is to be. Gives: its key and certificate in PEM. Not here: files; roots that stay offline (`offline`).

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
    #[error("cannot make the CA's certificate: {0}")]
    Rcgen(#[from] rcgen::Error),
    /// The lifetime leads out of what a certificate can say.
    #[error("cannot make the CA's certificate: its lifetime ends outside the years that a certificate can name")]
    Time,
    /// Another make than ours, such as a version 1 certificate.
    #[error("cannot renew the root: its certificate has an unusual shape; make another root (countersign root rotate)")]
    Shape,
    /// No randomness.
    #[error("cannot make the CA's certificate: {0}")]
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
    let key = generate(algorithm)?;
    let name = name(organization, &format!("countersign root {}", short_fingerprint(&key)));
    let certificate = parameters(&key, name, lifetime, now, random)?.self_signed(&key)?;
    Ok(NewRoot {
        key: key_pem(&key),
        certificate: pem::certificate(certificate.der()),
    })
}

/// A new key.
pub(super) fn generate(algorithm: RootAlgorithm) -> Result<KeyPair, RootError> {
    Ok(KeyPair::generate_for(match algorithm {
        RootAlgorithm::P256 => &rcgen::PKCS_ECDSA_P256_SHA256,
        RootAlgorithm::P384 => &rcgen::PKCS_ECDSA_P384_SHA384,
    })?)
}

/// A key as it stands in files.
pub(super) fn key_pem(key: &KeyPair) -> Zeroizing<String> {
    Zeroizing::new(pem::encode("PRIVATE KEY", key.serialized_der()))
}

/// What the certificate of a root says.
pub(super) fn parameters(
    key: &KeyPair,
    name: DistinguishedName,
    lifetime: Lifetime,
    now: Timestamp,
    random: &dyn Random,
) -> Result<CertificateParams, RootError> {
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
    parameters.distinguished_name = name;
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    parameters.key_identifier_method = KeyIdMethod::PreSpecified(crypto::key_identifier(key.public_key_raw()).to_vec());
    Ok(parameters)
}

/// What gives every root a name of its own: verifiers try each root of a matching name, and give up after a number of signatures.
pub(super) fn short_fingerprint(key: &KeyPair) -> String {
    let hash = crypto::sha256(&key.subject_public_key_info());
    hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// Organization (none if empty) and common name.
pub(super) fn name(organization: &str, common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    // RFC 5280, A.1: an organization has at most 64 characters; a trust domain may have 255.
    let organization: String = organization.chars().take(64).collect();
    if !organization.is_empty() {
        name.push(DnType::OrganizationName, organization);
    }
    name.push(DnType::CommonName, common_name);
    name
}
