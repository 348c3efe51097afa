//! The rules that settings must keep, in the order of the settings. Every problem is collected: an administrator wants to see all of them.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::{Authentication, Ca, Certificates, Config, Listen, Problem};
use crate::app::duration;
use crate::app::settings::{self, Settings};
use crate::authority::{CaKind, RootAlgorithm};
use crate::model::{Lifetime, ServingName, TrustDomain};
use crate::server::ServingSource;
use crate::telemetry::log;

/// Collects problems. A method answers `None` after it refused something.
#[derive(Default)]
pub(super) struct Checker(Vec<Problem>);

pub(super) fn config(settings: &Settings, environment: &BTreeMap<String, String>) -> Result<Config, Vec<Problem>> {
    let mut checker = Checker::default();
    let config = checker.config(settings, environment);
    match config {
        Some(config) if checker.0.is_empty() => Ok(config),
        _ => Err(checker.0),
    }
}

impl Checker {
    fn config(&mut self, settings: &Settings, environment: &BTreeMap<String, String>) -> Option<Config> {
        let trust_domain = self.trust_domain("trustDomain", &settings.trust_domain);
        if settings.cluster_id.is_empty() {
            let finding = "it is empty; give the name that proxies send in their clusterid header, usually Kubernetes";
            self.refuse("clusterId", finding);
        }
        let listen = self.listen(&settings.listen);
        let monitoring = self.address("monitoring.address", &settings.monitoring.address);
        self.distinct_doors(listen.as_ref(), monitoring);
        let ca = self.ca(&settings.ca);
        let certificates = self.certificates(&settings.certificates);
        if let (Some(ca), Some(certificates)) = (&ca, &certificates)
            && ca.self_signed_lifetime <= certificates.default_lifetime
        {
            let finding = format!(
                "{} is not longer than certificates.defaultLifetime ({}); a root must outlive what it signs, by years",
                settings.ca.self_signed.lifetime, settings.certificates.default_lifetime
            );
            self.refuse("ca.selfSigned.lifetime", finding);
        }
        let serving_certificate =
            self.serving_certificate(&settings.serving_certificate, &settings.ca.self_signed.directory);
        let authentication = self.authentication(settings, trust_domain.as_ref(), environment);
        let root_config_maps = self.root_config_maps(settings, environment);
        let logging = self.logging(&settings.logging);
        let drain = self.seconds("shutdown.drainSeconds", settings.shutdown.drain_seconds, 0..=3600);
        Some(Config {
            trust_domain: trust_domain?,
            cluster_id: settings.cluster_id.clone(),
            listen: listen?,
            monitoring: monitoring?,
            ca: ca?,
            certificates: certificates?,
            serving_certificate: serving_certificate?,
            authentication: authentication?,
            root_config_maps: root_config_maps?,
            logging: logging?,
            drain,
        })
    }

    fn listen(&mut self, listen: &settings::Listen) -> Option<Listen> {
        let address = self.address("listen.address", &listen.address);
        let plaintext = match &listen.plaintext {
            Some(text) => self.address("listen.plaintext", text).map(Some),
            None => Some(None),
        };
        let count = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
        let connections = self.within("listen.connections", listen.connections, 1..=1_000_000);
        let streams_per_connection = self.within(
            "listen.streamsPerConnection",
            listen.streams_per_connection,
            1..=100_000,
        );
        let message_bytes = self.within("listen.messageBytes", listen.message_bytes, 4 << 10..=4 << 20);
        let header_list_bytes = self.within("listen.headerListBytes", listen.header_list_bytes, 8 << 10..=1 << 20);
        let handshake = self.seconds("listen.handshakeSeconds", listen.handshake_seconds, 1..=60);
        let call = self.seconds("listen.callSeconds", listen.call_seconds, 1..=60);
        let calls_in_flight = self.within("listen.callsInFlight", listen.calls_in_flight, 1..=100_000);
        let threads = listen
            .threads
            .map(|threads| count(self.within("listen.threads", threads, 1..=1024)));
        Some(Listen {
            address: address?,
            plaintext: plaintext?,
            connections: count(connections),
            streams_per_connection,
            message_bytes: count(message_bytes),
            header_list_bytes,
            handshake,
            call,
            calls_in_flight: count(calls_in_flight),
            threads,
        })
    }

    fn distinct_doors(&mut self, listen: Option<&Listen>, monitoring: Option<SocketAddr>) {
        let plaintext = listen.and_then(|listen| listen.plaintext);
        let same = |left: Option<SocketAddr>, right: Option<SocketAddr>| {
            left.is_some() && left == right && left.is_some_and(|address| address.port() != 0)
        };
        let address = listen.map(|listen| listen.address);
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

    fn ca(&mut self, ca: &settings::Ca) -> Option<Ca> {
        let sources = [
            ("auto", CaKind::Auto),
            ("self-signed", CaKind::SelfSigned),
            ("plugged-in", CaKind::PluggedIn),
        ];
        let source = self.one_of("ca.type", &ca.r#type, &sources);
        let directory = self.path("ca.directory", &ca.directory);
        let own = &ca.self_signed;
        let self_signed_directory = self.path("ca.selfSigned.directory", &own.directory);
        if directory.is_some() && directory == self_signed_directory {
            let finding = "it is the same as ca.directory; plugged-in files and a root of our own must not mix";
            self.refuse("ca.selfSigned.directory", finding);
        }
        let algorithms = [("p256", RootAlgorithm::P256), ("p384", RootAlgorithm::P384)];
        let self_signed_algorithm = self.one_of("ca.selfSigned.algorithm", &own.algorithm, &algorithms);
        let self_signed_lifetime = self.lifetime("ca.selfSigned.lifetime", &own.lifetime);
        Some(Ca {
            source: source?,
            directory: directory?,
            self_signed_directory: self_signed_directory?,
            self_signed_algorithm: self_signed_algorithm?,
            self_signed_lifetime: self_signed_lifetime?,
        })
    }

    fn certificates(&mut self, certificates: &settings::Certificates) -> Option<Certificates> {
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
        Some(Certificates {
            default_lifetime: default,
            maximum_lifetime: maximum,
            minimum_lifetime: minimum,
            strict_csr: certificates.strict_csr,
        })
    }

    fn serving_certificate(&mut self, serving: &settings::ServingCertificate, kept_in: &str) -> Option<ServingSource> {
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
            kept_in: kept_in.into(),
        })
    }

    fn authentication(
        &mut self,
        settings: &Settings,
        trust_domain: Option<&TrustDomain>,
        environment: &BTreeMap<String, String>,
    ) -> Option<Authentication> {
        let authentication = &settings.authentication;
        let kubeconfig = match &authentication.token_review.kubeconfig {
            Some(text) => self.path("authentication.tokenReview.kubeconfig", text),
            None => None,
        };
        let in_cluster = environment.contains_key("KUBERNETES_SERVICE_HOST");
        let has_api_server = in_cluster || authentication.token_review.kubeconfig.is_some();
        let token_review = self.token_review(&authentication.token_review, has_api_server);
        let issuers = self.issuers(settings, trust_domain, has_api_server);
        if token_review.is_none() && authentication.issuers.is_empty() && !authentication.client_certificates {
            let finding = "nobody would be believed: in a cluster leave tokenReview on; elsewhere give tokenReview.kubeconfig, or issuers whose tokens are verified here";
            self.refuse("authentication", finding);
        }
        Some(Authentication {
            kubeconfig,
            token_review,
            issuers: issuers?,
            client_certificates: authentication.client_certificates,
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
        self.0.push(Problem {
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
