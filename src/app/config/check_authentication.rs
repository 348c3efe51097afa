//! The rules for token reviews and issuers.

use std::collections::BTreeSet;

use super::check::Checker;
use super::{Issuer, KeySource, TokenReview};
use crate::app::settings::{self, Settings};
use crate::model::{Identity, TrustDomain};

impl Checker {
    /// `None` when it is off, and after a refusal.
    pub(super) fn token_review(&mut self, review: &settings::TokenReview, has_api_server: bool) -> Option<TokenReview> {
        if !review.enabled.unwrap_or(has_api_server) {
            return None;
        }
        if !has_api_server {
            let finding = "it is true, but this is not a pod in a cluster (KUBERNETES_SERVICE_HOST is not set); give tokenReview.kubeconfig";
            self.refuse("authentication.tokenReview.enabled", finding);
        }
        Some(TokenReview {
            audiences: self.audiences("authentication.tokenReview.audiences", &review.audiences),
        })
    }

    pub(super) fn issuers(
        &mut self,
        settings: &Settings,
        trust_domain: Option<&TrustDomain>,
        has_api_server: bool,
    ) -> Option<Vec<Issuer>> {
        let mut seen = BTreeSet::new();
        let mut issuers = Vec::new();
        for (position, issuer) in settings.authentication.issuers.iter().enumerate() {
            let key = |name: &str| format!("authentication.issuers[{position}].{name}");
            let cluster_id = issuer.cluster_id.as_ref().unwrap_or(&settings.cluster_id);
            if issuer.issuer.is_empty() {
                self.refuse(key("issuer"), "it is empty; give exactly what the tokens' iss says");
            } else if !seen.insert((&issuer.issuer, cluster_id)) {
                let finding = format!(
                    "{:?} stands here twice for cluster {cluster_id:?}; give each cluster its clusterId",
                    issuer.issuer
                );
                self.refuse(key("issuer"), finding);
            }
            let audiences = self.audiences(&key("audiences"), &issuer.audiences);
            let keys = self.key_source(&key, issuer, has_api_server);
            let ca_file = match &issuer.ca_file {
                Some(_) if matches!(keys, Some(KeySource::File(_) | KeySource::Cluster)) => {
                    let finding = "it is set, but the keys do not come over the network with it; leave it out";
                    self.refuse(key("caFile"), finding);
                    None
                }
                Some(text) => self.path(&key("caFile"), text),
                None => None,
            };
            let own_domain = match &issuer.trust_domain {
                Some(text) => self.trust_domain(&key("trustDomain"), text),
                None => trust_domain.cloned(),
            };
            let namespaces = issuer
                .namespaces
                .as_ref()
                .map(|names| self.namespaces(&key("namespaces"), names));
            let maximum_token_life = self.lifetime(&key("maximumTokenLife"), &issuer.maximum_token_life);
            if let (Some(keys), Some(trust_domain), Some(maximum_token_life)) = (keys, own_domain, maximum_token_life) {
                issuers.push(Issuer {
                    issuer: issuer.issuer.clone(),
                    audiences,
                    keys,
                    ca_file,
                    allow_http: issuer.allow_http,
                    trust_domain,
                    namespaces,
                    cluster_id: cluster_id.clone(),
                    maximum_token_life,
                });
            }
        }
        Some(issuers)
    }

    fn key_source(
        &mut self,
        key: &impl Fn(&str) -> String,
        issuer: &settings::Issuer,
        has_api_server: bool,
    ) -> Option<KeySource> {
        let given = [
            issuer.discovery.is_some(),
            issuer.jwks_uri.is_some(),
            issuer.jwks_file.is_some(),
        ];
        if given.into_iter().filter(|given| *given).count() > 1 {
            let finding =
                "only one of discovery, jwksUri and jwksFile can say where the keys are; leave the others out";
            self.refuse(key("discovery"), finding);
            return None;
        }
        if let Some(file) = &issuer.jwks_file {
            return self.path(&key("jwksFile"), file).map(KeySource::File);
        }
        if let Some(uri) = &issuer.jwks_uri {
            let checked = check_uri(uri, issuer.allow_http);
            return self
                .unless_refused(&key("jwksUri"), checked)
                .map(|()| KeySource::Uri(uri.clone()));
        }
        let known = [("issuer", KeySourceName::Issuer), ("cluster", KeySourceName::Cluster)];
        match self.one_of(
            &key("discovery"),
            issuer.discovery.as_deref().unwrap_or("issuer"),
            &known,
        )? {
            KeySourceName::Cluster if has_api_server => Some(KeySource::Cluster),
            KeySourceName::Cluster => {
                let finding = "it is cluster, but this is not a pod in a cluster (KUBERNETES_SERVICE_HOST is not set); give tokenReview.kubeconfig";
                self.refuse(key("discovery"), finding);
                None
            }
            // Refused already.
            KeySourceName::Issuer if issuer.issuer.is_empty() => None,
            KeySourceName::Issuer => {
                let checked = check_uri(&issuer.issuer, issuer.allow_http).and_then(|()| {
                    // OpenID Connect Discovery 1.0, 3: an issuer has neither query nor fragment.
                    match issuer.issuer.contains(['?', '#']) {
                        true => Err("an issuer to discover keys at has no query and no fragment; give jwksUri".into()),
                        false => Ok(()),
                    }
                });
                self.unless_refused(&key("issuer"), checked)
                    .map(|()| KeySource::Discovery)
            }
        }
    }

    /// Without an audience any token of the cluster would do, those for other services included.
    fn audiences(&mut self, key: &str, audiences: &[String]) -> Vec<String> {
        if audiences.is_empty() || audiences.iter().any(String::is_empty) {
            let finding = "an audience is missing or empty; without one, tokens made for other services would be accepted: use istio-ca";
            self.refuse(key, finding);
        }
        audiences.to_vec()
    }

    fn namespaces(&mut self, key: &str, names: &[String]) -> Vec<String> {
        if names.is_empty() {
            self.refuse(
                key,
                "it is empty, so that nobody would be believed; list namespaces, or leave it out for all",
            );
        }
        // Any valid trust domain and account do: the namespace is what is looked at.
        let Ok(domain) = TrustDomain::parse("example.org") else {
            return Vec::new();
        };
        for name in names {
            if let Err(error) = Identity::new(&domain, name, "any") {
                self.refuse(key, error);
            }
        }
        names.to_vec()
    }
}

#[derive(Clone, Copy)]
enum KeySourceName {
    Issuer,
    Cluster,
}

/// An address that keys may be fetched from.
fn check_uri(text: &str, allow_http: bool) -> Result<(), String> {
    let uri: http::Uri = text
        .parse()
        .map_err(|_| format!("{text:?} is not an address; write it as https://host/path"))?;
    let Some(authority) = uri.authority() else {
        return Err(format!("{text:?} has no host; write it as https://host/path"));
    };
    if authority.as_str().contains('@') {
        return Err("it holds a user name or password, which would end up in logs; leave that out".into());
    }
    match uri.scheme_str() {
        Some("https") => Ok(()),
        Some("http") if allow_http => Ok(()),
        Some("http") => Err(format!(
            "{text:?} is not protected: whoever sits on the way can make any identity; use https, or set allowHttp: true for tests"
        )),
        _ => Err(format!(
            "{text:?} is neither https nor http; write it as https://host/path"
        )),
    }
}
