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

/// `countersign.admin.v1`: the admin's door.
pub mod admin {
    #![allow(
        missing_docs,
        clippy::all,
        clippy::pedantic,
        clippy::restriction,
        reason = "generated"
    )]
    include!("countersign.admin.v1.rs");
}

/// The file descriptors of the public contract, for gRPC reflection. The admin's are not among them.
pub const DESCRIPTORS: &[u8] = include_bytes!("descriptors.bin");
