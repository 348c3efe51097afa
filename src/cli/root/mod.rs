//! `countersign root`: look at a running CA and steer it, through its door on this host.

mod show;
mod wait;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{ArgGroup, Args, Subcommand};

use super::output::{self, Format};
use super::serve::SettingsSource;
use crate::app::admin::{self, Act};
use crate::model::Fingerprint;
use crate::platform::{Clock, SystemClock};
use crate::proto::admin::CaStatus;

/// Look at a running CA's roots and change them.
///
/// Speaks with `countersign serve` on this host, through a Unix socket that only root and the CA's own user may use. A change of root begins
/// by itself when the CA's files get another root: the new root is published at once, and signs when no valid certificate is left whose holder
/// was not told to trust it, and when every client's own root file holds it, for which your word is needed (confirm).
#[derive(Debug, Args)]
#[command(after_long_help = AFTER_HELP, disable_help_subcommand = true)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
Examples:
  How does it stand?
    countersign root status --config serve.yaml
  The same in a cluster
    kubectl exec -n istio-system statefulset/countersign -- countersign root status
  The new root has reached every client: let it sign as soon as it may, and watch
    countersign root confirm --reason 'CHG-7: in every istio-ca-root-cert'
    countersign root status --wait
  The intermediate's key leaked
    countersign root withdraw 3fa9c01b2d4e5f60 --reason 'INC-12: key on a laptop'

A FINGERPRINT is SHA-256, as status shows it (its first 8 digits or more) or as openssl x509 -fingerprint -sha256 prints it.
Every act is logged by the CA under countersign::steered: who, why, how it ended.
";

#[derive(Debug, Subcommand)]
enum Command {
    Status(Status),
    Confirm(Confirm),
    Activate(Activate),
    Withdraw(Withdraw),
    Retire(Retire),
    Rotate(Rotate),
    Reload(Reload),
}

/// How the CA stands: what signs, every root, a pending change and what it waits for, its files.
#[derive(Debug, Args)]
struct Status {
    #[command(flatten)]
    common: Common,
    /// While a change of root is pending, show how it goes; end when it is over. Fails if the new root does not sign then.
    #[arg(long)]
    wait: bool,
}

/// Say that every client's own root file holds the pending root.
///
/// Clients check their channel to the CA against a file of their own (istio-ca-root-cert, mounted in every pod). A root signs before they have it
/// only if you say so wrongly: look first.
#[derive(Debug, Args)]
struct Confirm {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    reason: Reason,
}

/// Let the pending root sign: now, or wait until it may.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("when").args(["now", "wait"]).required(true))]
struct Activate {
    #[command(flatten)]
    common: Common,
    /// Now, whatever it waits for. Workloads that were not told to trust it refuse its certificates until they renew theirs.
    #[arg(long, requires = "reason")]
    now: bool,
    /// Show how the change goes until it is over; change nothing.
    #[arg(long, conflicts_with = "reason")]
    wait: bool,
    /// Why, for those who read the log.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

/// A key leaked: sign nothing with it, or under it, any more.
///
/// If it is the one that signs, nothing is signed from now on, until files with another key are in place. Certificates that it signed stay
/// valid until they expire: proxies know no revocation. It cannot be taken back.
#[derive(Debug, Args)]
struct Withdraw {
    /// Of the signing certificate, an intermediate or a root.
    #[arg(value_name = "FINGERPRINT")]
    certificate: String,
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    reason: Reason,
}

/// Take a root out of the bundle that nobody needs any more.
///
/// Roots that signed here leave by themselves when the last certificate under them has expired. This is for roots that only the files listed.
#[derive(Debug, Args)]
struct Retire {
    /// Of the root.
    #[arg(value_name = "FINGERPRINT")]
    root: String,
    /// Also if certificates under it are still valid: their holders are cut off at once.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    reason: Reason,
}

/// Make another root with a key of its own, where the CA is self-signed.
///
/// It is a change of root like any other: the new root is published at once, and signs when it may. A root that nears its end renews itself under
/// its key; nothing needs to be done for that.
#[derive(Debug, Args)]
struct Rotate {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    reason: Reason,
}

/// Look at the CA's files now, and say what is wrong with them.
///
/// They are looked at twice a second anyway; this is for scripts that want the verdict.
#[derive(Debug, Args)]
struct Reload {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    reason: Reason,
}

#[derive(Debug, Args)]
struct Common {
    /// The socket of the running CA. Without it, where the settings say: admin.socket, or admin.sock in ca.selfSigned.directory.
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    #[command(flatten)]
    source: SettingsSource,
    /// How to tell about it.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    output: Format,
}

#[derive(Debug, Args)]
struct Reason {
    /// Why, for those who read the log.
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

/// Ways to tell about a CA.
pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    runtime()?.block_on(async {
        let (common, status) = match &arguments.command {
            Command::Status(Status { common, wait: true }) | Command::Activate(Activate { common, wait: true, .. }) => {
                (common, wait::until_it_is_over(&common.socket()?).await?)
            }
            Command::Status(it) => (&it.common, it.common.status().await?),
            Command::Confirm(it) => {
                let pending = it.common.pending().await?;
                (
                    &it.common,
                    it.common.act(Act::Confirm(pending), &it.reason.reason).await?,
                )
            }
            Command::Activate(it) => {
                let pending = it.common.pending().await?;
                let reason = it.reason.as_deref().unwrap_or_default();
                (&it.common, it.common.act(Act::ActivateNow(pending), reason).await?)
            }
            Command::Withdraw(it) => {
                let (certificate, known) = resolve(&it.common.status().await?, &it.certificate)?;
                let status = it.common.act(Act::Withdraw(certificate), &it.reason.reason).await?;
                if !known {
                    output::note(
                        "no root and no signer in use had this fingerprint; files with it are refused from now on",
                    );
                }
                (&it.common, status)
            }
            Command::Retire(it) => {
                let (root, _) = resolve(&it.common.status().await?, &it.root)?;
                (
                    &it.common,
                    it.common.act(Act::Forget(root, it.force), &it.reason.reason).await?,
                )
            }
            Command::Rotate(it) => (&it.common, it.common.act(Act::Rotate, &it.reason.reason).await?),
            Command::Reload(it) => (&it.common, it.common.act(Act::Reload, &it.reason.reason).await?),
        };
        output::result(match common.output {
            Format::Text => show::text(&status, SystemClock.now()),
            Format::Json => format!("{:#}", show::json(&status, SystemClock.now())),
        })?;
        Ok(ExitCode::SUCCESS)
    })
}

/// `check --running`: is the CA that runs with these settings well?
pub fn check(source: &SettingsSource) -> anyhow::Result<ExitCode> {
    let socket = socket(source)?;
    let status = runtime()?.block_on(admin::ask(&socket, None))?;
    let trouble = admin::trouble(&status, SystemClock.now());
    for one in &trouble {
        output::result(format_args!("error: {one}"))?;
    }
    let verdict = if trouble.is_empty() { "ok" } else { "needs a person" };
    output::result(format_args!("{}, running: {verdict}", status.source))?;
    Ok(ExitCode::from(u8::from(!trouble.is_empty())))
}

impl Common {
    fn socket(&self) -> anyhow::Result<PathBuf> {
        self.socket.clone().map_or_else(|| socket(&self.source), Ok)
    }

