//! The loop around `rotation`: looks at the files, answers commands, makes what changed durable, then publishes it.
//!
//! Takes: an opened CA. Gives: a [`CaState`] after each change. One task owns everything here, so that no two changes meet.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::coverage::{Ask, Coverage, NotCovered};
use super::folder::{Folder, Look};
use super::rotation::{Refused, Rotation};
use super::snapshot::LoadedCa;
use super::state::{CaState, Stopped};
use super::steering::{Act, Command, Files, Status, SteeringError};
use super::store::Stored;
use super::{CaKind, CaSnapshot, Config, Finding, Findings, Report, Source, renew, self_signed};
use crate::model::{Bundle, CaCertificate, Fingerprint, Timestamp};
use crate::platform::Clock;
use crate::platform::files::{DirectoryLock, FileError};
use crate::platform::shutdown::Shutdown;
use crate::telemetry::{Metrics, Seldom};

/// How often files and time are looked at: two looks must agree, and a change should sign within seconds.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Between the two looks that an admin asked for.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Owns the CA of a process.
pub(super) struct Keeper {
    pub config: Config,
    pub clock: Arc<dyn Clock>,
    pub metrics: Arc<Metrics>,
    pub stored: Stored,
    /// Every CA whose key we hold, none twice for one root; the last to come is last.
    pub sets: Vec<Set>,
    pub source: Source,
    pub files: Files,
    pub folder: Folder,
    pub failing: Seldom,
    pub state: watch::Sender<Arc<CaState>>,
    /// Roots that every client's own root file is known to hold.
    pub spread: watch::Receiver<BTreeSet<Fingerprint>>,
    pub commands: mpsc::Receiver<Command>,
    pub asks: mpsc::Receiver<Ask>,
    /// The other end of `asks`, for each [`Coverage`].
    pub ask: mpsc::Sender<Ask>,
    pub _lock: DirectoryLock,
}

/// A CA and where it came from.
#[derive(Clone, Debug)]
pub(super) struct Set {
    pub ca: Arc<LoadedCa>,
    pub source: Source,
}

