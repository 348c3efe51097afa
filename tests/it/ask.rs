//! Asking a CA for a certificate: against a fake that says whatever a real one might.

use std::time::Duration;

use countersign::agent::{Ask, AskError, ClientIdentity, Connection, Endpoint, Key};
use countersign::model::{BearerToken, Identity, KeyAlgorithm};
use countersign::platform::SystemClock;
use tonic::Code;

use crate::support::fake_ca::{Answer, FakeCa};

const ME: &str = "spiffe://cluster.local/ns/default/sa/sleep";

fn ask(address: impl std::fmt::Display, connection: Connection) -> Ask {
    Ask {
        endpoint: Endpoint::new(&address.to_string(), connection).unwrap(),
        identity: Identity::parse(ME).unwrap(),
        token: Some(BearerToken::new("a.b.c".into())),
        lifetime: 3600,
        cluster_id: Some("blue".into()),
        deadline: Duration::from_secs(20),
    }
}

async fn send(ask: &Ask) -> Result<countersign::agent::Certificate, AskError> {
    ask.send(&Key::generate(KeyAlgorithm::P256).unwrap(), &SystemClock)
        .await
}

async fn refusal(ask: &Ask) -> AskError {
    send(ask).await.err().expect("it was accepted")
}

#[tokio::test]
async fn a_certificate_comes_with_everything_around_it() {
    let ca = FakeCa::plaintext([Answer::Sign(ME)]).await;
    let certificate = send(&ask(ca.address, Connection::Plaintext)).await.unwrap();
    assert_eq!(certificate.identity.to_string(), ME);
    assert_eq!(certificate.chain.len(), 1);
    assert_eq!(certificate.bundle, ca.root());
    let seen = ca.seen();
    assert_eq!(seen[0].authorization.as_deref(), Some("Bearer a.b.c"));
    assert_eq!(seen[0].cluster_id.as_deref(), Some("blue"));
    assert_eq!(seen[0].lifetime, 3600);
}

#[tokio::test]
async fn retries_the_codes_that_istio_retries() {
    let again = [
        Code::Unavailable,
        Code::ResourceExhausted,
        Code::Aborted,
        Code::Internal,
    ];
    let script = again.map(Answer::Refuse).into_iter().chain([Answer::Sign(ME)]);
    let ca = FakeCa::plaintext(script).await;
    send(&ask(ca.address, Connection::Plaintext)).await.unwrap();
    assert_eq!(ca.seen().len(), 5);
}

#[tokio::test]
async fn gives_up_after_five() {
    let ca = FakeCa::plaintext((0..5).map(|_| Answer::Refuse(Code::Unavailable))).await;
    let refused = refusal(&ask(ca.address, Connection::Plaintext)).await;
    assert_eq!(refused.to_string(), "the CA answered Unavailable at attempt 5: no");
    assert_eq!(ca.seen().len(), 5);
}

#[tokio::test]
async fn takes_no_for_an_answer() {
    for code in [
        Code::Unauthenticated,
        Code::PermissionDenied,
        Code::InvalidArgument,
        Code::Unknown,
        Code::Cancelled,
    ] {
        let ca = FakeCa::plaintext([Answer::Refuse(code)]).await;
        let refused = refusal(&ask(ca.address, Connection::Plaintext)).await;
        assert!(
            matches!(refused, AskError::Refused { code: found, attempts: 1, .. } if found == code),
            "{refused}"
        );
    }
}

#[tokio::test]
async fn refuses_a_certificate_for_somebody_else() {
    let ca = FakeCa::plaintext([Answer::Sign("spiffe://cluster.local/ns/default/sa/admin")]).await;
    let refused = refusal(&ask(ca.address, Connection::Plaintext)).await;
    assert_eq!(
        refused.to_string(),
        format!(
            "the CA's answer cannot be used: the certificate is for spiffe://cluster.local/ns/default/sa/admin, not for {ME}"
        )
    );
}

#[tokio::test]
async fn does_not_wait_for_ever() {
    let ca = FakeCa::plaintext([Answer::Refuse(Code::Unavailable), Answer::Hang]).await;
    let mut ask = ask(ca.address, Connection::Plaintext);
    ask.deadline = Duration::from_secs(1);
    assert_eq!(
        refusal(&ask).await.to_string(),
        "no certificate within 1 s; the last failure: the CA answered Unavailable at attempt 1: no"
    );
}

#[tokio::test]
async fn nobody_there() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    assert_eq!(
        refusal(&ask(address, Connection::Plaintext)).await.to_string(),
        format!("cannot connect to {address}: Connection refused (os error 111) (attempt 5)")
    );
}

