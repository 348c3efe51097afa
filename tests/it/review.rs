//! Token reviews against an API server that answers, refuses, hangs and breaks as told.

mod caches;
mod endings;
mod health;
mod runtimes;
mod sharing;
mod verdicts;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign::issue::authenticate::token_review::{TokenReviewAuthenticator, TokenReviewConfig};
use countersign::issue::authenticate::{Audiences, Verdict};
use countersign::model::{BearerToken, Timestamp, TrustDomain};
use countersign::platform::{Clock, TestClock};
use serde_json::json;

use crate::support::api_server::{Answer, ApiServer};

const NOW: Timestamp = Timestamp::from_unix(1_893_456_000);
/// Far away: a test that runs into it fails by its verdict.
const PATIENCE: Duration = Duration::from_secs(30);

/// An authenticator, its API server and its clock, which stands still.
struct Scene {
    api: ApiServer,
    clock: Arc<TestClock>,
    authenticator: TokenReviewAuthenticator,
}

fn usual() -> TokenReviewConfig {
    let trust_domain = TrustDomain::parse("cluster.local").unwrap();
    TokenReviewConfig {
        time_limit: PATIENCE,
        ..TokenReviewConfig::new(
            Audiences::new(vec!["istio-ca".into(), "other-ca".into()]).unwrap(),
            trust_domain,
            "Kubernetes".into(),
        )
    }
}

impl Scene {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut TokenReviewConfig)) -> Self {
        let api = ApiServer::new();
        let reached = api.reached();
        Self::reaching(api, reached, change)
    }

    fn reaching(
        api: ApiServer,
        reached: countersign::cluster::ApiServer,
        change: impl FnOnce(&mut TokenReviewConfig),
    ) -> Self {
        let mut config = usual();
        change(&mut config);
        let clock = Arc::new(TestClock::at(NOW));
        let authenticator = TokenReviewAuthenticator::new(config, reached, clock.clone());
        Self {
            api,
            clock,
            authenticator,
        }
    }

    fn within(&self, time: Duration) -> Instant {
        self.clock.instant() + time
    }

    async fn verdict(&self, token: &str) -> Verdict {
        self.verdict_within(token, PATIENCE).await
    }

    async fn verdict_within(&self, name: &str, time: Duration) -> Verdict {
        let token = BearerToken::new(token(name));
        self.authenticator
            .authenticate(&token, None, None, self.within(time))
            .await
    }

    /// What the API server says of a token.
    fn answer(&self, name: &str, answer: Answer) {
        self.api.answer(&token(name), answer);
    }

    /// The verdict in a word: the account, the label of a rejection, or a question mark and the label of what is undecided.
    async fn word(&self, token: &str) -> String {
        word(&self.verdict(token).await)
    }

    /// Asks in a task of its own.
    fn asking(&self, name: &str, time: Duration) -> tokio::task::JoinHandle<String> {
        self.asking_from(None, name, time)
    }

    /// The same from an address.
    fn asking_from(&self, peer: Option<IpAddr>, name: &str, time: Duration) -> tokio::task::JoinHandle<String> {
        let (authenticator, deadline) = (self.authenticator.clone(), self.within(time));
        let token = BearerToken::new(token(name));
        tokio::spawn(async move { word(&authenticator.authenticate(&token, None, peer, deadline).await) })
    }
}

fn word(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Accepted(caller) => caller.identity().service_account().into(),
        Verdict::NotMine => "not mine".into(),
        Verdict::Rejected(reason) => reason.label.into(),
        Verdict::Undecided(reason) => format!("?{}", reason.label),
    }
}

/// The token of this name: a JWT that says nothing but it. What begins as a JWT is taken as it is.
fn token(name: &str) -> String {
    match name.starts_with("eyJ") {
        true => name.to_owned(),
        false => jwt(&json!({ "jti": name }).to_string()),
    }
}

/// A token whose payload is this text.
fn jwt(payload: &str) -> String {
    format!("eyJhbGciOiJSUzI1NiJ9.{}.c2lnbmF0dXJl", URL_SAFE_NO_PAD.encode(payload))
}

/// A token that says it ends then.
fn ending(end: Timestamp) -> String {
    jwt(&format!(r#"{{"exp":{}}}"#, end.unix()))
}
