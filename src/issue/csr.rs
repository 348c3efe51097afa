//! What do they ask? The certificate request's key is taken; its names decide nothing.
//!
//! Takes: the CSR and the [`Grant`]. Gives: a [`CheckedCsr`], whose key is on our list and whose owner proved to hold it.

use std::collections::BTreeMap;

use super::authorize::Grant;
use crate::model::key_algorithm::{KeyAlgorithm, KeyError, SignatureAlgorithm};
use crate::model::{Kind, der, pem};
use crate::platform::crypto;

/// Largest CSR text. One of an RSA-4096 key takes 1.7 KB.
pub const MAX_CSR_BYTES: usize = 16 * 1024;

/// How deep elements may stand in each other. A list of general names in a CSR takes 9.
const MAX_DEPTH: u8 = 16;

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
    if text.len() > MAX_CSR_BYTES {
        return Err(CsrError::TooLarge(text.len()));
    }
    if text.trim_ascii().is_empty() {
        return Err(CsrError::Empty);
    }
    let der = pem::single("CERTIFICATE REQUEST", text).ok_or(CsrError::NotPem)?;
    let parts = Parts::read(&der).ok_or(CsrError::Malformed)?;
    if !der::is_sound(&der, MAX_DEPTH) || Wishes::read(&parts).is_none() {
        return Err(CsrError::Malformed);
    }
    let (key, _) = KeyAlgorithm::read(parts.public_key_info)?;
    Ok(ParsedCsr { der, key })
}

impl ParsedCsr {
    /// Whether checking its signature takes so long that it belongs off the async threads.
    pub fn is_slow(&self) -> bool {
        self.key.is_slow_to_verify()
    }

    /// The dear half: the signature, after its algorithm; then, in strict mode, what else it asks for.
    pub fn check(self, grant: &Grant, strict: bool) -> Result<CheckedCsr, CsrError> {
        let parts = Parts::read(&self.der).ok_or(CsrError::Malformed)?;
        let (key, public_key) = KeyAlgorithm::read(parts.public_key_info)?;
        let algorithm = SignatureAlgorithm::read(parts.algorithm).ok_or(CsrError::SignatureAlgorithm)?;
        let [0, signature @ ..] = parts.signature else {
            return Err(CsrError::Signature);
        };
        if !crypto::verify(key, public_key, algorithm, parts.info, signature) {
            return Err(CsrError::Signature);
        }
        if strict {
            Wishes::read(&parts).ok_or(CsrError::Malformed)?.are_only(grant)?;
        }
        Ok(CheckedCsr {
            public_key_info: parts.public_key_info.to_vec(),
            key,
        })
    }
}

/// The parts of a CertificationRequest (RFC 2986, 4).
struct Parts<'a> {
    info: &'a [u8],
    subject: &'a [u8],
    public_key_info: &'a [u8],
    attributes: &'a [u8],
    algorithm: &'a [u8],
    signature: &'a [u8],
}

impl<'a> Parts<'a> {
    fn read(request: &'a [u8]) -> Option<Self> {
        let [info, algorithm, signature] = der::members(der::SEQUENCE, request)?;
        let [version, subject, key, attributes] = der::members(der::SEQUENCE, info.whole)?;
        (version.whole == [der::INTEGER, 1, 0]).then_some(Self {
            info: info.whole,
            subject: subject.of(der::SEQUENCE)?,
            public_key_info: key.whole,
            attributes: attributes.of(0xa0)?,
            algorithm: algorithm.whole,
            signature: signature.of(der::BIT_STRING)?,
        })
    }
}

/// What a CSR asks for beside a certificate for its key.
struct Wishes<'a> {
    has_subject: bool,
    /// Set of values by attribute type.
    attributes: BTreeMap<&'a [u8], &'a [u8]>,
    /// Extension values by type.
    extensions: BTreeMap<&'a [u8], &'a [u8]>,
}

const EXTENSION_REQUEST: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 14];
const SUBJECT_ALTERNATIVE_NAME: &[u8] = &[0x55, 0x1d, 17];
const URI: u8 = 0x86;

impl<'a> Wishes<'a> {
    /// No attribute and no extension may stand there twice: which of them would count?
    fn read(parts: &Parts<'a>) -> Option<Self> {
        let mut has_subject = false;
        der::each(parts.subject, |rdn| {
            der::each(rdn.of(der::SET)?, |attribute| {
                let [kind, value] = der::members(der::SEQUENCE, attribute.whole)?;
                has_subject |= !value.content.is_empty();
                kind.of(der::OID).map(|_| ())
            })
        })?;
        let attributes = by_type(parts.attributes, |attribute| {
            let [kind, values] = der::members(der::SEQUENCE, attribute.whole)?;
            Some((kind, values.of(der::SET)?))
        })?;
        let list = match attributes.get(EXTENSION_REQUEST) {
            Some(values) => der::only(der::SEQUENCE, values)?,
            None => &[],
        };
        let extensions = by_type(list, |extension| {
            let (kind, value) = match der::members(der::SEQUENCE, extension.whole) {
                Some([kind, value]) => (kind, value),
                None => {
                    let [kind, critical, value] = der::members(der::SEQUENCE, extension.whole)?;
                    (matches!(critical.whole, [1, 1, _])).then_some((kind, value))?
                }
            };
            Some((kind, value.of(der::OCTET_STRING)?))
        })?;
        Some(Self {
            has_subject,
            attributes,
            extensions,
        })
    }

    /// Strict mode: a subject that says nothing (none, or Istio's organization of zero length), and at most one extension, a subject
    /// alternative name that is exactly the granted identity.
    fn are_only(&self, grant: &Grant) -> Result<(), CsrError> {
        if self.has_subject {
            return Err(CsrError::Strict("a subject"));
        }
        if self.attributes.keys().any(|kind| *kind != EXTENSION_REQUEST) {
            return Err(CsrError::Strict("an attribute that is not a list of extensions"));
        }
        if self.extensions.keys().any(|kind| *kind != SUBJECT_ALTERNATIVE_NAME) {
            return Err(CsrError::Strict("extensions other than its identity"));
        }
        let Some(names) = self.extensions.get(SUBJECT_ALTERNATIVE_NAME) else {
            return Ok(());
        };
        match der::members(der::SEQUENCE, names) {
            Some([name]) if name.of(URI) == Some(grant.identity().to_string().as_bytes()) => Ok(()),
            _ => Err(CsrError::Strict("other names than its own identity")),
        }
    }
}

/// A list of elements that each have a type and a value; nothing when one does not, or a type stands there twice.
fn by_type<'a>(
    list: &'a [u8],
    entry: impl Fn(der::Element<'a>) -> Option<(der::Element<'a>, &'a [u8])>,
) -> Option<BTreeMap<&'a [u8], &'a [u8]>> {
    let mut found = BTreeMap::new();
    der::each(list, |element| {
        let (kind, value) = entry(element)?;
        found.insert(kind.of(der::OID)?, value).is_none().then_some(())
    })?;
    Some(found)
}

#[cfg(test)]
mod tests;
