//! Created, repaired, and otherwise left alone.

use std::collections::BTreeMap;
use std::time::Duration;

use countersign::roots::{Config, LabelSelector, Selection};
use http::Method;
use serde_json::json;
use tokio::time::Instant;

use super::{Scene, new_root, pass, usual};
use crate::support::objects::{KEY, NAME, Objects};

#[tokio::test(start_paused = true)]
async fn every_namespace_gets_the_roots_as_istio_wants_them() {
    let root = new_root("one");
    let ignored = ["kube-public", "kube-node-lease", "local-path-storage"];
    let all = ["default", "kube-system", "shop"];
    let scene = Scene::new(&root, &[&all[..], &ignored].concat());
    scene.hold(root.pem(), &all).await;
    let map = scene.api.map("shop").unwrap();
    assert_eq!(map["metadata"]["name"], NAME);
    assert_eq!(map["metadata"]["labels"], json!({"istio.io/config": "true"}));
    assert_eq!(map["data"], json!({ KEY: root.pem() }));
    assert_eq!(map["metadata"]["managedFields"][0]["manager"], "countersign");
    scene.api.namespace("late", &[]);
    scene
        .hold(root.pem(), &["default", "kube-system", "shop", "late"])
        .await;
    pass(1).await;
    assert_eq!((scene.standing("selected"), scene.standing("current")), (4.0, 4.0));
    assert!(scene.metric("countersign_root_configmaps_last_full_spread_timestamp_seconds") > 1e9);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_written_while_nothing_changes() {
    let root = new_root("one");
    let scene = Scene::new(&root, &["a", "b"]);
    scene.hold(root.pem(), &["a", "b"]).await;
    // Longer than from one list to the next, with many watches in between.
    pass(3 * 3600).await;
    assert_eq!(scene.api.writes().len(), 2);
    let lists = |path: &str| {
        let calls = scene.api.calls().into_iter();
        calls
            .filter(|call| call.path == path && !call.query.contains_key("watch"))
            .collect::<Vec<_>>()
    };
    for path in ["/api/v1/namespaces", "/api/v1/configmaps"] {
        assert!((3..=5).contains(&lists(path).len()), "{} lists", lists(path).len());
    }
    // The same roots in another text are the same roots.
    scene
        .api
        .put_roots("a", "kubectl-edit", &format!("# ours\n{}", root.pem()));
    pass(60).await;
    assert_eq!(scene.api.writes().len(), 2);
}

/// Memory stays small, and rights small: metadata of namespaces, and ConfigMaps of one name.
#[tokio::test(start_paused = true)]
async fn no_more_is_asked_for_than_needed() {
    let root = new_root("one");
    let scene = Scene::new(&root, &["a"]);
    scene.hold(root.pem(), &["a"]).await;
    scene.api.put_roots("a", "kubectl-edit", "other");
    scene.hold(root.pem(), &["a"]).await;
    for call in scene.api.calls() {
        match (call.method.as_str(), call.path.as_str()) {
            ("GET", "/api/v1/namespaces") => assert!(call.accept.contains("PartialObjectMetadata"), "{call:?}"),
            ("GET", "/api/v1/configmaps") => {
                assert_eq!(call.query["fieldSelector"], format!("metadata.name={NAME}"), "{call:?}");
            }
            ("POST", "/api/v1/namespaces/a/configmaps") => {}
            ("PATCH", path) if path == format!("/api/v1/namespaces/a/configmaps/{NAME}") => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn edits_and_deletions_are_put_right_and_nothing_else_is_touched() {
    let root = new_root("one");
    let scene = Scene::new(&root, &["a", "b"]);
    scene.hold(root.pem(), &["a", "b"]).await;
    scene.api.edit("a", "kubectl-edit", |map| {
        map["data"] = json!({KEY: "nonsense", "mine": "x"});
        map["metadata"]["labels"]["team"] = json!("blue");
        map["metadata"]["annotations"] = json!({"note": "y"});
    });
    scene.hold(root.pem(), &["a", "b"]).await;
    let map = scene.api.map("a").unwrap();
    assert_eq!(map["data"], json!({KEY: root.pem(), "mine": "x"}));
    assert_eq!(
        map["metadata"]["labels"],
        json!({"istio.io/config": "true", "team": "blue"})
    );
    assert_eq!(map["metadata"]["annotations"], json!({"note": "y"}));
    // Not even labels of ours are fought for: they are set on creation only.
    let writes = scene.api.writes().len();
    scene
        .api
        .edit("a", "kubectl-label", |map| map["metadata"]["labels"] = json!({}));
    pass(60).await;
    assert_eq!(scene.api.writes().len(), writes);

    pass(3600).await;
    scene.api.edit("a", "kubectl-edit", |map| {
        map["data"] = json!({});
        map["binaryData"] = json!({ KEY: "eA==" });
    });
    scene.hold(root.pem(), &["a", "b"]).await;
    assert_eq!(scene.api.map("a").unwrap().get("binaryData"), None);

    let deleted = Instant::now();
    scene.api.delete_map("b");
    scene.hold(root.pem(), &["a", "b"]).await;
    assert!(deleted.elapsed() < Duration::from_secs(1), "{:?}", deleted.elapsed());
}

#[tokio::test(start_paused = true)]
async fn another_bundle_goes_everywhere() {
    let (one, two) = (new_root("one"), new_root("two"));
    let scene = Scene::new(&one, &["a", "b", "c"]);
    scene.hold(one.pem(), &["a", "b", "c"]).await;
    let both = scene.publish(&[&one, &two]);
    scene.hold(&both, &["a", "b", "c"]).await;
    let last = scene.publish(&[&two]);
    scene.hold(&last, &["a", "b", "c"]).await;
    assert_eq!(scene.api.writes().len(), 9);
    // Something else of the CA changed.
    scene.publish(&[&two]);
    pass(60).await;
    assert_eq!(scene.api.writes().len(), 9);
}

#[tokio::test(start_paused = true)]
async fn namespaces_come_and_go() {
    let (one, two) = (new_root("one"), new_root("two"));
    let scene = Scene::new(&one, &["stays", "ends"]);
    scene.hold(one.pem(), &["stays", "ends"]).await;
    scene.api.terminate("ends");
    pass(1).await;
    // Its content goes before it goes itself; nothing is put back.
    scene.api.delete_map("ends");
    let both = scene.publish(&[&one, &two]);
    scene.hold(&both, &["stays"]).await;
    pass(3600).await;
    assert_eq!(scene.api.writes().len(), 3);
    pass(1).await;
    assert_eq!((scene.standing("selected"), scene.standing("failed")), (1.0, 0.0));
    scene.api.delete_namespace("ends");
    scene.api.namespace("ends", &[]);
    scene.hold(&both, &["stays", "ends"]).await;
    assert_eq!(scene.api.writes().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn only_what_the_selector_takes() {
    let root = new_root("one");
    let api = Objects::new();
    api.namespace("in", &[("mesh", "on")]);
    api.namespace("out", &[]);
    let mesh = LabelSelector {
        labels: BTreeMap::from([("mesh".into(), "on".into())]),
        expressions: Vec::new(),
    };
    let config = Config {
        selection: Selection {
            selectors: vec![mesh],
            members_of: None,
        },
        ..usual()
    };
    let scene = Scene::with(api, &[&root], config);
    scene.hold(root.pem(), &["in"]).await;
    // Labels change; what is there stays, as with istiod, and is not kept any more.
    scene.api.namespace("out", &[("mesh", "on")]);
    scene.hold(root.pem(), &["in", "out"]).await;
    scene.api.namespace("in", &[]);
    pass(1).await;
    scene.api.put_roots("in", "kubectl-edit", "mine");
    pass(3600).await;
    assert_eq!(scene.api.roots("in").unwrap(), "mine");
    assert_eq!(scene.standing("selected"), 1.0);
}

#[tokio::test(start_paused = true)]
async fn the_pace_is_as_set() {
    let root = new_root("one");
    let api = Objects::new();
    for number in 0..100 {
        api.namespace(&format!("n{number:02}"), &[]);
    }
    let config = Config {
        writes_per_second: 10,
        ..usual()
    };
    let scene = Scene::with(api, &[&root], config);
    scene
        .api
        .until("the spread", |api| api.count_holding(root.pem()) == 100)
        .await;
    let writes = scene.api.writes();
    for (position, first) in writes.iter().enumerate() {
        let end = first.at + Duration::from_millis(1000);
        let within = writes[position..].iter().take_while(|call| call.at < end).count();
        assert!(within <= 11, "{within} writes in a second");
    }
    let took = writes[99].at - writes[0].at;
    assert!(took < Duration::from_secs(11), "{took:?}");
}

/// 3,000 namespaces, at the usual pace, with an API server that takes its time.
#[tokio::test(start_paused = true)]
async fn thousands_of_namespaces_take_less_than_a_minute_and_a_new_one_does_not_wait() {
    const COUNT: usize = 3000;
    let (one, two) = (new_root("one"), new_root("two"));
    let api = Objects::new();
    for number in 0..COUNT {
        api.namespace(&format!("n{number:04}"), &[]);
    }
    api.take_time(Duration::from_millis(200));
    let scene = Scene::with(api, &[&one], usual());
    let a_minute = Duration::from_secs(60);
    let started = Instant::now();
    let holds = |text: &str, count: usize| {
        let text = text.to_owned();
        move |api: &Objects| api.count_holding(&text) == count
    };
    scene.api.until("the first spread", holds(one.pem(), COUNT)).await;
    assert!(started.elapsed() < a_minute, "{:?}", started.elapsed());

    let started = Instant::now();
    let both = scene.publish(&[&one, &two]);
    let some = |api: &Objects| api.count_holding(&both) > COUNT / 10;
    scene.api.until("a tenth", some).await;
    let new = Instant::now();
    scene.api.namespace("zz-new", &[]);
    scene.api.delete_map("n2999");
    let there = |api: &Objects| {
        ["zz-new", "n2999"]
            .iter()
            .all(|name| api.roots(name).as_ref() == Some(&both))
    };
    scene.api.until("the new one", there).await;
    let mut theirs = scene.api.writes();
    theirs.retain(|call| call.at >= new && (call.path.contains("zz-new") || call.path.contains("n2999")));
    assert!(
        new.elapsed() < Duration::from_secs(1),
        "{:?}: {theirs:?}, {new:?}",
        new.elapsed()
    );
    assert!(scene.api.count_holding(&both) < COUNT / 2, "the others were not done");
    scene.api.until("the second spread", holds(&both, COUNT + 1)).await;
    assert!(started.elapsed() < a_minute, "{:?}", started.elapsed());

    let writes = scene.api.writes();
    assert_eq!(writes.len(), 2 * COUNT + 1, "no write twice");
    assert_eq!(
        writes.iter().filter(|call| call.method == Method::POST).count(),
        COUNT + 2
    );
    assert!(
        (4..=16).contains(&scene.api.most_writing()),
        "{}",
        scene.api.most_writing()
    );
}
