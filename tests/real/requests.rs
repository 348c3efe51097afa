//! Requests that Istio's agent does not make and other clients do, or might: sent by a plain gRPC client of Go's, with Istio's messages.

use std::path::PathBuf;

use serde_json::json;

use crate::support::istio::{Asked, Peer};
use crate::support::openssl::{key, openssl, text};
use crate::support::scene::Scene;

impl Asked {
    fn assert_signed(&self, what: &str) {
        assert!(self.signed.ok && self.signed.chain.len() == 2, "{what}: {self:?}");
    }

    fn assert_refused(&self, code: &str, what: &str) {
        assert!(!self.signed.ok && self.signed.grpc_code == code, "{what}: {self:?}");
    }
}

#[test]
fn whoever_asks_in_anothers_name_is_refused() {
    let scene = Scene::offline(json!({}));
    let token = scene.pod.token();
    // What ztunnel sends, a pod of the same node and the caller's own identity included; then what nobody should send.
    for wanted in [
        json!(scene.pod.identity()),
        json!("spiffe://cluster.local/ns/default/sa/sleep"),
        json!("spiffe:///ns/x/sa/y"),
        json!("spiffe://elsewhere.example.org/ns/x/sa/y"),
        json!("spiffe://cluster.local/ns/x/sa/y/z"),
        json!("junk"),
        json!(null),
        json!(1),
        json!(true),
        json!(["spiffe://cluster.local/ns/x/sa/y"]),
        json!({"spiffe": "cluster.local"}),
    ] {
        let metadata = json!({"ImpersonatedIdentity": wanted, "CertSigner": ""}).to_string();
        let refusal = scene.server.refusal(|| {
            let asked = scene.peer(&token).with(["--metadata", &metadata]).ask();
            asked.assert_refused("Unauthenticated", &metadata);
            assert_eq!(
                asked.signed.error,
                "rpc error: code = Unauthenticated desc = request impersonation authentication failure"
            );
        });
        assert!(refusal.ends_with("impersonation is not enabled"), "{refusal}");
    }
    let signed = scene.server.metric("citadel_server_success_cert_issuance_count");
    assert_eq!(signed, Some(0.0), "nothing is signed");
}

#[test]
fn other_metadata_and_none_are_fine() {
    let scene = Scene::offline(json!({}));
    let token = scene.pod.token();
    scene
        .peer(&token)
        .ask()
        .assert_signed("none, as ztunnel of a single pod");
    for metadata in [
        json!({}),
        json!({"CertSigner": ""}),
        json!({"CertSigner": "issuers.example.org/signer"}),
        json!({"CertSigner": {"a": [1, null]}, "Unknown": true, "impersonatedIdentity": "spiffe://cluster.local/ns/x/sa/y"}),
    ] {
        let metadata = metadata.to_string();
        let asked = scene.peer(&token).with(["--metadata", &metadata]).ask();
        asked.assert_signed(&metadata);
    }
    for line in scene.server.events("issued") {
        assert_eq!(line["identity"], scene.pod.identity());
    }
}

#[test]
fn tokens_and_clusters_are_read_from_headers_as_istiod_reads_them() {
    let scene = Scene::offline(json!({}));
    let token = scene.pod.token();
    // No token but the one in the headers below.
    let peer = || Peer::new(&scene.server, &scene.pod, None);
    let authorization = |scheme: &str| format!("authorization={scheme}{token}");
    for scheme in ["Bearer ", "bearer ", "BEARER ", "Bearer   "] {
        peer()
            .with(["--header", &authorization(scheme)])
            .ask()
            .assert_signed(scheme);
    }
    // Header names are written small in HTTP/2, whatever the client calls them.
    let capital = authorization("Bearer ").replace("authorization", "Authorization");
    peer().with(["--header", &capital]).ask().assert_signed(&capital);
    let basic = ["--header", "authorization=Basic dXNlcg=="];
    let both = peer().with(basic).with(["--header", &authorization("Bearer ")]);
    both.ask().assert_signed("another scheme before it");
    for scheme in ["", "Basic ", "Bearer", "Bearer: ", "Token "] {
        let asked = peer().with(["--header", &authorization(scheme)]).ask();
        asked.assert_refused("Unauthenticated", scheme);
    }
    let junk_first = peer().with(["--header", "authorization=Bearer junk"]);
    let asked = junk_first.with(["--header", &authorization("Bearer ")]).ask();
    asked.assert_refused("Unauthenticated", "the first one counts");

    let clusters = |names: &[&str]| {
        let headers = names.iter().map(|name| format!("clusterid={name}"));
        headers.fold(scene.peer(&token), |peer, header| peer.with(["--header", &header]))
    };
    for names in [&[][..], &[""], &["Kubernetes"], &["a", "b"], &["", ""]] {
        clusters(names).ask().assert_signed(&format!("{names:?}"));
    }
    clusters(&["elsewhere"])
        .ask()
        .assert_refused("Unauthenticated", "unknown");
}

