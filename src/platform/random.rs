//! The seam for randomness.

use std::sync::Mutex;

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

/// The host's generator, asked for many bytes at once: each question is a system call. Not for secrets, which should not wait in memory.
#[derive(Debug)]
pub struct SystemRandom {
    host: ring::rand::SystemRandom,
    waiting: Mutex<Vec<[u8; 16]>>,
}

impl Default for SystemRandom {
    fn default() -> Self {
        Self {
            host: ring::rand::SystemRandom::new(),
            waiting: Mutex::default(),
        }
    }
}

impl Random for SystemRandom {
    fn bytes16(&self) -> Result<[u8; 16], RandomError> {
        let mut waiting = self.waiting.lock().unwrap_or_else(|broken| broken.into_inner());
        if let Some(bytes) = waiting.pop() {
            return Ok(bytes);
        }
        let mut many = [0; 1024];
        self.host.fill(&mut many).map_err(|_| RandomError)?;
        waiting.extend(many.as_chunks().0);
        waiting.pop().ok_or(RandomError)
    }
}
