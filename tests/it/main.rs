//! Everything that is quick and needs nothing but Rust: the house rules, and the whole CA in this process over real sockets.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "tests may fail at any line, and look at the program from outside: its files, its processes"
)]

mod ask;
mod cli;
mod generated;
mod house;
mod settings;
mod support;
