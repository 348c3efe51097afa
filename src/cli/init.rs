//! `countersign init`: make a root that stays offline, and under it a CA to plug in for every cluster.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, Subcommand, ValueEnum, value_parser};

use super::output::{self, Format};
use crate::app::init::{self, Authority, Intermediate, Made};
use crate::authority::RootAlgorithm;
use crate::model::{Lifetime, ServingName, Timestamp};
use crate::platform::{Clock, SystemClock};

/// Make a root that stays offline, and under it a CA to plug in for every cluster.
///
/// Makes what the makefiles in Istio's tools/certs make, without openssl. Nothing that exists is ever replaced, keys are for their owner's eyes
/// only, and a folder appears whole, after it was checked as `countersign check --cacerts` does.
#[derive(Debug, Args)]
#[command(after_long_help = AFTER_HELP)]
pub struct Arguments {
    #[command(subcommand)]
    what: What,
}

const AFTER_HELP: &str = "\
Examples:
  Once, on a machine that is not in the mesh
    countersign init root --dir pki
  For every cluster
    countersign init cacerts --dir pki --cluster cluster1
    countersign init secret --cacerts pki/cluster1 | kubectl apply -f -
  Renewed: a new key and new dates under the same root; it signs as soon as it is plugged in
    countersign init cacerts --dir pki --cluster cluster1 --out pki/cluster1-next
";

#[derive(Debug, Subcommand)]
enum What {
    Root(RootArguments),
    Cacerts(Box<CacertsArguments>),
    Secret(SecretArguments),
}

/// What roots and intermediates both have.
#[derive(Debug, Args)]
struct Common {
    /// The directory of the root: root-key.pem and root-cert.pem.
    #[arg(long, value_name = "DIRECTORY")]
    dir: PathBuf,
    /// The kind of key to make. RSA keys cannot be made here: make one with openssl and give it with --key.
    #[arg(long, value_enum, default_value_t = KeyKind::P256, conflicts_with = "key")]
    key_algorithm: KeyKind,
    /// Use this key instead of a new one: PKCS#8, PEM; RSA of 2048 to 4096 bits, P-256, P-384 or Ed25519. A pipe will do, and - is standard
    /// input.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// The organization (O) in its name.
    #[arg(long, value_name = "TEXT", default_value = "Istio", value_parser = name_part)]
    organization: String,
    /// How to tell about it.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    output: Format,
}

/// Make a root: its key and its certificate.
///
/// Whoever has the key can be everyone in the mesh: keep the directory offline. The key is written as it is; see the examples for one that is
/// never on a disk without a password.
#[derive(Debug, Args)]
#[command(after_long_help = AFTER_ROOT_HELP)]
struct RootArguments {
    #[command(flatten)]
    common: Common,
    /// The common name (CN). Without it, `Root CA` and the beginning of the key's fingerprint, so that no two roots have one name.
    #[arg(long, value_name = "TEXT", value_parser = name_part)]
    common_name: Option<String>,
    /// How many days it lasts.
    #[arg(long, value_name = "DAYS", default_value_t = 3650, value_parser = value_parser!(u32).range(1..=36_500))]
    days: u32,
}

const AFTER_ROOT_HELP: &str = "\
Examples:
  A root on P-256
    countersign init root --dir pki --organization Example
  With an RSA key
    openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:4096 -out root-key.pem
    countersign init root --dir pki --key root-key.pem
  With a key that is encrypted from the start; openssl asks for its password
    openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -aes256 -out root-key.pem
    openssl pkey -in root-key.pem | countersign init root --dir pki --key -
    openssl pkey -in root-key.pem | countersign init cacerts --dir pki --cluster cluster1 --root-key -
";

/// Make an intermediate under the root, as a folder to plug in.
///
/// Writes ca-cert.pem, ca-key.pem, root-cert.pem and cert-chain.pem, the files of Istio's Secret cacerts. It signs workloads' certificates and no
/// further CA (path length 0).
#[derive(Debug, Args)]
#[command(after_long_help = AFTER_CACERTS_HELP)]
struct CacertsArguments {
    #[command(flatten)]
    common: Common,
    /// The cluster, which is also the locality (L) in its name.
    #[arg(long, value_name = "NAME", value_parser = cluster_name)]
    cluster: String,
    /// The folder to make. Without it, one that is called as the cluster, in --dir.
    #[arg(long, value_name = "DIRECTORY")]
    out: Option<PathBuf>,
    /// The root's key, when it is not root-key.pem in --dir. A pipe will do, and - is standard input.
    #[arg(long, value_name = "FILE")]
    root_key: Option<PathBuf>,
    /// The common name (CN).
    #[arg(long, value_name = "TEXT", default_value = "Intermediate CA", value_parser = name_part)]
    common_name: String,
    /// How many days it lasts; not beyond the root.
    #[arg(long, value_name = "DAYS", default_value_t = 730, value_parser = value_parser!(u32).range(1..=36_500))]
    days: u32,
    /// A DNS name of istiod, which Istio's makefile writes into it; repeatable, and empty for none.
    #[arg(long = "dns", value_name = "NAME", default_value = "istiod.istio-system.svc", value_parser = dns_name)]
    names: Vec<String>,
}

const AFTER_CACERTS_HELP: &str = "\
Examples:
  One for every cluster
    countersign init cacerts --dir pki --cluster cluster1
    countersign init cacerts --dir pki --cluster cluster2
  As a Secret
    countersign init secret --cacerts pki/cluster1 | kubectl apply -f -
";

