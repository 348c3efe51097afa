//! Which versions, cipher suites and key-exchange groups of TLS a listener takes, and in which order.
//!
//! Takes: what `tls_names` made of names. Gives: a [`TlsPolicy`] that can work, and the provider that keeps to it.

use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use rustls::{CipherSuite, NamedGroup, SignatureAlgorithm, SupportedCipherSuite, SupportedProtocolVersion, version};

use super::tls_names::{TlsVersion, name_of};
use super::tls_provider;

/// RFC 9113, 9.2.2 demands the second of whoever speaks HTTP/2 over TLS 1.2. With the first an ECDSA key does the same; Go asks for either.
const HTTP2_NEEDS: [CipherSuite; 2] = [
    CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
];

/// What a listener takes. It allows at least one version, each with a suite that HTTP/2 can use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsPolicy {
    minimum: TlsVersion,
    maximum: TlsVersion,
    /// Of TLS 1.2, the first wins; empty for all. TLS 1.3 has three, all good, which nobody configures.
    suites: Vec<CipherSuite>,
    /// The first wins; empty for all, in the client's order.
    groups: Vec<NamedGroup>,
}

/// Why there is no such policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsPolicyError {
    /// No version is left.
    #[error("{minimum} is above the maximum, {maximum}; lower it or raise the maximum")]
    Versions {
        /// At least.
        minimum: TlsVersion,
        /// At most.
        maximum: TlsVersion,
    },
    /// HTTP/2 cannot rely on any.
    #[error(
        "no suite that HTTP/2 over TLS 1.2 requires is among them (RFC 9113, 9.2.2); add {} or {}, or allow TLS 1.3 alone",
        name_of(HTTP2_NEEDS[0]),
        name_of(HTTP2_NEEDS[1])
    )]
    Http2,
    /// Nobody could connect.
    #[error(
        "a serving certificate with an {key} key can use none of them, and TLS 1.3 is not allowed; add {}, or raise the maximum",
        .add.join(" or ")
    )]
    Key {
        /// The kind of the key.
        key: &'static str,
        /// What it can use.
        add: Vec<&'static str>,
    },
}

impl Default for TlsPolicy {
    fn default() -> Self {
        Self {
            minimum: TlsVersion::V1_2,
            maximum: TlsVersion::V1_3,
            suites: Vec::new(),
            groups: Vec::new(),
        }
    }
}

impl TlsPolicy {
    /// From this version to that, with these suites and groups in order; `None` and empty lists stand for the defaults.
    pub fn new(
        minimum: Option<TlsVersion>,
        maximum: Option<TlsVersion>,
        suites: Vec<CipherSuite>,
        groups: Vec<NamedGroup>,
    ) -> Result<Self, TlsPolicyError> {
        let default = Self::default();
        let (minimum, maximum) = (minimum.unwrap_or(default.minimum), maximum.unwrap_or(default.maximum));
        if minimum > maximum {
            return Err(TlsPolicyError::Versions { minimum, maximum });
        }
        let useless = !suites.is_empty() && !HTTP2_NEEDS.iter().any(|needed| suites.contains(needed));
        if useless && minimum == TlsVersion::V1_2 {
            return Err(TlsPolicyError::Http2);
        }
        Ok(Self {
            minimum,
            maximum,
            suites,
            groups,
        })
    }

    /// Whether a serving certificate with such a key can be shown to anybody.
    pub fn check_key(&self, key: SignatureAlgorithm) -> Result<(), TlsPolicyError> {
        let provider = self.provider();
        let usable =
            |suite: &&SupportedCipherSuite| suite.tls13().is_none() && suite.usable_for_signature_algorithm(key);
        if self.maximum >= TlsVersion::V1_3 || provider.cipher_suites.iter().any(|suite| usable(&suite)) {
            return Ok(());
        }
        let all = tls_provider();
        let mut add: Vec<CipherSuite> = all
            .cipher_suites
            .iter()
            .filter(usable)
            .map(SupportedCipherSuite::suite)
            .collect();
        add.retain(|suite| HTTP2_NEEDS.contains(suite));
        Err(TlsPolicyError::Key {
            key: key.as_str().unwrap_or("unknown"),
            add: add.into_iter().map(name_of).collect(),
        })
    }

    /// The versions.
    pub fn versions(&self) -> Vec<&'static SupportedProtocolVersion> {
        [(TlsVersion::V1_3, &version::TLS13), (TlsVersion::V1_2, &version::TLS12)]
            .into_iter()
            .filter(|(version, _)| (self.minimum..=self.maximum).contains(version))
            .map(|(_, library)| library)
            .collect()
    }

    /// The groups that were asked for, in order.
    pub fn groups(&self) -> &[NamedGroup] {
        &self.groups
    }

    /// Our provider, with these suites and groups alone, in order.
    pub fn provider(&self) -> CryptoProvider {
        let mut provider = CryptoProvider::clone(&tls_provider());
        if !self.suites.is_empty() {
            let place = |suite: CipherSuite| self.suites.iter().position(|listed| *listed == suite);
            provider
                .cipher_suites
                .retain(|suite| suite.tls13().is_some() || place(suite.suite()).is_some());
            // Versions do not compete for suites, so that those of TLS 1.3 may keep their order in front.
            provider
                .cipher_suites
                .sort_by_key(|suite| suite.tls13().map_or(place(suite.suite()), |_| None));
        }
        if !self.groups.is_empty() {
            let place = |group: &&dyn SupportedKxGroup| self.groups.iter().position(|listed| *listed == group.name());
            provider.kx_groups.retain(|group| place(group).is_some());
            provider.kx_groups.sort_by_key(place);
        }
        provider
    }
}

