//! Tokens verified without the API server: who is recognised, who is not, and where the keys come from.

mod bad_tokens;
mod keys;
mod recognised;
mod slow;

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use countersign::cluster::Credentials;
use countersign::issue::authenticate::offline::{IssuerConfig, KeyRefresher, KeySource, OfflineJwt};
use countersign::issue::authenticate::{Audiences, Verdict};
use countersign::model::{BearerToken, Lifetime, Timestamp, TrustDomain};
use countersign::platform::{Clock, TestClock};
use countersign::telemetry::Readiness;
use countersign::telemetry::metrics::Metrics;

use super::support::tokens::{AUDIENCE, ISSUER};

/// 2027-01-15T08:00:00Z.
const NOW: i64 = 1_800_000_000;

fn issuer(keys: KeySource) -> IssuerConfig {
    IssuerConfig {
        issuer: ISSUER.into(),
        audiences: Audiences::new(vec![AUDIENCE.into()]).unwrap(),
        keys,
        trust_domain: TrustDomain::parse("cluster.local").unwrap(),
        namespaces: None,
        cluster: "Kubernetes".into(),
        max_token_life: Lifetime::from_seconds(24 * 3600).unwrap(),
    }
}

/// The authenticator, its background work not yet run, and its clock.
struct Rig {
    offline: OfflineJwt,
    refresher: Option<KeyRefresher>,
    clock: Arc<TestClock>,
}

impl Rig {
    fn new(issuers: Vec<IssuerConfig>) -> Self {
        let clock = Arc::new(TestClock::at(Timestamp::from_unix(NOW)));
        let metrics = Metrics::new(clock.clone(), &Readiness::default());
        let (offline, refresher) = OfflineJwt::new(issuers, clock.clone(), &metrics);
        Self {
            offline,
            refresher: Some(refresher),
            clock,
        }
    }

    /// With the keys of all issuers fetched once.
    async fn ready(issuers: Vec<IssuerConfig>) -> Self {
        let rig = Self::new(issuers);
        rig.refresh().await;
        for status in rig.offline.key_status() {
            assert_eq!((status.usable, status.failure), (true, None), "{}", status.issuer);
        }
        rig
    }

    async fn refresh(&self) {
        self.refresher.as_ref().unwrap().refresh_once().await;
    }

    fn verdict(&self, token: &str, cluster: Option<&str>) -> Verdict {
        self.offline
            .authenticate(&BearerToken::new(token.to_owned()), cluster, self.clock.now())
    }

    /// What is said of a token, in the words of `tests/vectors/tokens`.
    fn says(&self, token: &str, cluster: Option<&str>) -> String {
        match self.verdict(token, cluster) {
            Verdict::Accepted(caller) => format!("accepted {}", caller.identity()),
            Verdict::NotMine => "not mine".into(),
            Verdict::Rejected(reason) => format!("rejected {}", reason.label),
            Verdict::Undecided(reason) => format!("undecided {}", reason.label),
        }
    }
}

fn file(path: &Path) -> KeySource {
    KeySource::File(path.to_owned())
}

/// An API server's key document, as a test sets it, and how often it was asked for.
#[derive(Clone)]
struct ApiServer {
    answer: Arc<dyn Fn() -> http::Response<String> + Send + Sync>,
    asked: Arc<AtomicUsize>,
}

impl ApiServer {
    fn answering(answer: impl Fn() -> http::Response<String> + Send + Sync + 'static) -> Self {
        Self {
            answer: Arc::new(answer),
            asked: Arc::default(),
        }
    }

    fn with_keys(document: String) -> Self {
        Self::answering(move || http::Response::new(document.clone()))
    }

    fn source(&self) -> KeySource {
        let server = self.clone();
        let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
            server.asked.fetch_add(1, Ordering::SeqCst);
            let answer = match (request.method().as_str(), request.uri().path()) {
                ("GET", "/openid/v1/jwks") => (server.answer)(),
                other => panic!("asked for {other:?}"),
            };
            async { Ok::<_, Infallible>(answer) }
        });
        KeySource::ApiServer(Credentials::Client(kube::Client::new(service, "default")))
    }

    fn times_asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}
