//! Keys over HTTP, from a server on loopback.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use countersign::issue::authenticate::offline::{HttpOptions, IssuerConfig, KeySource};
use countersign::platform::crypto::tls_provider;
use http::{Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;

use super::super::super::support::tokens::{TestKey, Token, key_set};
use super::super::{NOW, Rig, issuer};

type Answer = Response<BoxBody<Bytes, Infallible>>;
type Handler = dyn Fn(&str) -> Answer + Send + Sync;

/// A web site, and what was asked of it.
pub(super) struct Site {
    pub(super) address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    was_asked: Arc<Notify>,
}

impl Site {
    async fn start(handler: impl Fn(&str) -> Answer + Send + Sync + 'static) -> Self {
        Self::listen(None, |_| Arc::new(handler)).await
    }

    async fn listen(tls: Option<TlsAcceptor>, handler: impl FnOnce(SocketAddr) -> Arc<Handler>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let handler = handler(address);
        let site = Self {
            address,
            asked: Arc::default(),
            was_asked: Arc::default(),
        };
        let (asked, was_asked) = (site.asked.clone(), site.was_asked.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (asked, was_asked, handler) = (asked.clone(), was_asked.clone(), handler.clone());
                let service = service_fn(move |request: Request<Incoming>| {
                    let path = request.uri().path().to_owned();
                    asked.lock().unwrap().push(path.clone());
                    was_asked.notify_one();
                    let answer = handler(&path);
                    async { Ok::<_, Infallible>(answer) }
                });
                let server = hyper::server::conn::http1::Builder::new();
                // A connection that the client gave up on ends with an error, which is the client's business.
                let connection: Pin<Box<dyn Future<Output = ()> + Send>> = match tls.clone() {
                    None => Box::pin(async move {
                        let _ = server.serve_connection(TokioIo::new(stream), service).await;
                    }),
                    Some(tls) => Box::pin(async move {
                        if let Ok(stream) = tls.accept(stream).await {
                            let _ = server.serve_connection(TokioIo::new(stream), service).await;
                        }
                    }),
                };
                tokio::spawn(connection);
            }
        });
        site
    }

    fn uri(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(super) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn text(text: impl Into<Bytes>) -> Answer {
    Response::new(Full::new(text.into()).boxed())
}

fn status(status: u16) -> Answer {
    let mut answer = text("");
    *answer.status_mut() = status.try_into().unwrap();
    answer
}

/// A body that begins and never ends.
struct Stalled(Option<Bytes>);

impl Body for Stalled {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.0.take() {
            Some(bytes) => std::task::Poll::Ready(Some(Ok(Frame::data(bytes)))),
            None => std::task::Poll::Pending,
        }
    }
}

fn plain() -> HttpOptions {
    HttpOptions {
        allow_http: true,
        ca_file: None,
    }
}

fn at(uri: String) -> IssuerConfig {
    issuer(KeySource::jwks_uri(&uri, plain()).unwrap())
}

pub(super) fn discovered(name: String, http: HttpOptions) -> IssuerConfig {
    IssuerConfig {
        keys: KeySource::discovery(&name, http).unwrap(),
        issuer: name,
        ..issuer(KeySource::File(PathBuf::new()))
    }
}

/// Why there are no keys after one fetch.
pub(super) async fn failure(issuer: IssuerConfig) -> String {
    let rig = Rig::new(vec![issuer]);
    rig.refresh().await;
    let status = rig.status();
    assert!(!status.usable);
    status.failure.unwrap().detail
}

#[tokio::test]
async fn keys_come_from_a_uri() {
    let key = TestKey::p256("key");
    let keys = key_set(&[&key]);
    let site = Site::start(move |_| text(keys.clone())).await;
    let rig = Rig::ready(vec![at(site.uri("/keys?version=1"))]).await;
    assert_eq!(rig.says(&Token::new(NOW).mint(&key), None), super::CART);
    assert_eq!(site.asked(), ["/keys"]);
}

