//! Reads PEM files as administrators make them: with a byte order mark, CRLF, text around the blocks, indentation, or two blocks joined for want of
//! a newline. Whatever could be read in two ways is refused: a block that a reader skips in silence would be a root that nobody trusts.
//!
//! Takes: a file's bytes. Gives: every block with its label, or where the text is broken. Not here: what a block means.

use base64::Engine;
use zeroize::Zeroizing;

/// One block.
pub struct Block {
    /// What stands between `-----BEGIN ` and `-----`.
    pub label: String,
    /// The line of its BEGIN, from 1.
    pub line: usize,
    /// Its headers say that its content is encrypted (RFC 1421, as OpenSSL's traditional keys have it); then `der` is empty.
    pub encrypted: bool,
    /// The decoded bytes; may be a private key.
    pub der: Zeroizing<Vec<u8>>,
}

/// Why a file is not PEM text that can be read in exactly one way.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PemError {
    /// Nothing in it.
    #[error("it is empty")]
    Empty,
    /// Not text.
    #[error("it is binary (DER or PKCS#12), not PEM text")]
    Binary,
    /// Text that others read differently.
    #[error("it is UTF-16 text")]
    Utf16,
    /// Text without a block.
    #[error("it holds no PEM block")]
    NoBlock,
    /// More blocks than the caller can take.
    #[error("it holds more than {0} PEM blocks")]
    TooMany(usize),
    /// A begin or end that some readers see and others do not.
    #[error("line {0} looks like the begin or end of a PEM block but is not exactly one")]
    Marker(usize),
    /// An end too many.
    #[error("line {0} ends a block that did not begin")]
    EndWithoutBegin(usize),
    /// A block that goes on into the next, or beyond the file.
    #[error("the block that begins in line {0} has no end line of its own")]
    NoEnd(usize),
    /// Not base64.
    #[error("the block that begins in line {0} is not base64 text")]
    Base64(usize),
}

impl PemError {
    /// What to do about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Empty | Self::NoBlock => "put the PEM text there",
            Self::Binary => {
                "convert it: openssl x509 -inform DER -in FILE for a certificate, openssl pkey -inform DER -in FILE for a key, \
                 openssl pkcs12 -in FILE -nodes for PKCS#12"
            }
            Self::Utf16 => "save it as plain text (UTF-8), as other programs that use the file need it too",
            Self::TooMany(_) => "keep only the certificates that are needed",
            Self::Marker(_) | Self::EndWithoutBegin(_) | Self::NoEnd(_) | Self::Base64(_) => {
                "copy the file again from where it was made; a part of it was lost or changed"
            }
        }
    }
}

enum Line<'a> {
    Begin(&'a [u8], &'a [u8]),
    End(&'a [u8], &'a [u8]),
    Text,
    Broken,
}

struct Open<'a> {
    label: &'a [u8],
    line: usize,
    encrypted: bool,
    body: Zeroizing<Vec<u8>>,
}

