//! What a token says of itself, and what a review says about a caller: pure rules.
//!
//! Takes: a token's text, a [`Review`]. Gives: whether it is worth a review; a [`Caller`], or why not. Not here: calls, caches.

use super::TokenReviewConfig;
use crate::cluster::Review;
use crate::issue::authenticate::token::{Audience, MOST_TOKEN, Parts, decode, present, read};
use crate::issue::authenticate::{Caller, Method, Pod, Proof, Reason};
use crate::model::{Identity, Timestamp};

/// How long after its end the API server still accepts a token (`DefaultLeeway` of its JWT library), in seconds.
const LEEWAY: i64 = 60;

/// Of what a token says of itself, what lets no API server take it for one of a service account. Nobody has verified it.
#[derive(serde::Deserialize)]
struct Claims<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    aud: Option<Audience<'a>>,
    #[serde(default, deserialize_with = "present")]
    exp: Option<i64>,
}

/// Whether a token is worth a review; if so, when it ends by its own word. Kubernetes' own are JWTs whose claims are an object; those of
/// secrets (before 1.22) name neither an end nor an audience.
pub fn presentable(token: &str, audiences: &[String], now: Timestamp) -> Result<Option<Timestamp>, Reason> {
    let refuse = |label, why: &str| Err(Reason::new(label, why));
    let malformed = |why| refuse("token_malformed", why);
    if token.len() > MOST_TOKEN {
        return malformed("the token is longer than any of a service account");
    }
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return malformed("the token is not printable ASCII without spaces");
    }
    let Some(payload) = Parts::of(token).and_then(|parts| decode(parts.payload)) else {
        return malformed("the token is no JWT, as those of service accounts are");
    };
    let Ok(claims) = read::<Claims<'_>>(&payload) else {
        return malformed("the token's claims cannot be read");
    };
    // Before the end: a token with anything else wrong gives no certificate a say.
    if claims.aud.is_some_and(|audience| !audience.names_one_of(audiences)) {
        return refuse("token_audience", "the token says that it is meant for others");
    }
    let end = claims.exp.map(Timestamp::from_unix);
    match end {
        Some(end) if end.plus(LEEWAY) <= now => refuse(Reason::TOKEN_EXPIRED, "the token says that it is over"),
        end => Ok(end),
    }
}

/// Who a reviewed token belongs to. `end` is what [`presentable`] gave; in an accepted token the API server has verified it.
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
