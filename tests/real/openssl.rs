//! `openssl` as the judge: of every kind of CA that loads, and of the listener's TLS.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::support::countersign::{Ca, binary};
use crate::support::run;

fn demo() -> tempfile::TempDir {
    let demo = tempfile::tempdir().unwrap();
    run(Command::new(binary()).args(["demo", "--dir"]).arg(demo.path()));
    demo
}

fn issuers(demo: &Path) -> String {
    format!(
        "authentication: {{issuers: [{{issuer: 'https://demo.countersign.invalid', jwksFile: '{}/jwks.json'}}]}}\n",
        demo.display()
    )
}

/// Folders whose leaves a verifier refuses for what stands in the CA's own certificates; `check` warns about both.
const WARNED: [&str; 2] = ["name-constraints-and-policies", "root-that-is-not-self-signed"];

/// Conformance line 30, and the admin's recipe: whatever CA loads, `openssl verify` accepts its leaves for both purposes.
#[test]
fn leaves_of_every_plugged_in_ca_verify() {
    let demo = demo();
    let folders = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/cacerts/good");
    let mut names: Vec<PathBuf> = std::fs::read_dir(folders)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    names.retain(|folder| !WARNED.iter().any(|name| folder.ends_with(name)));
    assert!(names.len() >= 25);
    for folder in names {
        let root = ["root-cert.pem", "ca.crt"]
            .map(|name| folder.join(name))
            .into_iter()
            .find(|path| path.exists())
            .unwrap();
        let mut ca = Ca::start(&format!(
            "ca: {{type: plugged-in, directory: '{}'}}\n{}",
            folder.display(),
            issuers(demo.path())
        ));
        let out = tempfile::tempdir().unwrap();
        // The CA understands what people make of PEM; a client's root file holds certificates alone, as the CA writes them.
        let text = std::fs::read_to_string(&root).unwrap();
        let (begin, end) = ("-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----");
        let roots = text
            .split(begin)
            .skip(1)
            .map(|rest| format!("{begin}{}{end}\n", rest.split(end).next().unwrap()));
        std::fs::write(ca.root(), roots.collect::<String>()).unwrap();
        run(Command::new(binary())
            .args(["request", "--ca", &ca.address(), "--token"])
            .arg(demo.path().join("token"))
            .arg("--root")
            .arg(ca.root())
            .arg("--out")
            .arg(out.path()));
        let file = |name: &str| out.path().join(name).display().to_string();
        for purpose in ["sslserver", "sslclient"] {
            let verified = run(Command::new("openssl")
                .args(["verify", "-purpose", purpose, "-CAfile", &file("root-cert.pem")])
                .args(["-untrusted", &file("cert-chain.pem"), &file("cert-chain.pem")]));
            assert!(verified.ends_with(": OK\n"), "{}: {verified}", folder.display());
        }
        ca.program.stop();
    }
}

fn s_client(ca: &Ca, arguments: &[&str]) -> Output {
    let mut command = Command::new("openssl");
    command
        .args(["s_client", "-connect", &ca.address(), "-CAfile"])
        .arg(ca.root());
    command
        .args(["-verify_return_error", "-alpn", "h2"])
        .args(arguments)
        .stdin(Stdio::null());
    command.output().unwrap()
}

/// Lines 1, 2, 6: versions, suites, ALPN, with and without a server name; older versions are refused.
#[test]
fn the_listener_speaks_tls_1_2_and_1_3() {
    let demo = demo();
    let ca = Ca::start(&issuers(demo.path()));
    for arguments in [
        vec!["-tls1_3", "-ciphersuites", "TLS_AES_128_GCM_SHA256"],
        vec!["-tls1_3", "-ciphersuites", "TLS_AES_256_GCM_SHA384", "-groups", "P-256"],
        vec!["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"],
        vec![
            "-tls1_2",
            "-cipher",
            "ECDHE-ECDSA-AES256-GCM-SHA384",
            "-groups",
            "P-256",
        ],
        vec!["-noservername"],
        vec!["-servername", "anything.example"],
    ] {
        let output = s_client(&ca, &arguments);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{arguments:?}: {text}");
        assert!(
            text.contains("ALPN protocol: h2") && text.contains("Verify return code: 0 (ok)"),
            "{arguments:?}: {text}"
        );
    }
    for arguments in [
        vec!["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"],
        vec!["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA:@SECLEVEL=0"],
        vec!["-tls1_2", "-cipher", "AES128-GCM-SHA256"],
    ] {
        assert!(!s_client(&ca, &arguments).status.success(), "{arguments:?}");
    }
}

/// Nothing is resumed: every one of five reconnections is a new handshake.
#[test]
fn no_session_is_resumed() {
    let demo = demo();
    let ca = Ca::start(&issuers(demo.path()));
    let output = s_client(&ca, &["-tls1_2", "-reconnect"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        text.matches("New, TLSv1.2").count() >= 6 && !text.contains("Reused"),
        "{text}"
    );
}
