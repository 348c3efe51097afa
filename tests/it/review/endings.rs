//! Reviews that do not come about: undecided, in time, bounded, forgotten at once.

use std::net::IpAddr;
use std::time::Duration;

use serde_json::json;

use super::{PATIENCE, Scene, word};
use crate::support::api_server::{Answer, account, forbidden, refused};

#[tokio::test]
async fn no_failure_is_an_answer_and_none_is_remembered() {
    let status = |code: u16| Answer::Status(code, json!({ "kind": "Status", "message": "no", "code": code }));
    let text = |text: &str| Answer::Bytes(text.as_bytes().to_vec());
    let good = r#""kind":"TokenReview","apiVersion":"authentication.k8s.io/v1""#;
    let cases = [
        ("connection broken", Answer::Breaks, "?review_unreachable"),
        ("400", status(400), "?review_failed"),
        ("401", status(401), "?review_unauthorized"),
        ("403", forbidden(), "?review_forbidden"),
        ("404", status(404), "?review_failed"),
        ("422", status(422), "?review_failed"),
        ("429", status(429), "?review_throttled"),
        ("302", status(302), "?review_failed"),
        ("500", status(500), "?review_failed"),
        ("503", status(503), "?review_failed"),
        ("nothing", text(""), "?review_unreadable"),
        ("words", text("<html>welcome</html>"), "?review_unreadable"),
        (
            "half of it",
            text(&format!("{{{good},\"status\":{{\"authenticated\":true")),
            "?review_unreadable",
        ),
        (
            "more behind it",
            text(&format!("{{{good},\"status\":{{}}}} {{}}")),
            "?review_unreadable",
        ),
        ("no status", text(&format!("{{{good}}}")), "?review_unreadable"),
        (
            "another kind",
            text(r#"{"kind":"Status","apiVersion":"v1","status":"Success"}"#),
            "?review_unreadable",
        ),
        (
            "another version",
            text(r#"{"kind":"TokenReview","apiVersion":"authentication.k8s.io/v2","status":{}}"#),
            "?review_unreadable",
        ),
        (
            "text for a truth",
            text(&format!("{{{good},\"status\":{{\"authenticated\":\"true\"}}}}")),
            "?review_unreadable",
        ),
        (
            "a megabyte",
            text(&format!("{{{good},\"status\":{{}},\"x\":\"{}\"}}", "x".repeat(1 << 20))),
            "?review_unreadable",
        ),
    ];
    let scene = Scene::new();
    for (case, failure, expected) in cases {
        let before = scene.api.calls();
        scene.answer("token", failure);
        assert_eq!(scene.word("token").await, expected, "{case}");
        assert_eq!(scene.word("token").await, expected, "{case}");
        assert_eq!(scene.api.calls(), before + 2, "{case}");
        assert_eq!(scene.authenticator.remembered(), (0, 0), "{case}");
    }
    scene.answer("token", account("shop", "cart"));
    assert_eq!(scene.word("token").await, "cart");
}

#[tokio::test]
async fn a_server_that_hangs_ends_with_the_callers_time() {
    for (number, hangs) in [Answer::Hangs, Answer::HangsInside].into_iter().enumerate() {
        let scene = Scene::with(|config| config.in_flight = 1);
        scene.answer("token", hangs);
        let start = tokio::time::Instant::now();
        let verdict = scene.verdict_within("token", Duration::from_millis(50)).await;
        assert_eq!(word(&verdict), "?review_timeout");
        if number == 0 {
            // The deadline reached the API server: the call was broken off, not left behind.
            scene.api.broken_off(1).await;
        }
        while scene.authenticator.under_way() > 0 {
            tokio::task::yield_now().await;
        }
        // Long before our own limit would have ended it.
        assert!(start.elapsed() < PATIENCE / 3);
        // Its room is free again.
        scene.answer("other", account("shop", "cart"));
        loop {
            match scene.word("other").await.as_str() {
                "cart" => break,
                other => assert_eq!(other, "?reviews_overloaded"),
            }
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn a_server_that_hangs_ends_with_our_own_limit() {
    let scene = Scene::with(|config| config.time_limit = Duration::from_millis(50));
    scene.answer("token", Answer::Hangs);
    let start = tokio::time::Instant::now();
    assert_eq!(scene.word("token").await, "?review_timeout");
    assert!(start.elapsed() < PATIENCE / 3);
    scene.api.broken_off(1).await;
}

#[tokio::test]
async fn a_caller_without_time_starts_nothing() {
    let scene = Scene::new();
    scene.api.answer_others(account("shop", "cart"));
    assert_eq!(
        word(&scene.verdict_within("token", Duration::ZERO).await),
        "?review_timeout"
    );
    assert_eq!(scene.api.calls(), 0);
    assert_eq!(scene.word("token").await, "cart");
    // What is known costs no time.
    assert_eq!(word(&scene.verdict_within("token", Duration::ZERO).await), "cart");
}

fn address(text: &str) -> Option<IpAddr> {
    Some(text.parse().unwrap())
}

#[tokio::test]
async fn reviews_in_flight_are_bounded() {
    let scene = Scene::with(|config| config.in_flight = 2);
    scene.api.answer_others(Answer::Held(Box::new(account("shop", "cart"))));
    let asking = |peer, name| scene.asking_from(address(peer), name, PATIENCE);
    let (one, two) = (asking("10.0.0.1", "one"), asking("10.0.0.2", "two"));
    scene.api.called(2).await;
    for junk in ["three", "four"] {
        assert_eq!(scene.word(junk).await, "?reviews_overloaded");
    }
    // Who wants what is under way already needs no room.
    let joined = asking("10.0.0.2", "one");
    tokio::task::yield_now().await;
    assert_eq!(scene.authenticator.under_way(), 2);
    assert_eq!(scene.authenticator.remembered(), (0, 0));
    scene.api.let_go();
    for caller in [one, two, joined] {
        assert_eq!(caller.await.unwrap(), "cart");
    }
    assert_eq!(scene.api.calls(), 2);
    assert_eq!(scene.word("three").await, "cart");
}

/// Junk of one address, each text another, fills a quarter of the room and no more: the others' good tokens are reviewed.
#[tokio::test]
async fn no_address_starves_the_others() {
    let scene = Scene::with(|config| config.in_flight = 8);
    scene.api.answer_others(Answer::Held(Box::new(refused())));
    let mut flood = Vec::new();
    for number in 0..20 {
        // The same address as sockets for one protocol and for both show it.
        let peer = ["10.0.0.1", "::ffff:10.0.0.1"][number % 2];
        flood.push(scene.asking_from(address(peer), &format!("junk-{number}"), PATIENCE));
    }
    for caller in flood.drain(2..) {
        assert_eq!(caller.await.unwrap(), "?reviews_overloaded");
    }
    assert_eq!(scene.authenticator.under_way(), 2);
    for peer in ["10.0.0.2", "10.0.0.3", "fd00::1"] {
        for number in 0..2 {
            let name = format!("{peer}-{number}");
            scene.answer(&name, account("shop", "cart"));
            let said = scene.asking_from(address(peer), &name, PATIENCE).await.unwrap();
            assert_eq!(said, "cart", "{name}");
        }
    }
    // What ended gives its share back.
    scene.api.let_go();
    for caller in flood {
        assert_eq!(caller.await.unwrap(), "token_refused");
    }
    scene.answer("good", account("shop", "cart"));
    let said = scene.asking_from(address("10.0.0.1"), "good", PATIENCE).await.unwrap();
    assert_eq!(said, "cart");
}
