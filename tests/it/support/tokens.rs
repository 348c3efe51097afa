//! Mints service-account tokens as an API server would, and as it never would.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair,
    RSA_PKCS1_SHA256, RsaKeyPair, RsaPublicKeyComponents,
};
use serde_json::{Map, Value, json};

/// The audience, issuer and account of [`Token::new`].
pub const AUDIENCE: &str = "istio-ca";
pub const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
pub const NAMESPACE: &str = "shop";
pub const ACCOUNT: &str = "cart";

/// base64url without padding.
pub fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A key that signs tokens, and its name in key sets.
pub struct TestKey {
    pub kid: String,
    pair: Pair,
    random: SystemRandom,
}

enum Pair {
    Rsa(Box<RsaKeyPair>),
    P256(EcdsaKeyPair),
    P384(EcdsaKeyPair),
}

impl TestKey {
    /// A new P-256 key.
    pub fn p256(kid: &str) -> Self {
        Self::new(kid, Pair::P256(generate(&ECDSA_P256_SHA256_FIXED_SIGNING)))
    }

    /// A new P-384 key.
    pub fn p384(kid: &str) -> Self {
        Self::new(kid, Pair::P384(generate(&ECDSA_P384_SHA384_FIXED_SIGNING)))
    }

    /// The RSA key of `tests/vectors/keys`.
    pub fn rsa(kid: &str) -> Self {
        Self::rsa_of(kid, include_str!("../../vectors/keys/rsa-2048.pem"))
    }

    /// The other RSA key of `tests/vectors/keys`.
    pub fn other_rsa(kid: &str) -> Self {
        Self::rsa_of(kid, include_str!("../../vectors/keys/rsa-2048-other.pem"))
    }

    fn rsa_of(kid: &str, pem: &str) -> Self {
        let blocks = countersign::model::pem::blocks(pem.as_bytes(), 1).unwrap();
        Self::new(
            kid,
            Pair::Rsa(Box::new(RsaKeyPair::from_pkcs8(&blocks[0].der).unwrap())),
        )
    }

    fn new(kid: &str, pair: Pair) -> Self {
        Self {
            kid: kid.to_owned(),
            pair,
            random: SystemRandom::new(),
        }
    }

    /// The `alg` that fits it.
    pub fn algorithm(&self) -> &'static str {
        match self.pair {
            Pair::Rsa(_) => "RS256",
            Pair::P256(_) => "ES256",
            Pair::P384(_) => "ES384",
        }
    }

    /// Its public half as a JSON Web Key.
    pub fn jwk(&self) -> Value {
        let mut jwk = match &self.pair {
            Pair::Rsa(pair) => {
                let RsaPublicKeyComponents { n, e } = RsaPublicKeyComponents::<Vec<u8>>::from(pair.public());
                json!({ "kty": "RSA", "n": encode(n), "e": encode(e) })
            }
            Pair::P256(pair) | Pair::P384(pair) => {
                let point = &pair.public_key().as_ref()[1..];
                let (x, y) = point.split_at(point.len() / 2);
                let curve = if x.len() == 32 { "P-256" } else { "P-384" };
                json!({ "kty": "EC", "crv": curve, "x": encode(x), "y": encode(y) })
            }
        };
        jwk["kid"] = self.kid.clone().into();
        jwk["use"] = "sig".into();
        jwk["alg"] = self.algorithm().into();
        jwk
    }

    /// A signature as JWS has it (RFC 7518, 3).
    pub fn sign(&self, message: &str) -> Vec<u8> {
        match &self.pair {
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &self.random, message.as_bytes(), &mut signature)
                    .unwrap();
                signature
            }
            Pair::P256(pair) | Pair::P384(pair) => {
                pair.sign(&self.random, message.as_bytes()).unwrap().as_ref().to_vec()
            }
        }
    }
}

fn generate(algorithm: &'static EcdsaSigningAlgorithm) -> EcdsaKeyPair {
    let random = SystemRandom::new();
    let der = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
    EcdsaKeyPair::from_pkcs8(algorithm, der.as_ref(), &random).unwrap()
}

/// A JSON Web Key Set.
pub fn key_set(keys: &[&TestKey]) -> String {
    json!({ "keys": keys.iter().map(|key| key.jwk()).collect::<Vec<_>>() }).to_string()
}

/// A token to be: a good one bound to a pod, unless changed.
#[derive(Clone)]
pub struct Token {
    pub header: Map<String, Value>,
    pub claims: Map<String, Value>,
}

impl Token {
    /// What an API server says at `now` (seconds since 1970) in a token of an hour for the pod `cart-0` of `shop/cart`.
    pub fn new(now: i64) -> Self {
        let claims = json!({
            "aud": [AUDIENCE],
            "exp": now + 3600,
            "iat": now,
            "iss": ISSUER,
            "jti": "6a4f6a3e-8d0b-4d1e-9f65-0c5f3a0d6a11",
            "nbf": now,
        });
        Self {
            header: Map::new(),
            claims: object(claims),
        }
        .account(NAMESPACE, ACCOUNT)
        .pod("cart-0", "0e5b3c8e-7a3a-4f0b-8a2b-5c9d3f7e1a2b")
        .node("node-1")
    }

    /// For another account; drops the pod and the node.
    pub fn account(self, namespace: &str, name: &str) -> Self {
        let kubernetes = json!({
            "namespace": namespace,
            "serviceaccount": { "name": name, "uid": "2f1d0c9b-3c1f-4e3c-a1b0-3f0f6c1b7d55" },
        });
        self.claim("sub", format!("system:serviceaccount:{namespace}:{name}"))
            .claim("kubernetes.io", kubernetes)
    }

    /// Bound to this pod.
    pub fn pod(mut self, name: &str, uid: &str) -> Self {
        self.claims["kubernetes.io"]["pod"] = json!({ "name": name, "uid": uid });
        self
    }

    /// Bound to this node.
    pub fn node(mut self, name: &str) -> Self {
        self.claims["kubernetes.io"]["node"] = json!({ "name": name, "uid": "9b1a7c52-55c5-4c37-8d6a-0d8b7c0e4f21" });
        self
    }

    /// With this claim.
    pub fn claim(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.claims.insert(name.to_owned(), value.into());
        self
    }

    /// Without this claim.
    pub fn without(mut self, name: &str) -> Self {
        self.claims.remove(name);
        self
    }

    /// With this header member, in place of what the key would put there.
    pub fn header(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.header.insert(name.to_owned(), value.into());
        self
    }

    /// The token, signed.
    pub fn mint(&self, key: &TestKey) -> String {
        let mut header = object(json!({ "alg": key.algorithm(), "kid": key.kid }));
        header.extend(self.header.clone());
        let signed = format!(
            "{}.{}",
            encode(Value::from(header).to_string()),
            encode(Value::from(self.claims.clone()).to_string())
        );
        format!("{signed}.{}", encode(key.sign(&signed)))
    }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        other => panic!("{other} is no object"),
    }
}
