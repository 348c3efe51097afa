//! The rules that settings must keep, in the order of the settings. Every problem is collected: an administrator wants to see all of them.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::{Config, Problem};
use crate::app::duration;
use crate::app::settings::{self, Settings};
use crate::authority::{self, CaKind, RootAlgorithm, SelfSignedConfig};
use crate::issue::Policy;
use crate::issue::plan::Profile;
use crate::model::{Lifetime, ServingName, TrustDomain};
use crate::platform::crypto::TlsPolicy;
use crate::platform::process;
use crate::server::{self, ConnectionLimits, Http2Limits, Quota, ServingSource};
use crate::telemetry::log;

/// Collects problems. A method answers `None` after it refused something.
#[derive(Default)]
pub(super) struct Checker {
    problems: Vec<Problem>,
    /// See [`Config::missing_here`].
    pub(super) missing_here: Vec<Problem>,
}

pub(super) fn config(settings: &Settings, environment: &BTreeMap<String, String>) -> Result<Config, Vec<Problem>> {
    let mut checker = Checker::default();
    let config = checker.config(settings, environment);
    match config {
        Some(config) if checker.problems.is_empty() => Ok(config),
        _ => Err(checker.problems),
    }
}

/// `sun_path` of `unix(7)`, without the zero at its end.
const LONGEST_SOCKET_PATH: usize = 107;

