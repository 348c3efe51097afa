//! Everything that is quick and needs nothing but Rust: the house rules, and the whole CA in this process over real sockets.

mod client_certificate;
mod generated;
mod house;
mod review;
mod settings;
mod support;
