//! The CAs that an issuer's server is checked with: shapes, changes, and changes for the worse.

use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::{Arc, Mutex};

use countersign::issue::authenticate::offline::{HttpOptions, IssuerConfig};

use super::super::super::support::tokens::{TestKey, key_set};
use super::super::Rig;
use super::http::{Site, discovered, discovery, failure, tls_for};

/// An issuer behind a CA of its own, and the text of that CA's root.
async fn behind_a_ca(directory: &tempfile::TempDir) -> (Site, String) {
    let (tls, root) = tls_for("127.0.0.1", directory);
    let document = r#"{"issuer":"https://%","jwks_uri":"https://%/keys"}"#;
    let site = discovery(Some(tls), document, key_set(&[&TestKey::p256("key")])).await;
    (site, std::fs::read_to_string(root).unwrap())
}

fn trusting(site: &Site, bundle: &Path) -> IssuerConfig {
    let http = HttpOptions {
        allow_http: false,
        ca_file: Some(bundle.to_owned()),
    };
    discovered(format!("https://{}", site.address), http)
}

fn stranger(directory: &tempfile::TempDir) -> String {
    std::fs::read_to_string(tls_for("stranger.example.com", directory).1).unwrap()
}

#[tokio::test]
async fn a_bundle_may_be_a_directory_with_the_names_that_config_maps_use() {
    let directory = tempfile::tempdir().unwrap();
    let (site, root) = behind_a_ca(&directory).await;
    let bundle = directory.path().join("bundle");
    let write = |files: &[(&str, &str)]| {
        let _ = std::fs::remove_dir_all(&bundle);
        std::fs::create_dir(&bundle).unwrap();
        for (name, text) in files {
            std::fs::write(bundle.join(name), text).unwrap();
        }
    };
    for name in ["ca.crt", "ca-bundle.crt", "extra.pem"] {
        write(&[(name, &root)]);
        Rig::ready(vec![trusting(&site, &bundle)]).await;
    }
    let stranger = stranger(&directory);
    write(&[("ca.crt", &stranger), ("extra.pem", &root)]);
    Rig::ready(vec![trusting(&site, &bundle)]).await;

    for (files, why) in [
        (&[("ca.crt", &*stranger)][..], "UnknownIssuer"),
        // Whoever has the key of a server's certificate is not a CA for that.
        (&[("tls.crt", &root), ("ca.crt", &stranger)], "UnknownIssuer"),
        (
            &[("tls.crt", &root)],
            "cannot find ca.crt, ca-bundle.crt or extra.pem in",
        ),
        (&[], "cannot find ca.crt, ca-bundle.crt or extra.pem in"),
        (&[("ca.crt", &root), ("extra.pem", "")], "extra.pem cannot be used"),
        (&[("ca.crt", "no PEM"), ("extra.pem", &root)], "ca.crt cannot be used"),
    ] {
        write(files);
        let said = failure(trusting(&site, &bundle)).await;
        assert!(said.contains(why), "{said}");
    }
}

/// As the kubelet does it: everything is behind one link, which is replaced.
fn mount(at: &Path, version: &str, text: &str) {
    std::fs::create_dir_all(at.join(version)).unwrap();
    std::fs::write(at.join(version).join("extra.pem"), text).unwrap();
    symlink(version, at.join("..new")).unwrap();
    std::fs::rename(at.join("..new"), at.join("..data")).unwrap();
    let _ = symlink("..data/extra.pem", at.join("extra.pem"));
}

#[tokio::test]
async fn a_bundle_is_read_again_at_every_fetch() {
    let directory = tempfile::tempdir().unwrap();
    let (site, root) = behind_a_ca(&directory).await;
    let stranger = stranger(&directory);
    let bundle = directory.path().join("cacerts");
    mount(&bundle, "..1", &stranger);
    let rig = Rig::new(vec![trusting(&site, &bundle)]);
    rig.refresh().await;
    assert!(!rig.status().usable && site.asked().is_empty());

    mount(&bundle, "..2", &[&*stranger, &root].concat());
    rig.refresh().await;
    assert_eq!((rig.status().usable, rig.status().failure), (true, None));

    // Who is no longer in it is no longer trusted.
    mount(&bundle, "..3", &stranger);
    rig.refresh().await;
    let why = rig.status().failure.unwrap().detail;
    assert!(why.contains("UnknownIssuer"), "{why}");
    assert_eq!(site.asked().len(), 2);
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn count(&self, words: &str) -> usize {
        String::from_utf8_lossy(&self.0.lock().unwrap()).matches(words).count()
    }
}

#[tokio::test]
async fn a_broken_bundle_changes_nothing_and_is_said_once() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(move || writer.clone());
    let _logging = tracing::subscriber::set_default(subscriber.finish());
    let directory = tempfile::tempdir().unwrap();
    let (site, root) = behind_a_ca(&directory).await;
    let bundle = directory.path().join("ca.pem");
    std::fs::write(&bundle, &root).unwrap();
    let rig = Rig::ready(vec![trusting(&site, &bundle)]).await;
    let mut asked = 2;
    let mut fetched = async |times: usize| {
        for _ in 0..times {
            rig.refresh().await;
            assert_eq!(rig.status().failure, None);
            asked += 2;
            assert_eq!(site.asked().len(), asked, "keys are still fetched");
        }
    };
    let said = "what it held before is trusted on";
    // Cut in its midst, empty, gone.
    for (number, broken) in [Some(&root[..root.len() / 2]), Some(""), None].into_iter().enumerate() {
        match broken {
            Some(text) => std::fs::write(&bundle, text).unwrap(),
            None => std::fs::remove_file(&bundle).unwrap(),
        }
        fetched(3).await;
        assert_eq!(log.count(said), number + 1);
    }
    assert_eq!(log.count("can be used again"), 0);
    std::fs::write(&bundle, &root).unwrap();
    fetched(2).await;
    assert_eq!((log.count(said), log.count("can be used again")), (3, 1));

    // After a restart nothing is remembered.
    std::fs::write(&bundle, "").unwrap();
    let why = failure(trusting(&site, &bundle)).await;
    assert!(why.contains("ca.pem cannot be used"), "{why}");
}
