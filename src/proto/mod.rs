//! Generated code: the wire contracts of `proto/`. A test in `tests/it` regenerates it and fails when it is out of date.

/// `istio.v1.auth`: Istio's certificate contract.
pub mod istio {
    #![allow(
        missing_docs,
        clippy::all,
        clippy::pedantic,
        clippy::restriction,
        reason = "generated"
    )]
    include!("istio.v1.auth.rs");
}

/// The file descriptors of all contracts, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!("descriptors.bin");
