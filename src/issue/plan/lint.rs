//! Is it what we mean? Reads the planned bytes back with our own strict reader, which shares nothing with the library that wrote them, and
//! holds them against rules that leave no byte open. A CA that signs one wrong certificate has failed, so a finding here stops the request
//! before the key is touched.

use std::net::IpAddr;

use super::{Facts, Subject, extension, key_id};
use crate::authority::CaSnapshot;
use crate::model::{KeyAlgorithm, ServingName, Timestamp, der};

/// A rule that the planned bytes break.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub struct Finding(&'static str);

/// The members of a TBSCertificate (RFC 5280, 4.1).
struct Parts<'a> {
    version: Option<&'a [u8]>,
    serial: &'a [u8],
    signature: &'a [u8],
    issuer: &'a [u8],
    validity: [der::Element<'a>; 2],
    subject: &'a [u8],
    public_key_info: &'a [u8],
    has_unique_ids: bool,
    extensions: &'a [u8],
}

impl<'a> Parts<'a> {
    fn read(to_be_signed: &'a [u8]) -> Option<Self> {
        let mut rest = der::only(der::SEQUENCE, to_be_signed)?;
        let mut next = |tag| {
            let (element, after) = der::first(rest).filter(|(element, _)| element.tag == tag)?;
            rest = after;
            Some(element)
        };
        let parts = Self {
            version: next(0xa0).map(|version| version.content),
            serial: next(der::INTEGER)?.content,
            signature: next(der::SEQUENCE)?.whole,
            issuer: next(der::SEQUENCE)?.whole,
            validity: der::members(der::SEQUENCE, next(der::SEQUENCE)?.whole)?,
            subject: next(der::SEQUENCE)?.content,
            public_key_info: next(der::SEQUENCE)?.whole,
            has_unique_ids: [next(0x81), next(0x82)].iter().any(Option::is_some),
            extensions: der::only(der::SEQUENCE, next(0xa3)?.content)?,
        };
        rest.is_empty().then_some(parts)
    }
}

const MALFORMED: Finding = Finding("the bytes are not one TBSCertificate");
const FOREIGN: Finding = Finding("an extension that we never write");

/// Holds planned bytes against RFC 5280, the X.509-SVID standard and what we were asked for.
pub fn lint(to_be_signed: &[u8], facts: &Facts, public_key_info: &[u8], ca: &CaSnapshot) -> Result<(), Finding> {
    let found = Parts::read(to_be_signed).ok_or(MALFORMED)?;
    let validity = &facts.validity;
    let [not_before, not_after] = &found.validity;
    let rules = [
        (found.version == Some(&[der::INTEGER, 1, 2]), "the version is not 3"),
        (
            found.serial == facts.serial.as_bytes(),
            "the serial number is another one",
        ),
        (
            matches!(found.serial, [1..0x80, rest @ ..] if rest.len() < 20),
            "the serial number is not positive and at most 20 bytes",
        ),
        (
            found.signature == ca.key().signature_algorithm().der(),
            "the signature algorithm is not the one that the key signs with",
        ),
        (
            found.issuer == ca.signer().subject(),
            "the issuer is not the signer's subject byte for byte",
        ),
        (is_time(not_before, validity.not_before), "NotBefore is another one"),
        (is_time(not_after, validity.not_after), "NotAfter is another one"),
        (validity.not_before < validity.not_after, "it is never valid"),
        (
            validity.not_after <= ca.validity().not_after,
            "it outlives a certificate above it",
        ),
        (found.subject.is_empty(), "the subject is not empty"),
        (
            found.public_key_info == public_key_info,
            "the public key is another one",
        ),
        (!found.has_unique_ids, "it has unique identifiers"),
    ];
    rules
        .into_iter()
        .try_for_each(|(holds, rule)| if holds { Ok(()) } else { Err(Finding(rule)) })?;
    extensions(found.extensions, facts, public_key_info, ca)
}

/// UTCTime through 2049, GeneralizedTime from 2050 (RFC 5280, 4.1.2.5). Held against the text of RFC 3339, which others make for us: the
/// writer makes its digits itself.
fn is_time(found: &der::Element<'_>, time: Timestamp) -> bool {
    let mut text = time.to_string();
    text.retain(|character| !matches!(character, '-' | ':' | 'T'));
    let (tag, text) = match text.get(..4) {
        Some(year) if ("1950".."2050").contains(&year) => (0x17, text.get(2..)),
        _ => (0x18, Some(&*text)),
    };
    found.of(tag) == text.map(str::as_bytes)
}

