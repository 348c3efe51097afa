//! Others who keep the same ConfigMaps.

use std::time::Duration;

use countersign::roots::Config;
use tokio::time::Instant;

use super::{Scene, new_root, pass, set, usual};
use crate::support::objects::Objects;

const ISTIOD: &str = "pilot-discovery";

/// Namespaces whose ConfigMaps an istiod wrote.
fn after_istiod(names: &[&str], text: &str) -> Objects {
    let api = Objects::new();
    for name in names {
        api.namespace(name, &[]);
        api.put_roots(name, ISTIOD, text);
    }
    api
}

fn taking_over() -> Config {
    Config {
        take_over: true,
        ..usual()
    }
}

#[tokio::test(start_paused = true)]
async fn what_istiod_wrote_is_left_alone_and_reported() {
    let (ours, theirs) = (new_root("ours"), new_root("theirs"));
    let api = after_istiod(&["a", "b"], theirs.pem());
    api.namespace("c", &[]);
    let scene = Scene::with(api, &[&ours], usual());
    scene.hold(ours.pem(), &["c"]).await;
    pass(2 * 3600).await;
    assert_eq!(scene.api.writes().len(), 1);
    assert_eq!((scene.standing("foreign"), scene.standing("current")), (2.0, 1.0));
    assert_eq!(scene.spread(), set(&[]));
    // With the same CA's roots in it, theirs are as good as ours.
    for name in ["a", "b"] {
        scene.api.put_roots(name, ISTIOD, ours.pem());
    }
    pass(200).await;
    assert_eq!(scene.api.writes().len(), 1);
    assert_eq!((scene.standing("foreign"), scene.standing("current")), (0.0, 3.0));
    assert_eq!(scene.spread(), set(&[&ours]));
}

#[tokio::test(start_paused = true)]
async fn an_istiod_that_begins_later_is_not_fought() {
    let (ours, theirs) = (new_root("ours"), new_root("theirs"));
    for config in [usual(), taking_over()] {
        let names: Vec<String> = (0..200).map(|number| format!("n{number:03}")).collect();
        let api = Objects::new();
        names.iter().for_each(|name| api.namespace(name, &[]));
        let scene = Scene::with(api, &[&ours], config);
        scene
            .api
            .until("ours", |api| api.count_holding(ours.pem()) == 200)
            .await;
        scene.api.rival(Some((ISTIOD, theirs.pem())));
        for name in &names {
            scene.api.put_roots(name, ISTIOD, theirs.pem());
        }
        pass(4 * 60).await;
        let fought = scene.api.writes().len() - 200;
        assert!(fought <= 20, "{fought} writes against it");
        assert_eq!(scene.api.count_holding(theirs.pem()), 200);
        assert_eq!(scene.standing("foreign"), 200.0);
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_gone_istiod_left_is_taken_over_after_a_probe() {
    let (ours, theirs) = (new_root("ours"), new_root("theirs"));
    let scene = Scene::with(after_istiod(&["a", "b", "c"], theirs.pem()), &[&ours], taking_over());
    let started = Instant::now();
    scene.hold(ours.pem(), &["a"]).await;
    pass(20).await;
    scene.hold(ours.pem(), &["a"]).await;
    scene.hold(ours.pem(), &["a", "b", "c"]).await;
    assert!(started.elapsed() < Duration::from_secs(40), "{:?}", started.elapsed());
    assert_eq!(scene.api.writes().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn an_istiod_that_still_runs_undoes_the_probe_and_keeps_the_rest() {
    let (ours, theirs) = (new_root("ours"), new_root("theirs"));
    let names = ["a", "b", "c"];
    let api = after_istiod(&names, theirs.pem());
    api.rival(Some((ISTIOD, theirs.pem())));
    let scene = Scene::with(api, &[&ours], taking_over());
    pass(3600).await;
    // After 5, 10 and 20 minutes more.
    let probes = scene.api.writes().len();
    assert!((3..=5).contains(&probes), "{probes}");
    assert_eq!(scene.api.count_holding(theirs.pem()), 3);
    assert_eq!(scene.standing("foreign"), 3.0);
    // It stops.
    scene.api.rival(None);
    scene.hold(ours.pem(), &names).await;
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_fails_is_made_elsewhere() {
    let (ours, theirs) = (new_root("ours"), new_root("theirs"));
    let api = after_istiod(&["a", "b", "c"], theirs.pem());
    api.refuse_writes("a", Some(422));
    let scene = Scene::with(api, &[&ours], taking_over());
    scene.hold(ours.pem(), &["b", "c"]).await;
}

/// Anyone may write in a namespace of their own, under any name: that must not stop the others.
#[tokio::test(start_paused = true)]
async fn a_tenant_who_works_against_us_hurts_nobody_else() {
    let (one, two) = (new_root("one"), new_root("two"));
    for writer in ["kubectl-edit", ISTIOD, "countersign"] {
        let scene = Scene::new(&one, &["a", "b"]);
        scene.hold(one.pem(), &["a", "b"]).await;
        let started = scene.api.writes().len();
        for minute in 0..60 {
            scene.api.put_roots("a", writer, &format!("nonsense {minute}"));
            pass(60).await;
        }
        let fought = scene.api.writes().len() - started;
        let least = usize::from(writer != ISTIOD);
        assert!((least..=20).contains(&fought), "{fought} writes against {writer}");
        let both = scene.publish(&[&one, &two]);
        scene
            .api
            .until("the others", |api| api.roots("b").as_ref() == Some(&both))
            .await;
        scene.api.namespace("c", &[]);
        scene
            .api
            .until("new ones", |api| api.roots("c").as_ref() == Some(&both))
            .await;
        if writer != ISTIOD {
            scene.hold(&both, &["a", "b", "c"]).await;
        }
    }
}
