//! Where keys come from, and how long they last. Time is virtual: a span passes when nothing else is left to do.

mod bundle;
mod http;

use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use countersign::issue::authenticate::Verdict;
use countersign::issue::authenticate::offline::{KeyStatus, origin};
use countersign::model::{BearerToken, Timestamp};
use countersign::platform::Clock;
use countersign::platform::shutdown::{ShutdownTrigger, shutdown};

use super::super::support::tokens::{TestKey, Token, key_set};
use super::{ApiServer, NOW, Rig, file, issuer};

const CART: &str = "accepted spiffe://cluster.local/ns/shop/sa/cart";

/// An API server whose keys change; `None` is a failure of its own.
#[derive(Clone)]
struct Changing(Arc<Mutex<Option<String>>>, ApiServer);

impl Changing {
    fn new(document: String) -> Self {
        let document = Arc::new(Mutex::new(Some(document)));
        let shown = document.clone();
        let server = ApiServer::answering(move || match shown.lock().unwrap().clone() {
            Some(document) => ::http::Response::new(document),
            None => ::http::Response::builder().status(500).body(String::new()).unwrap(),
        });
        Self(document, server)
    }

    fn set(&self, document: Option<String>) {
        *self.0.lock().unwrap() = document;
    }
}

impl Rig {
    /// Starts the background work.
    fn run(&mut self) -> ShutdownTrigger {
        let (trigger, shutdown) = shutdown();
        tokio::spawn(self.refresher.take().unwrap().run(shutdown));
        trigger
    }

