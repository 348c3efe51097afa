//! `docs/settings.md` and `docs/serve.yaml` (what `serve --print-config` prints) say what `src/app/settings.rs` says.
//! `UPDATE=1 cargo test --test it reference` writes them anew.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use countersign::app::config::Config;
use countersign::app::duration;
use countersign::app::settings::{Issuer, Settings};
use serde_json::Value;

/// A field as its definition has it.
struct Field {
    name: String,
    kind: String,
    about: String,
}

/// Every struct of the definitions, by its name.
type Definitions = BTreeMap<String, Vec<Field>>;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn definitions() -> Definitions {
    let source = std::fs::read_to_string(root().join("src/app/settings.rs")).unwrap();
    let mut found = Definitions::new();
    let (mut open, mut about) = (String::new(), Vec::new());
    for line in source.lines() {
        if let Some(name) = line.strip_prefix("pub struct ") {
            open = name.trim_end_matches(" {").to_owned();
        } else if let Some(text) = line.strip_prefix("    /// ") {
            about.push(text);
        } else if let Some((name, kind)) = line.strip_prefix("    pub ").and_then(|field| field.split_once(": ")) {
            found.entry(open.clone()).or_default().push(Field {
                name: camel(name.trim_start_matches("r#")),
                kind: kind.trim_end_matches(',').to_owned(),
                about: about.join(" "),
            });
            about.clear();
        }
    }
    found
}

fn camel(name: &str) -> String {
    let mut words = name.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |name, word| name + &word[..1].to_uppercase() + &word[1..])
}

