//! Readiness: an API server that refuses us, and one that does so no longer.

use std::time::Duration;

use countersign::cluster::{CallError, ReviewError};
use serde_json::json;

use super::Scene;
use crate::support::api_server::{Answer, account, forbidden, refused};

fn unauthorized() -> Answer {
    Answer::Status(401, json!({ "kind": "Status", "message": "Unauthorized", "code": 401 }))
}

#[tokio::test]
async fn a_refusal_of_ourselves_turns_readiness_off_until_it_ends() {
    for (refusal, word, reason) in [
        (
            forbidden(),
            "?review_forbidden",
            [
                "the API server forbids us token reviews (403): bind our service account to the ClusterRole system:auth-delegator",
                "cannot create",
            ],
        ),
        (
            unauthorized(),
            "?review_unauthorized",
            [
                "the API server refuses our own credentials (401): see that our token is valid and mounted",
                "Unauthorized",
            ],
        ),
    ] {
        let scene = Scene::with(|config| config.probe_every = Duration::from_millis(10));
        let mut health = scene.authenticator.health();
        scene.api.answer_others(refusal);
        assert_eq!(scene.word("token").await, word);
        let why = health.borrow_and_update().clone().unwrap();
        assert_eq!(why.public, reason[0]);
        assert!(reason.iter().all(|part| why.detail.contains(part)), "{why:?}");
        // Nobody calls any more, and still it is seen that it goes on, and that it ends.
        let calls = scene.api.calls();
        scene.api.called(calls + 3).await;
        assert_eq!(health.borrow().as_ref(), Some(&why));
        assert!(!health.has_changed().unwrap());
        scene.api.answer_others(refused());
        health.wait_for(Option::is_none).await.unwrap();
    }
}

#[tokio::test]
async fn a_success_for_any_caller_turns_it_on_again() {
    let scene = Scene::with(|config| config.probe_every = Duration::from_secs(60));
    scene.answer("refused", forbidden());
    scene.answer("broken", Answer::Breaks);
    scene.answer("good", account("shop", "cart"));
    let health = scene.authenticator.health();
    for _ in 0..2 {
        scene.word("refused").await;
        assert!(health.borrow().is_some());
        scene.word("broken").await;
        assert!(health.borrow().is_some());
        scene.word("good").await;
        assert_eq!(*health.borrow(), None);
        // The next round is to ask again.
        scene.clock.pass(Duration::from_secs(11));
    }
}

#[tokio::test]
async fn trouble_that_is_not_ours_leaves_readiness_alone() {
    let scene = Scene::new();
    for (number, failure) in [
        Answer::Breaks,
        Answer::Status(500, json!({})),
        Answer::Status(429, json!({})),
        refused(),
    ]
    .into_iter()
    .enumerate()
    {
        let token = format!("token-{number}");
        scene.answer(&token, failure);
        scene.word(&token).await;
        assert_eq!(*scene.authenticator.health().borrow(), None);
    }
}

#[tokio::test]
async fn a_probe_tells_whether_we_may_ask() {
    let scene = Scene::new();
    assert_eq!(scene.authenticator.probe().await, Ok(()));
    scene.api.answer_others(forbidden());
    assert!(matches!(
        scene.authenticator.probe().await,
        Err(ReviewError::Call(CallError::Forbidden(_)))
    ));
    assert!(scene.authenticator.health().borrow().is_some());
    assert_eq!(scene.authenticator.remembered(), (0, 0));
}

/// Whoever drops the authenticator ends its probing.
#[tokio::test]
async fn probing_ends_with_the_authenticator() {
    let scene = Scene::with(|config| config.probe_every = Duration::from_millis(1));
    scene.api.answer_others(forbidden());
    scene.word("token").await;
    scene.api.called(3).await;
    let mut health = scene.authenticator.health();
    let Scene { authenticator, .. } = scene;
    drop(authenticator);
    // The channel closes when the last task that could hold it is gone.
    while health.changed().await.is_ok() {}
}
