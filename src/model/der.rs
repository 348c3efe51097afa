//! DER's outer shape (X.690, 10.1), read strictly. Needed beside x509-parser because that one takes lengths that are not minimal and skips
//! whatever follows the last element it knows of a sequence: what is copied into a certificate, and what is signed, may hold neither.

/// SEQUENCE.
pub const SEQUENCE: u8 = 0x30;
/// SET.
pub const SET: u8 = 0x31;
/// INTEGER.
pub const INTEGER: u8 = 2;
/// BIT STRING.
pub const BIT_STRING: u8 = 3;
/// OCTET STRING.
pub const OCTET_STRING: u8 = 4;
/// OBJECT IDENTIFIER.
pub const OID: u8 = 6;

const CONSTRUCTED: u8 = 0x20;

/// One element: tag, length and content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Element<'a> {
    /// The tag with its class and constructed bits.
    pub tag: u8,
    /// What tag and length stand before.
    pub content: &'a [u8],
    /// All of it.
    pub whole: &'a [u8],
}

impl<'a> Element<'a> {
    /// The content, if the tag is this one.
    pub fn of(self, tag: u8) -> Option<&'a [u8]> {
        (self.tag == tag).then_some(self.content)
    }
}

/// The first element of `bytes`, and what follows it. Lengths have their one form and stay below 64 KiB; tag numbers stay below 31.
pub fn first(bytes: &[u8]) -> Option<(Element<'_>, &[u8])> {
    let [tag, length, after @ ..] = bytes else {
        return None;
    };
    let (length, after) = match (*length, after) {
        (short @ ..=0x7f, _) => (usize::from(short), after),
        (0x81, [length @ 0x80..=0xff, after @ ..]) => (usize::from(*length), after),
        (0x82, [high @ 1..=0xff, low, after @ ..]) => (usize::from(u16::from_be_bytes([*high, *low])), after),
        _ => return None,
    };
    let (content, rest) = after.split_at_checked(length)?;
    let element = Element {
        tag: *tag,
        content,
        whole: &bytes[..bytes.len() - rest.len()],
    };
    (tag & 0x1f != 0x1f).then_some((element, rest))
}

/// The content of `bytes`, which are exactly one element with this tag.
pub fn only(tag: u8, bytes: &[u8]) -> Option<&[u8]> {
    match first(bytes)? {
        (element, []) => element.of(tag),
        _ => None,
    }
}

/// The members of an element with this tag, which `bytes` are exactly, and which has exactly `N` of them.
pub fn members<const N: usize>(tag: u8, bytes: &[u8]) -> Option<[Element<'_>; N]> {
    let mut rest = only(tag, bytes)?;
    let nothing = Element {
        tag: 0,
        content: rest,
        whole: rest,
    };
    let mut found = [nothing; N];
    for member in &mut found {
        (*member, rest) = first(rest)?;
    }
    rest.is_empty().then_some(found)
}

/// Hands every element of `content` to `visit`; nothing once one of them is no element, or `visit` says so.
pub fn each<'a>(content: &'a [u8], mut visit: impl FnMut(Element<'a>) -> Option<()>) -> Option<()> {
    let mut rest = content;
    while !rest.is_empty() {
        let (element, after) = first(rest)?;
        visit(element)?;
        rest = after;
    }
    Some(())
}

/// Whether `content` is a row of elements, and so on inside them, at most `depth` levels down.
pub fn is_sound(content: &[u8], depth: u8) -> bool {
    each(content, |element| {
        let leaf = element.tag & CONSTRUCTED == 0;
        (leaf || depth > 0 && is_sound(element.content, depth - 1)).then_some(())
    })
    .is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lengths_have_one_form() {
        let long = [&[4, 0x81, 0x80][..], &[7; 0x80]].concat();
        let longer = [&[4, 0x82, 1, 0][..], &[7; 0x100]].concat();
        for good in [&[5, 0][..], &[4, 1, 9], &long, &longer] {
            let (element, rest) = first(good).unwrap();
            assert_eq!((element.whole, rest), (good, &[][..]));
        }
        let padded = [&[4, 0x82, 0, 0x80][..], &[7; 0x80]].concat();
        let huge = [&[4, 0x83, 1, 0, 0][..], &[7; 0x1_0000]].concat();
        let endless = [&[4, 0x88][..], &[0xff; 16]].concat();
        for bad in [
            &[][..],
            &[4],
            &[4, 1],
            &[4, 0x80, 0, 0],
            &[4, 0x81],
            &[4, 0x81, 0x7f],
            &[4, 0x81, 1, 9],
            &[4, 0xff],
            &[0x1f, 0x20, 0],
            &long[..0x82],
            &padded,
            &huge,
            &endless,
        ] {
            assert_eq!(first(bad), None, "{bad:02x?}");
        }
    }

    #[test]
    fn counts_members() {
        let pair = [0x30, 4, 5, 0, 5, 0];
        assert!(members::<2>(SEQUENCE, &pair).is_some());
        assert!(members::<1>(SEQUENCE, &pair).is_none());
        assert!(members::<3>(SEQUENCE, &pair).is_none());
        assert!(members::<2>(SET, &pair).is_none());
        assert!(members::<2>(SEQUENCE, &[0x30, 4, 5, 0, 5, 0, 0]).is_none());
    }

    #[test]
    fn looks_inside() {
        assert!(is_sound(&[0x30, 4, 0x31, 2, 5, 0], 2));
        assert!(!is_sound(&[0x30, 4, 0x31, 2, 5, 0], 1));
        assert!(!is_sound(&[0x30, 4, 0x31, 2, 5, 1], 2));
        assert!(is_sound(&[4, 2, 5, 1], 0), "a primitive's content is nobody's business");
    }

    proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let sound = is_sound(&bytes, 8);
            let listed = each(&bytes, |_| Some(())).is_some();
            prop_assert!(listed || !sound);
        }

        #[test]
        fn reads_what_another_library_writes(content in proptest::collection::vec(any::<u8>(), 0..700)) {
            let der = yasna::construct_der(|writer| writer.write_sequence(|writer| {
                writer.next().write_bytes(&content);
                writer.next().write_null();
            }));
            let [octets, null] = members::<2>(SEQUENCE, &der).unwrap();
            prop_assert_eq!(octets.of(OCTET_STRING), Some(&content[..]));
            prop_assert_eq!(null.whole, &[5, 0]);
        }
    }
}
