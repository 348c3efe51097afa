//! Who signs: our own key, over exactly the bytes of a [`Plan`].

use std::sync::Arc;

use super::plan::{Facts, Plan, sequence};
use crate::authority::CaSnapshot;
use crate::platform::crypto::SigningError;

/// A signed certificate that is not on record yet. It stays inside this room.
#[derive(Debug)]
pub struct Signed {
    pub(super) certificate: Vec<u8>,
    pub(super) facts: Facts,
    pub(super) ca: Arc<CaSnapshot>,
}

/// Signs.
pub fn sign(plan: Plan) -> Result<Signed, SigningError> {
    let Plan {
        to_be_signed,
        facts,
        ca,
    } = plan;
    let signature = ca.key().sign(&to_be_signed)?;
    let certificate = sequence(|writer| {
        writer.next().write_der(&to_be_signed);
        writer.next().write_der(ca.key().signature_algorithm().der());
        writer.next().write_bitvec_bytes(&signature, signature.len() * 8);
    });
    Ok(Signed { certificate, facts, ca })
}
