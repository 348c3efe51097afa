//! A CA's status, for people and for scripts.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::app::admin::trouble;
use crate::model::Timestamp;
use crate::proto::admin::files::State;
use crate::proto::admin::{CaStatus, Certificate, Change, Root};

/// Digits that tell roots apart.
const SHORT: usize = 16;

/// For people.
pub fn text(status: &CaStatus, now: Timestamp) -> String {
    let mut text = String::new();
    let mut line = |key: &str, value: &str| {
        let _ = writeln!(text, "{key:<12}{value}");
    };
    line("ca", &format!("{}, generation {}", status.source, status.generation));
    match status.chain.first() {
        Some(signer) => {
            let short = short(&signer.fingerprint);
            line(
                "signs",
                &format!("{} ({short}), {}", signer.subject, expiry(signer, now)),
            );
        }
        None => line("signs", "nothing"),
    }
    line("files", files_word(status));
    if let Some(change) = &status.change {
        let subject = subject_of(status, &change.root);
        let since = at(change.since.as_ref());
        line(
            "pending",
            &format!("{subject} ({}), since {since}", short(&change.root)),
        );
        for wait in waits(change, now) {
            line("waits for", &wait);
        }
    }
    for certificate in &status.withdrawn {
        line("withdrawn", certificate);
    }
    let head = ["ROOT", "EXPIRES", "STATE", "LEAVES UNTIL", "SUBJECT"].map(String::from);
    let rows = status.roots.iter().map(|root| {
        let certificate = root.certificate.clone().unwrap_or_default();
        [
            short(&certificate.fingerprint).to_owned(),
            at(certificate.not_after.as_ref()),
            states(status, root).join(", "),
            at(root.leaves_until.as_ref()),
            certificate.subject,
        ]
    });
    let _ = write!(text, "\n{}", table(std::iter::once(head).chain(rows).collect()));
    let trouble = trouble(status, now);
    if !trouble.is_empty() {
        text.push('\n');
    }
    for one in trouble {
        let _ = writeln!(text, "attention: {one}");
    }
    text.truncate(text.trim_end().len());
    text
}

/// For scripts.
pub fn json(status: &CaStatus, now: Timestamp) -> Value {
    let certificate = |certificate: &Certificate| {
        json!({
            "fingerprint": certificate.fingerprint,
            "subject": certificate.subject,
            "notAfter": time(certificate.not_after.as_ref()),
        })
    };
    let roots = status.roots.iter().map(|root| {
        let mut value = certificate(&root.certificate.clone().unwrap_or_default());
        value["states"] = json!(states(status, root));
        value["leavesUntil"] = json!(time(root.leaves_until.as_ref()));
        value
    });
    let files = status.files.clone().unwrap_or_default();
    json!({
        "source": status.source,
        "generation": status.generation,
        "signs": !status.chain.is_empty(),
        "chain": status.chain.iter().map(certificate).collect::<Vec<_>>(),
        "stopped": Some(&status.stopped).filter(|why| !why.is_empty()),
        "roots": roots.collect::<Vec<_>>(),
        "pending": status.change.as_ref().map(|change| json!({
            "root": change.root,
            "since": time(change.since.as_ref()),
            "waitsForLeavesUntil": time(change.leaves_until.as_ref()),
            "waitsForDistribution": change.distribution,
        })),
        "files": {
            "state": files.state().as_str_name().trim_start_matches("STATE_").to_lowercase(),
            "findings": files.findings,
        },
        "withdrawn": status.withdrawn,
        "trouble": trouble(status, now),
    })
}

/// What a pending change waits for, in words.
pub fn waits(change: &Change, now: Timestamp) -> Vec<String> {
    let leaves = change.leaves_until.as_ref().map(|until| {
        let until = Timestamp::from_unix(until.seconds);
        format!(
            "certificates that were answered without it: the last expires {until}, {}",
            left(until.since(now))
        )
    });
    let word = "your word that every client's root file holds it: countersign root confirm --reason …";
    leaves
        .into_iter()
        .chain(change.distribution.then(|| word.to_owned()))
        .collect()
}

/// How long that is, for people.
pub fn left(seconds: i64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match seconds {
        ..=0 => "now".into(),
        1..60 => format!("in {seconds} s"),
        60..3600 => format!("in {minutes} min"),
        3600..86_400 => format!("in {hours} h {minutes} min"),
        _ => format!("in {days} d {hours} h"),
    }
}

/// The name of a root, if it is in the bundle.
pub fn subject_of<'a>(status: &'a CaStatus, root: &str) -> &'a str {
    let mut certificates = status.roots.iter().filter_map(|root| root.certificate.as_ref());
    certificates
        .find(|certificate| certificate.fingerprint == root)
        .map_or("?", |certificate| &certificate.subject)
}

