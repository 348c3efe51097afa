//! Protobuf in, protobuf out: the door that Istio's proxies know.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use prost_types::value::Kind as Json;
use tonic::metadata::MetadataMap;
use tonic::{Response, Status};

use super::status;
use crate::issue::plan::PlanError;
use crate::issue::{Issuer, Refusal};
use crate::model::{BearerToken, ClientCertificate, Credentials, Impersonation, Request, shorten};
use crate::platform::Clock;
use crate::proto::istio::istio_certificate_service_server::IstioCertificateService;
use crate::proto::istio::{IstioCertificateRequest, IstioCertificateResponse};
use crate::telemetry::Metrics;
use crate::telemetry::log::REFUSED;
use crate::telemetry::metrics::{SignError, Stage};

/// What is known of the other end of a connection.
#[derive(Debug)]
pub struct Peer {
    /// Its address.
    pub address: SocketAddr,
    /// The certificate whose key it proved to hold.
    pub certificate: Option<Arc<ClientCertificate>>,
}

/// The service on one connection.
#[derive(Clone)]
pub struct CertificateService {
    /// The issuing path.
    pub issuer: Arc<Issuer>,
    /// Who is at the other end.
    pub peer: Arc<Peer>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Counts.
    pub metrics: Arc<Metrics>,
}

/// The moment by which a call must be answered; travels with the request.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(pub Instant);

#[tonic::async_trait]
impl IstioCertificateService for CertificateService {
    async fn create_certificate(
        &self,
        call: tonic::Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        let start = self.clock.instant();
        self.metrics.csr_count.inc();
        let deadline = call.extensions().get::<Deadline>().map_or(start, |deadline| deadline.0);
        let request = self.request(call);
        let cluster = request.cluster_id.as_deref().map(shorten);
        match self.issuer.issue(request, deadline).await {
            Ok(issued) => {
                self.metrics.issued.inc();
                self.metrics.granted(issued.method());
                self.metrics
                    .stage(Stage::Total)
                    .observe((self.clock.instant() - start).as_secs_f64());
                Ok(Response::new(IstioCertificateResponse {
                    cert_chain: issued.answer(),
                }))
            }
            Err(refusal) => {
                let status = status::refused(&refusal);
                let took = self.clock.instant() - start;
                let code = status::name(status.code());
                self.count(&refusal, code);
                tracing::info!(
                    target: REFUSED,
                    reason = refusal.label(),
                    code,
                    peer = %self.peer.address,
                    cluster,
                    duration_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
                    detail = %refusal,
                    "refused"
                );
                Err(status)
            }
        }
    }
}

impl CertificateService {
    fn count(&self, refusal: &Refusal, code: &'static str) {
        self.metrics.refused(refusal.label(), code);
        match refusal {
            Refusal::Authenticate(_) | Refusal::Authorize(_) => self.metrics.authentication_failures.inc(),
            Refusal::Csr(_) => self.metrics.sign_failed(SignError::CsrError),
            Refusal::Plan(PlanError::TooLong { .. } | PlanError::TooShort { .. }) => {
                self.metrics.sign_failed(SignError::TtlError);
            }
            Refusal::Stopped(_) => self.metrics.sign_failed(SignError::CaNotReady),
            Refusal::Plan(_) | Refusal::Record(_) | Refusal::Sign(_) | Refusal::Random(_) | Refusal::Abandoned => {
                self.metrics.sign_failed(SignError::CertGenError);
            }
        }
    }

    fn request(&self, call: tonic::Request<IstioCertificateRequest>) -> Request {
        let (headers, _, message) = call.into_parts();
        Request {
            csr: message.csr,
            lifetime: message.validity_duration,
            impersonation: message.metadata.and_then(impersonation),
            credentials: Credentials {
                token: bearer(&headers),
                client_certificate: self.peer.certificate.clone(),
            },
            cluster_id: cluster_id(&headers),
            peer: Some(self.peer.address),
        }
    }
}

/// `CertSigner` is ignored, as istiod's own CA does; `ImpersonatedIdentity` is the only key that we read.
fn impersonation(metadata: prost_types::Struct) -> Option<Impersonation> {
    match metadata
        .fields
        .into_iter()
        .find(|(key, _)| key == "ImpersonatedIdentity")?
        .1
        .kind
    {
        Some(Json::StringValue(identity)) => Some(Impersonation::Identity(shorten(&identity))),
        _ => Some(Impersonation::NotText),
    }
}

/// The first `authorization` header with the scheme `Bearer`, of several (istiod's rule).
fn bearer(headers: &MetadataMap) -> Option<BearerToken> {
    headers.get_all("authorization").iter().find_map(|value| {
        let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
        let token = token.trim();
        (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then(|| BearerToken::new(token.to_owned()))
    })
}

/// Counts only when it occurs exactly once (istiod's `ExtractClusterID`).
fn cluster_id(headers: &MetadataMap) -> Option<String> {
    let mut values = headers.get_all("clusterid").iter();
    match (values.next(), values.next()) {
        (Some(one), None) => one
            .to_str()
            .ok()
            .map(str::trim)
            .filter(|id| !id.is_empty())
            .map(str::to_owned),
        _ => None,
    }
}
