//! What follows from what the API server says.

use countersign::issue::authenticate::{Method, Pod, Verdict};
use countersign::model::BearerToken;
use serde_json::{Value, json};

use super::{NOW, PATIENCE, Scene, ending, jwt, token, word};
use crate::support::api_server::{Answer, account};

#[tokio::test]
async fn the_question_is_what_kubernetes_expects() {
    let scene = Scene::new();
    scene.answer("token", account("shop", "cart"));
    assert_eq!(scene.word("token").await, "cart");
    assert_eq!(
        scene.api.last_question(),
        json!({
            "method": "POST",
            "path": "/apis/authentication.k8s.io/v1/tokenreviews",
            "authorization": null,
            "body": {
                "apiVersion": "authentication.k8s.io/v1",
                "kind": "TokenReview",
                "spec": { "token": token("token"), "audiences": ["istio-ca", "other-ca"] },
            },
        })
    );
}

#[tokio::test]
async fn the_proof_tells_pod_node_and_credential() {
    let scene = Scene::new();
    let token = ending(NOW.plus(3600));
    let key = |name: &str| format!("authentication.kubernetes.io/{name}");
    let Answer::Review(mut status) = account("shop", "cart.v2") else {
        unreachable!()
    };
    status["user"]["extra"] = json!({
        key("pod-name"): ["cart-7d"], key("pod-uid"): ["0a1b"], key("node-name"): ["node-1"], key("credential-id"): ["JTI=5e"],
    });
    scene.answer(&token, Answer::Review(status.clone()));
    let Verdict::Accepted(caller) = scene.verdict(&token).await else {
        panic!("refused")
    };
    assert_eq!(
        caller.identity().to_string(),
        "spiffe://cluster.local/ns/shop/sa/cart.v2"
    );
    let proof = caller.proof();
    assert_eq!(proof.method, Method::TokenReview);
    assert_eq!(proof.cluster.as_deref(), Some("Kubernetes"));
    assert_eq!(
        proof.pod,
        Some(Pod {
            name: "cart-7d".into(),
            uid: "0a1b".into()
        })
    );
    assert_eq!(proof.node.as_deref(), Some("node-1"));
    assert_eq!(proof.credential_id.as_deref(), Some("JTI=5e"));
    assert_eq!(proof.expires, Some(NOW.plus(3600)));

    // Half a pod is no pod.
    status["user"]["extra"] = json!({ key("pod-name"): ["cart-7d"], key("pod-uid"): [""], key("node-name"): [] });
    scene.answer("plain", Answer::Review(status));
    let Verdict::Accepted(caller) = scene.verdict("plain").await else {
        panic!("refused")
    };
    let proof = caller.proof();
    assert_eq!(
        (&proof.pod, &proof.node, &proof.credential_id, proof.expires),
        (&None, &None, &None, None)
    );
}

/// One thing changed in a good answer at a time.
#[tokio::test]
async fn every_rule_is_asked_for() {
    let user = |name: &str| json!({ "user": { "username": name } });
    let cases: Vec<(&str, Value, &str)> = vec![
        ("nothing", json!({}), "cart"),
        ("the other audience", json!({ "audiences": ["other-ca"] }), "cart"),
        (
            "one audience more",
            json!({ "audiences": ["vault", "istio-ca"] }),
            "cart",
        ),
        ("an error that is empty", json!({ "error": "" }), "cart"),
        ("not authenticated", json!({ "authenticated": false }), "token_refused"),
        (
            "authenticated absent",
            json!({ "authenticated": null }),
            "token_refused",
        ),
        (
            "an error all the same",
            json!({ "error": "webhook failed" }),
            "token_refused",
        ),
        ("another audience", json!({ "audiences": ["vault"] }), "token_audience"),
        (
            "nearly our audience",
            json!({ "audiences": ["istio-ca2", "ISTIO-CA", "istio-ca "] }),
            "token_audience",
        ),
        ("no audience", json!({ "audiences": [] }), "token_audience"),
        ("audiences absent", json!({ "audiences": null }), "token_audience"),
        ("no user", json!({ "user": null }), "token_not_service_account"),
        (
            "groups absent",
            json!({ "user": { "groups": null } }),
            "token_not_service_account",
        ),
        (
            "only the namespace's group",
            json!({ "user": { "groups": ["system:serviceaccounts:shop"] } }),
            "token_not_service_account",
        ),
        ("a person in the group", user("jane"), "token_not_service_account"),
        ("a node", user("system:node:node-1"), "token_not_service_account"),
        ("no name", user(""), "token_not_service_account"),
        (
            "another prefix",
            user("serviceaccount:shop:cart"),
            "token_not_service_account",
        ),
        (
            "a prefix before",
            user("x:system:serviceaccount:shop:cart"),
            "token_not_service_account",
        ),
        (
            "capitals in the prefix",
            user("System:serviceaccount:shop:cart"),
            "token_not_service_account",
        ),
        (
            "three parts",
            user("system:serviceaccount:shop"),
            "token_not_service_account",
        ),
        (
            "five parts",
            user("system:serviceaccount:shop:cart:x"),
            "token_not_service_account",
        ),
        (
            "no namespace",
            user("system:serviceaccount::cart"),
            "token_not_service_account",
        ),
        (
            "no account",
            user("system:serviceaccount:shop:"),
            "token_not_service_account",
        ),
        (
            "a path in the namespace",
            user("system:serviceaccount:shop/sa/till:cart"),
            "token_not_service_account",
        ),
        (
            "a path in the account",
            user("system:serviceaccount:shop:cart/../till"),
            "token_not_service_account",
        ),
        (
            "capitals",
            user("system:serviceaccount:shop:Cart"),
            "token_not_service_account",
        ),
        (
            "a dot in the namespace",
            user("system:serviceaccount:shop.x:cart"),
            "token_not_service_account",
        ),
        (
            "a newline",
            user("system:serviceaccount:shop:cart\n"),
            "token_not_service_account",
        ),
        (
            "a namespace too long",
            user(&format!("system:serviceaccount:{}:cart", "n".repeat(64))),
            "token_not_service_account",
        ),
    ];
    let scene = Scene::new();
    for (case, change, expected) in cases {
        let Answer::Review(mut status) = account("shop", "cart") else {
            unreachable!()
        };
        merge(&mut status, change);
        let token = format!("token-{}", case.replace(' ', "-"));
        scene.answer(&token, Answer::Review(status));
        assert_eq!(scene.word(&token).await, expected, "{case}");
    }
}

