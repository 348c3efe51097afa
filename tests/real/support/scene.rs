//! A pod with its tokens, and a CA that it may ask.

use std::path::PathBuf;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::cluster::{ApiServer, cluster};
use super::countersign::{Countersign, reviewed_by, verified_offline, with};
use super::istio::{Peer, Signed};
use super::pods::{Pod, Reviewer, token_file};
use super::process::scratch;

/// A pod, and a CA that it may ask.
pub struct Scene {
    /// The CA.
    pub server: Countersign,
    /// The pod.
    pub pod: Pod,
    /// A directory for what belongs to both.
    pub place: TempDir,
}

impl Scene {
    /// Tokens are reviewed by the cluster's API server.
    pub fn reviewing(reviewer: &Reviewer) -> Self {
        Self::reviewed_by(&cluster().server, reviewer, json!({}))
    }

    /// Tokens are reviewed by this API server; with changes to the settings.
    pub fn reviewed_by(server: &ApiServer, reviewer: &Reviewer, changes: Value) -> Self {
        let place = scratch();
        let settings = with(reviewed_by(server, reviewer, place.path()), changes);
        Self::of(Countersign::start(settings), place)
    }

    /// Tokens are verified with the API server's keys; with changes to the settings.
    pub fn offline(changes: Value) -> Self {
        let place = scratch();
        let settings = with(verified_offline(place.path()), changes);
        Self::of(Countersign::start(settings), place)
    }

    /// A pod for this CA.
    pub fn of(server: Countersign, place: TempDir) -> Self {
        let pod = Pod::new();
        Self { server, pod, place }
    }

    /// A caller with this token.
    pub fn peer(&self, token: &str) -> Peer {
        Peer::new(&self.server, &self.pod, Some(&token_file(self.place.path(), token)))
    }

    /// Asks with this token.
    pub fn sign(&self, token: &str) -> Signed {
        self.peer(token).sign()
    }

    /// This token is refused for good, for this reason.
    pub fn assert_refused(&self, token: &str, reason: &str) {
        let refusal = self
            .server
            .refusal(|| self.sign(token).assert_refused("Unauthenticated", 1));
        assert!(refusal.starts_with(reason), "{refusal}");
    }

    /// A new directory in it.
    pub fn new_directory(&self, name: &str) -> PathBuf {
        let path = self.place.path().join(name);
        std::fs::create_dir(&path).unwrap();
        path
    }
}
