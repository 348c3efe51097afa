//! Tokens that a kube-apiserver made: reviewed by it, or verified with the keys that it publishes.

use std::path::PathBuf;

use crate::support::cluster::cluster;
use crate::support::countersign::{Countersign, reviewed_by};
use crate::support::istio::Peer;
use crate::support::pods::{Pod, Reviewer};
use crate::support::process::scratch;

#[test]
fn a_reviewed_token_gets_a_certificate() {
    let place = scratch();
    let settings = reviewed_by(&cluster().server, &Reviewer::new(), place.path());
    let mut server = Countersign::start(settings);
    let pod = Pod::new();
    let token = pod.token();
    let token_file = crate::support::pods::token_file(place.path(), &token);
    let signed = Peer::new(&server, &pod, Some(&token_file)).sign();
    signed.assert_good();
    let line = server.event("issued", |_| true);
    assert_eq!(line["identity"], pod.identity());
    let _ = PathBuf::new();
}
