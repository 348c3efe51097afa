//! The commands as a person types them: the real binary, what it prints, what it leaves behind.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use countersign::platform::files::{self, Mode};

use crate::support::fake_ca::{Answer, FakeCa};

fn write(path: impl AsRef<Path>, content: impl AsRef<[u8]>) {
    files::write(path.as_ref(), content.as_ref(), Mode::Public).unwrap();
}

fn read(path: impl AsRef<Path>) -> String {
    files::read_text(path.as_ref(), 1 << 20).unwrap()
}

const ME: &str = "spiffe://cluster.local/ns/default/sa/sleep";

/// Runs it with nothing in the environment.
#[expect(
    clippy::disallowed_methods,
    reason = "the program under test starts no other; this one does"
)]
fn countersign(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_countersign"))
        .args(arguments)
        .env_clear()
        .output()
        .unwrap()
}

fn printed(arguments: &[&str]) -> String {
    let output = countersign(arguments);
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// What it says on standard error when it ends with this status.
fn refused(arguments: &[&str], status: i32) -> String {
    let output = countersign(arguments);
    assert_eq!(output.status.code(), Some(status), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn help() {
    insta::assert_snapshot!("countersign", printed(&["--help"]));
    for command in ["serve", "request", "check", "root", "demo"] {
        insta::assert_snapshot!(command, printed(&[command, "--help"]));
    }
    for command in [
        "status", "confirm", "activate", "withdraw", "retire", "rotate", "reload",
    ] {
        insta::assert_snapshot!(format!("root-{command}"), printed(&["root", command, "--help"]));
    }
}

/// What is printed names files, so they stay; whoever did not say where is told where they are, and how to be rid of them.
#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "the program under test starts no other; this one does"
)]
fn demo_without_a_directory_says_what_it_leaves_behind() {
    let place = tempfile::tempdir().unwrap();
    let demo = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_countersign"))
            .arg("demo")
            .args(arguments)
            .env_clear()
            .env("TMPDIR", place.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let told = demo(&[]);
    let left: Vec<_> = std::fs::read_dir(place.path())
        .unwrap()
        .map(|entry| entry.unwrap().path().display().to_string())
        .collect();
    assert_eq!(left.len(), 1, "{left:?}");
    assert!(
        told.ends_with(&format!("when you are done:\n  rm -r {}\n", left[0])),
        "{told}"
    );
    // Who named the directory knows.
    let named = place.path().join("named");
    let told = demo(&["--dir", named.to_str().unwrap(), "--tokens", "2"]);
    assert!(!told.contains("rm -r"), "{told}");
    assert_eq!(read(named.join("tokens")).lines().count(), 2);
    // Another run has another key: tokens of the first would be refused.
    demo(&["--dir", named.to_str().unwrap()]);
    assert!(!named.join("tokens").exists());
}

/// A demo in a directory that another runs from changes nothing there.
#[test]
fn demo_leaves_a_running_one_alone() {
    let place = tempfile::tempdir().unwrap();
    let directory = place.path().to_str().unwrap();
    printed(&["demo", "--dir", directory]);
    let files = ["jwks.json", "token", "address"].map(|name| place.path().join(name));
    let before = files.each_ref().map(read);
    let lock = files::DirectoryLock::take(&place.path().join("ca")).unwrap();
    let told = refused(&["demo", "--dir", directory], 1);
    assert!(told.contains("is in use by another countersign process"), "{told}");
    assert_eq!(files.each_ref().map(read), before);
    drop(lock);
    let told = refused(&["demo", "--dir", directory, "--token-key", "x"], 1);
    assert_eq!(
        told,
        "countersign: --token-key is for RS256; give --tokens-algorithm rs256 too\n"
    );
}

#[test]
fn all_settings_with_their_defaults() {
    let set = "authentication.issuers=[{issuer: x, jwksFile: /f}]";
    insta::assert_snapshot!("settings", printed(&["serve", "--validate", "--set", set]));
}

#[test]
fn printed_settings_can_be_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("serve.yaml");
    let set = "authentication.issuers=[{issuer: x, jwksFile: /f}]";
    let text = printed(&["serve", "--validate", "--set", set]);
    write(&file, &text);
    assert_eq!(
        printed(&["serve", "--validate", "--config", file.to_str().unwrap()]),
        text
    );
}

#[test]
fn wrong_settings_are_told_and_end_with_1() {
    let told = refused(&["serve", "--validate", "--set", "listen.threads=0"], 1);
    assert!(
        told.contains("listen.threads: 0 is out of range; give 1 to 1024"),
        "{told}"
    );
    let told = refused(&["check", "--config", "/nowhere.yaml"], 1);
    assert!(told.contains("cannot read /nowhere.yaml"), "{told}");
}

#[test]
fn a_wrong_command_line_ends_with_2() {
    for arguments in [
        &["sevre"][..],
        &["request"],
        &["request", "--ca", "a:1"],
        &["request", "--ca", "a:1", "--plaintext", "--ttl", "1d"],
        &["demo", "--tokens-algorithm", "rs256"],
        &["check", "--cacerts", ".", "--config", "x"],
    ] {
        refused(arguments, 2);
    }
}

#[test]
fn check_looks_at_the_ca() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let output = countersign(&["check", "--cacerts", path]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        format!("plugged-in CA in {path}: there is none\n")
    );

    let settings = [
        "--set=authentication.issuers=[{issuer: x, jwksFile: /f}]".to_owned(),
        format!("--set=ca.directory={path}/plugged-in"),
        format!("--set=ca.selfSigned.directory={path}/own"),
    ];
    let arguments: Vec<&str> = std::iter::once("check")
        .chain(settings.iter().map(String::as_str))
        .collect();
    assert_eq!(
        printed(&arguments),
        format!(
            "settings: ok\nnote: tokens that are verified offline stay good until they expire, also when their pod is deleted\n\
             self-signed root in {path}/own: there is none yet; serve will make one\n"
        )
    );
    assert!(!Path::new(path).join("own").exists(), "check writes nothing");

    let (certificate, key) = root();
    std::fs::create_dir(folder.path().join("plugged-in")).unwrap();
    for (name, content) in [
        ("ca-cert.pem", &certificate),
        ("root-cert.pem", &certificate),
        ("ca-key.pem", &key),
    ] {
        write(folder.path().join("plugged-in").join(name), content);
    }
    let told = printed(&arguments);
    assert!(
        told.contains(&format!("plugged-in CA in {path}/plugged-in: ok")),
        "{told}"
    );
    assert!(told.contains("CN=root, until 2099-01-01T00:00:00Z"), "{told}");

    write(folder.path().join("plugged-in/ca-key.pem"), root().1);
    let output = countersign(&arguments);
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(told.contains("error: ") && told.contains("ca-key.pem"), "{told}");
    assert!(told.ends_with("cannot be used\n"), "{told}");
}

