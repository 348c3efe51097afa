use std::fmt::Write as _;
use std::time::Duration;

use proptest::prelude::*;
use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, KeyUsage};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::super::sign::sign;
use super::super::testing::{
    self, DAY, LONG, NOW, SIGNERS, TestCa, circumstances, csr, grant, odd_names, profile, self_signed,
};
use super::*;
use crate::model::der;

/// The certificate that a workload gets.
fn issue(ca: &Arc<CaSnapshot>, csr_name: &str) -> Vec<u8> {
    let plan = workload(grant(), &csr(csr_name), 0, &profile(), circumstances(ca)).unwrap();
    sign(plan).unwrap().into_parts().0
}

fn serve(ca: &Arc<CaSnapshot>) -> Vec<u8> {
    let names = ["istiod.istio-system.svc", "10.0.0.1", "fd00::1"].map(|name| name.parse().unwrap());
    let lifetime = Lifetime::from_seconds(DAY).unwrap();
    let (key, info) = testing::key("p256");
    let plan = server(
        names.into(),
        &info,
        key.algorithm(),
        lifetime,
        &profile(),
        circumstances(ca),
    );
    sign(plan.unwrap()).unwrap().into_parts().0
}

fn webpki_accepts(ca: &CaSnapshot, leaf: &[u8], usage: KeyUsage) -> Result<(), webpki::Error> {
    let leaf = CertificateDer::from(leaf);
    let roots: Vec<_> = ca.bundle().roots().iter().map(|root| root.der()).collect();
    let anchors: Vec<_> = roots
        .iter()
        .map(|root| webpki::anchor_from_trusted_cert(root).unwrap())
        .collect();
    let intermediates: Vec<_> = ca.chain().iter().map(|member| member.der().clone()).collect();
    let now = UnixTime::since_unix_epoch(Duration::from_secs(NOW.unix() as u64));
    EndEntityCert::try_from(&leaf)?
        .verify_for_usage(
            webpki::ALL_VERIFICATION_ALGS,
            &anchors,
            &intermediates,
            now,
            usage,
            None,
            None,
        )
        .map(|_| ())
}

/// Conformance lines 30 and 31, for every kind of signer, with and without a key identifier, under every odd name.
#[test]
fn verifies_under_every_signer() {
    for key in SIGNERS {
        for subject in odd_names() {
            for has_key_id in [true, false] {
                let ca = TestCa {
                    key,
                    subject: subject.clone(),
                    has_key_id,
                    ..TestCa::default()
                }
                .build();
                let leaf = issue(&ca, "p256");
                let [to_be_signed, _, _] = der::members(der::SEQUENCE, &leaf).unwrap();
                let [_, _, _, issuer, ..] = der::members::<8>(der::SEQUENCE, to_be_signed.whole).unwrap();
                assert_eq!(issuer.whole, subject, "{key}: the issuer is copied byte for byte");
                let (_, parsed) = X509Certificate::from_der(&leaf).unwrap();
                let authority = parsed
                    .extensions()
                    .iter()
                    .find_map(|found| match found.parsed_extension() {
                        x509_parser::extensions::ParsedExtension::AuthorityKeyIdentifier(id) => Some(id),
                        _ => None,
                    });
                assert_eq!(
                    authority.map(|id| id.key_identifier.as_ref().unwrap().0),
                    ca.signer().key_id()
                );
                assert_eq!(ca.signer().key_id().is_some(), has_key_id);
                for usage in [KeyUsage::server_auth(), KeyUsage::client_auth()] {
                    assert_eq!(webpki_accepts(&ca, &leaf, usage), Ok(()), "{key} {subject:02x?}");
                }
            }
        }
    }
}

#[test]
fn verifies_for_every_key_and_under_a_root() {
    let ca = self_signed(LONG);
    for name in ["rsa-2048", "rsa-3072", "rsa-4096", "p256", "p384", "ed25519"] {
        let leaf = issue(&ca, name);
        for usage in [KeyUsage::server_auth(), KeyUsage::client_auth()] {
            assert_eq!(webpki_accepts(&ca, &leaf, usage), Ok(()), "{name}");
        }
    }
    let leaf = serve(&ca);
    assert_eq!(webpki_accepts(&ca, &leaf, KeyUsage::server_auth()), Ok(()));
    assert!(
        webpki_accepts(&ca, &leaf, KeyUsage::client_auth()).is_err(),
        "our server never calls"
    );
}

