//! Who calls? Every way to prove it, and the order in which they count.
//!
//! Takes: a [`Request`]'s credentials. Gives: a [`Caller`], which only this folder can make. Not here: what the
//! caller may have.
//!
//! Among the token authenticators the one that a token belongs to decides, and its rejection is final: only [`Verdict::NotMine`] passes
//! on. A client certificate decides when there is no token, when the token is merely expired, or when nobody can tell about it now.

mod audiences;
mod caller;
pub mod client_certificate;
pub mod offline;
mod token;
pub mod token_review;

use std::sync::Arc;
use std::time::Instant;

pub use audiences::{Audiences, NoAudience};
pub use caller::{Caller, Method, Pod, Proof};

use self::offline::OfflineJwt;
use self::token_review::TokenReviewAuthenticator;
use crate::authority::CaState;
use crate::model::{BearerToken, Kind, Request, Timestamp, TrustDomain};
use crate::platform::SlowWork;

/// What one authenticator says of one token or certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It proves this caller.
    Accepted(Box<Caller>),
    /// Another authenticator's business: neither proof nor disproof.
    NotMine,
    /// It is mine, and it proves nothing. Final.
    Rejected(Reason),
    /// It is mine, and I cannot tell now.
    Undecided(Reason),
}

/// Why a credential was not accepted: for our log and metrics, never for the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// A short, fixed word for metrics, such as `token_expired`.
    pub label: &'static str,
    /// One line for the log; of a credential at most what it says of its issuer and key, short and quoted.
    pub detail: String,
}

impl Reason {
    /// The label of a token that was good once: the one rejection after which a client certificate may still decide.
    pub const TOKEN_EXPIRED: &'static str = "token_expired";
    /// The label of a token that could not be looked at for want of room.
    pub const REVIEWS_OVERLOADED: &'static str = "reviews_overloaded";

    /// A reason.
    pub fn new(label: &'static str, detail: impl Into<String>) -> Self {
        Self {
            label,
            detail: detail.into(),
        }
    }
}

/// Why nobody was recognised.
#[derive(Debug, thiserror::Error)]
#[error("{}", .reasons.iter().map(|reason| format!("{}: {}", reason.label, reason.detail)).collect::<Vec<_>>().join("; "))]
pub struct AuthenticateError {
    kind: Kind,
    /// The token's reason first, then the certificate's; never empty.
    reasons: Vec<Reason>,
}

impl AuthenticateError {
    /// Whether trying again can help.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The word for metrics: the first reason.
    pub fn label(&self) -> &'static str {
        self.reasons.first().map_or("no_credentials", |reason| reason.label)
    }
}

/// All ways in. At least one is configured.
pub struct Authenticators {
    offline: Option<OfflineJwt>,
    review: Option<TokenReviewAuthenticator>,
    client_certificates: Option<TrustDomain>,
}

/// No way in at all.
#[derive(Debug, thiserror::Error)]
#[error("no way to authenticate a caller is configured")]
pub struct NoAuthenticator;

impl Authenticators {
    /// Puts the ways in together; `client_certificates` names the trust domain whose certificates may renew themselves.
    pub fn new(
        offline: Option<OfflineJwt>,
        review: Option<TokenReviewAuthenticator>,
        client_certificates: Option<TrustDomain>,
    ) -> Result<Self, NoAuthenticator> {
        // Certificates alone would be a circle: the first one needs a token.
        if offline.is_none() && review.is_none() {
            return Err(NoAuthenticator);
        }
        Ok(Self {
            offline,
            review,
            client_certificates,
        })
    }

    /// Recognises the caller, or keeps every reason why not. Slow signatures are checked by `slow`.
    pub async fn authenticate(
        &self,
        request: &Request,
        ca: &Arc<CaState>,
        now: Timestamp,
        deadline: Instant,
        slow: &SlowWork,
    ) -> Result<Caller, AuthenticateError> {
        match self.token(request, now, deadline, slow).await {
            Some(Verdict::Accepted(caller)) => {
                if let Some(Verdict::Accepted(other)) = self.certificate(request, ca, now, slow).await
                    && other.identity() != caller.identity()
                {
                    tracing::warn!(token = %caller.identity(), certificate = %other.identity(), "token and client certificate name different callers: the token counts");
                }
                Ok(*caller)
            }
            Some(Verdict::Rejected(reason)) if reason.label != Reason::TOKEN_EXPIRED => Err(AuthenticateError {
                kind: Kind::Unauthenticated,
                reasons: vec![reason],
            }),
            undecided => {
                let certificate = self.certificate(request, ca, now, slow).await;
                Self::by_certificate(undecided, certificate, || {
                    request.credentials.token.as_ref().map(offline::origin)
                })
            }
        }
    }

