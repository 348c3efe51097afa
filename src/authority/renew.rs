//! The same root with other dates.
//!
//! Takes: a root that signs itself, and its key. Gives: a certificate that differs in serial number, validity and signature and in nothing else:
//! whatever verifies under the one verifies under the other. (Go changed how it derives subject key identifiers, and istiod's renewed roots
//! with it; here the bytes are copied.)

use time::OffsetDateTime;
use yasna::Tag;
use yasna::tags::{TAG_GENERALIZEDTIME, TAG_UTCTIME};

use super::root::RootError;
use super::snapshot::LoadedCa;
use crate::model::{CaCertificate, Lifetime, Serial, Timestamp, Validity, der};
use crate::platform::Random;

/// Part of its life that a root has left when it is renewed, as istiod has it: a fifth.
const LEFT: i64 = 5;

/// Whether so little of its life is left that it should be renewed now.
pub(super) fn is_due(validity: Validity, now: Timestamp) -> bool {
    validity.not_after.since(now) < validity.not_after.since(validity.not_before) / LEFT
}

/// Renews the root of a self-signed CA.
pub(super) fn renew(
    ca: &LoadedCa,
    lifetime: Lifetime,
    now: Timestamp,
    random: &dyn Random,
) -> Result<CaCertificate, RootError> {
    let old = ca.signer();
    let [to_be_signed, _, _] = der::members(der::SEQUENCE, old.der()).ok_or(RootError::Shape)?;
    let mut elements = Vec::new();
    der::each(to_be_signed.content, |element| {
        elements.push(element.whole);
        Some(())
    })
    .ok_or(RootError::Shape)?;
    // RFC 5280, 4.1: version, serial number, signature, issuer, validity, subject, key, extensions.
    let [version @ [0xa0, ..], _, _, issuer, _, subject, rest @ ..] = elements.as_slice() else {
        return Err(RootError::Shape);
    };
    let serial = Serial::from_random(random.bytes16()?);
    let algorithm = ca.key().signature_algorithm().der();
    let times = [now.plus(-lifetime.backdate()), now.plus(lifetime.seconds())].map(time);
    let [Some(not_before), Some(not_after)] = times else {
        return Err(RootError::Time);
    };
    let to_be_signed = yasna::construct_der(|writer| {
        writer.write_sequence(|writer| {
            writer.next().write_der(version);
            writer.next().write_bigint_bytes(serial.as_bytes(), true);
            writer.next().write_der(algorithm);
            writer.next().write_der(issuer);
            writer.next().write_sequence(|writer| {
                for (tag, text) in [&not_before, &not_after] {
                    writer
                        .next()
                        .write_tagged_implicit(*tag, |writer| writer.write_bytes(text.as_bytes()));
                }
            });
            writer.next().write_der(subject);
            rest.iter().for_each(|element| writer.next().write_der(element));
        });
    });
    let signature = ca.key().sign(&to_be_signed).map_err(|_| RootError::Shape)?;
    let certificate = yasna::construct_der(|writer| {
        writer.write_sequence(|writer| {
            writer.next().write_der(&to_be_signed);
            writer.next().write_der(algorithm);
            writer.next().write_bitvec_bytes(&signature, signature.len() * 8);
        });
    });
    CaCertificate::parse(&certificate).map_err(|_| RootError::Shape)
}

/// RFC 5280, 4.1.2.5: two digits of the year until 2049, four from then on.
fn time(at: Timestamp) -> Option<(Tag, String)> {
    let at = OffsetDateTime::from_unix_timestamp(at.unix()).ok()?;
    let (year, month) = (at.year(), u8::from(at.month()));
    let rest = format!(
        "{month:02}{:02}{:02}{:02}{:02}Z",
        at.day(),
        at.hour(),
        at.minute(),
        at.second()
    );
    match year {
        1950..=2049 => Some((TAG_UTCTIME, format!("{:02}{rest}", year % 100))),
        2050..=9999 => Some((TAG_GENERALIZEDTIME, format!("{year}{rest}"))),
        _ => None,
    }
}
