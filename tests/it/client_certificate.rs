//! Renewal with a certificate that this CA issued before, and every certificate that must not do.

use std::sync::Arc;
use std::time::Duration;

use countersign::authority::CaState;
use countersign::issue::authenticate::client_certificate::authenticate;
use countersign::issue::authenticate::{Method, Verdict};
use countersign::model::{ClientCertificate, KeyAlgorithm, Timestamp, TrustDomain, Validity};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, SerialNumber,
};
use rustls_pki_types::CertificateDer;

use crate::support::ca::{TestCa, authority, key, root, signed, workload, years};

const NOW: Timestamp = Timestamp::from_unix(1_893_456_000);
const HOUR: i64 = 3600;
const CART: &str = "spiffe://cluster.local/ns/shop/sa/cart";

fn domain() -> TrustDomain {
    TrustDomain::parse("cluster.local").unwrap()
}

fn day() -> Validity {
    Validity {
        not_before: NOW.plus(-HOUR),
        not_after: NOW.plus(23 * HOUR),
    }
}

fn cart() -> CertificateParams {
    workload(CART, day())
}

fn presented(der: impl Into<Vec<u8>>) -> ClientCertificate {
    ClientCertificate {
        leaf: CertificateDer::from(der.into()),
    }
}

fn present(params: &CertificateParams, issuer: &Issuer<'_, KeyPair>) -> ClientCertificate {
    presented(signed(params, issuer).der().to_vec())
}

/// The label of a refusal, or the identity.
fn outcome(certificate: &ClientCertificate, ca: &TestCa, now: Timestamp) -> String {
    match authenticate(certificate, std::slice::from_ref(ca.snapshot.signer()), &domain(), now) {
        Verdict::Accepted(caller) => caller.identity().to_string(),
        Verdict::Rejected(reason) => reason.label.into(),
        other => format!("{other:?}"),
    }
}

#[test]
fn our_own_certificates_prove_their_owner() {
    let kinds = [
        KeyAlgorithm::P256,
        KeyAlgorithm::P384,
        KeyAlgorithm::Ed25519,
        KeyAlgorithm::Rsa(2048),
    ];
    for ca in kinds
        .map(|kind| TestCa::with(kind, years(NOW)))
        .into_iter()
        .chain([TestCa::self_signed(NOW)])
    {
        assert_eq!(
            outcome(&present(&cart(), &ca.signer), &ca, NOW),
            CART,
            "{}",
            ca.snapshot.key().algorithm()
        );
    }
}

#[test]
fn the_proof_names_the_certificate() {
    let ca = TestCa::new(NOW);
    let mut params = cart();
    // The top bit makes DER put a zero byte in front.
    params.serial_number = Some(SerialNumber::from_slice(&[0xab, 0x00, 0x0f]));
    // A subject is nobody's word.
    params.distinguished_name.push(
        rcgen::DnType::CommonName,
        "spiffe://cluster.local/ns/kube-system/sa/admin",
    );
    let Verdict::Accepted(caller) = authenticate(
        &present(&params, &ca.signer),
        std::slice::from_ref(ca.snapshot.signer()),
        &domain(),
        NOW,
    ) else {
        panic!("refused");
    };
    assert_eq!(caller.identity().to_string(), CART);
    let proof = caller.proof();
    assert_eq!(proof.method, Method::ClientCertificate);
    assert_eq!(proof.credential_id.as_deref(), Some("AB000F"));
    assert_eq!(proof.expires, Some(day().not_after));
    assert_eq!((&proof.cluster, &proof.pod, &proof.node), (&None, &None, &None));
}

