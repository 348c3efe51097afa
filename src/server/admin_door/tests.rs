use std::sync::Mutex;

use tonic::Code;
use tonic::transport::{Channel, Endpoint};

use super::*;
use crate::authority::{self, CaKind, RootAlgorithm, SelfSignedConfig};
use crate::platform::SystemClock;
use crate::platform::shutdown::shutdown;
use crate::proto::admin::admin_client::AdminClient;
use crate::telemetry::{Metrics, Readiness};

#[test]
fn root_and_our_own_user_are_admitted_and_nobody_else() {
    assert!(may_steer(0, 1337) && may_steer(1337, 1337) && may_steer(0, 0));
    assert!(!may_steer(1338, 1337) && !may_steer(1337, 0));
    // What the kernel shows of a user whom this container does not have.
    assert!(!may_steer(65_534, 1337));
}

#[test]
fn reasons() {
    assert_eq!(checked(" CHG-7, by night ".into()).unwrap(), "CHG-7, by night");
    for bad in ["", " \t", "a\nb", "\u{1b}[2J", &"x".repeat(501)] {
        let refused = checked(bad.into()).unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{bad:?}");
    }
}

/// Over a connection: whoever may not is told so, whoever may gets as far as a CA that is closed.
#[tokio::test]
async fn the_caller_s_user_decides() {
    let folder = tempfile::tempdir().unwrap();
    for (uid, expected) in [
        (7, Code::Unavailable),
        (0, Code::Unavailable),
        (8, Code::PermissionDenied),
    ] {
        let desk = Desk {
            steering: closed(folder.path()),
            peer: Peer { uid, pid: Some(1) },
            owner: 7,
        };
        let (ours, theirs) = UnixStream::pair().unwrap();
        tokio::spawn(connection(ours, desk));
        let mut client = client(theirs);
        let status = client.status(StatusRequest {}).await.unwrap_err();
        assert_eq!(status.code(), expected, "{uid}: {status}");
        let reason = "a test".to_owned();
        let status = client.reload(ReloadRequest { reason }).await.unwrap_err();
        assert_eq!(status.code(), expected, "{uid}: {status}");
    }
}

/// Time passes in this test only when everyone waits for it.
#[tokio::test(start_paused = true)]
async fn connections_are_few_and_do_not_last() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("door");
    let door = AdminDoor::open(&path, closed(&folder.path().join("ca"))).await.unwrap();
    let (_trigger, asked) = shutdown();
    tokio::spawn(door.serve(asked));
    // How long a call takes, whose answer is that the CA is closing.
    let call = async || {
        let start = tokio::time::Instant::now();
        let mut client = client(UnixStream::connect(&path).await.unwrap());
        let status = client.status(StatusRequest {}).await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable);
        start.elapsed()
    };
    let mut idle = Vec::new();
    for _ in 0..CONNECTIONS {
        assert!(call().await < DENIED, "there was room");
        idle.push(UnixStream::connect(&path).await.unwrap());
    }
    assert!(
        call().await >= CONNECTION - DENIED,
        "it waited until the first of them was cut"
    );
}

fn client(stream: UnixStream) -> AdminClient<Channel> {
    let once = Mutex::new(Some(stream));
    let connector = tower::service_fn(move |_| {
        let stream = once.lock().unwrap().take().unwrap();
        async move { Ok::<_, std::io::Error>(TokioIo::new(stream)) }
    });
    AdminClient::new(Endpoint::from_static("http://door").connect_with_connector_lazy(connector))
}

/// A line to a CA that is there no more.
fn closed(directory: &Path) -> Steering {
    let config = authority::Config {
        kind: CaKind::SelfSigned,
        plugged_in_directory: directory.join("cacerts"),
        self_signed: SelfSignedConfig {
            directory: directory.to_owned(),
            algorithm: RootAlgorithm::P256,
            lifetime: crate::model::Lifetime::from_seconds(86_400).unwrap(),
            organization: "cluster.local".into(),
            new_root: false,
        },
    };
    let clock = Arc::new(SystemClock);
    let metrics = Arc::new(Metrics::new(clock.clone(), &Readiness::default()));
    authority::open(&config, clock, metrics).unwrap().steering()
}