#[tokio::test]
async fn a_redirect_is_refused_and_not_followed() {
    let site = Site::start(|_| {
        let mut answer = status(302);
        answer.headers_mut().insert("location", "/elsewhere".parse().unwrap());
        answer
    })
    .await;
    let why = failure(at(site.uri("/keys"))).await;
    assert!(
        why.contains(r#"redirect to "/elsewhere", and redirects are not followed"#),
        "{why}"
    );
    assert_eq!(site.asked(), ["/keys"]);
}

#[tokio::test]
async fn answers_other_than_keys_are_refused() {
    for (answer, why) in [
        (status(500), "status 500"),
        (status(204), "status 204"),
        (status(404), "status 404"),
        (text("<html>"), "neither a JSON Web Key Set nor PEM"),
        (text(r#"{"keys":[]}"#), "it is empty"),
    ] {
        let answer = Mutex::new(Some(answer));
        let site = Site::start(move |_| answer.lock().unwrap().take().unwrap()).await;
        let said = failure(at(site.uri("/"))).await;
        assert!(said.contains(why), "{said}");
    }
}

#[tokio::test]
async fn an_answer_of_more_than_a_mebibyte_is_refused() {
    const MEBIBYTE: usize = 1024 * 1024;
    let keys = key_set(&[&TestKey::p256("key")]);
    let filled = |length| format!("{keys}{}", " ".repeat(length - keys.len()));
    let (largest, larger) = (filled(MEBIBYTE), filled(MEBIBYTE + 1));
    let site = Site::start(move |path| {
        text(if path == "/largest" {
            largest.clone()
        } else {
            larger.clone()
        })
    })
    .await;
    Rig::ready(vec![at(site.uri("/largest"))]).await;
    let why = failure(at(site.uri("/larger"))).await;
    assert!(why.contains("larger than 1048576 bytes"), "{why}");
}

#[tokio::test]
async fn a_server_that_stalls_is_given_up_on() {
    for begun in [None, Some("{")] {
        let site = Site::start(move |_| Response::new(Stalled(begun.map(Bytes::from)).boxed())).await;
        let rig = Rig::new(vec![at(site.uri("/"))]);
        let refresher = rig.refresher.unwrap();
        let refresh = tokio::spawn(async move { refresher.refresh_once().await });
        site.was_asked.notified().await;
        // From here on nothing can happen but the passing of time.
        tokio::time::pause();
        let begin = tokio::time::Instant::now();
        refresh.await.unwrap();
        // Less what the connection took, in real time.
        assert!((1..=10).contains(&begin.elapsed().as_secs()), "{:?}", begin.elapsed());
        tokio::time::resume();
        let why = rig.offline.key_status().remove(0).failure.unwrap();
        assert_eq!(why.detail, "fetching the keys took longer than 10 s");
    }
}

#[tokio::test]
async fn nobody_at_the_address_is_said_with_the_reason() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let why = failure(at(format!("http://{address}/"))).await;
    assert!(why.contains("cannot get") && why.contains("refused"), "{why}");
}

/// A site with a discovery document; `%` in it stands for the site's own address.
pub(super) async fn discovery(tls: Option<TlsAcceptor>, document: &str, keys: String) -> Site {
    let document = document.to_owned();
    Site::listen(tls, move |address| {
        let document = document.replace('%', &address.to_string());
        Arc::new(move |path| match path {
            "/.well-known/openid-configuration" => text(document.clone()),
            "/keys" => text(keys.clone()),
            _ => status(404),
        })
    })
    .await
}

#[tokio::test]
async fn keys_are_discovered() {
    let key = TestKey::p256("key");
    let site = discovery(
        None,
        r#"{"issuer":"http://%","jwks_uri":"http://%/keys","more":1}"#,
        key_set(&[&key]),
    )
    .await;
    let name = format!("http://{}", site.address);
    let rig = Rig::ready(vec![discovered(name.clone(), plain())]).await;
    assert_eq!(
        rig.says(&Token::new(NOW).claim("iss", name).mint(&key), None),
        super::CART
    );
    assert_eq!(site.asked(), ["/.well-known/openid-configuration", "/keys"]);
}

#[tokio::test]
async fn a_discovery_document_of_another_issuer_is_refused() {
    for (document, why) in [
        (r#"{"issuer":"http://%/","jwks_uri":"http://%/keys"}"#, "to the letter"),
        (r#"{"issuer":"https://%","jwks_uri":"http://%/keys"}"#, "to the letter"),
        (r#"{"jwks_uri":"http://%/keys"}"#, "missing field `issuer`"),
        (r#"{"issuer":"http://%"}"#, "missing field `jwks_uri`"),
        (r#"{"issuer":"http://%","jwks_uri":"/keys"}"#, "is not an https address"),
        (
            r#"{"issuer":"http://%","jwks_uri":"file:///etc/keys"}"#,
            "is not an https address",
        ),
        ("", "not an OpenID discovery document"),
    ] {
        let site = discovery(None, document, String::new()).await;
        let said = failure(discovered(format!("http://{}", site.address), plain())).await;
        assert!(said.contains(why), "{said}");
        assert_eq!(site.asked(), ["/.well-known/openid-configuration"]);
    }
}

/// A TLS server's side for 127.0.0.1 or another name, and the file with its root.
pub(super) fn tls_for(name: &str, directory: &tempfile::TempDir) -> (TlsAcceptor, PathBuf) {
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, format!("root for {name}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec![name.to_owned()])
        .unwrap()
        .signed_by(&key, &root)
        .unwrap();
    let path = directory.path().join(format!("{name}.pem"));
    std::fs::write(&path, root.pem()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(tls_provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            rustls_pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    (TlsAcceptor::from(Arc::new(config)), path)
}

#[tokio::test]
async fn https_is_verified_against_the_bundle_alone() {
    let directory = tempfile::tempdir().unwrap();
    let key = TestKey::p256("key");
    let (tls, root) = tls_for("127.0.0.1", &directory);
    let document = r#"{"issuer":"https://%","jwks_uri":"https://%/keys"}"#;
    let site = discovery(Some(tls), document, key_set(&[&key])).await;
    let name = format!("https://{}", site.address);
    let with = |ca_file| HttpOptions {
        allow_http: false,
        ca_file,
    };
    let rig = Rig::ready(vec![discovered(name.clone(), with(Some(root)))]).await;
    assert_eq!(
        rig.says(&Token::new(NOW).claim("iss", name.clone()).mint(&key), None),
        super::CART
    );
    assert_eq!(site.asked().len(), 2);

    let (_, stranger) = tls_for("stranger.example.com", &directory);
    let why = failure(discovered(name.clone(), with(Some(stranger)))).await;
    assert!(why.contains("UnknownIssuer"), "{why}");
    // The system's roots do not include it either.
    failure(discovered(name.clone(), with(None))).await;
    let empty = directory.path().join("empty.pem");
    std::fs::write(&empty, "").unwrap();
    let why = failure(discovered(name, with(Some(empty)))).await;
    assert!(why.contains("empty.pem cannot be used"), "{why}");
    assert_eq!(site.asked().len(), 2);

    let (tls, root) = tls_for("other.example.com", &directory);
    let site = discovery(Some(tls), document, key_set(&[&key])).await;
    let why = failure(discovered(format!("https://{}", site.address), with(Some(root)))).await;
    assert!(
        why.contains("not valid for name") || why.contains("NotValidForName"),
        "{why}"
    );
    assert_eq!(site.asked().len(), 0);
}

/// An issuer over https must not lead to keys over http.
#[tokio::test]
async fn discovery_does_not_lead_from_https_to_http() {
    let directory = tempfile::tempdir().unwrap();
    let (tls, root) = tls_for("127.0.0.1", &directory);
    let site = discovery(
        Some(tls),
        r#"{"issuer":"https://%","jwks_uri":"http://%/keys"}"#,
        String::new(),
    )
    .await;
    let http = HttpOptions {
        allow_http: false,
        ca_file: Some(root),
    };
    let why = failure(discovered(format!("https://{}", site.address), http)).await;
    assert!(why.contains("is not protected"), "{why}");
    assert_eq!(site.asked(), ["/.well-known/openid-configuration"]);
}
