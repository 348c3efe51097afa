//! The other side of the admin's door: asks a running CA how it stands, and steers it.
//!
//! Takes: the path of its socket. Gives: its [`CaStatus`], and what of it needs a person. Not here: how that looks in a terminal (`cli`).

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

use crate::model::{Fingerprint, Timestamp};
use crate::proto::admin::admin_client::AdminClient;
use crate::proto::admin::files::State;
use crate::proto::admin::{
    ActivateNowRequest, CaStatus, ConfirmRequest, ForgetRequest, ReloadRequest, RotateRequest, StatusRequest,
    WithdrawRequest,
};

/// Longest wait for an answer. The door gives up earlier.
const LONGEST: Duration = Duration::from_secs(15);
/// A change that could have gone on for so many seconds, and did not.
const OVERDUE: i64 = 60;

/// What to do to the CA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// This pending root has been distributed.
    Confirm(Fingerprint),
    /// This pending root signs now.
    ActivateNow(Fingerprint),
    /// The key of this certificate leaked.
    Withdraw(Fingerprint),
    /// This root leaves the bundle; with `true` also if certificates under it are still valid.
    Forget(Fingerprint, bool),
    /// A self-signed CA gets another root.
    Rotate,
    /// Look at the files now.
    Reload,
}

/// Why there is no answer, or not the one that was wanted.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// No socket, or nobody behind it.
    #[error(
        "nobody answers on {}: is countersign serve running on this host, in this container? If so, --config (its settings) or --socket says \
         where its door is",
        .0.display()
    )]
    Nobody(PathBuf),
    /// Another user's.
    #[error("{0}: run this as root, or as the user that countersign serve runs as")]
    NotForUs(String),
    /// The connection failed some other way.
    #[error("cannot speak with the CA on {}: {why}", socket.display())]
    Connection {
        /// Where.
        socket: PathBuf,
        /// Why.
        why: String,
    },
    /// It said no; nothing changed.
    #[error("{0}")]
    Refused(String),
    /// It never answered.
    #[error("no answer within {} s: countersign root status says whether it was done", LONGEST.as_secs())]
    Late,
}

/// Does something to the CA behind a socket, and says how that stands afterwards; without an act, just how it stands.
pub async fn ask(socket: &Path, act: Option<(Act, &str)>) -> Result<CaStatus, AdminError> {
    tokio::time::timeout(LONGEST, call(socket, act))
        .await
        .unwrap_or(Err(AdminError::Late))
}

async fn call(socket: &Path, act: Option<(Act, &str)>) -> Result<CaStatus, AdminError> {
    let mut client = AdminClient::new(connect(socket).await?);
    let answer = match act {
        None => client.status(StatusRequest {}).await,
        Some((act, reason)) => {
            let reason = reason.to_owned();
            match act {
                Act::Confirm(root) => {
                    let root = root.to_string();
                    client.confirm(ConfirmRequest { reason, root }).await
                }
                Act::ActivateNow(root) => {
                    let root = root.to_string();
                    client.activate_now(ActivateNowRequest { reason, root }).await
                }
                Act::Withdraw(certificate) => {
                    let certificate = certificate.to_string();
                    client.withdraw(WithdrawRequest { reason, certificate }).await
                }
                Act::Forget(root, force) => {
                    let root = root.to_string();
                    client.forget(ForgetRequest { reason, root, force }).await
                }
                Act::Rotate => client.rotate(RotateRequest { reason }).await,
                Act::Reload => client.reload(ReloadRequest { reason }).await,
            }
        }
    };
    let status = match answer {
        Ok(answer) => return Ok(answer.into_inner()),
        Err(status) => status,
    };
    Err(match status.code() {
        Code::PermissionDenied => AdminError::NotForUs(status.message().to_owned()),
        Code::FailedPrecondition | Code::InvalidArgument => AdminError::Refused(status.message().to_owned()),
        code => AdminError::Connection {
            socket: socket.to_owned(),
            why: format!("{code:?}: {}", status.message()),
        },
    })
}

