//! The rules for token reviews and issuers.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::check::Checker;
use super::{Authentication, Problem};
use crate::app::settings::{self, Settings};
use crate::cluster::Credentials;
use crate::issue::authenticate::Audiences;
use crate::issue::authenticate::offline::{HttpOptions, IssuerConfig, KeySource};
use crate::issue::authenticate::token_review::TokenReviewConfig;
use crate::model::{Identity, TrustDomain};

impl Checker {
    pub(super) fn authentication(
        &mut self,
        settings: &Settings,
        trust_domain: Option<&TrustDomain>,
        environment: &BTreeMap<String, String>,
    ) -> Option<Authentication> {
        let authentication = &settings.authentication;
        let review = &authentication.token_review;
        let kubeconfig = match &review.kubeconfig {
            Some(text) => self.path("authentication.tokenReview.kubeconfig", text).map(Some),
            None => Some(None),
        };
        let is_pod = environment.contains_key("KUBERNETES_SERVICE_HOST");
        let has_api_server = is_pod || review.kubeconfig.is_some();
        // Elsewhere than in its cluster a file of settings must be readable as what it will mean there: with nobody else to believe, reviews.
        let reviews = review
            .enabled
            .unwrap_or(has_api_server || authentication.issuers.is_empty());
        if !reviews && authentication.issuers.is_empty() {
            let finding = match authentication.client_certificates {
                true => {
                    "certificates alone would be a circle: the first one needs a token; leave tokenReview on, or list issuers whose tokens are verified here"
                }
                false => {
                    "nobody would be believed: leave tokenReview on, or list issuers whose tokens are verified here"
                }
            };
            self.refuse("authentication", finding);
        }
        if !has_api_server {
            if reviews {
                self.miss("authentication.tokenReview");
            }
            let positions = authentication.issuers.iter().enumerate();
            for (position, _) in positions.filter(|(_, issuer)| issuer.discovery.as_deref() == Some("cluster")) {
                self.miss(&format!("authentication.issuers[{position}].discovery"));
            }
        }
        let credentials =
            kubeconfig.map(|path: Option<PathBuf>| path.map_or(Credentials::Pod, Credentials::Kubeconfig));
        let audiences = self.audiences("authentication.tokenReview.audiences", &review.audiences);
        let issuers = self.issuers(settings, trust_domain, credentials.as_ref());
        let (credentials, trust_domain) = (credentials?, trust_domain?);
        let config = TokenReviewConfig::new(audiences?, trust_domain.clone(), settings.cluster_id.clone());
        Some(Authentication {
            token_review: reviews.then_some((credentials, config)),
            issuers,
            client_certificates: authentication.client_certificates.then(|| trust_domain.clone()),
        })
    }

    fn miss(&mut self, key: &str) {
        self.missing_here.push(Problem {
            key: key.to_owned(),
            finding: "it needs the credentials of a pod, and this is none (KUBERNETES_SERVICE_HOST is not set)".into(),
        });
    }

    fn issuers(
        &mut self,
        settings: &Settings,
        trust_domain: Option<&TrustDomain>,
        credentials: Option<&Credentials>,
    ) -> Vec<IssuerConfig> {
        let mut seen = BTreeSet::new();
        let mut issuers = Vec::new();
        for (position, issuer) in settings.authentication.issuers.iter().enumerate() {
            let key = |name: &str| format!("authentication.issuers[{position}].{name}");
            let cluster = issuer.cluster_id.as_ref().unwrap_or(&settings.cluster_id);
            if issuer.cluster_id.as_ref().is_some_and(String::is_empty) {
                self.refuse(key("clusterId"), "it is empty; give a name, or leave it out for ours");
            }
            if issuer.issuer.is_empty() {
                self.refuse(key("issuer"), "it is empty; give exactly what the tokens' iss says");
            } else if !seen.insert((&issuer.issuer, cluster)) {
                let finding = format!(
                    "{:?} stands here twice for cluster {cluster:?}; give each cluster its clusterId",
                    issuer.issuer
                );
                self.refuse(key("issuer"), finding);
            }
            let audiences = self.audiences(&key("audiences"), &issuer.audiences);
            let keys = self.key_source(&key, issuer, credentials);
            let own_domain = match &issuer.trust_domain {
                Some(text) => self.trust_domain(&key("trustDomain"), text),
                None => trust_domain.cloned(),
            };
            let namespaces = issuer
                .namespaces
                .as_ref()
                .map(|names| self.namespaces(&key("namespaces"), names));
            let max_token_life = self.lifetime(&key("maximumTokenLife"), &issuer.maximum_token_life);
            if let (Some(audiences), Some(keys), Some(trust_domain), Some(max_token_life)) =
                (audiences, keys, own_domain, max_token_life)
            {
                issuers.push(IssuerConfig {
                    issuer: issuer.issuer.clone(),
                    audiences,
                    keys,
                    trust_domain,
                    namespaces,
                    cluster: cluster.clone(),
                    max_token_life,
                });
            }
        }
        issuers
    }

    fn key_source(
        &mut self,
        key: &impl Fn(&str) -> String,
        issuer: &settings::Issuer,
        credentials: Option<&Credentials>,
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
        let known = [("issuer", false), ("cluster", true)];
        let discovery = issuer.discovery.as_deref().unwrap_or("issuer");
        let at_cluster = self.one_of(&key("discovery"), discovery, &known)?;
        let ca_file = match &issuer.ca_file {
            Some(_) if issuer.jwks_file.is_some() || at_cluster => {
                let finding = "it is set, but the keys do not come over the network with it; leave it out";
                self.refuse(key("caFile"), finding);
                None
            }
            Some(text) => self.path(&key("caFile"), text),
            None => None,
        };
        let http = HttpOptions {
            allow_http: issuer.allow_http,
            ca_file,
        };
        match (&issuer.jwks_file, &issuer.jwks_uri) {
            (Some(file), _) => self.path(&key("jwksFile"), file).map(KeySource::File),
            (None, Some(uri)) => self.unless_refused(&key("jwksUri"), KeySource::jwks_uri(uri, http)),
            (None, None) if at_cluster => credentials.cloned().map(KeySource::ApiServer),
            // Refused already.
            (None, None) if issuer.issuer.is_empty() => None,
            (None, None) => self.unless_refused(&key("issuer"), KeySource::discovery(&issuer.issuer, http)),
        }
    }

    fn audiences(&mut self, key: &str, audiences: &[String]) -> Option<Audiences> {
        self.unless_refused(key, Audiences::new(audiences.to_vec()))
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
