//! Tokens of a real API server: reviewed by it, and verified without it.

use std::sync::{LazyLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use serde_json::Value;

use crate::support::countersign::Ca;
use crate::support::istio::sign;
use crate::support::kubernetes::cluster;

/// A kubeconfig with which the CA may ask for reviews, and nothing else.
static REVIEWER: LazyLock<String> = LazyLock::new(|| {
    let cluster = cluster();
    cluster.workload("istio-system", "countersign", "ca");
    cluster.allow_reviews("istio-system", "countersign");
    cluster.kubeconfig(&cluster.token("istio-system", "countersign", "ca", "https://kubernetes.default.svc"))
});

/// Tests that count the API server's calls, or stop it, want it for themselves.
static USE: RwLock<()> = RwLock::new(());

fn shared() -> RwLockReadGuard<'static, ()> {
    USE.read().unwrap_or_else(PoisonError::into_inner)
}

fn alone() -> RwLockWriteGuard<'static, ()> {
    USE.write().unwrap_or_else(PoisonError::into_inner)
}

fn settings(kubeconfig: &str, more: &str) -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("kubeconfig");
    std::fs::write(&path, kubeconfig).unwrap();
    let text = format!(
        "authentication: {{tokenReview: {{enabled: true, kubeconfig: '{}'}}}}\n{more}",
        path.display()
    );
    (directory, text)
}

fn reviewing() -> (tempfile::TempDir, Ca) {
    let (directory, settings) = settings(&REVIEWER, "");
    (directory, Ca::start(&settings))
}

fn token_file(directory: &tempfile::TempDir, name: &str, token: &str) -> String {
    let path = directory.path().join(name);
    std::fs::write(&path, token).unwrap();
    path.display().to_string()
}

fn accepted(answer: &Value) {
    assert_eq!(
        (&answer["ok"], &answer["verified"], &answer["attempts"]),
        (&true.into(), &true.into(), &1.into()),
        "{answer}"
    );
}

fn refused(answer: &Value, code: &str, attempts: u64) {
    assert_eq!(
        (&answer["ok"], &answer["grpc_code"], &answer["attempts"]),
        (&false.into(), &code.into(), &attempts.into()),
        "{answer}"
    );
}

#[test]
fn reviewed_tokens_are_accepted_for_our_audience_alone() {
    let _use = shared();
    let (directory, ca) = reviewing();
    let cluster = cluster();
    cluster.workload("default", "sleep", "sleep-review");
    let good = token_file(
        &directory,
        "good",
        &cluster.token("default", "sleep", "sleep-review", "istio-ca"),
    );
    accepted(&sign(&ca, &["--token", &good]));
    let grant = ca
        .program
        .wait_for("identity=spiffe://cluster.local/ns/default/sa/sleep", 0)
        .1;
    for part in [
        "method=\"token_review\"",
        "pod=\"sleep-review\"",
        "node=\"node-1\"",
        "cluster=\"Kubernetes\"",
    ] {
        assert!(grant.contains(part), "{part} is missing in {grant}");
    }
    let other = token_file(
        &directory,
        "other",
        &cluster.token("default", "sleep", "sleep-review", "vault"),
    );
    refused(&sign(&ca, &["--token", &other]), "Unauthenticated", 1);
    // A token for the API server itself, which any pod has.
    let own = cluster.token("default", "sleep", "sleep-review", "https://kubernetes.default.svc");
    refused(
        &sign(&ca, &["--token", &token_file(&directory, "own", &own)]),
        "Unauthenticated",
        1,
    );
    // No token ever stands in the log.
    let said = ca.program.said().join("\n");
    assert!(!said.contains(&own[..40]) && !said.contains(own.rsplit('.').next().unwrap()));
}

#[test]
fn one_token_asked_eight_times_is_reviewed_once() {
    let _use = alone();
    let (directory, ca) = reviewing();
    ca.until_ready(None);
    let cluster = cluster();
    cluster.workload("default", "sleep", "sleep-eight");
    let token = token_file(
        &directory,
        "token",
        &cluster.token("default", "sleep", "sleep-eight", "istio-ca"),
    );
    let before = cluster.reviews();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| accepted(&sign(&ca, &["--token", &token])));
        }
    });
    assert_eq!(cluster.reviews() - before, 1);
}

