//! What do they ask? The certificate request's key is taken; its names decide nothing.
//!
//! Takes: the CSR and the [`Grant`]. Gives: a [`CheckedCsr`], whose key is on our list and whose owner proved to hold it.

use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;

use super::authorize::Grant;
use crate::model::key_algorithm::{KeyAlgorithm, KeyError, SignatureAlgorithm};
use crate::model::{Kind, pem};
use crate::platform::crypto;

/// Largest CSR text. One of an RSA-4096 key takes 1.7 KB.
pub const MAX_CSR_BYTES: usize = 16 * 1024;

const BEGIN: &str = "-----BEGIN CERTIFICATE REQUEST-----";
const END: &str = "-----END CERTIFICATE REQUEST-----";

/// A CSR that was parsed, not yet checked further.
#[derive(Debug)]
pub struct ParsedCsr {
    der: Vec<u8>,
    key: KeyAlgorithm,
}

/// A public key whose owner proved, by signing the CSR, to hold the private half.
#[derive(Debug)]
pub struct CheckedCsr {
    public_key_info: Vec<u8>,
    key: KeyAlgorithm,
}

impl CheckedCsr {
    /// The DER SubjectPublicKeyInfo.
    pub fn public_key_info(&self) -> &[u8] {
        &self.public_key_info
    }

    /// The key's algorithm.
    pub fn key(&self) -> KeyAlgorithm {
        self.key
    }
}

/// Why a CSR is refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CsrError {
    /// Nothing there.
    #[error("the CSR is empty")]
    Empty,
    /// Too large.
    #[error("the CSR has {0} bytes, more than {MAX_CSR_BYTES}")]
    TooLarge(usize),
    /// Not exactly one PEM block of the right kind.
    #[error("the CSR is not exactly one PEM block labelled CERTIFICATE REQUEST")]
    NotPem,
    /// Not a PKCS#10 request.
    #[error("the CSR is not a PKCS#10 version 1 request (RFC 2986)")]
    Malformed,
    /// The key is not on our list.
    #[error("the CSR's key: {0}")]
    Key(#[from] KeyError),
    /// The signature algorithm is not on our list.
    #[error(
        "the CSR is signed with an algorithm that is not accepted, only RSA, ECDSA and Ed25519 with SHA-256, SHA-384 or SHA-512"
    )]
    SignatureAlgorithm,
    /// The self-signature does not verify: the caller does not hold the key.
    #[error("the CSR's signature does not verify with its own key")]
    Signature,
    /// Strict mode: it asks for something else than its identity.
    #[error("the CSR asks for {0}, which strict checking refuses")]
    Strict(&'static str),
}

impl CsrError {
    /// The same CSR can never succeed.
    pub fn kind(&self) -> Kind {
        Kind::Invalid
    }

    /// The word for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Empty => "csr_empty",
            Self::TooLarge(_) => "csr_too_large",
            Self::NotPem => "csr_not_pem",
            Self::Malformed => "csr_malformed",
            Self::Key(_) => "csr_key",
            Self::SignatureAlgorithm => "csr_signature_algorithm",
            Self::Signature => "csr_signature",
            Self::Strict(_) => "csr_strict",
        }
    }
}

/// The cheap half: PEM, shape and key, without cryptography. Tells whether the rest belongs off the async threads.
pub fn parse(text: &str) -> Result<ParsedCsr, CsrError> {
    let text = text.trim();
    if text.is_empty() {
        return Err(CsrError::Empty);
    }
    if text.len() > MAX_CSR_BYTES {
        return Err(CsrError::TooLarge(text.len()));
    }
    if !(text.starts_with(BEGIN) && text.ends_with(END)) {
        return Err(CsrError::NotPem);
    }
    let der = match pem::blocks(text.as_bytes(), 1).as_deref() {
        Ok([block]) if block.kind == rustls_pki_types::pem::SectionKind::Csr => block.der.to_vec(),
        _ => return Err(CsrError::NotPem),
    };
    let request = read(&der)?;
    let key = KeyAlgorithm::of(&request.certification_request_info.subject_pki)?;
    Ok(ParsedCsr { der, key })
}

impl ParsedCsr {
    /// Whether checking its signature takes so long that it belongs off the async threads.
    pub fn is_slow(&self) -> bool {
        self.key.is_slow_to_verify()
    }

    /// The dear half: the signature, after its algorithm; then, in strict mode, what else it asks for.
    pub fn check(self, grant: &Grant, strict: bool) -> Result<CheckedCsr, CsrError> {
        let request = read(&self.der)?;
        let info = &request.certification_request_info;
        let algorithm = SignatureAlgorithm::of(&request.signature_algorithm).ok_or(CsrError::SignatureAlgorithm)?;
        let public_key = info.subject_pki.subject_public_key.data.as_ref();
        let signature = &request.signature_value;
        if signature.unused_bits != 0
            || !crypto::verify(self.key, public_key, algorithm, info.raw, signature.data.as_ref())
        {
            return Err(CsrError::Signature);
        }
        if strict {
            asks_for_nothing_else(&request, grant)?;
        }
        Ok(CheckedCsr {
            public_key_info: info.subject_pki.raw.to_vec(),
            key: self.key,
        })
    }
}

fn read(der: &[u8]) -> Result<X509CertificationRequest<'_>, CsrError> {
    match X509CertificationRequest::from_der(der) {
        Ok(([], request)) if request.certification_request_info.version.0 == 0 => Ok(request),
        _ => Err(CsrError::Malformed),
    }
}

/// Strict mode: a subject that says nothing (none, or Istio's organization of zero length), and at most one extension, a subject
/// alternative name that is exactly the granted identity.
fn asks_for_nothing_else(request: &X509CertificationRequest<'_>, grant: &Grant) -> Result<(), CsrError> {
    let info = &request.certification_request_info;
    if info
        .subject
        .iter_attributes()
        .any(|attribute| !attribute.attr_value().data.is_empty())
    {
        return Err(CsrError::Strict("a subject"));
    }
    if info.attributes().len() > 1 {
        return Err(CsrError::Strict("more than one attribute"));
    }
    let wanted = grant.identity().to_string();
    let mut extensions = request.requested_extensions().into_iter().flatten();
    if info.attributes().len() == 1 && request.requested_extensions().is_none() {
        return Err(CsrError::Strict("an attribute that is not a list of extensions"));
    }
    match (extensions.next(), extensions.next()) {
        (None, _) => Ok(()),
        (Some(ParsedExtension::SubjectAlternativeName(names)), None) => match names.general_names.as_slice() {
            [GeneralName::URI(uri)] if *uri == wanted => Ok(()),
            _ => Err(CsrError::Strict("other names than its own identity")),
        },
        _ => Err(CsrError::Strict("extensions other than its identity")),
    }
}