#[test]
fn what_others_signed_is_not_ours() {
    let ca = TestCa::new(NOW);
    let sibling =
        rcgen::CertifiedIssuer::signed_by(authority("Test Sibling", years(NOW)), key(KeyAlgorithm::P256), &ca.root)
            .unwrap();
    let below =
        rcgen::CertifiedIssuer::signed_by(authority("Below", years(NOW)), key(KeyAlgorithm::P256), &ca.signer).unwrap();
    let namesake = root("Test Signer", KeyPair::generate().unwrap(), years(NOW));
    let cases = [
        // The one that matters most: a chain that is perfectly good up to the company's root.
        (
            "another intermediate under our root",
            present(&cart(), &sibling),
            "certificate_not_ours",
        ),
        ("the root itself", present(&cart(), &ca.root), "certificate_not_ours"),
        (
            "a CA below our signer",
            present(&cart(), &below),
            "certificate_not_ours",
        ),
        (
            "a namesake of our signer",
            present(&cart(), &namesake),
            "certificate_not_verified",
        ),
        (
            "nobody: self-signed",
            presented(
                cart()
                    .self_signed(&KeyPair::generate().unwrap())
                    .unwrap()
                    .der()
                    .to_vec(),
            ),
            "certificate_not_ours",
        ),
        (
            "our signer's own certificate",
            presented(ca.signer.der().to_vec()),
            "certificate_is_a_ca",
        ),
        (
            "our root's own certificate",
            presented(ca.root.der().to_vec()),
            "certificate_is_a_ca",
        ),
    ];
    for (case, certificate, expected) in cases {
        assert_eq!(outcome(&certificate, &ca, NOW), expected, "signed by {case}");
    }
    let alone = TestCa::self_signed(NOW);
    let itself = presented(alone.snapshot.signer().der().to_vec());
    assert_eq!(
        outcome(&itself, &alone, NOW),
        "certificate_is_a_ca",
        "a root that signs itself"
    );
}

#[test]
fn only_the_whole_second_of_both_ends_is_inside() {
    let ca = TestCa::new(NOW);
    let certificate = present(&cart(), &ca.signer);
    let Validity { not_before, not_after } = day();
    for (now, expected) in [
        (not_before.plus(-1), "certificate_not_valid_yet"),
        (not_before, CART),
        (not_after, CART),
        (not_after.plus(1), "certificate_expired"),
        (Timestamp::from_unix(-5), "certificate_signer_not_valid"),
    ] {
        assert_eq!(outcome(&certificate, &ca, now), expected, "{now}");
    }
}

#[test]
fn an_expired_signer_vouches_for_nobody() {
    let validity = Validity {
        not_before: NOW.plus(-HOUR),
        not_after: NOW.plus(HOUR),
    };
    let ca = TestCa::with(KeyAlgorithm::P256, validity);
    let certificate = present(&cart(), &ca.signer);
    assert_eq!(outcome(&certificate, &ca, NOW.plus(HOUR)), CART);
    assert_eq!(
        outcome(&certificate, &ca, NOW.plus(HOUR + 1)),
        "certificate_signer_not_valid"
    );
}

