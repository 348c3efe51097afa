//! What a review says about a caller: pure rules.
//!
//! Takes: a [`Review`]. Gives: a [`Caller`], or why not. Not here: calls, caches.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::TokenReviewConfig;
use crate::cluster::Review;
use crate::issue::authenticate::{Caller, Method, Pod, Proof, Reason};
use crate::model::{Identity, Timestamp};

/// Longest token. Kubernetes' own are about 1 KiB.
const MOST_TOKEN: usize = 16 * 1024;

/// Whether a token is worth a review.
pub fn presentable(token: &str) -> Result<(), Reason> {
    let refuse = |why| Err(Reason::new("token_malformed", why));
    match token.len() {
        0 => refuse("the token is empty".into()),
        length if length > MOST_TOKEN => refuse(format!("the token has {length} bytes, more than {MOST_TOKEN}")),
        _ if !token.bytes().all(|byte| byte.is_ascii_graphic()) => {
            refuse("the token is not printable ASCII without spaces".into())
        }
        _ => Ok(()),
    }
}

/// When a token ends by its own word, which nobody has verified. `None` when it is no JWT or does not say.
pub fn unverified_end(token: &str) -> Option<Timestamp> {
    #[derive(serde::Deserialize)]
    struct Claims {
        exp: serde_json::Number,
    }
    let mut parts = token.split('.');
    let (_, payload, _, None) = (parts.next()?, parts.next()?, parts.next()?, parts.next()) else {
        return None;
    };
    let claims: Claims = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()?;
    // RFC 7519, 2: seconds, perhaps with a fraction. The conversion keeps to the range of its target.
    let end = claims
        .exp
        .as_i64()
        .or_else(|| claims.exp.as_f64().map(|end| end as i64))?;
    Some(Timestamp::from_unix(end))
}

/// Who a reviewed token belongs to. `end` is [`unverified_end`]; in an accepted token the API server has verified it.
pub fn judge(
    review: Review,
    config: &TokenReviewConfig,
    end: Option<Timestamp>,
    now: Timestamp,
) -> Result<Caller, Reason> {
    if !review.authenticated || !review.error.is_empty() {
        // A token that is over gives its owner's certificate a say. A forged one that claims to be over gains nothing: it might as well be absent.
        let label = match end {
            Some(end) if end <= now => Reason::TOKEN_EXPIRED,
            _ => "token_refused",
        };
        return Err(Reason::new(
            label,
            format!("the API server does not accept the token: {}", review.error),
        ));
    }
    // An API server whose authenticator ignores audiences accepts a token for any of them and names none (KEP-1205).
    if !review
        .audiences
        .iter()
        .any(|audience| config.audiences.contains(audience))
    {
        return Err(Reason::new(
            "token_audience",
            format!(
                "the API server does not say that the token is meant for {}: it names {:?}",
                config.audiences.join(" or "),
                review.audiences
            ),
        ));
    }
    let user = &review.username;
    let stranger = |why: String| Reason::new("token_not_service_account", format!("the token's user {user:?} {why}"));
    if !review.groups.iter().any(|group| group == "system:serviceaccounts") {
        return Err(stranger("is not in the group system:serviceaccounts".into()));
    }
    let (namespace, account) = user
        .strip_prefix("system:serviceaccount:")
        .and_then(|rest| rest.split_once(':'))
        .ok_or_else(|| stranger("is not system:serviceaccount:<namespace>:<name>".into()))?;
    let identity = Identity::new(&config.trust_domain, namespace, account)
        .map_err(|error| stranger(format!("makes no identity: {error}")))?;
    let pod = review.pod_name.zip(review.pod_uid);
    let proof = Proof {
        method: Method::TokenReview,
        cluster: Some(config.cluster.clone()),
        pod: pod.map(|(name, uid)| Pod { name, uid }),
        node: review.node_name,
        credential_id: review.credential_id,
        expires: end,
    };
    Ok(Caller::new(identity, proof))
}
