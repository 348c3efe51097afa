//! Health that means something: every few seconds the active key signs and the signature is verified. Probes read the last result, so that
//! a flood of them costs nothing.

use std::time::Duration;

use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use super::Parts;
use crate::authority::{CaSnapshot, CaState};
use crate::model::{Lifetime, Timestamp};
use crate::platform::shutdown::Shutdown;
use crate::telemetry::{Condition, Seldom, Trouble};

/// How old an answer may be.
const EVERY: Duration = Duration::from_secs(5);

/// From when on the end of a CA certificate is said every day, in seconds.
const WARN_BEFORE: i64 = 30 * 86_400;

const SERVICE: &str = "istio.v1.auth.IstioCertificateService";

/// Checks, and tells everyone who asks.
pub struct Health {
    reporter: HealthReporter,
    parts: Parts,
    signing: Condition,
    ending: Seldom,
    /// What was reported last.
    told: Option<ServingStatus>,
}

impl Health {
    /// Nothing is healthy before the first check.
    pub fn new(reporter: HealthReporter, parts: Parts) -> Self {
        let signing = parts
            .readiness
            .await_condition("signing", "no test signature was made yet");
        Self {
            reporter,
            parts,
            signing,
            ending: Seldom::every(86_400),
            told: None,
        }
    }

    /// Checks until asked to stop, then says that we no longer serve.
    pub async fn keep_checking(mut self, mut shutdown: Shutdown) {
        let mut ca = self.parts.issuer.ca();
        loop {
            tokio::select! {
                () = shutdown.asked() => break,
                () = tokio::time::sleep(EVERY) => {}
                changed = ca.changed() => if changed.is_err() { break },
            }
            self.check().await;
        }
        self.report(ServingStatus::NotServing).await;
    }

    /// Signs and verifies once.
    pub async fn check(&mut self) {
        let ca = self.parts.issuer.ca().borrow().clone();
        let now = self.parts.clock.now();
        let minimum = self.parts.issuer.minimum_lifetime();
        if let Ok(signing) = &ca.signing
            && let not_after = signing.validity().not_after
            && not_after.since(now) < WARN_BEFORE
            && self.ending.is_due(now)
        {
            let days = not_after.since(now) / 86_400;
            tracing::warn!(%not_after, days, "a certificate of the CA ends soon; from then on nothing is issued: renew it");
        }
        let check = tokio::task::spawn_blocking(move || can_sign(&ca, now, minimum));
        match check
            .await
            .unwrap_or_else(|gone| Err(trouble("the check itself failed", &gone)))
        {
            Ok(()) => self.signing.met(),
            Err(trouble) => self.signing.failed(trouble),
        }
        let ready = self.parts.readiness.report().is_ready();
        self.report(if ready {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        })
        .await;
    }

    /// Changes only: whoever watches is sent every report, and the gRPC health protocol promises it changes.
    async fn report(&mut self, status: ServingStatus) {
        if self.told.replace(status) == Some(status) {
            return;
        }
        // The empty name stands for the whole server (the gRPC health protocol).
        self.reporter.set_service_status("", status).await;
        self.reporter.set_service_status(SERVICE, status).await;
    }
}

fn can_sign(ca: &CaState, now: Timestamp, minimum: Lifetime) -> Result<(), Trouble> {
    match &ca.signing {
        Ok(ca) => test_signature(ca, now, minimum),
        Err(why) => Err(trouble(
            "the CA may not sign now: countersign root status says why",
            why,
        )),
    }
}

fn trouble(public: &'static str, detail: &dyn std::fmt::Display) -> Trouble {
    Trouble {
        public,
        detail: detail.to_string(),
    }
}

fn test_signature(ca: &CaSnapshot, now: Timestamp, minimum: Lifetime) -> Result<(), Trouble> {
    let validity = ca.validity();
    if !validity.contains(now) || validity.not_after.since(now) < minimum.seconds() {
        let public = "the CA's certificates are not valid now or end too soon: renew the signing certificate";
        let detail = format_args!(
            "the CA's certificates are valid from {} to {}: renew the signing certificate",
            validity.not_before, validity.not_after
        );
        return Err(trouble(public, &detail));
    }
    ca.ca()
        .test_signature()
        .map_err(|error| trouble("a test signature of the CA's key failed", &error))
}
