//! What is remembered, for how long, and how much of it.

use std::time::Duration;

use super::{NOW, Scene, ending, jwt};
use crate::support::api_server::{Answer, account, refused};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn an_acceptance_lasts_ten_seconds() {
    let scene = Scene::new();
    for token in [ending(NOW.plus(3600)), jwt("{}")] {
        let before = scene.api.calls();
        scene.answer(&token, account("shop", "cart"));
        assert_eq!(scene.word(&token).await, "cart");
        // The pod is deleted; the API server would say so now.
        scene.answer(&token, refused());
        scene.clock.pass(SECOND * 10 - Duration::from_millis(1));
        assert_eq!(scene.word(&token).await, "cart");
        assert_eq!(scene.api.calls(), before + 1);
        scene.clock.pass(Duration::from_millis(1));
        assert_eq!(scene.word(&token).await, "token_refused");
    }
}

#[tokio::test]
async fn an_acceptance_ends_with_its_token() {
    let scene = Scene::new();
    for seconds in [5, 3] {
        scene.clock.set(NOW);
        let token = ending(NOW.plus(seconds));
        scene.answer(&token, account("shop", "cart"));
        assert_eq!(scene.word(&token).await, "cart");
        scene.answer(&token, refused());
        scene.clock.set(NOW.plus(seconds - 1));
        assert_eq!(scene.word(&token).await, "cart");
        scene.clock.set(NOW.plus(seconds));
        assert_eq!(scene.word(&token).await, "token_expired");
    }
}

#[tokio::test]
async fn a_rejection_lasts_two_seconds() {
    let scene = Scene::new();
    assert_eq!(scene.word("token").await, "token_refused");
    scene.answer("token", account("shop", "cart"));
    scene.clock.pass(SECOND * 2 - Duration::from_millis(1));
    assert_eq!(scene.word("token").await, "token_refused");
    assert_eq!(scene.api.calls(), 1);
    scene.clock.pass(Duration::from_millis(1));
    assert_eq!(scene.word("token").await, "cart");
}

/// What changed while the API server answered is not seen, so the answer is as old as the question.
#[tokio::test]
async fn time_counts_from_the_question() {
    let scene = Scene::new();
    scene.answer("token", Answer::Held(Box::new(account("shop", "cart"))));
    let asking = scene.asking("token", super::PATIENCE);
    scene.api.called(1).await;
    scene.clock.pass(SECOND * 4);
    scene.api.let_go();
    assert_eq!(asking.await.unwrap(), "cart");
    scene.answer("token", refused());
    scene.clock.pass(SECOND * 6 - Duration::from_millis(1));
    assert_eq!(scene.word("token").await, "cart");
    scene.clock.pass(Duration::from_millis(1));
    assert_eq!(scene.word("token").await, "token_refused");
}

#[tokio::test]
async fn lifetimes_of_nothing_remember_nothing() {
    let scene = Scene::with(|config| {
        config.positive_ttl = Duration::ZERO;
        config.negative_ttl = Duration::ZERO;
    });
    scene.answer("token", account("shop", "cart"));
    for _ in 0..3 {
        assert_eq!(scene.word("token").await, "cart");
        assert_eq!(scene.word("junk").await, "token_refused");
    }
    assert_eq!(scene.api.calls(), 6);
}

#[tokio::test]
async fn a_flood_of_junk_evicts_nothing_good() {
    const GOOD: usize = 100;
    let scene = Scene::with(|config| config.cache_entries = GOOD);
    let good = |number| format!("good-{number}");
    for number in 0..GOOD {
        scene.answer(&good(number), account("shop", "cart"));
        assert_eq!(scene.word(&good(number)).await, "cart");
    }
    assert_eq!(scene.authenticator.remembered(), (GOOD as u64, 0));
    // Not more: the cache's own clock goes on, and a slow machine must be done within the ten seconds of the good ones.
    for number in 0..GOOD * 10 {
        assert_eq!(scene.word(&format!("junk-{number}")).await, "token_refused");
    }
    let (kept, junk) = scene.authenticator.remembered();
    assert_eq!(kept, GOOD as u64);
    assert!(junk <= GOOD as u64, "{junk} rejections remembered");
    let calls = scene.api.calls();
    assert_eq!(calls, GOOD * 11);
    for number in 0..GOOD {
        assert_eq!(scene.word(&good(number)).await, "cart");
    }
    assert_eq!(scene.api.calls(), calls);
}

/// However many good tokens there are, no more than so many are remembered.
#[tokio::test]
async fn acceptances_are_bounded_too() {
    let scene = Scene::with(|config| config.cache_entries = 10);
    scene.api.answer_others(account("shop", "cart"));
    for number in 0..500 {
        assert_eq!(scene.word(&format!("good-{number}")).await, "cart");
    }
    assert!(scene.authenticator.remembered().0 <= 10);
}
