//! The admin's door: over its socket, with the CA in this process, and with the real binary on both sides.

mod commands;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use countersign::app::admin::{self, Act, AdminError};
use countersign::model::{CaCertificate, Fingerprint, Timestamp};
use countersign::platform::files::{self, Mode};
use countersign::platform::{Clock, SystemClock};
use countersign::proto::admin::admin_client::AdminClient;
use countersign::proto::admin::files::State;
use countersign::proto::admin::{CaStatus, ConfirmRequest, ReloadRequest, StatusRequest};
use hyper_util::rt::TokioIo;
use rcgen::{CertifiedIssuer, KeyPair};
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

use crate::support::ca;
use crate::support::server::{Server, request};

/// A CA that signs with a root of its own until files are plugged in.
struct Scene {
    server: Server,
    folder: tempfile::TempDir,
}

impl Scene {
    async fn start() -> Self {
        Self::with(&[]).await
    }

    async fn with(assignments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let plugged_in = format!("ca.directory={}", folder.path().join("cacerts").display());
        let assignments = [
            &["ca.type=auto", plugged_in.as_str(), "listen.plaintext=127.0.0.1:0"],
            assignments,
        ]
        .concat();
        Self {
            server: Server::with(&assignments).await,
            folder,
        }
    }

    fn socket(&self) -> PathBuf {
        self.server.directory.path().join("ca/admin.sock")
    }

    async fn status(&self) -> CaStatus {
        admin::ask(&self.socket(), None).await.unwrap()
    }

    async fn act(&self, act: Act) -> Result<CaStatus, AdminError> {
        admin::ask(&self.socket(), Some((act, "a test"))).await
    }

    /// Why it was not done.
    async fn refused(&self, act: Act) -> String {
        match self.act(act).await.unwrap_err() {
            AdminError::Refused(why) => why,
            other => panic!("{other}"),
        }
    }

    /// Plugs a new CA in; its root is not taken yet.
    fn plug_in(&self, name: &str) -> Fingerprint {
        plug_in(&self.folder.path().join("cacerts"), name)
    }

    /// Issues a certificate, then begins a change to the root of another CA.
    async fn change(&self, name: &str) -> Fingerprint {
        self.server.ask(request().0).await.unwrap();
        let root = self.plug_in(name);
        let status = self.act(Act::Reload).await.unwrap();
        assert_eq!(status.change.unwrap().root, root.to_string());
        root
    }
}

fn plug_in(directory: &Path, name: &str) -> Fingerprint {
    let validity = ca::years(SystemClock.now());
    let root = ca::root(&format!("{name} Root"), KeyPair::generate().unwrap(), validity);
    let key = KeyPair::generate().unwrap();
    let signer = CertifiedIssuer::signed_by(ca::authority(&format!("{name} Signer"), validity), key, &root).unwrap();
    std::fs::create_dir_all(directory).unwrap();
    let write =
        |file: &str, content: &str, mode| files::write(&directory.join(file), content.as_bytes(), mode).unwrap();
    write("ca-key.pem", &signer.key().serialize_pem(), Mode::Secret);
    write("ca-cert.pem", &signer.pem(), Mode::Public);
    write("root-cert.pem", &root.pem(), Mode::Public);
    CaCertificate::parse(root.der()).unwrap().fingerprint()
}

/// Whether a root signs, is listed, and has leaves; `None` when it is not in the bundle.
fn standing(status: &CaStatus, root: &str) -> Option<(bool, bool, bool)> {
    let named = |known: &&countersign::proto::admin::Root| known.certificate.as_ref().unwrap().fingerprint == root;
    let root = status.roots.iter().find(named)?;
    Some((root.signs, root.listed, root.leaves_until.is_some()))
}

