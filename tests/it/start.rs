//! What `check` approves, `serve` starts with, and nothing else: the real binary, both commands, exit statuses compared.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, KeyUsagePurpose};

use crate::settings;
use crate::support::tokens::{TestKey, Token, key_set};

/// Nothing in the environment: no pod.
#[expect(
    clippy::disallowed_methods,
    reason = "the program under test starts no other; this one does"
)]
fn countersign(command: &str, directory: &Path, arguments: &[String]) -> Command {
    let mut process = Command::new(env!("CARGO_BIN_EXE_countersign"));
    process.arg(command).args(arguments).current_dir(directory).env_clear();
    process
}

/// Whether `check` approves, and what it says.
fn check(directory: &Path, arguments: &[String]) -> (bool, String) {
    let output = countersign("check", directory, arguments).output().unwrap();
    let told = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(told).unwrap())
}

/// Whether `serve` opens its doors and is ready to sign, and what it says.
fn serve(directory: &Path, arguments: &[String]) -> (bool, String) {
    let mut process = countersign("serve", directory, arguments)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut told = String::new();
    let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
    let starts = lines.any(|line| {
        let line = line.unwrap();
        told.push_str(&line);
        told.push('\n');
        line.contains(" listening ")
    });
    if starts {
        process.kill().unwrap();
    }
    let status = process.wait().unwrap();
    assert_eq!(status.code(), (!starts).then_some(1), "{told}");
    (starts, told)
}

/// A CA's files, its certificate good for so long.
fn plugged_in(directory: &Path, seconds: i64) {
    let key = KeyPair::generate().unwrap();
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name.push(DnType::CommonName, "root");
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    parameters.not_after = std::time::SystemTime::now().into();
    parameters.not_after += std::time::Duration::from_secs(seconds.unsigned_abs());
    let certificate = parameters.self_signed(&key).unwrap().pem();
    std::fs::create_dir(directory).unwrap();
    for (name, content) in [
        ("ca-cert.pem", &certificate),
        ("root-cert.pem", &certificate),
        ("ca-key.pem", &key.serialize_pem()),
    ] {
        std::fs::write(directory.join(name), content).unwrap();
    }
}

const BASE: &str = "\
listen: {address: '127.0.0.1:0'}
monitoring: {address: '127.0.0.1:0'}
ca: {type: self-signed, directory: none, selfSigned: {directory: own}}
authentication: {issuers: [{issuer: 'https://issuer', jwksFile: jwks.json}]}
";

fn scene() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let write = |name: &str, content: &str| std::fs::write(at(name), content).unwrap();
    write("serve.yaml", BASE);
    write("jwks.json", &key_set(&[&TestKey::p256("a")]));
    write("garbage", "garbage");
    write("empty-set.json", "{}");
    write(
        "kubeconfig",
        "{apiVersion: v1, kind: Config, clusters: [{name: a, cluster: {server: 'https://127.0.0.1:1'}}], contexts: [{name: a, context: {cluster: a, user: a}}], users: [{name: a, user: {token: t}}], current-context: a}",
    );
    std::fs::create_dir(at("empty")).unwrap();
    plugged_in(&at("good"), 1_000_000);
    plugged_in(&at("ending"), 50);
    write("good-key-elsewhere.pem", &KeyPair::generate().unwrap().serialize_pem());
    folder
}

