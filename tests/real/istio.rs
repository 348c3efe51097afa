//! Istio's own clients, unmodified, with tokens of the demo's issuer.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::support::countersign::{Ca, binary};
use crate::support::istio::{PilotAgent, cache, judged_by_openssl, sign};
use crate::support::run;

/// A CA that believes an issuer whose token lies in the file.
struct Setting {
    ca: Ca,
    token: String,
    demo: tempfile::TempDir,
}

impl Setting {
    fn new(more: &str) -> Self {
        let demo = tempfile::tempdir().unwrap();
        run(Command::new(binary()).args(["demo", "--dir"]).arg(demo.path()));
        let ca = Ca::start(&format!(
            "authentication: {{clientCertificates: true, issuers: [{{issuer: 'https://demo.countersign.invalid', jwksFile: '{}/jwks.json'}}]}}\n{more}",
            demo.path().display()
        ));
        let token = demo.path().join("token").display().to_string();
        Self { ca, token, demo }
    }

    fn token_text(&self) -> String {
        std::fs::read_to_string(&self.token).unwrap()
    }

    fn file(&self, name: &str, content: &str) -> String {
        let path: PathBuf = self.demo.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.display().to_string()
    }
}

fn outcome(answer: &Value) -> (bool, &str, u64) {
    (
        answer["ok"] == true,
        answer["grpc_code"].as_str().unwrap(),
        answer["attempts"].as_u64().unwrap(),
    )
}

/// Conformance line 16: every key that Istio makes; Go judges the chain for clients and servers.
#[test]
fn every_key_type_gets_a_certificate_that_go_accepts() {
    let setting = Setting::new("");
    for key in ["rsa2048", "rsa3072", "rsa4096", "p256", "p384"] {
        let answer = sign(&setting.ca, &["--token", &setting.token, "--key", key]);
        assert_eq!(outcome(&answer), (true, "", 1), "{key}: {answer}");
        assert_eq!(answer["verified"], true, "{key}: {answer}");
        assert_eq!(answer["chain"].as_array().unwrap().len(), 2);
    }
}

/// Lines 10, 11, 19, 23, 24, 36: what is refused, with which code, and how often Istio's client tries then.
#[test]
fn refusals_are_not_retried_by_istios_client() {
    let setting = Setting::new("");
    let good = setting.token.clone();
    let junk = setting.file("junk", "a.b.c");
    let text = setting.token_text();
    let flipped = setting.file("flipped", &(text[..text.len() - 4].to_owned() + "AAAA"));
    for (what, arguments, expected) in [
        ("a good token", vec!["--token", &good], (true, "", 1)),
        (
            "no token",
            vec!["--token", "/nonexistent"],
            (false, "Unauthenticated", 1),
        ),
        ("a junk token", vec!["--token", &junk], (false, "Unauthenticated", 1)),
        (
            "a token with another signature",
            vec!["--token", &flipped],
            (false, "Unauthenticated", 1),
        ),
        (
            "another cluster",
            vec!["--token", &good, "--cluster-id", "other"],
            (false, "Unauthenticated", 1),
        ),
        (
            "a signer's name",
            vec!["--token", &good, "--cert-signer", "signer1"],
            (true, "", 1),
        ),
        (
            "unknown headers",
            vec!["--token", &good, "--header", "x-extra=1"],
            (true, "", 1),
        ),
        ("no lifetime", vec!["--token", &good, "--ttl", "0"], (true, "", 1)),
        (
            "too long",
            vec!["--token", &good, "--ttl", "7776001"],
            (false, "InvalidArgument", 1),
        ),
        (
            "too short",
            vec!["--token", &good, "--ttl", "59"],
            (false, "InvalidArgument", 1),
        ),
    ] {
        let answer = sign(&setting.ca, &arguments);
        assert_eq!(outcome(&answer), expected, "{what}: {answer}");
    }
}

/// Lines 5 and 12: a client certificate renews itself; a foreign one harms nobody.
#[test]
fn a_client_certificate_is_enough_and_never_in_the_way() {
    let setting = Setting::new("");
    let out = tempfile::tempdir().unwrap();
    let path = |name: &str| out.path().join(name).display().to_string();
    let first = sign(
        &setting.ca,
        &[
            "--token",
            &setting.token,
            "--key",
            "p256",
            "--out",
            out.path().to_str().unwrap(),
        ],
    );
    assert_eq!(outcome(&first), (true, "", 1), "{first}");
    let (chain, key) = (path("cert-chain.pem"), path("key.pem"));
    let renewed = sign(
        &setting.ca,
        &["--token", "/nonexistent", "--cert", &chain, "--tls-key", &key],
    );
    assert_eq!(outcome(&renewed), (true, "", 1), "{renewed}");
    run(Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=stranger"])
        .args(["-keyout", &path("other-key.pem"), "-out", &path("other.pem")]));
    let foreign = ["--cert", &path("other.pem"), "--tls-key", &path("other-key.pem")];
    let with_token = sign(
        &setting.ca,
        &[&["--token", setting.token.as_str()][..], &foreign[..]].concat(),
    );
    assert_eq!(outcome(&with_token), (true, "", 1), "{with_token}");
    let without = sign(&setting.ca, &[&["--token", "/nonexistent"][..], &foreign[..]].concat());
    assert_eq!(outcome(&without), (false, "Unauthenticated", 1), "{without}");
}

