//! What the CA room needs of the configuration.

use super::config::{CaSource, Config};
use crate::authority::{self, CaKind, RootAlgorithm, SelfSignedConfig};
use crate::model::KeyAlgorithm;

/// `new_root` lets a lost self-signed root be replaced.
pub fn authority_config(config: &Config, new_root: bool) -> authority::Config {
    authority::Config {
        kind: match config.ca.source {
            CaSource::Auto => CaKind::Auto,
            CaSource::SelfSigned => CaKind::SelfSigned,
            CaSource::PluggedIn => CaKind::PluggedIn,
        },
        plugged_in_directory: config.ca.directory.clone(),
        self_signed: SelfSignedConfig {
            directory: config.ca.self_signed_directory.clone(),
            algorithm: match config.ca.self_signed_algorithm {
                KeyAlgorithm::P384 => RootAlgorithm::P384,
                _ => RootAlgorithm::P256,
            },
            lifetime: config.ca.self_signed_lifetime,
            organization: config.trust_domain.to_string(),
            new_root,
        },
    }
}
