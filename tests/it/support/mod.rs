//! Fakes made by hand, and what several tests need.

pub mod api_server;
pub mod ca;
pub mod fake_ca;
pub mod objects;
pub mod tokens;
pub mod server;