/// Print a folder to plug in as the Kubernetes Secret that istiod and countersign look for.
///
/// The Secret holds the key, so it is not printed on a terminal: pipe it into kubectl apply -f -, or into what seals it.
#[derive(Debug, Args)]
struct SecretArguments {
    /// The folder.
    #[arg(long, value_name = "DIRECTORY")]
    cacerts: PathBuf,
    /// Its namespace.
    #[arg(long, value_name = "NAME", default_value = "istio-system", value_parser = object_name)]
    namespace: String,
    /// Its name.
    #[arg(long, value_name = "NAME", default_value = "cacerts", value_parser = object_name)]
    name: String,
}

/// Kinds of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum KeyKind {
    /// ECDSA on P-256.
    P256,
    /// ECDSA on P-384.
    P384,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let now = SystemClock.now();
    match &arguments.what {
        What::Root(root) => {
            let wanted = root.common.authority(root.common_name.as_ref(), root.days)?;
            tell(&init::root(&wanted, now)?, root.common.output, now)?;
            output::note(match &root.common.key {
                None => "keep the key offline; the certificate is for everyone",
                Some(_) => {
                    "the key stays where it is; init cacerts wants it as root-key.pem beside the certificate, or with --root-key"
                }
            });
        }
        What::Cacerts(cacerts) => {
            if [&cacerts.common.key, &cacerts.root_key].map(|key| key.as_deref()) == [Some("-".as_ref()); 2] {
                bail!("--key and --root-key cannot both be standard input");
            }
            let out = cacerts.out.clone();
            let intermediate = Intermediate {
                cluster: cacerts.cluster.clone(),
                out: out.unwrap_or_else(|| cacerts.common.dir.join(&cacerts.cluster)),
                names: cacerts.names.iter().filter(|name| !name.is_empty()).cloned().collect(),
                root_key: cacerts.root_key.clone(),
            };
            let wanted = cacerts.common.authority(Some(&cacerts.common_name), cacerts.days)?;
            tell(&init::cacerts(&wanted, &intermediate, now)?, cacerts.common.output, now)?;
        }
        What::Secret(secret) => {
            if output::is_terminal() {
                bail!("the Secret holds the private key: pipe it into kubectl apply -f -, or into a file");
            }
            let manifest = init::secret(&secret.cacerts, &secret.namespace, &secret.name, now)?;
            output::result(manifest.trim_end())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

impl Common {
    fn authority(&self, common_name: Option<&String>, days: u32) -> anyhow::Result<Authority> {
        Ok(Authority {
            directory: self.dir.clone(),
            algorithm: match self.key_algorithm {
                KeyKind::P256 => RootAlgorithm::P256,
                KeyKind::P384 => RootAlgorithm::P384,
            },
            key: self.key.clone(),
            organization: self.organization.clone(),
            common_name: common_name.cloned(),
            lifetime: Lifetime::from_seconds(i64::from(days) * 86_400).context("--days")?,
        })
    }
}

fn tell(made: &Made, format: Format, now: Timestamp) -> anyhow::Result<()> {
    let certificate = made.ca.signer();
    let end = certificate.validity().not_after;
    let days = end.since(now) / 86_400;
    let files: Vec<String> = made.files.iter().map(|file| file.display().to_string()).collect();
    if format == Format::Json {
        let object = serde_json::json!({
            "subject": certificate.subject_text(),
            "issuer": certificate.issuer_text(),
            "fingerprint": certificate.fingerprint().to_string(),
            "notAfter": end.to_string(),
            "days": days,
            "key": made.ca.key().algorithm().to_string(),
            "files": files,
            "warnings": made.warnings.iter().map(ToString::to_string).collect::<Vec<_>>(),
        });
        return output::result(format_args!("{object:#}"));
    }
    output::result(format_args!("subject  {}", certificate.subject_text()))?;
    output::result(format_args!("issuer   {}", certificate.issuer_text()))?;
    output::result(format_args!("until    {end} ({days} days)"))?;
    output::result(format_args!("key      {}", made.ca.key().algorithm()))?;
    output::result(format_args!("written  {}", files.join(" ")))?;
    (made.warnings.iter()).try_for_each(|warning| output::result(format_args!("warning: {warning}")))
}

/// RFC 5280, A.1: at most 64 characters.
fn name_part(text: &str) -> Result<String, String> {
    match text.chars().count() {
        1..=64 if !text.chars().any(char::is_control) => Ok(text.to_owned()),
        _ => Err("give 1 to 64 characters".into()),
    }
}

/// It becomes the name of a folder.
fn cluster_name(text: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    match text.len() {
        1..=64 if text.chars().all(fits) && text.starts_with(|c: char| c.is_ascii_alphanumeric()) => Ok(text.into()),
        _ => Err("give 1 to 64 letters, digits, '-', '_' and '.', beginning with a letter or a digit".into()),
    }
}

fn dns_name(text: &str) -> Result<String, String> {
    match text.parse() {
        Ok(ServingName::Dns(name)) => Ok(name),
        _ if text.is_empty() => Ok(String::new()),
        _ => Err("it is no DNS name".into()),
    }
}

/// RFC 1123, as Kubernetes has it for names of objects.
fn object_name(text: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c);
    let ends = |text: &str| !text.starts_with(['-', '.']) && !text.ends_with(['-', '.']);
    match text.len() {
        1..=253 if text.chars().all(fits) && ends(text) => Ok(text.to_owned()),
        _ => Err("give lower-case letters, digits, '-' and '.'".into()),
    }
}
