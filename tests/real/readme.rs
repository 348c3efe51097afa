//! README, the pages of `docs` that have commands, and the demo's own advice, run as written with a real shell and the real `openssl`.

use std::path::Path;
use std::process::{Command, Output};

fn countersign() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_countersign"))
}

/// Runs lines as a person would type them, in `directory`, with our program on the path; stops at the first that fails, and then ends what was
/// started in the background, which would hold our pipes.
fn shell(lines: &str, directory: &Path) -> Output {
    let path = std::env::var("PATH").unwrap();
    let ours = countersign().parent().unwrap().display();
    Command::new("bash")
        .args([
            "-euo",
            "pipefail",
            "-c",
            &format!("trap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n{lines}"),
        ])
        .current_dir(directory)
        .env("PATH", format!("{ours}:{path}"))
        .output()
        .unwrap()
}

fn succeeds(lines: &str, directory: &Path) -> String {
    let output = shell(lines, directory);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{lines}\n{}\n{}",
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}

/// Runs every block of commands of a page in order, as one person would.
fn run_page(page: &str, least: usize) -> String {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(page)).unwrap();
    let blocks = page.split("```sh\n").skip(1);
    let blocks: Vec<&str> = blocks.map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(blocks.len() >= least, "{} blocks of commands", blocks.len());
    let directory = tempfile::tempdir().unwrap();
    succeeds(&blocks.concat(), directory.path())
}

#[test]
fn every_command_of_the_readme_works_as_written() {
    let shown = run_page("README.md", 5);
    for expected in [
        "demo/cert-chain.pem: OK",
        "plugged-in/cert-chain.pem: OK",
        "after/cert-chain.pem: OK",
        "URI:spiffe://cluster.local/ns/default/sa/sleep",
    ] {
        assert!(shown.contains(expected), "{expected} is missing in\n{shown}");
    }
}

#[test]
fn every_command_about_plugging_in_a_ca_works_as_written() {
    let shown = run_page("docs/plug-in-a-ca.md", 5);
    assert!(shown.contains("proxy-cert-1.pem: OK"), "{shown}");
    assert_eq!(shown.matches("are identical").count(), 2, "{shown}");
}

#[test]
fn every_command_about_tls_works_as_written() {
    let shown = run_page("docs/tls.md", 2);
    for expected in [
        "\"ECDHE-ECDSA-AES128-SHA256\" is a CBC suite",
        "Cipher is ECDHE-ECDSA-AES256-GCM-SHA384",
        "Server Temp Key: ECDH, secp384r1",
        "no group in common",
    ] {
        assert!(shown.contains(expected), "{expected} is missing in\n{shown}");
    }
}

#[test]
fn the_demo_s_openssl_lines_prove_what_they_should() {
    let directory = tempfile::tempdir().unwrap();
    // A path that a shell would take apart.
    let shown = succeeds("countersign demo --dir \"it's here\" --tokens 3", directory.path());
    let lines: Vec<&str> = shown
        .lines()
        .filter_map(|line| line.strip_prefix("  "))
        .filter(|line| line.starts_with("openssl") || line.starts_with("test "))
        .collect();
    assert_eq!(lines.len(), 3, "{shown}");
    let proof = succeeds(&lines.join("\n"), directory.path());
    assert!(
        proof.contains(": OK") && proof.contains("URI:spiffe://cluster.local/ns/default/sa/sleep"),
        "{proof}"
    );
    // They would notice another key.
    succeeds(
        "openssl ecparam -name prime256v1 -genkey -noout -out \"it's here/key.pem\"",
        directory.path(),
    );
    assert!(!shell(lines[2], directory.path()).status.success());
    let tokens = std::fs::read_to_string(directory.path().join("it's here/tokens")).unwrap();
    assert_eq!(tokens.lines().count(), 3);
}