fn count(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

impl Checker {
    fn config(&mut self, settings: &Settings, environment: &BTreeMap<String, String>) -> Option<Config> {
        let trust_domain = self.trust_domain("trustDomain", &settings.trust_domain);
        if settings.cluster_id.is_empty() {
            let finding = "it is empty; give the name that proxies send in their clusterid header, usually Kubernetes";
            self.refuse("clusterId", finding);
        }
        let admin = settings.admin_socket();
        if let Some(length) = admin.as_ref().map(|path| path.as_os_str().len())
            && length > LONGEST_SOCKET_PATH
        {
            let finding = format!(
                "its path has {length} bytes, and a Unix socket's has at most {LONGEST_SOCKET_PATH}; give a shorter one, or '' for no admin's door"
            );
            self.refuse("admin.socket", finding);
        }
        let ca = self.ca(&settings.ca, trust_domain.as_ref());
        let policy = self.policy(&settings.certificates);
        if let (Some(ca), Some(policy)) = (&ca, &policy)
            && ca.self_signed.lifetime <= policy.profile.default
        {
            let finding = format!(
                "{} is not longer than certificates.defaultLifetime ({}); a root must outlive what it signs, by years",
                settings.ca.self_signed.lifetime, settings.certificates.default_lifetime
            );
            self.refuse("ca.selfSigned.lifetime", finding);
        }
        let serving = self.serving_certificate(settings, policy.as_ref());
        let tls = self.tls(&settings.tls, serving.as_ref());
        let server = self.server(settings, serving, tls);
        let authentication = self.authentication(settings, trust_domain.as_ref(), environment);
        let root_config_maps = self.root_config_maps(settings, environment);
        let logging = self.logging(&settings.logging);
        Some(Config {
            server: server?,
            admin,
            ca: ca?,
            policy: policy?,
            authentication: authentication?,
            root_config_maps: root_config_maps?,
            logging: logging?,
            missing_here: std::mem::take(&mut self.missing_here),
        })
    }

    fn server(
        &mut self,
        settings: &Settings,
        serving: Option<ServingSource>,
        tls: Option<TlsPolicy>,
    ) -> Option<server::Config> {
        let listen = &settings.listen;
        let address = self.address("listen.address", &listen.address);
        let plaintext = match &listen.plaintext {
            Some(text) => self.address("listen.plaintext", text).map(Some),
            None => Some(None),
        };
        let monitoring = self.address("monitoring.address", &settings.monitoring.address);
        self.distinct_doors(address, plaintext.flatten(), monitoring);
        let connections = ConnectionLimits {
            open: self.quota(
                ("listen.connections", listen.connections, 1_000_000),
                ("listen.connectionsPerAddress", listen.connections_per_address),
            ),
            http2: Http2Limits {
                streams: self.within(
                    "listen.streamsPerConnection",
                    listen.streams_per_connection,
                    1..=100_000,
                ),
                header_list_bytes: self.within("listen.headerListBytes", listen.header_list_bytes, 8 << 10..=1 << 20),
            },
            handshake: self.seconds("listen.handshakeSeconds", listen.handshake_seconds, 1..=60),
            drain: self.seconds("shutdown.drainSeconds", settings.shutdown.drain_seconds, 0..=3600),
        };
        let message_bytes = self.within("listen.messageBytes", listen.message_bytes, 4 << 10..=4 << 20);
        let calls_in_flight = self.quota(
            ("listen.callsInFlight", listen.calls_in_flight, 100_000),
            ("listen.callsInFlightPerAddress", listen.calls_in_flight_per_address),
        );
        let call = self.seconds("listen.callSeconds", listen.call_seconds, 1..=60);
        let threads = match listen.threads {
            Some(threads) => count(self.within("listen.threads", threads, 1..=1024)),
            None => process::parallelism(),
        };
        Some(server::Config {
            address: address?,
            plaintext: plaintext?,
            monitoring: monitoring?,
            connections,
            message_bytes: count(message_bytes),
            calls_in_flight,
            call,
            threads,
            client_certificates: settings.authentication.client_certificates,
            serving: serving?,
            tls: tls?,
        })
    }

    /// At most `most` in total, and of that a part for each address.
    fn quota(&mut self, (key, total, most): (&str, u32, u32), (part_key, part): (&str, Option<u32>)) -> Quota {
        let total = self.within(key, total, 1..=most);
        let part = part.map_or(total.div_ceil(4), |part| self.within(part_key, part, 1..=total.max(1)));
        Quota {
            total: count(total),
            per_address: count(part),
        }
    }

    fn distinct_doors(
        &mut self,
        address: Option<SocketAddr>,
        plaintext: Option<SocketAddr>,
        monitoring: Option<SocketAddr>,
    ) {
        let same = |left: Option<SocketAddr>, right: Option<SocketAddr>| {
            left.is_some() && left == right && left.is_some_and(|address| address.port() != 0)
        };
        if same(plaintext, address) {
            self.refuse(
                "listen.plaintext",
                "it is the same as listen.address; give it a port of its own",
            );
        }
        if same(monitoring, address) || same(monitoring, plaintext) {
            self.refuse(
                "monitoring.address",
                "it is the same as a listen address; give it a port of its own",
            );
        }
    }

    fn ca(&mut self, ca: &settings::Ca, trust_domain: Option<&TrustDomain>) -> Option<authority::Config> {
        let kinds = [
            ("auto", CaKind::Auto),
            ("self-signed", CaKind::SelfSigned),
            ("plugged-in", CaKind::PluggedIn),
        ];
        let kind = self.one_of("ca.type", &ca.r#type, &kinds);
        let directory = self.path("ca.directory", &ca.directory);
        let own = &ca.self_signed;
        let self_signed_directory = self.path("ca.selfSigned.directory", &own.directory);
        if directory.is_some() && directory == self_signed_directory {
            let finding = "it is the same as ca.directory; plugged-in files and a root of our own must not mix";
            self.refuse("ca.selfSigned.directory", finding);
        }
        let algorithms = [("p256", RootAlgorithm::P256), ("p384", RootAlgorithm::P384)];
        let algorithm = self.one_of("ca.selfSigned.algorithm", &own.algorithm, &algorithms);
        let lifetime = self.lifetime("ca.selfSigned.lifetime", &own.lifetime);
        Some(authority::Config {
            kind: kind?,
            plugged_in_directory: directory?,
            self_signed: SelfSignedConfig {
                directory: self_signed_directory?,
                algorithm: algorithm?,
                lifetime: lifetime?,
                organization: trust_domain?.to_string(),
                new_root: false,
            },
        })
    }

    fn policy(&mut self, certificates: &settings::Certificates) -> Option<Policy> {
        let default = self.lifetime("certificates.defaultLifetime", &certificates.default_lifetime);
        let maximum = self.lifetime("certificates.maximumLifetime", &certificates.maximum_lifetime);
        let minimum = self.lifetime("certificates.minimumLifetime", &certificates.minimum_lifetime);
        let (default, maximum, minimum) = (default?, maximum?, minimum?);
        if default > maximum {
            let finding = format!(
                "{} is longer than certificates.maximumLifetime ({}); shorten it or raise the maximum",
                certificates.default_lifetime, certificates.maximum_lifetime
            );
            self.refuse("certificates.defaultLifetime", finding);
        }
        if minimum > default {
            let finding = format!(
                "{} is longer than certificates.defaultLifetime ({}); lower it or raise the default",
                certificates.minimum_lifetime, certificates.default_lifetime
            );
            self.refuse("certificates.minimumLifetime", finding);
        }
        if minimum.seconds() < 10 {
            let finding = format!(
                "{} is less than 10s; proxies with such certificates would do nothing but renew",
                certificates.minimum_lifetime
            );
            self.refuse("certificates.minimumLifetime", finding);
        }
        Some(Policy {
            profile: Profile {
                default,
                maximum,
                minimum,
            },
            strict_csr: certificates.strict_csr,
        })
    }

    fn serving_certificate(&mut self, settings: &Settings, policy: Option<&Policy>) -> Option<ServingSource> {
        let serving = &settings.serving_certificate;
        match (&serving.certificate_file, &serving.key_file) {
            (Some(certificate), Some(key)) => {
                let certificate = self.path("servingCertificate.certificateFile", certificate);
                let key = self.path("servingCertificate.keyFile", key);
                return Some(ServingSource::Files {
                    certificate: certificate?,
                    key: key?,
                });
            }
            (None, None) => {}
            (Some(_), None) => self.refuse(
                "servingCertificate.keyFile",
                "it is missing while certificateFile is set; give both, or neither to have a certificate issued",
            ),
            (None, Some(_)) => self.refuse(
                "servingCertificate.certificateFile",
                "it is missing while keyFile is set; give both, or neither to have a certificate issued",
            ),
        }
        let lifetime = self.lifetime("servingCertificate.lifetime", &serving.lifetime);
        if lifetime.is_some_and(|lifetime| lifetime.seconds() < 60) {
            let finding = format!("{} is less than 60s; use a day or more", serving.lifetime);
            self.refuse("servingCertificate.lifetime", finding);
        } else if let (Some(lifetime), Some(policy)) = (lifetime, policy)
            && lifetime < policy.profile.minimum
        {
            let finding = format!(
                "{} is shorter than certificates.minimumLifetime ({}), which holds for it too; use a day or more",
                serving.lifetime, settings.certificates.minimum_lifetime
            );
            self.refuse("servingCertificate.lifetime", finding);
        }
        let mut names: Vec<ServingName> = Vec::new();
        for (position, text) in serving.names.iter().enumerate() {
            match text.parse() {
                Ok(name) if names.contains(&name) => {}
                Ok(name) => names.push(name),
                Err(error) => self.refuse(format!("servingCertificate.names[{position}]"), error),
            }
        }
        if serving.names.is_empty() {
            let finding =
                "it is empty; proxies check our name: give the one in their CA_ADDR, usually istiod.istio-system.svc";
            self.refuse("servingCertificate.names", finding);
        }
        Some(ServingSource::Issued {
            names,
            lifetime: lifetime?,
            kept_in: settings.ca.self_signed.directory.clone().into(),
        })
    }

    fn logging(&mut self, logging: &settings::Logging) -> Option<log::Config> {
        let formats = [("text", log::Format::Text), ("json", log::Format::Json)];
        let format = self.one_of("logging.format", &logging.format, &formats);
        if let Err(error) = log::check_level(&logging.level) {
            self.refuse("logging.level", error);
        }
        Some(log::Config {
            format: format?,
            level: logging.level.clone(),
        })
    }

    pub(super) fn refuse(&mut self, key: impl Into<String>, finding: impl Display) {
        self.problems.push(Problem {
            key: key.into(),
            finding: finding.to_string(),
        });
    }

    pub(super) fn trust_domain(&mut self, key: &str, text: &str) -> Option<TrustDomain> {
        self.unless_refused(key, TrustDomain::parse(text))
    }

    fn address(&mut self, key: &str, text: &str) -> Option<SocketAddr> {
        let parsed = text
            .parse::<SocketAddr>()
            .map_err(|_| format!("{text:?} is not an address with a port; write it as 0.0.0.0:15012 or [::]:15012"));
        self.unless_refused(key, parsed)
    }

    pub(super) fn path(&mut self, key: &str, text: &str) -> Option<PathBuf> {
        let parsed = match text {
            "" => Err("it is empty; give a path or leave the key out"),
            path => Ok(PathBuf::from(path)),
        };
        self.unless_refused(key, parsed)
    }

    pub(super) fn lifetime(&mut self, key: &str, text: &str) -> Option<Lifetime> {
        let parsed = duration::parse(text)
            .map_err(|error| error.to_string())
            .and_then(|span| {
                let seconds = i64::try_from(span.as_secs()).ok();
                let whole = span.subsec_nanos() == 0;
                seconds
                    .filter(|_| whole)
                    .and_then(Lifetime::from_seconds)
                    .ok_or_else(|| {
                        format!("{text:?} is not a lifetime; give whole seconds, at least one and at most 136 years")
                    })
            });
        self.unless_refused(key, parsed)
    }

    pub(super) fn within(&mut self, key: &str, number: u32, range: RangeInclusive<u32>) -> u32 {
        if !range.contains(&number) {
            self.refuse(
                key,
                format!("{number} is out of range; give {} to {}", range.start(), range.end()),
            );
        }
        number
    }

    fn seconds(&mut self, key: &str, number: u32, range: RangeInclusive<u32>) -> Duration {
        Duration::from_secs(self.within(key, number, range).into())
    }

    pub(super) fn one_of<T: Copy>(&mut self, key: &str, text: &str, known: &[(&str, T)]) -> Option<T> {
        let found = known.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
        if found.is_none() {
            let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
            self.refuse(key, format!("{text:?} is none of {}", names.join(", ")));
        }
        found
    }

    pub(super) fn unless_refused<T, E: Display>(&mut self, key: &str, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.refuse(key, error)).ok()
    }
}
