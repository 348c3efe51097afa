//! The private key of a CA, in any of the forms that the usual tools write.
//!
//! Takes: PEM text and the certificate it must belong to. Gives: a key that signs. Never prints any of it.

use super::certificates::{MOST_BLOCKS, Placed};
use super::finding::Report;
use crate::model::key_algorithm::KeyError;
use crate::model::pem;
use crate::platform::crypto::{self, KeyFormat, PrivateKeyError, SigningKey};

/// The one private key of a file, still undecoded.
pub(super) struct Found {
    format: KeyFormat,
    der: zeroize::Zeroizing<Vec<u8>>,
}

const MAKE_ANOTHER: &str = "make a CA with a P-256, P-384 or Ed25519 key, or an RSA key of 2048 to 4096 bits";

/// Finds the one private key of a file. Blocks before it that are no keys are fine: `openssl ecparam -genkey` writes `EC PARAMETERS`.
pub(super) fn find(file: &str, text: &[u8], report: &mut Report) -> Option<Found> {
    let blocks = pem::blocks(text, MOST_BLOCKS)
        .map_err(|error| report.refuse(file, &error, error.remedy()))
        .ok()?;
    let mut keys = Vec::new();
    for block in blocks {
        let label = block.label.as_str();
        let format = match label {
            _ if block.encrypted || label == "ENCRYPTED PRIVATE KEY" => {
                report.refuse(
                    file,
                    "the key is encrypted, and nobody is there to type its password",
                    format!("decrypt it: openssl pkey -in {file} -out {file}.new && mv {file}.new {file}"),
                );
                return None;
            }
            "RSA PRIVATE KEY" => KeyFormat::Pkcs1,
            "EC PRIVATE KEY" => KeyFormat::Sec1,
            "PRIVATE KEY" => KeyFormat::Pkcs8,
            "OPENSSH PRIVATE KEY" => {
                report.refuse(
                    file,
                    "the key is in OpenSSH's format",
                    format!("convert it: ssh-keygen -p -N '' -m PKCS8 -f {file}"),
                );
                return None;
            }
            _ if label.ends_with("PRIVATE KEY") => {
                report.refuse(
                    file,
                    format!("its key is of type {label:?}, which is not accepted"),
                    MAKE_ANOTHER,
                );
                return None;
            }
            _ => continue,
        };
        keys.push(Found { format, der: block.der });
    }
    match keys.len() {
        0 => report.refuse(
            file,
            "it holds no private key",
            "put the private key of the CA there, in PEM",
        ),
        1 => return keys.pop(),
        several => report.refuse(
            file,
            format!("it holds {several} private keys"),
            "keep only the one that belongs to the CA's certificate",
        ),
    }
    None
}

impl Found {
    /// How it is written.
    pub(super) fn format(&self) -> KeyFormat {
        self.format
    }

    /// What its block holds.
    pub(super) fn der(&self) -> &[u8] {
        &self.der
    }

    /// Whether it is the key of a certificate, as far as can be told.
    pub(super) fn belongs_to(&self, certificate: &Placed) -> bool {
        crypto::public_key(certificate.certificate.public_key_info())
            .is_ok_and(|(algorithm, public)| SigningKey::read(self.format, &self.der, algorithm, &public).is_ok())
    }

    /// Makes it sign under a certificate.
    pub(super) fn read(&self, file: &str, signer: &Placed, report: &mut Report) -> Option<SigningKey> {
        // A key that is not on our list is the certificate's fault, which `member` reports.
        let (algorithm, public) = crypto::public_key(signer.certificate.public_key_info()).ok()?;
        SigningKey::read(self.format, &self.der, algorithm, &public)
            .map_err(|error| match error {
                PrivateKeyError::Mismatch => report.refuse(
                    file,
                    format!("the key does not belong to {}, {}", signer.place, signer.subject()),
                    "put the key and the certificate that were made together there",
                ),
                PrivateKeyError::Malformed(_) => {
                    report.refuse(file, error, "put the key as it was made there");
                }
                PrivateKeyError::Rejected(_) => report.refuse(file, error, MAKE_ANOTHER),
            })
            .ok()
    }
}

/// A key error with the curve's common name, which its number hides from people.
pub(super) fn key_error(error: &KeyError) -> String {
    match error {
        KeyError::Curve(oid) if oid == "1.3.132.0.35" => "the curve P-521 is not accepted, only P-256 and P-384".into(),
        other => other.to_string(),
    }
}
