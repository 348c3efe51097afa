//! The roots in the namespaces of a real API server, with exactly the rights that the documentation names.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::cluster::{ApiServer, cluster};
use crate::support::companies::{Company, SIGNERS};
use crate::support::countersign::{Countersign, reviewed_by, with};
use crate::support::pods::Reviewer;
use crate::support::process::scratch;
use crate::support::wait::{PATIENCE, until};

const NAME: &str = "istio-ca-root-cert";
const KEY: &str = "root-cert.pem";

/// Namespaces with a label of their own, so that tests beside each other do not meet.
struct Mesh {
    label: &'static str,
    place: TempDir,
    server: Countersign,
}

/// The rights as an admin would copy them from the documentation.
fn documented_rights() -> Value {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/roots.md")).unwrap();
    let blocks = page
        .split("```yaml\n")
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap());
    let role = blocks
        .into_iter()
        .find(|block| block.contains("kind: ClusterRole"))
        .unwrap();
    let role: Value = serde_saphyr::from_str(role).unwrap();
    role["rules"].clone()
}

fn api() -> &'static ApiServer {
    &cluster().server
}

fn namespace(name: &str, label: &str) {
    let labels = json!({"mesh": label});
    let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
    api().create("/api/v1/namespaces", &object).unwrap();
}

fn path(namespace: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/configmaps/{NAME}")
}

/// What the ConfigMap of a namespace holds.
fn roots(namespace: &str) -> Option<String> {
    Some(api().get(&path(namespace))?["data"][KEY].as_str()?.to_owned())
}

fn wait_for(namespace: &str, text: &str) {
    until(&format!("the roots in {namespace}"), PATIENCE, || {
        (roots(namespace)? == text).then_some(())
    });
}

/// Every ConfigMap of the mesh.
fn maps(namespaces: &[String]) -> Vec<Value> {
    let list = api().get(&format!("/api/v1/configmaps?fieldSelector=metadata.name%3D{NAME}"));
    let mut items = list.unwrap()["items"].as_array().unwrap().clone();
    let ours = |map: &Value| {
        let namespace = map["metadata"]["namespace"].as_str().unwrap();
        namespaces.iter().any(|name| name == namespace)
    };
    items.retain(ours);
    items
}

impl Mesh {
    /// A CA with the first of our companies' CAs, for the namespaces with this label.
    fn start(label: &'static str, changes: Value) -> Self {
        let place = scratch();
        plug_in(place.path(), 0);
        let reviewer = Reviewer::new();
        reviewer.grant_also(&documented_rights());
        let maps = json!({
            "enabled": true,
            "discoverySelectors": [{"matchLabels": {"mesh": label}}],
            "arrival": "1s",
        });
        let ca = json!({
            "type": "plugged-in",
            "directory": place.path().join("cacerts"),
            "selfSigned": {"directory": place.path().join("own")},
        });
        let settings = with(reviewed_by(api(), &reviewer, place.path()), json!({"ca": ca}));
        let settings = with(settings, json!({"roots": {"configMaps": with(maps, changes)}}));
        let server = Countersign::start(settings);
        Self { label, place, server }
    }

    fn standing(&self, state: &str) -> usize {
        let value = self
            .server
            .metric(&format!("countersign_root_configmaps{{state=\"{state}\"}}"));
        value.unwrap_or_default() as usize
    }

    fn wait_until_current(&self, count: usize, limit: Duration) {
        until(&format!("{count} namespaces with the roots"), limit, || {
            (self.standing("current") == count && self.standing("selected") == count).then_some(())
        });
    }
}

/// Puts a CA in place of the one that is there, as `cp` does.
fn plug_in(place: &Path, number: usize) {
    let made = place.join(format!("company-{number}"));
    std::fs::create_dir(&made).unwrap();
    let company = Company::make(&made, &SIGNERS[2]);
    let target = place.join("cacerts");
    std::fs::create_dir_all(&target).unwrap();
    for file in ["ca-cert.pem", "ca-key.pem", "root-cert.pem", "cert-chain.pem"] {
        std::fs::copy(company.cacerts.join(file), target.join(file)).unwrap();
    }
}

