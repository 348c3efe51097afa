//! Whose fault a failure is, and whether trying again can help. Every error of ours knows its kind; `server/status.rs` turns the kind
//! into a gRPC code, in one table.

/// The kind of a failure, as far as a caller needs to know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The caller did not prove who it is.
    Unauthenticated,
    /// The request itself is wrong; the same request can never succeed.
    Invalid,
    /// Too much at once: the same request may succeed later.
    Overloaded,
    /// Something that we need is away for now: the same request may succeed later.
    Unavailable,
    /// A fault of ours.
    Internal,
}
