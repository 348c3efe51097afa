//! Who signs: our own key, over exactly the bytes of a [`Plan`].

use std::sync::Arc;

use super::plan::{Facts, Plan, sequence};
use crate::authority::CaSnapshot;
use crate::platform::crypto::SigningError;

/// A signed certificate that is not on record yet. It stays inside this room.
#[derive(Debug)]
pub struct Signed {
    certificate: Vec<u8>,
    facts: Facts,
    ca: Arc<CaSnapshot>,
}

impl Signed {
    /// The certificate, what it says, and the CA that signed it.
    pub(super) fn into_parts(self) -> (Vec<u8>, Facts, Arc<CaSnapshot>) {
        (self.certificate, self.facts, self.ca)
    }
}

/// Signs.
pub fn sign(plan: Plan) -> Result<Signed, SigningError> {
    let (to_be_signed, facts, ca) = plan.into_parts();
    let signature = ca.key().sign(&to_be_signed)?;
    let certificate = sequence(|writer| {
        writer.next().write_der(&to_be_signed);
        writer.next().write_der(ca.key().signature_algorithm().der());
        writer.next().write_bitvec_bytes(&signature, signature.len() * 8);
    });
    Ok(Signed { certificate, facts, ca })
}