/// All blocks in order, at most `most`.
pub fn blocks(bytes: &[u8], most: usize) -> Result<Vec<Block>, PemError> {
    match bytes {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => return Err(PemError::Utf16),
        // Every DER structure of use here holds an INTEGER, whose tag is 2.
        [0x30, rest @ ..] if rest.contains(&2) => return Err(PemError::Binary),
        _ => {}
    }
    if is_blank(bytes) {
        return Err(PemError::Empty);
    }
    // Lone carriage returns are line ends where there are no others.
    let line_end = if bytes.contains(&b'\n') { b'\n' } else { b'\r' };
    let mut found = Vec::new();
    let mut open: Option<Open<'_>> = None;
    // What follows this line.
    let mut ahead = bytes;
    for (index, line) in bytes.split(|byte| *byte == line_end).enumerate() {
        let number = index + 1;
        ahead = ahead.get(line.len() + 1..).unwrap_or_default();
        let mut rest = bare(line);
        loop {
            let after = match (classify(rest), open.as_mut()) {
                (Line::Broken, _) => return Err(PemError::Marker(number)),
                (Line::Begin(_, _), Some(open)) => return Err(PemError::NoEnd(open.line)),
                (Line::End(_, _), None) => return Err(PemError::EndWithoutBegin(number)),
                (Line::Begin(label, after), None) => {
                    if found.len() == most {
                        return Err(PemError::TooMany(most));
                    }
                    open = Some(Open {
                        label,
                        line: number,
                        encrypted: false,
                        // Room for all of it at once: a buffer that grows would leave copies of a key behind.
                        body: Zeroizing::new(Vec::with_capacity(find(ahead, b"-----END").unwrap_or(ahead.len()))),
                    });
                    if !after.is_empty() {
                        return Err(PemError::Marker(number));
                    }
                    after
                }
                (Line::End(label, after), Some(begun)) => {
                    if begun.label != label {
                        return Err(PemError::NoEnd(begun.line));
                    }
                    found.extend(open.take().map(close).transpose()?);
                    if !after.is_empty() && !matches!(classify(after), Line::Begin(_, _)) {
                        return Err(PemError::Marker(number));
                    }
                    after
                }
                (Line::Text, Some(open)) => {
                    take_text(open, rest);
                    b""
                }
                (Line::Text, None) => b"",
            };
            if after.is_empty() {
                break;
            }
            rest = after;
        }
    }
    match open {
        Some(open) => Err(PemError::NoEnd(open.line)),
        None if found.is_empty() => Err(PemError::NoBlock),
        None => Ok(found),
    }
}

/// Whether a file holds nothing but white space and byte order marks.
pub fn is_blank(bytes: &[u8]) -> bool {
    bare(bytes).is_empty()
}

fn bare(text: &[u8]) -> &[u8] {
    let text = text.trim_ascii();
    text.strip_prefix(b"\xef\xbb\xbf").map_or(text, bare)
}

fn classify(line: &[u8]) -> Line<'_> {
    let marker = |prefix: &[u8]| {
        let rest = line.strip_prefix(prefix)?;
        let length = find(rest, b"-----")?;
        let (label, after) = (&rest[..length], &rest[length + 5..]);
        let plain = |byte: &u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || matches!(byte, b' ' | b'#');
        (label.len() <= 64 && label.iter().all(plain)).then_some((label, bare(after)))
    };
    if let Some((label, after)) = marker(b"-----BEGIN ") {
        return Line::Begin(label, after);
    }
    if let Some((label, after)) = marker(b"-----END ") {
        return Line::End(label, after);
    }
    // Dashes that a word processor changed, four of them, a marker in the middle of a line.
    let dash = line.starts_with(b"-") || line.starts_with(b"\xe2\x80\x93") || line.starts_with(b"\xe2\x80\x94");
    let says = |word: &[u8]| find(line, word).is_some();
    if says(b"-----BEGIN") || says(b"-----END") || (dash && (says(b"BEGIN ") || says(b"END "))) {
        return Line::Broken;
    }
    Line::Text
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|window| window == wanted)
}

fn take_text(open: &mut Open<'_>, line: &[u8]) {
    if line.contains(&b':') && open.body.is_empty() {
        open.encrypted |= line.starts_with(b"Proc-Type:") && find(line, b"ENCRYPTED").is_some();
    } else {
        open.body.extend(line.iter().filter(|byte| !byte.is_ascii_whitespace()));
    }
}

