//! Whom a token must be meant for.

use std::ops::Deref;

/// Audiences of ours; a token must be meant for one of them. There is at least one, and none is empty: without one, a token that a workload
/// gave to anybody else would be good here (RFC 8725, 3.9).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audiences(Vec<String>);

/// No audience, or an empty one.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[error("an audience is missing or empty; without one, tokens made for other services would be accepted: use istio-ca")]
pub struct NoAudience;

impl Audiences {
    /// Takes a list that can be one.
    pub fn new(names: Vec<String>) -> Result<Self, NoAudience> {
        match names.is_empty() || names.iter().any(String::is_empty) {
            true => Err(NoAudience),
            false => Ok(Self(names)),
        }
    }
}

impl Deref for Audiences {
    type Target = [String];

    fn deref(&self) -> &[String] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_none_and_never_an_empty_one() {
        let of = |names: &[&str]| Audiences::new(names.iter().map(|name| (*name).to_owned()).collect());
        assert_eq!(of(&[]), Err(NoAudience));
        assert_eq!(of(&["istio-ca", ""]), Err(NoAudience));
        assert_eq!(&of(&["istio-ca", "other"]).unwrap()[..], ["istio-ca", "other"]);
    }
}
