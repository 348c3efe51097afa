//! A caller whose identity is proven.

use crate::model::{Identity, Timestamp};

/// Who calls, and how they proved it. Made only by the authenticators beside this file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    identity: Identity,
    proof: Proof,
}

/// How an identity was proven, with what else the proof says; for the log and, later, for the ledger and for rules about nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// The kind of proof.
    pub method: Method,
    /// The cluster whose word it is; `None` for a client certificate.
    pub cluster: Option<String>,
    /// The pod that the token is bound to.
    pub pod: Option<Pod>,
    /// The node that the token is bound to.
    pub node: Option<String>,
    /// The token's id (`jti`, or the credential id of a review), or the serial of the client certificate.
    pub credential_id: Option<String>,
    /// When the proof ends, where that is known.
    pub expires: Option<Timestamp>,
}

/// A pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
}

/// The kinds of proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// The API server reviewed the token.
    TokenReview,
    /// The token's signature was verified here.
    OfflineJwt,
    /// A certificate that this CA issued before.
    ClientCertificate,
}

impl Method {
    /// The word for logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TokenReview => "token_review",
            Self::OfflineJwt => "offline_jwt",
            Self::ClientCertificate => "client_certificate",
        }
    }
}

impl Caller {
    /// Only an authenticator may say so.
    pub(super) fn new(identity: Identity, proof: Proof) -> Self {
        Self { identity, proof }
    }

    /// A caller without an authenticator, for tests of what comes after.
    #[cfg(test)]
    pub(crate) fn of_test(identity: Identity) -> Self {
        let proof = Proof {
            method: Method::OfflineJwt,
            cluster: None,
            pod: None,
            node: None,
            credential_id: None,
            expires: None,
        };
        Self::new(identity, proof)
    }

    /// The proven identity.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// How it was proven.
    pub fn proof(&self) -> &Proof {
        &self.proof
    }
}