#[cfg(test)]
mod tests {
    use super::super::tls_names::{cipher_suite, group};
    use super::*;

    fn policy(
        minimum: TlsVersion,
        maximum: TlsVersion,
        suites: &[&str],
        groups: &[&str],
    ) -> Result<TlsPolicy, TlsPolicyError> {
        let suites = suites.iter().map(|name| cipher_suite(name).unwrap()).collect();
        let groups = groups.iter().map(|name| group(name).unwrap()).collect();
        TlsPolicy::new(Some(minimum), Some(maximum), suites, groups)
    }

    const TLS12: (TlsVersion, TlsVersion) = (TlsVersion::V1_2, TlsVersion::V1_2);
    const BOTH: (TlsVersion, TlsVersion) = (TlsVersion::V1_2, TlsVersion::V1_3);
    const TLS13: (TlsVersion, TlsVersion) = (TlsVersion::V1_3, TlsVersion::V1_3);

    #[test]
    fn the_provider_keeps_to_the_policy_and_its_order() {
        let listed = ["ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-ECDSA-AES128-GCM-SHA256"];
        let provider = policy(BOTH.0, BOTH.1, &listed, &["P-384", "X25519"])
            .unwrap()
            .provider();
        let (new, old): (Vec<_>, Vec<_>) = provider
            .cipher_suites
            .iter()
            .map(SupportedCipherSuite::suite)
            .partition(|suite| name_of(*suite).starts_with("TLS_AES") || name_of(*suite).starts_with("TLS_CHACHA20"));
        assert_eq!(new.len(), 3);
        assert_eq!(new[0], CipherSuite::TLS13_AES_128_GCM_SHA256, "as without a policy");
        assert_eq!(old, listed.map(|name| cipher_suite(name).unwrap()));
        let groups: Vec<NamedGroup> = provider.kx_groups.iter().map(|group| group.name()).collect();
        assert_eq!(groups, [NamedGroup::secp384r1, NamedGroup::X25519]);
        let default = TlsPolicy::default().provider();
        assert_eq!((default.cipher_suites.len(), default.kx_groups.len()), (9, 3));
    }

    #[test]
    fn versions_are_a_range() {
        for ((minimum, maximum), expected) in [(TLS12, vec!["1.2"]), (BOTH, vec!["1.3", "1.2"]), (TLS13, vec!["1.3"])] {
            let versions = policy(minimum, maximum, &[], &[]).unwrap().versions();
            let numbers: Vec<&str> = versions
                .iter()
                .map(|version| match version.version {
                    rustls::ProtocolVersion::TLSv1_2 => "1.2",
                    _ => "1.3",
                })
                .collect();
            assert_eq!(numbers, expected);
        }
        assert_eq!(
            policy(TlsVersion::V1_3, TlsVersion::V1_2, &[], &[])
                .unwrap_err()
                .to_string(),
            "TLS 1.3 is above the maximum, TLS 1.2; lower it or raise the maximum"
        );
    }

    #[test]
    fn where_tls_1_2_is_allowed_http2_has_its_suite() {
        for (suites, good) in [
            (&["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"][..], true),
            (
                &["ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-AES128-GCM-SHA256"],
                true,
            ),
            (&["ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-RSA-CHACHA20-POLY1305"], false),
            (&["TLS_AES_128_GCM_SHA256"], false),
        ] {
            assert_eq!(policy(BOTH.0, BOTH.1, suites, &[]).is_ok(), good, "{suites:?}");
            assert_eq!(policy(TLS12.0, TLS12.1, suites, &[]).is_ok(), good, "{suites:?}");
            assert!(policy(TLS13.0, TLS13.1, suites, &[]).is_ok(), "{suites:?}");
        }
    }

    #[test]
    fn keys_that_no_suite_could_show_are_refused_where_nothing_but_tls_1_2_is_left() {
        let (rsa, ecdsa) = (
            &["ECDHE-RSA-AES128-GCM-SHA256"][..],
            &["ECDHE-ECDSA-AES128-GCM-SHA256"][..],
        );
        for (suites, key, good) in [
            (rsa, SignatureAlgorithm::RSA, true),
            (rsa, SignatureAlgorithm::ECDSA, false),
            (rsa, SignatureAlgorithm::ED25519, false),
            (ecdsa, SignatureAlgorithm::ECDSA, true),
            (ecdsa, SignatureAlgorithm::ED25519, true),
            (ecdsa, SignatureAlgorithm::RSA, false),
            (&[], SignatureAlgorithm::RSA, true),
        ] {
            let check = |(minimum, maximum)| policy(minimum, maximum, suites, &[]).unwrap().check_key(key);
            assert_eq!(check(TLS12).is_ok(), good, "{suites:?} {key:?}");
            assert_eq!(check(BOTH), Ok(()), "{suites:?} {key:?}");
        }
        let said = policy(TLS12.0, TLS12.1, rsa, &[]).unwrap();
        assert_eq!(
            said.check_key(SignatureAlgorithm::ECDSA).unwrap_err().to_string(),
            "a serving certificate with an ECDSA key can use none of them, and TLS 1.3 is not allowed; \
             add TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, or raise the maximum"
        );
    }
}
