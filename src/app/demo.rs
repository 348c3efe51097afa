//! `demo`: everything on one machine without a cluster. A CA, an issuer of tokens, a workload that gets its certificate; then what a person
//! can check with `openssl`, and what scripts need to go on with.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;

use super::config::Config;
use super::serve::{self, App};
use super::settings::Settings;
use super::token_issuer::{Life, TokenIssuer, Workload};
use crate::agent::{Ask, Certificate, Connection, Endpoint, Key};
use crate::model::{BearerToken, Identity, KeyAlgorithm};
use crate::platform::crypto::TokenKey;
use crate::platform::files::{self, DirectoryLock, Mode};
use crate::platform::shutdown::{shutdown, signal_to_stop};
use crate::platform::{Clock, SystemClock};

/// The issuer that the demo's tokens name. Nothing is ever fetched from it: its keys lie in a file.
const ISSUER: &str = "https://demo.countersign.invalid";
/// Tokens last as long as those that Istio's manifests project into pods.
const TOKEN_SECONDS: i64 = 43_200;

/// What to do.
#[derive(Debug)]
pub struct Options {
    /// Where everything is left; a new directory when absent.
    pub directory: Option<PathBuf>,
    /// Stay up until a signal comes.
    pub keep: bool,
    /// How many tokens for load tests.
    pub tokens: usize,
    /// The RSA key (PEM) that signs tokens with RS256; a new P-256 key and ES256 when absent.
    pub token_key: Option<PathBuf>,
}

/// Runs the demo. `say` hears of every step.
pub async fn run(options: &Options, say: impl Fn(&str) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let clock = SystemClock;
    let directory = match &options.directory {
        Some(directory) => directory.clone(),
        None => files::create_temporary_directory("countersign-demo-")?,
    };
    let at = |name: &str| directory.join(name);
    files::create_private_directory(&at("ca"))?;
    // Before anything is replaced: another demo may be running from it.
    drop(DirectoryLock::take(&at("ca"))?);
    // Of an earlier run: nobody listens there, and no key verifies them.
    files::remove(&at("address"))?;
    files::remove(&at("tokens"))?;

    say("1. An issuer of service-account tokens, in place of a Kubernetes API server")?;
    let key = match &options.token_key {
        Some(path) => TokenKey::rsa_from_pem(&files::read(path, 64 * 1024)?)
            .with_context(|| format!("the token key {}", path.display()))?,
        None => TokenKey::generate()?,
    };
    let issuer = TokenIssuer::new(ISSUER, "istio-ca", key)?;
    files::write(&at("jwks.json"), issuer.jwks().as_bytes(), Mode::Public)?;
    let workload = Workload {
        namespace: "default".into(),
        service_account: "sleep".into(),
        pod: "sleep-1".into(),
        node: "node-1".into(),
    };
    let life = Life {
        issued: clock.now(),
        seconds: TOKEN_SECONDS,
    };
    let token = issuer.mint(&workload, life)?;
    files::write(&at("token"), token.as_bytes(), Mode::Secret)?;
    if options.tokens > 0 {
        files::write_with(&at("tokens"), Mode::Secret, |out| {
            issuer.mint_many(options.tokens, life, out)
        })?;
        say(&format!(
            "   {} more tokens in {}",
            options.tokens,
            at("tokens").display()
        ))?;
    }

    say("2. The CA, with a root of its own")?;
    let any = "127.0.0.1:0".parse()?;
    let app = App::open_quietly(&checked(&settings(&directory, any, any))?).await?;
    let addresses = app.addresses();
    say(&format!(
        "   {} in {}",
        app.ca()?.signer().subject_text(),
        at("ca").display()
    ))?;
    say(&format!(
        "   listening on {} (gRPC), {} (metrics, health)",
        addresses.tls, addresses.monitoring
    ))?;
    let written = settings(&directory, addresses.tls, addresses.monitoring);
    files::write(&at("serve.yaml"), written.as_bytes(), Mode::Public)?;
    files::write(&at("root-cert.pem"), app.ca()?.bundle().pem().as_bytes(), Mode::Public)?;
    files::write(&at("address"), addresses.tls.to_string().as_bytes(), Mode::Public)?;
    let (trigger, asked) = shutdown();
    let serving = tokio::spawn(app.run(asked));

    say("3. A workload: the service account sleep of the namespace default")?;
    let certificate = ask(addresses.tls, &directory, token).await?;
    say(&format!("   {}", certificate.identity))?;
    say(&format!(
        "   serial {}, until {}",
        certificate.serial, certificate.validity.not_after
    ))?;
    say("   checked: the key fits, the name is the one asked for, the chain ends at a root that came with it")?;
    files::write(&at("key.pem"), certificate.key.as_bytes(), Mode::Secret)?;
    files::write(
        &at("cert-chain.pem"),
        certificate.chain.concat().as_bytes(),
        Mode::Public,
    )?;

    say("\nCheck it yourself:")?;
    for line in openssl_lines(&directory) {
        say(&format!("  {line}"))?;
    }
    let serve = format!("countersign serve --config {}", quoted(&at("serve.yaml")));
    say(&format!(
        "\nServe from the same files, once this demo is gone:\n  {serve}"
    ))?;
    if options.directory.is_none() {
        let everything = quoted(&directory);
        say(&format!(
            "\nRemove it all, the CA's private key included, when you are done:\n  rm -r {everything}"
        ))?;
    }
    if options.keep {
        say("\nStaying up until SIGTERM or SIGINT.")?;
        signal_to_stop().await?;
    }
    trigger.stop();
    serving.await.context("the CA ended unexpectedly")?
}

