//! What an issued certificate says, as `openssl x509` prints it.

use std::path::Path;

use super::openssl::{openssl, text};

/// The first certificate of a file.
#[derive(Debug)]
pub struct Certificate {
    /// Serial number, upper-case hex.
    pub serial: String,
    /// Seconds from 1970 on.
    pub not_before: i64,
    /// Seconds from 1970 on.
    pub not_after: i64,
    /// The names, such as `URI:spiffe://…`, and `critical` before them if they are.
    pub names: String,
    /// `openssl x509 -text`.
    pub text: String,
}

impl Certificate {
    /// Reads it.
    pub fn read(path: &Path) -> Self {
        let printed = openssl(&["x509", "-in", text(path), "-noout", "-text", "-serial"]).unwrap();
        let (printed, serial) = printed.trim_end().rsplit_once("serial=").unwrap();
        let pem = std::fs::read(path).unwrap();
        let (_, block) = x509_parser::pem::parse_x509_pem(&pem).unwrap();
        let certificate = block.parse_x509().unwrap();
        Self {
            serial: serial.to_owned(),
            not_before: certificate.validity().not_before.timestamp(),
            not_after: certificate.validity().not_after.timestamp(),
            names: extension(printed, "X509v3 Subject Alternative Name").unwrap_or_default(),
            text: printed.to_owned(),
        }
    }

    /// An extension's value on one line, with `critical ` before it if it is.
    pub fn extension(&self, name: &str) -> Option<String> {
        extension(&self.text, name)
    }

    /// The kind of its key, such as `rsaEncryption` or `id-ecPublicKey`, and its size in bits.
    pub fn key(&self) -> (&str, u32) {
        let after = |mark: &str| self.text.split_once(mark).unwrap().1;
        let kind = after("Public Key Algorithm: ").lines().next().unwrap();
        let bits = after("Public-Key: (").split_once(" bit").unwrap().0;
        (kind, bits.parse().unwrap())
    }

    /// What every workload certificate must be like, whatever key it is for (RFC 5280, and what Istio's proxies expect).
    pub fn assert_is_for_workload(&self, identity: &str) {
        assert_eq!(self.names, format!("critical URI:{identity}"), "{}", self.text);
        assert_eq!(
            self.extension("X509v3 Extended Key Usage").as_deref(),
            Some("TLS Web Server Authentication, TLS Web Client Authentication")
        );
        assert_eq!(
            self.extension("X509v3 Basic Constraints").as_deref(),
            Some("critical CA:FALSE")
        );
        // RFC 5246, 7.4.2: only RSA keys can be used to transport keys.
        let usage = match self.key().0 {
            "rsaEncryption" => "critical Digital Signature, Key Encipherment",
            _ => "critical Digital Signature",
        };
        assert_eq!(self.extension("X509v3 Key Usage").as_deref(), Some(usage));
        assert!(self.text.contains("Version: 3 (0x2)"), "{}", self.text);
        // RFC 5280, 4.1.2.2: positive, and not longer than 20 bytes.
        assert!(
            !self.serial.starts_with('-') && self.serial.len() <= 40,
            "{}",
            self.serial
        );
        assert!(self.serial.bytes().any(|digit| digit != b'0'), "{}", self.serial);
        assert!(
            self.text.contains("Subject: \n"),
            "the subject is not empty: {}",
            self.text
        );
    }
}

fn extension(printed: &str, name: &str) -> Option<String> {
    let mut lines = printed
        .lines()
        .skip_while(|line| !line.trim_start().starts_with(&format!("{name}:")));
    let critical = lines.next()?.trim_end().ends_with("critical");
    let value = lines.next()?.trim();
    Some(if critical {
        format!("critical {value}")
    } else {
        value.to_owned()
    })
}

/// Seconds from 1970 on.
pub fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    i64::try_from(since.unwrap().as_secs()).unwrap()
}
