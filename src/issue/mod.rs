//! One request, from caller to certificate (Istio calls this the CA server's `CreateCertificate`).
//!
//! Takes: a [`Request`]. Gives: an [`Issued`] certificate, or a [`Refusal`]. Each step takes what the step before returned, and only this
//! file calls steps. Not here: protobuf, sockets, where the CA's key comes from.

pub mod authenticate;
pub mod authorize;
pub mod csr;
pub mod plan;
mod record;
mod sign;
#[cfg(test)]
mod testing;

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::watch;

use self::authenticate::{AuthenticateError, Authenticators};
use self::authorize::{AuthorizeError, Grant, authorize};
use self::csr::{CsrError, ParsedCsr};
use self::plan::{Circumstances, PlanError, Profile};
pub use self::record::Issued;
use crate::authority::{CaState, NotCovered, Stopped};
use crate::model::{KeyAlgorithm, Kind, Lifetime, Request, Serial, ServingName};
use crate::platform::crypto::SigningError;
use crate::platform::{Clock, Random, RandomError, SlowWork, process};
use crate::telemetry::metrics::Stage;
use crate::telemetry::{Metrics, Seldom};

/// What every issued certificate follows.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// Lifetimes of workload certificates.
    pub profile: Profile,
    /// Refuse CSRs that ask for anything but the caller's own identity.
    pub strict_csr: bool,
}

/// The issuing path. Shared by all threads of the server.
pub struct Issuer {
    authenticators: Authenticators,
    ca: watch::Receiver<Arc<CaState>>,
    policy: Policy,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    metrics: Arc<Metrics>,
    /// Slow cryptography: as much at once as there are processors.
    slow: SlowWork,
    clamping: Seldom,
}

/// Why a request got no certificate.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Nobody was recognised.
    #[error(transparent)]
    Authenticate(#[from] AuthenticateError),
    /// The caller may not.
    #[error(transparent)]
    Authorize(#[from] AuthorizeError),
    /// The CSR is not acceptable.
    #[error(transparent)]
    Csr(#[from] CsrError),
    /// No such certificate can be made.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// Nothing may be signed now.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// It could not be put on record.
    #[error(transparent)]
    Record(#[from] NotCovered),
    /// The key did not sign.
    #[error(transparent)]
    Sign(#[from] SigningError),
    /// No randomness for a serial number.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// A thread that worked for this request is gone.
    #[error("the work was given up")]
    Abandoned,
}

impl Refusal {
    /// Whose fault, and whether trying again can help.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Authenticate(error) => error.kind(),
            Self::Authorize(error) => error.kind(),
            Self::Csr(error) => error.kind(),
            Self::Plan(error) => error.kind(),
            Self::Stopped(_) | Self::Record(_) => Kind::Unavailable,
            Self::Sign(_) | Self::Random(_) | Self::Abandoned => Kind::Internal,
        }
    }

    /// The word for metrics and logs.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Authenticate(error) => error.label(),
            Self::Authorize(error) => error.label(),
            Self::Csr(error) => error.label(),
            Self::Plan(error) => error.label(),
            Self::Stopped(_) => "ca_stopped",
            Self::Record(_) => "record",
            Self::Sign(_) => "signing",
            Self::Random(_) => "randomness",
            Self::Abandoned => "abandoned",
        }
    }

    /// What the caller may read. Nothing about tokens, issuers or our own state beyond what its own request shows; the texts of the first
    /// two, and the frame of the third, are istiod's.
    pub fn public(&self) -> String {
        match self {
            Self::Authenticate(error) => match error.kind() {
                Kind::Unauthenticated => "request authenticate failure".into(),
                _ => "the CA cannot check the caller's token now".into(),
            },
            Self::Authorize(_) => "request impersonation authentication failure".into(),
            Self::Csr(error) => format!("CSR signing error ({error})"),
            Self::Plan(error @ (PlanError::TooLong { .. } | PlanError::TooShort { .. })) => {
                format!("CSR signing error ({error})")
            }
            Self::Plan(PlanError::SignerEnding { .. }) => {
                "the CA's signing certificate is about to expire, has expired or is not valid yet".into()
            }
            Self::Stopped(_) | Self::Record(_) => "the CA cannot sign now".into(),
            Self::Plan(PlanError::Lint(_)) | Self::Sign(_) | Self::Random(_) | Self::Abandoned => {
                "CSR signing error (internal)".into()
            }
        }
    }
}

