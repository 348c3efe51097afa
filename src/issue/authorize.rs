//! May they? Which identity the caller gets a certificate for.
//!
//! Takes: a [`Caller`] and the identity it wants. Gives: a [`Grant`]. The CSR's names have no say in it.

use super::authenticate::Caller;
use crate::model::{Identity, Impersonation, Kind};

/// Leave to certify one identity.
#[derive(Debug, Clone)]
pub struct Grant {
    identity: Identity,
    caller: Caller,
}

impl Grant {
    /// The identity to certify.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Who asked.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }
}

/// Why the caller may not.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum AuthorizeError {
    /// Nobody may ask for another's identity yet.
    #[error("{caller} asked for the identity {wanted:?} of another: impersonation is not enabled")]
    Impersonation {
        /// Who asked.
        caller: Identity,
        /// For what.
        wanted: Impersonation,
    },
}

impl AuthorizeError {
    /// As istiod answers: its clients treat a refused impersonation like a refused token.
    pub fn kind(&self) -> Kind {
        Kind::Unauthenticated
    }

    /// The word for metrics.
    pub fn label(&self) -> &'static str {
        "impersonation"
    }
}

/// A caller gets its own identity. An empty wish is none (istiod reads the field the same way).
pub fn authorize(caller: Caller, wanted: Option<&Impersonation>) -> Result<Grant, AuthorizeError> {
    match wanted {
        Some(Impersonation::Identity(wanted)) if wanted.is_empty() => {}
        None => {}
        Some(wanted) => {
            return Err(AuthorizeError::Impersonation {
                caller: caller.identity().clone(),
                wanted: wanted.clone(),
            });
        }
    }
    Ok(Grant {
        identity: caller.identity().clone(),
        caller,
    })
}