fn close(open: Open<'_>) -> Result<Block, PemError> {
    let mut der = Zeroizing::new(Vec::with_capacity(open.body.len()));
    if !open.encrypted {
        base64::engine::general_purpose::STANDARD
            .decode_vec(open.body.as_slice(), &mut der)
            .map_err(|_| PemError::Base64(open.line))?;
    }
    Ok(Block {
        label: String::from_utf8_lossy(open.label).into_owned(),
        line: open.line,
        encrypted: open.encrypted,
        der,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MOST: usize = 64;

    fn labels(text: &[u8]) -> Result<Vec<(String, Vec<u8>)>, PemError> {
        Ok(blocks(text, MOST)?
            .into_iter()
            .map(|block| (block.label, block.der.to_vec()))
            .collect())
    }

    fn two() -> Result<Vec<(String, Vec<u8>)>, PemError> {
        Ok(vec![("A".into(), b"abc".to_vec()), ("B C".into(), b"d".to_vec())])
    }

    #[test]
    fn understands_what_people_make() {
        for text in [
            "-----BEGIN A-----\nYWJj\n-----END A-----\n-----BEGIN B C-----\nZA==\n-----END B C-----\n",
            "-----BEGIN A-----\r\nYWJj\r\n-----END A-----\r\n-----BEGIN B C-----\r\nZA==\r\n-----END B C-----",
            "-----BEGIN A-----\rYWJj\r-----END A-----\r-----BEGIN B C-----\rZA==\r-----END B C-----\r",
            "\u{feff}-----BEGIN A-----\nYWJj\n-----END A----------BEGIN B C-----\nZA==\n-----END B C-----",
            "\u{feff}-----BEGIN A-----\nYWJj\n-----END A-----\u{feff}-----BEGIN B C-----\nZA==\n-----END B C-----",
            "subject=O = x\nBag Attributes: -\n  -----BEGIN A-----\n  YW\n  Jj\n  -----END A----- \n\n# and\n-----BEGIN B C-----\nKey: value\n\nZA==\n-----END B C-----\nend",
        ] {
            assert_eq!(labels(text.as_bytes()), two(), "{text}");
        }
    }

    #[test]
    fn refuses_what_has_two_readings() {
        let a = "-----BEGIN A-----\nYWJj\n-----END A-----\n";
        for (text, error) in [
            (String::new(), PemError::Empty),
            (" \r\n\u{feff}".into(), PemError::Empty),
            ("some words".into(), PemError::NoBlock),
            ("0 words".into(), PemError::NoBlock),
            ("-----BEGIN A-----\nYWJj\n".into(), PemError::NoEnd(1)),
            (format!("\n-----BEGIN A-----\nYWJj\n{a}"), PemError::NoEnd(2)),
            ("-----BEGIN A-----\nYWJj\n-----END B-----\n".into(), PemError::NoEnd(1)),
            (format!("{a}YWJj\n-----END A-----\n"), PemError::EndWithoutBegin(5)),
            (
                format!("{a}----BEGIN A-----\nYWJj\n----END A-----\n"),
                PemError::Marker(4),
            ),
            (
                format!("{a}\u{2014}\u{2013}BEGIN A\u{2014}\u{2013}\n"),
                PemError::Marker(4),
            ),
            (format!("text {a}"), PemError::Marker(1)),
            ("-----BEGIN A-----YWJj-----END A-----".into(), PemError::Marker(1)),
            (
                "-----BEGIN A-----\nYWJj\n-----END A-----\\n".into(),
                PemError::Marker(3),
            ),
            ("-----BEGIN A-----\nYWJ\n-----END A-----".into(), PemError::Base64(1)),
            (
                "-----BEGIN A-----\nYWK=\nYWJj\n-----END A-----".into(),
                PemError::Base64(1),
            ),
            (a.repeat(MOST + 1), PemError::TooMany(MOST)),
        ] {
            assert_eq!(labels(text.as_bytes()), Err(error), "{text}");
        }
        assert_eq!(labels(b"\x30\x0a\x02\x01\x00"), Err(PemError::Binary));
        assert_eq!(labels(b"\xff\xfe-\0"), Err(PemError::Utf16));
    }

    #[test]
    fn sees_encryption() {
        let text = "-----BEGIN A-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nYWJj\n-----END A-----\n";
        let found = blocks(text.as_bytes(), MOST).unwrap();
        assert!(found[0].encrypted && found[0].der.is_empty() && found[0].line == 1);
    }

    proptest! {
        #[test]
        fn never_panics(text in proptest::collection::vec(prop_oneof![
            Just("-----BEGIN A-----"), Just("-----END A-----"), Just("\n"), Just("\r"), Just("YWJj"), Just("-----"), Just("="), Just("\u{feff}"), Just(":"),
        ], 0..30)) {
            let _ = blocks(text.concat().as_bytes(), MOST);
        }
    }
}
