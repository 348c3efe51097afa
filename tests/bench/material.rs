//! What the callers bring: tokens from the demo's file, and a fresh key and CSR for each. Every token and every CSR is used once: a file is
//! read onwards, never again.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use base64::Engine;
use rcgen::string::Ia5String;
use rcgen::{CertificateParams, DistinguishedName, KeyPair, SanType};
use serde::{Deserialize, Serialize};

use crate::call::Call;
use crate::machine::Cores;

/// What tokens are signed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Algorithm {
    /// RSA 2048, as Kubernetes signs by default.
    #[serde(rename = "RS256")]
    Rs256,
    /// P-256.
    #[serde(rename = "ES256")]
    Es256,
}

impl Algorithm {
    /// As tokens name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
        }
    }
}

/// The tokens that are still unused.
pub struct Tokens {
    lines: std::io::Lines<BufReader<File>>,
    cores: Cores,
}

impl Tokens {
    /// Opens a file of tokens, one a line.
    pub fn open(file: &Path, cores: Cores) -> Result<Self> {
        let opened = File::open(file).with_context(|| format!("opening {}", file.display()))?;
        Ok(Self {
            lines: BufReader::new(opened).lines(),
            cores,
        })
    }

    /// Takes the next `count` tokens and makes a key and a CSR for each, on both cores.
    pub fn prepare(&mut self, count: usize) -> Result<Vec<Call>> {
        let tokens = self.lines.by_ref().take(count).collect::<Result<Vec<_>, _>>()?;
        ensure!(tokens.len() == count, "the demo made too few tokens");
        let (first, second) = tokens.split_at(count / 2);
        let cores = self.cores;
        let calls = |tokens: &[String]| -> Result<Vec<Call>> {
            cores.move_to_both()?;
            tokens.iter().map(|token| call(token)).collect()
        };
        std::thread::scope(|scope| {
            let other = scope.spawn(|| calls(second));
            // On a thread too, so that this one stays on its core.
            let mut prepared = scope.spawn(|| calls(first)).join().ok().context("a thread died")??;
            prepared.extend(other.join().ok().context("a thread died")??);
            Ok(prepared)
        })
    }
}

/// Who a token speaks of, as the server must have read it.
pub fn spiffe_path(token: &str) -> Result<String> {
    #[derive(Deserialize)]
    struct Claims {
        sub: String,
    }
    let payload = token.split('.').nth(1).context("a token without claims")?;
    let payload = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload)?;
    let Claims { sub } = serde_json::from_slice(&payload)?;
    let (namespace, account) = sub
        .strip_prefix("system:serviceaccount:")
        .and_then(|rest| rest.split_once(':'))
        .context("a token of no service account")?;
    Ok(format!("/ns/{namespace}/sa/{account}"))
}

/// An RSA key for tokens as the demo takes it and as the bound needs it: writes PEM to `file`, returns PKCS#8.
pub fn rsa_key(file: &Path) -> Result<Vec<u8>> {
    let status = Command::new("openssl")
        .args([
            "genpkey",
            "-quiet",
            "-algorithm",
            "RSA",
            "-pkeyopt",
            "rsa_keygen_bits:2048",
            "-out",
        ])
        .arg(file)
        .status()
        .context("starting openssl, which makes the RSA key for tokens: install it")?;
    ensure!(status.success(), "openssl could not make an RSA key");
    let pem = std::fs::read_to_string(file)?;
    let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    Ok(base64::engine::general_purpose::STANDARD.decode(body)?)
}

/// An empty subject and the identity as URI, as Istio's agents ask.
fn call(token: &str) -> Result<Call> {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = DistinguishedName::new();
    let uri = format!("spiffe://cluster.local{}", spiffe_path(token)?);
    parameters.subject_alt_names = vec![SanType::URI(Ia5String::try_from(uri)?)];
    let csr = parameters.serialize_request(&KeyPair::generate()?)?;
    Ok(Call::new(token, csr.pem()?)?)
}
