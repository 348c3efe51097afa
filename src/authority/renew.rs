//! The same root with other dates.
//!
//! Takes: a root that signs itself, and its key. Gives: a certificate that differs in serial number, validity and signature and in nothing else:
//! whatever verifies under the one verifies under the other. (Go changed how it derives subject key identifiers, and istiod's renewed roots
//! with it; here the bytes are copied.)

use super::reissue::reissue;
use super::root::RootError;
use super::snapshot::LoadedCa;
use crate::model::{CaCertificate, Lifetime, Serial, Timestamp, Validity};
use crate::platform::Random;

/// Part of its life that a root has left when it is renewed, as istiod has it: a fifth.
const LEFT: i64 = 5;

/// Whether so little of its life is left that it should be renewed now.
pub(super) fn is_due(validity: Validity, now: Timestamp) -> bool {
    validity.not_after.since(now) < validity.not_after.since(validity.not_before) / LEFT
}

/// Renews the root of a self-signed CA.
pub(super) fn renew(
    ca: &LoadedCa,
    lifetime: Lifetime,
    now: Timestamp,
    random: &dyn Random,
) -> Result<CaCertificate, RootError> {
    let (old, serial) = (ca.signer(), Serial::from_random(random.bytes16()?));
    let validity = Validity {
        not_before: now.plus(-lifetime.backdate()),
        not_after: now.plus(lifetime.seconds()),
    };
    reissue(old.der(), old.issuer(), ca.key(), validity, serial)
}
