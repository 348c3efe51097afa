//! What a single certificate must be to stand above workload certificates.
//!
//! Takes: a certificate and its place in the path. Gives: everything that a client's verifier would refuse there, and what an admin should
//! know in time.

use x509_parser::oid_registry as oid;
use x509_parser::prelude::{FromDer, ParsedExtension, X509Certificate, X509Version};

use super::certificates::Placed;
use super::finding::{Finding, Report};
use super::key::key_error;
use crate::model::Timestamp;

const DAY: i64 = 86_400;

/// Days before an expiry at which a warning changes its number, so that a log of warnings shows time running out.
const EXPIRY_STEPS: [i64; 4] = [7, 30, 60, 90];

/// Everything that forbids `placed` to stand with `below` CA certificates between it and a workload's, at `now`.
pub(super) fn faults(placed: &Placed, below: u32, is_root: bool, now: Timestamp) -> Vec<Finding> {
    let certificate = &placed.certificate;
    let mut found = Vec::new();
    let mut fault = |what: String, remedy: &str| found.push(Finding::new(&placed.place, what, remedy));
    let sign_again = if certificate.is_self_issued() {
        "use a root without that restriction"
    } else {
        "have its issuer sign a certificate for this CA without that restriction"
    };
    if let Err(error) = certificate.key() {
        fault(
            key_error(error),
            "use a CA with a P-256, P-384 or Ed25519 key, or an RSA key of 2048 to 4096 bits",
        );
    }
    if certificate.subject() == [0x30, 0] {
        // RFC 5280, 4.1.2.4: what it signs would have an empty issuer.
        fault("its subject is empty".into(), "make it with a subject");
    }
    let (version_1, unknown) = shape(placed);
    if !certificate.is_ca() || (version_1 && !is_root) {
        // A version 1 certificate cannot say that it is a CA; verifiers take it as a root at most.
        fault(
            "it is not a CA certificate: it lacks the basic constraint CA:TRUE".into(),
            "put the certificate of a CA there, not one of a server or a client",
        );
    }
    if !certificate.may_sign_certificates() {
        fault("its key usage lacks keyCertSign".into(), sign_again);
    }
    if let Some(most) = certificate.path_length().filter(|most| *most < below) {
        // Go counts every certificate below; OpenSSL leaves self-issued ones out. The stricter one decides.
        fault(
            format!("its path length {most} allows fewer CA certificates than the {below} below it"),
            "have a CA higher up sign the CA's certificate, or raise that limit",
        );
    }
    if let Some(usage) = certificate.extended_key_usage() {
        // OpenSSL, Go and webpki apply a CA's extended key usage to everything below it.
        for (allowed, name) in [(usage.server, "serverAuth"), (usage.client, "clientAuth")] {
            if !allowed {
                fault(
                    format!("its extended key usage excludes {name}, which every workload certificate needs"),
                    sign_again,
                );
            }
        }
    }
    for id in unknown {
        // RFC 5280, 4.2: whoever does not know a critical extension must refuse the certificate.
        fault(
            format!("it has a critical extension that verifiers do not know ({id})"),
            sign_again,
        );
    }
    let validity = certificate.validity();
    if now < validity.not_before {
        fault(
            format!(
                "it is not valid before {}; this machine's clock says {now}",
                validity.not_before
            ),
            "correct the clock, or wait",
        );
    }
    if now > validity.not_after {
        fault(format!("it expired at {}", validity.not_after), "renew it");
    }
    found
}

/// What of a certificate in use will matter soon, or to some clients only.
pub(super) fn warn(placed: &Placed, now: Timestamp, report: &mut Report) {
    let left = placed.certificate.validity().not_after.since(now);
    if let Some(step) = EXPIRY_STEPS.into_iter().find(|step| left < step * DAY) {
        report.warn(
            &placed.place,
            format!(
                "it expires at {}, in less than {step} days",
                placed.certificate.validity().not_after
            ),
            "renew it before then; until then no certificate below it outlives it",
        );
    }
    let Ok((_, parsed)) = X509Certificate::from_der(placed.certificate.der()) else {
        return;
    };
    for extension in parsed.extensions() {
        if matches!(extension.parsed_extension(), ParsedExtension::NameConstraints(_)) {
            report.warn(
                &placed.place,
                "it has name constraints",
                "make sure that they allow the URI names (spiffe://…) of all workloads",
            );
        }
        if extension.critical && policies().contains(&extension.oid) {
            report.warn(
                &placed.place,
                "it has a critical extension about policies, which OpenSSL and Go know and ztunnel does not",
                "have it signed with that extension not critical if the mesh uses ztunnel",
            );
        }
    }
}

fn policies() -> [oid::Oid<'static>; 4] {
    [
        oid::OID_X509_EXT_CERTIFICATE_POLICIES,
        oid::OID_X509_EXT_POLICY_MAPPINGS,
        oid::OID_X509_EXT_POLICY_CONSTRAINTS,
        oid::OID_X509_EXT_INHIBIT_ANY_POLICY,
    ]
}

/// Whether it is a version 1 certificate, and its critical extensions that no verifier in a mesh knows.
fn shape(placed: &Placed) -> (bool, Vec<String>) {
    let known = [
        oid::OID_X509_EXT_SUBJECT_KEY_IDENTIFIER,
        oid::OID_X509_EXT_KEY_USAGE,
        oid::OID_X509_EXT_SUBJECT_ALT_NAME,
        oid::OID_X509_EXT_BASIC_CONSTRAINTS,
        oid::OID_X509_EXT_NAME_CONSTRAINTS,
        oid::OID_X509_EXT_CRL_DISTRIBUTION_POINTS,
        oid::OID_X509_EXT_EXTENDED_KEY_USAGE,
    ];
    // It was parsed before; an error cannot come.
    let Ok((_, parsed)) = X509Certificate::from_der(placed.certificate.der()) else {
        return (true, Vec::new());
    };
    let unknown = parsed
        .extensions()
        .iter()
        .filter(|extension| {
            extension.critical && !known.contains(&extension.oid) && !policies().contains(&extension.oid)
        })
        .map(|extension| extension.oid.to_id_string())
        .collect();
    (parsed.version() == X509Version::V1, unknown)
}
