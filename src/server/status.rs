//! The one table from the kind of a failure to a gRPC code.
//!
//! Istio's agent retries RESOURCE_EXHAUSTED, ABORTED, INTERNAL and UNAVAILABLE, five attempts in all, and nothing else
//! (`pkg/security/retry.go`); so whatever can never succeed must have another code, and whatever may succeed later one of these.

use tonic::{Code, Status};

use crate::authority::steering::SteeringError;
use crate::issue::Refusal;
use crate::model::Kind;

/// The code for a kind of failure.
pub fn code(kind: Kind) -> Code {
    match kind {
        Kind::Unauthenticated => Code::Unauthenticated,
        Kind::Invalid => Code::InvalidArgument,
        Kind::Overloaded => Code::ResourceExhausted,
        Kind::Unavailable => Code::Unavailable,
        Kind::Internal => Code::Internal,
    }
}

/// The code's name as the gRPC specification spells it, for metrics and logs.
pub fn name(code: Code) -> &'static str {
    match code {
        Code::Unauthenticated => "UNAUTHENTICATED",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::Unavailable => "UNAVAILABLE",
        Code::Internal => "INTERNAL",
        _ => "OTHER",
    }
}

/// What a refused caller is told.
pub fn refused(refusal: &Refusal) -> Status {
    Status::new(code(refusal.kind()), refusal.public())
}

/// What an admin is told whose act was not done.
pub fn steered(error: &SteeringError) -> Status {
    let code = match error {
        SteeringError::Refused(_)
        | SteeringError::Files(_)
        | SteeringError::NotSelfSigned
        | SteeringError::NoRoot(_) => Code::FailedPrecondition,
        SteeringError::File(_) => Code::Internal,
        SteeringError::Closing => Code::Unavailable,
    };
    Status::new(code, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_succeed_later_is_retried_by_istio() {
        let retried = [
            Code::ResourceExhausted,
            Code::Aborted,
            Code::Internal,
            Code::Unavailable,
        ];
        for kind in [
            Kind::Unauthenticated,
            Kind::Invalid,
            Kind::Overloaded,
            Kind::Unavailable,
            Kind::Internal,
        ] {
            // No default: a new kind needs a decision here.
            let retry = match kind {
                Kind::Unauthenticated | Kind::Invalid => false,
                Kind::Overloaded | Kind::Unavailable | Kind::Internal => true,
            };
            assert_eq!(retried.contains(&code(kind)), retry, "{kind:?}");
        }
    }
}