    /// Lets a span pass on all clocks, second by second.
    async fn pass(&self, span: Duration) {
        for _ in 0..span.as_secs() {
            self.clock.pass(Duration::from_secs(1));
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    fn status(&self) -> KeyStatus {
        self.offline.key_status().remove(0)
    }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn minutes(minutes: u64) -> Duration {
    seconds(60 * minutes)
}

/// Good all day.
fn token(key: &TestKey) -> String {
    Token::new(NOW).claim("exp", NOW + 86_400).mint(key)
}

#[tokio::test(start_paused = true)]
async fn until_keys_are_there_nothing_is_decided() {
    let key = TestKey::p256("key");
    let mut rig = Rig::new(vec![issuer(ApiServer::with_keys(key_set(&[&key])).source())]);
    assert_eq!(rig.says(&token(&key), None), "undecided keys_unavailable");
    assert_eq!((rig.status().usable, rig.status().fetched), (false, None));
    let _running = rig.run();
    rig.pass(seconds(1)).await;
    assert_eq!(rig.says(&token(&key), None), CART);
    assert!(rig.status().usable);
}

#[tokio::test(start_paused = true)]
async fn a_withdrawn_key_stops_with_the_next_refresh() {
    let (old, new) = (TestKey::p256("old"), TestKey::p256("new"));
    let server = Changing::new(key_set(&[&old, &new]));
    let mut rig = Rig::new(vec![issuer(server.1.source())]);
    let _running = rig.run();
    rig.pass(seconds(1)).await;
    server.set(Some(key_set(&[&new])));
    rig.pass(seconds(290)).await;
    assert_eq!(rig.says(&token(&old), None), CART);
    rig.pass(seconds(11)).await;
    assert_eq!(rig.says(&token(&old), None), "rejected token_key_unknown");
    assert_eq!(rig.says(&token(&new), None), CART);
    assert_eq!(server.1.times_asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_new_key_is_fetched_when_a_token_names_it() {
    let (old, new) = (TestKey::p256("old"), TestKey::p256("new"));
    let server = Changing::new(key_set(&[&old]));
    let mut rig = Rig::new(vec![issuer(server.1.source())]);
    let _running = rig.run();
    rig.pass(seconds(1)).await;
    // The set is fresh: there is no such key.
    assert_eq!(rig.says(&token(&new), None), "rejected token_key_unknown");
    server.set(Some(key_set(&[&old, &new])));
    rig.pass(seconds(60)).await;
    assert_eq!(server.1.times_asked(), 1);
    assert_eq!(rig.says(&token(&new), None), "undecided token_key_unknown_yet");
    rig.pass(seconds(1)).await;
    assert_eq!(rig.says(&token(&new), None), CART);
    assert_eq!(server.1.times_asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_unknown_keys_causes_a_trickle_of_fetches() {
    let (key, new) = (TestKey::p256("key"), TestKey::p256("new"));
    let server = Changing::new(key_set(&[&key]));
    let mut rig = Rig::new(vec![issuer(server.1.source())]);
    let _running = rig.run();
    for second in 0..3600 {
        rig.pass(seconds(1)).await;
        for number in 0..3 {
            let junk = Token::new(NOW)
                .header("kid", format!("{second}-{number}"))
                .header("alg", "ES256");
            let said = rig.says(&junk.mint(&key), None);
            assert!(
                said == "rejected token_key_unknown" || said == "undecided token_key_unknown_yet",
                "{said}"
            );
        }
    }
    // One every 30 s.
    assert!(
        (119..=121).contains(&server.1.times_asked()),
        "{}",
        server.1.times_asked()
    );
    assert_eq!(rig.says(&token(&key), None), CART);
    // In its midst a really new key is known as soon as the pause ends.
    server.set(Some(key_set(&[&key, &new])));
    rig.says(&token(&new), None);
    rig.pass(seconds(31)).await;
    assert_eq!(rig.says(&token(&new), None), CART);
}

#[tokio::test(start_paused = true)]
async fn the_last_good_keys_are_kept_for_an_hour_and_no_longer() {
    let key = TestKey::p256("key");
    let server = Changing::new(key_set(&[&key]));
    let mut rig = Rig::new(vec![issuer(server.1.source())]);
    let _running = rig.run();
    rig.pass(seconds(1)).await;
    let fetched = rig.status().fetched.unwrap();
    server.set(None);
    rig.pass(minutes(59)).await;
    assert_eq!(rig.says(&token(&key), None), CART);
    let status = rig.status();
    assert_eq!((status.usable, status.fetched), (true, Some(fetched)));
    assert_eq!(
        status.failure.map(|trouble| trouble.detail).as_deref(),
        Some("/openid/v1/jwks answered with status 500 Internal Server Error")
    );
    rig.pass(minutes(1)).await;
    assert_eq!(rig.says(&token(&key), None), CART);
    rig.pass(seconds(1)).await;
    assert_eq!(rig.says(&token(&key), None), "undecided keys_unavailable");
    assert!(!rig.status().usable);
    // It was asked again and again, from some seconds on every 30.
    assert!(
        (112..=118).contains(&server.1.times_asked()),
        "{}",
        server.1.times_asked()
    );
    server.set(Some(key_set(&[&key])));
    rig.pass(seconds(31)).await;
    assert_eq!(rig.says(&token(&key), None), CART);
    assert_eq!(rig.status().failure, None);
}

/// Should the background work die, keys still end.
#[tokio::test]
async fn keys_end_even_if_nobody_refreshes_them() {
    let key = TestKey::p256("key");
    let rig = Rig::ready(vec![issuer(ApiServer::with_keys(key_set(&[&key])).source())]).await;
    rig.clock.pass(minutes(60));
    assert_eq!(rig.says(&token(&key), None), CART);
    rig.clock.pass(seconds(1));
    assert_eq!(rig.says(&token(&key), None), "undecided keys_unavailable");
}

/// The age of keys is measured on the monotonic clock.
#[tokio::test]
async fn keys_do_not_age_with_the_wall_clock() {
    let key = TestKey::p256("key");
    let rig = Rig::ready(vec![issuer(ApiServer::with_keys(key_set(&[&key])).source())]).await;
    rig.clock.set(Timestamp::from_unix(NOW + 7200));
    assert_eq!(rig.says(&token(&key), None), CART);
}

#[tokio::test]
async fn a_file_is_read_anew_and_a_broken_one_changes_nothing() {
    let (old, new) = (TestKey::p256("old"), TestKey::p256("new"));
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys.json");
    let rig = Rig::new(vec![issuer(file(&path))]);
    rig.refresh().await;
    let failure = rig.status().failure.unwrap();
    assert!(failure.detail.contains("keys.json"), "{failure:?}");

    std::fs::write(&path, key_set(&[&old])).unwrap();
    rig.refresh().await;
    assert_eq!(
        rig.says(&Token::new(NOW).without("kubernetes.io").mint(&old), None),
        CART
    );

    std::fs::write(&path, &key_set(&[&new])[..40]).unwrap();
    rig.refresh().await;
    assert_eq!(rig.says(&token(&old), None), CART);
    assert!(rig.status().failure.is_some());

    std::fs::write(&path, key_set(&[&new])).unwrap();
    rig.refresh().await;
    assert_eq!(rig.says(&token(&old), None), "rejected token_key_unknown");
    assert_eq!(rig.says(&token(&new), None), CART);
}

/// What an administrator needs to find the issuer's missing key; short, whatever a stranger sends.
#[tokio::test]
async fn an_unknown_key_is_named() {
    let rig = Rig::ready(vec![issuer(
        ApiServer::with_keys(key_set(&[&TestKey::p256("a")])).source(),
    )])
    .await;
    let stranger = TestKey::p256(&"b".repeat(500));
    let token = BearerToken::new(token(&stranger));
    let Verdict::Rejected(reason) = rig.offline.authenticate(&token, None, rig.clock.now()) else {
        panic!()
    };
    let name = "b".repeat(100);
    let issuer = "https://kubernetes.default.svc.cluster.local";
    assert_eq!(
        reason.detail,
        format!("no key of the issuer {issuer:?} is the one that the token names, kid {name:?}")
    );
    assert_eq!(origin(&token), format!("iss {issuer:?}, kid {name:?}"));
    for nothing in ["", "opaque", "a.b.c", "e30.e30.x"] {
        assert_eq!(
            origin(&BearerToken::new(nothing.into())),
            "nothing: it is not a JSON Web Token"
        );
    }
}

#[tokio::test]
async fn public_keys_in_pem_are_keys() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/keys/rsa-2048.pub.pem");
    let rig = Rig::ready(vec![issuer(file(&path))]).await;
    // The name that an API server started with this file gives the key.
    let named = TestKey::rsa("uJpO-gHmCAVUHFTGbhxCBGjyUvkL5mT2iO9YMILLRCs");
    assert_eq!(rig.says(&token(&named), None), CART);
    assert_eq!(
        rig.says(&token(&TestKey::rsa("other")), None),
        "rejected token_key_unknown"
    );
}
