//! `TokenReview` (`authentication.k8s.io/v1`): the API server's word about a token.
//!
//! Takes: a token. Gives: what the API server says, as a value of our own. Not here: what follows from it.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::authentication::v1::TokenReviewStatus;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::client::{ApiServer, CallError, printable};

/// Reviews by one API server, for one list of audiences, not too many at once.
pub struct TokenReviews {
    server: ApiServer,
    audiences: Vec<String>,
    most: usize,
    room: Arc<Semaphore>,
}

/// The right to have one review in flight; it ends with the value.
pub struct Slot(#[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

/// What the API server says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Review {
    /// Whether it knows whose token this is.
    pub authenticated: bool,
    /// Why not, or what went wrong; empty when nothing did. Without any part of the token.
    pub error: String,
    /// The user's name.
    pub username: String,
    /// The user's groups.
    pub groups: Vec<String>,
    /// Those of our audiences that the token is meant for. Empty also when the server's authenticator knows of no audiences.
    pub audiences: Vec<String>,
    /// Name of the pod that the token is bound to.
    pub pod_name: Option<String>,
    /// UID of that pod.
    pub pod_uid: Option<String>,
    /// Name of the node that the token, or its pod, is bound to.
    pub node_name: Option<String>,
    /// The token's own id.
    pub credential_id: Option<String>,
}

/// Why there is no review.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum ReviewError {
    /// As many as may be are in flight.
    #[error("{0} token reviews are in flight already, which is the limit")]
    Overloaded(usize),
    /// The call failed.
    #[error(transparent)]
    Call(#[from] CallError),
}

impl TokenReviews {
    /// `most` is how many may be in flight at once.
    pub fn new(server: ApiServer, audiences: Vec<String>, most: usize) -> Self {
        Self {
            server,
            audiences,
            most,
            room: Arc::new(Semaphore::new(most)),
        }
    }

    /// Whether a review may start now: waiting for room would only hold callers whose deadline runs.
    pub fn slot(&self) -> Result<Slot, ReviewError> {
        let room = self.room.clone().try_acquire_owned();
        room.map(Slot).map_err(|_| ReviewError::Overloaded(self.most))
    }

    /// Asks for one review; ends within `time`.
    pub async fn review(&self, _slot: Slot, token: &str, time: Duration) -> Result<Review, ReviewError> {
        let question = Question {
            api_version: API_VERSION,
            kind: KIND,
            spec: Spec {
                token,
                audiences: &self.audiences,
            },
        };
        let request = http::Request::post("/apis/authentication.k8s.io/v1/tokenreviews")
            .header(http::header::CONTENT_TYPE, "application/json")
            .header(http::header::ACCEPT, "application/json")
            .body(serde_json::to_vec(&question).map_err(unreadable)?)
            .map_err(|error| CallError::Unreadable(error.to_string()))?;
        let answer = self.server.call(request, time).await?;
        let answer: Answer = serde_json::from_slice(&answer).map_err(unreadable)?;
        if (answer.api_version.as_str(), answer.kind.as_str()) != (API_VERSION, KIND) {
            return Err(CallError::Unreadable("it is no TokenReview".into()).into());
        }
        let status = answer
            .status
            .ok_or_else(|| CallError::Unreadable("it has no status".into()))?;
        Ok(Review::of(status, token))
    }
}

const API_VERSION: &str = "authentication.k8s.io/v1";
const KIND: &str = "TokenReview";

#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct Question<'a> {
    api_version: &'a str,
    kind: &'a str,
    spec: Spec<'a>,
}

#[derive(serde::Serialize)]
struct Spec<'a> {
    token: &'a str,
    audiences: &'a [String],
}

/// What is read of an answer; it repeats the question, token included, which is left unread.
#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    api_version: String,
    kind: String,
    status: Option<TokenReviewStatus>,
}

impl Review {
    fn of(status: TokenReviewStatus, token: &str) -> Self {
        let user = status.user.unwrap_or_default();
        let mut extra = user.extra.unwrap_or_default();
        // Every list has one element (KEP-4193).
        let mut first = |key: &str| {
            let values = extra.remove(&format!("authentication.kubernetes.io/{key}"));
            values?.into_iter().next().filter(|value| !value.is_empty())
        };
        Self {
            authenticated: status.authenticated.unwrap_or(false),
            error: without_token(&status.error.unwrap_or_default(), token),
            username: user.username.unwrap_or_default(),
            groups: user.groups.unwrap_or_default(),
            audiences: status.audiences.unwrap_or_default(),
            pod_name: first("pod-name"),
            pod_uid: first("pod-uid"),
            node_name: first("node-name"),
            credential_id: first("credential-id"),
        }
    }
}

/// An authenticator's text may quote what it could not accept: webhooks write what they like.
fn without_token(text: &str, token: &str) -> String {
    const TELLING: usize = 8;
    let mut text = text.replace(token, "[token]");
    for part in token.split('.').filter(|part| part.len() >= TELLING) {
        text = text.replace(part, "[token]");
    }
    printable(&text)
}

/// The library's own texts quote what they could not read.
pub(super) fn unreadable(error: serde_json::Error) -> CallError {
    let finding = match error.classify() {
        serde_json::error::Category::Data => "it is not of the expected shape",
        _ => "it is not JSON",
    };
    CallError::Unreadable(format!("{finding} (line {}, column {})", error.line(), error.column()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_nothing_of_the_token() {
        let token = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl";
        let text = format!("webhook: {token}\nsignature c2lnbmF0dXJl of eyJzdWIiOiJ4In0 is wrong");
        assert_eq!(
            without_token(&text, token),
            "webhook: [token] signature [token] of [token] is wrong"
        );
        assert_eq!(without_token("short a.b", "a.b"), "short [token]");
        assert_eq!(without_token(&"x".repeat(1000), "a.b").chars().count(), 301);
    }

    #[test]
    fn json_errors_quote_nothing() {
        let error = serde_json::from_str::<Answer>(r#"{"apiVersion": 5, "kind": "secret"}"#)
            .err()
            .unwrap();
        assert_eq!(
            unreadable(error),
            CallError::Unreadable("it is not of the expected shape (line 1, column 16)".into())
        );
    }

    #[test]
    fn a_sparse_answer_is_a_refusal() {
        assert_eq!(Review::of(TokenReviewStatus::default(), "t"), Review::default());
    }
}
