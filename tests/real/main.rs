//! The program with real peers: a real API server, Istio's own agent and client, `openssl`, a shell. `tests/run` sets them up and says where
//! they are; without them these tests fail rather than skip.
#![expect(
    clippy::disallowed_methods,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "tests: they start programs and wait for them, and the options that allow the rest in tests do not reach helper functions"
)]

mod citadel;
mod kubernetes;
mod openssl;
mod outage;
mod pilot_agent;
mod plugged_in;
mod readme;
mod requests;
mod roots;
mod support;
mod tls;
mod transport;
mod verification;
