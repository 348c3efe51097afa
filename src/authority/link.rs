//! Whether one certificate signed another, judged as the strictest of the mesh's verifiers (OpenSSL, BoringSSL, Go, webpki) would.
//!
//! Takes: two certificates. Gives: yes, or exactly why not. Not here: whether the upper one was allowed to.

use x509_parser::prelude::{FromDer, X509Certificate};

use super::key::key_error;
use crate::model::key_algorithm::{KeyError, SignatureAlgorithm};
use crate::model::{CaCertificate, der};
use crate::platform::crypto;

/// Why a certificate that bears the issuer's name is still not the issuer.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum Broken {
    /// OpenSSL does not even try an issuer whose key identifier differs.
    #[error("its authority key identifier is not the subject key identifier of {0}")]
    KeyId(String),
    /// Outside our list of signatures.
    #[error("it is signed with {0}, which is not accepted")]
    Algorithm(String),
    /// RFC 5280, 4.1.1.2.
    #[error("it names two different signature algorithms")]
    TwoAlgorithms,
    /// We cannot check what that key signed.
    #[error("its issuer {place} cannot be checked against: {why}")]
    IssuerKey { place: String, why: String },
    /// Someone else of the same name signed it, or it was changed.
    #[error("its signature was not made by the key of {0}")]
    Signature(String),
}

impl Broken {
    pub(super) fn remedy(&self) -> &'static str {
        match self {
            Self::KeyId(_) | Self::Signature(_) => "put the issuer's certificate that goes with this one there",
            Self::Algorithm(_) => {
                "have its issuer sign it again with SHA-256, SHA-384 or (RSA only) SHA-512, as ECDSA, Ed25519 or RSA PKCS#1 v1.5"
            }
            Self::TwoAlgorithms => "put the certificate as its issuer made it there",
            Self::IssuerKey { .. } => {
                "use an issuer with a P-256, P-384 or Ed25519 key, or an RSA key of 2048 to 4096 bits"
            }
        }
    }
}

/// Whether `issuer` bears the name that `certificate` gives its issuer.
pub(super) fn is_named(certificate: &CaCertificate, issuer: &CaCertificate) -> bool {
    certificate.issuer() == issuer.subject()
}

/// Checks that `issuer`, which stands at `place`, signed `certificate`. The name is [`is_named`]'s business.
pub(super) fn check(certificate: &CaCertificate, issuer: &CaCertificate, place: &str) -> Result<(), Broken> {
    if let (Some(wanted), Some(found)) = (certificate.authority_key_id(), issuer.key_id())
        && wanted != found
    {
        return Err(Broken::KeyId(place.to_owned()));
    }
    // It was parsed before: an error cannot come, and would be no signature.
    let (_, parsed) = X509Certificate::from_der(certificate.der()).map_err(|_| Broken::Signature(place.to_owned()))?;
    if parsed.signature_algorithm != parsed.tbs_certificate.signature {
        return Err(Broken::TwoAlgorithms);
    }
    let algorithm = der::members(der::SEQUENCE, certificate.der())
        .and_then(|[_, algorithm, _]| SignatureAlgorithm::read(algorithm.whole))
        .ok_or_else(|| Broken::Algorithm(algorithm_name(&parsed.signature_algorithm.algorithm.to_id_string())))?;
    let (key, public) = crypto::public_key(issuer.public_key_info()).map_err(|error: KeyError| Broken::IssuerKey {
        place: place.to_owned(),
        why: key_error(&error),
    })?;
    let signature = &parsed.signature_value;
    let good = signature.unused_bits == 0
        && crypto::verify(
            key,
            &public,
            algorithm,
            parsed.tbs_certificate.as_ref(),
            &signature.data,
        );
    if good {
        Ok(())
    } else {
        Err(Broken::Signature(place.to_owned()))
    }
}

/// The names of what company CAs still sign with.
fn algorithm_name(oid: &str) -> String {
    match oid {
        "1.2.840.113549.1.1.4" => "MD5 and RSA",
        "1.2.840.113549.1.1.5" => "SHA-1 and RSA",
        "1.2.840.113549.1.1.10" => "RSA-PSS",
        "1.2.840.10045.4.1" => "SHA-1 and ECDSA",
        "1.2.840.10045.4.3.4" => "SHA-512 and ECDSA",
        other => return format!("an algorithm ({other})"),
    }
    .to_owned()
}