/// Line 37: Istio's secret cache goes on after the CA was killed and came back on the same port.
#[test]
fn rotations_survive_a_killed_ca() {
    let mut setting = Setting::new("certificates: {minimumLifetime: 10s}\n");
    let client = cache(
        &setting.ca,
        &[
            "--token",
            &setting.token,
            "--ttl",
            "10",
            "--ratio",
            "0.8",
            "--jitter",
            "0",
            "--rotations",
            "3",
            "--deadline",
            "60",
        ],
    );
    client.wait_for("\"event\":\"secret\"", 0);
    setting.ca.program.kill();
    let (position, _) = client.wait_for("\"event\":\"error\"", 0);
    setting.ca.restart();
    client.wait_for("\"event\":\"secret\"", position);
    client.wait_for("\"event\":\"done\"", position);
}

/// The unmodified pilot-agent gets and renews certificates: RSA, its default, and ECDSA; by address and by istiod's name.
#[test]
fn pilot_agent_gets_and_renews() {
    let setting = Setting::new("certificates: {minimumLifetime: 10s}\n");
    for (host, variables, key, usage) in [
        (
            "127.0.0.1",
            vec![],
            "rsaEncryption",
            "Digital Signature, Key Encipherment",
        ),
        (
            "localhost",
            vec![("ECC_SIGNATURE_ALGORITHM", "ECDSA")],
            "prime256v1",
            "Digital Signature",
        ),
        (
            "127.0.0.1",
            vec![("ECC_SIGNATURE_ALGORITHM", "ECDSA"), ("ECC_CURVE", "P384")],
            "secp384r1",
            "Digital Signature",
        ),
    ] {
        let lifetime = [("SECRET_TTL", "10s"), ("SECRET_GRACE_PERIOD_RATIO", "0.8")];
        let directory = PilotAgent::prepare(&setting.token_text());
        let mut agent = PilotAgent::start(&setting.ca, directory, host, &[&lifetime[..], &variables].concat());
        agent.wait_for(3);
        let text = judged_by_openssl(&agent.certificates());
        for expected in [key, usage, "URI:spiffe://cluster.local/ns/default/sa/sleep", "CA:FALSE"] {
            assert!(text.contains(expected), "{expected} is missing in\n{text}");
        }
        assert!(text.contains("X509v3 Subject Alternative Name: critical"), "{text}");
        assert_eq!(agent.program.stop(), Some(0));
    }
}

/// A refused agent recovers as soon as its token does.
#[test]
fn pilot_agent_recovers_when_its_token_does() {
    let setting = Setting::new("");
    let directory = PilotAgent::prepare("wrong.token.here");
    let token = directory.path().join("var/run/secrets/tokens/istio-token");
    let agent = PilotAgent::start(&setting.ca, directory, "127.0.0.1", &[]);
    agent.program.wait_for("code = Unauthenticated", 0);
    std::fs::write(token, setting.token_text()).unwrap();
    agent.wait_for(1);
    judged_by_openssl(&agent.certificates());
}

/// A machine outside of the cluster: the first certificate by token, every further one by certificate.
#[test]
fn pilot_agent_renews_by_its_certificate_alone() {
    let setting = Setting::new("certificates: {minimumLifetime: 10s}\n");
    let directory = PilotAgent::prepare(&setting.token_text());
    std::fs::copy(setting.ca.root(), directory.path().join("certs/root-cert.pem")).unwrap();
    let token = directory.path().join("var/run/secrets/tokens/istio-token");
    let variables = [
        ("PROV_CERT", "./certs"),
        ("SECRET_TTL", "30s"),
        ("SECRET_GRACE_PERIOD_RATIO", "0.9"),
    ];
    let mut agent = PilotAgent::start(&setting.ca, directory, "127.0.0.1", &variables);
    agent.wait_for(1);
    agent.program.stop();
    std::fs::remove_file(token).unwrap();
    let again = PilotAgent::start(&setting.ca, agent.directory, "127.0.0.1", &variables);
    again.wait_for(2);
    setting.ca.program.wait_for("method=\"client_certificate\"", 0);
}
