//! The program under test, as a process.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Program, free_port, until};

/// A running `countersign serve`.
pub struct Ca {
    pub program: Program,
    pub directory: tempfile::TempDir,
    pub port: u16,
    pub monitoring: u16,
}

/// The binary.
pub fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_countersign"))
}

impl Ca {
    /// Starts it with these settings (YAML, without doors and CA) and waits until its doors are open.
    pub fn start(settings: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (port, monitoring) = (free_port(), free_port());
        let doors = format!(
            "listen: {{address: '127.0.0.1:{port}'}}\nmonitoring: {{address: '127.0.0.1:{monitoring}'}}\n\
             servingCertificate: {{names: [istiod.istio-system.svc, 127.0.0.1]}}\n"
        );
        let ca = if settings.contains("\nca:") || settings.starts_with("ca:") {
            String::new()
        } else {
            format!(
                "ca: {{type: self-signed, selfSigned: {{directory: '{}/ca'}}}}\n",
                directory.path().display()
            )
        };
        std::fs::write(directory.path().join("serve.yaml"), format!("{doors}{ca}{settings}")).unwrap();
        let program = launch(directory.path());
        program.wait_for("listening", 0);
        let this = Self {
            program,
            directory,
            port,
            monitoring,
        };
        std::fs::write(this.root(), this.bundle()).unwrap();
        this
    }

    /// Starts it again in the same place.
    pub fn restart(&mut self) {
        self.program = launch(self.directory.path());
        self.program.wait_for("listening", 0);
    }

    fn bundle(&self) -> Vec<u8> {
        let own = self.directory.path().join("ca/root-cert.pem");
        if own.exists() {
            std::fs::read(own).unwrap()
        } else {
            std::fs::read(self.directory.path().join("cacerts-root")).unwrap_or_default()
        }
    }

    /// The roots that its clients trust.
    pub fn root(&self) -> PathBuf {
        self.directory.path().join("root-cert.pem")
    }

    /// Its address.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// An answer of the HTTP door.
    pub fn http(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.monitoring)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// Waits until `/readyz` says so, or until it gives this reason why not.
    pub fn until_ready(&self, reason: Option<&str>) {
        until("readiness", || {
            let answer = self.http("/readyz");
            match reason {
                None => answer.starts_with("HTTP/1.1 200"),
                Some(reason) => answer.starts_with("HTTP/1.1 503") && answer.contains(reason),
            }
        });
    }
}

fn launch(directory: &Path) -> Program {
    let mut command = Command::new(binary());
    command
        .args(["serve", "--config"])
        .arg(directory.join("serve.yaml"))
        .current_dir(directory);
    Program::start("countersign", &command)
}
