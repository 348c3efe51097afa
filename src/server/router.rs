//! From the path of a call to the service that answers it.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;
use tonic::Status;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic_health::pb::FILE_DESCRIPTOR_SET as HEALTH_DESCRIPTORS;
use tower::Service;
use tower::util::BoxCloneSyncService;

use super::grpc::{CertificateService, Peer};
use super::limits::CallLimits;
use crate::issue::Issuer;
use crate::platform::Clock;
use crate::proto;
use crate::proto::istio::istio_certificate_service_server::IstioCertificateServiceServer;
use crate::telemetry::Metrics;

type SideService = BoxCloneSyncService<Request<Incoming>, Response<Body>, Infallible>;

/// The services of the listener, shared by all connections.
#[derive(Clone)]
pub struct Router(Arc<Shared>);

struct Shared {
    issuer: Arc<Issuer>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    limits: CallLimits,
    message_bytes: usize,
    /// Health and reflection, by the name that a path begins with.
    side: Vec<(&'static str, SideService)>,
}

/// The services on one connection.
pub struct PeerRouter {
    shared: Arc<Shared>,
    certificates: IstioCertificateServiceServer<CertificateService>,
}

impl Router {
    /// All services. `health` is the gRPC health service of whoever keeps it up to date.
    pub fn new<H>(
        issuer: Arc<Issuer>,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
        limits: CallLimits,
        message_bytes: usize,
        health: H,
    ) -> Result<Self, tonic_reflection::server::Error>
    where
        H: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible> + NamedService,
        H: Clone + Send + Sync + 'static,
        H::Future: Send + 'static,
    {
        let reflection = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
                .register_encoded_file_descriptor_set(HEALTH_DESCRIPTORS)
        };
        let side = vec![
            side_service(health),
            side_service(reflection().build_v1()?),
            side_service(reflection().build_v1alpha()?),
        ];
        Ok(Self(Arc::new(Shared {
            issuer,
            clock,
            metrics,
            limits,
            message_bytes,
            side,
        })))
    }

    /// The services for the peer of one connection.
    pub fn for_peer(&self, peer: Peer) -> PeerRouter {
        let shared = self.0.clone();
        let service = CertificateService {
            issuer: shared.issuer.clone(),
            peer: Arc::new(peer),
            clock: shared.clock.clone(),
            metrics: shared.metrics.clone(),
        };
        let certificates = IstioCertificateServiceServer::new(service).max_decoding_message_size(shared.message_bytes);
        PeerRouter { shared, certificates }
    }
}

fn side_service<S>(service: S) -> (&'static str, SideService)
where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible> + NamedService,
    S: Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    (S::NAME, BoxCloneSyncService::new(service))
}

type Answer = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

impl hyper::service::Service<Request<Incoming>> for PeerRouter {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn call(&self, request: Request<Incoming>) -> Answer {
        let service = request.uri().path().split('/').nth(1).unwrap_or_default();
        let shared = self.shared.clone();
        if service == IstioCertificateServiceServer::<CertificateService>::NAME {
            let mut certificates = self.certificates.clone();
            return Box::pin(async move { shared.limits.run(request, |request| certificates.call(request)).await });
        }
        match shared.side.iter().find(|(name, _)| *name == service) {
            // Health watches and reflection are streams: the limits on calls do not fit them, those on streams hold them.
            Some((_, side)) => Box::pin(side.clone().call(request)),
            None => Box::pin(async { Ok(Status::unimplemented("no such service").into_http()) }),
        }
    }
}