/// Conformance line 18: nothing that a CSR asks for beside its key reaches the certificate.
#[test]
fn wishes_do_not_leak() {
    let ca = TestCa::default().build();
    let wish = |name: &str| {
        let text = testing::vector(&format!("{name}.csr"));
        let checked = super::super::csr::parse(&text).unwrap().check(&grant(), false).unwrap();
        workload(grant(), &checked, 0, &profile(), circumstances(&ca))
            .unwrap()
            .to_be_signed
    };
    for name in [
        "asks-common-name",
        "asks-dns-name",
        "asks-two-uris",
        "asks-another-identity",
        "asks-key-usages",
        "asks-to-be-a-ca",
        "asks-unknown-extension",
        "asks-challenge-password",
    ] {
        assert_eq!(wish(name), wish("good-p256"), "{name}");
    }
}

/// The fields of a certificate, as another library reads them.
fn text(certificate: &[u8]) -> String {
    let (rest, certificate) = X509Certificate::from_der(certificate).unwrap();
    assert!(rest.is_empty());
    let mut text = String::new();
    let _ = writeln!(text, "version: {}", certificate.version());
    let _ = writeln!(text, "serial: {}", certificate.raw_serial_as_string());
    let _ = writeln!(text, "signature: {}", certificate.signature_algorithm.algorithm);
    let _ = writeln!(text, "issuer: {}", certificate.issuer());
    let _ = writeln!(text, "not before: {}", certificate.validity().not_before);
    let _ = writeln!(text, "not after: {}", certificate.validity().not_after);
    let _ = writeln!(text, "subject: {:02x?}", certificate.subject().as_raw());
    let _ = writeln!(text, "key: {}", certificate.public_key().algorithm.algorithm);
    for extension in certificate.extensions() {
        let critical = if extension.critical { " (critical)" } else { "" };
        let _ = writeln!(
            text,
            "{}{critical}: {:02x?}",
            extension.oid,
            extension.parsed_extension()
        );
    }
    text
}

#[test]
fn workload_with_an_elliptic_key() {
    insta::assert_snapshot!(text(&issue(&TestCa::default().build(), "p256")));
}

#[test]
fn workload_with_an_rsa_key() {
    insta::assert_snapshot!(text(&issue(&TestCa::default().build(), "rsa-2048")));
}

#[test]
fn our_own_server() {
    insta::assert_snapshot!(text(&serve(&TestCa::default().build())));
}

/// RFC 5280, 4.1.2.5: UTCTime through 2049, GeneralizedTime from 2050.
#[test]
fn the_form_of_times_changes_in_2050() {
    let last = Timestamp::from_unix(2_524_607_999);
    for (time, wanted) in [
        (last, &b"\x17\x0d491231235959Z"[..]),
        (last.plus(1), b"\x18\x0f20500101000000Z"),
        (NOW, b"\x17\x0d260102030405Z"),
        (Timestamp::from_unix(-631_152_000), b"\x17\x0d500101000000Z"),
        (Timestamp::from_unix(253_402_300_799), b"\x18\x0f99991231235959Z"),
    ] {
        assert_eq!(
            yasna::construct_der(|writer| write_time(writer, time)),
            wanted,
            "{time}"
        );
    }
    // A whole certificate across the border: the lint reads both times back.
    let ca = self_signed(Validity {
        not_before: last.plus(-DAY),
        not_after: last.plus(DAY),
    });
    let at_the_border = Circumstances {
        now: last,
        ..circumstances(&ca)
    };
    workload(grant(), &csr("p256"), 3600, &profile(), at_the_border).unwrap();
}

