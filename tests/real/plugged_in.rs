//! A company's CA in several processes, side by side and one after the other.

use serde_json::{Value, json};

use crate::support::certificate::Certificate;
use crate::support::companies::{Company, SIGNERS};
use crate::support::countersign::{Countersign, verified_offline, with};
use crate::support::istio::Peer;
use crate::support::openssl::text;
use crate::support::pods::token_file;
use crate::support::process::scratch;
use crate::support::scene::Scene;

/// A company's CA, and the settings to serve it.
fn company(scene_directory: &std::path::Path) -> (Company, Value) {
    let directory = scene_directory.join("company");
    std::fs::create_dir(&directory).unwrap();
    let company = Company::make(&directory, &SIGNERS[2]);
    let settings = with(
        verified_offline(scene_directory),
        json!({
            "ca": {"type": "plugged-in", "directory": company.cacerts},
            "certificates": {"minimumLifetime": "10s"},
        }),
    );
    (company, settings)
}

#[test]
fn processes_with_the_same_files_answer_with_the_same_bytes() {
    let place = scratch();
    let (company, settings) = company(place.path());
    let other = Countersign::start(settings.clone());
    let scene = Scene::of(Countersign::start(settings), place);
    let token = scene.pod.token();
    let mine = scene.sign(&token);
    mine.assert_good();
    let token = token_file(scene.place.path(), &token);
    let others = Peer::new(&other, &scene.pod, Some(&token)).sign();
    others.assert_good();
    // All but the leaf.
    assert_eq!(mine.chain[1..], others.chain[1..]);
    assert_ne!(mine.chain[0], others.chain[0]);
    assert_eq!(mine.chain.len(), company.shown);
}

#[test]
fn a_second_root_is_announced_once_and_trusted() {
    let place = scratch();
    let (company, settings) = company(place.path());
    let mut scene = Scene::of(Countersign::start(settings), place);
    let stranger = Company::make(&scene.new_directory("successor"), &SIGNERS[3]);
    let peer = scene.peer(&scene.pod.token());
    let peer = peer.with(["--ttl", "10", "--ratio", "0.8", "--jitter", "0"]);
    let mut cache = peer.cache(scene.place.path(), 4);
    cache.wait_for_rotations(1);
    scene.server.stop();
    let roots = company.cacerts.join("root-cert.pem");
    let both = [&roots, &stranger.cacerts.join("root-cert.pem")].map(|file| std::fs::read_to_string(file).unwrap());
    std::fs::write(&roots, both.concat()).unwrap();
    scene.server.start_again();
    let events = cache.wait_until_done();

    let of_roots = |event: &&Value| event["name"] == "ROOTCA";
    let pushes = events.iter().filter(of_roots).filter(|event| event["event"] == "push");
    assert_eq!(
        pushes.count(),
        2,
        "when it was new, and when there were two: {events:?}"
    );
    let secrets: Vec<usize> = events
        .iter()
        .filter(of_roots)
        .filter(|event| event["event"] == "secret")
        .map(|event| event["root_sha256"].as_array().unwrap().len())
        .collect();
    assert_eq!((secrets.first(), secrets.last()), (Some(&1), Some(&2)), "{events:?}");
    // What is issued now leads to the old root, in the new bundle.
    let out = scene.new_directory("out");
    let peer = scene.peer(&scene.pod.token()).with(["--out", text(&out)]);
    peer.sign().assert_good();
    Certificate::read(&out.join("cert-chain.pem")).assert_is_for_workload(&scene.pod.identity());
}
