//! What several tests need.

pub mod api_server;
pub mod ca;
pub mod tokens;