#[tokio::test]
async fn a_name_that_leads_nowhere() {
    let refused = refusal(&ask("nowhere.invalid:15012", Connection::Plaintext))
        .await
        .to_string();
    assert!(
        refused.starts_with("the name in nowhere.invalid:15012 cannot be resolved: "),
        "{refused}"
    );
}

/// The wrong one of two ports, or --plaintext forgotten or too much.
#[tokio::test]
async fn a_server_that_speaks_otherwise() {
    let plain = FakeCa::plaintext([]).await;
    let tls = Connection::tls(plain.root().as_bytes(), "ca.svc", None).unwrap();
    let refused = refusal(&ask(plain.address, tls)).await.to_string();
    assert!(
        refused.starts_with(&format!("TLS with {} failed: ", plain.address)) && refused.contains("port for TLS?"),
        "{refused}"
    );
    let secret = FakeCa::tls([], "ca.svc", b"h2", false).await;
    let refused = refusal(&ask(secret.address, Connection::Plaintext)).await.to_string();
    assert!(
        refused.starts_with(&format!("the connection to {} broke at attempt 5: ", secret.address))
            && refused.ends_with("does the CA speak gRPC without TLS there?"),
        "{refused}"
    );
}

#[tokio::test]
async fn a_refused_token_points_at_the_log() {
    let ca = FakeCa::plaintext([Answer::Refuse(Code::Unauthenticated)]).await;
    assert_eq!(
        refusal(&ask(ca.address, Connection::Plaintext)).await.to_string(),
        "the CA answered Unauthenticated at attempt 1: no (it tells callers no more; the reason is in the CA's log)"
    );
}

#[tokio::test]
async fn over_tls_the_name_must_be_proven() {
    let ca = FakeCa::tls([Answer::Sign(ME)], "istiod.istio-system.svc", b"h2", false).await;
    let tls = |name: &str| Connection::tls(ca.root().as_bytes(), name, None).unwrap();
    send(&ask(ca.address, tls("istiod.istio-system.svc"))).await.unwrap();
    let unproven = async |connection: Connection| {
        let refused = refusal(&ask(ca.address, connection)).await;
        assert!(matches!(refused, AskError::Connection { attempts: 1, .. }), "{refused}");
        refused.to_string()
    };
    let refused = unproven(tls("other.svc")).await;
    assert!(
        refused.starts_with(&format!("the server at {} does not prove to be the CA: ", ca.address))
            && refused.contains("--server-name"),
        "{refused}"
    );
    let stranger = FakeCa::plaintext([]).await;
    let tls = Connection::tls(stranger.root().as_bytes(), "istiod.istio-system.svc", None).unwrap();
    let refused = unproven(tls).await;
    assert!(refused.contains("under none of the given roots"), "{refused}");
}

#[tokio::test]
async fn shows_its_certificate() {
    let ca = FakeCa::tls([Answer::Sign(ME)], "ca.svc", b"h2", true).await;
    let (chain, key) = ca.client_certificate();
    let client = ClientIdentity {
        chain: chain.as_bytes(),
        key: key.as_bytes(),
    };
    let mut ask = ask(
        ca.address,
        Connection::tls(ca.root().as_bytes(), "ca.svc", Some(client)).unwrap(),
    );
    ask.token = None;
    send(&ask).await.unwrap();
    assert_eq!(ca.seen()[0].authorization, None);
    ask.endpoint = Endpoint::new(
        &ca.address.to_string(),
        Connection::tls(ca.root().as_bytes(), "ca.svc", None).unwrap(),
    )
    .unwrap();
    let refused = refusal(&ask).await;
    assert!(
        matches!(
            refused,
            AskError::Broken {
                tls: true,
                attempts: 5,
                ..
            }
        ),
        "{refused}"
    );
    assert!(refused.to_string().contains("CertificateRequired"), "{refused}");
}

#[tokio::test]
async fn a_server_without_http2_is_named() {
    let ca = FakeCa::tls([], "ca.svc", b"http/1.1", false).await;
    let refused = refusal(&ask(
        ca.address,
        Connection::tls(ca.root().as_bytes(), "ca.svc", None).unwrap(),
    ))
    .await;
    assert!(
        refused.to_string().to_lowercase().contains("alpn") || refused.to_string().contains("NoApplicationProtocol"),
        "{refused}"
    );
}

#[test]
fn roots_must_be_certificates() {
    let refused = |roots: &[u8]| Connection::tls(roots, "ca.svc", None).unwrap_err().to_string();
    assert_eq!(
        refused(b""),
        "the root certificates: it is empty; put the PEM text there"
    );
    let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
    assert!(
        refused(key.as_bytes()).starts_with("the root certificates: it holds no certificate"),
        "{}",
        refused(key.as_bytes())
    );
}
