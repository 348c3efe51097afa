//! `countersign root` and `check --running`, as a person types them.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use countersign::app::admin::Act;
use countersign::app::token_issuer::TokenIssuer;
use countersign::platform::crypto::TokenKey;

use super::{Scene, plug_in};

/// The binary, with nothing in the environment.
#[expect(
    clippy::disallowed_methods,
    reason = "the program under test starts no other; this one does"
)]
fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
    command.args(arguments).env_clear();
    command
}

/// Runs it beside this thread, in which the CA may be.
async fn run(arguments: &[&str]) -> Output {
    let mut command = command(arguments);
    tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap()
}

/// What it prints when it ends with this status.
async fn told(arguments: &[&str], status: i32) -> (String, String) {
    let output = run(arguments).await;
    assert_eq!(output.status.code(), Some(status), "{output:?}");
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr))
}

#[tokio::test]
async fn root_looks_and_steers() {
    let scene = Scene::start().await;
    let socket = format!("--socket={}", scene.socket().display());
    let (text, _) = told(&["root", "status", &socket], 0).await;
    assert!(text.starts_with("ca          self-signed root in "), "{text}");
    assert!(
        text.contains("\nfiles       sound, and taken\n") && text.contains("  signs, listed  "),
        "{text}"
    );

    let (_, why) = told(&["root", "confirm", &socket, "--reason", "a test"], 1).await;
    assert!(why.starts_with("countersign: no change of root is pending"), "{why}");

    let old = scene.status().await.chain[0].fingerprint.clone();
    let (text, _) = told(&["root", "rotate", &socket, "--reason", "a test"], 0).await;
    assert!(text.contains("  pending, listed  "), "{text}");
    let (_, why) = told(&["root", "rotate", &socket, "--reason", "a test"], 1).await;
    assert!(why.contains("a change of root is pending"), "{why}");
    let new = scene.change("New").await.to_string();
    let (json, _) = told(
        &["root", "confirm", &socket, "--reason", "a test", "--output", "json"],
        0,
    )
    .await;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["pending"]["root"], new);
    assert_eq!(json["pending"]["waitsForDistribution"], false);
    assert!(json["pending"]["waitsForLeavesUntil"].is_string());
    assert_eq!(json["roots"][0]["states"], serde_json::json!(["signs"]));
    assert_eq!(json["roots"][2]["states"], serde_json::json!(["pending", "listed"]));

    let (text, _) = told(&["root", "activate", "--now", &socket, "--reason", "a test"], 0).await;
    assert!(text.contains("\nsigns       CN=New Signer ("), "{text}");
    assert!(text.contains("  outgoing  "), "{text}");

    let (_, why) = told(&["root", "retire", &old[..12], &socket, "--reason", "a test"], 1).await;
    assert!(why.contains("certificates under it are still valid"), "{why}");
    let (text, _) = told(
        &["root", "retire", &old[..12], "--force", &socket, "--reason", "a test"],
        0,
    )
    .await;
    assert!(!text.contains(&old[..12]), "{text}");

    let (_, why) = told(&["root", "withdraw", "0123abcd", &socket, "--reason", "a test"], 1).await;
    assert!(why.contains("is the beginning of no fingerprint"), "{why}");
    let strange = "01".repeat(32);
    let (_, note) = told(&["root", "withdraw", &strange, &socket, "--reason", "a test"], 0).await;
    assert!(note.contains("no root and no signer in use"), "{note}");
    let (text, note) = told(&["root", "withdraw", &new, &socket, "--reason", "a test"], 0).await;
    assert_eq!(note, "");
    assert!(
        text.contains("\nsigns       nothing\n") && text.contains("attention: nothing signs: "),
        "{text}"
    );
    assert!(text.contains(&format!("\nwithdrawn   {strange}\n")), "{text}");
}

