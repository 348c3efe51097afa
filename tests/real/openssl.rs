//! The `openssl` command as a TLS client, as the maker of companies' CAs, and as the judge of what is issued under them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use crate::support::certificate::Certificate;
use crate::support::companies::{Company, SIGNERS};
use crate::support::countersign::{Countersign, verified_offline, with};
use crate::support::istio::Peer;
use crate::support::openssl::{handshake, key, openssl, text, verify};
use crate::support::pods::token_file;
use crate::support::process::output;
use crate::support::scene::Scene;
use crate::support::wait::until;
use crate::support::webpki;

fn assert_handshake(server: &Countersign, arguments: &[&str], expected: &[&str]) {
    let printed = handshake(server, arguments).unwrap();
    for expected in expected.iter().chain(&["Verify return code: 0 (ok)"]) {
        assert!(
            printed.contains(expected),
            "{arguments:?}: no {expected:?} in\n{printed}"
        );
    }
}

/// The suites of each version. An RSA certificate, which only an administrator can bring, has its own for TLS 1.2.
const TLS13: [&str; 3] = [
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
];
const TLS12: [&str; 3] = ["AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305"];

fn assert_every_suite(server: &Countersign, kind: &str) {
    for suite in TLS13 {
        let arguments = ["-alpn", "h2", "-tls1_3", "-ciphersuites", suite];
        assert_handshake(
            server,
            &arguments,
            &[&format!("New, TLSv1.3, Cipher is {suite}"), "ALPN protocol: h2"],
        );
    }
    for suite in TLS12.map(|suite| format!("ECDHE-{kind}-{suite}")) {
        let arguments = ["-alpn", "h2", "-tls1_2", "-cipher", &suite];
        assert_handshake(
            server,
            &arguments,
            &[&format!("New, TLSv1.2, Cipher is {suite}"), "ALPN protocol: h2"],
        );
    }
}

#[test]
fn handshakes_of_every_version_and_suite() {
    let scene = Scene::offline(json!({}));
    let server = &scene.server;
    assert_every_suite(server, "ECDSA");
    for group in ["X25519", "P-256", "P-384"] {
        assert_handshake(server, &["-alpn", "h2", "-groups", group], &["ALPN protocol: h2"]);
    }
    // Whatever name is asked for, and none.
    assert_handshake(server, &["-noservername"], &[]);
    assert_handshake(server, &["-servername", "anything.example.org"], &[]);
    for (name, check) in [
        ("istiod.istio-system.svc", "-verify_hostname"),
        ("127.0.0.1", "-verify_ip"),
    ] {
        assert_handshake(server, &[check, name], &[]);
    }
    let refused: [&[&str]; 6] = [
        &["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"],
        &["-tls1", "-cipher", "ALL:@SECLEVEL=0"],
        &["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA256"],
        &["-tls1_2", "-cipher", "AES128-GCM-SHA256"],
        &["-alpn", "http/1.1"],
        &["-verify_hostname", "istiod.example.org"],
    ];
    for arguments in refused {
        let answer = handshake(server, arguments);
        assert!(answer.is_err(), "{arguments:?}: {answer:?}");
    }
}

#[test]
fn the_serving_certificate_says_what_it_is_for() {
    let scene = Scene::offline(json!({}));
    let shown = handshake(&scene.server, &["-showcerts"]).unwrap();
    let path = scene.place.path().join("shown.pem");
    std::fs::write(&path, &shown).unwrap();
    let certificate = Certificate::read(&path);
    assert_eq!(
        certificate.names,
        "critical DNS:istiod.istio-system.svc, IP Address:127.0.0.1"
    );
    let extension = |name: &str| certificate.extension(name);
    assert_eq!(
        extension("X509v3 Basic Constraints").as_deref(),
        Some("critical CA:FALSE")
    );
    let usage = extension("X509v3 Extended Key Usage");
    assert_eq!(usage.as_deref(), Some("TLS Web Server Authentication"));
    // The root is the client's own.
    assert_eq!(shown.matches("BEGIN CERTIFICATE").count(), 1, "{shown}");
    assert!(
        shown.contains("Acceptable client certificate CA names")
            || shown.contains("No client certificate CA names sent")
    );
}

#[test]
fn no_session_is_resumed() {
    let scene = Scene::offline(json!({}));
    // -reconnect: five more times with the session of the first.
    let printed = handshake(&scene.server, &["-tls1_2", "-reconnect"]).unwrap();
    assert!(
        printed.matches("New, TLSv1.2").count() >= 6 && !printed.contains("Reused"),
        "{printed}"
    );
    let session = scene.place.path().join("session");
    for version in ["-tls1_2", "-tls1_3"] {
        // In TLS 1.3 there is nothing to keep: no ticket is ever sent.
        let _ = handshake(&scene.server, &[version, "-sess_out", text(&session)]);
        let again: &[&str] = match session.exists() {
            true => &[version, "-sess_in", text(&session)],
            false => &[version],
        };
        let printed = handshake(&scene.server, again).unwrap();
        assert!(
            printed.contains("New, ") && !printed.contains("Reused"),
            "{version}: {printed}"
        );
        assert!(!printed.contains("TLS session ticket:"), "{version}: {printed}");
        let _ = std::fs::remove_file(&session);
    }
}