/// What is to be said of a root.
fn states(status: &CaStatus, root: &Root) -> Vec<&'static str> {
    let fingerprint = root.certificate.as_ref().map_or("", |it| &it.fingerprint);
    let withdrawn = status.withdrawn.iter().any(|known| known == fingerprint);
    let pending = status.change.as_ref().is_some_and(|change| change.root == fingerprint);
    [
        (root.signs, "signs"),
        (pending, "pending"),
        (withdrawn, "withdrawn"),
        (!root.signs && root.leaves_until.is_some(), "outgoing"),
        (root.listed, "listed"),
    ]
    .into_iter()
    .filter_map(|(is, word)| is.then_some(word))
    .collect()
}

fn files_word(status: &CaStatus) -> &'static str {
    match status.files.clone().unwrap_or_default().state() {
        State::Taken => "sound, and taken",
        State::Bad => "cannot be used; the last good ones count",
        State::Refused => "sound, but not taken; the last good ones count",
        State::Gone => "gone; the last good ones count until this process ends",
        State::Unspecified => "?",
    }
}

fn expiry(certificate: &Certificate, now: Timestamp) -> String {
    let Some(end) = &certificate.not_after else {
        return "?".into();
    };
    let end = Timestamp::from_unix(end.seconds);
    format!("until {end} ({} days)", end.since(now) / 86_400)
}

fn short(fingerprint: &str) -> &str {
    fingerprint.get(..SHORT).unwrap_or(fingerprint)
}

fn time(point: Option<&prost_types::Timestamp>) -> Option<String> {
    point.map(|point| Timestamp::from_unix(point.seconds).to_string())
}

fn at(point: Option<&prost_types::Timestamp>) -> String {
    time(point).unwrap_or_else(|| "-".into())
}

/// Columns as wide as their widest cell.
fn table<const COLUMNS: usize>(rows: Vec<[String; COLUMNS]>) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; COLUMNS] = std::array::from_fn(width);
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            let _ = write!(line, "{cell:<width$}  ");
        }
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::admin::Files;

    const NOW: Timestamp = Timestamp::from_unix(1_893_456_000);

    fn point(seconds: i64) -> Option<prost_types::Timestamp> {
        Some(prost_types::Timestamp {
            seconds: NOW.unix() + seconds,
            nanos: 0,
        })
    }

    fn certificate(digit: &str, subject: &str) -> Certificate {
        Certificate {
            fingerprint: digit.repeat(64),
            subject: subject.into(),
            not_after: point(365 * 86_400),
        }
    }

    fn status() -> CaStatus {
        let root = |digit, subject, leaves_until| Root {
            certificate: Some(certificate(digit, subject)),
            signs: digit == "a",
            listed: digit == "b",
            leaves_until,
        };
        CaStatus {
            source: "plugged-in CA in /etc/cacerts".into(),
            generation: 3,
            chain: vec![certificate("5", "O=Example, CN=Mesh CA")],
            roots: vec![
                root("a", "O=Example, CN=Old Root", point(90_000)),
                root("b", "O=Example, CN=New Root", None),
                root("c", "O=Example, CN=Oldest Root", point(60)),
            ],
            change: Some(Change {
                root: "b".repeat(64),
                since: point(-3600),
                leaves_until: point(90_000),
                distribution: true,
            }),
            files: Some(Files {
                state: State::Bad.into(),
                findings: vec!["ca-key.pem: it is empty; copy it again".into()],
            }),
            withdrawn: vec!["d".repeat(64)],
            ..CaStatus::default()
        }
    }

    #[test]
    fn for_people() {
        insta::assert_snapshot!(text(&status(), NOW));
    }

    #[test]
    fn for_scripts() {
        insta::assert_snapshot!(format!("{:#}", json(&status(), NOW)));
    }

    #[test]
    fn nothing_signs() {
        let stopped = CaStatus {
            stopped: "the certificate that signed was withdrawn".into(),
            files: status().files,
            ..CaStatus::default()
        };
        let told = text(&stopped, NOW);
        assert!(told.contains("signs       nothing\n"), "{told}");
        assert!(
            told.contains("attention: nothing signs: the certificate that signed was withdrawn\n"),
            "{told}"
        );
    }

    #[test]
    fn spans() {
        let told = [0, 59, 60, 3599, 3600, 86_399, 86_400, 200_000].map(left);
        let expected = [
            "now",
            "in 59 s",
            "in 1 min",
            "in 59 min",
            "in 1 h 0 min",
            "in 23 h 59 min",
            "in 1 d 0 h",
            "in 2 d 7 h",
        ];
        assert_eq!(told, expected);
    }
}