    async fn certificate(
        &self,
        request: &Request,
        ca: &Arc<CaState>,
        now: Timestamp,
        slow: &SlowWork,
    ) -> Option<Verdict> {
        let certificate = request.credentials.client_certificate.as_ref()?;
        let trust_domain = self.client_certificates.as_ref()?;
        if !client_certificate::is_slow(&ca.signers) {
            return Some(client_certificate::authenticate(
                certificate,
                &ca.signers,
                trust_domain,
                now,
            ));
        }
        let (certificate, ca, trust_domain) = (certificate.clone(), ca.clone(), trust_domain.clone());
        let work = move || client_certificate::authenticate(&certificate, &ca.signers, &trust_domain, now);
        Some(slow.run(work).await.unwrap_or_else(abandoned))
    }

    async fn offline(
        offline: &OfflineJwt,
        token: &BearerToken,
        cluster: Option<&str>,
        now: Timestamp,
        slow: &SlowWork,
    ) -> Verdict {
        if !offline.is_slow(token) {
            return offline.authenticate(token, cluster, now);
        }
        let (offline, token, cluster) = (offline.clone(), token.clone(), cluster.map(str::to_owned));
        let work = move || offline.authenticate(&token, cluster.as_deref(), now);
        slow.run(work).await.unwrap_or_else(abandoned)
    }

    async fn token(&self, request: &Request, now: Timestamp, deadline: Instant, slow: &SlowWork) -> Option<Verdict> {
        let token = request.credentials.token.as_ref()?;
        let cluster = request.cluster_id.as_deref();
        if let Some(offline) = &self.offline {
            match Self::offline(offline, token, cluster, now, slow).await {
                Verdict::NotMine => {}
                decided => return Some(decided),
            }
        }
        match &self.review {
            Some(review) => {
                let peer = request.peer.map(|peer| peer.ip());
                Some(review.authenticate(token, cluster, peer, deadline).await)
            }
            None => Some(Verdict::NotMine),
        }
    }

    /// The token is absent, expired, undecided or nobody's: the certificate's turn.
    fn by_certificate(
        token: Option<Verdict>,
        certificate: Option<Verdict>,
        origin: impl FnOnce() -> Option<String>,
    ) -> Result<Caller, AuthenticateError> {
        let mut kind = Kind::Unauthenticated;
        let mut reasons = Vec::new();
        match token {
            // A token that nobody knows is a wrong token, and that is final.
            Some(Verdict::NotMine | Verdict::Accepted(_)) => {
                let detail = format!(
                    "no authenticator knows this kind of token or its issuer: it says {}",
                    origin().unwrap_or_default()
                );
                let reason = Reason::new("token_unknown", detail);
                return Err(AuthenticateError {
                    kind,
                    reasons: vec![reason],
                });
            }
            Some(Verdict::Undecided(reason)) => {
                let overloaded = reason.label == Reason::REVIEWS_OVERLOADED;
                kind = if overloaded {
                    Kind::Overloaded
                } else {
                    Kind::Unavailable
                };
                reasons.push(reason);
            }
            Some(Verdict::Rejected(reason)) => reasons.push(reason),
            None => {}
        }
        match certificate {
            Some(Verdict::Accepted(caller)) => return Ok(*caller),
            Some(Verdict::Rejected(reason) | Verdict::Undecided(reason)) => reasons.push(reason),
            Some(Verdict::NotMine) | None => {}
        }
        if reasons.is_empty() {
            reasons.push(Reason::new(
                "no_credentials",
                "neither a token nor a client certificate that may renew itself",
            ));
        }
        Err(AuthenticateError { kind, reasons })
    }
}

fn abandoned() -> Verdict {
    Verdict::Undecided(Reason::new("abandoned", "the thread that checked a signature is gone"))
}
