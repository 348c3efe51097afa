//! From claims whose signature was verified to the caller, or to why they prove nothing. Pure.

use super::config::{IssuerConfig, KeySource};
use crate::issue::authenticate::token::Claims;
use crate::issue::authenticate::{Caller, Method, Pod, Proof, Reason};
use crate::model::{Identity, Timestamp};

/// How far `iat` and `nbf` may lie ahead of our clock, in seconds. Never given to `exp`.
const CLOCK_SKEW: i64 = 30;

/// Judges claims of a token that this issuer signed. Expiry comes last: a token that is merely expired may give way to a client certificate,
/// a token with anything else wrong may not.
pub fn judge(claims: &Claims<'_>, issuer: &IssuerConfig, now: Timestamp) -> Result<Caller, Reason> {
    audience(claims, issuer)?;
    let identity = subject(claims, issuer)?;
    let expires = times(claims, issuer, now)?;
    let bound = claims.kubernetes.as_ref();
    Ok(Caller::new(
        identity,
        Proof {
            method: Method::OfflineJwt,
            cluster: Some(issuer.cluster.clone()),
            pod: bound.and_then(|bound| bound.pod.as_ref()).map(|pod| Pod {
                name: pod.name.to_string(),
                uid: pod.uid.to_string(),
            }),
            node: bound
                .and_then(|bound| bound.node.as_ref())
                .map(|node| node.name.to_string()),
            credential_id: claims.jti.as_ref().map(|id| id.to_string()),
            expires: Some(expires),
        },
    ))
}

fn audience(claims: &Claims<'_>, issuer: &IssuerConfig) -> Result<(), Reason> {
    match &claims.aud {
        Some(audience) if audience.names_one_of(&issuer.audiences) => Ok(()),
        _ => Err(Reason::new(
            "token_audience",
            format!("the token is not for one of {:?}", &issuer.audiences[..]),
        )),
    }
}

fn subject(claims: &Claims<'_>, issuer: &IssuerConfig) -> Result<Identity, Reason> {
    let (namespace, account) = claims
        .sub
        .as_ref()
        .and_then(|subject| subject.strip_prefix("system:serviceaccount:")?.split_once(':'))
        .ok_or_else(|| Reason::new("token_subject", "the token's subject is not a service account"))?;
    match &claims.kubernetes {
        Some(said) if *said.namespace != *namespace || *said.serviceaccount.name != *account => {
            return Err(Reason::new(
                "token_subject_mismatch",
                "the token's subject and its kubernetes.io claims name different accounts",
            ));
        }
        // Whatever the API server signs carries them since Kubernetes 1.13.
        None if matches!(issuer.keys, KeySource::ApiServer(_)) => {
            return Err(Reason::new(
                "token_kubernetes_claims",
                "a token of the API server must carry kubernetes.io claims",
            ));
        }
        _ => {}
    }
    let identity = Identity::new(&issuer.trust_domain, namespace, account)
        .map_err(|error| Reason::new("token_subject", error.to_string()))?;
    match &issuer.namespaces {
        Some(allowed) if !allowed.iter().any(|allowed| allowed == namespace) => Err(Reason::new(
            "token_namespace",
            format!("this issuer may not speak for {identity}"),
        )),
        _ => Ok(identity),
    }
}

/// When it expires, if its times hold.
fn times(claims: &Claims<'_>, issuer: &IssuerConfig, now: Timestamp) -> Result<Timestamp, Reason> {
    // Tokens of secrets (before Kubernetes 1.22) live for ever: stealing one is stealing the account.
    let Some(expires) = claims.exp.map(Timestamp::from_unix) else {
        return Err(Reason::new("token_without_expiry", "the token never expires"));
    };
    let Some(begins) = claims.iat.or(claims.nbf).map(Timestamp::from_unix) else {
        return Err(Reason::new(
            "token_without_issue_time",
            "the token says neither when it was issued nor when it begins, so its lifetime is unknown",
        ));
    };
    let life = expires.since(begins);
    if !(1..=issuer.max_token_life.seconds()).contains(&life) {
        return Err(Reason::new(
            "token_lifetime",
            format!(
                "the token lives for {life} s, and at most {} s are accepted",
                issuer.max_token_life.seconds()
            ),
        ));
    }
    for (begins, what) in [(claims.iat, "was issued"), (claims.nbf, "begins")] {
        let Some(begins) = begins.map(Timestamp::from_unix) else {
            continue;
        };
        if begins > now.plus(CLOCK_SKEW) {
            return Err(Reason::new(
                "token_not_yet_valid",
                format!("the token {what} at {begins}, and it is {now}: compare the clocks"),
            ));
        }
    }
    // RFC 7519, 4.1.4: on or after that second it is no longer good.
    if expires <= now {
        return Err(Reason::new(
            Reason::TOKEN_EXPIRED,
            format!("the token expired at {expires}"),
        ));
    }
    Ok(expires)
}
