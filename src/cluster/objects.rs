//! Objects as the API server writes them, as far as we read them; and what goes wrong with calls about them.
//!
//! Takes: JSON. Gives: [`Namespace`] and [`RootConfigMap`], small enough to be kept by the thousand. Not here: calls.

use std::collections::BTreeMap;

use http::StatusCode;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::client::{CallError, Exchange, message, no_reason};

/// The key of a ConfigMap that holds roots. Istio's agents mount it by this name (Istio: `constants.CACertNamespaceConfigMapDataName`).
pub const ROOT_KEY: &str = "root-cert.pem";

/// A namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// It is being deleted, and takes no new objects.
    pub terminating: bool,
}

/// A ConfigMap that holds roots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootConfigMap {
    /// Where it is.
    pub namespace: String,
    /// Which state of it this is.
    pub version: String,
    /// What it holds under [`ROOT_KEY`].
    pub roots: Option<String>,
    /// Who wrote that, by the name under which the API server keeps account of it. Whoever writes may choose that name.
    pub writer: Option<String>,
}

/// Why a call about objects failed. Refusals are repeated: nothing secret is asked in these.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum ObjectError {
    /// 404.
    #[error("it is not there (404)")]
    Absent,
    /// 409: another writer was faster, or it exists already.
    #[error("it was changed or made by somebody else meanwhile (409)")]
    Conflict,
    /// 410: what was asked for is too old.
    #[error("the API server does not remember that far back (410)")]
    Expired,
    /// Another status that is no success.
    #[error("the API server refuses with HTTP status {status}: {message}")]
    Refused {
        /// The status.
        status: u16,
        /// What it says.
        message: String,
    },
    /// No answer, or none that can be read.
    #[error(transparent)]
    Call(#[from] CallError),
}

impl ObjectError {
    /// Whether rights are missing.
    pub fn is_forbidden(&self) -> bool {
        matches!(self, Self::Call(CallError::Forbidden(_)))
    }

    /// The body of a success, or why it is none.
    pub(super) fn judge((status, body): Exchange) -> Result<Vec<u8>, Self> {
        if status.is_success() {
            return Ok(body?);
        }
        let message = body.ok().and_then(|body| message(&body)).unwrap_or_else(no_reason);
        Err(match status {
            StatusCode::NOT_FOUND => Self::Absent,
            StatusCode::CONFLICT => Self::Conflict,
            StatusCode::GONE => Self::Expired,
            StatusCode::UNAUTHORIZED => CallError::Unauthorized(message).into(),
            StatusCode::FORBIDDEN => CallError::Forbidden(message).into(),
            StatusCode::TOO_MANY_REQUESTS => CallError::Busy.into(),
            other => Self::Refused {
                status: other.as_u16(),
                message,
            },
        })
    }
}

/// What is read of any object. Everything else is skipped without being kept: other keys of a ConfigMap may take a megabyte.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Object {
    pub metadata: Metadata,
    data: Option<Data>,
    binary_data: Option<BinaryData>,
    /// Of a `Status`, which an event of type `ERROR` carries.
    pub code: Option<u16>,
    pub message: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Metadata {
    name: String,
    namespace: String,
    pub resource_version: String,
    labels: Option<BTreeMap<String, String>>,
    deletion_timestamp: Option<IgnoredAny>,
    managed_fields: Option<Vec<ManagedFields>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Data {
    #[serde(rename = "root-cert.pem")]
    roots: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct BinaryData {
    #[serde(rename = "root-cert.pem")]
    roots: Option<IgnoredAny>,
}

/// Who wrote which fields, and when (Kubernetes: server-side apply's account, kept for all writers).
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ManagedFields {
    manager: String,
    time: String,
    fields_v1: Option<Fields>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Fields {
    #[serde(rename = "f:data")]
    data: Option<DataFields>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct DataFields {
    #[serde(rename = "f:root-cert.pem")]
    roots: Option<IgnoredAny>,
}

impl Object {
    pub fn into_namespace(self) -> Option<Namespace> {
        let metadata = self.metadata;
        (!metadata.name.is_empty()).then_some(Namespace {
            name: metadata.name,
            labels: metadata.labels.unwrap_or_default(),
            terminating: metadata.deletion_timestamp.is_some(),
        })
    }

    pub fn into_root_config_map(self) -> Option<RootConfigMap> {
        let metadata = self.metadata;
        let wrote_roots = |fields: &&ManagedFields| {
            let data = fields.fields_v1.as_ref().and_then(|fields| fields.data.as_ref());
            data.is_some_and(|data| data.roots.is_some())
        };
        // Several may own the same value; times are all UTC in one spelling, so that they compare as texts.
        let accounts = metadata.managed_fields.unwrap_or_default();
        let last = accounts.iter().filter(wrote_roots).max_by_key(|fields| &fields.time);
        let in_binary = self.binary_data.is_some_and(|data| data.roots.is_some());
        (!metadata.namespace.is_empty()).then(|| RootConfigMap {
            namespace: metadata.namespace,
            version: metadata.resource_version,
            roots: self.data.and_then(|data| data.roots).filter(|_| !in_binary),
            writer: last.map(|fields| fields.manager.clone()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(json: serde_json::Value) -> Object {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn the_last_writer_of_the_key_counts() {
        let written = |manager: &str, time: &str, key: &str| {
            serde_json::json!({
                "manager": manager, "operation": "Update", "apiVersion": "v1", "time": time, "fieldsType": "FieldsV1",
                "fieldsV1": {"f:data": {".": {}, key: {}}, "f:metadata": {"f:labels": {}}},
            })
        };
        let read = object(serde_json::json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "x", "namespace": "a", "resourceVersion": "7", "managedFields": [
                written("pilot-discovery", "2026-01-01T00:00:00Z", "f:root-cert.pem"),
                written("countersign", "2026-01-02T00:00:00Z", "f:root-cert.pem"),
                written("kubectl-edit", "2026-01-03T00:00:00Z", "f:mine"),
                {"manager": "kubectl-label", "time": "2026-01-04T00:00:00Z", "fieldsV1": {"f:metadata": {}}},
            ]},
            "data": {"root-cert.pem": "roots", "mine": "x"},
        }));
        let expected = RootConfigMap {
            namespace: "a".into(),
            version: "7".into(),
            roots: Some("roots".into()),
            writer: Some("countersign".into()),
        };
        assert_eq!(read.into_root_config_map(), Some(expected));
    }

    #[test]
    fn sparse_objects() {
        let bare = || object(serde_json::json!({"metadata": {"name": "a", "namespace": "n", "labels": null}}));
        let map = bare().into_root_config_map().unwrap();
        assert_eq!((map.roots, map.writer), (None, None));
        assert!(!bare().into_namespace().unwrap().terminating);
        let ending =
            object(serde_json::json!({"metadata": {"name": "a", "deletionTimestamp": "2026-01-01T00:00:00Z"}}));
        assert!(ending.into_namespace().unwrap().terminating);
        let binary = object(serde_json::json!({
            "metadata": {"namespace": "n"}, "data": {"root-cert.pem": "x"}, "binaryData": {"root-cert.pem": "eA=="},
        }));
        assert_eq!(binary.into_root_config_map().unwrap().roots, None);
        assert_eq!(object(serde_json::json!({})).into_namespace(), None);
    }
}
