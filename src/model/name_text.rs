//! Distinguished names for people, whatever string types a company's CA wrote them in.

use x509_parser::asn1_rs::{Any, Tag};
use x509_parser::objects::{oid_registry, oid2abbrev};
use x509_parser::x509::X509Name;

/// Longest text; a name is as long as its certificate allows, a log line is not.
const LONGEST: usize = 400;

/// A name in the order of its encoding, `O=Example, CN=Root`, attributes of one RDN joined by `+`. Never fails: what is no text is shown in
/// hexadecimal, and control characters as `�`, since the text goes into logs.
pub(super) fn of(name: &X509Name<'_>) -> String {
    let mut text = String::new();
    for rdn in name.iter() {
        for (index, attribute) in rdn.iter().enumerate() {
            if !text.is_empty() {
                text.push_str(if index == 0 { ", " } else { " + " });
            }
            match oid2abbrev(attribute.attr_type(), oid_registry()) {
                Ok(known) => text.push_str(known),
                Err(_) => text.push_str(&attribute.attr_type().to_id_string()),
            }
            text.push('=');
            text.extend(
                value(attribute.attr_value())
                    .chars()
                    .map(|char| if char.is_control() { '\u{fffd}' } else { char }),
            );
        }
    }
    if let Some((end, _)) = text.char_indices().nth(LONGEST) {
        text.truncate(end);
        text.push('…');
    }
    text
}

fn value(value: &Any<'_>) -> String {
    let bytes = value.data;
    match value.tag() {
        // Everybody writes Latin-1 into these two, whatever T.61 says.
        Tag::T61String | Tag::GeneralString if std::str::from_utf8(bytes).is_err() => {
            bytes.iter().map(|byte| char::from(*byte)).collect()
        }
        Tag::BmpString => {
            let units: Vec<u16> = bytes
                .chunks(2)
                .map(|pair| pair.iter().fold(0, |unit, byte| unit << 8 | u16::from(*byte)))
                .collect();
            String::from_utf16_lossy(&units)
        }
        Tag::Utf8String
        | Tag::PrintableString
        | Tag::Ia5String
        | Tag::T61String
        | Tag::GeneralString
        | Tag::NumericString
        | Tag::VisibleString => String::from_utf8_lossy(bytes).into_owned(),
        _ => bytes
            .iter()
            .fold("#".to_owned(), |text, byte| format!("{text}{byte:02x}")),
    }
}
