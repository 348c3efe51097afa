//! The administrator's recipe against a real TLS server that shows a workload's certificate from us, through a change of root.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::support::countersign::{Countersign, verified_offline, with};
use crate::support::openssl::{STRICT, openssl, text};
use crate::support::pods::token_file;
use crate::support::process::{Process, command, output};
use crate::support::scene::Scene;
use crate::support::wait::PATIENCE;

fn countersign(arguments: &[&str]) -> String {
    output(Command::new(env!("CARGO_BIN_EXE_countersign")).args(arguments)).unwrap()
}

/// A root of its own and a folder under it, by `init`.
fn init(place: &Path, name: &str) -> PathBuf {
    let pki = place.join(name);
    countersign(&["init", "root", "--dir", text(&pki)]);
    countersign(&["init", "cacerts", "--dir", text(&pki), "--cluster", "c"]);
    pki.join("c")
}

/// A TLS server with a certificate that is asked for now.
struct Workload {
    _server: Process,
    address: String,
}

impl Workload {
    fn start(ca: &Countersign, root: &Path, token: &Path, out: &Path) -> Self {
        let address = ca.address.to_string();
        let ask = [
            "request",
            "--ca",
            &address,
            "--root",
            text(root),
            "--token",
            text(token),
            "--out",
            text(out),
        ];
        countersign(&ask);
        // It sends what follows the leaf, and the roots: Istio's agent gives Envoy every element of an answer as its chain.
        let read = |name: &str| std::fs::read_to_string(out.join(name)).unwrap();
        let chain = read("cert-chain.pem");
        let (_, above) = chain.split_once("-----END CERTIFICATE-----\n").unwrap();
        std::fs::write(out.join("above.pem"), above.to_owned() + &read("root-cert.pem")).unwrap();
        let mut serve = command(Path::new("openssl"));
        serve
            .current_dir(out)
            .args(["s_server", "-accept", "127.0.0.1:0", "-www", "-cert", "cert-chain.pem"]);
        serve.args(["-key", "key.pem", "-cert_chain", "above.pem"]);
        let mut server = Process::start("s_server", out, serve);
        let address = server.wait_for("address", PATIENCE, |log| {
            let line = log.lines().find_map(|line| line.strip_prefix("ACCEPT "))?;
            Some(line.to_owned())
        });
        Self {
            _server: server,
            address,
        }
    }

    fn recipe(&self, cacerts: &Path) -> Result<String, String> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/real/recipe");
        output(Command::new("bash").arg(script).arg(&self.address).arg(cacerts))
    }

    fn assert_is_from(&self, cacerts: &Path) {
        let told = self.recipe(cacerts).unwrap();
        assert!(told.ends_with("proxy-cert-1.pem: OK\n"), "{told}");
    }

    fn assert_is_not_from(&self, cacerts: &Path, why: &str) {
        let told = self.recipe(cacerts).unwrap_err();
        assert!(told.contains(why), "{told}");
    }
}

#[test]
fn what_init_makes_is_what_openssl_calls_strict() {
    let scene = Scene::offline(json!({}));
    let made = init(scene.place.path(), "pki");
    let (certificate, root) = (made.join("ca-cert.pem"), made.join("root-cert.pem"));
    for [roots, judged] in [[&root, &certificate], [&root, &root]] {
        let verify = ["verify", "-no-CApath", "-no-CAstore", "-CAfile", text(roots)];
        openssl(&[&verify[..], STRICT, &[text(judged)]].concat()).unwrap();
    }
    countersign(&["check", "--cacerts", text(&made)]);
}

#[test]
fn the_recipe_before_during_and_after_a_change_of_root() {
    let scene = Scene::offline(json!({}));
    let place = scene.place.path();
    let token = token_file(place, &scene.pod.token());
    let (old, new) = (init(place, "old"), init(place, "new"));
    let mounted = place.join("mounted");
    let copy = |from: &Path| {
        for name in ["ca-cert.pem", "ca-key.pem", "root-cert.pem", "cert-chain.pem"] {
            std::fs::copy(from.join(name), mounted.join(name)).unwrap();
        }
    };
    std::fs::create_dir(&mounted).unwrap();
    copy(&old);
    let socket = place.join("admin.sock");
    let ca = json!({"ca": {"type": "plugged-in", "directory": mounted}, "admin": {"socket": socket}});
    let server = Countersign::start(with(verified_offline(place), ca));
    // The channel stays under the old root until the last certificate under it has expired.
    let root = old.join("root-cert.pem");
    let workload = |name: &str| Workload::start(&server, &root, &token, &scene.new_directory(name));
    let steer = |arguments: &[&str]| {
        let always = ["--socket", text(&socket), "--reason", "a test"];
        countersign(&[&["root"][..], arguments, &always].concat())
    };

    let before = workload("before");
    before.assert_is_from(&old);
    before.assert_is_not_from(&new, "the root is not among what it showed");

    copy(&new);
    steer(&["reload"]);
    let during = workload("during");
    during.assert_is_from(&old);
    during.assert_is_not_from(&new, "another CA signed");

    steer(&["activate", "--now"]);
    let after = workload("after");
    after.assert_is_from(&new);
    after.assert_is_not_from(&old, "another CA signed");
}

#[test]
fn the_recipe_with_a_self_signed_ca() {
    let scene = Scene::offline(json!({}));
    let token = token_file(scene.place.path(), &scene.pod.token());
    let root = scene.server.root();
    let workload = Workload::start(&scene.server, root, &token, &scene.new_directory("workload"));
    workload.assert_is_from(root.parent().unwrap());
    workload.assert_is_not_from(
        &init(scene.place.path(), "other"),
        "the root is not among what it showed",
    );
}
