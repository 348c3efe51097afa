//! Tells the cluster which roots to trust: a ConfigMap in every namespace that has workloads, mounted by every proxy (istiod's "namespace
//! controller").
//!
//! Takes: the CA's bundle as it changes, namespaces and ConfigMaps as the API server shows them. Gives: the ConfigMaps, created and repaired;
//! and the set of roots that every selected namespace is known to have, which a change of root waits for. Not here: what is in the bundle.
//!
//! ```text
//! cluster/follow   what is there   ┐
//! authority        the bundle      ├► book (what to write next) ─► cluster/root_config_maps ─► the watch tells what became of it
//! time                             ┘        └─► survey (how far it got) ─► metrics, log, and `spread` for the CA
//! ```

mod book;
mod held;
mod pace;
mod report;
mod selection;
mod space;
mod survey;
mod takeover;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

pub use selection::{Expression, LabelSelector, Operator, Selection};

use book::{Book, Job};
use held::Text;
use pace::Pace;
use report::Reporter;

use crate::authority::CaState;
use crate::cluster::{self, ApiServer, ObjectError, RootConfigMaps};
use crate::model::Fingerprint;
use crate::platform::Clock;
use crate::platform::shutdown::Shutdown;
use crate::telemetry::Metrics;

/// What is distributed where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The ConfigMaps' name.
    pub name: String,
    /// The namespaces that get one.
    pub selection: Selection,
    /// What another CA's controller wrote may be overwritten.
    pub take_over: bool,
    /// How long kubelets may take to bring a changed ConfigMap into pods.
    pub arrival: Duration,
    /// Most writes a second; at least one.
    pub writes_per_second: u32,
}

/// Most writes at once.
const WORKERS: usize = 16;
/// Of these, kept free for namespaces whose pods wait.
const KEPT_FREE: usize = 4;
/// How often it is looked how far the roots have spread.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// What was seen and not yet looked at.
const MOST_SEEN: usize = 64;

/// Keeps the ConfigMaps.
pub struct Distribution {
    config: Config,
    server: ApiServer,
    bundle: watch::Receiver<Arc<CaState>>,
    spread: watch::Sender<BTreeSet<Fingerprint>>,
    reporter: Reporter,
}

impl Distribution {
    /// For this CA; nothing happens before [`Self::run`].
    pub fn new(
        config: Config,
        server: ApiServer,
        bundle: watch::Receiver<Arc<CaState>>,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            reporter: Reporter::new(clock, metrics, config.take_over),
            spread: watch::Sender::default(),
            config,
            server,
            bundle,
        }
    }

    /// The roots that the pods of every selected namespace are known to have in their root files. Empty while that is not known.
    pub fn spread(&self) -> watch::Receiver<BTreeSet<Fingerprint>> {
        self.spread.subscribe()
    }

    /// Works until asked to stop. To be run on the API server's runtime.
    pub async fn run(mut self, mut shutdown: Shutdown) {
        let (to_namespaces, mut namespaces) = mpsc::channel(MOST_SEEN);
        let (to_maps, mut maps) = mpsc::channel(MOST_SEEN);
        let mut followers = JoinSet::new();
        followers.spawn(cluster::follow(
            self.server.clone(),
            cluster::namespaces(),
            to_namespaces,
        ));
        let collection = cluster::root_config_maps(&self.config.name);
        followers.spawn(cluster::follow(self.server.clone(), collection, to_maps));

        let mut book = self.book();
        let mut pace = Pace::new(self.config.writes_per_second, Instant::now());
        let mut writing: JoinSet<(Job, Result<(), ObjectError>)> = JoinSet::new();
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let wake = self.write(&mut book, &mut pace, &mut writing);
            tokio::select! {
                () = shutdown.asked() => return,
                Some(seen) = namespaces.recv() => {
                    self.reporter.hears("namespaces", &seen);
                    book.see_namespace(seen, Instant::now());
                }
                Some(seen) = maps.recv() => {
                    self.reporter.hears("configmaps", &seen);
                    if let Some(news) = book.see_map(seen, Instant::now()) {
                        self.reporter.contested(&news);
                    }
                }
                changed = self.bundle.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let text = Text::of(&self.bundle.borrow_and_update().bundle);
                    if book.want(text, Instant::now()) {
                        self.reporter.begins(Instant::now());
                    }
                }
                Some(written) = writing.join_next() => {
                    if let Ok((job, result)) = written {
                        self.reporter.wrote(&job, &result);
                        book.done(&job, result.as_ref().copied(), Instant::now());
                    }
                }
                () = sleep_until(wake) => {}
                _ = look.tick() => {
                    let now = Instant::now();
                    book.look(now);
                    let survey = book.survey(now);
                    let spread = survey.spread();
                    self.reporter.survey(&survey, now);
                    self.spread.send_if_modified(|known| std::mem::replace(known, spread) != *known);
                }
            }
        }
    }

    fn book(&mut self) -> Book {
        let text = Text::of(&self.bundle.borrow_and_update().bundle);
        let config = &self.config;
        Book::new(config.selection.clone(), config.take_over, config.arrival, text)
    }

    /// Starts as many writes as may be; when the next may start, if it is time that hinders it.
    fn write(
        &self,
        book: &mut Book,
        pace: &mut Pace,
        writing: &mut JoinSet<(Job, Result<(), ObjectError>)>,
    ) -> Option<Instant> {
        let now = Instant::now();
        loop {
            let crowded = writing.len() >= WORKERS - KEPT_FREE;
            if writing.len() >= WORKERS || !book.has_work(crowded) {
                return None;
            }
            if pace.next() > now {
                return Some(pace.next());
            }
            let Some(job) = book.next(crowded, now) else { continue };
            pace.take(now);
            let maps = RootConfigMaps::new(self.server.clone(), &self.config.name);
            writing.spawn(async move {
                let result = match &job.replaces {
                    None => maps.create(&job.namespace, &job.text.pem).await,
                    Some(version) => maps.replace(&job.namespace, version, &job.text.pem).await,
                };
                (job, result)
            });
        }
    }
}

async fn sleep_until(wake: Option<Instant>) {
    match wake {
        Some(wake) => tokio::time::sleep_until(wake).await,
        None => std::future::pending().await,
    }
}
