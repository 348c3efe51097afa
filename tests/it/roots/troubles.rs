//! An API server that refuses, forgets and breaks off.

use std::time::Duration;

use super::{Scene, new_root, pass, set};

#[tokio::test(start_paused = true)]
async fn one_that_fails_is_tried_for_ever_ever_more_rarely_and_hinders_nobody() {
    let (one, two) = (new_root("one"), new_root("two"));
    let scene = Scene::new(&one, &["a", "b"]);
    scene.api.refuse_writes("a", Some(422));
    scene.hold(one.pem(), &["b"]).await;
    pass(6 * 3600).await;
    let tries: Vec<_> = scene
        .api
        .writes()
        .into_iter()
        .filter(|call| call.path.contains("/a/"))
        .collect();
    let gaps: Vec<u64> = tries
        .windows(2)
        .map(|pair| (pair[1].at - pair[0].at).as_secs())
        .collect();
    assert!(gaps.starts_with(&[1, 2, 4, 8, 16]), "{gaps:?}");
    assert!(gaps.windows(2).all(|pair| pair[0] <= pair[1] + 1), "{gaps:?}");
    assert!(gaps.len() > 60 && gaps.last().unwrap().abs_diff(300) <= 1, "{gaps:?}");
    assert_eq!((scene.standing("failed"), scene.standing("current")), (1.0, 1.0));

    let both = scene.publish(&[&one, &two]);
    scene.hold(&both, &["b"]).await;
    scene.api.refuse_writes("a", None);
    scene.hold(&both, &["a", "b"]).await;
    pass(1).await;
    assert_eq!((scene.standing("failed"), scene.standing("current")), (0.0, 2.0));
}

#[tokio::test(start_paused = true)]
async fn what_a_broken_watch_missed_is_made_good() {
    let root = new_root("one");
    for forgets in [false, true] {
        let scene = Scene::new(&root, &["a", "b", "c"]);
        scene.hold(root.pem(), &["a", "b", "c"]).await;
        pass(200).await;
        assert_eq!(scene.spread(), set(&[&root]));
        scene.api.cut_off(true);
        scene.api.put_roots("a", "kubectl-edit", "nonsense");
        scene.api.delete_map("b");
        scene.api.delete_namespace("c");
        scene.api.namespace("d", &[]);
        pass(60).await;
        assert_eq!(scene.spread(), set(&[]), "nobody knows");
        assert_eq!(scene.metric("countersign_root_configmaps_synced"), 0.0);
        if forgets {
            scene.api.forget();
        }
        scene.api.cut_off(false);
        scene.hold(root.pem(), &["a", "b", "d"]).await;
        pass(200).await;
        assert_eq!(scene.metric("countersign_root_configmaps_synced"), 1.0);
        assert_eq!(scene.standing("selected"), 3.0);
        assert_eq!(scene.spread(), set(&[&root]));
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_counts_while_the_api_server_does_not_tell() {
    let root = new_root("one");
    let scene = Scene::new(&root, &["a"]);
    scene.hold(root.pem(), &["a"]).await;
    pass(200).await;
    assert_eq!(scene.spread(), set(&[&root]));
    scene.api.forbid(true);
    scene.api.cut_off(false);
    pass(1).await;
    assert_eq!(scene.spread(), set(&[]));
    scene.api.forbid(false);
    pass(31).await;
    assert_eq!(scene.spread(), set(&[&root]), "nothing had changed");
    assert_eq!(scene.api.writes().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_forgetful_server_costs_one_list() {
    let root = new_root("one");
    let scene = Scene::new(&root, &["a"]);
    scene.hold(root.pem(), &["a"]).await;
    for round in 0..5 {
        scene.api.forget();
        scene.api.delete_map("a");
        let deleted = tokio::time::Instant::now();
        scene.hold(root.pem(), &["a"]).await;
        assert!(deleted.elapsed() < Duration::from_secs(5), "{:?}", deleted.elapsed());
        pass(1200).await;
        assert_eq!(scene.api.writes().len(), round + 2);
    }
}

#[tokio::test(start_paused = true)]
async fn without_rights_it_waits_and_begins_once_they_are_there() {
    let root = new_root("one");
    let scene = Scene::new(&root, &["a"]);
    scene.api.forbid(true);
    pass(3600).await;
    assert!(scene.api.writes().is_empty());
    assert_eq!(scene.metric("countersign_root_configmaps_synced"), 0.0);
    // Two collections, one try every 30 s each.
    let calls = scene.api.calls().len();
    assert!((200..=260).contains(&calls), "{calls}");
    scene.api.forbid(false);
    let started = tokio::time::Instant::now();
    scene.hold(root.pem(), &["a"]).await;
    assert!(started.elapsed() < Duration::from_secs(31), "{:?}", started.elapsed());
}
