//! A token as written: its three parts, its header and its claims, read strictly and without a word about whether they are true.
//!
//! The claims are read into structs of our own, since what the JWT library reads them into keeps the last of two equal names, where the issuer
//! or another verifier may take the first (RFC 8725, 2.4): derived structs refuse the second.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

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

/// Reads a JSON object, and nothing else.
pub fn read<'a, T: Deserialize<'a>>(json: &'a str) -> Result<T, serde_json::Error> {
    serde_json::from_str(json).map(|Object(value)| value)
}

/// A struct that is written as an object: derived ones take an array of their members, too.
pub struct Object<T>(T);

impl<T> std::ops::Deref for Object<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(members)).map(Object)
            }
        }
        deserializer.deserialize_map(Members(PhantomData))
    }
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
    pub kubernetes: Option<Object<Kubernetes<'a>>>,
}

/// The `kubernetes.io` claim.
#[derive(serde::Deserialize)]
pub struct Kubernetes<'a> {
    /// The namespace of the account, and of the pod.
    #[serde(borrow)]
    pub namespace: Text<'a>,
    /// The account.
    #[serde(borrow)]
    pub serviceaccount: Object<Named<'a>>,
    /// The pod that the token is bound to.
    #[serde(borrow, default, deserialize_with = "present")]
    pub pod: Option<Object<Bound<'a>>>,
    /// The node of that pod, or the node that the token is bound to.
    #[serde(borrow, default, deserialize_with = "present")]
    pub node: Option<Object<Named<'a>>>,
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
pub fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLAIMS: &str = r#"{"iss":"i","sub":"s","aud":["a","b"],"exp":3,"iat":1,"nbf":2,"jti":"j","more":{"iss":"x"},
        "kubernetes.io":{"namespace":"n","serviceaccount":{"name":"a","uid":"u"},"pod":{"name":"p","uid":"q"},"node":{"name":"o"}}}"#;

    #[test]
    fn reads_what_kubernetes_writes() {
        let claims: Claims<'_> = read(CLAIMS).unwrap();
        let kubernetes = claims.kubernetes.as_ref().unwrap();
        let texts = [
            &claims.iss,
            claims.sub.as_ref().unwrap(),
            claims.jti.as_ref().unwrap(),
            &kubernetes.namespace,
            &kubernetes.serviceaccount.name,
            &kubernetes.pod.as_ref().unwrap().uid,
            &kubernetes.node.as_ref().unwrap().name,
        ];
        assert_eq!(texts.map(|text| text.to_string()), ["i", "s", "j", "n", "a", "q", "o"]);
        assert_eq!((claims.iat, claims.nbf, claims.exp), (Some(1), Some(2), Some(3)));
        let audience = claims.aud.as_ref().unwrap();
        assert!(audience.names_one_of(&["x".into(), "b".into()]) && !audience.names_one_of(&["ab".into()]));
    }

    #[test]
    fn texts_are_borrowed_unless_escaped() {
        let claims: Claims<'_> = read(r#"{"iss":"plain","sub":"\u0073","aud":"one"}"#).unwrap();
        assert!(matches!(claims.iss.0, Cow::Borrowed("plain")));
        assert!(matches!(&claims.sub.as_ref().unwrap().0, Cow::Owned(text) if text == "s"));
        assert!(matches!(&claims.aud.as_ref().unwrap().0[0].0, Cow::Borrowed("one")));
    }

    #[test]
    fn refuses_every_member_twice_or_null_or_in_an_array() {
        let known = [
            ("iss", "\"i\""),
            ("sub", "\"s\""),
            ("aud", "\"a\""),
            ("exp", "1"),
            ("iat", "1"),
            ("nbf", "1"),
            ("jti", "\"j\""),
            ("kubernetes.io", r#"{"namespace":"n","serviceaccount":{"name":"a"}}"#),
        ];
        for (name, value) in known {
            let twice = CLAIMS.replacen('{', &format!("{{\"{name}\":{value},"), 1);
            assert!(read::<Claims<'_>>(&twice).is_err(), "{name} twice");
            let null = format!(r#"{{"iss":"i","{name}":null}}"#).replace(r#""iss":"i","iss""#, r#""iss""#);
            assert!(read::<Claims<'_>>(&null).is_err(), "{name} null");
        }
        for json in [
            r#"["i"]"#,
            r#"["i","s","a",1,1,1,"j",["n",["a"]]]"#,
            r#"{"iss":"i","kubernetes.io":["n",{"name":"a"}]}"#,
            r#"{"iss":"i","kubernetes.io":{"namespace":"n","serviceaccount":["a"]}}"#,
            r#"{"iss":"i","exp":1.0}"#,
            r#"{"iss":"i"} {}"#,
            r#"{"iss":"i",}"#,
            "",
        ] {
            assert!(read::<Claims<'_>>(json).is_err(), "{json}");
        }
        assert!(read::<Header<'_>>(r#"["ES256"]"#).is_err());
        assert!(read::<Header<'_>>(r#"{"kid":"k"}"#).is_err());
        assert!(read::<Header<'_>>(r#"{"alg":"ES256","alg":"none"}"#).is_err());
    }

    #[test]
    fn a_token_has_three_parts() {
        for token in ["", "a", "a.b", "a.b.c.d", "a.b.c.d.e", "a..b."] {
            assert!(Parts::of(token).is_none(), "{token}");
        }
        let parts = Parts::of("a.b.c").unwrap();
        assert_eq!(
            (parts.header, parts.payload, parts.signed, parts.signature),
            ("a", "b", "a.b", "c")
        );
    }

    #[test]
    fn base64_has_one_spelling() {
        assert_eq!(decode("YQ").as_deref(), Some("a"));
        for part in ["YQ==", "YR", "Y", "Y Q", "_w", "+/+/"] {
            assert_eq!(decode(part), None, "{part}");
        }
    }
}
