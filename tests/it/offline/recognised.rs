//! Good tokens, and whose they are.

use countersign::issue::authenticate::offline::{IssuerConfig, KeySource};
use countersign::issue::authenticate::{Method, Pod, Verdict};
use countersign::model::{Timestamp, TrustDomain};

use super::super::support::tokens::{TestKey, Token, encode, key_set};
use super::{ApiServer, NOW, Rig, file, issuer};

const CART: &str = "accepted spiffe://cluster.local/ns/shop/sa/cart";

#[tokio::test]
async fn a_token_of_every_algorithm_names_its_account_pod_and_node() {
    let keys = [TestKey::rsa("a"), TestKey::p256("b"), TestKey::p384("c")];
    let server = ApiServer::with_keys(key_set(&keys.each_ref()));
    let rig = Rig::ready(vec![issuer(server.source())]).await;
    for key in &keys {
        let Verdict::Accepted(caller) = rig.verdict(&Token::new(NOW).mint(key), None) else {
            panic!("{}: {}", key.algorithm(), rig.says(&Token::new(NOW).mint(key), None));
        };
        assert_eq!(caller.identity().to_string(), "spiffe://cluster.local/ns/shop/sa/cart");
        let proof = caller.proof();
        assert_eq!(proof.method, Method::OfflineJwt);
        assert_eq!(proof.cluster.as_deref(), Some("Kubernetes"));
        let pod = Pod {
            name: "cart-0".into(),
            uid: "0e5b3c8e-7a3a-4f0b-8a2b-5c9d3f7e1a2b".into(),
        };
        assert_eq!(proof.pod, Some(pod));
        assert_eq!(proof.node.as_deref(), Some("node-1"));
        assert_eq!(
            proof.credential_id.as_deref(),
            Some("6a4f6a3e-8d0b-4d1e-9f65-0c5f3a0d6a11")
        );
        assert_eq!(proof.expires, Some(Timestamp::from_unix(NOW + 3600)));
    }
}