/// What is laid over the settings above => what both say, nothing for yes.
const CASES: [(&[&str], &str); 28] = [
    (&[], ""),
    (
        &["ca.type=plugged-in", "ca.directory=typo"],
        "typo holds no plugged-in CA; put ca-cert.pem",
    ),
    (
        &["ca.type=plugged-in", "ca.directory=empty"],
        "empty holds no plugged-in CA; put ca-cert.pem",
    ),
    (&["ca.type=plugged-in", "ca.directory=good"], ""),
    (&["ca.type=auto", "ca.directory=good"], ""),
    (
        &["ca.type=plugged-in", "ca.directory=ending"],
        "too little is left to issue under them",
    ),
    (
        &[
            "ca.type=plugged-in",
            "ca.directory=ending",
            "certificates.minimumLifetime=10s",
        ],
        "",
    ),
    (&["ca.type=plugged-in", "ca.directory=garbage"], "Not a directory"),
    (&["ca.type=auto", "ca.directory=typo"], ""),
    (&["ca.selfSigned.directory=garbage/own"], "garbage"),
    (
        &[
            "ca.type=auto",
            "ca.directory=good",
            "ca.selfSigned.directory=garbage/own",
        ],
        "garbage",
    ),
    (
        &[
            "ca.type=plugged-in",
            "ca.directory=good",
            "ca.selfSigned.directory=garbage/own",
        ],
        "garbage",
    ),
    (
        &["authentication.tokenReview.kubeconfig=/nope"],
        "authentication.tokenReview.kubeconfig: the kubeconfig /nope cannot be used",
    ),
    (
        &["authentication.tokenReview.kubeconfig=garbage"],
        "authentication.tokenReview.kubeconfig: the kubeconfig garbage cannot be used",
    ),
    (&["authentication.tokenReview.kubeconfig=kubeconfig"], ""),
    (
        &[
            "authentication.issuers=[{issuer: x, discovery: cluster}]",
            "authentication.tokenReview.kubeconfig=kubeconfig",
        ],
        "",
    ),
    (
        &[
            "servingCertificate.certificateFile=/nope",
            "servingCertificate.keyFile=/nope",
        ],
        "servingCertificate: cannot read /nope",
    ),
    (
        &[
            "servingCertificate.certificateFile=good/ca-cert.pem",
            "servingCertificate.keyFile=good/ca-key.pem",
        ],
        "",
    ),
    (
        &[
            "servingCertificate.certificateFile=good/ca-cert.pem",
            "servingCertificate.keyFile=good-key-elsewhere.pem",
        ],
        "the key does not belong to the certificate",
    ),
    (
        &[
            "servingCertificate.certificateFile=garbage",
            "servingCertificate.keyFile=good/ca-key.pem",
        ],
        "garbage: it holds no certificate",
    ),
    (
        &["authentication.issuers=[{issuer: x, jwksFile: /nope.json}]"],
        "authentication.issuers[0].jwksFile: cannot read /nope.json",
    ),
    (
        &["authentication.issuers=[{issuer: x, jwksFile: empty-set.json}]"],
        "authentication.issuers[0].jwksFile: empty-set.json",
    ),
    (
        &["authentication.issuers=[{issuer: x, jwksFile: garbage}]"],
        "authentication.issuers[0].jwksFile: garbage",
    ),
    (
        &["authentication.issuers=[{issuer: 'https://127.0.0.1:1', caFile: /nope}]"],
        "authentication.issuers[0].caFile: cannot read /nope",
    ),
    (
        &["authentication.issuers=[{issuer: 'https://127.0.0.1:1', caFile: garbage}]"],
        "authentication.issuers[0].caFile: the CA bundle garbage cannot be used",
    ),
    (
        &["authentication.issuers=[{issuer: 'https://127.0.0.1:1', caFile: good/root-cert.pem}]"],
        "",
    ),
    (
        &[
            "authentication.issuers=[]",
            "authentication.tokenReview.enabled=false",
            "authentication.clientCertificates=true",
        ],
        "certificates alone would be a circle",
    ),
    (&["listen.connections=0"], "listen.connections: 0 is out of range"),
];

#[test]
fn check_approves_what_serve_starts_with() {
    for (set, expected) in CASES {
        let folder = scene();
        let mut arguments = vec!["--config=serve.yaml".to_owned()];
        arguments.extend(set.iter().map(|assignment| format!("--set={assignment}")));
        for (what, (ends_well, told)) in [
            ("check", check(folder.path(), &arguments)),
            ("serve", serve(folder.path(), &arguments)),
        ] {
            assert_eq!(ends_well, expected.is_empty(), "{what} with {set:?} says\n{told}");
            assert!(told.contains(expected), "{what} with {set:?} says\n{told}");
        }
    }
}

#[test]
fn neither_takes_settings_that_cannot_work() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["--config=serve.yaml".to_owned()];
    assert!(settings::refused().count() >= 70);
    for yaml in settings::refused() {
        std::fs::write(folder.path().join("serve.yaml"), yaml).unwrap();
        for (what, (ends_well, told)) in [
            ("check", check(folder.path(), &arguments)),
            ("serve", serve(folder.path(), &arguments)),
        ] {
            assert!(!ends_well, "{what} with\n{yaml}\nsays\n{told}");
        }
    }
}

