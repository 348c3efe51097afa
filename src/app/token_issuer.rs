//! An issuer of service-account tokens as a Kubernetes API server makes them, for `demo` and for load tests. Whoever has its key can be
//! anybody: it lives in memory and is never written.
//!
//! Takes: workloads. Gives: tokens bound to a pod (KEP-1205), and the key set that verifies them. Not here: checking tokens.

use std::io::{self, Write};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;

use crate::model::Timestamp;
use crate::platform::crypto::{SigningError, TokenKey, sha256};
use crate::platform::{Random, RandomError, SystemRandom, process};

/// The issuer.
#[derive(Debug)]
pub struct TokenIssuer {
    issuer: String,
    audience: String,
    key: TokenKey,
    key_id: String,
    /// The encoded header of every token, with the dot behind it.
    header: String,
    random: SystemRandom,
}

/// Who a token is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// Its namespace.
    pub namespace: String,
    /// Its service account.
    pub service_account: String,
    /// Its pod.
    pub pod: String,
    /// The node that it runs on.
    pub node: String,
}

/// From when until when a token counts.
#[derive(Clone, Copy, Debug)]
pub struct Life {
    /// Now.
    pub issued: Timestamp,
    /// In seconds.
    pub seconds: i64,
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum MintError {
    /// The crypto library failed.
    #[error(transparent)]
    Signing(#[from] SigningError),
    /// The host gave no randomness.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// A claim cannot be JSON.
    #[error("a token's claims cannot be written: {0}")]
    Claims(#[from] serde_json::Error),
    /// A minting thread died.
    #[error("a thread that makes tokens ended unexpectedly")]
    Thread,
}

#[derive(Serialize)]
struct Header<'a> {
    alg: &'a str,
    kid: &'a str,
}

#[derive(Serialize)]
struct Claims<'a> {
    aud: [&'a str; 1],
    exp: i64,
    iat: i64,
    iss: &'a str,
    jti: String,
    #[serde(rename = "kubernetes.io")]
    kubernetes: Kubernetes<'a>,
    nbf: i64,
    sub: String,
}

#[derive(Serialize)]
struct Kubernetes<'a> {
    namespace: &'a str,
    node: Object<'a>,
    pod: Object<'a>,
    serviceaccount: Object<'a>,
}

#[derive(Serialize)]
struct Object<'a> {
    name: &'a str,
    uid: String,
}

impl TokenIssuer {
    /// An issuer of tokens that say `issuer` and are meant for `audience`.
    pub fn new(issuer: &str, audience: &str, key: TokenKey) -> Result<Self, MintError> {
        // RFC 7638: the hash of the members, in alphabetical order, without blanks.
        let members: Vec<String> = key
            .public_members()
            .iter()
            .map(|(name, value)| format!("\"{name}\":\"{value}\""))
            .collect();
        let key_id = URL_SAFE_NO_PAD.encode(sha256(format!("{{{}}}", members.join(",")).as_bytes()));
        let header = Header {
            alg: key.algorithm(),
            kid: &key_id,
        };
        let header = format!("{}.", URL_SAFE_NO_PAD.encode(serde_json::to_vec(&header)?));
        Ok(Self {
            issuer: issuer.to_owned(),
            audience: audience.to_owned(),
            key,
            key_id,
            header,
            random: SystemRandom::default(),
        })
    }

    /// What the tokens' `iss` says.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The key set (RFC 7517), as `/openid/v1/jwks` of an API server shows it.
    pub fn jwks(&self) -> String {
        let mut key: serde_json::Map<String, serde_json::Value> = self
            .key
            .public_members()
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect();
        for (name, value) in [("use", "sig"), ("alg", self.key.algorithm()), ("kid", &self.key_id)] {
            key.insert(name.into(), value.into());
        }
        format!("{:#}\n", serde_json::json!({ "keys": [key] }))
    }

    /// A token.
    pub fn mint(&self, workload: &Workload, life: Life) -> Result<String, MintError> {
        let Life { issued, seconds } = life;
        let object = |name| -> Result<Object<'_>, RandomError> { Ok(Object { name, uid: self.uid()? }) };
        let claims = Claims {
            aud: [&self.audience],
            exp: issued.plus(seconds).unix(),
            iat: issued.unix(),
            iss: &self.issuer,
            jti: self.uid()?,
            kubernetes: Kubernetes {
                namespace: &workload.namespace,
                node: object(&workload.node)?,
                pod: object(&workload.pod)?,
                serviceaccount: object(&workload.service_account)?,
            },
            nbf: issued.unix(),
            sub: format!(
                "system:serviceaccount:{}:{}",
                workload.namespace, workload.service_account
            ),
        };
        let mut token = String::with_capacity(1024);
        token.push_str(&self.header);
        URL_SAFE_NO_PAD.encode_string(serde_json::to_vec(&claims)?, &mut token);
        let signature = self.key.sign(token.as_bytes())?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Ok(token)
    }

