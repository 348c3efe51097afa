//! A token as written: its three parts, its header and its claims, read strictly and without a word about whether they are true.
//!
//! The claims are read into structs of our own, since what the JWT library reads them into keeps the last of two equal names, where the issuer
//! or another verifier may take the first (RFC 8725, 2.4): derived structs refuse the second.

use std::borrow::Cow;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::{self, Deserialize, Deserializer, IgnoredAny, SeqAccess, Visitor};

/// Longest token. Kubernetes' own are about 1 KiB.
pub const MOST_TOKEN: usize = 16 * 1024;
/// Longest encoded header. Kubernetes' own are about 100 bytes.
pub const MOST_HEADER: usize = 2 * 1024;

/// The three parts of a token in JWS compact serialization (RFC 7515, 7.1), still encoded.
pub struct Parts<'a> {
    /// Header and payload with the dot between them: what is signed.
    pub signed: &'a str,
    /// The header.
    pub header: &'a str,
    /// The claims.
    pub payload: &'a str,
    /// The signature.
    pub signature: &'a str,
}

impl<'a> Parts<'a> {
    /// Splits a token; `None` unless it has exactly three parts.
    pub fn of(token: &'a str) -> Option<Self> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, payload) = signed.split_once('.')?;
        (!payload.contains('.')).then_some(Self {
            signed,
            header,
            payload,
            signature,
        })
    }
}

/// Decodes one part: base64url without padding, in its one canonical spelling (RFC 7515, 2), and UTF-8 inside (RFC 7519, 7.2).
pub fn decode(part: &str) -> Option<String> {
    String::from_utf8(URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

/// A text that is borrowed unless it holds escapes.
#[derive(serde::Deserialize)]
#[serde(transparent)]
pub struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl std::ops::Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

/// What of a header matters. `jku`, `jwk`, `x5u` and `x5c` name keys by the token's own word: they are never looked at.
#[derive(serde::Deserialize)]
pub struct Header<'a> {
    /// The algorithm it claims.
    #[serde(borrow)]
    pub alg: Text<'a>,
    /// Which key.
    #[serde(borrow, default, deserialize_with = "present")]
    pub kid: Option<Text<'a>>,
    /// The media type.
    #[serde(borrow, default, deserialize_with = "present")]
    pub typ: Option<Text<'a>>,
    /// Extensions that must be understood; we understand none.
    #[serde(default, deserialize_with = "present")]
    pub crit: Option<IgnoredAny>,
}

/// What of the claims matters.
#[derive(serde::Deserialize)]
pub struct Claims<'a> {
    /// The issuer.
    #[serde(borrow)]
    pub iss: Text<'a>,
    /// The subject.
    #[serde(borrow, default, deserialize_with = "present")]
    pub sub: Option<Text<'a>>,
    /// The audience.
    #[serde(borrow, default, deserialize_with = "present")]
    pub aud: Option<Audience<'a>>,
    /// When it ends. RFC 7519 allows fractions; Kubernetes writes none, and a number that two readers round differently is refused.
    #[serde(default, deserialize_with = "present")]
    pub exp: Option<i64>,
    /// When it was issued.
    #[serde(default, deserialize_with = "present")]
    pub iat: Option<i64>,
    /// When it begins.
    #[serde(default, deserialize_with = "present")]
    pub nbf: Option<i64>,
    /// Its id.
    #[serde(borrow, default, deserialize_with = "present")]
    pub jti: Option<Text<'a>>,
    /// What Kubernetes says of the account and of the objects that the token is bound to (KEP-1205, KEP-4193).
    #[serde(borrow, default, rename = "kubernetes.io", deserialize_with = "present")]
    pub kubernetes: Option<Kubernetes<'a>>,
}

/// The `kubernetes.io` claim.
#[derive(serde::Deserialize)]
pub struct Kubernetes<'a> {
    /// The namespace of the account, and of the pod.
    #[serde(borrow)]
    pub namespace: Text<'a>,
    /// The account.
    #[serde(borrow)]
    pub serviceaccount: Named<'a>,
    /// The pod that the token is bound to.
    #[serde(borrow, default, deserialize_with = "present")]
    pub pod: Option<Bound<'a>>,
    /// The node of that pod, or the node that the token is bound to.
    #[serde(borrow, default, deserialize_with = "present")]
    pub node: Option<Named<'a>>,
}

/// An object by its name. Its UID may be missing: the API server omits that of a node which it does not find.
#[derive(serde::Deserialize)]
pub struct Named<'a> {
    /// The name.
    #[serde(borrow)]
    pub name: Text<'a>,
}

/// An object by its name and UID.
#[derive(serde::Deserialize)]
pub struct Bound<'a> {
    /// The name.
    #[serde(borrow)]
    pub name: Text<'a>,
    /// The UID.
    #[serde(borrow)]
    pub uid: Text<'a>,
}

/// The audience: one text or an array of texts (RFC 7519, 4.1.3).
pub struct Audience<'a>(Vec<Text<'a>>);

impl Audience<'_> {
    /// Whether it names one of these.
    pub fn names_one_of(&self, accepted: &[String]) -> bool {
        self.0.iter().any(|named| accepted.iter().any(|one| *one == **named))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Audience<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMany;
        impl<'de> Visitor<'de> for OneOrMany {
            type Value = Audience<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or an array of texts")
            }

            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Audience(vec![Text(Cow::Borrowed(text))]))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Audience(vec![Text(Cow::Owned(text.to_owned()))]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut texts: A) -> Result<Self::Value, A::Error> {
                let mut all = Vec::new();
                while let Some(text) = texts.next_element()? {
                    all.push(text);
                }
                Ok(Audience(all))
            }
        }
        deserializer.deserialize_any(OneOrMany)
    }
}

/// A member that may be missing but not `null`: serde alone takes both for the same.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}
