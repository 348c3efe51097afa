//! PEM (RFC 7468): read strictly, from files ([`blocks`]) and from callers ([`single`]), and written in one spelling.

mod armour;

use base64::Engine;

pub use self::armour::{Block, PemError, blocks, is_blank};

/// The label of a certificate.
pub const CERTIFICATE: &str = "CERTIFICATE";

/// The bytes of a text that is exactly one block with this label and nothing else; white space may stand around it and between its base64
/// characters (RFC 7468, 3, lax). Headers as of old encrypted keys, a second block, text around it: `None`.
pub fn single(label: &str, text: &str) -> Option<Vec<u8>> {
    let (begin, end) = text.trim_ascii().rsplit_once("-----END ")?;
    let body = begin
        .strip_prefix("-----BEGIN ")?
        .strip_prefix(label)?
        .strip_prefix("-----")?;
    if end.strip_prefix(label)? != "-----" {
        return None;
    }
    // The lines that carry the labels carry nothing else.
    if !body.starts_with(['\r', '\n']) || !body.ends_with(['\r', '\n']) {
        return None;
    }
    let mut base64 = Vec::with_capacity(body.len());
    for piece in body.as_bytes().split(u8::is_ascii_whitespace) {
        base64.extend_from_slice(piece);
    }
    base64::engine::general_purpose::STANDARD.decode(base64).ok()
}

/// One block in the one spelling that we write: 64 characters a line, every line ended by `\n`. The last element of an answer is compared
/// byte by byte by Istio's agent, so the spelling may never change.
pub fn encode(label: &str, der: &[u8]) -> String {
    const LINE: usize = 64;
    let base64 = base64::engine::general_purpose::STANDARD.encode(der);
    let mut text = String::with_capacity(base64.len() + base64.len() / LINE + 2 * label.len() + 40);
    text.push_str("-----BEGIN ");
    text.push_str(label);
    text.push_str("-----\n");
    let mut rest = base64.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(LINE.min(rest.len()));
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    text.push_str("-----END ");
    text.push_str(label);
    text.push_str("-----\n");
    text
}

/// A certificate in PEM.
pub fn certificate(der: &[u8]) -> String {
    encode(CERTIFICATE, der)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn reads_what_it_writes(der in proptest::collection::vec(any::<u8>(), 1..300)) {
            let text = certificate(&der);
            prop_assert!(text.lines().all(|line| line.len() <= 64));
            let found = blocks(text.as_bytes(), 1).unwrap();
            prop_assert_eq!(found[0].label.as_str(), CERTIFICATE);
            prop_assert_eq!(&*found[0].der, &der);
            prop_assert_eq!(single("CERTIFICATE", &text), Some(der.clone()));
            prop_assert_eq!(single("CERTIFICATE", &text.replace('\n', "\r\n")), Some(der));
            prop_assert_eq!(single("CERTIFICATE REQUEST", &text), None);
        }

        #[test]
        fn reads_any_text(text in "(-----BEGIN X-----)?[\n A-Za-z0-9+/=-]{0,40}(-----END X-----)?\\PC{0,5}") {
            let _ = blocks(text.as_bytes(), 2);
            let _ = single("X", &text);
        }
    }
}
