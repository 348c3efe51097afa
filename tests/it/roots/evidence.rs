//! What a change of root hears of the ConfigMaps.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use countersign::authority::steering::Act;
use countersign::authority::{self, CaKind, RootAlgorithm, SelfSignedConfig};
use countersign::model::{CaCertificate, Fingerprint, Lifetime};
use countersign::platform::shutdown::shutdown;
use countersign::platform::{Clock, SystemClock};
use countersign::roots::Distribution;
use countersign::telemetry::{Metrics, Readiness};

use rcgen::KeyPair;
use tokio::sync::watch;

use super::{Scene, new_root, pass, set, usual};
use crate::support::ca::{root, years};
use crate::support::objects::Objects;

#[tokio::test(start_paused = true)]
async fn a_root_is_spread_when_every_pod_has_it() {
    let (one, two) = (new_root("one"), new_root("two"));
    let scene = Scene::new(&one, &["a", "b"]);
    assert_eq!(scene.spread(), set(&[]), "nothing is known yet");
    scene.hold(one.pem(), &["a", "b"]).await;
    pass(170).await;
    assert_eq!(scene.spread(), set(&[]), "pods may still have what was there before");
    pass(15).await;
    assert_eq!(scene.spread(), set(&[&one]));

    let both = scene.publish(&[&one, &two]);
    scene.hold(&both, &["a", "b"]).await;
    pass(170).await;
    assert_eq!(scene.spread(), set(&[&one]), "pods may not have the other one yet");
    pass(15).await;
    assert_eq!(scene.spread(), set(&[&one, &two]));
    // Nobody in it can ever have had less.
    scene.api.namespace("new", &[]);
    scene.hold(&both, &["a", "b", "new"]).await;
    pass(1).await;
    assert_eq!(scene.spread(), set(&[&one, &two]));

    scene.api.put_roots("a", "kubectl-edit", one.pem());
    scene.hold(&both, &["a", "b", "new"]).await;
    pass(1).await;
    assert_eq!(scene.spread(), set(&[&one]), "some pods may have noticed");
    pass(200).await;
    assert_eq!(scene.spread(), set(&[&one, &two]));
}

#[tokio::test(start_paused = true)]
async fn one_namespace_without_it_is_enough() {
    let (one, two) = (new_root("one"), new_root("two"));
    let scene = Scene::new(&one, &["a", "b"]);
    scene.hold(one.pem(), &["a", "b"]).await;
    pass(200).await;
    scene.api.refuse_writes("b", Some(500));
    let both = scene.publish(&[&one, &two]);
    scene.hold(&both, &["a"]).await;
    pass(3600).await;
    assert_eq!(scene.spread(), set(&[&one]));
    // One that has nothing at all.
    scene.api.refuse_writes("c", Some(500));
    scene.api.namespace("c", &[]);
    pass(10).await;
    assert_eq!(scene.spread(), set(&[]));
    scene.api.delete_namespace("c");
    scene.api.refuse_writes("b", None);
    scene.hold(&both, &["a", "b"]).await;
    pass(200).await;
    assert_eq!(scene.spread(), set(&[&one, &two]));
}

#[tokio::test(start_paused = true)]
async fn in_no_namespace_nothing_is_spread() {
    let root = new_root("one");
    let scene = Scene::new(&root, &["kube-public"]);
    pass(600).await;
    assert_eq!(scene.metric("countersign_root_configmaps_synced"), 1.0);
    assert_eq!(scene.spread(), set(&[]));
}

