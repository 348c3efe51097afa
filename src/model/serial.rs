//! Certificate serial numbers.

use std::fmt;

/// A serial number: 16 random bytes behind one fixed byte (0x01), so that it is always positive, never starts with a zero byte, and is 17
/// bytes long; RFC 5280, 4.1.2.2 allows 20.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Serial([u8; 17]);

impl Serial {
    /// A serial over 128 random bits.
    pub fn from_random(random: [u8; 16]) -> Self {
        let mut bytes = [1; 17];
        bytes[1..].copy_from_slice(&random);
        Self(bytes)
    }

    /// Bytes that no random number gives, for tests of those who check serials.
    #[cfg(test)]
    pub(crate) fn unchecked(bytes: [u8; 17]) -> Self {
        Self(bytes)
    }

    /// The content bytes of the DER INTEGER.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Upper-case hexadecimal without separators, as `openssl x509 -serial` prints it.
impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DIGITS: [u8; 16] = *b"0123456789ABCDEF";
        let mut text = String::with_capacity(2 * self.0.len());
        for digit in self.0.iter().flat_map(|byte| [byte >> 4, byte & 15]) {
            text.push(DIGITS[usize::from(digit)].into());
        }
        f.write_str(&text)
    }
}

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Conformance line 31: positive, at most 20 bytes, and minimal DER as it stands.
        #[test]
        fn is_positive_and_minimal(random in any::<[u8; 16]>()) {
            let serial = Serial::from_random(random);
            let bytes = serial.as_bytes();
            prop_assert!(bytes.len() <= 20 && (1..0x80).contains(&bytes[0]));
            prop_assert_eq!(&bytes[1..], &random, "no random bit is lost");
        }
    }

    #[test]
    fn prints_as_openssl_does() {
        let serial = Serial::from_random([0, 0x0a, 0xff, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
        assert_eq!(serial.to_string(), "01000AFF030405060708090A0B0C0D0E0F");
    }
}
