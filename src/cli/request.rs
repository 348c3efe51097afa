//! `countersign request`: one certificate from any Istio-compatible CA.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::{Args, ValueEnum};

use super::output::{self, Format};
use crate::agent::{Ask, Certificate, ClientIdentity, Connection, Endpoint, Key, files as written};
use crate::app::duration;
use crate::model::{BearerToken, Identity, KeyAlgorithm, TrustDomain};
use crate::platform::{SystemClock, files};

/// Where Istio's injector mounts the workload's token.
const TOKEN: &str = "/var/run/secrets/tokens/istio-token";
/// Largest file that is read.
const MOST_BYTES: u64 = 1 << 20;

/// Get one certificate from this or any other Istio-compatible CA.
///
/// Makes a key and a certificate request, proves itself with a service-account token (or a client certificate), and checks the answer more
/// strictly than Istio's agents do: right key, right identity, a chain that verifies for client and server use. For terminals, init
/// containers, and to see what a CA answers.
#[derive(Debug, Args)]
#[command(after_long_help = AFTER_HELP)]
pub struct Arguments {
    /// The CA.
    #[arg(long, value_name = "HOST:PORT", env = "CA_ADDR")]
    ca: String,
    /// The roots that the CA's own certificate must be under, PEM.
    #[arg(long, value_name = "FILE", env = "CA_ROOT_CA", required_unless_present = "plaintext")]
    root: Option<PathBuf>,
    /// The name that the CA must prove. Without it, the host in --ca.
    #[arg(long, value_name = "NAME")]
    server_name: Option<String>,
    /// Speak without TLS. Whoever sits on the way can read the token and be you.
    #[arg(long, conflicts_with_all = ["server_name", "client_cert"])]
    plaintext: bool,

    /// The token that proves who we are. Without it, /var/run/secrets/tokens/istio-token if it is there.
    #[arg(long, value_name = "FILE")]
    token: Option<PathBuf>,
    /// A certificate of the same CA that proves who we are, PEM, leaf first.
    #[arg(long, value_name = "FILE", requires = "client_key")]
    client_cert: Option<PathBuf>,
    /// The key of --client-cert, PEM.
    #[arg(long, value_name = "FILE", requires = "client_cert")]
    client_key: Option<PathBuf>,
    /// Our cluster, for a CA that serves several.
    #[arg(long, value_name = "NAME", env = "ISTIO_META_CLUSTER_ID")]
    cluster_id: Option<String>,

    /// Who we are: spiffe://<trust domain>/ns/<namespace>/sa/<service account>. Without it, the next three say so.
    #[arg(long, value_name = "URI")]
    identity: Option<String>,
    /// Our namespace. Without it, the one in the token.
    #[arg(long, value_name = "NAME", env = "POD_NAMESPACE")]
    namespace: Option<String>,
    /// Our service account. Without it, the one in the token.
    #[arg(long, value_name = "NAME", env = "SERVICE_ACCOUNT")]
    service_account: Option<String>,
    /// The trust domain.
    #[arg(long, value_name = "NAME", env = "TRUST_DOMAIN", default_value = "cluster.local")]
    trust_domain: String,

    /// The kind of key to make.
    #[arg(long, value_enum, default_value_t = KeyKind::P256, conflicts_with = "key")]
    key_algorithm: KeyKind,
    /// Use this key instead of a new one: PKCS#8, PEM; RSA, P-256, P-384 or Ed25519.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Wanted lifetime, such as 24h or 1h30m. Without it, the CA's default.
    #[arg(long, value_name = "DURATION", env = "SECRET_TTL", value_parser = duration::parse)]
    ttl: Option<Duration>,
    /// Longest wait for the answer, all attempts together.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration::parse)]
    timeout: Duration,

    /// Write key.pem, cert-chain.pem and root-cert.pem into this directory. Without it, nothing is kept.
    #[arg(long, value_name = "DIRECTORY")]
    out: Option<PathBuf>,
    /// How to tell about the certificate. The private key is never printed.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    output: Format,
}

const AFTER_HELP: &str = "\
Examples:
  Ask a running demo
    countersign request --ca \"$(cat d/address)\" --root d/root-cert.pem --token d/token --out mine
  Ask istiod from a pod with Istio's variables
    countersign request --ca istiod.istio-system.svc:15012 \\
      --root /var/run/secrets/istio/root-cert.pem --out /certs
  Ask as another service account, with a token that kubectl makes
    kubectl create token sleep --audience istio-ca >token
    countersign request --ca localhost:15012 --server-name istiod.istio-system.svc \\
      --root root-cert.pem --token token

Retries what Istio's agent retries: UNAVAILABLE, RESOURCE_EXHAUSTED, ABORTED and INTERNAL, five attempts in all.
";

