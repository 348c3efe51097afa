//! A certificate with another issuer, validity and serial number, everything else byte for byte as it was.
//!
//! Takes: a certificate, and who signs it now. Gives: the certificate, signed. The issuer's name is copied and not written anew: some
//! companies' names do not survive being parsed.

use time::OffsetDateTime;
use yasna::Tag;
use yasna::tags::{TAG_GENERALIZEDTIME, TAG_UTCTIME};

use super::root::RootError;
use crate::model::{CaCertificate, Serial, Timestamp, Validity, der};
use crate::platform::crypto::SigningKey;

/// Signs what a certificate says once more. `issuer` is the DER of the signer's name.
pub(super) fn reissue(
    certificate: &[u8],
    issuer: &[u8],
    key: &SigningKey,
    validity: Validity,
    serial: Serial,
) -> Result<CaCertificate, RootError> {
    let [to_be_signed, _, _] = der::members(der::SEQUENCE, certificate).ok_or(RootError::Shape)?;
    let mut elements = Vec::new();
    der::each(to_be_signed.content, |element| {
        elements.push(element.whole);
        Some(())
    })
    .ok_or(RootError::Shape)?;
    // RFC 5280, 4.1: version, serial number, signature, issuer, validity, subject, key, extensions.
    let [version @ [0xa0, ..], _, _, _, _, subject, rest @ ..] = elements.as_slice() else {
        return Err(RootError::Shape);
    };
    let algorithm = key.signature_algorithm().der();
    let times = [validity.not_before, validity.not_after].map(time);
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
    let signature = key.sign(&to_be_signed).map_err(|_| RootError::Shape)?;
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