#[test]
fn lifetimes_outside_the_profile_are_refused() {
    let ca = self_signed(LONG);
    let seconds = |requested| {
        workload(grant(), &csr("p256"), requested, &profile(), circumstances(&ca))
            .map(|plan| plan.facts.validity.not_after.since(NOW))
            .map_err(|error| error.to_string())
    };
    let long = |requested: i64| {
        Err(format!(
            "requested TTL {requested} s is greater than the max allowed TTL 7776000 s"
        ))
    };
    let short = "requested TTL 59 s is less than the min allowed TTL 60 s: its owner would renew without end";
    for default in [0, -1, i64::MIN] {
        assert_eq!(seconds(default), Ok(DAY));
    }
    assert_eq!(seconds(59), Err(short.to_owned()));
    assert_eq!(seconds(60), Ok(60));
    assert_eq!(seconds(90 * DAY), Ok(90 * DAY));
    for requested in [90 * DAY + 1, i64::from(u32::MAX) + 61, i64::MAX] {
        assert_eq!(seconds(requested), long(requested));
    }
}

proptest! {
    /// Whatever the lifetimes, the clock and the certificates above: a leaf lies inside all of them, lasts as asked for or to their end, is
    /// set back by its rule, and none is made that would end too soon.
    #[test]
    fn lies_inside_everything_above(
        requested in prop_oneof![60..90 * DAY, Just(0)],
        start in -100 * DAY..100 * DAY,
        length in 1..200 * DAY,
        offset in -300..300_i64,
        near_end in any::<bool>(),
    ) {
        let above = Validity { not_before: NOW.plus(start), not_after: NOW.plus(start + length) };
        let ca = TestCa { key: "ed25519", validity: above, ..TestCa::default() }.build();
        prop_assert_eq!(ca.validity(), above, "the signer lies inside its root");
        let now = if near_end { above.not_after.plus(offset) } else { above.not_before.plus(offset) };
        let planned = workload(grant(), &csr("ed25519"), requested, &profile(), Circumstances { now, ..circumstances(&ca) });
        let asked = if requested == 0 { DAY } else { requested };
        let left = above.not_after.since(now);
        match planned {
            Ok(plan) => {
                let Validity { not_before, not_after } = plan.facts.validity;
                let lifetime = asked.min(left);
                prop_assert!(above.contains(now) && left >= 60);
                prop_assert_eq!(not_after, now.plus(lifetime));
                prop_assert!(not_after <= above.not_after && not_after.since(now) >= 60);
                prop_assert_eq!(not_before, now.plus(-(lifetime / 10).min(120)).max(above.not_before));
                prop_assert!(not_before <= now && not_before >= above.not_before);
                prop_assert_eq!(plan.facts.clamped, asked > left);
                // ztunnel renews in the middle of NotBefore..NotAfter: that must lie well ahead.
                prop_assert!(not_after.since(not_before) / 2 - now.since(not_before) >= lifetime / 3);
            }
            Err(PlanError::SignerEnding { validity }) => {
                prop_assert_eq!(validity, above);
                prop_assert!(!above.contains(now) || left < 60, "{left}");
            }
            Err(other) => prop_assert!(false, "{other}"),
        }
    }
}

/// A root that ends before the signer ends the leaf too.
#[test]
fn a_root_that_ends_first_counts() {
    let end = NOW.plus(4000 * DAY);
    let ca = TestCa {
        validity: Validity {
            not_before: NOW.plus(-DAY),
            not_after: end,
        },
        ..TestCa::default()
    }
    .build();
    assert!(LONG.not_after < end);
    let now = LONG.not_after.plus(-600);
    let late = Circumstances {
        now,
        ..circumstances(&ca)
    };
    let plan = workload(grant(), &csr("p256"), 0, &profile(), late).unwrap();
    assert_eq!(
        (plan.facts.validity.not_after, plan.facts.clamped),
        (LONG.not_after, true)
    );
}

#[test]
fn what_is_signed_is_what_was_linted() {
    let ca = TestCa::default().build();
    let plan = workload(grant(), &csr("p256"), 0, &profile(), circumstances(&ca)).unwrap();
    let linted = plan.to_be_signed.clone();
    let certificate = sign(plan).unwrap().into_parts().0;
    let [signed, algorithm, signature] = der::members(der::SEQUENCE, &certificate).unwrap();
    assert_eq!(signed.whole, linted);
    let [0, signature @ ..] = signature.content else {
        panic!("a signature has whole bytes")
    };
    let (key, public) = KeyAlgorithm::read(ca.signer().public_key_info()).unwrap();
    assert_eq!(algorithm.whole, ca.key().signature_algorithm().der());
    assert!(crypto::verify(
        key,
        public,
        ca.key().signature_algorithm(),
        &linted,
        signature
    ));
}
