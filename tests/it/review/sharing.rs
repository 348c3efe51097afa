//! One review for all who ask the same, whatever becomes of each of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use countersign::model::BearerToken;

use super::{PATIENCE, Scene, token, word};
use crate::support::api_server::{Answer, account};

fn held() -> Answer {
    Answer::Held(Box::new(account("shop", "cart")))
}

/// Nothing is remembered, so what these tests count is sharing alone.
fn forgetful() -> Scene {
    Scene::with(|config| config.positive_ttl = Duration::ZERO)
}

#[tokio::test]
async fn a_thousand_callers_one_review() {
    let scene = forgetful();
    scene.answer("token", held());
    let waiting = Arc::new(AtomicUsize::new(0));
    let callers: Vec<_> = (0..1000)
        .map(|_| {
            let (authenticator, deadline, waiting) =
                (scene.authenticator.clone(), scene.within(PATIENCE), waiting.clone());
            tokio::spawn(async move {
                let token = BearerToken::new(token("token"));
                waiting.fetch_add(1, Ordering::Relaxed);
                word(&authenticator.authenticate(&token, None, None, deadline).await)
            })
        })
        .collect();
    // On this one thread, who has counted itself waits for the review.
    while waiting.load(Ordering::Relaxed) < 1000 {
        tokio::task::yield_now().await;
    }
    scene.api.let_go();
    for caller in callers {
        assert_eq!(caller.await.unwrap(), "cart");
    }
    assert_eq!(scene.api.calls(), 1);
    assert_eq!(scene.authenticator.under_way(), 0);
}

#[tokio::test]
async fn other_tokens_share_nothing() {
    let scene = forgetful();
    for name in ["cart", "till"] {
        scene.answer(name, Answer::Held(Box::new(account("shop", name))));
    }
    let (cart, till) = (scene.asking("cart", PATIENCE), scene.asking("till", PATIENCE));
    scene.api.called(2).await;
    scene.api.let_go();
    assert_eq!(
        (cart.await.unwrap(), till.await.unwrap()),
        ("cart".into(), "till".into())
    );
}

#[tokio::test]
async fn a_leader_that_goes_away_takes_nobody_along() {
    let scene = forgetful();
    scene.answer("token", held());
    let leader = scene.asking("token", PATIENCE);
    scene.api.called(1).await;
    let follower = scene.asking("token", PATIENCE);
    tokio::task::yield_now().await;
    leader.abort();
    assert!(leader.await.unwrap_err().is_cancelled());
    scene.api.let_go();
    assert_eq!(follower.await.unwrap(), "cart");
    assert_eq!(scene.api.calls(), 1);
}

/// The one who asked first has less time than the one who joined: the review goes on for the latter.
#[tokio::test]
async fn a_leader_that_runs_out_of_time_takes_nobody_along() {
    let scene = forgetful();
    scene.answer("token", held());
    let leader = scene.asking("token", Duration::from_millis(300));
    scene.api.called(1).await;
    let follower = scene.asking("token", PATIENCE);
    assert_eq!(leader.await.unwrap(), "?review_timeout");
    // Someone else's time passes: no work outlives the leader that long unless it is for the follower.
    let third = scene.verdict_within("token", Duration::from_millis(200)).await;
    assert_eq!(word(&third), "?review_timeout");
    scene.api.let_go();
    assert_eq!(follower.await.unwrap(), "cart");
    assert_eq!(scene.api.calls(), 1);
}

#[tokio::test]
async fn a_follower_keeps_its_own_deadline() {
    let scene = forgetful();
    scene.answer("token", held());
    let leader = scene.asking("token", PATIENCE);
    scene.api.called(1).await;
    let start = tokio::time::Instant::now();
    let verdict = scene.verdict_within("token", Duration::from_millis(50)).await;
    assert_eq!(word(&verdict), "?review_timeout");
    assert!(start.elapsed() < PATIENCE / 3);
    scene.api.let_go();
    assert_eq!(leader.await.unwrap(), "cart");
    assert_eq!(scene.api.calls(), 1);
}

#[tokio::test]
async fn a_panic_below_is_an_error_to_everyone_and_over_with_the_next_call() {
    let scene = forgetful();
    scene.answer("token", Answer::Held(Box::new(Answer::Panics)));
    let callers = [scene.asking("token", PATIENCE), scene.asking("token", PATIENCE)];
    scene.api.called(1).await;
    scene.api.let_go();
    for caller in callers {
        assert_eq!(caller.await.unwrap(), "?review_unreachable");
    }
    assert_eq!(scene.authenticator.under_way(), 0);
    // The library's queue survives what its service did.
    scene.answer("token", account("shop", "cart"));
    assert_eq!(scene.word("token").await, "cart");
}
