//! The seam for randomness.

use ring::rand::SecureRandom;

/// Where unpredictable bytes come from.
pub trait Random: Send + Sync {
    /// Sixteen bytes; an error when the host has none to give.
    fn bytes16(&self) -> Result<[u8; 16], RandomError>;
}

/// The host gave no randomness.
#[derive(Debug, thiserror::Error)]
#[error("the system's random number generator failed")]
pub struct RandomError;

/// The host's generator.
#[derive(Clone, Debug)]
pub struct SystemRandom(ring::rand::SystemRandom);

impl Default for SystemRandom {
    fn default() -> Self {
        Self(ring::rand::SystemRandom::new())
    }
}

impl Random for SystemRandom {
    fn bytes16(&self) -> Result<[u8; 16], RandomError> {
        let mut bytes = [0; 16];
        self.0.fill(&mut bytes).map_err(|_| RandomError)?;
        Ok(bytes)
    }
}
