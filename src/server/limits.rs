//! Bounds on one call: a place among those in flight, and a time. Both answer with codes that Istio's agent retries; tonic's own timeout
//! layer answers CANCELLED, which it never does.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderMap, Request, Response};
use hyper::body::{Bytes, Frame, Incoming};
use tokio::time::Sleep;
use tonic::Status;
use tonic::body::Body;

use super::answer::Answer;
use super::grpc::Deadline;
use super::visitors::{Full, Place, Pool, Visitor};
use crate::platform::Clock;
use crate::telemetry::log::REFUSED;
use crate::telemetry::{Metrics, Seldom};

/// The bounds.
pub struct CallLimits {
    /// The longest that a call may take.
    longest: Duration,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    crowded: Seldom,
}

impl CallLimits {
    /// Each call is answered within `longest`.
    pub fn new(longest: Duration, clock: Arc<dyn Clock>, metrics: Arc<Metrics>) -> Self {
        Self {
            longest,
            clock,
            metrics,
            crowded: Seldom::every(60),
        }
    }

    /// A place for a call, or what its caller is told at once.
    pub fn enter(&self, visitor: &Arc<Visitor>, pool: Pool) -> Result<Arc<Place>, Status> {
        visitor.enter(pool).map(Arc::new).map_err(|full| {
            let reason = match (pool, full) {
                (Pool::Certificates, Full::Total) => "calls_in_flight",
                (Pool::Certificates, Full::Address) => "calls_in_flight_per_address",
                (Pool::Side | Pool::Watches, _) => "side_calls",
            };
            self.metrics.refused(reason, "RESOURCE_EXHAUSTED");
            tracing::info!(target: REFUSED, reason, code = "RESOURCE_EXHAUSTED", peer = %visitor.address(), "refused");
            if reason == "calls_in_flight_per_address" && self.crowded.is_due(self.clock.now()) {
                tracing::warn!(
                    address = %visitor.address(),
                    "calls are refused: too many of one address are in flight; if many callers share it, raise listen.callsInFlightPerAddress"
                );
            }
            Status::resource_exhausted("too many calls in flight, try again")
        })
    }

    /// Runs a call inside the bounds. The whole call counts, from its first header to its answer: a caller that sends its body slowly
    /// holds a place no longer than any other.
    pub async fn run<F>(
        &self,
        place: Arc<Place>,
        mut request: Request<Incoming>,
        call: impl FnOnce(Request<Incoming>) -> F,
    ) -> Result<Response<Answer>, Infallible>
    where
        F: Future<Output = Result<Response<Body>, Infallible>>,
    {
        let longest = caller_timeout(request.headers()).map_or(self.longest, |wanted| wanted.min(self.longest));
        request
            .extensions_mut()
            .insert(Deadline(self.clock.instant() + longest));
        let address = place.visitor.address();
        match tokio::time::timeout(longest, call(request)).await {
            Ok(answer) => answer.map(|answer| answer.map(|body| Answer::new(body, place))),
            Err(_) => {
                self.metrics.refused("deadline", "UNAVAILABLE");
                let peer = address;
                tracing::info!(target: REFUSED, reason = "deadline", code = "UNAVAILABLE", %peer, after = ?longest, "refused");
                Ok(late().into_http())
            }
        }
    }

    /// A request whose body fails once a call's time is over. A service that goes on reading after its answer began, as reflection does, would
    /// otherwise do so for as long as its caller likes.
    pub fn in_time(&self, request: Request<Incoming>) -> Request<Body> {
        request.map(|body| {
            Body::new(InTime {
                body,
                end: Box::pin(tokio::time::sleep(self.longest)),
            })
        })
    }
}

fn late() -> Status {
    Status::unavailable("the CA could not answer in time, try again")
}

struct InTime {
    body: Incoming,
    end: Pin<Box<Sleep>>,
}

impl hyper::body::Body for InTime {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.end.as_mut().poll(context).is_ready() {
            return Poll::Ready(Some(Err(late())));
        }
        Pin::new(&mut self.body)
            .poll_frame(context)
            .map_err(|error| Status::from_error(Box::new(error)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}

/// The `grpc-timeout` header (at most eight digits and a unit); one that cannot be read is none, as gRPC servers commonly treat it.
fn caller_timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let value: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(value * 3600),
        "M" => Duration::from_secs(value * 60),
        "S" => Duration::from_secs(value),
        "m" => Duration::from_millis(value),
        "u" => Duration::from_micros(value),
        "n" => Duration::from_nanos(value),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_grpc_allows() {
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", text.parse().unwrap());
            caller_timeout(&headers)
        };
        assert_eq!(read("5S"), Some(Duration::from_secs(5)));
        assert_eq!(read("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        assert_eq!(read("250m"), Some(Duration::from_millis(250)));
        for bad in ["", "S", "5", "-5S", "5s", "999999999S", "5 S"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