/// The whole way: the CA gets another root, the ConfigMaps tell of it, and only then does it sign, without a word of an admin.
#[tokio::test(start_paused = true)]
async fn a_new_root_signs_once_every_configmap_holds_it() {
    let directory = tempfile::tempdir().unwrap();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let metrics = Arc::new(Metrics::new(clock.clone(), &Readiness::default()));
    let config = config(CaKind::SelfSigned, directory.path());
    let mut ca = authority::open(&config, clock.clone(), metrics.clone()).unwrap();
    let api = Objects::new();
    api.namespace("a", &[]);
    api.namespace("b", &[]);
    let distribution = Distribution::new(usual(), api.reached(), ca.watch(), clock, metrics);
    ca.heed(distribution.spread());
    let (steering, state) = (ca.steering(), ca.watch());
    let (_running, asked) = shutdown();
    tokio::spawn(distribution.run(asked.clone()));
    tokio::spawn(ca.run(asked));
    let signing = || {
        let ca = state.borrow().signing.clone().unwrap();
        Fingerprint::of(ca.chain().last().unwrap().der())
    };
    let text = || state.borrow().bundle.pem().to_owned();
    let roots = || {
        state
            .borrow()
            .bundle
            .roots()
            .iter()
            .map(CaCertificate::fingerprint)
            .collect::<Vec<_>>()
    };

    let first = signing();
    api.until("the first root", |api| api.count_holding(&text()) == 2).await;
    api.refuse_writes("b", Some(500));
    steering.act(Act::Rotate).await.unwrap();
    assert_eq!(roots().len(), 2);
    let second = roots()[1];
    api.until("a", |api| api.roots("a") == Some(text())).await;
    pass(3600).await;
    assert_eq!(signing(), first, "b does not have it");
    let change = steering.status().await.unwrap().outlook.change.unwrap();
    assert_eq!((change.0, change.2.len()), (second, 1));

    api.refuse_writes("b", None);
    api.until("b", |api| api.roots("b") == Some(text())).await;
    pass(170).await;
    assert_eq!(signing(), first, "pods in b may not have it");
    pass(15).await;
    assert_eq!(signing(), second);
}

/// What nobody looks after any more counts for nothing.
#[tokio::test(start_paused = true)]
async fn evidence_ends_with_whoever_gives_it() {
    for alive in [true, false] {
        let directory = tempfile::tempdir().unwrap();
        let folder = directory.path().join("cacerts");
        let config = config(CaKind::PluggedIn, directory.path());
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let metrics = Arc::new(Metrics::new(clock.clone(), &Readiness::default()));
        plug_in(&folder, "first");
        let mut ca = authority::open(&config, clock, metrics).unwrap();
        let second = plug_in(&folder, "second");
        let (giver, spread) = watch::channel(BTreeSet::from([second]));
        ca.heed(spread);
        let giver = alive.then_some(giver);
        let (steering, state) = (ca.steering(), ca.watch());
        let (_running, asked) = shutdown();
        tokio::spawn(ca.run(asked));
        steering.act(Act::Reload).await.unwrap();
        pass(60).await;
        let ca = state.borrow().signing.clone().unwrap();
        let signs = Fingerprint::of(ca.chain().last().unwrap().der()) == second;
        assert_eq!(signs, alive);
        drop(giver);
    }
}

fn config(kind: CaKind, directory: &Path) -> authority::Config {
    authority::Config {
        kind,
        plugged_in_directory: directory.join("cacerts"),
        self_signed: SelfSignedConfig {
            directory: directory.join("own"),
            algorithm: RootAlgorithm::P256,
            lifetime: Lifetime::from_seconds(10 * 365 * 86_400).unwrap(),
            organization: "cluster.local".into(),
            new_root: false,
        },
    }
}

/// Puts a root that signs by itself into the folder.
fn plug_in(folder: &Path, name: &str) -> Fingerprint {
    let root = root(name, KeyPair::generate().unwrap(), years(SystemClock.now()));
    std::fs::create_dir_all(folder).unwrap();
    for (file, text) in [
        ("ca-cert.pem", root.pem()),
        ("ca-key.pem", root.key().serialize_pem()),
        ("root-cert.pem", root.pem()),
    ] {
        std::fs::write(folder.join(file), text).unwrap();
    }
    Fingerprint::of(root.der())
}
