//! A workload that renews with a certificate which this CA issued before (Istio calls that mTLS authentication). Off by default.
//!
//! Takes: the certificate of the TLS connection. Gives: a [`Verdict`]. Not here: the handshake, which proved that the peer holds the key.
//!
//! Only what a signing certificate of our own signed directly counts (the present one, or one before it whose leaves are still valid), never what merely chains to the same root: another intermediate under a
//! company's root could otherwise mint our identities. Whatever else the peer sent is not looked at.

use std::time::Duration;

use rustls_pki_types::UnixTime;
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::{Caller, Method, Proof, Reason, Verdict};
use crate::model::{CaCertificate, ClientCertificate, Identity, KeyAlgorithm, Timestamp, TrustDomain};

/// 1.3.6.1.5.5.7.3.2, id-kp-clientAuth (RFC 5280, 4.2.1.12).
const CLIENT_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 2];

/// Whether checking a certificate of these signers belongs off the async threads.
pub fn is_slow(signers: &[CaCertificate]) -> bool {
    signers
        .iter()
        .any(|signer| signer.key().is_ok_and(KeyAlgorithm::is_slow_to_verify))
}

/// Says whose certificate this is.
pub fn authenticate(
    certificate: &ClientCertificate,
    signers: &[CaCertificate],
    trust_domain: &TrustDomain,
    now: Timestamp,
) -> Verdict {
    let judged = verify(certificate, signers, now).and_then(|()| read(certificate, trust_domain));
    match judged {
        Ok(caller) => Verdict::Accepted(Box::new(caller)),
        Err(reason) => Verdict::Rejected(reason),
    }
}

/// Issuer, signature, validity, usage, no CA, nothing critical that is not understood: as any TLS server checks its clients.
fn verify(certificate: &ClientCertificate, signers: &[CaCertificate], now: Timestamp) -> Result<(), Reason> {
    // A trust anchor's own time is nobody else's to check.
    let valid = || signers.iter().filter(|signer| signer.validity().contains(now));
    if valid().next().is_none() {
        let detail = "our signing certificate is not valid now";
        return Err(Reason::new("certificate_signer_not_valid", detail));
    }
    let unusable = |error: webpki::Error| {
        let detail = format!("our signing certificate cannot be verified against: {error}");
        Reason::new("certificate_signer_unusable", detail)
    };
    let anchors = valid().map(|signer| anchor_from_trusted_cert(signer.der()));
    let anchors = anchors.collect::<Result<Vec<_>, _>>().map_err(unusable)?;
    let leaf = EndEntityCert::try_from(&certificate.leaf).map_err(malformed)?;
    let time = UnixTime::since_unix_epoch(Duration::from_secs(now.unix().try_into().unwrap_or(0)));
    let usage = KeyUsage::required(CLIENT_AUTH);
    leaf.verify_for_usage(ALL_VERIFICATION_ALGS, &anchors, &[], time, usage, None, None)
        .map(drop)
        .map_err(|error| {
            use webpki::Error;
            let label = match error {
                Error::CertExpired { .. } => "certificate_expired",
                Error::CertNotValidYet { .. } => "certificate_not_valid_yet",
                Error::UnknownIssuer => "certificate_not_ours",
                Error::CaUsedAsEndEntity => "certificate_is_a_ca",
                Error::RequiredEkuNotFoundContext(_) | Error::EmptyEkuExtension => "certificate_usage",
                _ => "certificate_not_verified",
            };
            Reason::new(label, format!("the client certificate does not verify: {error}"))
        })
}

/// The one name in it. Our own serving certificates name hosts, so they end here.
fn read(certificate: &ClientCertificate, trust_domain: &TrustDomain) -> Result<Caller, Reason> {
    let (rest, leaf) = X509Certificate::from_der(&certificate.leaf).map_err(malformed)?;
    if !rest.is_empty() {
        return Err(malformed("bytes follow it"));
    }
    let usage = leaf.key_usage().map_err(malformed)?;
    if usage.is_some_and(|usage| usage.value.key_cert_sign() || usage.value.crl_sign()) {
        let detail = "the client certificate may sign certificates or revocation lists";
        return Err(Reason::new("certificate_is_a_ca", detail));
    }
    let names = leaf.subject_alternative_name().map_err(malformed)?;
    let names = names.map_or(&[][..], |names| &names.value.general_names);
    let [GeneralName::URI(uri)] = names else {
        let detail = format!(
            "the client certificate has {} names, not exactly one SPIFFE URI",
            names.len()
        );
        return Err(Reason::new("certificate_names", detail));
    };
    let identity = Identity::parse(uri).map_err(|error| Reason::new("certificate_names", error.to_string()))?;
    if identity.trust_domain() != trust_domain {
        let detail = format!("{identity} is not of the trust domain {trust_domain}");
        return Err(Reason::new("certificate_trust_domain", detail));
    }
    let proof = Proof {
        method: Method::ClientCertificate,
        cluster: None,
        pod: None,
        node: None,
        credential_id: Some(hexadecimal(leaf.raw_serial())),
        expires: Some(Timestamp::from_unix(leaf.validity().not_after.timestamp())),
    };
    Ok(Caller::new(identity, proof))
}

fn malformed(why: impl std::fmt::Display) -> Reason {
    Reason::new(
        "certificate_malformed",
        format!("the client certificate cannot be read: {why}"),
    )
}

/// As `openssl x509 -serial` prints it: without the zero byte that keeps a DER number positive.
fn hexadecimal(serial: &[u8]) -> String {
    let significant = match serial {
        [0, rest @ ..] if !rest.is_empty() => rest,
        all => all,
    };
    significant.iter().map(|byte| format!("{byte:02X}")).collect()
}