/// Opens the socket first: what the host says of it is lost inside a channel.
async fn connect(socket: &Path) -> Result<Channel, AdminError> {
    let stream = UnixStream::connect(socket).await.map_err(|error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => AdminError::Nobody(socket.to_owned()),
        ErrorKind::PermissionDenied => AdminError::NotForUs(format!("{}: permission denied", socket.display())),
        _ => AdminError::Connection {
            socket: socket.to_owned(),
            why: error.to_string(),
        },
    })?;
    let once = Mutex::new(Some(stream));
    // The address is never looked up: the connection is there.
    let endpoint = Endpoint::from_static("http://admin.invalid");
    let channel = endpoint.connect_with_connector(tower::service_fn(move |_| {
        let stream = once.lock().unwrap_or_else(PoisonError::into_inner).take();
        async move {
            stream
                .map(TokioIo::new)
                .ok_or_else(|| std::io::Error::other("the connection ended"))
        }
    }));
    channel.await.map_err(|error| AdminError::Connection {
        socket: socket.to_owned(),
        why: error.to_string(),
    })
}

/// What of it needs a person: what is wrong, and what to do. Empty when all is well, also while a change goes its way.
pub fn trouble(status: &CaStatus, now: Timestamp) -> Vec<String> {
    let mut found = Vec::new();
    if status.chain.is_empty() {
        found.push(format!("nothing signs: {}", status.stopped));
    }
    let files = status.files.clone().unwrap_or_default();
    let findings = files.findings.join(" ");
    match files.state() {
        State::Taken => {}
        State::Bad => found.push(format!("the CA's files cannot be used: {findings}")),
        State::Refused => found.push(format!("the CA's files are sound and were not taken: {findings}")),
        State::Gone => found.push(
            "the CA's files are gone: what signs is in memory alone, and lost when this process ends; put them back"
                .into(),
        ),
        State::Unspecified => {
            found.push("the CA does not say how its files are: use the countersign that it runs".into())
        }
    }
    if let Some(change) = &status.change {
        let overdue = |until: &prost_types::Timestamp| now.since(Timestamp::from_unix(until.seconds)) > OVERDUE;
        match &change.leaves_until {
            Some(until) if overdue(until) => found.push(
                "the pending root could sign, and does not: the log of countersign serve says why (its directory may be full or read-only)"
                    .into(),
            ),
            None if change.distribution => found.push(
                "the pending root waits for your word alone: once every client's root file holds it, countersign root confirm --reason …"
                    .into(),
            ),
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::admin::{Certificate, Change, Files};

    const NOW: Timestamp = Timestamp::from_unix(1_893_456_000);

    fn sound() -> CaStatus {
        CaStatus {
            chain: vec![Certificate::default()],
            files: Some(Files {
                state: State::Taken.into(),
                findings: Vec::new(),
            }),
            ..CaStatus::default()
        }
    }

    fn changing(until: Option<Timestamp>, distribution: bool) -> CaStatus {
        CaStatus {
            change: Some(Change {
                leaves_until: until.map(|until| prost_types::Timestamp {
                    seconds: until.unix(),
                    nanos: 0,
                }),
                distribution,
                ..Change::default()
            }),
            ..sound()
        }
    }

    #[test]
    fn a_change_on_its_way_is_no_trouble() {
        for sound in [
            sound(),
            changing(Some(NOW.plus(3600)), false),
            // There is time for a word until then.
            changing(Some(NOW.plus(3600)), true),
            changing(Some(NOW.plus(-OVERDUE)), false),
            changing(None, false),
        ] {
            assert_eq!(trouble(&sound, NOW), Vec::<String>::new());
        }
    }

    #[test]
    fn what_needs_a_person_is_told() {
        let with = |state: State| CaStatus {
            files: Some(Files {
                state: state.into(),
                findings: vec!["ca-key.pem: empty".into()],
            }),
            ..sound()
        };
        let stopped = CaStatus {
            chain: Vec::new(),
            stopped: "withdrawn".into(),
            ..sound()
        };
        for (status, expected) in [
            (stopped, "nothing signs: withdrawn"),
            (with(State::Bad), "cannot be used: ca-key.pem: empty"),
            (with(State::Refused), "not taken: ca-key.pem: empty"),
            (with(State::Gone), "put them back"),
            (with(State::Unspecified), "does not say"),
            (changing(None, true), "countersign root confirm"),
            (
                changing(Some(NOW.plus(-OVERDUE - 1)), false),
                "could sign, and does not",
            ),
        ] {
            let found = trouble(&status, NOW);
            assert!(found.len() == 1 && found[0].contains(expected), "{expected}: {found:?}");
        }
    }
}
