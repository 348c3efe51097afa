//! `--wait`: how a change of root goes, until it is over.

use std::path::Path;
use std::time::Duration;

use anyhow::bail;

use super::show::{left, subject_of, waits};
use crate::app::admin;
use crate::cli::output::Progress;
use crate::model::Timestamp;
use crate::platform::{Clock, SystemClock};
use crate::proto::admin::{CaStatus, Change};

/// Between two looks.
const EVERY: Duration = Duration::from_secs(1);
/// How often in a row the CA may not answer: it may be restarted meanwhile, since a change survives that.
const MOST_FAILURES: u32 = 120;
/// Cells of the bar.
const BAR: usize = 24;

/// Waits while a change is pending; an error when its root does not sign afterwards.
pub async fn until_it_is_over(socket: &Path) -> anyhow::Result<CaStatus> {
    let mut status = admin::ask(socket, None).await?;
    let Some(root) = status.change.as_ref().map(|change| change.root.clone()) else {
        return Ok(status);
    };
    let name = subject_of(&status, &root).to_owned();
    let mut progress = Progress::new();
    let mut failures = 0;
    while let Some(change) = status.change.as_ref().filter(|change| change.root == root) {
        let now = SystemClock.now();
        progress.show(&format!("{name}: {}", waiting(change, now)), &bar(change, now));
        tokio::time::sleep(EVERY).await;
        match admin::ask(socket, None).await {
            Ok(seen) => (status, failures) = (seen, 0),
            Err(error) if failures == MOST_FAILURES => return Err(error.into()),
            Err(error) => {
                failures += 1;
                progress.show(&error.to_string(), "");
            }
        }
    }
    let signs = |root: &str| {
        let named =
            |known: &crate::proto::admin::Root| known.certificate.as_ref().is_some_and(|it| it.fingerprint == root);
        status.roots.iter().any(|known| known.signs && named(known))
    };
    if !signs(&root) {
        bail!(
            "the change to {name} ({root}) was given up: the files have another root now, or it was withdrawn; countersign root status"
        );
    }
    progress.show(&format!("{name}: signs"), "");
    Ok(status)
}

/// What it waits for; stays the same as long as that does.
fn waiting(change: &Change, now: Timestamp) -> String {
    // Without the time that is left: the bar has it.
    let at_the_end = change
        .leaves_until
        .as_ref()
        .map_or(now, |until| Timestamp::from_unix(until.seconds));
    match waits(change, at_the_end)[..] {
        [] => "is about to sign".into(),
        ref waits => format!("waits for {}", waits.join("; and for ")).replace(", now", ""),
    }
}

/// How far it is, and how long it still takes at least.
fn bar(change: &Change, now: Timestamp) -> String {
    let Some((since, until)) = change.since.as_ref().zip(change.leaves_until.as_ref()) else {
        return String::new();
    };
    let whole = until.seconds.saturating_sub(since.seconds).max(1);
    let done = now.since(Timestamp::from_unix(since.seconds)).clamp(0, whole);
    let cells = usize::try_from(done.saturating_mul(BAR as i64) / whole).unwrap_or(0);
    let rest = left(until.seconds.saturating_sub(now.unix()));
    format!("[{}{}] {rest}", "#".repeat(cells), "-".repeat(BAR - cells))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_unix(1_893_456_000);

    fn change(since: i64, until: Option<i64>, distribution: bool) -> Change {
        let point = |seconds: i64| prost_types::Timestamp {
            seconds: NOW.unix() + seconds,
            nanos: 0,
        };
        Change {
            root: String::new(),
            since: Some(point(since)),
            leaves_until: until.map(point),
            distribution,
        }
    }

    #[test]
    fn the_bar_moves_and_the_words_stand() {
        let at = |now: i64| {
            let change = change(0, Some(100), true);
            (waiting(&change, NOW.plus(now)), bar(&change, NOW.plus(now)))
        };
        let (words, start) = at(0);
        assert_eq!(
            words,
            "waits for certificates that were answered without it: the last expires 2030-01-01T00:01:40Z; and for your word that every \
             client's root file holds it: countersign root confirm --reason …"
        );
        assert_eq!(start, "[------------------------] in 1 min");
        assert_eq!(at(50), (words.clone(), "[############------------] in 50 s".into()));
        assert_eq!(at(1000), (words, "[########################] now".into()));
        // A clock that was set back.
        assert_eq!(at(-7200).1, "[------------------------] in 2 h 1 min");
    }

    #[test]
    fn without_leaves_there_is_no_bar() {
        assert_eq!(bar(&change(0, None, true), NOW), "");
        assert_eq!(waiting(&change(0, None, false), NOW), "is about to sign");
    }
}
