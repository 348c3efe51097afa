//! Fakes made by hand, and what several tests need.

pub mod fake_ca;
pub mod tokens;