fn extensions(list: &[u8], facts: &Facts, public_key_info: &[u8], ca: &CaSnapshot) -> Result<(), Finding> {
    // Each extension: its last arc below id-ce, and whether it is critical.
    let mut seen = Vec::with_capacity(6);
    let mut rest = list;
    while !rest.is_empty() {
        let (element, after) = der::first(rest).ok_or(MALFORMED)?;
        rest = after;
        let (kind, critical, value) = match der::members(der::SEQUENCE, element.whole) {
            Some([kind, value]) => (kind, false, value),
            None => match der::members(der::SEQUENCE, element.whole) {
                Some([kind, critical, value]) if critical.whole == [1, 1, 0xff] => (kind, true, value),
                _ => return Err(MALFORMED),
            },
        };
        let &[der::OID, 3, 0x55, 0x1d, arc] = kind.whole else {
            return Err(FOREIGN);
        };
        let value = value.of(der::OCTET_STRING).ok_or(MALFORMED)?;
        content(arc, value, facts, public_key_info, ca)?;
        seen.push((arc, critical));
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

/// id-kp-serverAuth and id-kp-clientAuth, whole.
const SERVER: &[u8] = b"\x06\x08\x2b\x06\x01\x05\x05\x07\x03\x01";
const CLIENT: &[u8] = b"\x06\x08\x2b\x06\x01\x05\x05\x07\x03\x02";

/// Whether one extension says what it should.
fn content(arc: u8, value: &[u8], facts: &Facts, public_key_info: &[u8], ca: &CaSnapshot) -> Result<(), Finding> {
    let (right, rule) = match arc {
        extension::KEY_USAGE => {
            // digitalSignature, and keyEncipherment for RSA: the named bits without trailing zeros (X.690, 11.2.2).
            let bits: [u8; 2] = match facts.key {
                KeyAlgorithm::Rsa(_) => [5, 0b1010_0000],
                _ => [7, 0b1000_0000],
            };
            let right = der::only(der::BIT_STRING, value) == Some(&bits);
            (right, "the key usage does not fit the key")
        }
        extension::EXTENDED_KEY_USAGE => {
            let client = match facts.subject {
                Subject::Workload(_) => CLIENT,
                Subject::Server(_) => &[],
            };
            let purposes = der::only(der::SEQUENCE, value).and_then(|list| list.strip_prefix(SERVER));
            (purposes == Some(client), "the extended key usage is another one")
        }
        extension::BASIC_CONSTRAINTS => (
            der::only(der::SEQUENCE, value) == Some(&[]),
            "the basic constraints are not those of a leaf",
        ),
        extension::SUBJECT_KEY_ID => (
            der::only(der::OCTET_STRING, value) == Some(&key_id(public_key_info)),
            "the subject key identifier is not that of the key",
        ),
        extension::AUTHORITY_KEY_ID => {
            let right = match (der::only(der::SEQUENCE, value), ca.signer().key_id()) {
                (Some(list), Some(id)) => der::only(0x80, list) == Some(id),
                (list, None) => list == Some(&[]),
                (None, Some(_)) => false,
            };
            (right, "the authority key identifier is not the signer's")
        }
        extension::SUBJECT_ALTERNATIVE_NAME => (
            der::only(der::SEQUENCE, value).is_some_and(|list| names_are_right(list, &facts.subject)),
            "the names are not exactly the ones that it should have",
        ),
        _ => return Err(FOREIGN),
    };
    if right { Ok(()) } else { Err(Finding(rule)) }
}

fn names_are_right(list: &[u8], subject: &Subject) -> bool {
    match subject {
        Subject::Workload(grant) => der::only(0x86, list) == Some(grant.identity().to_string().as_bytes()),
        Subject::Server(names) => {
            let mut wanted = names.iter();
            let equal = der::each(list, |found| {
                let right = match wanted.next()? {
                    ServingName::Dns(name) => found.of(0x82) == Some(name.as_bytes()),
                    ServingName::Ip(IpAddr::V4(address)) => found.of(0x87) == Some(&address.octets()),
                    ServingName::Ip(IpAddr::V6(address)) => found.of(0x87) == Some(&address.octets()),
                };
                right.then_some(())
            });
            !names.is_empty() && equal.is_some() && wanted.next().is_none()
        }
    }
}

#[cfg(test)]
mod tests;
