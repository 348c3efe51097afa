//! What an admin reads in the log when the CA changes.

use super::rotation::Rotation;
use super::state::CaState;

/// Says what is different.
pub(super) fn changes(before: &CaState, after: &CaState, rotation: &Rotation) {
    let generation = rotation.number();
    let joined = after
        .bundle
        .roots()
        .iter()
        .filter(|root| !before.bundle.roots().contains(root));
    for root in joined {
        tracing::info!(root = root.subject_text(), fingerprint = %root.fingerprint(), generation, "a root was published: clients are told to trust it");
    }
    let left = before
        .bundle
        .roots()
        .iter()
        .filter(|root| !after.bundle.roots().contains(root));
    for root in left {
        tracing::info!(root = root.subject_text(), fingerprint = %root.fingerprint(), generation, "a root was retired: clients are not told to trust it any more");
    }
    match (&before.signing, &after.signing) {
        (Ok(before), Ok(after)) if before.signer() == after.signer() => {}
        (_, Ok(after)) => {
            tracing::info!(signer = after.signer().subject_text(), fingerprint = %after.signer().fingerprint(), not_after = %after.validity().not_after, generation, "a new signing certificate is in use");
        }
        (Ok(_), Err(why)) => tracing::error!(%why, "nothing is signed any more"),
        (Err(_), Err(_)) => {}
    }
}
