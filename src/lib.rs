//! countersign: a lightweight certificate authority for service meshes.
//!
//! A proxy sends a certificate request and its Kubernetes service-account token over gRPC; countersign checks both and answers with a
//! certificate for `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`, as Istio's own CA does (Istio calls that job "Citadel").
//!
//! # The map
//!
//! The modules stand in reading order; a module uses only modules above it (a test in `tests/it` checks that).
//! `model` is values and pure rules: no I/O, no async, no clock, no randomness. Inside [`issue`] each step takes what the step before
//! returned; only `issue/mod.rs` calls steps. Each outside format is spoken in one place. Only [`app`] picks implementations.
//!
//! # The way of one request, in types
//!
//! ```text
//! server/grpc         protobuf, TLS peer, headers      → Request
//! issue/authenticate  Request                          → Caller       who, and how they proved it
//! issue/authorize     Caller + wanted identity         → Grant        which identity may be certified
//! issue/csr           CSR + Grant                      → CheckedCsr   its key and names are acceptable
//! issue/plan          Grant + CheckedCsr + Profile
//!                     + CA snapshot + now + serial     → Plan         the exact bytes to be signed, linted
//! issue/sign          Plan                             → Signed       the signature over exactly those bytes
//! issue/record        Signed                           → Issued       it is on record: it may leave
//! server/grpc         Issued                           → protobuf
//! ```

pub mod proto;

pub mod model;
pub mod platform;
pub mod telemetry;
pub mod cluster;
pub mod authority;
pub mod issue;
pub mod roots;
pub mod server;
pub mod agent;
pub mod app;
pub mod cli;
