//! Every metric in one list: the fields of [`Metrics`] and what [`Certificates`] reports at each scrape.
//!
//! Handles are atomics; labels on the way of a request are resolved once, at start. Label values are words of ours, issuers of the settings
//! and certificates of the bundle, so that no caller can make new series.
//!
//! istiod's `citadel_*` names are kept where they mean the same, so that dashboards and alerts go on working. istiod exports its counters
//! without the `_total` that the library gives to every counter, and Prometheus asks for types only to make suggestions: [`BareCounter`]
//! says `untyped`, which is written under exactly its name and works with `rate()` all the same.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet, prometheus_text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::{Metric, Registry};

pub use super::certificates::{Certificates, Kind};
use super::readiness::Readiness;
use crate::platform::Clock;

/// The `Content-Type` of [`Metrics::render`].
pub const CONTENT_TYPE: &str = prometheus_text::CONTENT_TYPE;

/// One label with a word of ours.
type Word = [(&'static str, &'static str); 1];

/// All metrics. One of it exists per process; share it by `Arc`.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,

    /// `citadel_server_csr_count`: calls of `CreateCertificate`.
    pub csr_count: BareCounter,
    /// `citadel_server_authentication_failure_count`: calls refused because the caller, or the identity it asked for, was not proven.
    pub authentication_failures: BareCounter,
    sign_errors: Family<Word, BareCounter>,
    /// `citadel_server_success_cert_issuance_count`: certificates handed out.
    pub issued: BareCounter,

    grants: Family<Word, Counter>,
    refusals: Family<[(&'static str, &'static str); 2], Counter>,
    stages: [Histogram; Stage::ALL.len()],
    /// `countersign_certificates_clamped_total`: certificates that live shorter than asked because a certificate above them ends.
    pub clamped: Counter,
    /// `countersign_calls_in_flight`: calls for certificates, until their answer was taken.
    pub calls_in_flight: Level,
    /// `countersign_connections`: connections open now, handshakes included.
    pub connections: Level,
    connections_closed: Family<Word, Counter>,
    handshake_failures: Family<Word, Counter>,
    key_fetches: Family<[(&'static str, String); 2], Counter>,
    keys_fetched: Family<[(&'static str, String); 1], Gauge>,
    /// `countersign_ca_generation`: counts the times that bundle or signing root changed, over restarts.
    pub ca_generation: Gauge,
    /// `countersign_ca_change_pending`: 1 while a new root waits for its time to sign.
    pub ca_change_pending: Gauge,
    ca_looks: Family<Word, Counter>,
    ca_files_in_force: Gauge,
    root_config_maps: Family<Word, Gauge>,
    root_config_maps_synced: Gauge,
    root_config_maps_written: Family<Word, Counter>,
    /// `countersign_root_configmaps_last_full_spread_timestamp_seconds`: when every selected namespace was last known to have the present roots.
    pub roots_spread: Gauge,
    log_lines_lost: Family<Word, Counter>,
    /// `countersign_certificate_expiry_timestamp_seconds` and istiod's expiry gauges.
    pub certificates: Arc<Certificates>,
}

/// What a request passes through, as `countersign_stage_seconds{stage}` measures it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Who calls.
    Authenticate,
    /// From the proven caller to the signed certificate: authorize, csr, plan, sign; waiting for a thread included.
    Certify,
    /// From the whole request to the whole answer.
    Total,
}

impl Stage {
    const ALL: [(Stage, &'static str); 3] = [
        (Stage::Authenticate, "authenticate"),
        (Stage::Certify, "certify"),
        (Stage::Total, "total"),
    ];
}

/// istiod's words for `citadel_server_csr_sign_err_count{error}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignError {
    /// No key or certificate to sign with.
    CaNotReady,
    /// The certificate request is not acceptable.
    CsrError,
    /// The wanted lifetime is not acceptable.
    TtlError,
    /// The certificate could not be made.
    CertGenError,
}

/// A counter whose exported name is exactly its name. See the head of this file.
#[derive(Clone, Debug, Default)]
pub struct BareCounter(Counter);

impl BareCounter {
    /// One more.
    pub fn inc(&self) {
        self.0.inc();
    }
}

impl TypedMetric for BareCounter {
    const TYPE: MetricType = MetricType::Unknown;
}

impl EncodeMetric for BareCounter {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        encoder.encode_counter(&self.0.get(), None::<&Exemplar<NoLabelSet, u64>>)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

/// How many of something exist now.
#[derive(Clone, Debug, Default)]
pub struct Level(Gauge<i64, AtomicI64>);

/// One of the things counted by a [`Level`]; dropping it counts down.
#[derive(Debug)]
pub struct Present(Gauge<i64, AtomicI64>);

impl Level {
    /// One more, until the answer is dropped.
    pub fn enter(&self) -> Present {
        self.0.inc();
        Present(self.0.clone())
    }

    /// How many there are.
    pub fn now(&self) -> i64 {
        self.0.get()
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Metrics {
    /// Every metric at zero; `readiness` is shown as `countersign_condition_met`.
    pub fn new(clock: Arc<dyn Clock>, readiness: &Readiness) -> Self {
        let mut registry = Registry::default();
        let r = &mut registry;
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        r.register("countersign_build", "The running program", build);
        let certificates = Arc::new(Certificates::new(clock));
        r.register_collector(Box::new(Arc::clone(&certificates)));
        r.register_collector(Box::new(readiness.clone()));
        let by_stage: Family<Word, Histogram, fn() -> Histogram> =
            Family::new_with_constructor(|| Histogram::new(BUCKETS));
        let stages = Stage::ALL.map(|(_, word)| by_stage.get_or_create_owned(&[("stage", word)]));
        add(
            r,
            "countersign_stage_seconds",
            "How long each stage of a call took",
            by_stage,
        );
        Self {
            csr_count: add(
                r,
                "citadel_server_csr_count",
                "Calls of CreateCertificate",
                BareCounter::default(),
            ),
            authentication_failures: add(
                r,
                "citadel_server_authentication_failure_count",
                "Calls refused because the caller or the wanted identity was not proven",
                BareCounter::default(),
            ),
            sign_errors: add(
                r,
                "citadel_server_csr_sign_err_count",
                "Calls of proven callers that ended without a certificate, by error",
                Family::default(),
            ),
            issued: add(
                r,
                "citadel_server_success_cert_issuance_count",
                "Certificates handed out",
                BareCounter::default(),
            ),
            grants: add(
                r,
                "countersign_grants",
                "Certificates handed out, by how the caller was proven",
                Family::default(),
            ),
            refusals: add(
                r,
                "countersign_refusals",
                "Calls refused, by reason and gRPC code",
                Family::default(),
            ),
            stages,
            clamped: add(
                r,
                "countersign_certificates_clamped",
                "Certificates that live shorter than asked because a certificate above them ends",
                Counter::default(),
            ),
            calls_in_flight: Level(add(
                r,
                "countersign_calls_in_flight",
                "Calls for certificates that are being answered, or whose answer was not taken yet",
                Gauge::default(),
            )),
            connections: Level(add(
                r,
                "countersign_connections",
                "Connections open now",
                Gauge::default(),
            )),
            connections_closed: add(
                r,
                "countersign_connections_closed",
                "Connections closed because a bound on them was reached, by bound",
                Family::default(),
            ),
            handshake_failures: add(
                r,
                "countersign_handshake_failures",
                "Connections that ended before the peer spoke HTTP/2, by reason",
                Family::default(),
            ),
            key_fetches: add(
                r,
                "countersign_token_key_fetches",
                "Fetches of an issuer's token keys, by result",
                Family::default(),
            ),
            keys_fetched: add(
                r,
                "countersign_token_keys_fetched_timestamp_seconds",
                "When an issuer's token keys were last fetched; their age is time() minus this",
                Family::default(),
            ),
            ca_generation: add(
                r,
                "countersign_ca_generation",
                "Counts the times that the bundle or the signing root changed, over restarts",
                Gauge::default(),
            ),
            ca_change_pending: add(
                r,
                "countersign_ca_change_pending",
                "1 while a new root waits for its time to sign",
                Gauge::default(),
            ),
            ca_looks: add(
                r,
                "countersign_ca_files_changed",
                "Times that the CA's files were found changed, by what became of them",
                Family::default(),
            ),
            ca_files_in_force: add(
                r,
                "countersign_ca_files_in_force",
                "1 when the CA's files as they lie there now are what signs or is to sign, 0 when the last good ones are",
                Gauge::default(),
            ),
            root_config_maps: add(
                r,
                "countersign_root_configmaps",
                "Namespaces that are to have the roots, by how their ConfigMap stands",
                Family::default(),
            ),
            root_config_maps_synced: add(
                r,
                "countersign_root_configmaps_synced",
                "1 when all namespaces and their ConfigMaps are known, 0 while the API server did not tell",
                Gauge::default(),
            ),
            root_config_maps_written: add(
                r,
                "countersign_root_configmap_writes",
                "Writes of ConfigMaps with roots, by result",
                Family::default(),
            ),
            roots_spread: add(
                r,
                "countersign_root_configmaps_last_full_spread_timestamp_seconds",
                "When every selected namespace was last known to have the present roots",
                Gauge::default(),
            ),
            log_lines_lost: add(
                r,
                "countersign_log_lines_lost",
                "Log lines left out because the log could not be written fast enough, by what is lost with them",
                Family::default(),
            ),
            certificates,
            registry,
        }
    }

    /// The text that Prometheus scrapes.
    pub fn render(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = prometheus_text::encode(&mut text, &self.registry);
        text
    }

    /// `countersign_grants_total{method}`, one more.
    pub fn granted(&self, method: &'static str) {
        self.grants.get_or_create(&[("method", method)]).inc();
    }

    /// `countersign_token_key_fetches_total{issuer,result}`; take the handles once, at start. `issuer` comes from the settings.
    pub fn key_fetches(&self, issuer: &str, result: &'static str) -> Counter {
        self.key_fetches
            .get_or_create_owned(&[("issuer", issuer.to_owned()), ("result", result.to_owned())])
    }

    /// `countersign_token_keys_fetched_timestamp_seconds{issuer}`, to be set to the time of each success.
    pub fn keys_fetched(&self, issuer: &str) -> Gauge {
        self.keys_fetched.get_or_create_owned(&[("issuer", issuer.to_owned())])
    }

    /// `countersign_ca_files_changed_total{result}`, one more, and `countersign_ca_files_in_force`.
    pub fn ca_files_changed(&self, result: &'static str, in_force: bool) {
        self.ca_looks.get_or_create(&[("result", result)]).inc();
        self.ca_files_in_force.set(i64::from(in_force));
    }

    /// `countersign_root_configmaps{state}` and `countersign_root_configmaps_synced`.
    pub fn root_config_maps(&self, synced: bool, states: [(&'static str, usize); 5]) {
        self.root_config_maps_synced.set(i64::from(synced));
        for (state, number) in states {
            let number = i64::try_from(number).unwrap_or(i64::MAX);
            self.root_config_maps.get_or_create(&[("state", state)]).set(number);
        }
    }

    /// `countersign_root_configmap_writes_total{result}`, one more.
    pub fn root_config_map_written(&self, result: &'static str) {
        self.root_config_maps_written.get_or_create(&[("result", result)]).inc();
    }

    /// `countersign_stage_seconds{stage}`.
    pub fn stage(&self, stage: Stage) -> &Histogram {
        &self.stages[stage as usize]
    }

    /// `countersign_refusals_total{reason,code}`, one more.
    pub fn refused(&self, reason: &'static str, code: &'static str) {
        self.refusals.get_or_create(&[("reason", reason), ("code", code)]).inc();
    }

    /// `countersign_connections_closed_total{reason}`, one more.
    pub fn connection_closed(&self, reason: &'static str) {
        self.connections_closed.get_or_create(&[("reason", reason)]).inc();
    }

    /// `countersign_handshake_failures_total{reason}`, one more.
    pub fn handshake_failed(&self, reason: &'static str) {
        self.handshake_failures.get_or_create(&[("reason", reason)]).inc();
    }

    /// `countersign_log_lines_lost_total{worth}`; take the handles once, at start.
    pub fn log_lines_lost(&self, worth: &'static str) -> Counter {
        self.log_lines_lost.get_or_create_owned(&[("worth", worth)])
    }

    /// `citadel_server_csr_sign_err_count{error}`, one more.
    pub fn sign_failed(&self, error: SignError) {
        let word = match error {
            SignError::CaNotReady => "CA_NOT_READY",
            SignError::CsrError => "CSR_ERROR",
            SignError::TtlError => "TTL_ERROR",
            SignError::CertGenError => "CERT_GEN_ERROR",
        };
        self.sign_errors.get_or_create(&[("error", word)]).inc();
    }
}

/// From what a P-256 signature takes to the longest that a call may take.
const BUCKETS: [f64; 16] = [
    25e-6, 50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 0.1, 0.25, 0.5, 1.0, 5.0,
];

fn add<M: Metric + Clone>(registry: &mut Registry, name: &str, help: &str, metric: M) -> M {
    registry.register(name, help, metric.clone());
    metric
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Timestamp;
    use crate::platform::TestClock;

    #[test]
    fn istiods_names_appear_exactly() {
        let clock = Arc::new(TestClock::at(Timestamp::from_unix(1_000)));
        let metrics = Metrics::new(clock, &Readiness::default());
        metrics.csr_count.inc();
        metrics.csr_count.inc();
        metrics.authentication_failures.inc();
        metrics.issued.inc();
        metrics.sign_failed(SignError::TtlError);
        let text = metrics.render();
        for line in [
            "citadel_server_csr_count 2",
            "citadel_server_authentication_failure_count 1",
            "citadel_server_success_cert_issuance_count 1",
            "citadel_server_csr_sign_err_count{error=\"TTL_ERROR\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
    }

    #[test]
    fn every_handle_counts_under_its_name() {
        let clock = Arc::new(TestClock::at(Timestamp::from_unix(1_000)));
        let readiness = Readiness::default();
        let metrics = Metrics::new(clock, &readiness);
        readiness.await_condition("ca", "loading");
        metrics.granted("offline_jwt");
        metrics.refused("token_expired", "UNAUTHENTICATED");
        metrics.handshake_failed("timeout");
        metrics.key_fetches("https://issuer", "failed").inc();
        metrics.keys_fetched("https://issuer").set(77);
        metrics.clamped.inc();
        metrics.connection_closed("connections");
        metrics.log_lines_lost("much").inc();
        let present = metrics.calls_in_flight.enter();
        drop(metrics.connections.enter());
        for (position, (stage, _)) in Stage::ALL.into_iter().enumerate() {
            metrics.stage(stage).observe(1e-6 * position as f64);
        }
        let text = metrics.render();
        drop(present);
        assert_eq!(metrics.calls_in_flight.now(), 0);
        for line in [
            "countersign_build_info{version=\"0.1.0\"} 1",
            "countersign_condition_met{condition=\"ca\"} 0",
            "countersign_grants_total{method=\"offline_jwt\"} 1",
            "countersign_refusals_total{reason=\"token_expired\",code=\"UNAUTHENTICATED\"} 1",
            "countersign_handshake_failures_total{reason=\"timeout\"} 1",
            "countersign_token_key_fetches_total{issuer=\"https://issuer\",result=\"failed\"} 1",
            "countersign_token_keys_fetched_timestamp_seconds{issuer=\"https://issuer\"} 77",
            "countersign_certificates_clamped_total 1",
            "countersign_connections_closed_total{reason=\"connections\"} 1",
            "countersign_log_lines_lost_total{worth=\"much\"} 1",
            "countersign_calls_in_flight 1",
            "countersign_connections 0",
            "countersign_stage_seconds_count{stage=\"authenticate\"} 1",
            "countersign_stage_seconds_sum{stage=\"total\"} 0.000002",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
    }
}