/// What a person runs to see that it is true. Each ends with status 0.
fn openssl_lines(directory: &Path) -> [String; 3] {
    let file = |name: &str| quoted(&directory.join(name));
    let (root, chain, key) = (file("root-cert.pem"), file("cert-chain.pem"), file("key.pem"));
    [
        format!("openssl verify -CAfile {root} -untrusted {chain} {chain}"),
        format!("openssl x509 -in {chain} -noout -dates -ext subjectAltName,extendedKeyUsage,keyUsage"),
        format!("test \"$(openssl pkey -in {key} -pubout)\" = \"$(openssl x509 -in {chain} -noout -pubkey)\""),
    ]
}

/// A path that a shell takes as one word.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    if text.chars().all(plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// What differs from the defaults, as an administrator would write it.
fn settings(directory: &Path, listen: SocketAddr, monitoring: SocketAddr) -> String {
    // A text in JSON is one in YAML too, whatever is in it.
    let path = |name: &str| serde_json::Value::from(directory.join(name).display().to_string());
    format!(
        "listen:
  address: {listen}
monitoring:
  address: {monitoring}
ca:
  type: self-signed
  selfSigned:
    directory: {}
servingCertificate:
  names: [istiod.istio-system.svc, localhost, 127.0.0.1]
authentication:
  issuers:
  - issuer: {ISSUER}
    jwksFile: {}
",
        path("ca"),
        path("jwks.json"),
    )
}

fn checked(settings: &str) -> anyhow::Result<Config> {
    let settings = Settings::parse(settings, "the demo's settings")?;
    Config::check(&settings, &std::collections::BTreeMap::new()).context("the demo's own settings")
}

async fn ask(ca: SocketAddr, directory: &Path, token: String) -> anyhow::Result<Certificate> {
    let roots = files::read(&directory.join("root-cert.pem"), 64 * 1024)?;
    let connection = Connection::tls(&roots, "istiod.istio-system.svc", None)?;
    let ask = Ask {
        endpoint: Endpoint::new(&ca.to_string(), connection)?,
        identity: Identity::parse("spiffe://cluster.local/ns/default/sa/sleep")?,
        token: Some(BearerToken::new(token)),
        lifetime: 0,
        cluster_id: Some("Kubernetes".into()),
        deadline: Duration::from_secs(10),
    };
    Ok(ask.send(&Key::generate(KeyAlgorithm::P256)?, &SystemClock).await?)
}

/// On a runtime of its own.
pub fn run_blocking(options: &Options, say: impl Fn(&str) -> anyhow::Result<()>) -> anyhow::Result<()> {
    serve::runtime()?.block_on(run(options, say))
}
