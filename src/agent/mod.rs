//! The other side of the contract: what a workload does to get a certificate from any Istio-compatible CA.
//!
//! Takes: where the CA is, whom to trust, a token. Gives: a [`Certificate`], checked more strictly than Istio's own clients do. Not here:
//! anything of our own CA; this room would work just as well against somebody else's.

mod answer;
mod ask;
mod connect;
pub mod files;
mod key;

pub use answer::{AnswerError, Certificate, check_answer};
pub use ask::{Ask, AskError};
pub use connect::{ClientIdentity, ConnectError, Connection, ConnectionError, Endpoint};
pub use key::{Key, KeyError};
