//! Is it what we mean? Reads the planned bytes back with another library than the one that wrote them and holds them against the rules.
//! A CA that signs one wrong certificate has failed, so a finding here stops the request before the key is touched.

use x509_parser::certificate::TbsCertificate;
use x509_parser::extensions::{GeneralName, ParsedExtension, X509Extension};
use x509_parser::prelude::FromDer;
use x509_parser::x509::AlgorithmIdentifier;

use super::plan::{Facts, Subject, extension, key_id};
use crate::authority::CaSnapshot;
use crate::model::{KeyAlgorithm, ServingName};

/// A rule that the planned bytes break.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub struct Finding(&'static str);

/// Holds planned bytes against RFC 5280, the X.509-SVID standard and what we were asked for.
pub fn lint(to_be_signed: &[u8], facts: &Facts, public_key_info: &[u8], ca: &CaSnapshot) -> Result<(), Finding> {
    let Ok(([], tbs)) = TbsCertificate::from_der(to_be_signed) else {
        return Err(Finding("the bytes are not one TBSCertificate"));
    };
    let serial = tbs.raw_serial();
    let rules = [
        (tbs.version.0 == 2, "the version is not 3"),
        (serial == facts.serial.as_bytes(), "the serial number is another one"),
        (
            (1..=20).contains(&serial.len()) && (1..0x80).contains(&serial[0]),
            "the serial number is not positive and at most 20 bytes",
        ),
        (
            AlgorithmIdentifier::from_der(ca.key().signature_algorithm().der())
                .is_ok_and(|(_, algorithm)| algorithm == tbs.signature),
            "the signature algorithm is not the one that the key signs with",
        ),
        (
            tbs.issuer.as_raw() == ca.signer().subject(),
            "the issuer is not the signer's subject byte for byte",
        ),
        (
            tbs.validity.not_before.timestamp() == facts.validity.not_before.unix(),
            "NotBefore is another one",
        ),
        (
            tbs.validity.not_after.timestamp() == facts.validity.not_after.unix(),
            "NotAfter is another one",
        ),
        (
            facts.validity.not_before < facts.validity.not_after,
            "it is never valid",
        ),
        (
            facts.validity.not_after <= ca.validity().not_after,
            "it outlives a certificate above it",
        ),
        (tbs.subject.as_raw() == [0x30, 0], "the subject is not empty"),
        (tbs.subject_pki.raw == public_key_info, "the public key is another one"),
        (
            tbs.issuer_uid.is_none() && tbs.subject_uid.is_none(),
            "it has unique identifiers",
        ),
    ];
    rules
        .into_iter()
        .try_for_each(|(holds, rule)| if holds { Ok(()) } else { Err(Finding(rule)) })?;
    extensions(tbs.extensions(), facts, public_key_info, ca)
}

fn extensions(
    found: &[X509Extension<'_>],
    facts: &Facts,
    public_key_info: &[u8],
    ca: &CaSnapshot,
) -> Result<(), Finding> {
    // Each extension: its last arc below 2.5.29, whether it is critical, whether its content is right.
    let mut seen = Vec::with_capacity(6);
    for extension in found {
        let arc = last_arc(extension).ok_or(Finding("an extension that we never write"))?;
        let workload = matches!(facts.subject, Subject::Workload(_));
        let right = match extension.parsed_extension() {
            ParsedExtension::KeyUsage(usage) => {
                usage.flags
                    == if matches!(facts.key, KeyAlgorithm::Rsa(_)) {
                        0b101
                    } else {
                        0b001
                    }
            }
            ParsedExtension::ExtendedKeyUsage(usage) => {
                usage.server_auth
                    && usage.client_auth == workload
                    && usage.other.is_empty()
                    && !(usage.any
                        || usage.code_signing
                        || usage.email_protection
                        || usage.time_stamping
                        || usage.ocsp_signing)
            }
            ParsedExtension::BasicConstraints(basic) => !basic.ca && basic.path_len_constraint.is_none(),
            ParsedExtension::SubjectKeyIdentifier(id) => id.0 == key_id(public_key_info),
            ParsedExtension::AuthorityKeyIdentifier(id) => {
                id.key_identifier.as_ref().map(|id| id.0) == ca.signer().key_id()
                    && id.authority_cert_issuer.is_none()
                    && id.authority_cert_serial.is_none()
            }
            ParsedExtension::SubjectAlternativeName(names) => names_are_right(&names.general_names, &facts.subject),
            _ => false,
        };
        if !right {
            return Err(Finding(match arc {
                extension::KEY_USAGE => "the key usage does not fit the key",
                extension::EXTENDED_KEY_USAGE => "the extended key usage is another one",
                extension::BASIC_CONSTRAINTS => "the basic constraints are not those of a leaf",
                extension::SUBJECT_KEY_ID => "the subject key identifier is not that of the key",
                extension::AUTHORITY_KEY_ID => "the authority key identifier is not the signer's",
                extension::SUBJECT_ALTERNATIVE_NAME => "the names are not exactly the ones that it should have",
                _ => "an extension that we never write",
            }));
        }
        seen.push((arc, extension.critical));
    }
    let mut wanted = vec![
        (extension::KEY_USAGE, true),
        (extension::EXTENDED_KEY_USAGE, false),
        (extension::BASIC_CONSTRAINTS, true),
        (extension::SUBJECT_KEY_ID, false),
        (extension::AUTHORITY_KEY_ID, false),
        (extension::SUBJECT_ALTERNATIVE_NAME, true),
    ];
    wanted.retain(|(arc, _)| *arc != extension::AUTHORITY_KEY_ID || ca.signer().key_id().is_some());
    if seen == wanted {
        Ok(())
    } else {
        Err(Finding("the extensions are not exactly the ones that it should have"))
    }
}

fn last_arc(extension: &X509Extension<'_>) -> Option<u8> {
    match *extension.oid.as_bytes() {
        [0x55, 0x1d, arc] => Some(arc),
        _ => None,
    }
}

fn names_are_right(found: &[GeneralName<'_>], subject: &Subject) -> bool {
    match subject {
        Subject::Workload(grant) => {
            matches!(found, [GeneralName::URI(uri)] if *uri == grant.identity().to_string())
        }
        Subject::Server(names) => {
            !names.is_empty()
                && found.len() == names.len()
                && found.iter().zip(names).all(|(found, name)| match (found, name) {
                    (GeneralName::DNSName(found), ServingName::Dns(name)) => *found == name,
                    (GeneralName::IPAddress(found), ServingName::Ip(std::net::IpAddr::V4(address))) => {
                        *found == address.octets()
                    }
                    (GeneralName::IPAddress(found), ServingName::Ip(std::net::IpAddr::V6(address))) => {
                        *found == address.octets()
                    }
                    _ => false,
                })
        }
    }
}

#[cfg(test)]
mod tests;
