//! One certificate, asked for as Istio's own agent asks: the same retries for the same codes.

use std::time::Duration;

use tonic::metadata::MetadataValue;
use tonic::{Code, Status};

use super::answer::{AnswerError, Certificate, check_answer};
use super::connect::{ConnectError, ConnectionError, Endpoint};
use super::key::{Key, KeyError};
use crate::model::{BearerToken, Identity};
use crate::platform::Clock;
use crate::proto::istio::IstioCertificateRequest;
use crate::proto::istio::istio_certificate_service_client::IstioCertificateServiceClient;

/// Waits between attempts, so five in all: what Istio's agent does (`pkg/security/retry.go`).
const WAITS: [Duration; 4] = [
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(400),
    Duration::from_millis(800),
];

/// A wish for a certificate.
#[derive(Debug)]
pub struct Ask {
    /// Where the CA is.
    pub endpoint: Endpoint,
    /// Who we are; the answer must say the same.
    pub identity: Identity,
    /// The proof, unless a client certificate is.
    pub token: Option<BearerToken>,
    /// Wanted lifetime in seconds; zero for the CA's default.
    pub lifetime: i64,
    /// Our cluster, for a CA that serves several.
    pub cluster_id: Option<String>,
    /// The longest wait for the answer, all attempts together.
    pub deadline: Duration,
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// No key or no request.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The connection cannot even be tried.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The token or the cluster's name cannot be a header.
    #[error("{0} holds characters that no HTTP header can carry")]
    Header(&'static str),
    /// There is no connection to the CA.
    #[error("{why} (attempt {attempts})")]
    Connection {
        /// Why not.
        why: String,
        /// How often it was tried.
        attempts: usize,
    },
    /// The connection broke before an answer came.
    #[error("the connection to {address} broke at attempt {attempts}: {why}; does the CA speak gRPC{} there?", if *tls { "" } else { " without TLS" })]
    Broken {
        /// The CA.
        address: String,
        /// What was found, causes included.
        why: String,
        /// Whether TLS was spoken.
        tls: bool,
        /// How often it was tried.
        attempts: usize,
    },
    /// The CA said no.
    #[error(
        "the CA answered {code:?} at attempt {attempts}: {message}{}",
        if *code == Code::Unauthenticated { " (it tells callers no more; the reason is in the CA's log)" } else { "" }
    )]
    Refused {
        /// The gRPC code.
        code: Code,
        /// What it said, causes included.
        message: String,
        /// How often it was asked.
        attempts: usize,
    },
    /// No answer in time.
    #[error("no certificate within {} s{}", deadline.as_secs(), last.as_ref().map(|last| format!("; the last failure: {last}")).unwrap_or_default())]
    Late {
        /// The time that was given.
        deadline: Duration,
        /// What went wrong last.
        last: Option<Box<AskError>>,
    },
    /// It answered with something that no workload should use.
    #[error("the CA's answer cannot be used: {0}")]
    Answer(#[from] AnswerError),
}

impl Ask {
    /// Asks until there is an answer that counts, and checks it.
    pub async fn send(&self, key: &Key, clock: &dyn Clock) -> Result<Certificate, AskError> {
        let mut last = None;
        let chain = tokio::time::timeout(self.deadline, self.attempts(key, &mut last))
            .await
            .unwrap_or_else(|_| {
                Err(AskError::Late {
                    deadline: self.deadline,
                    last: last.map(Box::new),
                })
            })?;
        Ok(check_answer(&chain, key, &self.identity, clock.now())?)
    }

    async fn attempts(&self, key: &Key, last: &mut Option<AskError>) -> Result<Vec<String>, AskError> {
        let csr = key.request(&self.identity)?;
        let mut client = IstioCertificateServiceClient::new(self.endpoint.channel()?);
        for (attempt, wait) in WAITS.into_iter().map(Some).chain([None]).enumerate() {
            let request = self.request(csr.clone())?;
            let status = match client.create_certificate(request).await {
                Ok(answer) => return Ok(answer.into_inner().cert_chain),
                Err(status) => status,
            };
            let (failure, may_pass) = self.judge(&status, attempt + 1);
            let Some(wait) = wait.filter(|_| may_pass) else {
                return Err(failure);
            };
            tracing::debug!(attempt = attempt + 1, ?wait, %failure, "trying again");
            *last = Some(failure);
            tokio::time::sleep(wait).await;
        }
        // The last round has no wait and returned.
        Err(last.take().unwrap_or(AskError::Late {
            deadline: self.deadline,
            last: None,
        }))
    }

    /// What a failed call means, and whether the next may go better.
    fn judge(&self, status: &Status, attempts: usize) -> (AskError, bool) {
        if let Some(error) = causes(status).find_map(|cause| cause.downcast_ref::<ConnectionError>()) {
            let why = error.to_string();
            return (AskError::Connection { why, attempts }, error.is_passing());
        }
        // A status with a cause was made on this side: the CA did not answer.
        if causes(status).next().is_some() {
            let broken = AskError::Broken {
                address: self.endpoint.address().to_owned(),
                why: describe(status),
                tls: self.endpoint.speaks_tls(),
                attempts,
            };
            return (broken, true);
        }
        let (code, message) = (status.code(), status.message().to_owned());
        let refused = AskError::Refused {
            code,
            message,
            attempts,
        };
        (refused, is_retried(code))
    }

    fn request(&self, csr: String) -> Result<tonic::Request<IstioCertificateRequest>, AskError> {
        let mut request = tonic::Request::new(IstioCertificateRequest {
            csr,
            validity_duration: self.lifetime,
            metadata: None,
        });
        if let Some(token) = &self.token {
            let bearer = zeroize::Zeroizing::new(format!("Bearer {}", token.reveal()));
            let mut value = MetadataValue::try_from(bearer.as_str()).map_err(|_| AskError::Header("the token"))?;
            value.set_sensitive(true);
            request.metadata_mut().insert("authorization", value);
        }
        if let Some(cluster) = &self.cluster_id {
            let value = MetadataValue::try_from(cluster.as_str()).map_err(|_| AskError::Header("the cluster id"))?;
            request.metadata_mut().insert("clusterid", value);
        }
        Ok(request)
    }
}

/// The codes that Istio's agent tries again.
fn is_retried(code: Code) -> bool {
    matches!(
        code,
        Code::ResourceExhausted | Code::Aborted | Code::Internal | Code::Unavailable
    )
}

/// The errors below a status.
fn causes(status: &Status) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    std::iter::successors(std::error::Error::source(status), |error| error.source())
}

/// A status with the causes below it: what broke stands only there.
fn describe(status: &Status) -> String {
    causes(status).fold(status.message().to_owned(), |text, cause| {
        let line = cause.to_string();
        match (text.is_empty(), line.is_empty() || text.contains(&line)) {
            (_, true) => text,
            (true, false) => line,
            (false, false) => format!("{text}: {line}"),
        }
    })
}
