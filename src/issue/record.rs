//! What do we remember? A certificate leaves only when it is on record. Today the record is one line of the log; a durable ledger takes
//! its place behind the same door.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::plan::{Facts, Subject};
use super::sign::Signed;
use crate::authority::{CaSnapshot, NotCovered};
use crate::model::pem;

/// A certificate that may leave.
#[derive(Debug)]
pub struct Issued {
    certificate: Vec<u8>,
    facts: Facts,
    ca: Arc<CaSnapshot>,
}

impl Issued {
    /// The certificate, DER.
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    /// What it says.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// The CA that signed it.
    pub fn ca(&self) -> &Arc<CaSnapshot> {
        &self.ca
    }

    /// How the caller was proven; for our own serving certificate, that it is ours.
    pub fn method(&self) -> &'static str {
        match &self.facts.subject {
            Subject::Workload(grant) => grant.caller().proof().method.as_str(),
            Subject::Server(_) => "serving",
        }
    }

    /// What clients are answered with: the leaf, each intermediate, the whole bundle.
    pub fn answer(&self) -> Vec<String> {
        std::iter::once(pem::certificate(&self.certificate))
            .chain(self.ca.tail().iter().cloned())
            .collect()
    }
}

/// Puts a workload's certificate on record. `peer` asked for it, which took `took` so far.
pub async fn record(signed: Signed, peer: Option<SocketAddr>, took: Duration) -> Result<Issued, NotCovered> {
    let (certificate, facts, ca) = signed.into_parts();
    ca.coverage().admit(facts.validity.not_after).await?;
    if let Subject::Workload(grant) = &facts.subject {
        let proof = grant.caller().proof();
        tracing::info!(
            target: "countersign::issued",
            identity = %grant.identity(),
            caller = %grant.caller().identity(),
            serial = %facts.serial,
            not_after = %facts.validity.not_after,
            lifetime_seconds = facts.validity.not_after.since(facts.validity.not_before),
            clamped = facts.clamped,
            key = %facts.key,
            method = proof.method.as_str(),
            cluster = proof.cluster.as_deref(),
            pod = proof.pod.as_ref().map(|pod| pod.name.as_str()),
            pod_uid = proof.pod.as_ref().map(|pod| pod.uid.as_str()),
            node = proof.node.as_deref(),
            credential_id = proof.credential_id.as_deref(),
            peer = peer.map(tracing::field::display),
            generation = ca.generation(),
            duration_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
            "issued"
        );
    }
    Ok(Issued { certificate, facts, ca })
}

/// Puts our own server's certificate on record.
pub fn serving(signed: Signed) -> Issued {
    let (certificate, facts, ca) = signed.into_parts();
    if let Subject::Server(names) = &facts.subject {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        tracing::info!(
            target: "countersign::issued",
            names = names.join(","),
            serial = %facts.serial,
            not_after = %facts.validity.not_after,
            generation = ca.generation(),
            "issued our own serving certificate"
        );
    }
    Issued { certificate, facts, ca }
}
