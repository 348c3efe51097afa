//! The roots in every namespace: a stateful API server, a clock that jumps to whatever comes next, and the distribution as the program runs it.

mod evidence;
mod others;
mod spreading;
mod troubles;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use countersign::authority::{CaState, Stopped};
use countersign::model::{Bundle, CaCertificate, Fingerprint};
use countersign::platform::shutdown::{ShutdownTrigger, shutdown};
use countersign::platform::{Clock, SystemClock};
use countersign::roots::{Config, Distribution, Selection};
use countersign::telemetry::{Metrics, Readiness};
use rcgen::KeyPair;
use tokio::sync::watch;

use crate::support::ca::{root, years};
use crate::support::objects::{NAME, Objects};

const ARRIVAL: Duration = Duration::from_secs(180);

fn new_root(name: &str) -> CaCertificate {
    let root = root(name, KeyPair::generate().unwrap(), years(SystemClock.now()));
    CaCertificate::parse(root.der()).unwrap()
}

fn state(roots: &[&CaCertificate]) -> Arc<CaState> {
    Arc::new(CaState {
        signing: Err(Stopped("it signs nothing here".into())),
        bundle: Bundle::new(roots.iter().map(|root| (*root).clone())).unwrap(),
        serving: None,
        signers: Vec::new(),
    })
}

fn usual() -> Config {
    Config {
        name: NAME.into(),
        selection: Selection::default(),
        take_over: false,
        arrival: ARRIVAL,
        writes_per_second: 100,
    }
}

/// A running distribution.
struct Scene {
    api: Objects,
    metrics: Arc<Metrics>,
    bundle: watch::Sender<Arc<CaState>>,
    spread: watch::Receiver<BTreeSet<Fingerprint>>,
    _running: ShutdownTrigger,
}

impl Scene {
    /// Of one root, in these namespaces.
    fn new(root: &CaCertificate, namespaces: &[&str]) -> Self {
        let api = Objects::new();
        for name in namespaces {
            api.namespace(name, &[]);
        }
        Self::with(api, &[root], usual())
    }

    fn with(api: Objects, roots: &[&CaCertificate], config: Config) -> Self {
        let bundle = watch::Sender::new(state(roots));
        let clock = Arc::new(SystemClock);
        let metrics = Arc::new(Metrics::new(clock.clone(), &Readiness::default()));
        let distribution = Distribution::new(config, api.reached(), bundle.subscribe(), clock, metrics.clone());
        let spread = distribution.spread();
        let (running, asked) = shutdown();
        tokio::spawn(distribution.run(asked));
        Self {
            api,
            metrics,
            bundle,
            spread,
            _running: running,
        }
    }

    fn publish(&self, roots: &[&CaCertificate]) -> String {
        let state = state(roots);
        let text = state.bundle.pem().to_owned();
        self.bundle.send_replace(state);
        text
    }

    /// Waits until exactly these namespaces hold exactly this text.
    async fn hold(&self, text: &str, namespaces: &[&str]) {
        let expected: BTreeSet<String> = namespaces.iter().map(|name| (*name).to_owned()).collect();
        let what = format!("the text in {expected:?}");
        self.api.until(&what, |api| api.holding(text) == expected).await;
    }

    /// The value of a metric.
    fn metric(&self, name: &str) -> f64 {
        let text = self.metrics.render();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("there is no {name} in {text}"))
            .parse()
            .unwrap()
    }

    fn standing(&self, state: &str) -> f64 {
        self.metric(&format!("countersign_root_configmaps{{state=\"{state}\"}}"))
    }

    fn spread(&self) -> BTreeSet<Fingerprint> {
        self.spread.borrow().clone()
    }
}

/// Lets time pass, and everything happen that happens in it.
async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

fn set(roots: &[&CaCertificate]) -> BTreeSet<Fingerprint> {
    roots.iter().map(|root| root.fingerprint()).collect()
}
