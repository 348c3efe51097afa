//! Istio's agent, unmodified, as it runs in every sidecar: without Envoy, and with its certificates written to files, where `openssl` judges
//! them.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::certificate::{Certificate, now};
use crate::support::cluster::cluster;
use crate::support::istio::{PilotAgent, PilotAgentSetup};
use crate::support::openssl::{STRICT, openssl, text, verify};
use crate::support::pods::Reviewer;
use crate::support::scene::Scene;

/// The shortest that the settings allow; the agent renews at half of it.
fn short_lives() -> Value {
    json!({"certificates": {"minimumLifetime": "10s"}})
}

/// The agent of the scene's pod, in a directory of the scene.
struct Place<'a> {
    scene: &'a Scene,
    directory: PathBuf,
}

impl<'a> Place<'a> {
    fn new(scene: &'a Scene, name: &str) -> Self {
        let directory = scene.new_directory(name);
        Self { scene, directory }
    }

    fn give_token(&self, token: &str) {
        PilotAgent::give_token(&self.directory, token);
    }

    fn start(&self, ca_host: &str, environment: &[(&str, &str)]) -> PilotAgent {
        PilotAgent::start(&PilotAgentSetup {
            directory: &self.directory,
            ca_address: format!("{ca_host}:{}", self.scene.server.address.port()),
            root: self.scene.server.root(),
            pod: &self.scene.pod,
            environment,
        })
    }
}

/// What the agent wrote is as it should be, in the eyes of `openssl`.
fn assert_good_files(agent: &PilotAgent, scene: &Scene, algorithm: &str, bits: u32) -> Certificate {
    let (chain, roots, key) = (
        agent.file("cert-chain.pem"),
        agent.file("root-cert.pem"),
        agent.file("key.pem"),
    );
    verify(&chain, &roots, STRICT).unwrap();
    let certificate = Certificate::read(&chain);
    certificate.assert_is_for_workload(&scene.pod.identity());
    assert_eq!(certificate.key(), (algorithm, bits));
    assert_eq!(
        public_key("pkey", &key),
        public_key("x509", &chain),
        "the key is another one's"
    );
    let text = |path: &Path| std::fs::read_to_string(path).unwrap();
    // It leaves the last end of line out.
    assert_eq!(text(&roots), text(scene.server.root()).trim_end());
    // Ten seconds and, before them, a tenth for clocks that differ.
    assert_eq!(certificate.not_after - certificate.not_before, 11);
    assert!((certificate.not_before..certificate.not_after).contains(&now()));
    certificate
}

fn public_key(command: &str, file: &Path) -> String {
    let arguments: &[&str] = match command {
        "x509" => &["x509", "-noout", "-pubkey", "-in", text(file)],
        _ => &["pkey", "-pubout", "-in", text(file)],
    };
    openssl(arguments).unwrap()
}

/// A name, the CA's host, variables, and the algorithm and size of the key that they lead to.
type Case = (
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str)],
    &'static str,
    u32,
);

#[test]
fn it_gets_and_renews_certificates_for_every_kind_of_key() {
    let scene = Scene::reviewed_by(&cluster().server, &Reviewer::new(), short_lives());
    let token = scene.pod.token();
    const ECDSA: (&str, &str) = ("ECC_SIGNATURE_ALGORITHM", "ECDSA");
    let cases: [Case; 3] = [
        // By default it makes RSA keys.
        ("rsa", "127.0.0.1", &[], "rsaEncryption", 2048),
        // For this host it wants to see the name istiod.istio-system.svc.
        (
            "p256",
            "localhost",
            // TLS 1.2 and P-256, and nothing else.
            &[ECDSA, ("PKCS8_KEY", "true"), ("COMPLIANCE_POLICY", "fips-140-2")],
            "id-ecPublicKey",
            256,
        ),
        (
            "p384",
            "127.0.0.1",
            &[ECDSA, ("ECC_CURVE", "P384")],
            "id-ecPublicKey",
            384,
        ),
    ];
    std::thread::scope(|scope| {
        for (name, host, environment, algorithm, bits) in cases {
            let (scene, token) = (&scene, &token);
            scope.spawn(move || {
                let place = Place::new(scene, name);
                place.give_token(token);
                let mut agent = place.start(host, environment);
                agent.wait_for_certificates(1);
                let first = assert_good_files(&agent, scene, algorithm, bits);
                agent.wait_for_certificates(3);
                let third = assert_good_files(&agent, scene, algorithm, bits);
                assert_ne!(first.serial, third.serial);
                agent.stop();
            });
        }
    });
    let serials: std::collections::BTreeSet<_> = scene
        .server
        .events("issued")
        .iter()
        .map(|line| line["serial"].as_str().unwrap().to_owned())
        .collect();
    assert!(serials.len() >= 9, "{serials:?}");
    assert_eq!(scene.server.events("refused"), Vec::<Value>::new());
}

