//! A list of names as people write it: a YAML list, or one text with commas between the names, which is OpenShift's way.

use std::fmt;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// The names, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Names(Vec<String>);

impl Names {
    /// One by one.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Written;

        impl<'de> Visitor<'de> for Written {
            type Value = Names;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of names, or names with commas between them")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Names, E> {
                // `--set` tries values as texts before it reads them as YAML.
                if text.contains(['[', ']', '{', '}', '"']) {
                    return Err(E::custom(
                        "names with commas between them stand without brackets and quotes",
                    ));
                }
                let names = text.split(',').map(str::trim);
                Ok(Names(
                    names.filter(|_| !text.trim().is_empty()).map(str::to_owned).collect(),
                ))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut written: A) -> Result<Names, A::Error> {
                let mut names = Vec::new();
                while let Some(name) = written.next_element()? {
                    names.push(name);
                }
                Ok(Names(names))
            }
        }

        deserializer.deserialize_any(Written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_and_a_text_with_commas_are_the_same() {
        for (written, names) in [
            (r#"["a","b"]"#, &["a", "b"][..]),
            (r#""a, b""#, &["a", "b"]),
            (r#""a""#, &["a"]),
            (r#""""#, &[]),
            (r#"" ""#, &[]),
            ("[]", &[]),
            // A comma too many is a name too many, and nothing is called so.
            (r#""a,""#, &["a", ""]),
        ] {
            let read: Names = serde_json::from_str(written).unwrap();
            assert_eq!(read.iter().collect::<Vec<_>>(), names, "{written}");
        }
        for written in [r#""[a, b]""#, "1", "null", "{}", "[1]"] {
            assert!(serde_json::from_str::<Names>(written).is_err(), "{written}");
        }
    }
}
