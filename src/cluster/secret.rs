//! A Secret as a text for `kubectl apply`.
//!
//! Takes: its name and what it holds. Gives: YAML. Not here: the API server.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use zeroize::Zeroizing;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Secret<'a> {
    api_version: &'static str,
    kind: &'static str,
    metadata: Metadata<'a>,
    r#type: &'static str,
    data: BTreeMap<&'a str, &'a str>,
}

#[derive(Serialize)]
struct Metadata<'a> {
    name: &'a str,
    namespace: &'a str,
}

/// Writes it. `kubectl create secret generic` makes the same.
pub fn secret_manifest(
    namespace: &str,
    name: &str,
    data: &BTreeMap<&str, Zeroizing<Vec<u8>>>,
) -> Result<Zeroizing<String>, serde_saphyr::ser_error::Error> {
    let encoded: Vec<_> = (data.iter())
        .map(|(name, bytes)| (*name, Zeroizing::new(STANDARD.encode(bytes.as_slice()))))
        .collect();
    let secret = Secret {
        api_version: "v1",
        kind: "Secret",
        metadata: Metadata { name, namespace },
        r#type: "Opaque",
        data: encoded.iter().map(|(name, text)| (*name, text.as_str())).collect(),
    };
    serde_saphyr::to_string(&secret).map(Zeroizing::new)
}