#[test]
fn what_our_signer_signed_but_no_workload_is() {
    let ca = TestCa::new(NOW);
    let uri = |text: &str| SanType::URI(text.try_into().unwrap());
    let dns = |text: &str| SanType::DnsName(text.try_into().unwrap());
    let extension = |id: &[u64], critical| {
        let mut extension = CustomExtension::from_oid_content(id, vec![5, 0]);
        extension.set_criticality(critical);
        extension
    };
    type Change<'a> = Box<dyn Fn(&mut CertificateParams) + 'a>;
    let names =
        |names: Vec<SanType>| -> Change<'_> { Box::new(move |params| params.subject_alt_names = names.clone()) };
    let usages = |usages: Vec<ExtendedKeyUsagePurpose>| -> Change<'_> {
        Box::new(move |params| params.extended_key_usages = usages.clone())
    };
    let may = |usage: KeyUsagePurpose| -> Change<'_> { Box::new(move |params| params.key_usages.push(usage)) };
    let cases: Vec<(&str, Change<'_>, &str)> = vec![
        ("nothing changed", Box::new(|_| {}), CART),
        (
            "a CA",
            Box::new(|params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0))),
            "certificate_is_a_ca",
        ),
        (
            "may sign certificates",
            may(KeyUsagePurpose::KeyCertSign),
            "certificate_is_a_ca",
        ),
        (
            "may sign revocation lists",
            may(KeyUsagePurpose::CrlSign),
            "certificate_is_a_ca",
        ),
        ("no name", names(vec![]), "certificate_names"),
        (
            "two identities",
            names(vec![uri(CART), uri("spiffe://cluster.local/ns/shop/sa/till")]),
            "certificate_names",
        ),
        (
            "the same identity twice",
            names(vec![uri(CART), uri(CART)]),
            "certificate_names",
        ),
        (
            "a host name",
            names(vec![dns("istiod.istio-system.svc")]),
            "certificate_names",
        ),
        (
            "an identity and a host name",
            names(vec![uri(CART), dns("cart.shop.svc")]),
            "certificate_names",
        ),
        (
            "an identity behind a host name",
            names(vec![dns("cart.shop.svc"), uri(CART)]),
            "certificate_names",
        ),
        (
            "an address",
            names(vec![SanType::IpAddress([10, 0, 0, 1].into())]),
            "certificate_names",
        ),
        (
            "an identity as a host name",
            names(vec![dns(CART)]),
            "certificate_names",
        ),
        (
            "a mail address",
            names(vec![SanType::Rfc822Name("cart@shop".try_into().unwrap())]),
            "certificate_names",
        ),
        (
            "another URI",
            names(vec![uri("https://cluster.local/ns/shop/sa/cart")]),
            "certificate_names",
        ),
        (
            "another shape",
            names(vec![uri("spiffe://cluster.local/workload/cart")]),
            "certificate_names",
        ),
        (
            "the trust domain alone",
            names(vec![uri("spiffe://cluster.local")]),
            "certificate_names",
        ),
        (
            "capitals",
            names(vec![uri("spiffe://Cluster.Local/ns/shop/sa/cart")]),
            "certificate_names",
        ),
        (
            "a foreign trust domain",
            names(vec![uri("spiffe://other.example/ns/shop/sa/cart")]),
            "certificate_trust_domain",
        ),
        (
            "for servers only",
            usages(vec![ExtendedKeyUsagePurpose::ServerAuth]),
            "certificate_usage",
        ),
        (
            "for anything",
            usages(vec![ExtendedKeyUsagePurpose::Any]),
            "certificate_usage",
        ),
        ("for nothing named", usages(vec![]), "certificate_usage"),
        (
            "critical and unknown",
            Box::new(move |params| params.custom_extensions.push(extension(&[1, 2, 3, 4], true))),
            "certificate_malformed",
        ),
        (
            "unknown and not critical",
            Box::new(move |params| params.custom_extensions.push(extension(&[1, 2, 3, 4], false))),
            CART,
        ),
        (
            "two lists of names",
            Box::new(move |params| params.custom_extensions.push(extension(&[2, 5, 29, 17], false))),
            "certificate_malformed",
        ),
        (
            "key usage that is none",
            Box::new(move |params| {
                params.key_usages.clear();
                params.custom_extensions.push(extension(&[2, 5, 29, 15], false));
            }),
            "certificate_malformed",
        ),
    ];
    for (case, change, expected) in cases {
        let mut params = cart();
        change(&mut params);
        assert_eq!(outcome(&present(&params, &ca.signer), &ca, NOW), expected, "{case}");
    }
}

#[test]
fn damaged_bytes_are_no_certificate() {
    let ca = TestCa::new(NOW);
    let good = present(&cart(), &ca.signer).leaf.to_vec();
    let flipped = |position: usize| {
        let mut bytes = good.clone();
        bytes[position] ^= 1;
        bytes
    };
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("nothing", vec![]),
        ("words", b"not a certificate".to_vec()),
        ("PEM", countersign::model::pem::certificate(&good).into_bytes()),
        ("cut off", good[..good.len() - 1].to_vec()),
        ("a byte too many", [good.as_slice(), &[0]].concat()),
        ("twice", [good.as_slice(), &good].concat()),
        ("another outer length", flipped(3)),
        ("another signature", flipped(good.len() - 1)),
        ("another serial", flipped(20)),
    ];
    for (case, bytes) in cases {
        assert!(
            outcome(&presented(bytes), &ca, NOW).starts_with("certificate_"),
            "{case}"
        );
    }
}