#[test]
fn it_goes_on_after_the_ca_was_killed_and_started_again() {
    let mut scene = Scene::offline(short_lives());
    let place = Place::new(&scene, "agent");
    place.give_token(&scene.pod.token());
    let mut agent = place.start("127.0.0.1", &[]);
    agent.wait_for_certificates(1);
    let before = Certificate::read(&agent.file("cert-chain.pem"));
    scene.server.kill();
    agent.wait_for_line("failed to sign CSR");
    scene.server.start_again();
    agent.wait_for_certificates(3);
    let after = assert_good_files(&agent, &scene, "rsaEncryption", 2048);
    assert_ne!(before.serial, after.serial);
}

#[test]
fn it_recovers_when_its_token_becomes_right() {
    let scene = Scene::reviewed_by(&cluster().server, &Reviewer::new(), short_lives());
    let place = Place::new(&scene, "agent");
    place.give_token(&scene.pod.token_for("somebody-else", &cluster().server));
    let mut agent = place.start("127.0.0.1", &[]);
    agent.wait_for_line("code = Unauthenticated desc = request authenticate failure");
    assert!(!agent.file("cert-chain.pem").exists());
    place.give_token(&scene.pod.token());
    agent.wait_for_certificates(1);
    assert_good_files(&agent, &scene, "rsaEncryption", 2048);
}

#[test]
fn it_renews_with_its_certificate_alone() {
    let renewing = json!({"authentication": {"clientCertificates": true}, "certificates": {"minimumLifetime": "10s"}});
    let scene = Scene::offline(renewing);
    let place = Place::new(&scene, "agent");
    place.give_token(&scene.pod.token());
    // What it writes is what it shows, as on virtual machines. Connections keep the certificate of their handshake: it has to last.
    let by_certificate = [
        ("PROV_CERT", "./certs"),
        ("SECRET_TTL", "60s"),
        ("SECRET_GRACE_PERIOD_RATIO", "0.95"),
    ];
    std::fs::create_dir(place.directory.join("certs")).unwrap();
    std::fs::copy(scene.server.root(), place.directory.join("certs/root-cert.pem")).unwrap();
    let mut agent = place.start("127.0.0.1", &by_certificate);
    agent.wait_for_certificates(1);
    agent.stop();

    std::fs::remove_file(place.directory.join("var/run/secrets/tokens/istio-token")).unwrap();
    let before = Certificate::read(&agent.file("cert-chain.pem"));
    let count = |method: &str| {
        scene
            .server
            .metric(&format!(r#"countersign_grants_total{{method="{method}"}}"#))
    };
    let by_token = count("offline_jwt");
    let mut agent = place.start("127.0.0.1", &by_certificate);
    agent.wait_for_certificates(4);
    let after = Certificate::read(&agent.file("cert-chain.pem"));
    after.assert_is_for_workload(&scene.pod.identity());
    assert_ne!(before.serial, after.serial);
    assert_eq!(count("offline_jwt"), by_token);
    assert!(count("client_certificate") >= Some(2.0));
}

#[test]
fn it_trusts_no_ca_but_the_one_it_was_given_and_sees_when_that_changes() {
    let (scene, stranger) = (Scene::offline(short_lives()), Scene::offline(short_lives()));
    let place = Place::new(&scene, "agent");
    place.give_token(&scene.pod.token());
    let root = scene.place.path().join("root.pem");
    std::fs::copy(stranger.server.root(), &root).unwrap();
    let mut agent = PilotAgent::start(&PilotAgentSetup {
        directory: &place.directory,
        ca_address: scene.server.address.to_string(),
        root: &root,
        pod: &scene.pod,
        environment: &[],
    });
    agent.wait_for_line("certificate signed by unknown authority");
    assert!(!agent.file("cert-chain.pem").exists());
    assert_eq!(scene.server.metric("citadel_server_csr_count"), Some(0.0));
    // By a rename, as kubelet does it.
    let new = scene.place.path().join("new-root.pem");
    std::fs::copy(scene.server.root(), &new).unwrap();
    std::fs::rename(&new, &root).unwrap();
    agent.wait_for_certificates(1);
    assert_good_files(&agent, &scene, "rsaEncryption", 2048);
}
