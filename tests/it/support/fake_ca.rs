//! An Istio-compatible CA that says what it is told to say and remembers what it was asked.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use countersign::platform::crypto;
use countersign::proto::istio::istio_certificate_service_server::{
    IstioCertificateService, IstioCertificateServiceServer,
};
use countersign::proto::istio::{IstioCertificateRequest, IstioCertificateResponse};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tonic::{Code, Request, Response, Status};

/// What to do with one call.
pub enum Answer {
    /// Sign the CSR for this identity.
    Sign(&'static str),
    /// Refuse.
    Refuse(Code),
    /// Never answer.
    Hang,
}

/// One call as it came.
#[derive(Debug)]
pub struct Seen {
    pub authorization: Option<String>,
    pub cluster_id: Option<String>,
    pub lifetime: i64,
}

struct State {
    script: Mutex<VecDeque<Answer>>,
    seen: Mutex<Vec<Seen>>,
    root: String,
    issuer: Issuer<'static, KeyPair>,
}

#[derive(Clone)]
struct Service(Arc<State>);

/// A running fake. It ends with the test's runtime.
pub struct FakeCa {
    pub address: SocketAddr,
    state: Arc<State>,
}

impl FakeCa {
    /// In the clear.
    pub async fn plaintext(script: impl IntoIterator<Item = Answer>) -> Self {
        Self::start(script, None).await
    }

    /// Behind TLS, for `name`; client certificates must be under its own root, if `client` says so.
    pub async fn tls(script: impl IntoIterator<Item = Answer>, name: &'static str, alpn: &[u8], client: bool) -> Self {
        Self::start(script, Some((name, alpn.to_vec(), client))).await
    }

    /// The root under which it signs, and under which its own certificate is.
    pub fn root(&self) -> &str {
        &self.state.root
    }

    /// A client certificate and its key.
    pub fn client_certificate(&self) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut parameters = leaf(SanType::URI("spiffe://cluster.local/ns/a/sa/b".try_into().unwrap()));
        parameters.distinguished_name = DistinguishedName::new();
        (
            parameters.signed_by(&key, &self.state.issuer).unwrap().pem(),
            key.serialize_pem(),
        )
    }

    /// What it was asked so far.
    pub fn seen(&self) -> Vec<Seen> {
        std::mem::take(&mut *self.state.seen.lock().unwrap())
    }

    async fn start(script: impl IntoIterator<Item = Answer>, tls: Option<(&'static str, Vec<u8>, bool)>) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name.push(DnType::CommonName, "fake root");
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = parameters.self_signed(&key).unwrap();
        let state = Arc::new(State {
            script: Mutex::new(script.into_iter().collect()),
            seen: Mutex::default(),
            root: root.pem(),
            issuer: Issuer::new(parameters, key),
        });
        let acceptor = tls.map(|(name, alpn, client)| {
            let key = KeyPair::generate().unwrap();
            let serving = leaf(SanType::DnsName(name.try_into().unwrap()))
                .signed_by(&key, &state.issuer)
                .unwrap();
            let builder = rustls::ServerConfig::builder_with_provider(crypto::tls_provider())
                .with_safe_default_protocol_versions()
                .unwrap();
            let builder = if client {
                let mut roots = rustls::RootCertStore::empty();
                roots.add(root.der().clone()).unwrap();
                let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(
                    Arc::new(roots),
                    crypto::tls_provider(),
                );
                builder.with_client_cert_verifier(verifier.build().unwrap())
            } else {
                builder.with_no_client_auth()
            };
            let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
            let mut config = builder.with_single_cert(vec![serving.der().clone()], key).unwrap();
            config.alpn_protocols = vec![alpn];
            tokio_rustls::TlsAcceptor::from(Arc::new(config))
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let service = Service(Arc::clone(&state));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (service, acceptor) = (service.clone(), acceptor.clone());
                tokio::spawn(async move {
                    match acceptor {
                        None => serve(stream, service).await,
                        Some(acceptor) => {
                            if let Ok(stream) = acceptor.accept(stream).await {
                                serve(stream, service).await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, state }
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, service: Service) {
    let service = TowerToHyperService::new(IstioCertificateServiceServer::new(service));
    // An error is a client that went away.
    let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

fn leaf(name: SanType) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters.subject_alt_names = vec![name];
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    parameters
}

#[tonic::async_trait]
impl IstioCertificateService for Service {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        let header = |name| Some(request.metadata().get(name)?.to_str().unwrap().to_owned());
        self.0.seen.lock().unwrap().push(Seen {
            authorization: header("authorization"),
            cluster_id: header("clusterid"),
            lifetime: request.get_ref().validity_duration,
        });
        let answer = self.0.script.lock().unwrap().pop_front();
        match answer {
            Some(Answer::Sign(identity)) => {
                let csr = CertificateSigningRequestParams::from_pem(&request.get_ref().csr).unwrap();
                let parameters = leaf(SanType::URI(identity.try_into().unwrap()));
                let certificate = parameters.signed_by(&csr.public_key, &self.0.issuer).unwrap().pem();
                Ok(Response::new(IstioCertificateResponse {
                    cert_chain: vec![certificate, self.0.root.clone()],
                }))
            }
            Some(Answer::Refuse(code)) => Err(Status::new(code, "no")),
            Some(Answer::Hang) => std::future::pending().await,
            None => panic!("asked more often than the script says"),
        }
    }
}
