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

use super::answer::Answer;
use super::grpc::{CertificateService, Peer};
use super::limits::CallLimits;
use super::visitors::{Pool, Visitor};
use crate::issue::Issuer;
use crate::platform::Clock;
use crate::proto;
use crate::proto::istio::istio_certificate_service_server::IstioCertificateServiceServer;
use crate::telemetry::Metrics;

/// Largest request to health and reflection: a name.
pub const SIDE_MESSAGE_BYTES: usize = 4096;

/// The call that may last: as long as its connection.
const WATCH: &str = "/grpc.health.v1.Health/Watch";

type SideService = BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>;

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
    visitor: Arc<Visitor>,
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
        H: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + NamedService,
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
            side_service(reflection().build_v1()?.max_decoding_message_size(SIDE_MESSAGE_BYTES)),
            side_service(
                reflection()
                    .build_v1alpha()?
                    .max_decoding_message_size(SIDE_MESSAGE_BYTES),
            ),
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
    pub fn for_peer(&self, peer: Peer, visitor: Arc<Visitor>) -> PeerRouter {
        let shared = self.0.clone();
        let service = CertificateService {
            issuer: shared.issuer.clone(),
            peer: Arc::new(peer),
            clock: shared.clock.clone(),
            metrics: shared.metrics.clone(),
        };
        let certificates = IstioCertificateServiceServer::new(service).max_decoding_message_size(shared.message_bytes);
        PeerRouter {
            shared,
            visitor,
            certificates,
        }
    }
}

fn side_service<S>(service: S) -> (&'static str, SideService)
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + NamedService,
    S: Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    (S::NAME, BoxCloneSyncService::new(service))
}

type Answering = Pin<Box<dyn Future<Output = Result<Response<Answer>, Infallible>> + Send>>;

impl hyper::service::Service<Request<Incoming>> for PeerRouter {
    type Response = Response<Answer>;
    type Error = Infallible;
    type Future = Answering;

    fn call(&self, request: Request<Incoming>) -> Answering {
        let path = request.uri().path();
        let service = path.split('/').nth(1).unwrap_or_default();
        let shared = self.shared.clone();
        let refuse = |status: Status| -> Answering { Box::pin(std::future::ready(Ok(status.into_http()))) };
        if service == IstioCertificateServiceServer::<CertificateService>::NAME {
            let place = match shared.limits.enter(&self.visitor, Pool::Certificates) {
                Ok(place) => place,
                Err(status) => return refuse(status),
            };
            let mut certificates = self.certificates.clone();
            return Box::pin(async move {
                let call = |request| certificates.call(request);
                shared.limits.run(place, request, call).await
            });
        }
        let Some((_, side)) = shared.side.iter().find(|(name, _)| *name == service) else {
            return refuse(Status::unimplemented("no such service"));
        };
        let pool = if path == WATCH { Pool::Watches } else { Pool::Side };
        let place = match shared.limits.enter(&self.visitor, pool) {
            Ok(place) => place,
            Err(status) => return refuse(status),
        };
        let mut side = side.clone();
        Box::pin(async move {
            let call = |request| side.call(shared.limits.in_time(request));
            shared.limits.run(place, request, call).await
        })
    }
}