/// A certificate request by `openssl`, for this key, with these words of `openssl req`.
fn make_csr(scene: &Scene, name: &str, kind: &[&str], more: &[&str]) -> PathBuf {
    let (private, csr) = (
        scene.place.path().join(format!("{name}.key")),
        scene.place.path().join(format!("{name}.csr")),
    );
    key(&private, kind);
    let request = ["req", "-new", "-key", text(&private), "-out", text(&csr)];
    openssl(&[&request[..], more].concat()).unwrap();
    csr
}

#[test]
fn requests_by_openssl_are_signed_if_their_keys_are_strong_and_their_signatures_right() {
    let scene = Scene::offline(json!({}));
    let token = scene.pod.token();
    const P256: &[&str] = &["EC", "-pkeyopt", "ec_paramgen_curve:P-256"];
    const NOTHING: &[&str] = &["-subj", "/"];
    let rsa = |bits: u32| format!("rsa_keygen_bits:{bits}");
    let ask = |csr: &PathBuf| scene.peer(&token).with(["--csr", text(csr)]).ask();

    let plain = make_csr(&scene, "plain", P256, NOTHING);
    ask(&plain).assert_signed("a subject without anything");
    let named = [
        "-subj",
        "/O=system:masters/CN=admin",
        "-addext",
        "subjectAltName=DNS:istiod.istio-system.svc,URI:spiffe://cluster.local/ns/kube-system/sa/admin",
        "-addext",
        "basicConstraints=critical,CA:true",
    ];
    ask(&make_csr(&scene, "named", P256, &named)).assert_signed("names and wishes");
    for bits in [2048, 3072, 4096] {
        let csr = make_csr(&scene, &format!("rsa{bits}"), &["RSA", "-pkeyopt", &rsa(bits)], NOTHING);
        ask(&csr).assert_signed(&rsa(bits));
    }
    for line in scene.server.events("issued") {
        assert_eq!(line["identity"], scene.pod.identity());
    }

    let issued = || scene.server.metric("citadel_server_success_cert_issuance_count");
    let before = issued();
    let refused = |csr: &PathBuf, what: &str| ask(csr).assert_refused("InvalidArgument", what);
    for bits in [1024, 2047] {
        let csr = make_csr(&scene, &format!("rsa{bits}"), &["RSA", "-pkeyopt", &rsa(bits)], NOTHING);
        refused(&csr, &rsa(bits));
    }
    for (name, kind) in [
        ("p224", &["EC", "-pkeyopt", "ec_paramgen_curve:P-224"][..]),
        ("secp256k1", &["EC", "-pkeyopt", "ec_paramgen_curve:secp256k1"]),
        ("ed448", &["ED448"]),
    ] {
        refused(&make_csr(&scene, name, kind, NOTHING), name);
    }
    let written = |name: &str, content: &str| {
        let path = scene.place.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    // Its signature is another one's: the last bytes are changed.
    let der = scene.place.path().join("plain.der");
    openssl(&["req", "-in", text(&plain), "-outform", "DER", "-out", text(&der)]).unwrap();
    let mut bytes = std::fs::read(&der).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&der, bytes).unwrap();
    let broken = scene.place.path().join("broken.csr");
    openssl(&["req", "-inform", "DER", "-in", text(&der), "-out", text(&broken)]).unwrap();
    refused(&broken, "a wrong signature");
    let good = std::fs::read_to_string(&plain).unwrap();
    for (name, content) in [
        ("empty", String::new()),
        ("spaces", " \n".into()),
        ("junk", "junk".into()),
        ("cut", good[..good.len() / 2].into()),
        ("two", format!("{good}{good}")),
        ("label", good.replace("CERTIFICATE REQUEST", "CERTIFICATE")),
        ("large", "x".repeat(20 << 10)),
    ] {
        refused(&written(name, &content), name);
    }
    assert_eq!(issued(), before, "nothing is signed");
    let too_large = written("too-large", &"x".repeat(100 << 10));
    ask(&too_large).assert_refused("OutOfRange", "more than a message may hold");
}

#[test]
fn what_clients_may_send_in_headers_is_said_and_bounded() {
    let scene = Scene::offline(json!({}));
    let token = scene.pod.token();
    let ask = |bytes: usize| {
        let headers = format!("x-note={}", "y".repeat(bytes));
        scene
            .peer(&token)
            .with(["--header", &headers, "--header", "x-retry-attempt=4"])
            .ask()
    };
    let asked = ask(8 << 10);
    asked.assert_signed("unknown headers");
    assert_eq!(asked.max_header_list_size, 64 << 10);
    // Go's gRPC keeps to it by itself.
    let asked = ask(70 << 10);
    asked.assert_refused("Internal", "too many");
    assert!(
        asked.signed.error.contains("header list size to send violates"),
        "{asked:?}"
    );
}
