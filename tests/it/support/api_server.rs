//! A small API server: it answers TokenReviews from a table, counts what is asked, and misbehaves as told.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use axum::body::Body;
use countersign::cluster;
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::{Bytes, Frame};
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio::sync::watch;

/// What it does with a call.
#[derive(Clone)]
pub enum Answer {
    /// A TokenReview with this status.
    Review(Value),
    /// This status code with this object.
    Status(u16, Value),
    /// 201 with these bytes.
    Bytes(Vec<u8>),
    /// Ends the connection.
    Breaks,
    /// Never answers.
    Hangs,
    /// Begins an answer and never ends it.
    HangsInside,
    /// Waits until it is let go, then answers.
    Held(Box<Answer>),
    /// As no server could, but a library might.
    Panics,
}

/// The server. Cheap to clone.
#[derive(Clone)]
pub struct ApiServer(Arc<State>);

struct State {
    table: Mutex<HashMap<String, Answer>>,
    other: Mutex<Answer>,
    asked: Mutex<Vec<Value>>,
    /// Calls so far, and those that were broken off before they were answered.
    calls: watch::Sender<usize>,
    broken_off: watch::Sender<usize>,
    held: watch::Sender<bool>,
}

/// What the API server says of the token of a service account that is meant for `istio-ca`.
pub fn account(namespace: &str, name: &str) -> Answer {
    Answer::Review(json!({
        "authenticated": true,
        "audiences": ["istio-ca"],
        "user": {
            "username": format!("system:serviceaccount:{namespace}:{name}"),
            "uid": "3f1c8e0a-0000-4000-8000-000000000000",
            "groups": ["system:serviceaccounts", format!("system:serviceaccounts:{namespace}"), "system:authenticated"],
        },
    }))
}

/// What the API server says of a token that it does not accept.
pub fn refused() -> Answer {
    Answer::Review(json!({ "user": {}, "error": "[invalid bearer token, token lookup failed]" }))
}

/// What an API server says to those who may not ask.
pub fn forbidden() -> Answer {
    let message = "tokenreviews.authentication.k8s.io is forbidden: User \"system:serviceaccount:istio-system:countersign\" cannot create";
    Answer::Status(
        403,
        json!({ "kind": "Status", "status": "Failure", "reason": "Forbidden", "message": message, "code": 403 }),
    )
}

/// Counts a call that is dropped before its answer.
struct Call<'a> {
    state: &'a State,
    answered: bool,
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        if !self.answered {
            self.state.broken_off.send_modify(|count| *count += 1);
        }
    }
}

/// A body that begins, and goes on for ever.
struct Endless(bool);

impl hyper::body::Body for Endless {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if std::mem::replace(&mut self.0, true) {
            return Poll::Pending;
        }
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"{\"kind\":")))))
    }
}

impl ApiServer {
    /// Refuses every token that it is not told about.
    pub fn new() -> Self {
        Self(Arc::new(State {
            table: Mutex::default(),
            other: Mutex::new(refused()),
            asked: Mutex::default(),
            calls: watch::Sender::new(0),
            broken_off: watch::Sender::new(0),
            held: watch::Sender::new(true),
        }))
    }

    /// Answers so to this token.
    pub fn answer(&self, token: &str, answer: Answer) {
        self.0.table.lock().unwrap().insert(token.into(), answer);
    }

    /// Answers so to every token that it was not told about.
    pub fn answer_others(&self, answer: Answer) {
        *self.0.other.lock().unwrap() = answer;
    }

    /// How many calls came.
    pub fn calls(&self) -> usize {
        *self.0.calls.borrow()
    }

    /// Waits for so many calls.
    pub async fn called(&self, count: usize) {
        self.0
            .calls
            .subscribe()
            .wait_for(|calls| *calls >= count)
            .await
            .unwrap();
    }

    /// Waits until so many calls were broken off.
    pub async fn broken_off(&self, count: usize) {
        self.0
            .broken_off
            .subscribe()
            .wait_for(|broken| *broken >= count)
            .await
            .unwrap();
    }

    /// Lets all held answers go.
    pub fn let_go(&self) {
        self.0.held.send_replace(false);
    }

    /// What was asked last.
    pub fn last_question(&self) -> Value {
        self.0.asked.lock().unwrap().last().unwrap().clone()
    }

    /// The server as the program reaches it, without a network.
    pub fn reached(&self) -> cluster::ApiServer {
        cluster::ApiServer::new(self.client(), Handle::current())
    }

    /// A client whose calls end here.
    pub fn client(&self) -> kube::Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let server = server.clone();
            async move { server.serve(request).await }
        });
        kube::Client::new(service, "default")
    }

    /// Serves over TCP on a free port of this machine, until the runtime ends. Gives the address as in a kubeconfig.
    pub async fn listen(&self) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let server = self.clone();
        let router = axum::Router::new().fallback(move |request: Request<Body>| {
            let server = server.clone();
            async move { server.serve(request).await.unwrap() }
        });
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        address
    }

    /// Answers one call; an error ends the connection.
    async fn serve<B>(&self, request: Request<B>) -> Result<Response<Body>, std::io::Error>
    where
        B: hyper::body::Body,
        B::Error: std::fmt::Debug,
    {
        let state = &self.0;
        let (parts, body) = request.into_parts();
        let body: Value = serde_json::from_slice(&body.collect().await.unwrap().to_bytes()).unwrap();
        let authorization = parts.headers.get("authorization");
        state.asked.lock().unwrap().push(json!({
            "method": parts.method.as_str(),
            "path": parts.uri.path(),
            "authorization": authorization.map(|value| value.to_str().unwrap()),
            "body": body,
        }));
        let token = body["spec"]["token"].as_str().unwrap_or_default();
        let told = state.table.lock().unwrap().get(token).cloned();
        let mut answer = told.unwrap_or_else(|| state.other.lock().unwrap().clone());
        state.calls.send_modify(|calls| *calls += 1);
        let mut call = Call { state, answered: false };
        if let Answer::Held(then) = answer {
            state.held.subscribe().wait_for(|held| !held).await.unwrap();
            answer = *then;
        }
        let (status, bytes) = match answer {
            Answer::Review(status) => {
                let review = json!({
                    "apiVersion": "authentication.k8s.io/v1",
                    "kind": "TokenReview",
                    "metadata": { "creationTimestamp": null },
                    "spec": body["spec"],
                    "status": status,
                });
                (201, Body::from(review.to_string()))
            }
            Answer::Status(status, object) => (status, Body::from(object.to_string())),
            Answer::Bytes(bytes) => (201, Body::from(bytes)),
            Answer::HangsInside => (201, Body::new(Endless(false))),
            Answer::Breaks => return Err(std::io::ErrorKind::ConnectionReset.into()),
            Answer::Panics => panic!("as told"),
            Answer::Hangs | Answer::Held(_) => std::future::pending().await,
        };
        call.answered = true;
        Ok(Response::builder().status(status).body(bytes).unwrap())
    }
}
