//! The certificates of one file.
//!
//! Takes: PEM text. Gives: each certificate with its place, for messages. Not here: whether they may sign.

use super::finding::Report;
use crate::model::{CaCertificate, pem};

/// More blocks than any file of a CA needs.
pub(super) const MOST_BLOCKS: usize = 64;

/// A certificate and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Placed {
    pub place: String,
    pub certificate: CaCertificate,
}

impl Placed {
    pub(super) fn is(&self, other: &Placed) -> bool {
        self.certificate.der() == other.certificate.der()
    }

    pub(super) fn subject(&self) -> String {
        format!("{:?}", self.certificate.subject_text())
    }
}

/// Reads every certificate of a file; whatever cannot be read goes into the report as an error, and whatever is no certificate as a warning.
pub(super) fn read(file: &str, text: &[u8], report: &mut Report) -> Vec<Placed> {
    let blocks = match pem::blocks(text, MOST_BLOCKS) {
        Ok(blocks) => blocks,
        Err(error) => {
            report.refuse(file, &error, error.remedy());
            return Vec::new();
        }
    };
    let mut found: Vec<Placed> = Vec::new();
    let mut position = 0;
    for block in blocks {
        let label = block.label.as_str();
        if label != pem::CERTIFICATE {
            other_block(file, label, block.line, report);
            continue;
        }
        position += 1;
        let place = format!("{file}, certificate {position}");
        match CaCertificate::parse(&block.der) {
            Ok(certificate) => {
                let placed = Placed { place, certificate };
                if let Some(first) = found.iter().find(|known| known.is(&placed)) {
                    report.warn(
                        &placed.place,
                        format!("it repeats {}", first.place),
                        "remove the repetition",
                    );
                } else {
                    found.push(placed);
                }
            }
            Err(error) => report.refuse(place, error, "put the certificate as its issuer made it there"),
        }
    }
    if position == 0 {
        report.refuse(file, "it holds no certificate", "put the certificate in PEM there");
    }
    found
}

fn other_block(file: &str, label: &str, line: usize, report: &mut Report) {
    let what = format!("line {line} begins a block of type {label:?}");
    let is = |word: &str| label.contains(word);
    if is("PRIVATE KEY") {
        // Whoever takes the file for what its name says hands the key out: istiod would publish it to every namespace with the roots.
        report.refuse(
            file,
            what,
            "remove the private key, and make a new one if others could read this file",
        );
    } else if is("PKCS") || is("CMS") {
        report.refuse(file, what, "unpack it: openssl pkcs7 -print_certs");
    } else if is("CERTIFICATE") && !is("REQUEST") {
        report.refuse(file, what, "convert it: openssl x509 -in FILE");
    } else {
        report.warn(file, format!("{what}, which is not used"), "remove it");
    }
}