impl Issuer {
    /// Puts the issuing path together.
    pub fn new(
        authenticators: Authenticators,
        ca: watch::Receiver<Arc<CaState>>,
        policy: Policy,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let slow = SlowWork::new(process::parallelism());
        Self {
            authenticators,
            ca,
            policy,
            clock,
            random,
            metrics,
            slow,
            clamping: Seldom::every(3600),
        }
    }

    /// Answers one request. `deadline` is passed on to whatever has to be asked elsewhere.
    pub async fn issue(&self, request: Request, deadline: Instant) -> Result<Issued, Refusal> {
        let start = self.clock.instant();
        let state = self.ca.borrow().clone();
        let caller = self
            .authenticators
            .authenticate(&request, &state, self.clock.now(), deadline, &self.slow)
            .await?;
        // Read after the wait for others: what was withdrawn meanwhile signs nothing.
        let ca = self.ca.borrow().signing.clone()?;
        let now = self.clock.now();
        let authenticated = self.clock.instant();
        self.metrics
            .stage(Stage::Authenticate)
            .observe((authenticated - start).as_secs_f64());
        let grant = authorize(caller, request.impersonation.as_ref())?;
        let csr = csr::parse(&request.csr)?;
        let serial = Serial::from_random(self.random.bytes16()?);
        let slow = csr.is_slow() || ca.key().algorithm().is_slow_to_sign();
        let (policy, lifetime) = (self.policy, request.lifetime);
        let circumstances = Circumstances { ca, now, serial };
        let work = move || certify(grant, csr, lifetime, &policy, circumstances);
        let signed = if slow {
            self.slow.run(work).await.ok_or(Refusal::Abandoned)??
        } else {
            work()?
        };
        self.metrics
            .stage(Stage::Certify)
            .observe((self.clock.instant() - authenticated).as_secs_f64());
        let issued = record::record(signed, request.peer, self.clock.instant() - start).await?;
        if issued.facts().clamped {
            self.metrics.clamped.inc();
            if self.clamping.is_due(now) {
                let not_after = issued.ca().validity().not_after;
                tracing::warn!(%not_after, "certificates live shorter than asked for, since a certificate above them ends then: renew it");
            }
        }
        Ok(issued)
    }

    /// A certificate for our own server, for a key that the process made itself.
    pub fn serving(
        &self,
        names: Vec<ServingName>,
        public_key_info: &[u8],
        key: KeyAlgorithm,
        lifetime: Lifetime,
    ) -> Result<Issued, Refusal> {
        let state = self.ca.borrow().clone();
        let (ca, until) = match &state.serving {
            Some((ca, until)) => (ca.clone(), *until),
            None => (state.signing.clone()?, None),
        };
        let serial = Serial::from_random(self.random.bytes16()?);
        let profile = &self.policy.profile;
        let now = self.clock.now();
        // Under a root that goes it must last until that has gone: its key may be gone before.
        let needed = until.map_or(0, |until| until.since(now).max(0));
        let lifetime = Lifetime::from_seconds(lifetime.seconds().saturating_add(needed)).unwrap_or(lifetime);
        let circumstances = Circumstances { ca, now, serial };
        let plan = plan::server(names, public_key_info, key, lifetime, profile, circumstances)?;
        Ok(record::serving(sign::sign(plan)?))
    }

    /// The shortest lifetime that is issued.
    pub fn minimum_lifetime(&self) -> Lifetime {
        self.policy.profile.minimum
    }

    /// The CA as it stands, to watch for changes.
    pub fn ca(&self) -> watch::Receiver<Arc<CaState>> {
        self.ca.clone()
    }
}

fn certify(
    grant: Grant,
    csr: ParsedCsr,
    lifetime: i64,
    policy: &Policy,
    circumstances: Circumstances,
) -> Result<sign::Signed, Refusal> {
    let csr = csr.check(&grant, policy.strict_csr)?;
    let plan = plan::workload(grant, &csr, lifetime, &policy.profile, circumstances)?;
    Ok(sign::sign(plan)?)
}