/// No single changed bit of a good certificate proves anything, to whatever it belongs.
#[test]
fn no_changed_bit_goes_unseen() {
    let ca = TestCa::new(NOW);
    let good = present(&cart(), &ca.signer).leaf.to_vec();
    for position in 0..good.len() {
        let mut bytes = good.clone();
        bytes[position] ^= 1 << (position % 8);
        let outcome = outcome(&presented(bytes), &ca, NOW);
        assert!(outcome.starts_with("certificate_"), "byte {position}: {outcome}");
    }
}

/// The certificate of our own door, made by the code that makes it, proves nobody; one made for a workload by the same code does.
#[tokio::test]
async fn our_serving_certificate_is_nobody() {
    use countersign::issue::authenticate::Audiences;
    use countersign::issue::authenticate::Authenticators;
    use countersign::issue::authenticate::token_review::{TokenReviewAuthenticator, TokenReviewConfig};
    use countersign::issue::plan::Profile;
    use countersign::issue::{Issuer, Policy};
    use countersign::model::{BearerToken, Credentials, Lifetime, Request};
    use countersign::platform::{Clock, SystemRandom, TestClock};
    use countersign::telemetry::{Metrics, Readiness};
    use rcgen::PublicKeyData;

    use crate::support::api_server::{ApiServer, account};

    let ca = TestCa::new(NOW);
    let clock: Arc<dyn Clock> = Arc::new(TestClock::at(NOW));
    let api = ApiServer::new();
    api.answer_others(account("shop", "cart"));
    let audiences = Audiences::new(vec!["istio-ca".into()]).unwrap();
    let config = TokenReviewConfig::new(audiences, domain(), "Kubernetes".into());
    let review = TokenReviewAuthenticator::new(config, api.reached(), clock.clone());
    let lifetime = |seconds| Lifetime::from_seconds(seconds).unwrap();
    let profile = Profile {
        default: lifetime(24 * HOUR),
        maximum: lifetime(24 * HOUR),
        minimum: lifetime(60),
    };
    let issuer = Issuer::new(
        Authenticators::new(None, Some(review), Some(domain())).unwrap(),
        tokio::sync::watch::channel(Arc::new(CaState::fixed(ca.snapshot.clone()))).1,
        Policy {
            profile,
            strict_csr: false,
        },
        clock.clone(),
        Arc::new(SystemRandom::default()),
        Arc::new(Metrics::new(clock.clone(), &Readiness::default())),
    );
    let ours = KeyPair::generate().unwrap();
    let names = ["istiod.istio-system.svc", "10.0.0.1"]
        .map(|name| name.parse().unwrap())
        .to_vec();
    let info = ours.subject_public_key_info();
    let serving = issuer
        .serving(names, &info, KeyAlgorithm::P256, lifetime(24 * HOUR))
        .unwrap();
    let label = outcome(&presented(serving.certificate()), &ca, NOW);
    assert!(
        ["certificate_names", "certificate_usage"].contains(&label.as_str()),
        "{label}"
    );

    let csr = CertificateParams::default()
        .serialize_request(&KeyPair::generate().unwrap())
        .unwrap()
        .pem()
        .unwrap();
    let request = |credentials| Request {
        csr: csr.clone(),
        lifetime: 0,
        impersonation: None,
        credentials,
        cluster_id: None,
        peer: None,
    };
    let token = Credentials {
        token: Some(BearerToken::new("eyJhbGciOiJSUzI1NiJ9.e30.c2lnbmF0dXJl".into())),
        client_certificate: None,
    };
    let deadline = clock.instant() + Duration::from_secs(30);
    let first = issuer.issue(request(token), deadline).await.unwrap();
    assert_eq!(first.method(), "token_review");
    let held = presented(first.certificate());
    assert_eq!(outcome(&held, &ca, NOW), CART);
    let certificate = Credentials {
        token: None,
        client_certificate: Some(Arc::new(held)),
    };
    let renewed = issuer.issue(request(certificate), deadline).await.unwrap();
    assert_eq!(renewed.method(), "client_certificate");
    assert_eq!(outcome(&presented(renewed.certificate()), &ca, NOW), CART);
}
