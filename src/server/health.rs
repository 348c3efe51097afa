//! Health that means something: every few seconds the active key signs and the signature is verified. Probes read the last result, so that
//! a flood of them costs nothing.

use std::time::Duration;

use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use super::Parts;
use crate::platform::crypto;
use crate::platform::shutdown::Shutdown;

/// How old an answer may be.
const EVERY: Duration = Duration::from_secs(5);

const SERVICE: &str = "istio.v1.auth.IstioCertificateService";

/// Checks until asked to stop, then says that we no longer serve.
pub async fn keep_checking(reporter: HealthReporter, parts: Parts, mut shutdown: Shutdown) {
    let mut ca = parts.issuer.ca();
    loop {
        tokio::select! {
            () = shutdown.asked() => break,
            () = tokio::time::sleep(EVERY) => {}
            changed = ca.changed() => if changed.is_err() { break },
        }
        check(&reporter, &parts).await;
    }
    report(&reporter, ServingStatus::NotServing).await;
}

/// Signs and verifies once, and tells everyone who asks.
pub async fn check(reporter: &HealthReporter, parts: &Parts) {
    let ca = parts.issuer.ca().borrow().clone();
    let now = parts.clock.now();
    let minimum = parts.issuer.minimum_lifetime();
    let work = tokio::task::spawn_blocking(move || {
        let validity = ca.validity();
        if !validity.contains(now) || validity.not_after.since(now) < minimum.seconds() {
            return Err(format!(
                "the CA's certificates are valid from {} to {}: renew the signing certificate",
                validity.not_before, validity.not_after
            ));
        }
        let message = now.unix().to_be_bytes();
        let signature = ca.key().sign(&message).map_err(|_| "the key does not sign".to_owned())?;
        let (algorithm, key) = crypto::public_key(ca.signer().public_key_info()).map_err(|error| error.to_string())?;
        let valid = crypto::verify(algorithm, &key, ca.key().signature_algorithm(), &message, &signature);
        if valid { Ok(()) } else { Err("the key's signature does not verify with the signing certificate".to_owned()) }
    });
    let result = work.await.unwrap_or_else(|_| Err("the check itself failed".to_owned()));
    parts.readiness.set("signing", result.clone());
    let ready = result.is_ok() && parts.readiness.is_ready();
    report(reporter, if ready { ServingStatus::Serving } else { ServingStatus::NotServing }).await;
}

async fn report(reporter: &HealthReporter, status: ServingStatus) {
    // The empty name stands for the whole server (the gRPC health protocol).
    reporter.set_service_status("", status).await;
    reporter.set_service_status(SERVICE, status).await;
}
