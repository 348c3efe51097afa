//! The rules of the house, as far as a program can check them.

use std::path::{Path, PathBuf};

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// The modules in the order in which `lib.rs` lists them.
fn rooms() -> Vec<String> {
    let map = std::fs::read_to_string(source().join("lib.rs")).unwrap();
    map.lines()
        .filter_map(|line| Some(line.strip_prefix("pub mod ")?.strip_suffix(';')?.to_owned()))
        .collect()
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The rooms that a file's code names, tests at its end left out.
fn used(text: &str) -> Vec<String> {
    let code: String = text
        .split("#[cfg(test)]\nmod tests")
        .next()
        .unwrap_or_default()
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n");
    code.split("crate::")
        .skip(1)
        .flat_map(|rest| {
            // `crate::{a::…, b::…}` names several.
            let group = rest
                .strip_prefix('{')
                .and_then(|group| group.split('}').next())
                .unwrap_or(rest);
            let parts: Vec<&str> = if rest.starts_with('{') {
                group.split(',').collect()
            } else {
                vec![rest]
            };
            parts
                .into_iter()
                .map(|part| {
                    part.trim()
                        .chars()
                        .take_while(|c| c.is_ascii_lowercase() || *c == '_')
                        .collect()
                })
                .collect::<Vec<String>>()
        })
        .collect()
}

#[test]
fn a_room_uses_only_rooms_listed_above_it() {
    let rooms = rooms();
    assert!(rooms.len() >= 10, "{rooms:?}");
    let mut wrong = Vec::new();
    for (position, room) in rooms.iter().enumerate() {
        let mut found = Vec::new();
        files(&source().join(room), &mut found);
        for file in found {
            for other in used(&std::fs::read_to_string(&file).unwrap()) {
                let below = rooms
                    .iter()
                    .position(|known| *known == other)
                    .is_some_and(|other| other > position);
                let barred = room == "agent" && ["issue", "authority"].contains(&other.as_str())
                    || room == "roots" && other == "issue";
                if below || barred {
                    wrong.push(format!("{} uses {other}", file.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_room_has_a_front_page() {
    for room in rooms().iter().filter(|room| *room != "proto") {
        let page = std::fs::read_to_string(source().join(room).join("mod.rs")).unwrap();
        // As one line: the words may stand at its break.
        let lines: Vec<&str> = page.lines().map_while(|line| line.strip_prefix("//!")).collect();
        let head = lines.concat();
        for word in ["Takes:", "Gives:", "Not here:"] {
            assert!(head.contains(word), "src/{room}/mod.rs does not say {word:?}");
        }
    }
}

#[test]
fn files_stay_small() {
    let mut found = Vec::new();
    files(&source(), &mut found);
    for file in found.iter().filter(|file| !file.starts_with(source().join("proto"))) {
        let lines = std::fs::read_to_string(file).unwrap().lines().count();
        assert!(lines <= 600, "{} has {lines} lines: split it", file.display());
    }
}

/// Tests are renamed, and tables stay behind.
#[test]
fn the_conformance_table_names_tests_that_exist() {
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    let table = std::fs::read_to_string(project.join("docs/conformance.md")).unwrap();
    let mut sources = Vec::new();
    for folder in ["src", "tests/it", "tests/real"] {
        files(&project.join(folder), &mut sources);
    }
    let named: Vec<&str> = table
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|name| name.contains("::"))
        .collect();
    assert!(named.len() >= 50, "{named:?}");
    for name in named {
        let (modules, test) = name.rsplit_once("::").unwrap();
        let module = modules.trim_end_matches("::tests").rsplit("::").next().unwrap();
        let holds = |file: &PathBuf| {
            let inside = file.file_stem().is_some_and(|stem| stem == module)
                || file.parent().is_some_and(|folder| folder.ends_with(module));
            let tells = |text: String| test == "*" || text.contains(&format!("fn {test}("));
            inside && std::fs::read_to_string(file).is_ok_and(tells)
        };
        assert!(sources.iter().any(holds), "there is no {name}");
    }
}