async fn client(socket: PathBuf) -> AdminClient<Channel> {
    let connector = tower::service_fn(move |_| {
        let socket = socket.clone();
        async move { tokio::net::UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    let endpoint = Endpoint::from_static("http://door");
    AdminClient::new(endpoint.connect_with_connector(connector).await.unwrap())
}

#[tokio::test]
async fn says_how_the_ca_stands() {
    let scene = Scene::start().await;
    let mode = std::fs::metadata(scene.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let status = scene.status().await;
    let root = &status.roots[0].certificate.clone().unwrap();
    let expected =
        CaCertificate::parse(&countersign::model::pem::blocks(scene.server.root.as_bytes(), 1).unwrap()[0].der)
            .unwrap();
    assert_eq!(root.fingerprint, expected.fingerprint().to_string());
    assert_eq!(root.subject, expected.subject_text());
    let end = Timestamp::from_unix(root.not_after.unwrap().seconds);
    assert_eq!(end, expected.validity().not_after);
    assert_eq!(&status.chain[..], std::slice::from_ref(root));
    assert_eq!(standing(&status, &root.fingerprint), Some((true, true, false)));
    assert_eq!(
        (status.generation, status.change.clone(), status.stopped.as_str()),
        (1, None, "")
    );
    assert_eq!(status.files.clone().unwrap().state(), State::Taken);
    assert!(status.source.starts_with("self-signed root in "), "{}", status.source);
    assert!(admin::trouble(&status, SystemClock.now()).is_empty());

    let socket = scene.socket();
    scene.server.stop().await.unwrap();
    assert!(!socket.exists());
    let told = admin::ask(&socket, None).await.unwrap_err();
    assert!(matches!(told, AdminError::Nobody(_)), "{told}");
}

#[tokio::test]
async fn a_change_of_root_is_steered_to_its_end() {
    let scene = Scene::start().await;
    let old = scene.status().await.chain[0].fingerprint.clone();
    let new = scene.change("New").await;

    let status = scene.status().await;
    assert_eq!(standing(&status, &old), Some((true, false, true)));
    assert_eq!(standing(&status, &new.to_string()), Some((false, true, false)));
    let change = status.change.clone().unwrap();
    let leaves = change.leaves_until.unwrap().seconds;
    // The certificate lasts a day.
    assert!(
        (86_400..100_000).contains(&(leaves - change.since.unwrap().seconds)),
        "{change:?}"
    );
    assert!(change.distribution);

    // An admin speaks of the change that they saw, and of no other.
    for act in [
        Act::Confirm(Fingerprint::of(b"x")),
        Act::ActivateNow(Fingerprint::of(b"x")),
    ] {
        let told = scene.refused(act).await;
        assert!(told.contains("another root is pending by now"), "{told}");
        assert_eq!(scene.status().await, status);
    }
    let confirmed = scene.act(Act::Confirm(new)).await.unwrap().change.unwrap();
    assert!(!confirmed.distribution && confirmed.leaves_until.is_some());

    let status = scene.act(Act::ActivateNow(new)).await.unwrap();
    assert!(standing(&status, &new.to_string()).unwrap().0);
    assert_eq!((status.change, status.chain.len()), (None, 1));
    let told = scene.refused(Act::Confirm(new)).await;
    assert_eq!(told, "no change of root is pending");

    let gone = old.parse().unwrap();
    let told = scene.refused(Act::Forget(gone, false)).await;
    assert!(told.contains("certificates under it are still valid"), "{told}");
    let status = scene.act(Act::Forget(gone, true)).await.unwrap();
    assert_eq!(standing(&status, &old), None);

    let signer: Fingerprint = status.chain[0].fingerprint.parse().unwrap();
    let status = scene.act(Act::Withdraw(signer)).await.unwrap();
    assert_eq!((status.chain.len(), status.withdrawn), (0, vec![signer.to_string()]));
    assert!(status.stopped.contains("was withdrawn"), "{}", status.stopped);
    let answer = scene.server.ask(request().0).await.unwrap_err();
    assert_eq!(answer.code(), Code::Unavailable);
}

/// There would be no bundle to answer with, and the old state would stay in force.
#[tokio::test]
async fn the_only_root_stops_signing_when_it_is_withdrawn_and_is_kept() {
    let scene = Scene::start().await;
    let root = scene.status().await.chain[0].fingerprint.parse().unwrap();
    let status = scene.act(Act::Withdraw(root)).await.unwrap();
    assert_eq!((status.chain.len(), status.roots.len()), (0, 1));
    let answer = scene.server.ask(request().0).await.unwrap_err();
    assert_eq!(answer.code(), Code::Unavailable);
    let told = scene.refused(Act::Forget(root, true)).await;
    assert!(told.contains("it is the only one in the bundle"), "{told}");
}

#[tokio::test]
async fn bad_files_are_told_and_the_last_good_ones_sign_on() {
    let scene = Scene::start().await;
    scene.change("New").await;
    let key = scene.folder.path().join("cacerts/ca-key.pem");
    files::write(&key, b"no key", Mode::Secret).unwrap();
    let told = scene.refused(Act::Reload).await;
    assert!(
        told.contains("ca-key.pem") && told.contains("the last good ones sign on"),
        "{told}"
    );
    let status = scene.status().await;
    let seen = status.files.clone().unwrap();
    assert_eq!(seen.state(), State::Bad);
    assert!(seen.findings[0].contains("ca-key.pem"), "{seen:?}");
    assert_eq!(status.chain.len(), 1);
    let trouble = admin::trouble(&status, SystemClock.now());
    assert!(trouble.len() == 1 && trouble[0].contains("ca-key.pem"), "{trouble:?}");

    std::fs::remove_dir_all(key.parent().unwrap()).unwrap();
    let status = scene.act(Act::Reload).await.unwrap();
    assert_eq!(status.files.unwrap().state(), State::Gone);
}

#[tokio::test]
async fn wrong_requests_are_refused() {
    let scene = Scene::start().await;
    let mut client = client(scene.socket()).await;
    let reload = |reason: &str| ReloadRequest { reason: reason.into() };
    for (reason, code) in [
        ("", Code::InvalidArgument),
        (" ", Code::InvalidArgument),
        ("two\nlines", Code::InvalidArgument),
        (&*"x".repeat(501), Code::InvalidArgument),
        (&*"x".repeat(5000), Code::OutOfRange),
    ] {
        let refused = client.reload(reload(reason)).await.unwrap_err();
        assert_eq!(refused.code(), code, "{reason:?}");
    }
    let confirm = ConfirmRequest {
        reason: "a test".into(),
        root: "abc".into(),
    };
    let refused = client.confirm(confirm).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    client.reload(reload("a test")).await.unwrap();
}

/// The door of the host's admin is no business of the network.
#[tokio::test]
async fn the_public_door_knows_nothing_of_it() {
    let scene = Scene::start().await;
    let uri = format!("http://{}", scene.server.addresses.plaintext.unwrap());
    let channel = Endpoint::new(uri).unwrap().connect().await.unwrap();
    let refused = AdminClient::new(channel.clone())
        .status(StatusRequest {})
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented);

    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
    let asked = |wanted| tonic_reflection::pb::v1::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(wanted),
    };
    let mut reflection = ServerReflectionClient::new(channel);
    let questions = [
        MessageRequest::ListServices(String::new()),
        MessageRequest::FileContainingSymbol("countersign.admin.v1.Admin".into()),
    ];
    let mut answers = reflection
        .server_reflection_info(tokio_stream::iter(questions.map(asked)))
        .await
        .unwrap()
        .into_inner();
    let Some(MessageResponse::ListServicesResponse(list)) = answers.message().await.unwrap().unwrap().message_response
    else {
        panic!("no list of services");
    };
    assert!(list.service.len() >= 3, "{list:?}");
    assert!(
        !list.service.iter().any(|service| service.name.contains("countersign")),
        "{list:?}"
    );
    assert_eq!(answers.message().await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn the_door_is_where_the_settings_say() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("door");
    // As a process that was killed leaves it.
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let scene = Scene::with(&[&format!("admin.socket={}", socket.display())]).await;
    assert!(!scene.socket().exists());
    admin::ask(&socket, None).await.unwrap();

    let scene = Scene::with(&["admin.socket="]).await;
    assert!(!scene.socket().exists());
}
