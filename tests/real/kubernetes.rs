//! Tokens that a kube-apiserver made: reviewed by it, or verified with the keys that it publishes.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use crate::support::cluster::{ISSUER, cluster};
use crate::support::countersign::{Countersign, keys_of_cluster, reviewed_by, verified_offline, with};
use crate::support::openssl::rsa_key;
use crate::support::pods::{AUDIENCE, Reviewer, ending_in, resigned};
use crate::support::process::scratch;
use crate::support::scene::Scene;
use crate::support::wait::{PATIENCE, until};

/// No part of the token that could be used or looked up.
fn assert_not_in(log: &str, token: &str) {
    // The header says the same in every token.
    for part in token.split('.').skip(1) {
        assert!(!log.contains(&part[..24]), "the log shows a token:\n{log}");
    }
}

#[test]
fn a_reviewed_token_gets_a_certificate_and_a_line_in_the_log() {
    // Every library's every word, too.
    let chatty = json!({"logging": {"level": "trace"}});
    let scene = Scene::reviewed_by(&cluster().server, &Reviewer::new(), chatty);
    let token = scene.pod.token();
    scene.sign(&token).assert_good();

    let pod = &scene.pod;
    let line = scene.server.event("issued");
    let expected = [
        ("identity", pod.identity()),
        ("caller", pod.identity()),
        ("method", "token_review".into()),
        ("cluster", "Kubernetes".into()),
        ("pod", pod.name.clone()),
        ("pod_uid", pod.uid.clone()),
        ("node", pod.node.clone()),
    ];
    for (key, value) in expected {
        assert_eq!(line[key], value, "{key} in {line}");
    }
    assert!(line["credential_id"].as_str().unwrap().starts_with("JTI="), "{line}");
    assert!(line["peer"].as_str().unwrap().starts_with("127.0.0.1:"), "{line}");
    assert_eq!(
        scene.server.metric("citadel_server_success_cert_issuance_count"),
        Some(1.0)
    );

    let other = scene.pod.token_for("somebody-else", &cluster().server);
    scene.assert_refused(&other, "token_audience");
    for token in [&token, &other] {
        assert_not_in(&scene.server.log(), token);
    }
}

#[test]
fn a_reviewed_token_for_another_audience_is_refused() {
    let reviewer = Reviewer::new();
    let scene = Scene::reviewing(&reviewer);
    let reviews = || cluster().server.reviews_by(&reviewer.user());
    let before = until("the first review", PATIENCE, || {
        Some(reviews()).filter(|number| *number > 0)
    });
    for audience in ["somebody-else", ISSUER] {
        let token = scene.pod.token_for(audience, &cluster().server);
        scene.assert_refused(&token, "token_audience: the token says that it is meant for others");
    }
    assert_eq!(reviews(), before, "it costs no review");
    // Whoever changes that word breaks the signature.
    let other_key = scene.place.path().join("other.key");
    rsa_key(&other_key, 2048);
    let ours = resigned(&scene.pod.token(), &other_key, |_| ());
    scene.assert_refused(&ours, "token_refused: the API server does not accept the token");
}

#[test]
fn only_service_accounts_are_certified() {
    let audiences = json!({"authentication": {"tokenReview": {"audiences": [ISSUER]}}});
    let scene = Scene::reviewed_by(&cluster().server, &Reviewer::new(), audiences);
    // The API server knows its administrator, by a token that no service account has.
    scene.assert_refused(cluster().server.admin_token(), "token_malformed");
    let token = scene.pod.token_for(ISSUER, &cluster().server);
    scene.sign(&token).assert_good();
}

#[test]
fn an_expired_token_is_refused_and_none_is_remembered_past_its_end() {
    let reviewer = Reviewer::new();
    let scene = Scene::reviewing(&reviewer);
    let token = scene.pod.token();
    // The API server's own clock may be a minute off.
    let expired = ending_in(-90, &token, cluster());
    scene.assert_refused(&expired, "token_expired");

    let short = ending_in(5, &token, cluster());
    scene.sign(&short).assert_good();
    let started = Instant::now();
    let reviews = || cluster().server.reviews_by(&reviewer.user());
    let before = reviews();
    scene.sign(&short).assert_good();
    assert_eq!(reviews(), before, "it is remembered");
    // It would be remembered for 10 s.
    until("another review", Duration::from_secs(7), || {
        scene.sign(&short);
        (reviews() > before).then_some(())
    });
    assert!(started.elapsed() > Duration::from_secs(3), "it was forgotten too early");
}