#[tokio::test]
async fn what_a_good_token_may_look_like() {
    let key = TestKey::p256("key");
    let server = ApiServer::with_keys(key_set(&[&key]));
    let rig = Rig::ready(vec![issuer(server.source())]).await;
    let token = || Token::new(NOW);
    let unnamed = {
        let token = token().mint(&key);
        let payload = token.split('.').nth(1).unwrap();
        let signed = format!("{}.{payload}", encode(r#"{"alg":"ES256"}"#));
        format!("{signed}.{}", encode(key.sign(&signed)))
    };
    let good = [
        ("aud as a text", token().claim("aud", "istio-ca").mint(&key)),
        (
            "aud among others",
            token().claim("aud", vec!["vault", "istio-ca"]).mint(&key),
        ),
        ("typ JWT", token().header("typ", "JWT").mint(&key)),
        ("typ jwt", token().header("typ", "jwt").mint(&key)),
        ("unknown header", token().header("x", 1).mint(&key)),
        ("unknown claim", token().claim("x", 1).mint(&key)),
        ("no pod, no node", token().account("shop", "cart").mint(&key)),
        ("no jti", token().without("jti").mint(&key)),
        ("no nbf", token().without("nbf").mint(&key)),
        ("no iat", token().without("iat").mint(&key)),
        ("no kid, one key of the algorithm", unnamed),
        (
            "as long a life as allowed",
            token().claim("exp", NOW + 86_400).mint(&key),
        ),
        (
            "issued as far ahead as allowed",
            token().claim("iat", NOW + 30).mint(&key),
        ),
        (
            "begins as far ahead as allowed",
            token().claim("nbf", NOW + 30).mint(&key),
        ),
        ("its last second", Token::new(NOW - 3599).mint(&key)),
    ];
    for (what, token) in good {
        assert_eq!(rig.says(&token, None), CART, "{what}");
        assert_eq!(rig.says(&token, Some("")), CART, "{what}");
        assert_eq!(rig.says(&token, Some("Kubernetes")), CART, "{what}");
    }
}

#[tokio::test]
async fn without_a_kid_only_an_only_key_can_be_meant() {
    let (one, two) = (TestKey::p256("one"), TestKey::p256("two"));
    let server = ApiServer::with_keys(key_set(&[&one, &two, &TestKey::rsa("three")]));
    let rig = Rig::ready(vec![issuer(server.source())]).await;
    let unnamed = |algorithm: &str, key: &TestKey| {
        let signed = format!("{}.{}", encode(format!(r#"{{"alg":"{algorithm}"}}"#)), {
            let token = Token::new(NOW).mint(key);
            token.split('.').nth(1).unwrap().to_owned()
        });
        format!("{signed}.{}", encode(key.sign(&signed)))
    };
    assert_eq!(rig.says(&unnamed("ES256", &one), None), "rejected token_key_ambiguous");
    assert_eq!(rig.says(&unnamed("RS256", &TestKey::rsa("three")), None), CART);
    assert_eq!(
        rig.says(&unnamed("ES384", &TestKey::p384("four")), None),
        "rejected token_key_unknown"
    );
}

fn vms(keys: KeySource) -> IssuerConfig {
    IssuerConfig {
        issuer: "https://vms.example.com".into(),
        trust_domain: TrustDomain::parse("vms.example.com").unwrap(),
        namespaces: Some(vec!["vms".into(), "edge".into()]),
        cluster: "vms".into(),
        ..issuer(keys)
    }
}

#[tokio::test]
async fn an_issuer_speaks_for_its_trust_domain_and_namespaces_alone() {
    let (cluster_key, vm_key) = (TestKey::p256("key"), TestKey::p256("key"));
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("vms.json");
    std::fs::write(&path, key_set(&[&vm_key])).unwrap();
    let server = ApiServer::with_keys(key_set(&[&cluster_key]));
    let rig = Rig::ready(vec![issuer(server.source()), vms(file(&path))]).await;

    let vm = |namespace| {
        Token::new(NOW)
            .account(namespace, "db")
            .claim("iss", "https://vms.example.com")
    };
    let edge = vm("edge").mint(&vm_key);
    assert_eq!(rig.says(&edge, None), "accepted spiffe://vms.example.com/ns/edge/sa/db");
    assert_eq!(
        rig.says(&edge, Some("vms")),
        "accepted spiffe://vms.example.com/ns/edge/sa/db"
    );
    assert_eq!(rig.says(&edge, Some("Kubernetes")), "rejected token_cluster");
    assert_eq!(rig.says(&vm("shop").mint(&vm_key), None), "rejected token_namespace");
    // Only API servers must say it twice.
    let plain = vm("edge").without("kubernetes.io").mint(&vm_key);
    assert_eq!(
        rig.says(&plain, None),
        "accepted spiffe://vms.example.com/ns/edge/sa/db"
    );
    let contradiction = vm("edge").claim("sub", "system:serviceaccount:vms:db").mint(&vm_key);
    assert_eq!(rig.says(&contradiction, None), "rejected token_subject_mismatch");
    // The same key name in both sets: each issuer's tokens are held against its own.
    assert_eq!(
        rig.says(&vm("edge").mint(&cluster_key), None),
        "rejected token_signature"
    );
    assert_eq!(
        rig.says(&Token::new(NOW).mint(&vm_key), None),
        "rejected token_signature"
    );
    assert_eq!(rig.says(&Token::new(NOW).mint(&cluster_key), None), CART);
}

/// Most clusters call themselves `https://kubernetes.default.svc.cluster.local`.
#[tokio::test]
async fn clusters_with_the_same_issuer_name_are_told_apart_by_cluster_id_or_key() {
    let (here, there, both) = (TestKey::p256("here"), TestKey::p256("there"), TestKey::p256("both"));
    let second = |keys| IssuerConfig {
        cluster: "second".into(),
        trust_domain: TrustDomain::parse("second.example.com").unwrap(),
        ..issuer(keys)
    };
    let rig = Rig::ready(vec![
        issuer(ApiServer::with_keys(key_set(&[&here, &both])).source()),
        second(ApiServer::with_keys(key_set(&[&there, &both])).source()),
    ])
    .await;
    const SECOND: &str = "accepted spiffe://second.example.com/ns/shop/sa/cart";
    let (from_here, from_there, from_either) = (
        Token::new(NOW).mint(&here),
        Token::new(NOW).mint(&there),
        Token::new(NOW).mint(&both),
    );
    assert_eq!(rig.says(&from_here, None), CART);
    assert_eq!(rig.says(&from_there, None), SECOND);
    assert_eq!(rig.says(&from_here, Some("Kubernetes")), CART);
    assert_eq!(rig.says(&from_there, Some("second")), SECOND);
    // The header selects; it cannot make a token of one cluster one of another.
    assert_eq!(rig.says(&from_here, Some("second")), "rejected token_key_unknown");
    assert_eq!(rig.says(&from_here, Some("third")), "rejected token_cluster");
    assert_eq!(rig.says(&from_either, None), "rejected token_issuer_ambiguous");
    assert_eq!(rig.says(&from_either, Some("second")), SECOND);
    let names: Vec<_> = rig
        .offline
        .key_status()
        .into_iter()
        .map(|status| status.issuer)
        .collect();
    assert_eq!(
        names,
        [
            "https://kubernetes.default.svc.cluster.local of cluster Kubernetes",
            "https://kubernetes.default.svc.cluster.local of cluster second"
        ]
    );
}
