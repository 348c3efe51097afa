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

    /// The content bytes of the DER INTEGER.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Upper-case hexadecimal without separators, as `openssl x509 -serial` prints it.
impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02X}"))
    }
}

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