#[tokio::test]
async fn a_wait_ends_with_the_change() {
    let scene = Scene::start().await;
    let socket = format!("--socket={}", scene.socket().display());
    // Nothing to wait for.
    let (_, progress) = told(&["root", "status", "--wait", &socket], 0).await;
    assert_eq!(progress, "");

    // Given up: the files end at another root before the first one signs.
    scene.change("Second").await;
    let given_up = waiting(&["root", "status", "--wait", &socket], "CN=Second Root: waits for ").await;
    let third = scene.change("Third").await;
    let output = tokio::task::spawn_blocking(|| given_up.wait_with_output().unwrap())
        .await
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");

    let signs = waiting(&["root", "activate", "--wait", &socket], "CN=Third Root: waits for ").await;
    scene.act(Act::ActivateNow(third)).await.unwrap();
    let output = tokio::task::spawn_blocking(|| signs.wait_with_output().unwrap())
        .await
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("\nsigns       CN=Third Signer ("), "{text}");
}

/// Starts it, and returns when it says that it waits.
async fn waiting(arguments: &[&str], line: &'static str) -> Child {
    let mut child = command(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    tokio::task::spawn_blocking(move || {
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut told = String::new();
        stderr.read_line(&mut told).unwrap();
        assert!(told.starts_with(line), "{told}");
        // Whatever it still says must find a reader.
        child.stderr = Some(stderr.into_inner());
        child
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn check_running_is_for_monitoring() {
    let scene = Scene::start().await;
    let settings = format!("--set=admin.socket={}", scene.socket().display());
    let (text, _) = told(&["check", "--running", &settings], 0).await;
    assert!(
        text.starts_with("self-signed root in ") && text.ends_with(", running: ok\n"),
        "{text}"
    );
    // A change on its way is no trouble; one that waits for a word alone is.
    scene.change("New").await;
    told(&["check", "--running", &settings], 0).await;
    let other = Scene::start().await;
    plug_in(&other.folder.path().join("cacerts"), "New");
    other.act(Act::Reload).await.unwrap();
    let other_settings = format!("--set=admin.socket={}", other.socket().display());
    let (text, _) = told(&["check", "--running", &other_settings], 1).await;
    assert!(
        text.starts_with("error: the pending root waits for your word alone"),
        "{text}"
    );

    std::fs::remove_file(scene.folder.path().join("cacerts/ca-cert.pem")).unwrap();
    scene.refused(Act::Reload).await;
    let (text, _) = told(&["check", "--running", &settings], 1).await;
    assert!(
        text.starts_with("error: the CA's files cannot be used: ") && text.ends_with("needs a person\n"),
        "{text}"
    );

    let nobody = ["check", "--running", "--set=admin.socket=/nowhere/admin.sock"];
    let (_, why) = told(&nobody, 1).await;
    assert!(
        why.contains("nobody answers on /nowhere/admin.sock: is countersign serve running"),
        "{why}"
    );
}

#[tokio::test]
async fn what_cannot_be_asked_is_told() {
    for arguments in [
        &["root"][..],
        &["root", "confirm"],
        &["root", "reload"],
        &["root", "retire", "--reason", "x"],
        &["root", "activate", "--reason", "x"],
        &["root", "activate", "--now"],
        &["root", "activate", "--now", "--wait", "--reason", "x"],
        &["check", "--running", "--cacerts", "."],
    ] {
        told(arguments, 2).await;
    }
    let (_, why) = told(&["root", "status", "--set=admin.socket="], 1).await;
    assert!(why.contains("admin.socket is empty in these settings"), "{why}");
    let (_, why) = told(&["root", "status", "--set=ca.selfSigned.directory=/nowhere"], 1).await;
    assert!(why.contains("nobody answers on /nowhere/admin.sock"), "{why}");
}

/// Commands are renamed, and pages stay behind.
#[tokio::test]
async fn every_command_of_the_page_is_one_that_the_program_takes() {
    let page = include_str!("../../../docs/change-a-root.md");
    let lines: Vec<&str> = page
        .lines()
        .filter_map(|line| line.trim().strip_prefix("countersign "))
        .collect();
    assert!(lines.len() >= 8, "{lines:?}");
    for line in lines {
        // Every second piece was quoted.
        let pieces = line.split('\'').enumerate();
        let arguments: Vec<&str> = pieces
            .flat_map(|(index, piece)| {
                if index % 2 == 1 {
                    vec![piece]
                } else {
                    piece.split_whitespace().collect()
                }
            })
            .collect();
        // There is no CA that it could reach; a wrong command line would end with 2.
        told(&arguments, 1).await;
    }
}

/// Both sides as they are run: the log says who steered, why and how it ended, and a killed CA's socket stands in nobody's way.
#[test]
fn every_act_is_in_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let first = serve(folder.path());
    let settings = folder.path().join("serve.yaml");
    let config = format!("--config={}", settings.display());
    let reason = "CHG-7: \"quoted\"";
    let done = command(&["root", "reload", &config, "--reason", reason])
        .output()
        .unwrap();
    assert!(done.status.success(), "{done:?}");
    let root = "ab".repeat(32);
    let refused = command(&["root", "retire", &root, &config, "--reason", "CHG-8"])
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");

    let (mut child, mut log) = first;
    let mut steered = || {
        log.by_ref()
            .find(|line| line["target"] == "countersign::steered")
            .unwrap()
    };
    let line = steered();
    assert_eq!(line["level"], "INFO");
    assert_eq!(
        (line["act"].as_str(), line["result"].as_str()),
        (Some("reload"), Some("done"))
    );
    assert_eq!(line["reason"], reason);
    assert_eq!(line["uid"], countersign::platform::process::user());
    assert!(line["pid"].as_i64().unwrap() > 0);
    assert_eq!(
        (&line["refused"], &line["certificate"]),
        (&serde_json::Value::Null, &serde_json::Value::Null)
    );
    let line = steered();
    assert_eq!(
        (line["act"].as_str(), line["result"].as_str()),
        (Some("retire"), Some("refused"))
    );
    assert_eq!(
        (line["reason"].as_str(), line["certificate"].as_str()),
        (Some("CHG-8"), Some(&*root))
    );
    assert!(
        line["refused"].as_str().unwrap().contains("is not in the bundle"),
        "{line}"
    );

    child.kill().unwrap();
    child.wait().unwrap();
    assert!(folder.path().join("ca/admin.sock").exists());
    let (mut child, _log) = serve(folder.path());
    let status = command(&["root", "status", &config]).output().unwrap();
    assert!(status.status.success(), "{status:?}");
    child.kill().unwrap();
    child.wait().unwrap();
}

/// A CA in a process of its own that is listening, and the lines of its log from then on.
fn serve(folder: &Path) -> (Child, impl Iterator<Item = serde_json::Value> + use<>) {
    let path = folder.display();
    let settings = format!(
        "listen: {{address: '127.0.0.1:0', threads: 1}}\n\
         monitoring: {{address: '127.0.0.1:0'}}\n\
         ca: {{type: self-signed, selfSigned: {{directory: '{path}/ca'}}}}\n\
         authentication: {{issuers: [{{issuer: x, jwksFile: '{path}/jwks.json'}}]}}\n\
         logging: {{format: json}}\n"
    );
    let issuer = TokenIssuer::new("x", "istio-ca", TokenKey::generate().unwrap()).unwrap();
    std::fs::write(folder.join("jwks.json"), issuer.jwks()).unwrap();
    let file = folder.join("serve.yaml");
    std::fs::write(&file, settings).unwrap();
    let mut child = command(&["serve", "--config", file.to_str().unwrap()])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut log = lines.map(|line| serde_json::from_str::<serde_json::Value>(&line.unwrap()).unwrap());
    let open = log.find(|line| line["message"] == "listening").unwrap();
    assert_eq!(open["admin"], format!("{path}/ca/admin.sock"));
    (child, log)
}
