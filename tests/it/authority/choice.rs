//! `ca.type`: which of the two CAs signs, and that `auto` never changes its mind in silence.

use countersign::authority::{self, CaKind, Error, Source};
use countersign::platform::files::LockError;

use super::{NOW, cacerts, config, content, copy, open, stopped};

#[test]
fn auto_prefers_the_plugged_in_one_and_never_falls_back() {
    let directory = tempfile::tempdir().unwrap();
    let auto = config(CaKind::Auto, directory.path());
    let folder = auto.plugged_in_directory.clone();
    copy(&cacerts().join("good/three-levels"), &folder);
    let opened = open(&auto, NOW).unwrap();
    assert_eq!(opened.source, Source::PluggedIn(folder.clone()));
    assert!(opened.warnings.is_empty(), "{:?}", opened.warnings);
    let inspected = authority::inspect(&auto, NOW).unwrap().ca.unwrap();
    assert_eq!(inspected.chain(), opened.snapshot.chain());
    assert!(content(&auto.self_signed.directory).is_empty(), "no root was made");
    let (tail, bundle) = (opened.snapshot.tail().to_vec(), opened.snapshot.bundle().clone());
    // One process per directory here too.
    assert!(matches!(open(&auto, NOW), Err(Error::Lock(LockError::Held(_)))));
    drop(opened);

    std::fs::remove_dir_all(&folder).unwrap();
    for empty in [false, true] {
        if empty {
            std::fs::create_dir(&folder).unwrap();
        }
        let looked = match authority::inspect(&auto, NOW) {
            Err(error @ Error::PluggedInIsGone(_)) => error.to_string(),
            other => panic!("{other:?}"),
        };
        assert!(
            looked.contains("put it back") && looked.contains("ca.type to self-signed"),
            "{looked}"
        );
        let why = stopped(&auto, NOW);
        assert!(why.contains("holds no plugged-in CA any more"), "{why}");
        assert!(content(&auto.self_signed.directory).is_empty(), "no root was made");
    }

    // Half of it back is no better; all of it is.
    copy(&cacerts().join("bad/missing-key"), &folder);
    let why = stopped(&auto, NOW);
    assert!(why.contains("ca-key.pem") && why.contains("missing"), "{why}");
    copy(&cacerts().join("good/three-levels"), &folder);
    assert_eq!(open(&auto, NOW).unwrap().snapshot.tail(), tail);

    // The admin's word is a change of root like any other: the new root is published, the old one signs.
    let explicit = config(CaKind::SelfSigned, directory.path());
    let changing = open(&explicit, NOW).unwrap();
    assert!(matches!(changing.source, Source::SelfSigned(_)));
    assert_eq!(changing.snapshot.bundle().roots()[..1], bundle.roots()[..]);
    assert_eq!(changing.snapshot.bundle().roots().len(), 2);
    assert!(!changing.snapshot.signer().is_self_issued());
    drop(changing);
    // And the way back undoes it.
    let back = open(&auto, NOW).unwrap();
    assert!(matches!(back.source, Source::PluggedIn(_)));
    assert!(!back.snapshot.signer().is_self_issued());
}

#[test]
fn auto_makes_a_root_when_nothing_was_ever_plugged_in() {
    let directory = tempfile::tempdir().unwrap();
    let auto = config(CaKind::Auto, directory.path());
    let look = authority::inspect(&auto, NOW).unwrap();
    assert!(look.ca.is_none() && look.report.errors.is_empty());
    assert!(!auto.self_signed.directory.exists());
    let opened = open(&auto, NOW).unwrap();
    assert_eq!(opened.source, Source::SelfSigned(auto.self_signed.directory.clone()));
    let inspected = authority::inspect(&auto, NOW).unwrap().ca.unwrap();
    assert_eq!(inspected.chain(), opened.snapshot.chain());
}

#[test]
fn nothing_signs_without_a_memory() {
    for kind in [CaKind::Auto, CaKind::PluggedIn] {
        let directory = tempfile::tempdir().unwrap();
        let config = config(kind, directory.path());
        copy(&cacerts().join("good/three-levels"), &config.plugged_in_directory);
        // Where the directory should be is a file.
        std::fs::write(&config.self_signed.directory, "").unwrap();
        assert!(matches!(open(&config, NOW), Err(Error::File(_))));
        // Where its file should be is a directory.
        std::fs::remove_file(&config.self_signed.directory).unwrap();
        std::fs::create_dir_all(config.self_signed.directory.join("ca-state.json/x")).unwrap();
        assert!(matches!(open(&config, NOW), Err(Error::Store(_))));
    }
}

#[test]
fn a_memory_that_was_damaged_is_not_guessed_at() {
    let directory = tempfile::tempdir().unwrap();
    let config = config(CaKind::SelfSigned, directory.path());
    drop(open(&config, NOW).unwrap());
    let path = config.self_signed.directory.join("ca-state.json");
    let good = std::fs::read_to_string(&path).unwrap();
    let damages = [
        good[..good.len() / 2].to_owned(),
        String::new(),
        good.replace("\"version\":1", "\"version\":2"),
        good.replace("\"roots\":[\"-", "\"roots\":[\"x"),
        good.replace("\"pluggedIn\"", "\"more\""),
        good.replace("\"number\":1", "\"number\":-1"),
    ];
    for damaged in damages {
        assert_ne!(damaged, good);
        std::fs::write(&path, &damaged).unwrap();
        match open(&config, NOW) {
            Err(Error::Store(error)) => assert!(error.to_string().contains("ca-state.json"), "{error}"),
            other => panic!("{damaged}: {other:?}"),
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), damaged, "it is kept");
    }
}

#[test]
fn plugged_in_means_plugged_in() {
    let directory = tempfile::tempdir().unwrap();
    let config = config(CaKind::PluggedIn, directory.path());
    for exists in [false, true] {
        if exists {
            std::fs::create_dir(&config.plugged_in_directory).unwrap();
        }
        let text = match open(&config, NOW) {
            Err(error @ Error::NothingPluggedIn(_)) => error.to_string(),
            other => panic!("{other:?}"),
        };
        assert!(text.contains("ca-key.pem") && text.contains("tls.key"), "{text}");
    }
    assert!(content(&config.self_signed.directory).is_empty());
}
