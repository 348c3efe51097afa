//! A CA certificate, parsed once: what signing under it, checking it and reporting about it need to know.

use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, ParsedExtension, X509Certificate, X509Version};

use super::key_algorithm::{KeyAlgorithm, KeyError};
use super::{Fingerprint, Timestamp, Validity, name_text, pem};

/// A certificate of an authority: a signer, an intermediate or a root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaCertificate {
    der: CertificateDer<'static>,
    pem: String,
    subject: Vec<u8>,
    subject_text: String,
    issuer: Vec<u8>,
    issuer_text: String,
    public_key_info: Vec<u8>,
    key: Result<KeyAlgorithm, KeyError>,
    key_id: Option<Vec<u8>>,
    authority_key_id: Option<Vec<u8>>,
    validity: Validity,
    is_ca: bool,
    path_length: Option<u32>,
    may_sign_certificates: bool,
    may_sign_crls: bool,
    extended_key_usage: Option<ExtendedKeyUsage>,
}

/// What an extended key usage extension allows, as far as it matters to workload certificates below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExtendedKeyUsage {
    /// serverAuth or anyExtendedKeyUsage.
    pub server: bool,
    /// clientAuth or anyExtendedKeyUsage.
    pub client: bool,
}

/// Why bytes are not a certificate that we can work with.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CertificateError {
    /// Not an X.509 certificate.
    #[error("it is not an X.509 certificate: {0}")]
    Unreadable(String),
    /// Bytes behind the certificate.
    #[error("{0} bytes follow the certificate")]
    Trailing(usize),
    /// The same extension twice (RFC 5280, 4.2), or one that cannot be read.
    #[error("its extensions cannot be read: {0}")]
    Extensions(String),
}

impl CaCertificate {
    /// Reads a DER certificate. Says nothing of whether it may sign: see the accessors.
    pub fn parse(der: &[u8]) -> Result<Self, CertificateError> {
        let (rest, certificate) =
            X509Certificate::from_der(der).map_err(|error| CertificateError::Unreadable(error.to_string()))?;
        if !rest.is_empty() {
            return Err(CertificateError::Trailing(rest.len()));
        }
        let extensions = |error: String| CertificateError::Extensions(error);
        certificate
            .extensions_map()
            .map_err(|error| extensions(error.to_string()))?;
        if let Some(unread) = certificate
            .extensions()
            .iter()
            .find_map(|extension| match extension.parsed_extension() {
                ParsedExtension::ParseError { error } => Some(format!("{}: {error}", extension.oid)),
                _ => None,
            })
        {
            return Err(CertificateError::Extensions(unread));
        }
        let basic = certificate
            .basic_constraints()
            .map_err(|error| extensions(error.to_string()))?;
        let usage = certificate.key_usage().map_err(|error| extensions(error.to_string()))?;
        let extended = certificate
            .extended_key_usage()
            .map_err(|error| extensions(error.to_string()))?;
        let key_id = certificate
            .extensions()
            .iter()
            .find_map(|extension| match extension.parsed_extension() {
                ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
                _ => None,
            });
        let authority_key_id =
            certificate
                .extensions()
                .iter()
                .find_map(|extension| match extension.parsed_extension() {
                    ParsedExtension::AuthorityKeyIdentifier(id) => id.key_identifier.as_ref().map(|id| id.0.to_vec()),
                    _ => None,
                });
        // A version 1 certificate has no extensions; as a root it is its owner's word that counts.
        let version_1 = certificate.version() == X509Version::V1;
        Ok(Self {
            der: CertificateDer::from(der.to_vec()),
            pem: pem::certificate(der),
            subject: certificate.subject().as_raw().to_vec(),
            subject_text: name_text::of(certificate.subject()),
            issuer: certificate.issuer().as_raw().to_vec(),
            issuer_text: name_text::of(certificate.issuer()),
            public_key_info: certificate.public_key().raw.to_vec(),
            key: KeyAlgorithm::read(certificate.public_key().raw).map(|(algorithm, _)| algorithm),
            key_id,
            authority_key_id,
            validity: Validity {
                not_before: Timestamp::from_unix(certificate.validity().not_before.timestamp()),
                not_after: Timestamp::from_unix(certificate.validity().not_after.timestamp()),
            },
            is_ca: version_1 || basic.as_ref().is_some_and(|basic| basic.value.ca),
            path_length: basic.and_then(|basic| basic.value.path_len_constraint),
            may_sign_certificates: usage.as_ref().is_none_or(|usage| usage.value.key_cert_sign()),
            may_sign_crls: usage.as_ref().is_none_or(|usage| usage.value.crl_sign()),
            extended_key_usage: extended.map(|extended| ExtendedKeyUsage {
                server: extended.value.server_auth || extended.value.any,
                client: extended.value.client_auth || extended.value.any,
            }),
        })
    }

    /// The whole certificate.
    pub fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// The whole certificate as one PEM block with a newline at its end.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The subject's DER, byte for byte: the issuer of whatever it signs.
    pub fn subject(&self) -> &[u8] {
        &self.subject
    }

    /// The subject for people.
    pub fn subject_text(&self) -> &str {
        &self.subject_text
    }

    /// The issuer's DER, byte for byte.
    pub fn issuer(&self) -> &[u8] {
        &self.issuer
    }

    /// The issuer for people.
    pub fn issuer_text(&self) -> &str {
        &self.issuer_text
    }

    /// Whether it names itself as its issuer. Its signature is not looked at.
    pub fn is_self_issued(&self) -> bool {
        self.subject == self.issuer
    }

    /// The DER SubjectPublicKeyInfo.
    pub fn public_key_info(&self) -> &[u8] {
        &self.public_key_info
    }

    /// Its key's algorithm, or why we could not sign or verify with it.
    pub fn key(&self) -> Result<KeyAlgorithm, &KeyError> {
        self.key.as_ref().copied()
    }

    /// The content of its subject key identifier, if it has one: the authority key identifier of whatever it signs.
    pub fn key_id(&self) -> Option<&[u8]> {
        self.key_id.as_deref()
    }

    /// The key identifier of its issuer, if it names one.
    pub fn authority_key_id(&self) -> Option<&[u8]> {
        self.authority_key_id.as_deref()
    }

    /// From when until when.
    pub fn validity(&self) -> Validity {
        self.validity
    }

    /// Basic constraints say CA, or it is a version 1 certificate, which cannot say.
    pub fn is_ca(&self) -> bool {
        self.is_ca
    }

    /// How many CA certificates may stand between it and a leaf; `None` for no limit.
    pub fn path_length(&self) -> Option<u32> {
        self.path_length
    }

    /// Its key usage allows signing certificates, or it has no such extension.
    pub fn may_sign_certificates(&self) -> bool {
        self.may_sign_certificates
    }

    /// Its key usage allows signing revocation lists, or it has no such extension.
    pub fn may_sign_crls(&self) -> bool {
        self.may_sign_crls
    }

    /// Its extended key usage, which OpenSSL, Go and webpki apply to everything below it; `None` when it has no such extension.
    pub fn extended_key_usage(&self) -> Option<ExtendedKeyUsage> {
        self.extended_key_usage
    }

    /// SHA-256 over the DER.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.der)
    }
}

#[cfg(test)]
mod tests;
