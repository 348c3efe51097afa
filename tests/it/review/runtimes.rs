//! Over real connections: callers on many runtimes, of which some end; kubeconfigs.

use std::path::Path;
use std::thread::JoinHandle;
use std::time::Duration;

use countersign::cluster::{self, CallError, ConnectError, ReviewError};
use countersign::model::BearerToken;
use countersign::platform::files::{self, Mode};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;

use super::{PATIENCE, Scene, token, word};
use crate::support::api_server::{Answer, ApiServer, account};

/// One thread, as each worker of the server has it.
fn worker() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// The runtime that the client lives on, on a thread of its own until this is dropped.
struct Driven {
    handle: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Driven {
    fn new() -> Self {
        let runtime = worker();
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let _ = runtime.block_on(stopped);
        });
        Self {
            handle,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// Runs something there.
    fn run<F>(&self, work: F) -> F::Output
    where
        F: Future<Output: Send> + Send + 'static,
    {
        worker().block_on(self.handle.spawn(work)).unwrap()
    }
}

impl Drop for Driven {
    fn drop(&mut self) {
        drop(self.stop.take());
        self.thread.take().unwrap().join().unwrap();
    }
}

fn kubeconfig(directory: &Path, server: &str, user: &str) -> std::path::PathBuf {
    let path = directory.join("kubeconfig");
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
         contexts: [{{name: c, context: {{cluster: k, user: u}}}}]\n\
         clusters: [{{name: k, cluster: {{server: \"{server}\"}}}}]\n\
         users: [{{name: u, user: {user}}}]\n"
    );
    files::write(&path, text.as_bytes(), Mode::Secret).unwrap();
    path
}

/// Connections belong to the runtime that opened them. Callers come and go with theirs; those of the client stay.
#[test]
fn callers_runtimes_come_and_go() {
    let main = Driven::new();
    let directory = tempfile::tempdir().unwrap();
    let api = ApiServer::new();
    let listening = api.clone();
    let address = main.run(async move { listening.listen().await });
    let path = kubeconfig(directory.path(), &address, "{token: ours}");
    let handle = main.handle.clone();
    let connect =
        async move { cluster::ApiServer::connect(&cluster::Credentials::Kubeconfig(path.clone()), handle).await };
    let reached = main.run(connect).unwrap();
    let scene = Scene::reaching(api, reached, |_| {});
    scene.api.answer_others(account("shop", "cart"));
    for round in 0..5 {
        let worker = worker();
        assert_eq!(worker.block_on(scene.word(&format!("token-{round}"))), "cart");
        drop(worker);
    }
    assert_eq!(scene.api.last_question()["authorization"], "Bearer ours");
    assert_eq!(scene.api.calls(), 5);

    // A caller whose whole runtime ends amid its review leaves the review to others.
    scene.answer("held", Answer::Held(Box::new(account("shop", "till"))));
    let first = worker();
    let leader = first.spawn({
        let (authenticator, deadline) = (scene.authenticator.clone(), scene.within(PATIENCE));
        async move {
            word(
                &authenticator
                    .authenticate(&BearerToken::new(token("held")), None, None, deadline)
                    .await,
            )
        }
    });
    first.block_on(scene.api.called(6));
    drop(first);
    drop(leader);
    scene.api.let_go();
    assert_eq!(worker().block_on(scene.word("held")), "till");
    assert_eq!(scene.api.calls(), 6);
}

#[test]
fn workers_share_one_review() {
    let main = Driven::new();
    let scene = {
        let _main = main.handle.enter();
        Scene::new()
    };
    scene.answer("token", Answer::Held(Box::new(account("shop", "cart"))));
    std::thread::scope(|threads| {
        let asking = || {
            worker().block_on(async {
                let callers: Vec<_> = (0..250).map(|_| scene.asking("token", PATIENCE)).collect();
                for caller in callers {
                    assert_eq!(caller.await.unwrap(), "cart");
                }
            });
        };
        for _ in 0..4 {
            threads.spawn(asking);
        }
        worker().block_on(scene.api.called(1));
        scene.api.let_go();
    });
    assert_eq!(scene.api.calls(), 1);
}

/// The client's own runtime has gone: nobody hangs.
#[test]
fn without_its_runtime_nothing_hangs() {
    let main = worker();
    let scene = {
        let _main = main.enter();
        Scene::new()
    };
    drop(main);
    let word = worker().block_on(scene.word("token"));
    assert_eq!(word, "?review_abandoned");
    // Calls of our own run there too, never where they are waited for.
    let probe = worker().block_on(scene.authenticator.probe());
    let given_up = CallError::Unreachable("the call was given up".into());
    assert_eq!(probe, Err(ReviewError::Call(given_up)));
}

#[test]
fn nobody_listens() {
    let main = worker();
    let directory = tempfile::tempdir().unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let path = kubeconfig(directory.path(), &format!("http://{port}"), "{token: ours}");
    main.block_on(async {
        let reached =
            cluster::ApiServer::connect(&cluster::Credentials::Kubeconfig(path.clone()), main.handle().clone())
                .await
                .unwrap();
        let scene = Scene::reaching(ApiServer::new(), reached, |config| {
            config.time_limit = Duration::from_secs(20)
        });
        assert_eq!(scene.word("token").await, "?review_unreachable");
    });
}

/// Errors are for logs; what stands in a kubeconfig is not.
#[tokio::test]
async fn errors_about_kubeconfigs_tell_no_secrets() {
    let directory = tempfile::tempdir().unwrap();
    let here = tokio::runtime::Handle::current;
    let server = "https://127.0.0.1:1";
    let broken = "{token: hush, token: hush-hush, ]";
    let unreadable_key = "{client-certificate-data: aHVzaA==, client-key-data: aHVzaA==}";
    let plug_in = "{exec: {apiVersion: client.authentication.k8s.io/v1, command: sh, args: [-c, 'echo hush; exit 3'], interactiveMode: Never}}";
    let talkative = "{exec: {apiVersion: client.authentication.k8s.io/v1, command: echo, args: ['{\"token\": \"hush\"'], interactiveMode: Never}}";
    for (user, expected) in [
        (broken, "it is not a kubeconfig in YAML at line"),
        (unreadable_key, "identity PEM"),
        (plug_in, "ended with exit status: 3"),
        (talkative, "the credential plug-in's answer cannot be read"),
    ] {
        let path = kubeconfig(directory.path(), server, user);
        let error = cluster::ApiServer::connect(&cluster::Credentials::Kubeconfig(path.clone()), here())
            .await
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains(expected), "{error}");
        assert!(!error.contains("hush") && !error.contains("aHVzaA"), "{error}");
    }
    let missing =
        cluster::ApiServer::connect(&cluster::Credentials::Kubeconfig("/nowhere/kubeconfig".into()), here()).await;
    assert!(matches!(missing, Err(ConnectError::Kubeconfig { .. })));
}
