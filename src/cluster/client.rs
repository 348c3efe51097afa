//! A client for one API server, whose every call has an end.
//!
//! Takes: a kubeconfig or a pod's own credentials. Gives: answers of bounded size within a bounded time. Not here: what is asked.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::StatusCode;
use http_body_util::{BodyExt, Limited};
use kube::client::{AuthError, Body};
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use crate::platform::crypto;

/// Largest answer that is read. A review repeats the token, and adds names and groups.
const MOST_ANSWER: usize = 256 * 1024;
/// Longest text of others that an error of ours repeats.
const MOST_TEXT: usize = 300;
/// How long one connection may take to come about.
const CONNECT: Duration = Duration::from_secs(5);

/// An API server that we have credentials for. Cheap to clone; may be used from any runtime.
#[derive(Clone)]
pub struct ApiServer {
    client: kube::Client,
    /// Connections are driven by tasks of the runtime that opened them, and end with it: all calls run on this one.
    runtime: Handle,
}

/// By what we are known to an API server.
#[derive(Clone)]
pub enum Credentials {
    /// What is mounted into a pod.
    Pod,
    /// The current context of this kubeconfig.
    Kubeconfig(PathBuf),
    /// A client that is set up already.
    Client(kube::Client),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pod => f.write_str("Pod"),
            Self::Kubeconfig(path) => write!(f, "Kubeconfig({})", path.display()),
            Self::Client(_) => f.write_str("Client"),
        }
    }
}

/// Where Kubernetes mounts a pod's credentials.
const MOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Not a pod, or one without a mounted token.
    #[error(
        "this pod's credentials for the API server cannot be read: {0}; they belong in {MOUNT}: set automountServiceAccountToken: true"
    )]
    InCluster(String),
    /// The kubeconfig cannot be used.
    #[error("the kubeconfig {path} cannot be used: {why}")]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// The finding.
        why: String,
    },
    /// Addresses, certificates or keys in it cannot be used.
    #[error("the client for the API server cannot be set up: {0}")]
    Setup(String),
}

/// Why a call gave no answer.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum CallError {
    /// No connection, or a broken one.
    #[error("the API server was not reached: {0}")]
    Unreachable(String),
    /// No complete answer in time.
    #[error("the API server did not answer within {} ms", .0.as_millis())]
    TimedOut(Duration),
    /// 401.
    #[error("the API server refuses our own credentials (401): {0}")]
    Unauthorized(String),
    /// 403.
    #[error("the API server forbids us this call (403): {0}")]
    Forbidden(String),
    /// 429.
    #[error("the API server asks us to slow down (429)")]
    Busy,
    /// Any other status that is no success.
    #[error("the API server answered with HTTP status {0}")]
    Status(u16),
    /// Too long, cut off, or not what was asked for.
    #[error("the API server's answer cannot be read: {0}")]
    Unreadable(String),
}

impl ApiServer {
    /// A client with these credentials. Opens no connection yet. `runtime` needs its timer, and must live as long as calls are made.
    pub async fn connect(credentials: &Credentials, runtime: Handle) -> Result<Self, ConnectError> {
        // An error means that one is installed already.
        let _ = crypto::tls_provider().as_ref().clone().install_default();
        let mut config = match credentials {
            Credentials::Client(client) => return Ok(Self::new(client.clone(), runtime)),
            Credentials::Kubeconfig(path) => from_kubeconfig(path).await.map_err(|error| ConnectError::Kubeconfig {
                path: path.to_owned(),
                why: explain(&error),
            })?,
            Credentials::Pod => kube::Config::incluster().map_err(|error| ConnectError::InCluster(explain(&error)))?,
        };
        config.connect_timeout = Some(CONNECT);
        // Whoever calls us repeats its call; repeating ours as well would multiply the load on an API server that is in trouble.
        config.default_retry = false;
        // The client starts a task of its own.
        let _runtime = runtime.enter();
        let client = kube::Client::try_from(config).map_err(|error| ConnectError::Setup(explain(&error)))?;
        Ok(Self::new(client, runtime))
    }

    /// Over a client that is set up already.
    pub fn new(client: kube::Client, runtime: Handle) -> Self {
        Self { client, runtime }
    }

    /// The client itself, for those who make calls of their own on the same runtime.
    pub fn client(&self) -> kube::Client {
        self.client.clone()
    }

    /// Where calls run.
    pub fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Makes one call and gives the body of its success. Ends within `time`; ends at once when it is dropped.
    pub async fn call(&self, request: http::Request<Vec<u8>>, time: Duration) -> Result<Vec<u8>, CallError> {
        let (status, body) = self.ask(request, time, MOST_ANSWER).await?;
        if status.is_success() {
            return body;
        }
        // Only these two say something about us rather than about what was asked, which holds the token.
        let message = || body.ok().and_then(|body| message(&body)).unwrap_or_else(no_reason);
        Err(match status {
            StatusCode::UNAUTHORIZED => CallError::Unauthorized(message()),
            StatusCode::FORBIDDEN => CallError::Forbidden(message()),
            StatusCode::TOO_MANY_REQUESTS => CallError::Busy,
            other => CallError::Status(other.as_u16()),
        })
    }