/// A serving certificate from the key of this server's CA, as an administrator might make one.
fn make_serving(scene: &Scene, signer: &Countersign, kind: &[&str], name: &str) {
    let path = |name: &str| scene.place.path().join(name);
    let authority = signer.root().parent().unwrap();
    key(&path("new.key"), kind);
    openssl(&[
        "req",
        "-new",
        "-key",
        text(&path("new.key")),
        "-subj",
        "/",
        "-out",
        text(&path("new.csr")),
    ])
    .unwrap();
    let extensions =
        format!("subjectAltName=DNS:istiod.istio-system.svc,IP:127.0.0.1,DNS:{name}\nextendedKeyUsage=serverAuth\n");
    std::fs::write(path("new.ext"), extensions).unwrap();
    openssl(&[
        "x509",
        "-req",
        "-in",
        text(&path("new.csr")),
        "-CA",
        text(&authority.join("ca-cert.pem")),
        "-CAkey",
        text(&authority.join("ca-key.pem")),
        "-days",
        "1",
        "-extfile",
        text(&path("new.ext")),
        "-out",
        text(&path("new.pem")),
    ])
    .unwrap();
    for (from, to) in [("new.key", "serving.key"), ("new.pem", "serving.pem")] {
        std::fs::rename(path(from), path(to)).unwrap();
    }
}

/// A CA that shows a serving certificate from files.
fn serving_from_files(kind: &[&str]) -> Scene {
    // The root exists once the CA ran; then an administrator makes serving certificates under it.
    let mut scene = Scene::offline(json!({"certificates": {"minimumLifetime": "10s"}}));
    make_serving(&scene, &scene.server, kind, "first.example.org");
    scene.server.stop();
    let file = |name: &str| scene.place.path().join(name);
    let files = json!({"servingCertificate": {"certificateFile": file("serving.pem"), "keyFile": file("serving.key")}});
    scene.server.change_settings(files);
    scene.server.start_again();
    scene
}

const P256: &[&str] = &["EC", "-pkeyopt", "ec_paramgen_curve:P-256"];

#[test]
fn a_serving_certificate_in_files_is_swapped_without_a_failed_call() {
    let scene = serving_from_files(&["RSA", "-pkeyopt", "rsa_keygen_bits:2048"]);
    assert_every_suite(&scene.server, "RSA");

    let token = token_file(scene.place.path(), &scene.pod.token());
    let peer = Peer::new(&scene.server, &scene.pod, Some(&token));
    let peer = peer.with(["--ttl", "10", "--ratio", "0.8", "--jitter", "0"]);
    let mut cache = peer.cache(scene.place.path(), 5);
    cache.wait_for_rotations(1);
    make_serving(&scene, &scene.server, P256, "second.example.org");
    until("the second certificate", Duration::from_secs(20), || {
        let shown = handshake(
            &scene.server,
            &["-alpn", "h2", "-verify_hostname", "second.example.org"],
        )
        .ok()?;
        shown.contains("ALPN protocol: h2").then_some(())
    });
    for version in ["-tls1_2", "-tls1_3"] {
        assert_handshake(&scene.server, &[version, "-alpn", "h2"], &["ALPN protocol: h2"]);
    }
    for version in ["1.2", "1.3"] {
        // Go's gRPC refuses servers that do not choose it.
        let asked = scene.peer(&scene.pod.token()).with(["--tls", version]).ask();
        assert!(asked.signed.ok && asked.tls_version.ends_with(version), "{asked:?}");
    }
    // A caller that was there before, on its old connection, and one that comes new.
    let events = cache.wait_until_done();
    assert!(!events.iter().any(|event| event["event"] == "error"), "{events:?}");
    scene.sign(&scene.pod.token()).assert_good();
}

#[test]
fn clients_that_hold_both_roots_do_not_notice_a_serving_certificate_of_the_other() {
    let (scene, other) = (serving_from_files(P256), Scene::offline(json!({})));
    let roots = [&scene, &other].map(|scene| std::fs::read_to_string(scene.server.root()).unwrap());
    let both = scene.place.path().join("both.pem");
    std::fs::write(&both, roots.concat()).unwrap();
    let token = scene.pod.token();
    let peer = || scene.peer(&token).with(["--root", text(&both)]);
    let rotating = peer().with(["--ttl", "10", "--ratio", "0.8", "--jitter", "0"]);
    let mut cache = rotating.cache(scene.place.path(), 5);
    cache.wait_for_rotations(1);
    make_serving(&scene, &other.server, P256, "second.example.org");
    until("the other root", Duration::from_secs(20), || {
        handshake(&scene.server, &[]).is_err().then_some(())
    });
    peer().sign().assert_good();
    let events = cache.wait_until_done();
    assert!(!events.iter().any(|event| event["event"] == "error"), "{events:?}");
    // Those that hold the old root alone do.
    let signed = scene.sign(&token);
    signed.assert_refused("Unavailable", 0);
    assert!(signed.error.contains("unknown authority"), "{signed:?}");
}

