//! Istio's own citadel client and secret cache, as they are in every agent, through the cases that have to be arranged.

use std::path::Path;
use std::time::Duration;

use serde_json::json;

use crate::support::certificate::{Certificate, now};
use crate::support::cluster::cluster;
use crate::support::istio::{Peer, attempts_by_code};
use crate::support::openssl::{STRICT, handshake, key, openssl, text, verify};
use crate::support::pods::{Pod, ending_in, token_file};
use crate::support::scene::Scene;
use crate::support::wait::until;

/// gRPC codes that say "come back".
const RETRIED: [u64; 4] = [8, 10, 13, 14];

#[test]
fn istio_retries_the_codes_that_we_mean_it_to() {
    for (code, attempts) in attempts_by_code() {
        let expected = if RETRIED.contains(&code) { 5 } else { 1 };
        assert_eq!(attempts, expected, "code {code}");
    }
}

#[test]
fn every_kind_of_key_gets_a_certificate_that_go_and_openssl_accept() {
    let scene = Scene::offline(json!({}));
    let token = scene.pod.token();
    let bundle = std::fs::read_to_string(scene.server.root()).unwrap();
    for (kind, algorithm, bits) in [
        ("rsa2048", "rsaEncryption", 2048),
        ("rsa3072", "rsaEncryption", 3072),
        ("rsa4096", "rsaEncryption", 4096),
        ("p256", "id-ecPublicKey", 256),
        ("p384", "id-ecPublicKey", 384),
    ] {
        let out = scene.new_directory(kind);
        let signed = scene.peer(&token).with_key(kind).with(["--out", text(&out)]).sign();
        signed.assert_good();
        // Leaf and root, each a certificate that ends its line; the root bundle as it is, in every answer.
        assert_eq!(signed.chain.len(), 2, "{signed:?}");
        assert_eq!(signed.chain[1], bundle);
        assert!(signed.chain[0].starts_with("-----BEGIN CERTIFICATE-----\n"));
        assert!(signed.chain[0].ends_with("-----END CERTIFICATE-----\n"));
        assert_eq!(signed.chain[0].matches("BEGIN").count(), 1);

        let chain = out.join("cert-chain.pem");
        let certificate = Certificate::read(&chain);
        certificate.assert_is_for_workload(&scene.pod.identity());
        assert_eq!(certificate.key(), (algorithm, bits));
        verify(&chain, &out.join("root-cert.pem"), STRICT).unwrap();
    }
}

#[test]
fn no_token_or_a_bad_one_is_refused_once() {
    let scene = Scene::offline(json!({}));
    let token = scene.pod.token();
    let missing = scene.place.path().join("missing");
    let refused = |peer: Peer| {
        let signed = peer.sign();
        signed.assert_refused("Unauthenticated", 1);
        // The log says why; the caller does not hear it.
        assert!(
            signed.error.ends_with("desc = request authenticate failure"),
            "{signed:?}"
        );
    };
    refused(Peer::new(&scene.server, &scene.pod, None));
    refused(Peer::new(&scene.server, &scene.pod, Some(&missing)));
    let flipped = format!("{}{}", &token[..token.len() - 8], "AAAAAAAA");
    let elsewhere = scene.pod.token_for("somebody-else", &cluster().server);
    for bad in [
        "junk",
        "a.b.c",
        "",
        &flipped,
        &elsewhere,
        &ending_in(-60, &token, cluster()),
    ] {
        refused(scene.peer(bad));
    }
    let counted = scene.server.metric("citadel_server_authentication_failure_count");
    assert_eq!(counted, Some(8.0));
    scene.sign(&token).assert_good();
}

#[test]
fn the_token_decides_who_is_certified_and_the_csr_never() {
    let scene = Scene::offline(json!({}));
    let out = scene.new_directory("out");
    let peer = scene.peer(&scene.pod.token());
    // The names that the client puts into its CSR.
    let peer = peer.with([
        "--namespace",
        "kube-system",
        "--service-account",
        "admin",
        "--trust-domain",
        "elsewhere",
    ]);
    peer.with(["--out", text(&out)]).sign().assert_good();
    Certificate::read(&out.join("cert-chain.pem")).assert_is_for_workload(&scene.pod.identity());
}

#[test]
fn a_strict_ca_refuses_a_csr_with_other_names() {
    let scene = Scene::offline(json!({"certificates": {"strictCsr": true}}));
    let peer = scene.peer(&scene.pod.token());
    peer.sign().assert_good();
    let peer = peer.with(["--namespace", "kube-system"]);
    peer.sign().assert_refused("InvalidArgument", 1);
}

#[test]
fn signer_names_and_unknown_headers_change_nothing() {
    let scene = Scene::offline(json!({}));
    let peer = || scene.peer(&scene.pod.token());
    peer()
        .with(["--cert-signer", "issuers.example.org/signer"])
        .sign()
        .assert_good();
    let long = format!("x-note={}", "y".repeat(8000));
    peer()
        .with(["--header", "x-note=1", "--header", &long])
        .sign()
        .assert_good();
}

