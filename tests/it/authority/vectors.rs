//! Every folder under `tests/vectors/cacerts` leads to exactly what `good.txt` and `bad.txt` say. `UPDATE=1 cargo test --test it
//! authority::vectors` writes them anew, to be read before they are committed; `make` beside them makes the folders.

use std::fmt::Write;
use std::path::Path;

use countersign::agent::Connection;
use countersign::authority::{self, CaKind, CaSnapshot, Error, Report};

use countersign::platform::crypto;

use super::{NOW, cacerts, config, content, copy, leaf, open};

/// Runs `look` on a private copy of each folder and compares what it wrote, folder by folder.
fn check(kind: &str, least: usize, look: impl Fn(&str, &Path) -> String) {
    let mut names: Vec<String> = std::fs::read_dir(cacerts().join(kind))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert!(names.len() >= least, "only {} folders", names.len());
    let mut text = String::new();
    for name in names {
        let directory = tempfile::tempdir().unwrap();
        copy(&cacerts().join(kind).join(&name), &directory.path().join("cacerts"));
        writeln!(text, "[{name}]\n{}", look(&name, directory.path())).unwrap();
    }
    let path = cacerts().join(format!("{kind}.txt"));
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    for (found, expected) in text.split("\n[").zip(expected.split("\n[")) {
        assert_eq!(found, expected, "{}", path.display());
    }
    assert_eq!(text, expected);
}

fn findings(report: &Report) -> String {
    let mut text = String::new();
    for error in &report.errors {
        writeln!(text, "error: {error}").unwrap();
    }
    for warning in &report.warnings {
        writeln!(text, "warning: {warning}").unwrap();
    }
    text
}

fn description(ca: &CaSnapshot) -> String {
    let mut text = format!("key: {}\n", ca.key().algorithm());
    for member in ca.chain() {
        writeln!(text, "chain: {}", member.subject_text()).unwrap();
    }
    for root in ca.bundle().roots() {
        writeln!(text, "root: {}", root.subject_text()).unwrap();
    }
    writeln!(text, "until: {}", ca.validity().not_after).unwrap();
    match leaf::verify(ca, NOW) {
        Ok(()) => text.push_str("a certificate under it verifies\n"),
        Err(error) => writeln!(text, "a certificate under it does not verify: {error}").unwrap(),
    }
    text
}

#[test]
fn good_folders_sign() {
    check("good", 25, |name, directory| {
        let config = config(CaKind::PluggedIn, directory);
        let inspection = authority::inspect_plugged_in(&config.plugged_in_directory, NOW).unwrap();
        let ca = inspection
            .ca
            .unwrap_or_else(|| panic!("{name}: {:?}", inspection.report));
        let opened = open(&config, NOW).unwrap();
        assert_eq!(opened.snapshot.chain(), ca.chain());
        assert_eq!(opened.snapshot.validity(), ca.validity());
        assert_eq!(opened.warnings, inspection.report.warnings);
        assert!(content(&config.self_signed.directory).is_empty(), "a root was made");
        // `request --root` takes whatever `serve` takes, and trusts the same roots.
        let file = ["root-cert.pem", "ca.crt"].map(|file| directory.join("cacerts").join(file));
        let roots = std::fs::read(file.iter().find(|file| file.exists()).unwrap()).unwrap();
        Connection::tls(&roots, "istiod.istio-system.svc", None).unwrap_or_else(|error| panic!("{name}: {error}"));
        let read = crypto::certificates(&roots).unwrap();
        let trusted: Vec<&[u8]> = ca.roots().roots().iter().map(|root| &**root.der()).collect();
        assert!(read.iter().all(|root| trusted.contains(&&**root)), "{name}");
        assert!(
            trusted.iter().all(|root| read.iter().any(|read| **read == **root)),
            "{name}"
        );
        description(&opened.snapshot) + &findings(&inspection.report)
    });
}

#[test]
fn bad_folders_do_not() {
    check("bad", 25, |name, directory| {
        let before = content(&directory.join("cacerts"));
        let inspection = authority::inspect_plugged_in(&directory.join("cacerts"), NOW).unwrap();
        assert!(inspection.ca.is_none(), "{name} loads");
        assert!(!inspection.report.errors.is_empty(), "{name} has no error");
        for kind in [CaKind::PluggedIn, CaKind::Auto] {
            // A directory of its own: a program that another test starts at this moment holds a lock of ours until it runs.
            let mut config = config(kind, directory);
            config.self_signed.directory = directory.join(format!("{kind:?}"));
            match open(&config, NOW) {
                Err(Error::PluggedIn { findings, .. }) => assert_eq!(findings.0, inspection.report.errors),
                other => panic!("{name}: {other:?}"),
            }
            assert!(
                content(&config.self_signed.directory).is_empty(),
                "{name}: a root was made"
            );
        }
        assert!(
            before == content(&directory.join("cacerts")),
            "{name}: files were changed"
        );
        findings(&inspection.report)
    });
}

#[test]
fn keys_that_everyone_may_read_are_warned_about() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path().join("cacerts");
    copy(&cacerts().join("good/three-levels"), &folder);
    let warnings = |mode: u32| {
        std::fs::set_permissions(folder.join("ca-key.pem"), std::fs::Permissions::from_mode(mode)).unwrap();
        authority::inspect_plugged_in(&folder, NOW)
            .unwrap()
            .report
            .warnings
            .len()
    };
    // Group-readable is what Kubernetes gives with fsGroup.
    assert_eq!([0o400, 0o440, 0o640, 0o644, 0o660].map(warnings), [0, 0, 0, 1, 1]);
}

#[test]
fn files_are_bounded() {
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path().join("cacerts");
    for (name, text) in [
        ("root-cert.pem", "#".repeat((1 << 20) + 1)),
        (
            "cert-chain.pem",
            std::fs::read_to_string(cacerts().join("good/three-levels/ca-cert.pem"))
                .unwrap()
                .repeat(65),
        ),
    ] {
        copy(&cacerts().join("good/three-levels"), &folder);
        std::fs::write(folder.join(name), text).unwrap();
        let report = authority::inspect_plugged_in(&folder, NOW).unwrap().report;
        assert!(
            report
                .errors
                .iter()
                .any(|error| error.place == name && error.what.contains("than")),
            "{report:?}"
        );
    }
}