fn root() -> (String, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut parameters = rcgen::CertificateParams::default();
    parameters.distinguished_name.push(rcgen::DnType::CommonName, "root");
    parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    parameters.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign, rcgen::KeyUsagePurpose::CrlSign];
    parameters.not_after = rcgen::date_time_ymd(2099, 1, 1);
    (parameters.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

#[tokio::test]
async fn request_leaves_three_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let ca = FakeCa::tls([Answer::Sign(ME), Answer::Sign(ME)], "ca.svc", b"h2", false).await;
    write(path("root.pem"), ca.root());
    // {"sub":"system:serviceaccount:default:sleep"}
    let token = "e30.eyJzdWIiOiJzeXN0ZW06c2VydmljZWFjY291bnQ6ZGVmYXVsdDpzbGVlcCJ9.eA";
    write(path("token"), format!("\n {token} \n"));
    let mut arguments: Vec<String> = [
        "request",
        "--server-name",
        "ca.svc",
        "--ttl",
        "1h",
        "--cluster-id",
        "blue",
    ]
    .map(str::to_owned)
    .into();
    let values = [
        ("--ca", ca.address.to_string()),
        ("--root", path("root.pem")),
        ("--token", path("token")),
    ];
    arguments.extend(values.into_iter().flat_map(|(name, value)| [name.to_owned(), value]));

    let with_files = [&arguments[..], &["--out".to_owned(), path("out")]].concat();
    let told = run_beside(with_files).await;
    assert!(told.starts_with(&format!("identity  {ME}\n")), "{told}");
    let mode = |name: &str| {
        std::fs::metadata(folder.path().join("out").join(name))
            .unwrap()
            .permissions()
            .mode()
            & 0o777
    };
    assert_eq!(
        (mode("key.pem"), mode("cert-chain.pem"), mode("root-cert.pem")),
        (0o600, 0o644, 0o644)
    );
    assert_eq!(read(path("out/root-cert.pem")), ca.root());
    assert!(read(path("out/key.pem")).starts_with("-----BEGIN PRIVATE KEY-----\n"));

    let as_json = [&arguments[..], &["--output".to_owned(), "json".to_owned()]].concat();
    let told: serde_json::Value = serde_json::from_str(&run_beside(as_json).await).unwrap();
    assert_eq!(told["identity"], ME);
    assert_eq!(told["roots"], ca.root());
    assert!(!told.to_string().contains("PRIVATE"));

    let seen = ca.seen();
    assert_eq!(seen[0].authorization.as_deref(), Some(&*format!("Bearer {token}")));
    assert_eq!((seen[0].cluster_id.as_deref(), seen[0].lifetime), (Some("blue"), 3600));
}

/// The binary in a thread, so that the fake in this one can answer.
async fn run_beside(arguments: Vec<String>) -> String {
    tokio::task::spawn_blocking(move || printed(&arguments.iter().map(String::as_str).collect::<Vec<_>>()))
        .await
        .unwrap()
}

#[tokio::test]
async fn request_says_why_not() {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    write(&token, "opaque");
    let token = token.to_str().unwrap();
    let ca = FakeCa::plaintext([Answer::Refuse(tonic::Code::Unauthenticated)]).await;
    let address = ca.address.to_string();
    let told = refused(&["request", "--ca", &address, "--plaintext", "--token", token], 1);
    assert_eq!(
        told,
        "countersign: the token does not say who we are; give --identity, or --namespace and --service-account\n"
    );
    let told = refused(&["request", "--ca", &address, "--plaintext", "--token", "/dev/null"], 1);
    assert_eq!(told, "countersign: cannot read /dev/null: it is not a regular file\n");
    let token = token.to_owned();
    let at = address.clone();
    let told = tokio::task::spawn_blocking(move || {
        refused(
            &[
                "request",
                "--ca",
                &at,
                "--plaintext",
                "--token",
                &token,
                "--identity",
                ME,
            ],
            1,
        )
    });
    assert_eq!(
        told.await.unwrap(),
        format!("countersign: no certificate from {address}: the CA answered Unauthenticated at attempt 1: no\n")
    );
}