/// A default as it is written in a file; `None` for one that is absent.
fn written(default: &Value) -> Option<String> {
    match default {
        Value::Null => None,
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

/// The commented file. Fields that are absent by default, and all of an issuer, stand there as comments.
fn file(definitions: &Definitions, name: &str, defaults: &Value, margin: &str, out: &mut String) {
    for Field { name, kind, about } in &definitions[name] {
        if margin.is_empty() {
            out.push('\n');
        }
        let default = &defaults[name];
        writeln!(out, "{margin}# {about}").unwrap();
        if definitions.contains_key(kind) {
            // A section without any value would be nothing, which is no section.
            let empty = default
                .as_object()
                .is_some_and(|fields| fields.values().all(Value::is_null));
            let comment = if empty { "# " } else { "" };
            writeln!(out, "{margin}{comment}{name}:").unwrap();
            file(definitions, kind, default, &format!("{margin}{comment}  "), out);
        } else {
            match written(default) {
                Some(default) => writeln!(out, "{margin}{name}: {default}").unwrap(),
                None => writeln!(out, "{margin}# {name}:").unwrap(),
            }
        }
        if kind == "Vec<Issuer>" {
            writeln!(out, "{margin}# Each of them:").unwrap();
            let issuer = serde_json::to_value(Issuer::default()).unwrap();
            file(definitions, "Issuer", &issuer, &format!("{margin}#   "), out);
        }
    }
}

/// The tables, one for each section.
fn tables(definitions: &Definitions, name: &str, defaults: &Value, path: &str, out: &mut String) {
    let is_section = |field: &&Field| definitions.contains_key(&field.kind) || field.kind == "Vec<Issuer>";
    let fields = &definitions[name];
    out.push_str("\n| setting | what it is | default | |\n| --- | --- | --- | --- |\n");
    for field in fields.iter().filter(|field| !is_section(field)) {
        let default = written(&defaults[&field.name]);
        let kind = match field.kind.trim_start_matches("Option<").trim_end_matches('>') {
            "u32" => "number",
            "bool" => "`true` or `false`",
            "Vec<String" => "list of texts",
            "Names" => "list of texts, or one with commas",
            _ if default.as_deref().is_some_and(|text| duration::parse(text).is_ok()) => "span of time (`1h30m`)",
            _ => "text",
        };
        let default = default.map_or_else(|| "absent".to_owned(), |default| format!("`{default}`"));
        let Field { name, about, .. } = field;
        writeln!(out, "| `{path}{name}` | {kind} | {default} | {about} |").unwrap();
    }
    for Field { name, kind, about } in fields.iter().filter(is_section) {
        let path = format!("{path}{name}");
        writeln!(out, "\n## `{path}`\n\n{about}").unwrap();
        match definitions.contains_key(kind) {
            true => tables(definitions, kind, &defaults[name], &format!("{path}."), out),
            false => {
                let issuer = serde_json::to_value(Issuer::default()).unwrap();
                tables(definitions, "Issuer", &issuer, "", out);
            }
        }
    }
}

const FILE_HEAD: &str = "\
# Every setting of `countersign serve`, with its default. A file needs only what differs.
";

const REFERENCE_HEAD: &str = "\
# Settings

Everything that `countersign serve` and `countersign check` can be told, written from `src/app/settings.rs`
(`UPDATE=1 cargo test --test it reference` writes this page anew).

A setting stands in the YAML file that `--config` names, in a variable, or in `--set` on the command line; the later ones win. For
`listen.callsInFlight` these are `listen: {callsInFlight: 500}`, `COUNTERSIGN_LISTEN_CALLS_IN_FLIGHT=500` and
`--set listen.callsInFlight=500`. Values are YAML everywhere: `[a, b]` is a list. Unknown names are refused.
`countersign serve --print-config` prints all of them as a file to start from; `--validate` prints those in force.
";

#[test]
fn pages_are_written_from_the_definitions() {
    let definitions = definitions();
    let defaults = serde_json::to_value(Settings::default()).unwrap();
    let mut commented = FILE_HEAD.to_owned();
    file(&definitions, "Settings", &defaults, "", &mut commented);
    let mut reference = REFERENCE_HEAD.to_owned();
    tables(&definitions, "Settings", &defaults, "", &mut reference);
    for (path, wanted) in [("docs/serve.yaml", &commented), ("docs/settings.md", &reference)] {
        let path = root().join(path);
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, wanted).unwrap();
        }
        assert!(
            std::fs::read_to_string(&path).unwrap_or_default() == *wanted,
            "{} is out of date: see the head of this file",
            path.display()
        );
    }
    // Nothing is left out, and the file says what it would mean to leave it out.
    assert_eq!(Settings::parse(&commented, "serve.yaml").unwrap(), Settings::default());
    let lines = definitions.values().flatten();
    assert!(lines.clone().count() > 45 && lines.clone().all(|field| !field.about.is_empty()));
}

/// The numbers that the pages promise are those that are taken.
#[test]
fn numbers_are_taken_from_first_to_last() {
    let definitions = definitions();
    let environment = [("KUBERNETES_SERVICE_HOST".to_owned(), "10.0.0.1".to_owned())].into();
    let mut checked = 0;
    for (section, field) in [("listen", "Listen"), ("shutdown", "Shutdown")]
        .iter()
        .flat_map(|(section, name)| definitions[*name].iter().map(move |field| (section, field)))
    {
        let words: Vec<&str> = field.about.split([' ', '.', ';']).collect();
        let range = words.windows(3).find_map(|words| match words {
            [first, "to", last] => Some((first.parse::<i64>().ok()?, last.parse::<i64>().ok()?)),
            _ => None,
        });
        let Some((first, last)) = range else {
            assert_ne!(field.kind, "u32", "{section}.{} does not say its range", field.name);
            continue;
        };
        let takes = |number: i64| {
            let key = format!("{section}.{}", field.name);
            Settings::default()
                .with_assignment(&format!("{key}={number}"))
                .is_ok_and(|settings| match Config::check(&settings, &environment) {
                    Ok(_) => true,
                    Err(problems) => problems.iter().all(|problem| problem.key != key),
                })
        };
        let bounds = [first - 1, first, last, last + 1].map(takes);
        assert_eq!(bounds, [false, true, true, false], "{section}.{}", field.name);
        checked += 1;
    }
    assert!(checked >= 9, "{checked}");
}
