//! What several tests need.

pub mod tokens;