fn merge(into: &mut Value, change: Value) {
    match (into, change) {
        (Value::Object(into), Value::Object(change)) => {
            for (key, value) in change {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, change) => *into = change,
    }
}

/// The certificate may decide after an expired token, so the label counts: the token's own word, once the API server has refused it.
#[tokio::test]
async fn a_refused_token_that_is_over_is_called_expired() {
    let scene = Scene::new();
    assert_eq!(scene.word(&ending(NOW)).await, "token_expired");
    assert_eq!(scene.word(&ending(NOW.plus(-59))).await, "token_expired");
    assert_eq!(scene.word(&ending(NOW.plus(1))).await, "token_refused");
    assert_eq!(scene.word("endless").await, "token_refused");
    assert_eq!(scene.api.calls(), 4);
    // Kubernetes lets a token live a little longer than it says; that is its affair.
    scene.answer(&ending(NOW.plus(-1)), account("shop", "cart"));
    assert_eq!(scene.word(&ending(NOW.plus(-1))).await, "cart");
}

#[tokio::test]
async fn what_cannot_be_a_token_of_a_service_account_costs_no_review() {
    let scene = Scene::new();
    scene.api.answer_others(account("shop", "cart"));
    let filled = |length: usize| {
        let jwt = jwt("{}");
        jwt.clone() + &"A".repeat(length - jwt.len())
    };
    let say = async |text: &str| {
        let token = BearerToken::new(text.into());
        word(
            &scene
                .authenticator
                .authenticate(&token, None, None, scene.within(PATIENCE))
                .await,
        )
    };
    for text in [
        "",
        "a b",
        "a\tb",
        "a\nb",
        "ü",
        "a\u{7f}",
        " ",
        "opaque",
        "a.b",
        "a.b.c.d",
        "a.!.c",
        "e30=.e30=.e30",
    ]
    .map(str::to_owned)
    .into_iter()
    .chain([filled(16 * 1024 + 1), jwt("no claims"), jwt("[]"), jwt("5")])
    .chain(
        [
            r#"{"exp":"soon"}"#,
            r#"{"exp":1e99}"#,
            r#"{"exp":null}"#,
            r#"{"exp":1,"exp":2}"#,
            r#"{"aud":5}"#,
        ]
        .map(jwt),
    ) {
        assert_eq!(say(&text).await, "token_malformed", "{text:.50}");
    }
    for audience in [
        r#"{"aud":"vault"}"#,
        r#"{"aud":["vault"]}"#,
        r#"{"aud":[]}"#,
        r#"{"aud":["vault"],"exp":1}"#,
    ] {
        assert_eq!(say(&jwt(audience)).await, "token_audience", "{audience}");
    }
    assert_eq!(say(&ending(NOW.plus(-60))).await, "token_expired");
    assert_eq!(scene.api.calls(), 0);
    for text in [
        filled(16 * 1024),
        jwt("{}"),
        jwt(r#"{"aud":["vault","other-ca"]}"#),
        jwt(r#"{"aud":"istio-ca"}"#),
    ] {
        assert_eq!(say(&text).await, "cart", "{text:.50}");
    }
}

#[tokio::test]
async fn only_callers_of_this_cluster_are_reviewed() {
    let scene = Scene::new();
    scene.api.answer_others(account("shop", "cart"));
    let token = BearerToken::new(token("token"));
    for (cluster, expected) in [
        (Some("west"), "unknown_cluster"),
        (Some("kubernetes"), "unknown_cluster"),
        (Some("Kubernetes "), "unknown_cluster"),
        (None, "cart"),
        (Some(""), "cart"),
        (Some("Kubernetes"), "cart"),
    ] {
        let verdict = scene
            .authenticator
            .authenticate(&token, cluster, None, scene.within(PATIENCE))
            .await;
        assert_eq!(word(&verdict), expected, "{cluster:?}");
        assert_eq!(scene.api.calls(), usize::from(expected == "cart"), "{cluster:?}");
    }
}

#[tokio::test]
async fn no_reason_repeats_a_token() {
    let scene = Scene::new();
    let token = ending(NOW.plus(60));
    let error = format!("cannot take {token}, not even {}", token.split('.').nth(1).unwrap());
    scene.answer(&token, Answer::Review(json!({ "error": error })));
    let Verdict::Rejected(reason) = scene.verdict(&token).await else {
        panic!("not rejected")
    };
    assert_eq!(
        reason.detail,
        "the API server does not accept the token: cannot take [token], not even [token]"
    );
}