#[test]
fn a_deleted_pod_is_refused_soon() {
    let scene = Scene::reviewing(&Reviewer::new());
    let token = scene.pod.token();
    scene.sign(&token).assert_good();
    scene.pod.delete();
    // The API server remembers for 10 s, and so do we, of what it said last.
    let refusal = scene.server.refusal(|| {
        until("the refusal", Duration::from_secs(22), || {
            let signed = scene.sign(&token);
            (!signed.ok).then(|| signed.assert_refused("Unauthenticated", 1))
        });
    });
    assert!(refusal.starts_with("token_refused"), "{refusal}");
}

#[test]
fn parallel_calls_with_one_token_cost_one_review() {
    let reviewer = Reviewer::new();
    let scene = Scene::reviewing(&reviewer);
    let reviews = || cluster().server.reviews_by(&reviewer.user());
    // It looked once whether it may ask.
    let before = until("the first review", PATIENCE, || {
        Some(reviews()).filter(|number| *number > 0)
    });
    for (token, good) in [(scene.pod.token(), true), (format!("{}x", scene.pod.token()), false)] {
        let already = reviews();
        let peer = scene.peer(&token);
        std::thread::scope(|scope| {
            let calls: Vec<_> = (0..8).map(|_| scope.spawn(|| peer.sign())).collect();
            for call in calls {
                let signed = call.join().unwrap();
                if good {
                    signed.assert_good();
                } else {
                    signed.assert_refused("Unauthenticated", 1);
                }
            }
        });
        // And one that comes when they are done.
        assert_eq!(peer.sign().ok, good);
        assert_eq!(reviews() - already, 1, "good: {good}");
    }
    assert_eq!(reviews(), before + 2);
}

#[test]
fn without_the_right_to_review_it_is_not_ready_says_why_and_recovers() {
    let (reviewer, place) = (Reviewer::without_rights(), scratch());
    let settings = reviewed_by(&cluster().server, &reviewer, place.path());
    let scene = Scene::of(Countersign::start_unready(settings), place);
    let unready = |scene: &Scene| {
        until("the reason", PATIENCE, || {
            let answer = scene.server.readiness();
            (answer.status == 503 && answer.body.contains("403")).then_some(answer.body)
        })
    };
    let told = unready(&scene);
    for part in ["[failed] token-review", "token reviews (403)", "system:auth-delegator"] {
        assert!(told.contains(part), "{part} is missing in {told}");
    }
    // What the API server says, our own account's name in it, is for the log.
    assert!(!told.contains("cannot create"), "{told}");
    assert!(scene.server.log().contains("cannot create"), "{}", scene.server.log());
    let refusal = scene
        .server
        .refusal(|| scene.sign(&scene.pod.token()).assert_refused("Unavailable", 5));
    assert!(refusal.starts_with("review_forbidden"), "{refusal}");

    reviewer.grant();
    let ready = |scene: &Scene| {
        until("readiness", PATIENCE, || {
            (scene.server.readiness().status == 200).then_some(())
        });
    };
    ready(&scene);
    scene.sign(&scene.pod.token()).assert_good();

    // What is remembered goes on, what is new does not.
    reviewer.revoke();
    until("the first refusal", PATIENCE, || {
        let signed = scene.sign(&scene.pod.token());
        (!signed.ok).then(|| signed.assert_refused("Unavailable", 5))
    });
    unready(&scene);
    reviewer.grant();
    ready(&scene);
    scene.sign(&scene.pod.token()).assert_good();
}

#[test]
fn an_api_server_that_hangs_or_is_gone_makes_callers_come_back() {
    let reviewer = Reviewer::new();
    let mut api_server = cluster().another_server("hanging", &["tokens.key"]);
    let quick = Scene::reviewed_by(&api_server, &reviewer, json!({"listen": {"callSeconds": 1}}));
    let small = json!({"listen": {"callsInFlight": 1, "callSeconds": 10}});
    let full = Scene::reviewed_by(&api_server, &reviewer, small);
    quick.sign(&quick.pod.token()).assert_good();

    api_server.process.signal(Signal::STOP);
    let (waiting, other) = (quick.pod.token(), full.pod.token());
    let signed = quick.sign(&waiting);
    signed.assert_refused("Unavailable", 5);
    // Five calls of a second each, and the client's own pauses.
    assert!((4.5..10.0).contains(&signed.seconds), "{signed:?}");
    // One call that waits fills this one.
    std::thread::scope(|scope| {
        let first = scope.spawn(|| full.sign(&other));
        until("the first call", PATIENCE, || {
            (full.server.metric("countersign_calls_in_flight") == Some(1.0)).then_some(())
        });
        let second = full.sign(&other);
        second.assert_refused("ResourceExhausted", 5);
        assert!(second.seconds < 4.0, "{second:?}");
        api_server.process.signal(Signal::CONT);
        // It gets its answer when the API server wakes up in time, or at the next attempt.
        let first = first.join().unwrap();
        assert!(first.ok && first.attempts <= 2, "{first:?}");
    });
    until("the return", PATIENCE, || quick.sign(&waiting).ok.then_some(()));

    api_server.process.kill();
    let signed = quick.sign(&quick.pod.token());
    signed.assert_refused("Unavailable", 5);
    // Nobody is not ready because of that: then nobody would see it return.
    assert_eq!(quick.server.readiness().status, 200);
    api_server.restart(&["tokens.key"]);
    quick.sign(&quick.pod.token()).assert_good();
}