    /// The same for any status, with a bound of the caller's own. The body may be unreadable although the status is known.
    pub(super) async fn ask(
        &self,
        request: http::Request<Vec<u8>>,
        time: Duration,
        most: usize,
    ) -> Result<Exchange, CallError> {
        let exchange = exchange(self.client.clone(), request, most);
        let mut task = JoinSet::new();
        task.spawn_on(async move { tokio::time::timeout(time, exchange).await }, &self.runtime);
        match task.join_next().await {
            Some(Ok(Ok(answer))) => answer,
            Some(Ok(Err(_))) => Err(CallError::TimedOut(time)),
            Some(Err(_)) | None => Err(CallError::Unreachable("the call was given up".into())),
        }
    }

    /// Sends a request whose answer goes on for long. To be called, and its body to be read, on [`Self::runtime`].
    pub(super) async fn open(
        &self,
        request: http::Request<Vec<u8>>,
        time: Duration,
    ) -> Result<http::Response<Body>, CallError> {
        let sent = self.client.send(request.map(Body::from));
        let answered = tokio::time::timeout(time, sent).await;
        let response = answered.map_err(|_| CallError::TimedOut(time))?;
        response.map_err(|error| CallError::Unreachable(explain(&error)))
    }
}

/// A status, and the body if it could be read.
pub(super) type Exchange = (StatusCode, Result<Vec<u8>, CallError>);

async fn from_kubeconfig(path: &Path) -> Result<kube::Config, KubeconfigError> {
    let kubeconfig = Kubeconfig::read_from(path)?;
    kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await
}

/// The library's own `request` reads without a limit, and logs an answer that it cannot parse: a review's answer repeats the token.
async fn exchange(client: kube::Client, request: http::Request<Vec<u8>>, most: usize) -> Result<Exchange, CallError> {
    let response = client
        .send(request.map(Body::from))
        .await
        .map_err(|error| CallError::Unreachable(explain(&error)))?;
    let status = response.status();
    Ok((status, body(response.into_body(), most).await))
}

/// A whole body of bounded size.
pub(super) async fn body(body: Body, most: usize) -> Result<Vec<u8>, CallError> {
    let body = Limited::new(body, most).collect().await;
    body.map(|body| body.to_bytes().into())
        .map_err(|error| CallError::Unreadable(explain(error.as_ref())))
}

/// What a `Status` object says to people.
pub(super) fn message(body: &[u8]) -> Option<String> {
    let failure: Failure = serde_json::from_slice(body).ok()?;
    Some(printable(&failure.message))
}

pub(super) fn no_reason() -> String {
    "it gave no reason".into()
}

/// The part of a `Status` object that is for people.
#[derive(serde::Deserialize)]
struct Failure {
    message: String,
}

/// An error with its causes in one line. What a kubeconfig or a credential plug-in wrote may hold secrets and is left out.
pub(super) fn explain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut said: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(cause) = next {
        if let Some(instead) = instead_of_secrets(cause) {
            said.push(instead);
            break;
        }
        let text = cause.to_string();
        // These two do nothing but repeat their cause, which may be one to leave out; others repeat theirs often enough.
        let repeats = matches!(
            cause.downcast_ref(),
            Some(kube::Error::Auth(_) | kube::Error::Service(_))
        );
        if !repeats && !said.iter().any(|before| before.contains(&text)) {
            said.push(text);
        }
        next = cause.source();
    }
    printable(&said.join(": "))
}

/// What to say in place of an error that quotes what must not be repeated.
fn instead_of_secrets(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    if let Some(KubeconfigError::Parse(error)) = error.downcast_ref() {
        let place = error.location().map_or_else(String::new, |place| {
            format!(" at line {}, column {}", place.line(), place.column())
        });
        return Some(format!("it is not a kubeconfig in YAML{place}"));
    }
    match error.downcast_ref()? {
        // Its command line and its environment may hold secrets too.
        AuthError::AuthExecRun { out, .. } => Some(format!("the credential plug-in ended with {}", out.status)),
        AuthError::AuthExecParse(_) | AuthError::ParseTokenKey(_) => {
            Some("the credential plug-in's answer cannot be read".into())
        }
        _ => None,
    }
}

/// Text of others, short and on one line.
pub(super) fn printable(text: &str) -> String {
    let mut kept: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(MOST_TEXT)
        .collect();
    if text.chars().nth(MOST_TEXT).is_some() {
        kept.push('…');
    }
    kept
}
