//! Who calls? Every way to prove it, and the order in which they count.
//!
//! Takes: a [`Request`](crate::model::Request). Gives: a [`Caller`], which only this folder can make. Not here: what the caller may have.
//!
//! Among the token authenticators the one that a token belongs to decides, and its rejection is final: only [`Verdict::NotMine`] passes on.

mod caller;

pub use caller::{Caller, Method, Pod, Proof};

/// What one authenticator says of one token or certificate.
#[derive(Debug)]
pub enum Verdict {
    /// It proves this caller.
    Accepted(Box<Caller>),
    /// Another authenticator's business: neither proof nor disproof.
    NotMine,
    /// It is mine, and it proves nothing. Final.
    Rejected(Reason),
    /// It is mine, and I cannot tell now.
    Undecided(Reason),
}

/// Why a credential was not accepted: for our log and metrics, never for the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// A short, fixed word for metrics, such as `token_expired`.
    pub label: &'static str,
    /// One line for the log, without any part of a credential.
    pub detail: String,
}

impl Reason {
    /// A reason.
    pub fn new(label: &'static str, detail: impl Into<String>) -> Self {
        Self {
            label,
            detail: detail.into(),
        }
    }
}
