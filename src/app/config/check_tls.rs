//! The rules for what TLS takes.

use std::fmt::Display;

use rustls::SignatureAlgorithm;

use super::check::Checker;
use crate::app::names::Names;
use crate::app::settings;
use crate::platform::crypto::{TlsPolicy, TlsPolicyError, tls_names};
use crate::server::ServingSource;

impl Checker {
    /// `serving` says which key is to be shown; of one in a file that is known when it is read.
    pub(super) fn tls(&mut self, tls: &settings::Tls, serving: Option<&ServingSource>) -> Option<TlsPolicy> {
        let version = |checker: &mut Self, key, name: &str| checker.unless_refused(key, tls_names::version(name));
        let minimum = version(self, "tls.minProtocolVersion", &tls.min_protocol_version);
        let maximum = version(self, "tls.maxProtocolVersion", &tls.max_protocol_version);
        let suites = self.names("tls.cipherSuites", &tls.cipher_suites, tls_names::cipher_suite);
        let groups = self.names("tls.ecdhCurves", &tls.ecdh_curves, tls_names::group);
        let policy = TlsPolicy::new(minimum?, maximum?, suites?, groups?).and_then(|policy| {
            if let Some(ServingSource::Issued { .. }) = serving {
                policy.check_key(SignatureAlgorithm::ECDSA)?;
            }
            Ok(policy)
        });
        let key = match &policy {
            Err(TlsPolicyError::Versions { .. }) => "tls.minProtocolVersion",
            _ => "tls.cipherSuites",
        };
        self.unless_refused(key, policy)
    }

    fn names<T, E: Display>(
        &mut self,
        key: &str,
        names: &Names,
        meaning: impl Fn(&str) -> Result<T, E>,
    ) -> Option<Vec<T>> {
        let meanings: Vec<Option<T>> = names
            .iter()
            .enumerate()
            .map(|(position, name)| self.unless_refused(&format!("{key}[{position}]"), meaning(name)))
            .collect();
        meanings.into_iter().collect()
    }
}
