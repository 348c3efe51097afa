use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::super::Refusal;
use super::super::testing::{grant, vector};
use super::*;
use crate::platform::files;

fn judge(text: &str, strict: bool) -> Result<CheckedCsr, CsrError> {
    parse(text)?.check(&grant(), strict)
}

/// Rows of a table: file, outcome, and the key or the message.
fn table(name: &str) -> BTreeMap<String, (String, String)> {
    vector(name)
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let fields: Vec<&str> = line.split('\t').collect();
            let [file, outcome, text] = fields[..] else {
                panic!("{line:?} has not three fields")
            };
            (file.to_owned(), (outcome.to_owned(), text.to_owned()))
        })
        .collect()
}

fn outcomes(rows: &BTreeMap<String, (String, String)>, strict: bool) -> BTreeMap<String, (String, String)> {
    rows.keys()
        .map(|file| {
            let outcome = match judge(&vector(&format!("{file}.csr")), strict) {
                Ok(csr) => ("ok".to_owned(), csr.key().to_string()),
                Err(error) => {
                    let refusal = Refusal::Csr(error);
                    assert_eq!(refusal.kind(), Kind::Invalid, "{file}");
                    (refusal.label().to_owned(), refusal.public())
                }
            };
            (file.clone(), outcome)
        })
        .collect()
}

#[test]
fn every_request_of_the_table_has_its_outcome() {
    let rows = table("expected.tsv");
    pretty(&outcomes(&rows, false), &rows);
    let (good, bad): (Vec<_>, Vec<_>) = rows.values().partition(|(outcome, _)| outcome == "ok");
    assert!(good.len() >= 12 && bad.len() >= 40);
}

#[test]
fn strict_mode_has_its_own_table() {
    let rows = table("expected-strict.tsv");
    pretty(&outcomes(&rows, true), &rows);
    let accepted: BTreeSet<String> = table("expected.tsv")
        .into_iter()
        .filter_map(|(file, (outcome, _))| (outcome == "ok").then_some(file))
        .collect();
    assert_eq!(rows.into_keys().collect::<BTreeSet<_>>(), accepted);
}

#[test]
fn strict_mode_accepts_nothing_that_is_refused_by_default() {
    let mut rows = table("expected.tsv");
    rows.retain(|_, (outcome, _)| outcome != "ok");
    pretty(&outcomes(&rows, true), &rows);
}

#[test]
fn no_file_is_forgotten() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/csrs");
    let files: BTreeSet<String> = files::list(&folder)
        .unwrap()
        .into_iter()
        .filter_map(|file| Some(file.strip_suffix(".csr")?.to_owned()))
        .collect();
    assert_eq!(table("expected.tsv").into_keys().collect::<BTreeSet<_>>(), files);
}

fn pretty(found: &BTreeMap<String, (String, String)>, wanted: &BTreeMap<String, (String, String)>) {
    let different: Vec<_> = wanted
        .iter()
        .filter(|(file, outcome)| found.get(*file) != Some(outcome))
        .map(|(file, outcome)| (file, outcome, &found[file]))
        .collect();
    assert!(different.is_empty(), "file, wanted, found: {different:#?}");
}

const KINDS: [&str; 6] = [
    "rsa-2048",
    "p256",
    "p384",
    "ed25519",
    "rsa-signature-without-null",
    "empty-organization",
];

fn good_der(kind: &str) -> Vec<u8> {
    pem::single("CERTIFICATE REQUEST", &vector(&format!("good-{kind}.csr"))).unwrap()
}

/// Every bit of a CSR is either signed, or part of the signature and its algorithm, or of DER's one way to write the three together: so
/// there is none that may be another.
#[test]
fn no_bit_may_change() {
    for kind in KINDS {
        let good = good_der(kind);
        assert!(judge(&pem::encode("CERTIFICATE REQUEST", &good), false).is_ok());
        for bit in 0..good.len() * 8 {
            let mut der = good.clone();
            der[bit / 8] ^= 1 << (bit % 8);
            let verdict = judge(&pem::encode("CERTIFICATE REQUEST", &der), false);
            assert!(verdict.is_err(), "{kind}: bit {bit} is not protected");
        }
    }
}

/// A changed text is accepted only when it still says the same bytes: white space between base64 characters.
#[test]
fn a_changed_text_says_the_same_or_is_refused() {
    let good = vector("good-p256.csr");
    let der = good_der("p256");
    for position in 0..good.len() {
        for byte in (0..=0x7f_u8).chain([0]) {
            let mut text = good.clone().into_bytes();
            text[position] = byte;
            let text = String::from_utf8(text).unwrap();
            if judge(&text, false).is_ok() {
                assert_eq!(pem::single("CERTIFICATE REQUEST", &text), Some(der.clone()), "{text}");
            }
        }
    }
}

/// What comes out is what went in: whatever is accepted carries the key that the CSR holds, whole and in its one spelling.
#[test]
fn the_key_is_copied_whole() {
    for kind in KINDS {
        let csr = judge(&vector(&format!("good-{kind}.csr")), false).unwrap();
        let (key, _) = KeyAlgorithm::read(csr.public_key_info()).unwrap();
        assert_eq!(key, csr.key());
        let info = csr.public_key_info();
        assert!(good_der(kind).windows(info.len()).any(|window| window == info));
    }
}

fn splice() -> impl Strategy<Value = Vec<u8>> {
    let one = (
        any::<prop::sample::Index>(),
        0_usize..9,
        prop::collection::vec(any::<u8>(), 0..9),
    );
    (0..KINDS.len(), prop::collection::vec(one, 1..4)).prop_map(|(kind, changes)| {
        let mut der = good_der(KINDS[kind]);
        for (at, cut, put) in changes {
            let at = at.index(der.len());
            let end = (at + cut).min(der.len());
            der.splice(at..end, put);
        }
        der
    })
}

#[test]
fn nothing_made_of_a_good_one_is_accepted() {
    let good: Vec<Vec<u8>> = KINDS.into_iter().map(good_der).collect();
    TestRunner::new(Config::with_cases(4000))
        .run(&splice(), |der| {
            let accepted = judge(&pem::encode("CERTIFICATE REQUEST", &der), false).is_ok();
            prop_assert_eq!(accepted, good.contains(&der));
            Ok(())
        })
        .unwrap();
}

proptest! {
    #[test]
    fn noise_is_refused(der in prop::collection::vec(any::<u8>(), 0..2000), text in "\\PC{0,200}") {
        prop_assert!(judge(&pem::encode("CERTIFICATE REQUEST", &der), true).is_err());
        prop_assert!(judge(&text, true).is_err());
    }
}

#[test]
fn p384_is_checked_off_the_async_threads() {
    for (kind, slow) in [("p384", true), ("p256", false), ("ed25519", false), ("rsa-4096", false)] {
        assert_eq!(
            parse(&vector(&format!("good-{kind}.csr"))).unwrap().is_slow(),
            slow,
            "{kind}"
        );
    }
}
