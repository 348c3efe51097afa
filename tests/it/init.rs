//! `countersign init` and `completions`: what they make, and what they leave alone.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use base64::Engine;
use countersign::authority::inspect_plugged_in;
use countersign::platform::{Clock, SystemClock};

use crate::cli::{printed, read, refused, write};

fn root(place: &Path) -> String {
    let pki = place.join("pki").to_str().unwrap().to_owned();
    printed(&["init", "root", "--dir", &pki]);
    pki
}

fn mode(path: impl AsRef<Path>) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_root_and_a_folder_for_each_cluster() {
    let place = tempfile::tempdir().unwrap();
    let pki = root(place.path());
    assert_eq!(mode(format!("{pki}/root-key.pem")), 0o600);
    for (cluster, kind) in [("cluster1", "p256"), ("cluster2", "p384")] {
        let arguments = [
            "init",
            "cacerts",
            "--dir",
            &pki,
            "--cluster",
            cluster,
            "--key-algorithm",
            kind,
        ];
        let told = printed(&[&arguments[..], &["--output", "json"]].concat());
        let told: serde_json::Value = serde_json::from_str(&told).unwrap();
        assert_eq!(told["warnings"], serde_json::json!([]));
        assert_eq!(told["subject"], format!("O=Istio, CN=Intermediate CA, L={cluster}"));
        assert_eq!(told["days"], 730);
        let folder = format!("{pki}/{cluster}");
        assert_eq!(told["files"].as_array().unwrap().len(), 4);
        assert_eq!((mode(&folder), mode(format!("{folder}/ca-key.pem"))), (0o700, 0o600));
        let found = inspect_plugged_in(Path::new(&folder), SystemClock.now()).unwrap();
        let ca = found.ca.unwrap();
        assert_eq!(
            (ca.signer().path_length(), ca.signer().may_sign_crls()),
            (Some(0), true)
        );
        let root = &ca.roots().roots()[0];
        assert_eq!(root.pem(), read(format!("{pki}/root-cert.pem")));
        assert_eq!(ca.signer().authority_key_id(), root.key_id());
        assert!(found.report.warnings.is_empty());
    }
    // Nothing half made is left beside them.
    let mut left: Vec<_> = std::fs::read_dir(&pki)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    left.sort();
    assert_eq!(left, ["cluster1", "cluster2", "root-cert.pem", "root-key.pem"]);
}

#[test]
fn nothing_is_replaced() {
    let place = tempfile::tempdir().unwrap();
    let pki = root(place.path());
    let before = read(format!("{pki}/root-key.pem"));
    assert!(refused(&["init", "root", "--dir", &pki], 1).contains("root-cert.pem exists"));
    std::fs::remove_file(format!("{pki}/root-cert.pem")).unwrap();
    let told = refused(&["init", "root", "--dir", &pki], 1);
    assert!(told.contains("root-key.pem exists") && told.contains("--key"), "{told}");
    let key = format!("{pki}/root-key.pem");
    printed(&["init", "root", "--dir", &pki, "--key", &key]);
    assert_eq!(read(&key), before);

    let arguments = ["init", "cacerts", "--dir", &pki, "--cluster", "c"];
    // Whatever has the name: a link that leads nowhere as well.
    std::os::unix::fs::symlink("nowhere", format!("{pki}/c")).unwrap();
    assert!(refused(&arguments, 1).contains("exists"));
    std::fs::remove_file(format!("{pki}/c")).unwrap();
    printed(&arguments);
    let before = read(format!("{pki}/c/ca-key.pem"));
    assert!(refused(&arguments, 1).contains("exists"));
    assert_eq!(read(format!("{pki}/c/ca-key.pem")), before);
    // Renewed: a new key, elsewhere.
    let next = format!("{pki}/next");
    printed(&[&arguments[..], &["--out", &next]].concat());
    assert_ne!(read(format!("{next}/ca-key.pem")), before);
}

#[test]
fn what_cannot_be_made_leaves_nothing_behind() {
    let place = tempfile::tempdir().unwrap();
    let pki = root(place.path());
    let with = |more: &[&str]| {
        [&["init", "cacerts", "--dir", &pki, "--cluster", "c"][..], more]
            .concat()
            .join("\n")
    };
    let refused_with = |more: &[&str]| refused(&with(more).split('\n').collect::<Vec<_>>(), 1);
    let told = refused_with(&["--days", "3651"]);
    assert!(told.contains("an intermediate under it can last 36"), "{told}");
    let other = place.path().join("other").to_str().unwrap().to_owned();
    printed(&["init", "root", "--dir", &other]);
    let told = refused_with(&["--root-key", &format!("{other}/root-key.pem")]);
    assert!(told.contains("does not belong"), "{told}");
    let file = place.path().join("key").to_str().unwrap().to_owned();
    for (text, expected) in [
        (
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
            "is encrypted",
        ),
        (
            "-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n",
            "openssl pkcs8 -topk8",
        ),
        (
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
            "cannot be used",
        ),
        ("words", "no PEM block"),
    ] {
        write(&file, text);
        let told = refused_with(&["--key", &file]);
        assert!(told.contains(expected), "{told}");
    }
    assert!(!Path::new(&pki).join("c").exists());
    assert_eq!(std::fs::read_dir(&pki).unwrap().count(), 2);
    for wrong in [
        &["--cluster", "../x"][..],
        &["--cluster", "c", "--dns", "a b"],
        &["--cluster", "c", "--days", "0"],
    ] {
        refused(&[&["init", "cacerts", "--dir", &pki][..], wrong].concat(), 2);
    }
}

#[test]
fn the_secret_holds_the_four_files() {
    let place = tempfile::tempdir().unwrap();
    let pki = root(place.path());
    printed(&["init", "cacerts", "--dir", &pki, "--cluster", "c"]);
    let folder = format!("{pki}/c");
    let text = printed(&["init", "secret", "--cacerts", &folder, "--namespace", "mesh"]);
    let secret: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
    assert_eq!(
        (&secret["kind"], &secret["apiVersion"]),
        (&"Secret".into(), &"v1".into())
    );
    assert_eq!(
        secret["metadata"],
        serde_json::json!({"name": "cacerts", "namespace": "mesh"})
    );
    let data = secret["data"].as_object().unwrap();
    assert_eq!(data.len(), 4);
    for (name, value) in data {
        let bytes = base64::engine::general_purpose::STANDARD
            .decode(value.as_str().unwrap())
            .unwrap();
        assert_eq!(bytes, read(format!("{folder}/{name}")).as_bytes(), "{name}");
    }
    // A folder that is not sound makes none.
    write(format!("{folder}/ca-key.pem"), read(format!("{pki}/root-key.pem")));
    assert!(refused(&["init", "secret", "--cacerts", &folder], 1).contains("does not belong"));
}

#[test]
fn completions_know_every_command() {
    let help = printed(&["--help"]);
    let commands = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let commands: Vec<&str> = commands
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert!(commands.len() >= 7, "{commands:?}");
    for shell in ["bash", "zsh", "fish"] {
        let script = printed(&["completions", shell]);
        for command in commands.iter().chain(&["cacerts", "status", "key-algorithm"]) {
            assert!(script.contains(command), "{shell} does not know {command}");
        }
    }
    refused(&["completions", "tcsh"], 2);
}
