//! Would `serve` start here? A look at what settings only name: files are read as they will be when serving. Writes nothing, takes no lock
//! and needs no network.
//!
//! `serve` begins with [`files`], so that `check` cannot approve what it refuses. How a CA's files are judged is one thing already
//! (`authority`); [`ca`] adds what only a start would show.

use tokio::runtime::Handle;

use super::config::{Config, Problem};
use crate::authority::{self, Inspection};
use crate::cluster::{ApiServer, Credentials};
use crate::issue::authenticate::offline::{KeySource, check_ca_file, check_key_file};
use crate::model::Timestamp;
use crate::platform::files::DirectoryLock;

/// Everything that is wrong with files and credentials that are not the CA's.
pub async fn files(config: &Config) -> Vec<Problem> {
    let authentication = &config.authentication;
    let mut problems = Vec::new();
    let mut refuse = |key: String, finding: String| problems.push(Problem { key, finding });
    let by_review = authentication.token_review.iter().map(|(credentials, _)| credentials);
    let by_issuer = authentication.issuers.iter().filter_map(|issuer| match &issuer.keys {
        KeySource::ApiServer(credentials) => Some(credentials),
        _ => None,
    });
    // All have the same.
    if let Some(credentials) = by_review.chain(by_issuer).next()
        && config.missing_here.is_empty()
        && let Err(error) = ApiServer::connect(credentials, Handle::current()).await
    {
        let key = match credentials {
            Credentials::Kubeconfig(_) => "authentication.tokenReview.kubeconfig",
            _ => "authentication.tokenReview",
        };
        refuse(key.into(), error.to_string());
    }
    for (position, issuer) in authentication.issuers.iter().enumerate() {
        let key = |name: &str| format!("authentication.issuers[{position}].{name}");
        if let Some(Err(why)) = issuer.keys.jwks_file().map(check_key_file) {
            refuse(key("jwksFile"), why);
        }
        if let Some(Err(why)) = issuer.keys.ca_file().map(check_ca_file) {
            refuse(key("caFile"), why);
        }
    }
    if let Err(error) = config.server.serving.check_files(&config.server.tls) {
        refuse("servingCertificate".into(), error.to_string());
    }
    problems
}

/// The CA that would sign, and everything wrong with it that is not in its own report.
pub fn ca(config: &Config, now: Timestamp) -> Result<(Inspection, Vec<Problem>), authority::Error> {
    let inspection = authority::inspect(&config.ca, now)?;
    let mut problems = Vec::new();
    // What was ever trusted is remembered there, whichever CA signs.
    if let Err(error) = DirectoryLock::could_be_taken(&config.ca.self_signed.directory) {
        problems.push(Problem {
            key: "ca.selfSigned.directory".into(),
            finding: format!("{error}; it must be a volume that this process may write to"),
        });
    }
    if let Some(ca) = &inspection.ca
        && let Err(error) = config.policy.profile.check_signer(ca.validity(), now)
    {
        problems.push(Problem {
            key: "ca".into(),
            finding: error.to_string(),
        });
    }
    Ok((inspection, problems))
}