impl Keeper {
    /// Keeps the CA until asked to stop.
    pub async fn run(mut self, mut shutdown: Shutdown) {
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = shutdown.asked() => return,
                Some(Ask { coverage, not_after, reply }) = self.asks.recv() => {
                    // Whoever asked may have given up: an answer that nobody takes is no failure.
                    let _ = reply.send(self.cover(&coverage, not_after));
                }
                Some(command) = self.commands.recv() => self.answer(command).await,
                _ = look.tick() => {
                    let _ = self.look();
                    self.renew();
                    self.settle();
                }
            }
        }
    }

    async fn answer(&mut self, command: Command) {
        match command {
            Command::Status { reply } => drop(reply.send(self.status())),
            Command::Act { act, pending, reply } => {
                let present = self.stored.rotation.pending();
                let done = match act {
                    _ if pending.is_some() && present.is_none() => Err(Refused::NothingPending.into()),
                    _ if pending.is_some() && pending != present => Err(Refused::AnotherPending.into()),
                    Act::Reload => {
                        let _ = self.look();
                        tokio::time::sleep(LOOK_AGAIN).await;
                        let looked = self.look();
                        self.renew();
                        self.settle();
                        looked
                    }
                    act => self.act(act),
                };
                drop(reply.send(done));
            }
        }
    }

    /// Raises the mark of an era, rounded up so that this is rarely needed: by a sixteenth of the lifetime, a quarter of an hour at most.
    fn cover(&mut self, coverage: &Coverage, not_after: Timestamp) -> Result<(), NotCovered> {
        if coverage.reaches(not_after) {
            return Ok(());
        }
        let lifetime = not_after.since(self.clock.now());
        let until = not_after.plus((lifetime / 16).clamp(1, 900));
        let mut next = self.stored.clone();
        let refused = |error: Refused| NotCovered(error.to_string());
        next.rotation.cover(coverage.era(), until).map_err(refused)?;
        self.keep(next).map_err(|error| {
            tracing::error!(%error, "no certificate that lasts longer than those before can leave: how long they last cannot be put on record");
            NotCovered(error.to_string())
        })?;
        coverage.raise(until);
        Ok(())
    }

    /// Does what an admin may do.
    pub fn act(&mut self, act: Act) -> Result<(), SteeringError> {
        match act {
            Act::Confirm => self.change(Rotation::confirm),
            Act::ActivateNow => self.change(Rotation::activate_now),
            Act::Withdraw(certificate) => {
                let state = self.state.borrow().clone();
                let chain = state.signing.as_ref().map_or(Vec::new(), |ca| ca.ca().fingerprints());
                self.change(|rotation| {
                    rotation.withdraw(certificate, &chain);
                    Ok(())
                })
            }
            Act::Forget { root, force } => self.change(|rotation| rotation.forget(root, force)),
            Act::Rotate => self.rotate(),
            Act::Reload => self.look(),
        }
    }

    /// Lets time do what it may.
    fn settle(&mut self) {
        if let Err(error) = self.change(|_| Ok(())) {
            tracing::error!(%error, "a change of root cannot go on");
        }
    }

    /// Changes where we stand: all of it, durable and published, or nothing.
    fn change(&mut self, act: impl FnOnce(&mut Rotation) -> Result<(), Refused>) -> Result<(), SteeringError> {
        let mut next = self.stored.clone();
        act(&mut next.rotation)?;
        self.take(next, false)?;
        Ok(())
    }

    /// `fresh`: there is something to publish although nothing that is remembered may have changed.
    fn take(&mut self, mut next: Stored, fresh: bool) -> Result<(), FileError> {
        let now = self.clock.now();
        next.rotation.settle(now, &self.spread());
        self.complete(&mut next, now);
        let changed = next != self.stored;
        if changed {
            self.keep(next)?;
        }
        if changed || fresh {
            self.publish();
        }
        Ok(())
    }

    /// None once nobody keeps watch over it any more.
    fn spread(&self) -> BTreeSet<Fingerprint> {
        match self.spread.has_changed() {
            Ok(_) => self.spread.borrow().clone(),
            Err(_) => BTreeSet::new(),
        }
    }

    /// Roots and signers as the rotation has them.
    fn complete(&self, next: &mut Stored, now: Timestamp) {
        let listed = self.sets.iter().flat_map(|set| set.ca.roots().roots());
        let known: Vec<CaCertificate> = next.roots.iter().chain(listed).cloned().collect();
        let find = |root: Fingerprint| known.iter().find(|known| known.fingerprint() == root).cloned();
        next.roots = next.rotation.bundle().filter_map(find).collect();
        if let Some(root) = next.rotation.signing()
            && let Some(set) = find(root).and_then(|root| self.set_under(&root, &next.rotation))
        {
            let last_leaf = next.rotation.last_leaf();
            next.set_signer(set.ca.signer(), root, last_leaf);
        }
        next.signers.retain(|signer| {
            signer.until.is_none_or(|until| until >= now)
                && !next.rotation.is_withdrawn(&signer.root)
                && !next.rotation.is_withdrawn(&signer.certificate.fingerprint())
        });
    }

    fn keep(&mut self, next: Stored) -> Result<(), FileError> {
        next.write(&self.config.self_signed.directory)?;
        self.stored = next;
        Ok(())
    }

    /// The set that signs under a root: the last that came. None of a key that was withdrawn.
    fn set_under(&self, root: &CaCertificate, rotation: &Rotation) -> Option<&Set> {
        self.sets
            .iter()
            .rev()
            .find(|set| set.ca.is_under(root) && !set.ca.fingerprints().iter().any(|one| rotation.is_withdrawn(one)))
    }

    /// Looks at the plugged-in files, if those may sign.
    pub fn look(&mut self) -> Result<(), SteeringError> {
        if self.config.kind == CaKind::SelfSigned {
            return Ok(());
        }
        let before = self.files.clone();
        match self.folder.look(self.clock.now()) {
            Look::Same | Look::Settling => {}
            // Without any files ever, the self-signed CA signs, and that is no loss.
            Look::Gone if !self.stored.plugged_in => {}
            Look::Gone => self.files = Files::Gone,
            Look::Bad(findings) => self.files = Files::Bad(findings),
            Look::Found(ca, warnings) => {
                let source = Source::PluggedIn(self.config.plugged_in_directory.clone());
                for warning in &warnings {
                    tracing::warn!(%source, "{warning}");
                }
                self.files = match self.offer(Set {
                    ca: Arc::new(*ca),
                    source,
                }) {
                    Ok(()) => Files::Taken,
                    Err(error) => {
                        // What stood in the way may go away without a change of the files.
                        self.folder.judge_again();
                        Files::Refused(error.to_string())
                    }
                };
            }
        }
        if self.files != before {
            self.tell_of_files();
        }
        match &self.files {
            Files::Taken | Files::Gone => Ok(()),
            Files::Bad(findings) => Err(SteeringError::Files(Findings(findings.clone()).to_string())),
            Files::Refused(why) => Err(SteeringError::Files(why.clone())),
        }
    }

    /// A sound CA: it joins what we hold, and signs if its root does, else begins a change of root.
    pub fn offer(&mut self, set: Set) -> Result<(), SteeringError> {
        let now = self.clock.now();
        let signing = self.stored.rotation.signing().and_then(|root| self.stored.root(root));
        let mut next = self.stored.clone();
        next.rotation.offer(&set.ca.offer(signing), now)?;
        next.plugged_in |= matches!(set.source, Source::PluggedIn(_));
        let (before, source) = (self.sets.clone(), self.source.clone());
        self.source = set.source.clone();
        self.sets.retain(|known| known.ca.root() != set.ca.root());
        self.sets.push(set);
        if let Err(error) = self.take(next, true) {
            (self.sets, self.source) = (before, source);
            return Err(error.into());
        }
        Ok(())
    }

    /// A new root beside the one that signs.
    fn rotate(&mut self) -> Result<(), SteeringError> {
        if !matches!(self.source, Source::SelfSigned(_)) {
            return Err(SteeringError::NotSelfSigned);
        }
        if self.stored.rotation.pending().is_some() {
            return Err(SteeringError::NoRoot(
                "a change of root is pending; let it end first".into(),
            ));
        }
        let failed = |error: &dyn std::fmt::Display| SteeringError::NoRoot(error.to_string());
        let directory =
            self_signed::rotate(&self.config.self_signed, self.clock.now()).map_err(|error| failed(&error))?;
        let offered = self.offer_own(directory.clone());
        if offered.is_err() {
            let _ = self_signed::remove(&directory);
        }
        offered
    }

    /// Gives a root of our own new dates in time: the same name and key, so that whatever it signed stays good.
    fn renew(&mut self) {
        let Source::SelfSigned(directory) = self.source.clone() else {
            return;
        };
        let Some(set) = self.sets.iter().rfind(|set| set.source == self.source) else {
            return;
        };
        let now = self.clock.now();
        if !renew::is_due(set.ca.root().validity(), now) || self.stored.rotation.pending().is_some() {
            return;
        }
        let renewed = self_signed::renew(&directory, &set.ca, self.config.self_signed.lifetime, now);
        let renewed = renewed.map_err(|error| SteeringError::NoRoot(error.to_string()));
        match renewed.and_then(|()| self.offer_own(directory)) {
            Ok(()) => tracing::info!("the self-signed root was renewed: same name and key, new dates"),
            Err(error) if self.failing.is_due(now) => {
                tracing::error!(%error, "the self-signed root could not be renewed, and it ends soon");
            }
            Err(_) => {}
        }
    }

    fn offer_own(&mut self, directory: PathBuf) -> Result<(), SteeringError> {
        let mut report = Report::default();
        match self_signed::inspect(&directory, self.clock.now(), &mut report)? {
            self_signed::State::Usable(ca) => self.offer(Set {
                ca: Arc::from(ca),
                source: Source::SelfSigned(directory),
            }),
            _ => Err(SteeringError::NoRoot(Findings(report.errors).to_string())),
        }
    }

    /// Roots of our own that another one of ours replaced, and that nobody trusts any more: their keys go.
    fn clear(&self) {
        let Ok(directories) = self_signed::directories(&self.config.self_signed.directory) else {
            return;
        };
        let gone = |directory: &&PathBuf| {
            let source = Source::SelfSigned(directory.to_path_buf());
            source != self.source && !self.sets.iter().any(|set| set.source == source)
        };
        if !matches!(self.source, Source::SelfSigned(_)) {
            return;
        }
        for directory in directories.iter().rev().skip(1).filter(gone) {
            if let Err(error) = self_signed::remove(directory) {
                tracing::warn!(%error, "the key of a retired root could not be removed");
            }
        }
    }

    /// Shows what is in force to the rest of the house.
    pub fn publish(&mut self) {
        let rotation = &self.stored.rotation;
        // A key whose root nobody is told to trust any more is of no use, and should not lie about.
        let roots = &self.stored.roots;
        self.sets.retain(|set| roots.iter().any(|root| set.ca.is_under(root)));
        self.clear();
        let Some(state) = self.current() else { return };
        let chain = state.signing.as_ref().map_or(&[][..], |ca| ca.chain());
        self.metrics.certificates.set_ca(chain, &state.bundle);
        self.metrics
            .ca_generation
            .set(i64::try_from(rotation.number()).unwrap_or(i64::MAX));
        self.metrics
            .ca_change_pending
            .set(i64::from(rotation.pending().is_some()));
        let before = self.state.send_replace(Arc::new(state));
        super::tell::changes(&before, &self.state.borrow(), &self.stored.rotation);
    }

    /// What is in force.
    pub fn current(&self) -> Option<CaState> {
        let rotation = &self.stored.rotation;
        let bundle = Bundle::new(self.stored.roots.iter().cloned())?;
        let snapshot = |root: &CaCertificate, set: &Set| {
            let coverage = Coverage::new(rotation.number(), rotation.covered(), self.ask.clone());
            let coverage = Arc::new(coverage);
            Arc::new(CaSnapshot::new(
                set.ca.clone(),
                root,
                bundle.clone(),
                rotation.number(),
                coverage,
            ))
        };
        let under = |root: Fingerprint| {
            let root = self.stored.root(root)?;
            Some(snapshot(root, self.set_under(root, rotation)?))
        };
        let signing = match rotation.signing() {
            None => Err(Stopped(
                "the certificate that signed was withdrawn: put files with another key in place, or make another root"
                    .into(),
            )),
            Some(root) => under(root).ok_or_else(|| Stopped(self.why_nothing_signs(root))),
        };
        // The root of our own certificates changes last: as long as leaves under an earlier root are valid, clients may hold only that one.
        let outgoing = rotation
            .bundle()
            .find(|root| rotation.is_outgoing(root))
            .and_then(|root| Some((under(root)?, rotation.leaves_until(root))));
        let present = || Some((signing.as_ref().ok()?.clone(), None));
        Some(CaState {
            serving: outgoing.or_else(present),
            signing,
            signers: self
                .stored
                .signers
                .iter()
                .map(|signer| signer.certificate.clone())
                .collect(),
            bundle,
        })
    }

    fn why_nothing_signs(&self, root: Fingerprint) -> String {
        let subject = self.stored.root(root).map_or("?", CaCertificate::subject_text);
        let files = match &self.files {
            Files::Taken => {
                "the files that are there now end at another root, which is not yet trusted everywhere".into()
            }
            Files::Gone => format!(
                "{} holds no plugged-in CA any more",
                self.config.plugged_in_directory.display()
            ),
            Files::Bad(findings) => Findings(findings.clone()).to_string(),
            Files::Refused(why) => why.clone(),
        };
        format!(
            "the key that signs under {subject} is not at hand, and workloads trust no other root yet: {files}; put the files back, or change \
             the root (countersign root status says how)"
        )
    }

    fn status(&self) -> Status {
        let state = self.state.borrow();
        let signing = state.signing.as_ref();
        Status {
            source: self.source.clone(),
            generation: self.stored.rotation.number(),
            chain: signing.map(|ca| ca.chain().to_vec()).map_err(ToString::to_string),
            outlook: self.stored.rotation.outlook(&self.spread()),
            roots: self.stored.roots.clone(),
            files: self.files.clone(),
        }
    }

    fn tell_of_files(&self) {
        let directory = self.config.plugged_in_directory.display();
        let result = match &self.files {
            Files::Taken => {
                tracing::info!(%directory, "the plugged-in CA was taken");
                "taken"
            }
            Files::Gone => {
                tracing::error!(%directory, "the plugged-in CA is gone: the last one signs on from memory, until this process ends; put its files back");
                "gone"
            }
            Files::Bad(findings) => {
                let findings: &[Finding] = findings;
                tracing::error!(%directory, "the plugged-in CA cannot be used, the last good one signs on: {}", Findings(findings.to_vec()));
                "bad"
            }
            Files::Refused(why) => {
                tracing::error!(%directory, "the plugged-in CA is sound and was not taken: {why}");
                "refused"
            }
        };
        self.metrics.ca_files_changed(result, self.files == Files::Taken);
    }
}
