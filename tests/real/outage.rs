//! What a CA depends on is gone while clients want something of it: they are told to come back, do so as Istio's rules say, and get what they
//! want once it is there again.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;

use crate::support::cluster::cluster;
use crate::support::countersign::{Countersign, keys_of_cluster, roomy, with};
use crate::support::istio::Peer;
use crate::support::pods::Reviewer;
use crate::support::process::scratch;
use crate::support::scene::Scene;
use crate::support::wait::{PATIENCE, until};

#[test]
fn without_the_keys_of_tokens_callers_come_back_until_they_are_there() {
    let mut api_server = cluster().another_server("keyless", &["tokens.key"]);
    let (reader, place) = (Reviewer::without_rights(), scratch());
    let kubeconfig = reader.kubeconfig(place.path(), &api_server);
    api_server.process.kill();
    let scene = Scene::of(Countersign::start_unready(keys_of_cluster(&kubeconfig)), place);
    let token = scene.pod.token();
    let refusal = scene
        .server
        .refusal(|| scene.sign(&token).assert_refused("Unavailable", 5));
    assert!(refusal.starts_with("keys_unavailable"), "{refusal}");
    assert_eq!(scene.server.readiness().status, 503);
    api_server.restart(&["tokens.key"]);
    until("readiness", PATIENCE, || {
        (scene.server.readiness().status == 200).then_some(())
    });
    scene.sign(&token).assert_good();
}

/// As many agents as a large node pool restarts at once, each with its own token: no answer is shared.
#[test]
fn a_thousand_agents_that_meet_an_outage_of_reviews_all_recover() {
    const AGENTS: usize = 1000;
    let mut api_server = cluster().another_server("crowded", &["tokens.key"]);
    let room = with(roomy(), json!({"listen": {"handshakeSeconds": 60}}));
    let scene = Scene::reviewed_by(&api_server, &Reviewer::new(), room);
    let tokens = scene.place.path().join("herd");
    for agent in 0..AGENTS {
        std::fs::write(tokens.with_extension(agent.to_string()), scene.pod.token()).unwrap();
    }
    api_server.process.kill();
    let herd = Peer::new(&scene.server, &scene.pod, Some(&tokens)).with(["--agents", &AGENTS.to_string()]);
    let mut herd = herd.start("herd", scene.place.path());
    herd.wait_for("failed", AGENTS, LONG);
    assert_eq!(
        scene.server.metric("citadel_server_success_cert_issuance_count"),
        Some(0.0)
    );
    // Nobody is not ready because of that, and the server has time for others.
    assert_eq!(scene.server.readiness().status, 200);
    api_server.restart(&["tokens.key"]);
    let mut told = herd.wait_until_done_within(LONG);
    told.retain(|told| told["event"] == "recovered");
    assert_eq!(told.len(), AGENTS);

    let (mut calls, mut connected) = (0, 0);
    for agent in &told {
        let tries: Vec<u64> = serde_json::from_value(agent["calls"].clone()).unwrap();
        let (last, failed) = tries.split_last().unwrap();
        // Istio's rule: five calls, then a pause and a new connection; none when a busy machine gave it no connection in time.
        assert!(
            !failed.is_empty() && failed.iter().all(|calls| [0, 5].contains(calls)),
            "{agent}"
        );
        assert!((1..=5).contains(last), "{agent}");
        // Nobody there to review, or too many reviews at once.
        let mut codes = agent["codes"].as_object().unwrap().keys();
        assert!(
            codes.all(|code| ["Unavailable", "ResourceExhausted"].contains(&code.as_str())),
            "{agent}"
        );
        calls += tries.iter().sum::<u64>();
        connected += tries.iter().filter(|calls| **calls > 0).count();
    }
    // The server saw the same calls, and its log has a line for each.
    let count = |name: &str| scene.server.metric(name).unwrap();
    assert_eq!(count("citadel_server_success_cert_issuance_count"), AGENTS as f64);
    assert_eq!(count("citadel_server_csr_count"), calls as f64);
    let lines = until("the last lines of the log", PATIENCE, || {
        let lines = ["refused", "issued"]
            .map(|message| scene.server.events(message))
            .concat();
        (lines.len() as u64 >= calls).then_some(lines)
    });
    assert_eq!(lines.len() as u64, calls);
    // Every round came on a new connection. Linux soon gives a port on the loopback device to another one, so fewer can be told apart.
    let peers: BTreeSet<_> = lines.iter().map(|line| line["peer"].to_string()).collect();
    assert!(
        (AGENTS * 3 / 2..=connected).contains(&peers.len()),
        "{} of {connected}",
        peers.len()
    );
}

/// For as many handshakes as all rounds together need, by an unoptimised server.
const LONG: Duration = Duration::from_secs(180);