    /// Tokens for `count` accounts and pods of the namespace `load`, one a line, made by all processors and never more than a few
    /// megabytes at once.
    pub fn mint_many(&self, count: usize, life: Life, out: &mut dyn Write) -> io::Result<()> {
        const AT_ONCE: usize = 4096;
        let threads = process::parallelism().max(2);
        for start in (0..count).step_by(AT_ONCE) {
            let end = count.min(start + AT_ONCE);
            let share = (end - start).div_ceil(threads);
            let parts: Vec<Result<String, MintError>> = std::thread::scope(|scope| {
                let shares = (start..end).step_by(share).map(|from| from..end.min(from + share));
                let working: Vec<_> = shares
                    .map(|share| scope.spawn(|| self.mint_lines(share, life)))
                    .collect();
                let joined = working
                    .into_iter()
                    .map(|thread| thread.join().unwrap_or(Err(MintError::Thread)));
                joined.collect()
            });
            for part in parts {
                out.write_all(part.map_err(io::Error::other)?.as_bytes())?;
            }
        }
        Ok(())
    }

    fn mint_lines(&self, numbers: std::ops::Range<usize>, life: Life) -> Result<String, MintError> {
        numbers
            .map(|number| Ok(self.mint(&Workload::numbered(number), life)? + "\n"))
            .collect()
    }

    /// A random UUID (RFC 9562, version 4), as Kubernetes gives them.
    fn uid(&self) -> Result<String, RandomError> {
        let mut bytes = self.random.bytes16()?;
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        let number = u128::from_be_bytes(bytes);
        Ok(format!(
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            number >> 96,
            number >> 80 & 0xffff,
            number >> 64 & 0xffff,
            number >> 48 & 0xffff,
            number & 0xffff_ffff_ffff
        ))
    }
}

impl Workload {
    /// One of many, each with an account and a pod of its own, a hundred to a node.
    pub fn numbered(number: usize) -> Self {
        Self {
            namespace: "load".into(),
            service_account: format!("account-{number}"),
            pod: format!("account-{number}-0"),
            node: format!("node-{}", number / 100),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::crypto::install_jwt_provider;
    use jsonwebtoken::jwk::JwkSet;
    use jsonwebtoken::{Algorithm, DecodingKey, Validation};
    use serde_json::Value;
    use std::collections::BTreeSet;

    const LIFE: Life = Life {
        issued: Timestamp::from_unix(4_000_000_000),
        seconds: 3600,
    };

    fn issuer() -> TokenIssuer {
        TokenIssuer::new("https://demo", "istio-ca", TokenKey::generate().unwrap()).unwrap()
    }

    fn verify(issuer: &TokenIssuer, token: &str, algorithm: Algorithm) -> Value {
        install_jwt_provider();
        let set: JwkSet = serde_json::from_str(&issuer.jwks()).unwrap();
        let header = jsonwebtoken::decode_header(token.as_bytes()).unwrap();
        let key = set.find(header.kid.as_deref().unwrap()).unwrap();
        let mut validation = Validation::new(algorithm);
        validation.set_audience(&["istio-ca"]);
        validation.set_issuer(&["https://demo"]);
        jsonwebtoken::decode(token, &DecodingKey::from_jwk(key).unwrap(), &validation)
            .unwrap()
            .claims
    }

    #[test]
    fn tokens_look_like_those_of_an_api_server() {
        let issuer = issuer();
        let workload = Workload {
            namespace: "default".into(),
            service_account: "sleep".into(),
            pod: "sleep-0".into(),
            node: "node-a".into(),
        };
        let claims = verify(&issuer, &issuer.mint(&workload, LIFE).unwrap(), Algorithm::ES256);
        assert_eq!(claims["sub"], "system:serviceaccount:default:sleep");
        assert_eq!(claims["aud"], serde_json::json!(["istio-ca"]));
        assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 3600);
        assert_eq!(claims["nbf"], claims["iat"]);
        let kubernetes = &claims["kubernetes.io"];
        assert_eq!(kubernetes["namespace"], "default");
        for (kind, name) in [("serviceaccount", "sleep"), ("pod", "sleep-0"), ("node", "node-a")] {
            assert_eq!(kubernetes[kind]["name"], name);
            let uid = kubernetes[kind]["uid"].as_str().unwrap();
            assert_eq!(uid.len(), 36);
            assert_eq!(uid.as_bytes()[14], b'4');
        }
    }

    #[test]
    fn rsa_keys_sign_too() {
        let pem = include_bytes!("../../tests/vectors/keys/rsa-2048.pem");
        let issuer = TokenIssuer::new("https://demo", "istio-ca", TokenKey::rsa_from_pem(pem).unwrap()).unwrap();
        verify(
            &issuer,
            &issuer.mint(&Workload::numbered(1), LIFE).unwrap(),
            Algorithm::RS256,
        );
    }

    #[test]
    fn many_are_all_different() {
        let issuer = issuer();
        let mut lines = Vec::new();
        issuer.mint_many(5000, LIFE, &mut lines).unwrap();
        let text = String::from_utf8(lines).unwrap();
        let subjects: BTreeSet<String> = text
            .lines()
            .map(|token| {
                let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
                let claims: Value = serde_json::from_slice(&claims).unwrap();
                format!("{} {}", claims["sub"], claims["kubernetes.io"]["pod"]["uid"])
            })
            .collect();
        assert_eq!((text.lines().count(), subjects.len()), (5000, 5000));
        verify(&issuer, text.lines().last().unwrap(), Algorithm::ES256);
    }
}