/// A rollout is checked in CI, not in the pod: what only the pod has is told and not judged.
#[test]
fn a_pod_s_settings_can_be_checked_elsewhere() {
    let folder = scene();
    let own =
        "ca: {selfSigned: {directory: own}}\nmonitoring: {address: '127.0.0.1:0'}\nlisten: {address: '127.0.0.1:0'}\n";
    for authentication in [
        "",
        "authentication: {tokenReview: {enabled: true}}\n",
        "authentication: {clientCertificates: true}\n",
    ] {
        std::fs::write(folder.path().join("serve.yaml"), format!("{own}{authentication}")).unwrap();
        let arguments = ["--config=serve.yaml".to_owned()];
        let missing = "authentication.tokenReview: it needs the credentials of a pod, and this is none";
        let (approved, told) = check(folder.path(), &arguments);
        assert!(approved, "{told}");
        assert!(
            told.contains(&format!("note: {missing}")) && told.contains("not checked here"),
            "{told}"
        );
        let (starts, told) = serve(folder.path(), &arguments);
        assert!(!starts && told.contains(missing), "{told}");
        let (validates, told) = serve_validate(folder.path());
        assert!(validates && told.contains("not checked here"), "{told}");
    }
}

fn serve_validate(directory: &Path) -> (bool, String) {
    let arguments = ["--config=serve.yaml".to_owned(), "--validate".to_owned()];
    let output = countersign("serve", directory, &arguments).output().unwrap();
    let told = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(told).unwrap())
}

/// Whoever wants to know what settings there are is told, also when they do not fit.
#[test]
fn validate_prints_settings_that_do_not_fit() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("serve.yaml"), "listen: {threads: 0}").unwrap();
    let (validates, told) = serve_validate(folder.path());
    assert!(!validates, "{told}");
    assert!(told.starts_with("trustDomain: cluster.local\n"), "{told}");
    assert!(told.contains("listen.threads: 0 is out of range"), "{told}");
}

/// A pod whose ServiceAccount mounts no token: what is missing, where it belongs, and who puts it there.
#[test]
fn a_pod_without_credentials_is_told_where_they_belong() {
    let folder = scene();
    let own =
        "ca: {selfSigned: {directory: own}}\nmonitoring: {address: '127.0.0.1:0'}\nlisten: {address: '127.0.0.1:0'}\n";
    std::fs::write(folder.path().join("serve.yaml"), own).unwrap();
    for command in ["check", "serve"] {
        let output = countersign(command, folder.path(), &["--config=serve.yaml".to_owned()])
            .envs([
                ("KUBERNETES_SERVICE_HOST", "127.0.0.1"),
                ("KUBERNETES_SERVICE_PORT", "1"),
            ])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1));
        let told = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        for part in [
            "authentication.tokenReview: ",
            "/var/run/secrets/kubernetes.io/serviceaccount",
            "automountServiceAccountToken: true",
        ] {
            assert!(told.contains(part), "{command}: {told}");
        }
    }
}

/// Who wonders why a workload gets no certificate finds the reason in the log, at the level that it has by default.
#[test]
fn the_log_says_who_failed_to_get_in() {
    let folder = scene();
    let mut process = countersign("serve", folder.path(), &["--config=serve.yaml".to_owned()])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(process.stderr.take().unwrap())
        .lines()
        .map(Result::unwrap);
    let mut find = |text: &str| lines.find(|line| line.contains(text)).unwrap_or_default();
    let listening = find(" listening ");
    let address = listening
        .split("address=")
        .nth(1)
        .and_then(|rest| rest.split(' ').next());
    let address = address.unwrap();
    std::net::TcpStream::connect(address)
        .unwrap()
        .write_all(b"GET / HTTP/1.1\r\n\r\n")
        .unwrap();
    assert!(find("a TLS handshake failed").contains("address=127.0.0.1:"));

    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let token = Token::new(now.as_secs().try_into().unwrap()).claim("iss", "https://elsewhere");
    std::fs::write(folder.path().join("token"), token.mint(&TestKey::p256("its-key"))).unwrap();
    let request = [
        format!("--ca={address}"),
        "--root=own/root-cert.pem".into(),
        "--server-name=istiod.istio-system.svc".into(),
        "--token=token".into(),
    ];
    let output = countersign("request", folder.path(), &request).output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("the reason is in the CA's log"), "{told}");
    let line = find("token_unknown");
    assert!(line.contains("https://elsewhere") && line.contains("its-key"), "{line}");
    process.kill().unwrap();
    process.wait().unwrap();
}

/// A daemon is sent SIGHUP to have it reload; the CA is not to die of it.
#[test]
fn a_hangup_is_survived_and_answered() {
    let folder = scene();
    let arguments = ["--config=serve.yaml".to_owned()];
    let mut process = countersign("serve", folder.path(), &arguments)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(process.stderr.take().unwrap())
        .lines()
        .map(Result::unwrap);
    let pid = rustix::process::Pid::from_child(&process);
    assert!(lines.any(|line| line.contains(" listening ")));
    rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
    assert!(lines.any(|line| line.contains("SIGHUP changes nothing")));
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(process.wait().unwrap().code(), Some(0));
}
