//! The commands as a person types them: the real binary, what it prints, what it leaves behind.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use countersign::platform::files::{self, Mode};

use crate::support::fake_ca::{Answer, FakeCa};
use crate::support::tokens::{TestKey, key_set};

pub fn write(path: impl AsRef<Path>, content: impl AsRef<[u8]>) {
    files::write(path.as_ref(), content.as_ref(), Mode::Public).unwrap();
}

pub fn read(path: impl AsRef<Path>) -> String {
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

pub fn printed(arguments: &[&str]) -> String {
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
pub fn refused(arguments: &[&str], status: i32) -> String {
    let output = countersign(arguments);
    assert_eq!(output.status.code(), Some(status), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn help() {
    insta::assert_snapshot!("countersign", printed(&["--help"]));
    for command in ["serve", "request", "check", "root", "init", "demo", "completions"] {
        insta::assert_snapshot!(command, printed(&[command, "--help"]));
    }
    for command in [
        "status", "confirm", "activate", "withdraw", "retire", "rotate", "reload",
    ] {
        insta::assert_snapshot!(format!("root-{command}"), printed(&["root", command, "--help"]));
    }
    for command in ["root", "cacerts", "secret"] {
        insta::assert_snapshot!(format!("init-{command}"), printed(&["init", command, "--help"]));
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
        format!(
            "error: {path} holds no plugged-in CA; put ca-cert.pem, ca-key.pem, root-cert.pem and cert-chain.pem (or tls.crt, tls.key and \
             ca.crt) there, or set ca.type to self-signed\nplugged-in CA in {path}: cannot be used\n"
        )
    );
    let output = countersign(&["check", "--cacerts", &format!("{path}/typo")]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        format!("error: {path}/typo does not exist\n")
    );

    write(folder.path().join("jwks.json"), key_set(&[&TestKey::p256("a")]));
    let settings = [
        format!("--set=authentication.issuers=[{{issuer: x, jwksFile: {path}/jwks.json}}]"),
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

#[test]
fn check_tells_scripts() {
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = root();
    for (name, content) in [
        ("ca-cert.pem", &certificate),
        ("root-cert.pem", &certificate),
        ("ca-key.pem", &key),
    ] {
        write(folder.path().join(name), content);
    }
    let path = folder.path().to_str().unwrap();
    let told: serde_json::Value =
        serde_json::from_str(&printed(&["check", "--cacerts", path, "--output", "json"])).unwrap();
    assert_eq!(
        (&told["errors"], &told["ca"]["state"]),
        (&serde_json::json!([]), &"ok".into())
    );
    assert_eq!(told["ca"]["certificates"][0]["notAfter"], "2099-01-01T00:00:00Z");
    let output = countersign(&["check", "--set=listen.threads=0", "--output=json"]);
    assert_eq!(output.status.code(), Some(1));
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told["errors"][0], "listen.threads: 0 is out of range; give 1 to 1024");
}

/// Runs it with its standard output or input at a file of the host.
#[expect(
    clippy::disallowed_methods,
    reason = "the program under test starts no other; this one does"
)]
fn connected(arguments: &[&str], stdin: Stdio, stdout: Stdio) -> Output {
    Command::new(env!("CARGO_BIN_EXE_countersign"))
        .args(arguments)
        .env_clear()
        .stdin(stdin)
        .stdout(stdout)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
        .wait_with_output()
        .unwrap()
}

/// A result that is lost was none; a reader that went away had enough.
#[test]
fn a_result_that_cannot_be_written_is_a_failure() {
    for arguments in [
        &["serve", "--validate"][..],
        &["serve", "--print-config"],
        &["check", "--print"],
        &["check", "--output=json"],
    ] {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = connected(arguments, Stdio::null(), full.into());
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(
            told.contains("cannot write to standard output: No space left"),
            "{told}"
        );
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = connected(arguments, Stdio::null(), writer.into());
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(!told.contains("cannot write"), "{told}");
    }
}

#[test]
fn settings_may_come_through_a_pipe() {
    for name in ["-", "/dev/stdin"] {
        let (reader, mut writer) = std::io::pipe().unwrap();
        writer.write_all(b"trustDomain: piped.example.org\n").unwrap();
        drop(writer);
        let output = connected(
            &["serve", "--validate", "--config", name],
            reader.into(),
            Stdio::piped(),
        );
        let told = String::from_utf8(output.stdout).unwrap();
        assert!(told.starts_with("trustDomain: piped.example.org\n"), "{name}: {told}");
    }
}

#[test]
fn print_config_is_a_file_to_start_from() {
    let told = printed(&["serve", "--print-config"]);
    let settings = countersign::app::settings::Settings::parse(&told, "printed").unwrap();
    assert_eq!(settings, countersign::app::settings::Settings::default());
    assert!(told.contains("# Most connections open at once"), "{told}");
}

#[test]
fn help_is_a_command_too() {
    assert_eq!(printed(&["help", "serve"]), printed(&["serve", "--help"]));
}

/// What ends the process is told in the log's format: who reads only that, reads it.
#[test]
fn a_failed_start_is_told_in_the_log_s_format() {
    let folder = tempfile::tempdir().unwrap();
    let own = format!("--set=ca.selfSigned.directory={}/own", folder.path().display());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = format!("--set=listen.address={}", listener.local_addr().unwrap());
    write(folder.path().join("jwks.json"), key_set(&[&TestKey::p256("a")]));
    let issuers = format!(
        "--set=authentication.issuers=[{{issuer: x, jwksFile: {}/jwks.json}}]",
        folder.path().display()
    );
    let json = "--set=logging.format=json";
    for (arguments, expected) in [
        (
            &[json, &own, &issuers, &taken, "--set=monitoring.address=127.0.0.1:0"][..],
            "end who listens there",
        ),
        (&[json, "--set=listen.threads=0"], "listen.threads: 0 is out of range"),
        (
            &[json, &own],
            "authentication.tokenReview: it needs the credentials of a pod",
        ),
    ] {
        let told = refused(&[&["serve"], arguments].concat(), 1);
        let last = told.lines().last().unwrap();
        let line: serde_json::Value = serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {told}"));
        assert_eq!(line["level"], "ERROR");
        assert!(line["message"].as_str().unwrap().contains(expected), "{line}");
    }
}

#[tokio::test]
async fn request_tries_its_directory_before_it_asks() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    write(
        path("token"),
        "e30.eyJzdWIiOiJzeXN0ZW06c2VydmljZWFjY291bnQ6ZGVmYXVsdDpzbGVlcCJ9.eA",
    );
    write(path("file"), "");
    std::fs::create_dir_all(path("blocked/key.pem")).unwrap();
    let ca = FakeCa::plaintext([]).await;
    for out in ["file", "file/below", "blocked"] {
        let arguments = [
            "request".into(),
            "--plaintext".into(),
            format!("--ca={}", ca.address),
            format!("--token={}", path("token")),
            format!("--out={}", path(out)),
        ];
        let told = tokio::task::spawn_blocking(move || refused(&arguments.each_ref().map(String::as_str), 1));
        let told = told.await.unwrap();
        assert!(told.starts_with("countersign: --out: cannot "), "{told}");
    }
    assert!(ca.seen().is_empty(), "nothing was asked for");
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
        format!(
            "countersign: no certificate from {address}: the CA answered Unauthenticated at attempt 1: no (it tells callers no more; the reason is in the CA's log)\n"
        )
    );
}
