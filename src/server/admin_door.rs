//! The admin's door: how the CA stands and what may be done to it, over gRPC on a Unix socket, for root and the CA's own user.
//!
//! Takes: a [`Steering`] line. Gives: answers, and one log line (target `countersign::steered`) for every act: who, why, how it ended. Not
//! here: what an act does (`authority`).

mod answer;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::UnixStream;
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status};
use tower::Service;

use super::status;
use crate::authority::Steering;
use crate::authority::steering::Act;
use crate::model::Fingerprint;
use crate::platform::private_socket::{Peer, PrivateSocket, SocketError};
use crate::platform::process;
use crate::platform::shutdown::Shutdown;
use crate::proto::admin::admin_server::{Admin, AdminServer};
use crate::proto::admin::{
    ActivateNowRequest, CaStatus, ConfirmRequest, ForgetRequest, ReloadRequest, RotateRequest, StatusRequest,
    WithdrawRequest,
};

/// Open connections at once; more wait in the socket's queue.
const CONNECTIONS: usize = 8;
/// The longest that a connection may last. A person's command takes milliseconds.
const CONNECTION: Duration = Duration::from_secs(60);
/// The same for somebody who may do nothing here: long enough to be told so.
const DENIED: Duration = Duration::from_secs(5);
/// The longest that a call may take.
const CALL: Duration = Duration::from_secs(10);
/// Calls at once on one connection.
const STREAMS: u32 = 4;
/// Largest request: a fingerprint and a reason.
const MESSAGE_BYTES: usize = 4096;
/// Largest set of headers.
const HEADER_BYTES: u32 = 8192;
/// Longest reason, in characters: it goes into a log line.
const REASON: usize = 500;

/// An open door, not yet served.
pub struct AdminDoor {
    socket: PrivateSocket,
    steering: Steering,
}

impl AdminDoor {
    /// Opens it. Whoever has a [`Steering`] holds the lock on the CA's directory, so that only a dead process's socket is replaced.
    pub async fn open(path: &Path, steering: Steering) -> Result<Self, SocketError> {
        let socket = PrivateSocket::bind(path).await?;
        Ok(Self { socket, steering })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.socket.path()
    }

    /// Serves until asked to stop; what is then still open is cut.
    pub async fn serve(self, mut shutdown: Shutdown) {
        let room = Arc::new(Semaphore::new(CONNECTIONS));
        let mut open = tokio::task::JoinSet::new();
        loop {
            let Ok(place) = room.clone().acquire_owned().await else {
                return;
            };
            let accepted = tokio::select! {
                () = shutdown.asked() => return,
                accepted = self.socket.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let desk = Desk {
                        steering: self.steering.clone(),
                        peer,
                        owner: process::user(),
                    };
                    open.spawn(async move {
                        let _place = place;
                        let longest = if desk.admits() { CONNECTION } else { DENIED };
                        let _ = tokio::time::timeout(longest, connection(stream, desk)).await;
                    });
                }
                // Out of descriptors, or the peer is gone already: nothing to do but go on, a little later.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
            while open.try_join_next().is_some() {}
        }
    }
}

async fn connection(stream: UnixStream, desk: Desk) {
    let service = service_fn(move |request| answer(desk.clone(), request));
    let served = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEADER_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = served.await {
        tracing::debug!(%error, "a connection of the admin's door ended with an error");
    }
}

async fn answer(
    desk: Desk,
    request: http::Request<Incoming>,
) -> Result<http::Response<tonic::body::Body>, std::convert::Infallible> {
    if !desk.admits() {
        let Desk { peer, owner, .. } = desk;
        let call = crate::model::shorten(request.uri().path());
        tracing::warn!(target: "countersign::steered", uid = peer.uid, pid = peer.pid, call, "denied: not root, and not the user of this CA");
        let text = format!("this door is for root and for user {owner}, not for user {}", peer.uid);
        return Ok(Status::permission_denied(text).into_http());
    }
    let mut service = AdminServer::new(desk).max_decoding_message_size(MESSAGE_BYTES);
    match tokio::time::timeout(CALL, service.call(request)).await {
        Ok(answer) => answer,
        Err(_) => Ok(Status::unavailable(
            "the CA did not answer in time, and may still do what was asked: look at its status before asking again",
        )
        .into_http()),
    }
}