#[test]
fn tokens_are_verified_offline_with_the_api_servers_keys() {
    // Kubernetes lets every service account read the keys.
    let (reader, place) = (Reviewer::without_rights(), scratch());
    let kubeconfig = reader.kubeconfig(place.path(), &cluster().server);
    let scene = Scene::of(Countersign::start(keys_of_cluster(&kubeconfig)), place);
    scene.sign(&scene.pod.token()).assert_good();
    let line = scene.server.event("issued");
    let pod = &scene.pod;
    let expected = [
        ("identity", pod.identity()),
        ("method", "offline_jwt".into()),
        ("cluster", "Kubernetes".into()),
        ("pod", pod.name.clone()),
        ("pod_uid", pod.uid.clone()),
        ("node", pod.node.clone()),
    ];
    for (key, value) in expected {
        assert_eq!(line[key], value, "{key} in {line}");
    }
}

#[test]
fn offline_a_token_must_be_current_meant_for_us_and_signed_by_the_cluster() {
    let scene = Scene::offline(json!({}));
    let token = scene.pod.token();
    let other_key = scene.place.path().join("other.key");
    rsa_key(&other_key, 2048);
    let cases = [
        (
            scene.pod.token_for("somebody-else", &cluster().server),
            "token_audience",
        ),
        (ending_in(-60, &token, cluster()), "token_expired"),
        (resigned(&token, &other_key, |_| ()), "token_signature"),
        (
            // As if an administrator had asked for years.
            resigned(&token, &cluster().token_key(), |claims| {
                claims["exp"] = json!(claims["iat"].as_i64().unwrap() + 30 * 86_400);
            }),
            "token_life",
        ),
        (
            resigned(&token, &cluster().token_key(), |claims| {
                claims["sub"] = json!("system:serviceaccount:kube-system:admin");
            }),
            "token_subject",
        ),
    ];
    for (token, reason) in cases {
        scene.assert_refused(&token, reason);
        assert_not_in(&scene.server.log(), &token);
    }
    scene.sign(&token).assert_good();
}

#[test]
fn a_key_that_the_api_server_withdraws_stops_and_its_successor_works() {
    cluster().new_token_key("successor.key");
    let mut api_server = cluster().another_server("rotating", &["tokens.key"]);
    let place = scratch();
    let kubeconfig = place.path().join("kubeconfig");
    // The token of a service account would be withdrawn with the key.
    std::fs::write(&kubeconfig, api_server.kubeconfig(api_server.admin_token())).unwrap();
    let scene = Scene::of(Countersign::start(keys_of_cluster(&kubeconfig)), place);
    let old = scene.pod.token();
    scene.sign(&old).assert_good();

    api_server.restart(&["successor.key"]);
    let new = scene.pod.token_for(AUDIENCE, &api_server);
    // Keys are fetched again at most every 30 s.
    until("the new key", Duration::from_secs(40), || {
        scene.sign(&new).ok.then_some(())
    });
    scene.assert_refused(&old, "token_key_unknown");
}

#[test]
fn where_tokens_are_verified_offline_none_is_sent_to_the_api_server() {
    let reviewer = Reviewer::new();
    let place = scratch();
    let both = with(
        reviewed_by(&cluster().server, &reviewer, place.path()),
        verified_offline(place.path()),
    );
    let scene = Scene::of(Countersign::start(both), place);
    let reviews = || cluster().server.reviews_by(&reviewer.user());
    let before = until("the first review", PATIENCE, || {
        Some(reviews()).filter(|number| *number > 0)
    });
    let token = scene.pod.token();
    scene.sign(&token).assert_good();
    scene.assert_refused(&ending_in(-60, &token, cluster()), "token_expired");
    assert_eq!(reviews(), before);
    // What is of no known issuer is the API server's business.
    let foreign = resigned(&token, &cluster().token_key(), |claims| {
        claims["iss"] = json!("https://elsewhere.test");
    });
    scene.assert_refused(&foreign, "token_refused");
    assert_eq!(reviews(), before + 1);
}
