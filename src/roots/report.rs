//! What people hear of the distribution: metrics, and lines in the log that do not repeat themselves for every namespace.

use std::sync::Arc;

use tokio::time::Instant;

use super::book::{Job, News};
use super::survey::Survey;
use crate::cluster::{ObjectError, Seen};
use crate::platform::Clock;
use crate::telemetry::{Metrics, Seldom};

const AN_HOUR: i64 = 3600;
const A_MINUTE: i64 = 60;

/// Tells.
pub struct Reporter {
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    take_over: bool,
    /// Since when the present set of roots is being written; `None` once it has arrived everywhere.
    since: Option<Instant>,
    /// Of a write.
    last_error: String,
    lost: Seldom,
    forbidden: Seldom,
    failing: Seldom,
    foreign: Seldom,
    contested: Seldom,
}

impl Reporter {
    pub fn new(clock: Arc<dyn Clock>, metrics: Arc<Metrics>, take_over: bool) -> Self {
        Self {
            clock,
            metrics,
            take_over,
            since: Some(Instant::now()),
            last_error: String::new(),
            lost: Seldom::every(A_MINUTE),
            forbidden: Seldom::every(AN_HOUR),
            failing: Seldom::every(A_MINUTE),
            foreign: Seldom::every(AN_HOUR),
            contested: Seldom::every(A_MINUTE),
        }
    }

    /// Another set of roots is to be written.
    pub fn begins(&mut self, now: Instant) {
        self.since = Some(now);
        tracing::info!("the roots changed: their ConfigMaps follow");
    }

    /// Something was seen of these objects.
    pub fn hears<T>(&self, what: &'static str, seen: &Seen<T>) {
        let Seen::Lost(error) = seen else { return };
        let now = self.clock.now();
        match error {
            // Nothing but a list that has become too old.
            ObjectError::Expired => tracing::debug!(what, "the list is made again"),
            error if error.is_forbidden() => {
                if self.forbidden.is_due(now) {
                    tracing::warn!(
                        what, %error,
                        "the roots are not distributed: grant the rights that docs/roots.md lists, or set roots.configMaps.enabled to false"
                    );
                }
            }
            error => {
                if self.lost.is_due(now) {
                    tracing::warn!(what, %error, "the watch ended and begins anew: ConfigMaps with roots may be late");
                }
            }
        }
    }

    /// A write ended.
    pub fn wrote(&mut self, job: &Job, result: &Result<(), ObjectError>) {
        let done = match (result, &job.replaces) {
            (Ok(()), None) => "created",
            (Ok(()), Some(_)) => "replaced",
            (Err(ObjectError::Conflict), _) => "conflict",
            (Err(_), _) => "failed",
        };
        self.metrics.root_config_map_written(done);
        let namespace = &job.namespace;
        match result {
            Ok(()) => tracing::debug!(%namespace, done, "roots written"),
            // A namespace that is just being deleted refuses too; more is said if it goes on.
            Err(error) => {
                tracing::debug!(%namespace, %error, "roots not written");
                if *error != ObjectError::Conflict {
                    self.last_error = error.to_string();
                }
            }
        }
    }

    /// Somebody works against us.
    pub fn contested(&self, news: &News) {
        match news {
            News::Controller(namespace, writer) => tracing::error!(
                %namespace, writer,
                "another CA's controller keeps the ConfigMaps with roots too and undid what was written: they are left to it; let one of the \
                 two do it (for istiod: ENABLE_CA_SERVER=false; here: roots.configMaps.enabled=false)"
            ),
            News::Contested(namespace, writer) => {
                if self.contested.is_due(self.clock.now()) {
                    tracing::warn!(
                        %namespace, writer,
                        "somebody changes the ConfigMap with roots again and again: it is left alone for ten minutes"
                    );
                }
            }
        }
    }

    /// How it stands.
    pub fn survey(&mut self, survey: &Survey, at: Instant) {
        let now = self.clock.now();
        self.metrics.root_config_maps(
            survey.synced,
            [
                ("selected", survey.selected),
                ("current", survey.current),
                ("behind", survey.behind),
                ("failed", survey.failed),
                ("foreign", survey.foreign),
            ],
        );
        if !survey.synced {
            return;
        }
        if survey.is_full() {
            self.metrics.roots_spread.set(now.unix());
            if let Some(since) = self.since.take() {
                let milliseconds = u64::try_from(at.duration_since(since).as_millis()).unwrap_or(u64::MAX);
                tracing::info!(
                    namespaces = survey.selected,
                    milliseconds,
                    "every selected namespace has the roots"
                );
            }
        }
        if let Some(example) = &survey.examples.0
            && self.failing.is_due(now)
        {
            tracing::warn!(
                namespaces = survey.failed, %example, error = self.last_error,
                "the ConfigMap with roots cannot be written in some namespaces; it is tried again"
            );
        }
        if let Some(example) = &survey.examples.1
            && self.foreign.is_due(now)
        {
            let remedy = match self.take_over {
                true => "they are left to it until it stops; one namespace is tried from time to time",
                false => "if it does not run any more, set roots.configMaps.takeOver to true",
            };
            tracing::warn!(
                namespaces = survey.foreign, %example,
                "ConfigMaps with other roots are kept by somebody else, such as an istiod: {remedy}"
            );
        }
    }
}
