//! Values and pure rules that every other room speaks in.
//!
//! Takes: bytes and text. Gives: checked values. Not here: I/O, async, the clock, randomness, keys.

mod bundle;
mod ca_certificate;
pub mod der;
mod error;
mod fingerprint;
mod identity;
pub mod key_algorithm;
mod name_text;
mod names;
pub mod pem;
mod request;
mod serial;
mod time;

pub use bundle::Bundle;
pub use ca_certificate::{CaCertificate, CertificateError};
pub use error::Kind;
pub use fingerprint::{Fingerprint, FingerprintError};
pub use identity::{Identity, IdentityError, TrustDomain, shorten};
pub use key_algorithm::KeyAlgorithm;
pub use names::{ServingName, ServingNameError};
pub use request::{BearerToken, ClientCertificate, Credentials, Impersonation, Request};
pub use serial::Serial;
pub use time::{Lifetime, Timestamp, Validity};
