//! `ca.type`: which of the two CAs signs, and that `auto` never changes its mind in silence.

use countersign::authority::{self, CaKind, Error, Source};

use super::{NOW, cacerts, config, content, copy};

#[test]
fn auto_prefers_the_plugged_in_one_and_never_falls_back() {
    let directory = tempfile::tempdir().unwrap();
    let auto = config(CaKind::Auto, directory.path());
    let folder = auto.plugged_in_directory.clone();
    copy(&cacerts().join("good/three-levels"), &folder);
    let opened = authority::open(&auto, NOW).unwrap();
    assert_eq!(opened.source, Source::PluggedIn(folder.clone()));
    assert!(opened.warnings.is_empty(), "{:?}", opened.warnings);
    assert_eq!(
        authority::inspect(&auto, NOW).unwrap().snapshot.unwrap().tail(),
        opened.snapshot.tail()
    );
    let own = content(&auto.self_signed.directory);
    assert_eq!(own.keys().collect::<Vec<_>>(), ["plugged-in-root.pem"]);
    assert_eq!(own["plugged-in-root.pem"], opened.snapshot.bundle().pem().as_bytes());
    // One process per directory here too.
    assert!(matches!(authority::open(&auto, NOW), Err(Error::Memory(_))));
    drop(opened);

    std::fs::remove_dir_all(&folder).unwrap();
    for empty in [false, true] {
        if empty {
            std::fs::create_dir(&folder).unwrap();
        }
        for result in [authority::open(&auto, NOW).err(), authority::inspect(&auto, NOW).err()] {
            let text = match result {
                Some(error @ Error::PluggedInIsGone { .. }) => error.to_string(),
                other => panic!("{other:?}"),
            };
            assert!(
                text.contains("put the plugged-in CA back") && text.contains("ca.type to self-signed"),
                "{text}"
            );
        }
        assert_eq!(content(&auto.self_signed.directory), own, "nothing was made");
    }

    // Half of it back is no better; all of it is.
    copy(&cacerts().join("bad/missing-key"), &folder);
    assert!(matches!(authority::open(&auto, NOW), Err(Error::PluggedIn { .. })));
    copy(&cacerts().join("good/three-levels"), &folder);
    drop(authority::open(&auto, NOW).unwrap());

    // The admin's word counts.
    let explicit = config(CaKind::SelfSigned, directory.path());
    assert!(matches!(
        authority::open(&explicit, NOW).unwrap().source,
        Source::SelfSigned(_)
    ));
    // And the way back shows what lies around.
    let back = authority::open(&auto, NOW).unwrap();
    assert!(
        back.warnings
            .iter()
            .any(|warning| warning.what.contains("no longer signs")),
        "{:?}",
        back.warnings
    );
}

#[test]
fn auto_makes_a_root_when_nothing_was_ever_plugged_in() {
    let directory = tempfile::tempdir().unwrap();
    let auto = config(CaKind::Auto, directory.path());
    let look = authority::inspect(&auto, NOW).unwrap();
    assert!(look.snapshot.is_none() && look.report.errors.is_empty());
    assert!(!auto.self_signed.directory.exists());
    let opened = authority::open(&auto, NOW).unwrap();
    assert_eq!(opened.source, Source::SelfSigned(auto.self_signed.directory.clone()));
    assert_eq!(
        authority::inspect(&auto, NOW).unwrap().snapshot.unwrap().tail(),
        opened.snapshot.tail()
    );
}

#[test]
fn auto_needs_its_memory() {
    let directory = tempfile::tempdir().unwrap();
    let auto = config(CaKind::Auto, directory.path());
    copy(&cacerts().join("good/three-levels"), &auto.plugged_in_directory);
    // Where the directory should be is a file.
    std::fs::write(&auto.self_signed.directory, "").unwrap();
    let text = match authority::open(&auto, NOW) {
        Err(error @ Error::Memory(_)) => error.to_string(),
        other => panic!("{other:?}"),
    };
    assert!(text.contains("set ca.type to plugged-in"), "{text}");
    // Where its file should be is a directory.
    std::fs::remove_file(&auto.self_signed.directory).unwrap();
    std::fs::create_dir_all(auto.self_signed.directory.join("plugged-in-root.pem/x")).unwrap();
    assert!(matches!(authority::open(&auto, NOW), Err(Error::Memory(_))));
    // Without the choice there is nothing to remember.
    assert!(authority::open(&config(CaKind::PluggedIn, directory.path()), NOW).is_ok());
}

#[test]
fn plugged_in_means_plugged_in() {
    let directory = tempfile::tempdir().unwrap();
    let config = config(CaKind::PluggedIn, directory.path());
    for exists in [false, true] {
        if exists {
            std::fs::create_dir(&config.plugged_in_directory).unwrap();
        }
        let text = match authority::open(&config, NOW) {
            Err(error @ Error::NothingPluggedIn(_)) => error.to_string(),
            other => panic!("{other:?}"),
        };
        assert!(text.contains("ca-key.pem") && text.contains("tls.key"), "{text}");
    }
    assert!(!config.self_signed.directory.exists());
}
