//! Service-account tokens verified here, without the API server: the keys of their issuers are fetched beforehand, and kept fresh.
//!
//! Takes: a token, the `clusterid` header, the time. Gives: a [`Verdict`], without waiting for anything. [`KeyRefresher`] is the background
//! work that brings the keys. Not here: whether the pod that a token is bound to still exists.
//!
//! A token belongs to the issuer whose name equals its `iss`; until its signature is verified nothing else that it says is believed, and of
//! its header only `kid` (which key?) and `alg` (must be that key's) are ever used.

mod claims;
mod config;
mod keys;

use std::sync::Arc;

use jsonwebtoken::Algorithm;

pub use self::config::{HttpOptions, IssuerConfig, KeySource};
pub use self::keys::bundle::check_ca_file;
pub use self::keys::fetch::{UriError, check_key_file};
use self::keys::refresh::IssuerRefresher;
pub use self::keys::refresh::KeyRefresher;
pub use self::keys::store::KeyStatus;
use self::keys::store::{KeyStore, Lookup};
use self::keys::{VerificationKey, algorithm_named};
use super::token::{self, Claims, Header, MOST_HEADER, MOST_TOKEN, Parts};
use super::{Reason, Verdict};
use crate::issue::authenticate::Caller;
use crate::model::{BearerToken, Timestamp};
use crate::platform::Clock;
use crate::platform::crypto::install_jwt_provider;
use crate::telemetry::metrics::Metrics;

/// Verifies tokens of the configured issuers. Cheap to clone.
#[derive(Clone)]
pub struct OfflineJwt {
    issuers: Arc<[Issuer]>,
    clock: Arc<dyn Clock>,
}

struct Issuer {
    config: IssuerConfig,
    /// Unique, for people.
    name: String,
    keys: KeyStore,
}

impl OfflineJwt {
    /// The authenticator and the background work that brings its keys. Until that has run, every token of these issuers is undecided.
    pub fn new(issuers: Vec<IssuerConfig>, clock: Arc<dyn Clock>, metrics: &Metrics) -> (Self, KeyRefresher) {
        install_jwt_provider();
        let mut ready: Vec<Issuer> = Vec::new();
        let mut refreshers = Vec::new();
        for config in &issuers {
            let namesakes = || issuers.iter().filter(|other| other.issuer == config.issuer);
            let name = match namesakes().count() {
                1 => config.issuer.clone(),
                _ => format!("{} of cluster {}", config.issuer, config.cluster),
            };
            let (keys, publisher) = keys::store::key_store();
            refreshers.push(IssuerRefresher::new(config, &name, publisher, clock.clone(), metrics));
            ready.push(Issuer {
                config: config.clone(),
                name,
                keys,
            });
        }
        let offline = Self {
            issuers: ready.into(),
            clock,
        };
        (offline, KeyRefresher::new(refreshers))
    }

    /// Whether a token proves its bearer to be a service account. `cluster_id` selects among issuers and is never believed.
    pub fn authenticate(&self, token: &BearerToken, cluster_id: Option<&str>, now: Timestamp) -> Verdict {
        match self.judge(token.reveal(), cluster_id, now) {
            Ok(caller) => Verdict::Accepted(Box::new(caller)),
            Err(verdict) => verdict,
        }
    }

    /// Whether verifying this token may belong off the async threads, by its own word: a key of another kind would refuse it at once.
    pub fn is_slow(&self, token: &BearerToken) -> bool {
        Parts::of(token.reveal())
            .and_then(|parts| header(&parts).ok())
            .and_then(|header| {
                token::read::<Header<'_>>(&header)
                    .ok()
                    .and_then(|header| algorithm_named(&header.alg))
            })
            .is_some_and(keys::is_slow)
    }

    /// The keys of every issuer: since when, usable now or why not.
    pub fn key_status(&self) -> Vec<KeyStatus> {
        let now = self.clock.instant();
        self.issuers
            .iter()
            .map(|issuer| issuer.keys.status(&issuer.name, now))
            .collect()
    }