    async fn status(&self) -> anyhow::Result<CaStatus> {
        Ok(admin::ask(&self.socket()?, None).await?)
    }

    async fn act(&self, act: Act, reason: &str) -> anyhow::Result<CaStatus> {
        Ok(admin::ask(&self.socket()?, Some((act, reason))).await?)
    }

    /// The root that is to sign.
    async fn pending(&self) -> anyhow::Result<Fingerprint> {
        let Some(change) = self.status().await?.change else {
            bail!("no change of root is pending; one begins when the CA's files get another root");
        };
        Ok(change.root.parse()?)
    }
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

fn socket(source: &SettingsSource) -> anyhow::Result<PathBuf> {
    let settings = source.read()?;
    settings
        .admin_socket()
        .context("admin.socket is empty in these settings: this CA has no admin's door; set a path and start it again")
}

/// A certificate by its fingerprint or the beginning of one; and whether the CA knows it.
fn resolve(status: &CaStatus, text: &str) -> anyhow::Result<(Fingerprint, bool)> {
    let digits: String = text.chars().filter(|c| *c != ':').collect::<String>().to_lowercase();
    let roots = status.roots.iter().filter_map(|root| root.certificate.as_ref());
    let mut found: Vec<&str> = roots
        .chain(&status.chain)
        .map(|known| known.fingerprint.as_str())
        .filter(|known| digits.len() >= 8 && known.starts_with(&digits))
        .collect();
    found.sort_unstable();
    found.dedup();
    match found[..] {
        [one] => Ok((one.parse()?, true)),
        [] if digits.len() < 64 => {
            bail!(
                "{text:?} is the beginning of no fingerprint that this CA has (8 digits or more); countersign root status shows them"
            )
        }
        [] => Ok((text.parse()?, false)),
        _ => bail!("{text:?} is the beginning of several fingerprints; give more of it"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::admin::{Certificate, Root};

    #[test]
    fn certificates_by_the_beginning_of_their_fingerprint() {
        let certificate = |fingerprint: &str| Certificate {
            fingerprint: fingerprint.into(),
            ..Certificate::default()
        };
        let root = |fingerprint: &str| Root {
            certificate: Some(certificate(fingerprint)),
            ..Root::default()
        };
        let (one, two, three) = (format!("{:0>64}", "1"), format!("{:0>64}", "2"), "ab".repeat(32));
        let status = CaStatus {
            // A self-signed root is in both.
            chain: vec![certificate(&three)],
            roots: vec![root(&one), root(&two), root(&three)],
            ..CaStatus::default()
        };
        let known = |text: &str| resolve(&status, text).ok().map(|(it, known)| (it.to_string(), known));
        assert_eq!(known("ABABABAB"), Some((three.clone(), true)));
        assert_eq!(known(&"AB:".repeat(32)[..95]), Some((three, true)));
        assert_eq!(known(&"cd".repeat(32)), Some(("cd".repeat(32), false)));
        for bad in ["", "abababa", "00000000", "cdcdcdcd", "signer", &"zz".repeat(32)] {
            assert_eq!(known(bad), None, "{bad}");
        }
    }
}
