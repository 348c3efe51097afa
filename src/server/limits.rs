//! Bounds on one call: how many at once, and for how long. Both answer with codes that Istio's agent retries; tonic's own timeout layer
//! answers CANCELLED, which it never does.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use tokio::sync::Semaphore;
use tonic::Status;
use tonic::body::Body;

use super::grpc::Deadline;
use crate::platform::Clock;
use crate::telemetry::Metrics;

/// The bounds.
pub struct CallLimits {
    /// Room for calls in flight.
    room: Semaphore,
    /// The longest that a call may take.
    longest: Duration,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
}

impl CallLimits {
    /// At most `in_flight` calls at once, each answered within `longest`.
    pub fn new(in_flight: usize, longest: Duration, clock: Arc<dyn Clock>, metrics: Arc<Metrics>) -> Self {
        Self {
            room: Semaphore::new(in_flight),
            longest,
            clock,
            metrics,
        }
    }

    /// Runs a call inside the bounds. The whole call counts, from its first header to its answer: a caller that sends its body slowly
    /// holds a place no longer than any other.
    pub async fn run<F>(
        &self,
        request: http::Request<hyper::body::Incoming>,
        call: impl FnOnce(http::Request<hyper::body::Incoming>) -> F,
    ) -> Result<http::Response<Body>, Infallible>
    where
        F: Future<Output = Result<http::Response<Body>, Infallible>>,
    {
        let Ok(_room) = self.room.try_acquire() else {
            self.metrics.refused("calls_in_flight", "RESOURCE_EXHAUSTED");
            return Ok(Status::resource_exhausted("too many calls in flight, try again").into_http());
        };
        let _in_flight = self.metrics.calls_in_flight.enter();
        let longest = caller_timeout(request.headers()).map_or(self.longest, |wanted| wanted.min(self.longest));
        let mut request = request;
        request
            .extensions_mut()
            .insert(Deadline(self.clock.instant() + longest));
        match tokio::time::timeout(longest, call(request)).await {
            Ok(answer) => answer,
            Err(_) => {
                self.metrics.refused("deadline", "UNAVAILABLE");
                tracing::warn!(target: "countersign::refused", reason = "deadline", after = ?longest, "a call took too long and was given up");
                Ok(Status::unavailable("the CA could not answer in time, try again").into_http())
            }
        }
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