#[test]
fn the_cluster_header_may_be_empty_or_ours() {
    let scene = Scene::offline(json!({}));
    let peer = || scene.peer(&scene.pod.token());
    for ours in ["", "Kubernetes"] {
        peer().with(["--cluster-id", ours]).sign().assert_good();
    }
    for others in ["elsewhere", "kubernetes"] {
        peer()
            .with(["--cluster-id", others])
            .sign()
            .assert_refused("Unauthenticated", 1);
    }
}

#[test]
fn lifetimes_are_as_asked_for_within_bounds() {
    let scene = Scene::offline(json!({"certificates": {"defaultLifetime": "2h"}}));
    let peer = || scene.peer(&scene.pod.token());
    const DAY: i64 = 86_400;
    for (asked, lasts) in [(60, 60), (3600, 3600), (90 * DAY, 90 * DAY), (0, 7200), (-1, 7200)] {
        let out = scene.new_directory(&format!("ttl{asked}"));
        let before = now();
        let peer = peer().with([&format!("--ttl={asked}"), "--out", text(&out)]);
        peer.sign().assert_good();
        let certificate = Certificate::read(&out.join("cert-chain.pem"));
        let end = certificate.not_after - lasts;
        assert!(
            (before..=now()).contains(&end),
            "{asked}: it ends at {}",
            certificate.not_after
        );
        // Clocks may differ, but a short certificate must not look half used when it is new.
        let back_dated = end - certificate.not_before;
        assert!(
            (0..=i64::min(120, lasts / 10)).contains(&back_dated),
            "{asked}: {back_dated}"
        );
    }
    for asked in [59, 1, 90 * DAY + 1, i64::MAX] {
        peer()
            .with([&format!("--ttl={asked}")])
            .sign()
            .assert_refused("InvalidArgument", 1);
    }
}

#[test]
fn no_certificate_outlives_its_signer() {
    let scene = Scene::offline(json!({"ca": {"selfSigned": {"lifetime": "48h"}}}));
    let out = scene.new_directory("out");
    let peer = scene.peer(&scene.pod.token());
    peer.with(["--ttl", "7776000", "--out", text(&out)])
        .sign()
        .assert_good();
    let ends = |path: &Path| Certificate::read(path).not_after;
    assert_eq!(ends(&out.join("cert-chain.pem")), ends(scene.server.root()));
}

#[test]
fn rotations_go_on_after_a_kill_and_after_a_stop() {
    let mut scene = Scene::offline(json!({"certificates": {"minimumLifetime": "10s"}}));
    let token = token_file(scene.place.path(), &scene.pod.token());
    let peer = Peer::new(&scene.server, &scene.pod, Some(&token));
    let peer = peer.with(["--ttl", "10", "--ratio", "0.8", "--jitter", "0"]);
    let mut cache = peer.cache(scene.place.path(), 4);
    cache.wait_for_rotations(1);
    scene.server.kill();
    until("the client to notice", Duration::from_secs(30), || {
        cache
            .events()
            .iter()
            .any(|event| event["event"] == "error")
            .then_some(())
    });
    scene.server.start_again();
    cache.wait_for_rotations(2);
    scene.server.stop();
    scene.server.start_again();
    let events = cache.wait_until_done();

    // The root did not change, so it was announced once, when it was new.
    let announced = events
        .iter()
        .filter(|event| event["event"] == "push" && event["name"] == "ROOTCA");
    assert_eq!(announced.count(), 1, "{events:?}");
    let mut serials: Vec<_> = events.iter().filter(|event| event["event"] == "secret").collect();
    serials.retain(|event| event["name"] == "default");
    assert!(serials.len() >= 5, "{events:?}");
}

/// A certificate of the pod, obtained by token: its chain, which ends with the root as Istio writes it, and its key.
struct Held {
    chain: String,
    key: String,
}

impl Held {
    fn obtain(scene: &Scene, lifetime: &str) -> Self {
        let out = scene.new_directory("held");
        let peer = scene.peer(&scene.pod.token());
        peer.with(["--out", text(&out), "--ttl", lifetime]).sign().assert_good();
        Self::of(&out.join("cert-chain.pem"), &out.join("key.pem"))
    }

    fn of(chain: &Path, key: &Path) -> Self {
        let (chain, key) = (text(chain).to_owned(), text(key).to_owned());
        Self { chain, key }
    }

    /// Self-signed by somebody else, in another pod's name.
    fn foreign(scene: &Scene, identity: &str) -> Self {
        let directory = scene.new_directory("foreign");
        let (chain, private) = (directory.join("chain.pem"), directory.join("key.pem"));
        key(&private, &["EC", "-pkeyopt", "ec_paramgen_curve:P-256"]);
        // By default `openssl req -x509` makes CAs.
        let configuration = directory.join("conf");
        let settings = format!(
            "[req]\ndistinguished_name = name\nprompt = no\nx509_extensions = leaf\n[name]\nCN = x\n[leaf]\n\
             basicConstraints = critical,CA:false\nsubjectAltName = URI:{identity}\nextendedKeyUsage = clientAuth,serverAuth\n"
        );
        std::fs::write(&configuration, settings).unwrap();
        let (configuration, private_text) = (text(&configuration), text(&private));
        let request = ["req", "-x509", "-new", "-config", configuration, "-key", private_text];
        openssl(&[&request[..], &["-days", "1", "-out", text(&chain)]].concat()).unwrap();
        Self::of(&chain, &private)
    }

