//! One request, from caller to certificate.

pub mod authenticate;
