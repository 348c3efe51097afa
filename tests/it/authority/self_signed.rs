//! A root of our own: what it is, and that no crash, loss or second process makes another by accident.

use std::path::Path;

use countersign::authority::{self, CaKind, Config, Error, RootAlgorithm, Source};
use countersign::model::KeyAlgorithm;
use countersign::platform::files::LockError;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{NOW, Opened, cacerts, config, content, copy, leaf, mode};

const FILES: [&str; 4] = ["ca-key.pem.new", "ca-cert.pem", "ca-key.pem", "root-cert.pem"];

fn own(directory: &Path) -> Config {
    config(CaKind::SelfSigned, directory)
}

fn open(config: &Config) -> Opened {
    let authority = super::open(config, NOW).unwrap();
    assert_eq!(
        authority.source,
        Source::SelfSigned(config.self_signed.directory.clone())
    );
    leaf::verify(&authority.snapshot, NOW).unwrap();
    authority
}

fn refused(config: &Config) -> String {
    match super::open(config, NOW) {
        Err(Error::RootLost { findings, .. }) => findings.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn makes_a_root_once() {
    let directory = tempfile::tempdir().unwrap();
    let config = own(directory.path());
    let first = open(&config);
    assert!(first.warnings.is_empty(), "{:?}", first.warnings);
    let files = content(&config.self_signed.directory);
    assert_eq!(
        files.keys().collect::<Vec<_>>(),
        ["ca-cert.pem", "ca-key.pem", "root-cert.pem"]
    );
    assert_eq!(files["ca-cert.pem"], files["root-cert.pem"]);
    assert!(files["ca-key.pem"].starts_with(b"-----BEGIN PRIVATE KEY-----\n"));
    let path = |name: &str| config.self_signed.directory.join(name);
    assert_eq!(
        [mode(&path("")), mode(&path("ca-key.pem")), mode(&path("ca-cert.pem"))],
        [0o700, 0o600, 0o644]
    );

    // The bundle is the certificate itself, and no chain stands before it.
    let tail = first.snapshot.tail().to_vec();
    assert_eq!(tail, [String::from_utf8(files["ca-cert.pem"].clone()).unwrap()]);
    drop(first);
    assert_eq!(open(&config).snapshot.tail(), tail);
    assert_eq!(content(&config.self_signed.directory), files);
}

#[test]
fn the_root_is_what_verifiers_want() {
    let directory = tempfile::tempdir().unwrap();
    let authority = open(&own(directory.path()));
    let signer = authority.snapshot.signer();
    let (_, parsed) = X509Certificate::from_der(signer.der()).unwrap();
    assert_eq!(signer.key(), Ok(KeyAlgorithm::P256));
    assert!(signer.is_self_issued() && signer.is_ca() && signer.may_sign_certificates() && signer.may_sign_crls());
    assert_eq!(signer.path_length(), None);
    assert!(parsed.basic_constraints().unwrap().unwrap().critical);
    let usage = parsed.key_usage().unwrap().unwrap();
    assert!(usage.critical);
    assert_eq!(usage.value.flags, 0b110_0000, "keyCertSign and cRLSign, nothing else");
    assert_eq!(signer.key_id().unwrap().len(), 20);
    assert_eq!(signer.validity().not_before, NOW.plus(-120));
    assert_eq!(signer.validity().not_after, NOW.plus(10 * 365 * 86_400));
    let serial = parsed.raw_serial();
    assert!(serial.len() <= 20 && (1..0x80).contains(&serial[0]), "{serial:02x?}");
    assert!(
        signer
            .subject_text()
            .starts_with("O=cluster.local, CN=countersign root ")
    );

    let other = tempfile::tempdir().unwrap();
    let other = open(&own(other.path()));
    assert_ne!(
        other.snapshot.signer().subject(),
        signer.subject(),
        "roots have distinct names"
    );
}

#[test]
fn p384_and_long_trust_domains() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = own(directory.path());
    config.self_signed.algorithm = RootAlgorithm::P384;
    config.self_signed.organization = "a".repeat(255);
    let authority = open(&config);
    assert_eq!(authority.snapshot.key().algorithm(), KeyAlgorithm::P384);
    // X.520 allows an organization 64 characters.
    assert!(
        authority
            .snapshot
            .signer()
            .subject_text()
            .starts_with(&format!("O={}, ", "a".repeat(64)))
    );
}

/// Every subset of the files that the write sequence makes. The sequence itself passes through `new`; `new`+`cert`; `new`+`cert`+`key`;
/// all four; and the last three.
#[test]
fn every_state_that_a_crash_or_a_loss_leaves() {
    let origin = tempfile::tempdir().unwrap();
    let config = own(origin.path());
    let root = open(&config).snapshot.signer().fingerprint();
    let mut files = content(&config.self_signed.directory);
    files.insert("ca-key.pem.new".into(), files["ca-key.pem"].clone());
    for subset in 0..1 << FILES.len() {
        let directory = tempfile::tempdir().unwrap();
        let config = own(directory.path());
        let path = &config.self_signed.directory;
        std::fs::create_dir(path).unwrap();
        // What a crash inside one atomic write leaves beside the files.
        std::fs::write(path.join(".countersign-x1"), &files["ca-key.pem"][..20]).unwrap();
        let there = |name: &str| {
            FILES
                .iter()
                .position(|file| *file == name)
                .is_some_and(|bit| subset >> bit & 1 == 1)
        };
        for name in FILES.into_iter().filter(|name| there(name)) {
            std::fs::write(path.join(name), &files[name]).unwrap();
            std::fs::set_permissions(path.join(name), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        }
        let before = content(path);
        let (new, certificate, key, roots) = (there(FILES[0]), there(FILES[1]), there(FILES[2]), there(FILES[3]));
        let state: Vec<_> = before.keys().cloned().collect();
        if certificate && (key || new) {
            assert_eq!(open(&config).snapshot.signer().fingerprint(), root, "{state:?}");
        } else if !certificate && !key && !roots {
            assert_ne!(open(&config).snapshot.signer().fingerprint(), root, "{state:?}");
        } else {
            let text = refused(&config);
            assert!(
                text.contains("it is missing, but a root existed") && text.contains("restore it"),
                "{state:?}: {text}"
            );
            assert_eq!(content(path), before, "{state:?}");
            continue;
        }
        let mut after = content(path);
        after.remove(".countersign-x1");
        assert_eq!(
            after.keys().collect::<Vec<_>>(),
            ["ca-cert.pem", "ca-key.pem", "root-cert.pem"],
            "{state:?}"
        );
        assert_eq!(mode(&path.join("ca-key.pem")), 0o600);
        // And what was finished stays.
        let first = open(&config).snapshot.signer().fingerprint();
        assert_eq!(open(&config).snapshot.signer().fingerprint(), first);
    }
}

fn replace(directory: &Path, file: &str, vector: &str) {
    std::fs::copy(cacerts().join(vector), directory.join(file)).unwrap();
}

#[test]
fn a_root_that_cannot_be_used_is_replaced_only_when_asked() {
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 6] = [
        ("not exactly one", |path| {
            std::fs::write(path.join("ca-cert.pem"), "----BEGIN CERTIFICATE-----\n").unwrap()
        }),
        ("it is empty", |path| {
            std::fs::write(path.join("ca-key.pem"), "").unwrap()
        }),
        ("does not belong", |path| {
            replace(path, "ca-key.pem", "keys/ca.pem");
        }),
        ("it is missing", |path| {
            std::fs::remove_file(path.join("ca-key.pem")).unwrap()
        }),
        ("it is missing", |path| {
            std::fs::remove_file(path.join("ca-cert.pem")).unwrap()
        }),
        ("not among the roots", |path| {
            replace(path, "root-cert.pem", "good/three-levels/root-cert.pem");
        }),
    ];
    for (finding, damage) in damages {
        let directory = tempfile::tempdir().unwrap();
        let mut config = own(directory.path());
        let path = config.self_signed.directory.clone();
        let old = open(&config).snapshot.signer().fingerprint();
        damage(&path);
        let damaged = content(&path);
        let text = refused(&config);
        assert!(text.contains(finding), "{text}");
        assert_eq!(content(&path), damaged, "{finding}: nothing is touched");
        // Looking changes nothing either.
        assert!(authority::inspect(&config, NOW).unwrap().ca.is_none());
        assert_eq!(content(&path), damaged);

        config.self_signed.new_root = true;
        let replaced = open(&config);
        assert_ne!(replaced.snapshot.signer().fingerprint(), old);
        assert!(
            replaced
                .warnings
                .iter()
                .any(|warning| warning.what.contains("2030-01-01T00-00-00Z.old"))
        );
        let after = content(&path);
        for (name, bytes) in &damaged {
            assert_eq!(
                after.get(&format!("{name}.2030-01-01T00-00-00Z.old")),
                Some(bytes),
                "{finding}: {name} is kept"
            );
        }
        let new = replaced.snapshot.signer().fingerprint();
        drop(replaced);
        // The wish is still written somewhere, and is not granted again.
        let again = open(&config);
        assert_eq!(again.snapshot.signer().fingerprint(), new);
        assert!(
            again
                .warnings
                .iter()
                .any(|warning| warning.what.contains("no new root was made"))
        );
        drop(again);
        // A second loss in the same second keeps the first files too.
        std::fs::remove_file(path.join("ca-key.pem")).unwrap();
        drop(open(&config));
        let last = content(&path);
        assert!(
            after
                .iter()
                .filter(|(name, _)| name.ends_with(".old"))
                .all(|(name, bytes)| last.get(name) == Some(bytes))
        );
        assert!(last.contains_key("ca-cert.pem.2030-01-01T00-00-00Z-2.old") || finding == "it is missing");
    }
}

#[test]
fn an_expired_root_does_not_sign() {
    let directory = tempfile::tempdir().unwrap();
    let config = own(directory.path());
    let until = open(&config).snapshot.validity().not_after;
    assert!(super::open(&config, until).is_ok());
    let error = super::open(&config, until.plus(1)).unwrap_err().to_string();
    assert!(
        error.contains("it expired at") && error.contains("--new-root"),
        "{error}"
    );
}

#[test]
fn one_process_per_directory() {
    let directory = tempfile::tempdir().unwrap();
    let config = own(directory.path());
    let first = open(&config);
    match super::open(&config, NOW) {
        Err(Error::Lock(LockError::Held(path))) => assert_eq!(path, config.self_signed.directory),
        other => panic!("{other:?}"),
    }
    // Looking needs no lock.
    assert!(authority::inspect(&config, NOW).unwrap().ca.is_some());
    drop(first);
    open(&config);
}

#[test]
fn keys_of_other_kinds_are_imported() {
    let directory = tempfile::tempdir().unwrap();
    let config = own(directory.path());
    let path = &config.self_signed.directory;
    // What istiod keeps in its Secret istio-ca-secret.
    copy(&cacerts().join("good/istiod-self-signed"), path);
    assert_eq!(open(&config).snapshot.key().algorithm(), KeyAlgorithm::Rsa(2048));

    for (algorithm, expected) in [
        (&rcgen::PKCS_ED25519, KeyAlgorithm::Ed25519),
        (&rcgen::PKCS_ECDSA_P384_SHA384, KeyAlgorithm::P384),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let config = own(directory.path());
        let path = &config.self_signed.directory;
        std::fs::create_dir(path).unwrap();
        let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
        let mut parameters = rcgen::CertificateParams::default();
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        std::fs::write(path.join("ca-key.pem"), key.serialize_pem()).unwrap();
        std::fs::write(path.join("ca-cert.pem"), parameters.self_signed(&key).unwrap().pem()).unwrap();
        std::fs::set_permissions(
            path.join("ca-key.pem"),
            std::os::unix::fs::PermissionsExt::from_mode(0o644),
        )
        .unwrap();
        let authority = open(&config);
        assert_eq!(authority.snapshot.key().algorithm(), expected);
        assert!(
            authority
                .warnings
                .iter()
                .any(|warning| warning.place == "ca-key.pem" && warning.what.contains("0644"))
        );
    }
}

#[test]
fn a_certificate_that_is_no_root_is_not_taken() {
    let directory = tempfile::tempdir().unwrap();
    let config = own(directory.path());
    copy(
        &cacerts().join("good/root-signed-without-chain-file"),
        &config.self_signed.directory,
    );
    // Without its root's file it is what was copied from a plugged-in CA by mistake.
    std::fs::remove_file(config.self_signed.directory.join("root-cert.pem")).unwrap();
    let before = content(&config.self_signed.directory);
    let result = super::open(&config, NOW);
    assert!(matches!(result, Err(Error::RootLost { .. })), "{result:?}");
    assert_eq!(content(&config.self_signed.directory), before);
}
