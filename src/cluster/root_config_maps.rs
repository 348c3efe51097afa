//! Writing the ConfigMaps that hold roots.
//!
//! Takes: a namespace and roots. Gives: one call each, which touches nothing but the one key. Not here: when, and whether.

use std::time::Duration;

use serde_json::{Value, json};

use super::client::{ApiServer, CallError};
use super::objects::{ObjectError, ROOT_KEY};
use super::token_review::unreadable;

/// The name under which the API server keeps account of what we write.
pub const WRITER: &str = "countersign";

/// An answer repeats the object, whose other keys may be large.
const MOST_ANSWER: usize = 4 << 20;
const TIME: Duration = Duration::from_secs(10);

/// The ConfigMaps of one name. Cheap to clone.
#[derive(Clone)]
pub struct RootConfigMaps {
    server: ApiServer,
    name: String,
}

impl RootConfigMaps {
    /// Of this name.
    pub fn new(server: ApiServer, name: &str) -> Self {
        Self {
            server,
            name: name.to_owned(),
        }
    }

    /// Makes one that is not there.
    pub async fn create(&self, namespace: &str, roots: &str) -> Result<(), ObjectError> {
        let object = json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            // Istio's label for what it configures itself with; istiod sets it as well, on creation only.
            "metadata": {"name": self.name, "namespace": namespace, "labels": {"istio.io/config": "true"}},
            "data": {ROOT_KEY: roots},
        });
        let path = format!("/api/v1/namespaces/{namespace}/configmaps");
        self.write(http::Request::post(query(&path)), "application/json", &object)
            .await
    }

    /// Changes one, if it is still in that state. Other keys and labels stay as they are.
    pub async fn replace(&self, namespace: &str, version: &str, roots: &str) -> Result<(), ObjectError> {
        let change = json!({
            "metadata": {"resourceVersion": version},
            "data": {ROOT_KEY: roots},
            // A key may be in one of the two only, and this one would be preferred.
            "binaryData": {ROOT_KEY: null},
        });
        let path = format!("/api/v1/namespaces/{namespace}/configmaps/{}", self.name);
        // RFC 7396: what is not named is left alone, fields that we do not know included.
        self.write(
            http::Request::patch(query(&path)),
            "application/merge-patch+json",
            &change,
        )
        .await
    }

    async fn write(&self, request: http::request::Builder, kind: &str, body: &Value) -> Result<(), ObjectError> {
        let request = request
            .header(http::header::CONTENT_TYPE, kind)
            .header(http::header::ACCEPT, "application/json")
            .body(serde_json::to_vec(body).map_err(unreadable)?)
            .map_err(|error| CallError::Unreadable(error.to_string()))?;
        let (status, body) = self.server.ask(request, TIME, MOST_ANSWER).await?;
        if status.is_success() {
            // What became of it is seen by watching: an answer may be older than what was seen since.
            return Ok(());
        }
        ObjectError::judge((status, body)).map(drop)
    }
}

fn query(path: &str) -> String {
    format!("{path}?fieldManager={WRITER}")
}
