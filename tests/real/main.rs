//! The program with real peers: a real API server, Istio's own client, `openssl`, a shell. `tests/run` sets them up.
#![expect(
    clippy::disallowed_methods,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests: the options that allow these in tests do not reach helper functions"
)]

mod readme;