/// What the proxies of a pod show, split and compared as administrators do it after plugging in a CA.
const RECIPE: &str = r#"
awk '/BEGIN CERT/{n++; p=1} p{print > ("proxy-cert-" n ".pem")} /END CERT/{p=0}' cert-chain.pem
for number in $(seq 2 "$SHOWN"); do test -s "proxy-cert-$number.pem"; done
test ! -e "proxy-cert-$((SHOWN + 1)).pem"
diff <(openssl x509 -text -noout -in "proxy-cert-$SHOWN.pem") <(openssl x509 -text -noout -in "$CACERTS/root-cert.pem")
diff <(openssl x509 -text -noout -in proxy-cert-2.pem) <(openssl x509 -text -noout -in "$CACERTS/ca-cert.pem")
openssl verify -CAfile <(cat "$CACERTS"/{ca-cert,cert-chain,root-cert}.pem) proxy-cert-1.pem
"#;

fn assert_recipe(folder: &Path, cacerts: &Path, shown: usize) {
    let mut shell = Command::new("bash");
    shell.args(["-euo", "pipefail", "-c", RECIPE]).current_dir(folder);
    shell.env("CACERTS", cacerts).env("SHOWN", shown.to_string());
    let printed = output(&mut shell).unwrap();
    assert!(printed.ends_with("proxy-cert-1.pem: OK\n"), "{printed}");
}

#[test]
fn every_kind_of_company_ca_issues_what_openssl_go_and_webpki_accept() {
    let scene = Scene::offline(json!({}));
    let token = scene.pod.token();
    for signer in SIGNERS {
        let company = Company::make(&scene.new_directory(signer.name), &signer);
        let ca = json!({"ca": {"type": "plugged-in", "directory": company.cacerts}});
        let server = Countersign::start(with(verified_offline(scene.place.path()), ca));
        let out = scene.new_directory(&format!("{}-out", signer.name));
        let peer = Peer::new(&server, &scene.pod, Some(&token_file(scene.place.path(), &token)));
        let signed = peer.with(["--out", text(&out)]).sign();
        signed.assert_good();
        assert_eq!(signed.chain.len(), company.shown, "{}", signer.name);
        // Our own certificate comes with everything below the root.
        let shown = handshake(&server, &["-showcerts"]).unwrap();
        assert_eq!(shown.matches("BEGIN CERTIFICATE").count(), company.shown - 1, "{shown}");
        assert_recipe(&out, &company.cacerts, company.shown);
        webpki::verify(&signed.chain).unwrap_or_else(|error| panic!("{}: {error}", signer.name));
        Certificate::read(&out.join("cert-chain.pem")).assert_is_for_workload(&scene.pod.identity());
    }
}

/// Folders whose leaves `openssl` refuses for what stands in the CA's own certificates; `check` warns about both.
const WARNED: [&str; 2] = ["name-constraints-and-policies", "root-that-is-not-self-signed"];

#[test]
fn every_folder_that_loads_issues_what_openssl_accepts() {
    let scene = Scene::offline(json!({}));
    let token = token_file(scene.place.path(), &scene.pod.token());
    let folders = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/cacerts/good");
    let mut judged = 0;
    for folder in std::fs::read_dir(folders).unwrap() {
        let folder: PathBuf = folder.unwrap().path();
        let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
        if WARNED.contains(&name.as_str()) {
            continue;
        }
        let ca = json!({"ca": {"type": "plugged-in", "directory": folder}});
        let server = Countersign::start(with(verified_offline(scene.place.path()), ca));
        let out = scene.new_directory(&name);
        let roots = ["ca.crt", "root-cert.pem"].map(|file| folder.join(file));
        let roots = certificates_alone(roots.iter().find(|file| file.exists()).unwrap());
        let trusted = scene.place.path().join(format!("{name}.pem"));
        std::fs::write(&trusted, roots).unwrap();
        let request = [
            "request",
            "--ca",
            &server.address.to_string(),
            "--root",
            text(&trusted),
            "--token",
            text(&token),
            "--out",
            text(&out),
        ]
        .map(str::to_owned);
        output(Command::new(env!("CARGO_BIN_EXE_countersign")).args(request)).unwrap();
        let (chain, roots) = (out.join("cert-chain.pem"), out.join("root-cert.pem"));
        verify(&chain, &roots, &[]).unwrap_or_else(|error| panic!("{name}: {error}"));
        judged += 1;
    }
    assert!(judged >= 25, "{judged}");
}

/// We understand what people make of PEM; the root file of a proxy holds certificates and nothing else.
fn certificates_alone(file: &Path) -> String {
    let text = std::fs::read(file).unwrap();
    let text = String::from_utf8_lossy(&text);
    let (begin, end) = ("-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----");
    let blocks = text.split(begin).skip(1).map(|rest| rest.split(end).next().unwrap());
    blocks.map(|block| format!("{begin}{block}{end}\n")).collect()
}
