//! Everything that is quick and needs nothing but Rust: the house rules, and the whole CA in this process over real sockets.
#![expect(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests: the options that allow these in tests do not reach helper functions"
)]

mod admin;
mod ask;
mod authority;
mod bench;
mod client_certificate;
mod cli;
mod generated;
mod house;
mod init;
mod offline;
mod reference;
mod reload;
mod review;
mod roots;
mod serve;
mod settings;
mod start;
mod support;