    fn judge(&self, token: &str, cluster_id: Option<&str>, now: Timestamp) -> Result<Caller, Verdict> {
        // Nobody issues such a token: no other authenticator needs to carry it to an API server.
        if token.len() > MOST_TOKEN {
            return Err(reject(
                "token_too_large",
                format!("the token is longer than {MOST_TOKEN} bytes"),
            ));
        }
        let parts = Parts::of(token).ok_or(Verdict::NotMine)?;
        let payload = token::decode(parts.payload).ok_or(Verdict::NotMine)?;
        let claims: Claims<'_> = match token::read(&payload) {
            Ok(claims) => claims,
            Err(error) => return Err(self.unreadable_claims(&payload, &error)),
        };
        let issuers = self.issuers_named(&claims.iss, cluster_id)?;
        let header = header(&parts)?;
        let header: Header<'_> = token::read(&header).map_err(|error| {
            let detail = format!("the header is not as RFC 7515 has it (column {})", error.column());
            reject("token_header", detail)
        })?;
        let algorithm = algorithm_of(&header)?;
        let (issuer, key) = self.key(&issuers, header.kid.as_deref(), algorithm)?;
        verify(&parts, &key, algorithm)?;
        claims::judge(&claims, &issuer.config, now).map_err(Verdict::Rejected)
    }

    /// Claims that are not what they must be are final if the issuer is ours, and nobody's otherwise.
    fn unreadable_claims(&self, payload: &str, error: &serde_json::Error) -> Verdict {
        let value: serde_json::Value = serde_json::from_str(payload).unwrap_or_default();
        match value.get("iss").and_then(|issuer| issuer.as_str()) {
            Some(issuer) if self.issuers.iter().any(|known| known.config.issuer == issuer) => {
                // The error's own text may repeat parts of the token.
                let detail = format!(
                    "the claims have a wrong type, or one stands there twice (column {})",
                    error.column()
                );
                reject("token_claims", detail)
            }
            _ => Verdict::NotMine,
        }
    }

    /// The issuers that a token may be of; more than one when several clusters use the same name and the caller does not say which it is in.
    fn issuers_named(&self, name: &str, cluster_id: Option<&str>) -> Result<Vec<&Issuer>, Verdict> {
        let mut issuers: Vec<&Issuer> = self
            .issuers
            .iter()
            .filter(|issuer| issuer.config.issuer == name)
            .collect();
        if issuers.is_empty() {
            return Err(Verdict::NotMine);
        }
        if let Some(cluster) = cluster_id.filter(|cluster| !cluster.is_empty()) {
            issuers.retain(|issuer| issuer.config.cluster == cluster);
        }
        if issuers.is_empty() {
            return Err(reject(
                "token_cluster",
                "the clusterid header names another cluster than the one the token's issuer stands for",
            ));
        }
        Ok(issuers)
    }

    /// The one key that may have signed, and whose it is.
    fn key<'a>(
        &self,
        issuers: &[&'a Issuer],
        kid: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<(&'a Issuer, Arc<VerificationKey>), Verdict> {
        let now = self.clock.instant();
        let mut found = None;
        let mut stale = Vec::new();
        let mut unavailable = false;
        for issuer in issuers {
            match issuer.keys.find(kid, algorithm, now) {
                Lookup::Found(key) if found.is_none() => found = Some((*issuer, key)),
                Lookup::Found(_) => {
                    return Err(reject(
                        "token_issuer_ambiguous",
                        "several clusters have this issuer name and this key: send the clusterid header",
                    ));
                }
                Lookup::Ambiguous => {
                    return Err(reject(
                        "token_key_ambiguous",
                        "the token names no key, and its issuer has several",
                    ));
                }
                Lookup::Unknown { fresh: true } => {}
                Lookup::Unknown { fresh: false } => stale.push(issuer),
                Lookup::Unavailable => {
                    unavailable = true;
                    stale.push(issuer);
                }
            }
        }
        if let Some(found) = found {
            return Ok(found);
        }
        if stale.is_empty() {
            let name = issuers.first().map(|issuer| issuer.name.as_str());
            return Err(reject(
                "token_key_unknown",
                format!(
                    "no key of the issuer {:?} is the one that the token names, kid {:?}",
                    name.unwrap_or_default(),
                    brief(kid.unwrap_or_default())
                ),
            ));
        }
        for issuer in stale {
            issuer.keys.ask_for_refresh();
        }
        let (label, detail) = match unavailable {
            true => (
                "keys_unavailable",
                "the issuer's keys could not be fetched, or not for too long",
            ),
            false => (
                "token_key_unknown_yet",
                "no key of the issuer is the one that the token names; its keys are being fetched anew",
            ),
        };
        Err(Verdict::Undecided(Reason::new(label, detail)))
    }
}

/// What a token says of its issuer and key, for the log. None of it is verified.
pub fn origin(token: &BearerToken) -> String {
    let parts = Parts::of(token.reveal()).filter(|_| token.reveal().len() <= MOST_TOKEN);
    let member = |part: &str, name: &str| {
        let object: serde_json::Value = serde_json::from_str(&token::decode(part)?).ok()?;
        Some(brief(object.get(name)?.as_str()?))
    };
    match parts.map(|parts| (member(parts.payload, "iss"), member(parts.header, "kid"))) {
        Some((Some(issuer), kid)) => format!("iss {issuer:?}, kid {:?}", kid.unwrap_or_default()),
        _ => "nothing: it is not a JSON Web Token".into(),
    }
}

/// Texts of strangers are kept short.
fn brief(text: &str) -> String {
    text.chars().take(100).collect()
}

fn header(parts: &Parts<'_>) -> Result<String, Verdict> {
    if parts.header.len() > MOST_HEADER {
        return Err(reject(
            "token_header",
            format!("the header is longer than {MOST_HEADER} bytes"),
        ));
    }
    token::decode(parts.header).ok_or_else(|| reject("token_header", "the header is not canonical base64url of a text"))
}

fn algorithm_of(header: &Header<'_>) -> Result<Algorithm, Verdict> {
    if header.crit.is_some() {
        return Err(reject(
            "token_critical_header",
            "the header demands extensions, and none are supported (RFC 7515, 4.1.11)",
        ));
    }
    if header
        .typ
        .as_ref()
        .is_some_and(|kind| !kind.eq_ignore_ascii_case("JWT"))
    {
        return Err(reject(
            "token_type",
            "the header says that it is not a JWT but something else",
        ));
    }
    algorithm_named(&header.alg)
        .ok_or_else(|| reject("token_algorithm", "the token is not signed with RS256, ES256 or ES384"))
}

fn verify(parts: &Parts<'_>, key: &VerificationKey, algorithm: Algorithm) -> Result<(), Verdict> {
    // RFC 8725, 3.1: the key decides the algorithm, the header merely has to agree.
    if key.algorithm() != algorithm {
        return Err(reject(
            "token_algorithm",
            "the token's algorithm is not that of the key that it names",
        ));
    }
    match key.verifies(parts.signed, parts.signature) {
        Some(true) => Ok(()),
        Some(false) => Err(reject("token_signature", "the signature does not verify")),
        None => Err(reject("token_signature", "the signature is not canonical base64url")),
    }
}

fn reject(label: &'static str, detail: impl Into<String>) -> Verdict {
    Verdict::Rejected(Reason::new(label, detail))
}
