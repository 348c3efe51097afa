//! One request, from caller to certificate.

pub mod authenticate;
mod authorize;
pub mod csr;
mod lint;
pub mod plan;
mod record;
mod sign;
