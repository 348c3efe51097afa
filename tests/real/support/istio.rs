//! Istio's own clients: the citadel client under a script, and the unmodified pilot-agent without Envoy.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::countersign::Ca;
use super::{Program, part, run};

/// One request of Istio's citadel client: its one line of JSON.
pub fn sign(ca: &Ca, arguments: &[&str]) -> Value {
    let mut command = Command::new(part("CITADEL_CLIENT"));
    command.args(["sign", "--ca", &ca.address(), "--root"]).arg(ca.root());
    command
        .args(["--namespace", "default", "--service-account", "sleep", "--verify"])
        .args(arguments);
    serde_json::from_str(&run(&mut command)).unwrap()
}

/// Istio's secret cache going on in the background.
pub fn cache(ca: &Ca, arguments: &[&str]) -> Program {
    let mut command = Command::new(part("CITADEL_CLIENT"));
    command.args(["cache", "--ca", &ca.address(), "--root"]).arg(ca.root());
    command
        .args(["--namespace", "default", "--service-account", "sleep"])
        .args(arguments);
    Program::start("citadel cache", &command)
}

/// A pilot-agent in a directory of its own.
pub struct PilotAgent {
    pub program: Program,
    pub directory: tempfile::TempDir,
}

impl PilotAgent {
    /// Lays out what it needs; `token` is its service-account token.
    pub fn prepare(token: &str) -> tempfile::TempDir {
        let directory = tempfile::Builder::new().prefix("pa").tempdir().unwrap();
        for folder in ["etc/istio/pod", "var/run/secrets/tokens", "certs"] {
            std::fs::create_dir_all(directory.path().join(folder)).unwrap();
        }
        // Without this it would listen on a port of all interfaces.
        let annotation = "status.sidecar.istio.io/port=\"0\"\n";
        std::fs::write(directory.path().join("etc/istio/pod/annotations"), annotation).unwrap();
        std::fs::write(directory.path().join("var/run/secrets/tokens/istio-token"), token).unwrap();
        directory
    }

    /// Starts it against a CA, with these variables besides.
    pub fn start(ca: &Ca, directory: tempfile::TempDir, host: &str, variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new("env");
        command.args(["-i", "PATH=/usr/bin:/bin", "DISABLE_ENVOY=true", "CLOUD_PLATFORM=none"]);
        command
            .arg("PROXY_CONFIG={discoveryAddress: \"127.0.0.1:1\", controlPlaneAuthPolicy: NONE, configPath: ./proxy}");
        command.args([
            "INSTANCE_IP=127.0.0.1",
            "POD_NAME=sleep-1",
            "POD_NAMESPACE=default",
            "SERVICE_ACCOUNT=sleep",
        ]);
        command.args([
            "TRUST_DOMAIN=cluster.local",
            "ISTIO_META_CLUSTER_ID=Kubernetes",
            "OUTPUT_CERTS=./certs",
        ]);
        command.args([
            "GRPC_XDS_BOOTSTRAP=./grpc-bootstrap.json",
            &format!("CA_ADDR={host}:{}", ca.port),
        ]);
        command.arg(format!("CA_ROOT_CA={}", ca.root().display()));
        command.args(variables.iter().map(|(name, value)| format!("{name}={value}")));
        command.arg(part("PILOT_AGENT")).args(["proxy", "sidecar"]);
        command.arg("--log_output_level=default:info,cache:debug,citadelclient:debug,ca:debug");
        command.current_dir(directory.path());
        Self {
            program: Program::start("pilot-agent", &command),
            directory,
        }
    }

    /// Where it writes its certificates.
    pub fn certificates(&self) -> PathBuf {
        self.directory.path().join("certs")
    }

    /// Waits for so many certificates in all.
    pub fn wait_for(&self, count: usize) {
        let mut skip = 0;
        for _ in 0..count {
            skip = self.program.wait_for("generated new workload certificate", skip).0 + 1;
        }
        self.program.wait_for("output the resource", skip);
    }
}

/// What `openssl` says of a written certificate: verified for both purposes, then its text.
pub fn judged_by_openssl(directory: &Path) -> String {
    let file = |name: &str| directory.join(name).display().to_string();
    for purpose in ["sslserver", "sslclient"] {
        run(Command::new("openssl")
            .args([
                "verify",
                "-purpose",
                purpose,
                "-x509_strict",
                "-CAfile",
                &file("root-cert.pem"),
            ])
            .args(["-untrusted", &file("cert-chain.pem"), &file("cert-chain.pem")]));
    }
    let of_key = run(Command::new("openssl").args(["pkey", "-pubout", "-in", &file("key.pem")]));
    let of_certificate =
        run(Command::new("openssl").args(["x509", "-noout", "-pubkey", "-in", &file("cert-chain.pem")]));
    assert_eq!(of_key, of_certificate);
    run(Command::new("openssl").args(["x509", "-noout", "-text", "-in", &file("cert-chain.pem")]))
}
