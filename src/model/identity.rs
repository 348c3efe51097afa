//! SPIFFE identities in Istio's shape: `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`.

use std::fmt;
use std::sync::Arc;

/// A trust domain, checked against the SPIFFE id standard (lower-case letters, digits, dots, dashes, underscores; 1 to 255 of them).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrustDomain(Arc<str>);

impl TrustDomain {
    /// Reads a bare name, such as `cluster.local`.
    pub fn parse(name: &str) -> Result<Self, IdentityError> {
        let refuse = |why: String| IdentityError::TrustDomain {
            name: shorten(name),
            why,
        };
        if name.contains("://") {
            return Err(refuse("give the bare name, without spiffe://".into()));
        }
        if name.len() > 255 {
            return Err(refuse("it is longer than 255 characters".into()));
        }
        let parsed = spiffe::TrustDomain::new(name).map_err(|error| refuse(error.to_string()))?;
        // The library makes capitals small; two spellings of one name would be two names to everybody who compares texts.
        if parsed.as_str() != name {
            return Err(refuse(format!("write it as {}", parsed.as_str())));
        }
        Ok(Self(Arc::from(parsed.as_str())))
    }

    /// The bare name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One workload identity.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    trust_domain: TrustDomain,
    namespace: Box<str>,
    service_account: Box<str>,
}

impl Identity {
    /// The identity of a service account. Both names must be what Kubernetes accepts: a DNS label (RFC 1123, at most 63 characters) and a
    /// DNS subdomain (at most 253).
    pub fn new(trust_domain: &TrustDomain, namespace: &str, service_account: &str) -> Result<Self, IdentityError> {
        if !is_dns_label(namespace) {
            return Err(IdentityError::Namespace(shorten(namespace)));
        }
        if !is_dns_subdomain(service_account) {
            return Err(IdentityError::ServiceAccount(shorten(service_account)));
        }
        Ok(Self {
            trust_domain: trust_domain.clone(),
            namespace: namespace.into(),
            service_account: service_account.into(),
        })
    }

    /// Reads exactly one SPIFFE id of Istio's shape, of whatever trust domain.
    pub fn parse(uri: &str) -> Result<Self, IdentityError> {
        let shape = || IdentityError::Shape(shorten(uri));
        let id = spiffe::SpiffeId::new(uri).map_err(|_| shape())?;
        // The library makes capitals of scheme and trust domain small: only one spelling is an identity here.
        if id.to_string() != uri {
            return Err(shape());
        }
        let mut parts = id.path().split('/');
        let (Some(""), Some("ns"), Some(namespace), Some("sa"), Some(account), None) = (
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
        ) else {
            return Err(shape());
        };
        Self::new(&TrustDomain::parse(id.trust_domain_name())?, namespace, account)
    }

    /// The trust domain.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The Kubernetes namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The Kubernetes service account.
    pub fn service_account(&self) -> &str {
        &self.service_account
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (domain, namespace, account) = (&*self.trust_domain.0, &*self.namespace, &*self.service_account);
        ["spiffe://", domain, "/ns/", namespace, "/sa/", account]
            .into_iter()
            .try_for_each(|part| f.write_str(part))
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a text is not an identity.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum IdentityError {
    /// Not `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`.
    #[error("{0:?} is not of the form spiffe://<trust domain>/ns/<namespace>/sa/<service account>")]
    Shape(String),
    /// Not a trust domain.
    #[error("trust domain {name:?} is not valid: {why}")]
    TrustDomain {
        /// What was given.
        name: String,
        /// The finding.
        why: String,
    },
    /// Not a namespace.
    #[error("{0:?} is not a namespace name (a DNS label: lower-case letters, digits and dashes, at most 63)")]
    Namespace(String),
    /// Not a service account.
    #[error(
        "{0:?} is not a service-account name (a DNS subdomain: lower-case letters, digits, dashes and dots, at most 253)"
    )]
    ServiceAccount(String),
}

/// Whether a text is a DNS label as RFC 1123 has it and Kubernetes checks it.
fn is_dns_label(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&text.len()) && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

/// Whether a text is a DNS subdomain as Kubernetes checks it: labels (there of any length) joined by dots, at most 253 characters.
fn is_dns_subdomain(text: &str) -> bool {
    text.len() <= 253
        && text.split('.').all(|label| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        })
}

/// The beginning of a text that a caller chose: what an error or a log repeats stays short.
pub fn shorten(text: &str) -> String {
    const MOST: usize = 300;
    if text.len() <= MOST {
        return text.to_owned();
    }
    text.chars().take(MOST).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_it_writes() {
        let identity = Identity::parse("spiffe://cluster.local/ns/default/sa/sleep.v2").unwrap();
        assert_eq!(identity.to_string(), "spiffe://cluster.local/ns/default/sa/sleep.v2");
        assert_eq!(
            (identity.namespace(), identity.service_account()),
            ("default", "sleep.v2")
        );
    }

    #[test]
    fn trust_domains_have_one_spelling() {
        assert!(TrustDomain::parse("cluster.local").is_ok());
        for name in [
            "",
            "Cluster.local",
            " cluster.local",
            "spiffe://cluster.local",
            "cluster.local/",
            "a b",
            "a:1",
        ] {
            assert!(TrustDomain::parse(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn refuses_everything_else() {
        let long = format!("spiffe://cluster.local/ns/{}/sa/a", "n".repeat(64));
        for uri in [
            "",
            "spiffe://",
            "spiffe:///ns/x/sa/y",
            "spiffe://cluster.local",
            "spiffe://cluster.local/",
            "spiffe://cluster.local/ns//sa/",
            "spiffe://cluster.local/ns/x/sa/y/",
            "spiffe://cluster.local/ns/x/sa/y/z",
            "spiffe://cluster.local/sa/y/ns/x",
            "spiffe://cluster.local/ns/x/sa/y?q",
            "spiffe://cluster.local/ns/x/sa/y#f",
            "spiffe://cluster.local:80/ns/x/sa/y",
            "spiffe://user@cluster.local/ns/x/sa/y",
            "spiffe://Cluster.local/ns/x/sa/y",
            "SPIFFE://cluster.local/ns/x/sa/y",
            "spiffe://cluster.local/ns/../sa/y",
            "spiffe://cluster.local/ns/x%2f/sa/y",
            "spiffe://cluster.local/ns/x/sa/y,spiffe://cluster.local/ns/x/sa/z",
            "spiffe://cluster.local/ns/x\n/sa/y",
            "spiffe://cluster.local/ns/X/sa/y",
            "spiffe://cluster.local/ns/x.y/sa/z",
            "spiffe://cluster.local/ns/-x/sa/y",
            "spiffe://cluster.local/ns/x/sa/y_",
            "https://cluster.local/ns/x/sa/y",
            &long,
        ] {
            assert!(Identity::parse(uri).is_err(), "{uri}");
        }
    }

    proptest! {
        #[test]
        fn what_parses_prints_the_same(uri in "spiffe://[a-z.]{1,9}/ns/[a-zA-Z0-9.-]{0,9}/sa/[a-z0-9./-]{0,9}") {
            if let Ok(identity) = Identity::parse(&uri) {
                prop_assert_eq!(identity.to_string(), uri);
            }
        }
    }
}