    fn shown_by(&self, peer: Peer) -> Peer {
        peer.with(["--cert", &self.chain, "--tls-key", &self.key])
    }
}

impl Scene {
    fn without_token(&self) -> Peer {
        Peer::new(&self.server, &self.pod, None)
    }
}

#[test]
fn a_certificate_renews_itself_where_that_is_switched_on() {
    let scene = Scene::offline(json!({"authentication": {"clientCertificates": true}}));
    let held = Held::obtain(&scene, "3600");
    held.shown_by(scene.without_token()).sign().assert_good();
    // An expired token does not stand in its way; a token that is wrong does.
    let expired = ending_in(-60, &scene.pod.token(), cluster());
    held.shown_by(scene.peer(&expired)).sign().assert_good();
    held.shown_by(scene.peer("junk"))
        .sign()
        .assert_refused("Unauthenticated", 1);
    let by_certificate = scene
        .server
        .metric(r#"countersign_grants_total{method="client_certificate"}"#);
    assert_eq!(by_certificate, Some(2.0));
    // Of two proofs the token counts.
    let other = Pod::new();
    let peer = Peer::new(
        &scene.server,
        &other,
        Some(&token_file(scene.place.path(), &other.token())),
    );
    let out = scene.new_directory("other");
    held.shown_by(peer).with(["--out", text(&out)]).sign().assert_good();
    Certificate::read(&out.join("cert-chain.pem")).assert_is_for_workload(&other.identity());
}

#[test]
fn a_certificate_is_no_proof_where_that_is_switched_off() {
    let scene = Scene::offline(json!({}));
    let held = Held::obtain(&scene, "3600");
    held.shown_by(scene.without_token())
        .sign()
        .assert_refused("Unauthenticated", 1);
    held.shown_by(scene.peer(&scene.pod.token())).sign().assert_good();
}

#[test]
fn a_useless_certificate_never_stands_in_a_tokens_way() {
    let switched_on = json!({"clientCertificates": true});
    let scene = Scene::offline(json!({"authentication": switched_on, "certificates": {"minimumLifetime": "10s"}}));
    let foreign = Held::foreign(&scene, &scene.pod.identity());
    let expired = Held::obtain(&scene, "10");
    let end = Certificate::read(Path::new(&expired.chain)).not_after;
    until("the certificate's end", Duration::from_secs(20), || {
        (now() > end).then_some(())
    });
    // Istio's client itself leaves an expired one out; others do not.
    for (useless, reason) in [(foreign, "certificate_not_ours"), (expired, "no_credentials")] {
        let refusal = scene.server.refusal(|| {
            let signed = useless.shown_by(scene.without_token()).sign();
            signed.assert_refused("Unauthenticated", 1);
        });
        assert!(refusal.starts_with(reason), "{refusal}");
        useless.shown_by(scene.peer(&scene.pod.token())).sign().assert_good();
        for version in ["-tls1_2", "-tls1_3"] {
            let shown = ["-cert", &useless.chain, "-key", &useless.key, version];
            handshake(&scene.server, &shown).unwrap();
        }
    }
}

#[test]
fn a_connection_does_not_outlive_the_certificate_that_opened_it() {
    let switched_on = json!({"clientCertificates": true});
    let scene = Scene::offline(json!({"authentication": switched_on, "certificates": {"minimumLifetime": "10s"}}));
    let held = Held::obtain(&scene, "10");
    let end = Certificate::read(Path::new(&held.chain)).not_after;
    // It calls every two seconds, on one connection, and goes on showing what it showed at first.
    let peer = held.shown_by(scene.without_token());
    let peer = peer.with(["--ttl", "10", "--ratio", "0.8", "--jitter", "0"]);
    let mut cache = peer.cache(scene.place.path(), 100);
    cache.wait_for_rotations(2);
    let refusal = scene.server.refusal(|| {
        until("the first refusal", Duration::from_secs(30), || {
            scene.server.events("refused").pop().map(drop)
        });
    });
    assert!(refusal.starts_with("certificate_expired"), "{refusal}");
    assert!(now() >= end);
}

#[test]
fn plaintext_is_no_way_around_the_proof() {
    let scene = Scene::offline(json!({"listen": {"plaintext": "127.0.0.1:0"}}));
    let address = scene.server.events("listening")[0]["plaintext"]
        .as_str()
        .unwrap()
        .to_owned();
    let plain = |peer: Peer| peer.with(["--root", "", "--ca", &address]);
    plain(scene.without_token()).sign().assert_refused("Unauthenticated", 1);
    plain(scene.peer(&scene.pod.token())).sign().assert_good();
}