/// The service for one caller.
#[derive(Clone)]
struct Desk {
    steering: Steering,
    peer: Peer,
    /// The user that this process acts as.
    owner: u32,
}

impl Desk {
    fn admits(&self) -> bool {
        may_steer(self.peer.uid, self.owner)
    }

    /// Does something and tells the log. `about` is the certificate that it is about.
    async fn act(
        &self,
        name: &'static str,
        act: Act,
        about: Option<Fingerprint>,
        reason: String,
    ) -> Result<Response<CaStatus>, Status> {
        let reason = checked(reason)?;
        let Self { steering, peer, .. } = self.clone();
        // A task of its own: what was begun is told of, also when the caller goes away.
        let done = tokio::spawn(async move {
            let done = match (act, about) {
                (Act::Confirm | Act::ActivateNow, Some(root)) => steering.act_while_pending(root, act).await,
                _ => steering.act(act).await,
            };
            let refused = done.as_ref().err().map(tracing::field::display);
            let certificate = about.map(tracing::field::display);
            tracing::info!(
                target: "countersign::steered",
                act = name,
                certificate,
                uid = peer.uid,
                pid = peer.pid,
                reason,
                result = if refused.is_none() { "done" } else { "refused" },
                refused,
                "an admin steered the CA"
            );
            done
        });
        done.await
            .map_err(|_| Status::internal("the act itself failed; the log may say why"))?
            .map_err(|error| status::steered(&error))?;
        self.look().await
    }

    async fn look(&self) -> Result<Response<CaStatus>, Status> {
        let seen = self.steering.status().await;
        let seen = seen.ok_or_else(|| Status::unavailable("the CA is closing"))?;
        Ok(Response::new(answer::of(&seen)))
    }
}

#[tonic::async_trait]
impl Admin for Desk {
    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<CaStatus>, Status> {
        self.look().await
    }

    async fn confirm(&self, call: Request<ConfirmRequest>) -> Result<Response<CaStatus>, Status> {
        let ConfirmRequest { reason, root } = call.into_inner();
        self.act("confirm", Act::Confirm, Some(fingerprint(&root)?), reason)
            .await
    }

    async fn activate_now(&self, call: Request<ActivateNowRequest>) -> Result<Response<CaStatus>, Status> {
        let ActivateNowRequest { reason, root } = call.into_inner();
        self.act("activate now", Act::ActivateNow, Some(fingerprint(&root)?), reason)
            .await
    }

    async fn withdraw(&self, call: Request<WithdrawRequest>) -> Result<Response<CaStatus>, Status> {
        let WithdrawRequest { reason, certificate } = call.into_inner();
        let certificate = fingerprint(&certificate)?;
        self.act("withdraw", Act::Withdraw(certificate), Some(certificate), reason)
            .await
    }

    async fn forget(&self, call: Request<ForgetRequest>) -> Result<Response<CaStatus>, Status> {
        let ForgetRequest { reason, root, force } = call.into_inner();
        let root = fingerprint(&root)?;
        let name = if force { "retire by force" } else { "retire" };
        self.act(name, Act::Forget { root, force }, Some(root), reason).await
    }

    async fn rotate(&self, call: Request<RotateRequest>) -> Result<Response<CaStatus>, Status> {
        let RotateRequest { reason } = call.into_inner();
        self.act("rotate", Act::Rotate, None, reason).await
    }

    async fn reload(&self, call: Request<ReloadRequest>) -> Result<Response<CaStatus>, Status> {
        let ReloadRequest { reason } = call.into_inner();
        self.act("reload", Act::Reload, None, reason).await
    }
}

/// Root can read the key anyway, and so can our own user.
fn may_steer(uid: u32, owner: u32) -> bool {
    uid == 0 || uid == owner
}

fn fingerprint(text: &str) -> Result<Fingerprint, Status> {
    text.parse::<Fingerprint>()
        .map_err(|error| Status::invalid_argument(error.to_string()))
}

/// A reason that a reader of the log can use.
fn checked(reason: String) -> Result<String, Status> {
    let refuse = |what: &str| Err(Status::invalid_argument(format!("the reason {what}")));
    match reason.trim() {
        "" => refuse("is missing: say why, for those who read the log"),
        text if text.chars().count() > REASON => refuse("is longer than 500 characters"),
        text if text.chars().any(char::is_control) => refuse("has more than one line, or control characters"),
        text => Ok(text.to_owned()),
    }
}

#[cfg(test)]
mod tests;