/// For people, also when the test succeeds: what `eprintln` says is shown only when it does not.
fn figure(text: std::fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// The whole way of a change of root, in 200 namespaces; in 3,000, and with a watch on the time, under `--long`.
#[test]
fn a_new_root_reaches_every_namespace_and_then_signs() {
    let long = std::env::var_os("TESTS_LONG").is_some();
    let count = if long { 3000 } else { 200 };
    let mut names: Vec<String> = (0..count).map(|number| format!("spread-{number:04}")).collect();
    names.iter().for_each(|name| namespace(name, "spread"));
    let limit = Duration::from_secs(if long { 60 } else { 120 });
    let started = Instant::now();
    let mut mesh = Mesh::start("spread", json!({}));
    mesh.wait_until_current(count, limit);
    figure(format_args!(
        "{count} namespaces, none has a ConfigMap: {:?}",
        started.elapsed()
    ));
    let first = roots(&names[0]).unwrap();
    assert_eq!(first.matches("BEGIN").count(), 1);

    // What is as it should be is not written, also by a process that has just begun.
    let versions = |names: &[String]| {
        let mut versions: Vec<String> = maps(names).iter().map(|map| map["metadata"].to_string()).collect();
        versions.sort();
        versions
    };
    let before = versions(&names);
    assert_eq!(before.len(), count);
    mesh.server.stop();
    mesh.server.start_again();
    mesh.wait_until_current(count, limit);
    assert!(versions(&names) == before, "something was written");
    let written = |result: &str| {
        let name = format!("countersign_root_configmap_writes_total{{result=\"{result}\"}}");
        mesh.server.metric(&name).unwrap_or_default()
    };
    assert_eq!(written("created") + written("replaced") + written("failed"), 0.0);

    let started = Instant::now();
    plug_in(mesh.place.path(), 1);
    let pending = || mesh.server.metric("countersign_ca_change_pending").unwrap();
    until("a pending root", PATIENCE, || (pending() == 1.0).then_some(()));
    let published = Instant::now();
    until("a part of the spread", PATIENCE, || {
        (count / 10..count).contains(&mesh.standing("current")).then_some(())
    });
    let new = Instant::now();
    namespace("spread-new", mesh.label);
    names.push("spread-new".into());
    until("roots in the new namespace", PATIENCE, || roots("spread-new"));
    let new = new.elapsed();
    figure(format_args!(
        "a new namespace during the next spread: {new:?}, when {} were done",
        mesh.standing("current")
    ));
    mesh.wait_until_current(count + 1, limit);
    let spread = published.elapsed();
    figure(format_args!("{count} namespaces, another root: {spread:?}"));
    let text = roots("spread-new").unwrap();
    assert_eq!(text.matches("BEGIN").count(), 2);
    assert!(text.starts_with(&first), "roots keep their order");
    let maps = maps(&names);
    assert_eq!(maps.len(), count + 1);
    for map in &maps {
        assert_eq!(map["data"], json!({ KEY: text }));
        assert_eq!(map["metadata"]["labels"]["istio.io/config"], "true");
    }
    assert_eq!(written("failed"), 0.0);

    until("the new root to sign, without an admin", PATIENCE, || {
        (pending() == 0.0).then_some(())
    });
    figure(format_args!(
        "from the files to the new root signing: {:?}",
        started.elapsed()
    ));
    if long {
        assert!(
            spread < Duration::from_secs(60) && new < Duration::from_secs(2),
            "{spread:?}, {new:?}"
        );
    }
}

#[test]
fn edits_and_deletions_are_put_right() {
    ["repair-a", "repair-b"]
        .iter()
        .for_each(|name| namespace(name, "repair"));
    let mesh = Mesh::start("repair", json!({}));
    mesh.wait_until_current(2, PATIENCE);
    let text = roots("repair-a").unwrap();

    let edit = json!({"data": {KEY: "nonsense", "mine": "x"}, "metadata": {"labels": {"team": "blue"}}});
    api().patch(&path("repair-a"), "kubectl-edit", &edit);
    wait_for("repair-a", &text);
    let map = api().get(&path("repair-a")).unwrap();
    assert_eq!(map["data"], json!({KEY: text, "mine": "x"}));
    assert_eq!(
        map["metadata"]["labels"],
        json!({"istio.io/config": "true", "team": "blue"})
    );

    let binary = json!({"data": null, "binaryData": {KEY: "eA=="}});
    api().patch(&path("repair-b"), "kubectl-edit", &binary);
    wait_for("repair-b", &text);
    assert_eq!(api().get(&path("repair-b")).unwrap().get("binaryData"), None);

    api().delete(&path("repair-a"));
    wait_for("repair-a", &text);

    // The deletion of a namespace never ends here: nobody runs the controller that empties it.
    api().delete("/api/v1/namespaces/repair-b");
    api().delete(&path("repair-b"));
    until("one namespace less", PATIENCE, || {
        (mesh.standing("selected") == 1).then_some(())
    });
    assert_eq!(roots("repair-b"), None);
    assert_eq!(mesh.standing("failed"), 0);
}

#[test]
fn what_istiod_wrote_is_left_alone_until_it_is_to_be_taken_over() {
    const THEIRS: &str = "theirs";
    for name in ["istiod-a", "istiod-b"] {
        namespace(name, "istiod");
        let object =
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": NAME}, "data": {KEY: THEIRS}});
        let path = format!("/api/v1/namespaces/{name}/configmaps?fieldManager=pilot-discovery");
        api().create(&path, &object).unwrap();
    }
    namespace("istiod-c", "istiod");
    let mut mesh = Mesh::start("istiod", json!({}));
    until("the roots in istiod-c", PATIENCE, || roots("istiod-c"));
    until("the others to be known", PATIENCE, || {
        (mesh.standing("foreign") == 2).then_some(())
    });
    assert_eq!(roots("istiod-a").unwrap(), THEIRS);

    mesh.server.stop();
    mesh.server
        .change_settings(json!({"roots": {"configMaps": {"takeOver": true}}}));
    mesh.server.start_again();
    let ours = roots("istiod-c").unwrap();
    wait_for("istiod-a", &ours);
    assert_eq!(roots("istiod-b").unwrap(), THEIRS, "one is tried first");
    // An istiod that still runs.
    api().patch(&path("istiod-a"), "pilot-discovery", &json!({"data": {KEY: THEIRS}}));
    let undone = mesh.server.event(
        "another CA's controller keeps the ConfigMaps with roots too and undid what was written: they are left to it; let one of the two do it \
         (for istiod: ENABLE_CA_SERVER=false; here: roots.configMaps.enabled=false)",
    );
    assert_eq!(
        (&undone["namespace"], &undone["writer"]),
        (&json!("istiod-a"), &json!("pilot-discovery"))
    );
    assert_eq!(
        (roots("istiod-a").unwrap().as_str(), roots("istiod-b").unwrap().as_str()),
        (THEIRS, THEIRS)
    );
    assert_eq!(mesh.server.readiness().status, 200);
}
