//! What the CA room needs of the configuration.

use super::config::Config;
use crate::authority::{self, SelfSignedConfig};

/// `new_root` lets a lost self-signed root be replaced.
pub fn authority_config(config: &Config, new_root: bool) -> authority::Config {
    authority::Config {
        kind: config.ca.source,
        plugged_in_directory: config.ca.directory.clone(),
        self_signed: SelfSignedConfig {
            directory: config.ca.self_signed_directory.clone(),
            algorithm: config.ca.self_signed_algorithm,
            lifetime: config.ca.self_signed_lifetime,
            organization: config.trust_domain.to_string(),
            new_root,
        },
    }
}
