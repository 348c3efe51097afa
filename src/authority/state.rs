//! What the rest of the house sees of the CA: one value behind a `watch` channel, read once per request.

use std::sync::Arc;

use super::CaSnapshot;
use crate::model::{Bundle, CaCertificate, Timestamp};

/// The CA at one moment.
#[derive(Clone, Debug)]
pub struct CaState {
    /// What signs, or why nothing does.
    pub signing: Result<Arc<CaSnapshot>, Stopped>,
    /// The roots that clients are told to trust, also when nothing signs.
    pub bundle: Bundle,
    /// What signs our own serving certificates, and until when one must last. Clients check their channel to us against a root file of their own, so
    /// the root of these changes last.
    pub serving: Option<(Arc<CaSnapshot>, Option<Timestamp>)>,
    /// The certificates that signed leaves which may still be valid: such a leaf may renew itself.
    pub signers: Vec<CaCertificate>,
}

/// Why nothing is signed: what happened, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Stopped(pub String);

impl CaState {
    /// Before anything signs; `None` without a root.
    pub(super) fn before(roots: &[CaCertificate]) -> Option<Self> {
        Some(Self {
            signing: Err(Stopped("the CA is being opened".into())),
            bundle: Bundle::new(roots.iter().cloned())?,
            serving: None,
            signers: Vec::new(),
        })
    }

    /// A CA that never changes.
    pub fn fixed(snapshot: Arc<CaSnapshot>) -> Self {
        Self {
            bundle: snapshot.bundle().clone(),
            signers: vec![snapshot.signer().clone()],
            serving: Some((snapshot.clone(), None)),
            signing: Ok(snapshot),
        }
    }
}
