//! When which certificate ends: of every root, intermediate, signer and serving certificate, computed at each scrape.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;

use super::readiness::Readiness;
use crate::model::{Bundle, CaCertificate, Timestamp};
use crate::platform::Clock;

/// The certificates that somebody must renew in time.
pub struct Certificates {
    clock: Arc<dyn Clock>,
    watched: Mutex<Watched>,
}

/// What a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// In the bundle that clients trust.
    Root,
    /// Between signer and root.
    Intermediate,
    /// It signs workload certificates.
    Signer,
    /// Our own, for TLS.
    Serving,
}

impl Kind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Intermediate => "intermediate",
            Self::Signer => "signer",
            Self::Serving => "serving",
        }
    }
}

#[derive(Debug, Default)]
struct Watched {
    ca: Vec<Entry>,
    serving: Option<Entry>,
    /// istiod's two: the first root of the bundle, and the first certificate of the chain unless that is the root itself.
    first_root: Option<Timestamp>,
    first_of_chain: Option<Timestamp>,
}

#[derive(Debug)]
struct Entry {
    kind: Kind,
    subject: String,
    fingerprint: String,
    not_after: Timestamp,
}

impl Entry {
    fn new(kind: Kind, certificate: &CaCertificate) -> Self {
        Self {
            kind,
            subject: certificate.subject_text().to_owned(),
            fingerprint: certificate.fingerprint().to_string(),
            not_after: certificate.validity().not_after,
        }
    }
}

impl Certificates {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            watched: Mutex::default(),
        }
    }

    /// From now on these are the CA's: the signer first, its parents, and the roots that clients are told to trust.
    pub fn set_ca(&self, chain: &[CaCertificate], bundle: &Bundle) {
        let is_root = |member: &CaCertificate| bundle.roots().iter().any(|root| root.der() == member.der());
        let kinds = std::iter::once(Kind::Signer).chain(std::iter::repeat(Kind::Intermediate));
        let roots = bundle.roots().iter().map(|root| Entry::new(Kind::Root, root));
        let ca = chain
            .iter()
            .zip(kinds)
            .map(|(member, kind)| Entry::new(kind, member))
            .chain(roots)
            .collect();
        let end = |certificate: &CaCertificate| certificate.validity().not_after;
        let mut watched = self.lock();
        watched.ca = ca;
        watched.first_root = bundle.roots().first().map(end);
        watched.first_of_chain = chain.first().filter(|signer| !is_root(signer)).map(end);
    }

    /// From now on this is what our TLS listener shows.
    pub fn set_serving(&self, leaf: &CaCertificate) {
        self.lock().serving = Some(Entry::new(Kind::Serving, leaf));
    }

    fn lock(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(|broken| broken.into_inner())
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lock().fmt(f)
    }
}

impl Collector for Certificates {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let now = self.clock.now();
        let watched = self.lock();
        let mut family = encoder.encode_descriptor(
            "countersign_certificate_expiry_timestamp_seconds",
            "The last second of every certificate that must be renewed in time",
            None,
            MetricType::Gauge,
        )?;
        for entry in watched.ca.iter().chain(&watched.serving) {
            let labels = [
                ("kind", entry.kind.as_str()),
                ("subject", &entry.subject),
                ("fingerprint", &entry.fingerprint),
            ];
            family.encode_family(&labels)?.encode_gauge(&entry.not_after.unix())?;
        }
        for (end, timestamp, seconds, what) in [
            (
                watched.first_root,
                "citadel_server_root_cert_expiry_timestamp",
                "citadel_server_root_cert_expiry_seconds",
                "first root of the bundle",
            ),
            (
                watched.first_of_chain,
                "citadel_server_cert_chain_expiry_timestamp",
                "citadel_server_cert_chain_expiry_seconds",
                "certificate that signs (unless it is a root)",
            ),
        ] {
            let Some(end) = end else { continue };
            let help = format!("When the {what} expires, in seconds since 1970");
            encoder
                .encode_descriptor(timestamp, &help, None, MetricType::Gauge)?
                .encode_gauge(&end.unix())?;
            let help = format!("Seconds until the {what} expires, negative afterwards");
            encoder
                .encode_descriptor(seconds, &help, None, MetricType::Gauge)?
                .encode_gauge(&end.since(now))?;
        }
        Ok(())
    }
}

impl Collector for Readiness {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut family = encoder.encode_descriptor(
            "countersign_condition_met",
            "1 for every condition of readiness that is met, 0 for every other",
            None,
            MetricType::Gauge,
        )?;
        for (condition, met) in self.report().conditions() {
            family
                .encode_family(&[("condition", condition)])?
                .encode_gauge(&i64::from(met))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::TestClock;
    use crate::telemetry::Metrics;
    use std::time::Duration;

    fn certificate(name: &str) -> CaCertificate {
        let mut parameters = rcgen::CertificateParams::default();
        parameters.distinguished_name.push(rcgen::DnType::CommonName, name);
        parameters.not_after = rcgen::date_time_ymd(2030, 1, 1);
        let key = rcgen::KeyPair::generate().unwrap();
        CaCertificate::parse(parameters.self_signed(&key).unwrap().der()).unwrap()
    }

    #[test]
    fn every_certificate_has_an_expiry_and_the_seconds_count_down() {
        let end = 1_893_456_000;
        let clock = Arc::new(TestClock::at(Timestamp::from_unix(end - 100)));
        let metrics = Metrics::new(Arc::clone(&clock) as Arc<dyn Clock>, &Readiness::default());
        let (signer, parent, root) = (certificate("signer"), certificate("parent"), certificate("root"));
        metrics
            .certificates
            .set_ca(&[signer, parent], &Bundle::new([root.clone()]).unwrap());
        metrics.certificates.set_serving(&certificate("serving"));
        let text = metrics.render();
        for (kind, name) in [
            ("signer", "signer"),
            ("intermediate", "parent"),
            ("root", "root"),
            ("serving", "serving"),
        ] {
            let start = format!(
                "countersign_certificate_expiry_timestamp_seconds{{kind=\"{kind}\",subject=\"CN={name}\",fingerprint=\""
            );
            let line = text
                .lines()
                .find(|line| line.starts_with(&start))
                .unwrap_or_else(|| panic!("{text}"));
            assert!(line.ends_with(&format!(" {end}")), "{line}");
        }
        clock.pass(Duration::from_secs(101));
        let text = metrics.render();
        for line in [
            format!("citadel_server_root_cert_expiry_timestamp {end}"),
            "citadel_server_root_cert_expiry_seconds -1".into(),
            format!("citadel_server_cert_chain_expiry_timestamp {end}"),
            "citadel_server_cert_chain_expiry_seconds -1".into(),
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
        // A root that signs itself has no chain, as in istiod.
        metrics
            .certificates
            .set_ca(std::slice::from_ref(&root), &Bundle::new([root.clone()]).unwrap());
        let text = metrics.render();
        assert!(
            !text.contains("citadel_server_cert_chain") && !text.contains("CN=parent"),
            "{text}"
        );
    }
}
