//! The whole CA in this process, on loopback, with tokens of an issuer of our own.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use countersign::agent::{ClientIdentity, Connection, Endpoint, Key};
use countersign::app::config::Config;
use countersign::app::serve::{Addresses, App, Outside};
use countersign::app::settings::Settings;
use countersign::app::token_issuer::{Life, TokenIssuer, Workload};
use countersign::authority::Steering;
use countersign::model::{Identity, KeyAlgorithm};
use countersign::platform::crypto::TokenKey;
use countersign::platform::shutdown::{ShutdownTrigger, shutdown};
use countersign::platform::{Clock, SystemClock};
use countersign::proto::istio::istio_certificate_service_client::IstioCertificateServiceClient;
use countersign::proto::istio::{IstioCertificateRequest, IstioCertificateResponse};
use countersign::telemetry::Metrics;
use tonic::transport::Channel;
use tonic::{Request, Status};

pub const IDENTITY: &str = "spiffe://cluster.local/ns/default/sa/sleep";
pub const ISSUER: &str = "https://issuer.test";

/// A running CA.
pub struct Server {
    pub addresses: Addresses,
    pub root: String,
    pub issuer: TokenIssuer,
    pub directory: tempfile::TempDir,
    pub steering: Steering,
    pub metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
    trigger: ShutdownTrigger,
    serving: tokio::task::JoinHandle<anyhow::Result<()>>,
}

impl Server {
    /// With these settings, each `key=value` as `--set` takes it.
    pub async fn with(assignments: &[&str]) -> Self {
        Self::at(Arc::new(SystemClock), tempfile::tempdir().unwrap(), assignments).await
    }

    /// With a clock of the test's, in a directory that may hold what an earlier one left.
    pub async fn at(clock: Arc<dyn Clock>, directory: tempfile::TempDir, assignments: &[&str]) -> Self {
        let issuer = TokenIssuer::new(ISSUER, "istio-ca", TokenKey::generate().unwrap()).unwrap();
        std::fs::write(directory.path().join("jwks.json"), issuer.jwks()).unwrap();
        let mut settings = Settings::parse(&yaml(directory.path()), "test").unwrap();
        for assignment in assignments {
            settings = settings.with_assignment(assignment).unwrap();
        }
        let config = Config::check(&settings, &BTreeMap::new()).unwrap();
        let outside = Outside::with_clock(clock.clone());
        let metrics = outside.metrics.clone();
        let app = App::open(&config, outside).await.unwrap();
        let root = app.ca().map_or(String::new(), |ca| ca.bundle().pem().to_owned());
        let (addresses, steering) = (app.addresses(), app.steering());
        let (trigger, asked) = shutdown();
        let serving = tokio::spawn(app.run(asked));
        Self {
            addresses,
            root,
            issuer,
            directory,
            steering,
            metrics,
            clock,
            trigger,
            serving,
        }
    }

    pub async fn start() -> Self {
        Self::with(&[]).await
    }

    /// Asks it to stop and waits until it has.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.leave().await.1
    }

    /// The same; what it kept stays.
    pub async fn leave(self) -> (tempfile::TempDir, anyhow::Result<()>) {
        self.trigger.stop();
        (self.directory, self.serving.await.unwrap())
    }

    /// Asks it to stop.
    pub fn ask_to_stop(&self) {
        self.trigger.stop();
    }

    /// A token of the account `sleep` of `default`.
    pub fn token(&self) -> String {
        self.token_for(43_200)
    }

    /// The same, with its end so many seconds from now.
    pub fn token_for(&self, seconds: i64) -> String {
        let workload = Workload {
            namespace: "default".into(),
            service_account: "sleep".into(),
            pod: "sleep-1".into(),
            node: "node-1".into(),
        };
        let issued = self.clock.now().plus(seconds.min(0) - 60);
        self.issuer
            .mint(
                &workload,
                Life {
                    issued,
                    seconds: 60 + seconds.max(0) + seconds.min(0).abs() / 2,
                },
            )
            .unwrap()
    }

    /// A client over TLS, perhaps with a certificate of its own.
    pub fn client(&self, identity: Option<ClientIdentity<'_>>) -> IstioCertificateServiceClient<Channel> {
        let connection = Connection::tls(self.root.as_bytes(), "istiod.istio-system.svc", identity).unwrap();
        let endpoint = Endpoint::new(&self.addresses.tls.to_string(), connection).unwrap();
        IstioCertificateServiceClient::new(endpoint.channel().unwrap())
    }

    /// One call with these `authorization` headers.
    pub async fn call(
        &self,
        authorization: &[&str],
        request: IstioCertificateRequest,
    ) -> Result<IstioCertificateResponse, Status> {
        let mut call = Request::new(request);
        for value in authorization {
            call.metadata_mut().append("authorization", value.parse().unwrap());
        }
        self.client(None)
            .create_certificate(call)
            .await
            .map(tonic::Response::into_inner)
    }

    /// One call with a good token.
    pub async fn ask(&self, request: IstioCertificateRequest) -> Result<IstioCertificateResponse, Status> {
        self.call(&[&format!("Bearer {}", self.token())], request).await
    }
}

/// A good request with a new key, and that key.
pub fn request() -> (IstioCertificateRequest, Key) {
    let key = Key::generate(KeyAlgorithm::P256).unwrap();
    let csr = key.request(&Identity::parse(IDENTITY).unwrap()).unwrap();
    (
        IstioCertificateRequest {
            csr,
            validity_duration: 0,
            metadata: None,
        },
        key,
    )
}

fn yaml(directory: &Path) -> String {
    let directory = directory.display();
    format!(
        "listen: {{address: '127.0.0.1:0', threads: 1}}\n\
         monitoring: {{address: '127.0.0.1:0'}}\n\
         ca: {{type: self-signed, selfSigned: {{directory: '{directory}/ca'}}}}\n\
         servingCertificate: {{names: [istiod.istio-system.svc, 127.0.0.1]}}\n\
         authentication: {{issuers: [{{issuer: '{ISSUER}', jwksFile: '{directory}/jwks.json'}}]}}\n"
    )
}