/// Kinds of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum KeyKind {
    /// ECDSA on P-256.
    P256,
    /// ECDSA on P-384.
    P384,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    if let Some(directory) = &arguments.out {
        written::prepare(directory).context("--out")?;
    }
    let token = token(arguments)?;
    let key = match &arguments.key {
        Some(path) => {
            let text = files::read(path, MOST_BYTES)?;
            let text = std::str::from_utf8(&text).with_context(|| path.display().to_string())?;
            Key::from_pem(text).with_context(|| path.display().to_string())?
        }
        None => Key::generate(match arguments.key_algorithm {
            KeyKind::P256 => KeyAlgorithm::P256,
            KeyKind::P384 => KeyAlgorithm::P384,
        })?,
    };
    let ask = Ask {
        endpoint: Endpoint::new(&arguments.ca, connection(arguments)?).context("--ca")?,
        identity: identity(arguments, token.as_ref())?,
        token,
        lifetime: arguments.ttl.map_or(Ok(0), |ttl| i64::try_from(ttl.as_secs()))?,
        cluster_id: arguments.cluster_id.clone(),
        deadline: arguments.timeout,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let certificate = runtime
        .block_on(ask.send(&key, &SystemClock))
        .with_context(|| format!("no certificate from {}", arguments.ca))?;
    if let Some(directory) = &arguments.out {
        certificate.write(directory)?;
    }
    match arguments.output {
        Format::Text => print_text(&certificate, arguments.out.as_deref())?,
        Format::Json => print_json(&certificate)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The token, if there is one. Blanks around it are not part of it.
fn token(arguments: &Arguments) -> anyhow::Result<Option<BearerToken>> {
    let read = match &arguments.token {
        Some(path) => Some(files::read(path, MOST_BYTES)?),
        None => files::read_if_exists(Path::new(TOKEN), MOST_BYTES)?,
    };
    let Some(bytes) = read else {
        if arguments.client_cert.is_none() {
            bail!("there is no token in {TOKEN}; give --token, or --client-cert and --client-key");
        }
        return Ok(None);
    };
    let text = std::str::from_utf8(&bytes).context("the token is not text")?.trim();
    if text.is_empty() {
        bail!("the token file is empty; make a token with kubectl create token NAME --audience istio-ca");
    }
    Ok(Some(BearerToken::new(text.to_owned())))
}

fn connection(arguments: &Arguments) -> anyhow::Result<Connection> {
    let Some(root) = arguments.root.as_ref().filter(|_| !arguments.plaintext) else {
        return Ok(Connection::Plaintext);
    };
    let roots = files::read(root, MOST_BYTES)?;
    let name = match &arguments.server_name {
        Some(name) => name,
        None => Endpoint::host(&arguments.ca).context("--ca")?,
    };
    let read = |path: &Option<PathBuf>| path.as_ref().map(|path| files::read(path, MOST_BYTES)).transpose();
    let (chain, key) = (read(&arguments.client_cert)?, read(&arguments.client_key)?);
    let client = chain
        .as_ref()
        .zip(key.as_ref())
        .map(|(chain, key)| ClientIdentity { chain, key });
    Connection::tls(&roots, name, client).with_context(|| root.display().to_string())
}

fn identity(arguments: &Arguments, token: Option<&BearerToken>) -> anyhow::Result<Identity> {
    if let Some(uri) = &arguments.identity {
        return Identity::parse(uri).context("--identity");
    }
    let claimed = token.and_then(|token| account_of(token.reveal()));
    let (namespace, account) = claimed.unzip();
    let (Some(namespace), Some(account)) = (
        arguments.namespace.clone().or(namespace),
        arguments.service_account.clone().or(account),
    ) else {
        bail!("the token does not say who we are; give --identity, or --namespace and --service-account");
    };
    let domain = TrustDomain::parse(&arguments.trust_domain).context("--trust-domain")?;
    Identity::new(&domain, &namespace, &account).context("who we are")
}

/// Namespace and account that a service-account token says of itself. Nothing is verified: it only fills in what to ask for.
fn account_of(token: &str) -> Option<(String, String)> {
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let claims: serde_json::Value = serde_json::from_slice(&claims).ok()?;
    let account = claims.get("sub")?.as_str()?.strip_prefix("system:serviceaccount:")?;
    let (namespace, name) = account.split_once(':')?;
    Some((namespace.to_owned(), name.to_owned()))
}

fn print_text(certificate: &Certificate, out: Option<&Path>) -> anyhow::Result<()> {
    let Certificate {
        identity,
        serial,
        validity,
        issuer,
        ..
    } = certificate;
    output::result(format_args!("identity  {identity}"))?;
    output::result(format_args!("serial    {serial}"))?;
    output::result(format_args!(
        "valid     {} to {}",
        validity.not_before, validity.not_after
    ))?;
    output::result(format_args!("issuer    {issuer}"))?;
    match out {
        Some(directory) => output::result(format_args!(
            "written   {}",
            [written::KEY, written::CHAIN, written::ROOTS]
                .map(|name| directory.join(name).display().to_string())
                .join(" ")
        )),
        None => {
            output::note("nothing was written; give --out to keep the certificate and its key");
            Ok(())
        }
    }
}

fn print_json(certificate: &Certificate) -> anyhow::Result<()> {
    let object = serde_json::json!({
        "identity": certificate.identity.to_string(),
        "serial": certificate.serial,
        "notBefore": certificate.validity.not_before.to_string(),
        "notAfter": certificate.validity.not_after.to_string(),
        "issuer": certificate.issuer,
        "chain": certificate.chain,
        "roots": certificate.bundle,
    });
    output::result(format_args!("{object:#}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_account_of_a_token() {
        let token = |claims: &str| format!("e30.{}.x", URL_SAFE_NO_PAD.encode(claims));
        assert_eq!(
            account_of(&token(r#"{"sub":"system:serviceaccount:default:sleep"}"#)),
            Some(("default".into(), "sleep".into()))
        );
        for claims in [
            "",
            "{}",
            r#"{"sub":1}"#,
            r#"{"sub":"user"}"#,
            r#"{"sub":"system:serviceaccount:x"}"#,
        ] {
            assert_eq!(account_of(&token(claims)), None, "{claims}");
        }
        assert_eq!(account_of("opaque"), None);
    }
}