/// Conformance lines 14, 35: an API server that hangs is nobody's fault; callers are told to come back, in time, and it recovers.
#[test]
fn an_api_server_that_hangs_makes_callers_come_back() {
    let _use = alone();
    let (directory, ca) = reviewing();
    let cluster = cluster();
    cluster.workload("default", "sleep", "sleep-hang");
    let token = token_file(
        &directory,
        "token",
        &cluster.token("default", "sleep", "sleep-hang", "istio-ca"),
    );
    cluster.signal("STOP");
    let begun = std::time::Instant::now();
    let answer = sign(&ca, &["--token", &token]);
    let took = begun.elapsed();
    cluster.signal("CONT");
    refused(&answer, "Unavailable", 5);
    // Five calls of at most 5 s each, and the client's pauses.
    assert!(took.as_secs() <= 30, "{took:?}");
    assert!(ca.http("/readyz").starts_with("HTTP/1.1 200"), "no fault of ours");
    crate::support::until("it recovers", || {
        sign(&ca, &["--token", &token])["ok"] == Value::Bool(true)
    });
}

#[test]
fn a_deleted_pod_s_token_ends_soon() {
    let _use = shared();
    let (directory, ca) = reviewing();
    let cluster = cluster();
    cluster.workload("default", "sleep", "sleep-deleted");
    let token = token_file(
        &directory,
        "token",
        &cluster.token("default", "sleep", "sleep-deleted", "istio-ca"),
    );
    accepted(&sign(&ca, &["--token", &token]));
    cluster.delete_pod("default", "sleep-deleted");
    let deleted = std::time::Instant::now();
    crate::support::until("the token ends", || {
        sign(&ca, &["--token", &token])["ok"] == Value::Bool(false)
    });
    // The API server remembers for 10 s, we for 10 s more.
    assert!(deleted.elapsed().as_secs() <= 25, "{:?}", deleted.elapsed());
    refused(&sign(&ca, &["--token", &token]), "Unauthenticated", 1);
}

#[test]
fn without_the_right_to_ask_it_is_not_ready_and_says_why() {
    let _use = shared();
    let cluster = cluster();
    cluster.workload("elsewhere", "powerless", "powerless");
    let token = cluster.token("elsewhere", "powerless", "powerless", "https://kubernetes.default.svc");
    let (directory, settings) = settings(&cluster.kubeconfig(&token), "");
    let ca = Ca::start(&settings);
    ca.until_ready(Some("403"));
    cluster.workload("default", "sleep", "sleep-forbidden");
    let good = token_file(
        &directory,
        "good",
        &cluster.token("default", "sleep", "sleep-forbidden", "istio-ca"),
    );
    refused(&sign(&ca, &["--token", &good]), "Unavailable", 5);
    cluster.allow_reviews("elsewhere", "powerless");
    ca.until_ready(None);
    accepted(&sign(&ca, &["--token", &good]));
}

#[test]
fn its_tokens_are_verified_offline_with_its_own_keys() {
    let _use = shared();
    let cluster = cluster();
    cluster.workload("default", "sleep", "sleep-offline");
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(
        directory.path().join("jwks.json"),
        cluster.raw("/openid/v1/jwks").unwrap(),
    )
    .unwrap();
    let ca = Ca::start(&format!(
        "authentication: {{issuers: [{{issuer: 'https://kubernetes.default.svc', jwksFile: '{}/jwks.json'}}]}}\n",
        directory.path().display()
    ));
    let token = cluster.token("default", "sleep", "sleep-offline", "istio-ca");
    accepted(&sign(&ca, &["--token", &token_file(&directory, "token", &token)]));
    let grant = ca
        .program
        .wait_for("identity=spiffe://cluster.local/ns/default/sa/sleep", 0)
        .1;
    for part in ["method=\"offline_jwt\"", "pod=\"sleep-offline\"", "node=\"node-1\""] {
        assert!(grant.contains(part), "{part} is missing in {grant}");
    }
    let other = cluster.token("default", "sleep", "sleep-offline", "vault");
    refused(
        &sign(&ca, &["--token", &token_file(&directory, "other", &other)]),
        "Unauthenticated",
        1,
    );
}
