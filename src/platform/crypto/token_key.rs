//! Keys that sign tokens: for the token issuer of `demo` and of load tests. The CA itself signs no token.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair, RsaPublicKeyComponents,
};

use super::{KeyFormat, PrivateKeyError, SigningError};
use crate::model::pem;

/// A private key for tokens. It cannot print itself.
pub struct TokenKey {
    pair: Pair,
    random: SystemRandom,
}

enum Pair {
    Es256(Box<EcdsaKeyPair>),
    Rs256(Box<RsaKeyPair>),
}

/// Why a key cannot sign tokens.
#[derive(Debug, thiserror::Error)]
pub enum TokenKeyError {
    /// Not PEM.
    #[error(transparent)]
    Pem(#[from] pem::PemError),
    /// Not an RSA key.
    #[error(
        "it holds no RSA private key (BEGIN RSA PRIVATE KEY, or BEGIN PRIVATE KEY with one in it); make one with openssl genrsa 2048"
    )]
    NotRsa,
    /// Refused by the crypto library.
    #[error(transparent)]
    Key(#[from] PrivateKeyError),
    /// The crypto library failed.
    #[error(transparent)]
    Signing(#[from] SigningError),
}

impl TokenKey {
    /// A new P-256 key, for ES256.
    pub fn generate() -> Result<Self, TokenKeyError> {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let made = EcdsaKeyPair::generate_pkcs8(algorithm, &random).map_err(|_| SigningError)?;
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, made.as_ref(), &random)
            .map_err(|error| PrivateKeyError::Rejected(error.to_string()))?;
        Ok(Self {
            pair: Pair::Es256(Box::new(pair)),
            random,
        })
    }

    /// An RSA key in PEM, for RS256.
    pub fn rsa_from_pem(text: &[u8]) -> Result<Self, TokenKeyError> {
        let blocks = pem::blocks(text, 1)?;
        let format = match blocks[0].label.as_str() {
            "RSA PRIVATE KEY" => KeyFormat::Pkcs1,
            "PRIVATE KEY" => KeyFormat::Pkcs8,
            _ => return Err(TokenKeyError::NotRsa),
        };
        let read = match format {
            KeyFormat::Pkcs1 => RsaKeyPair::from_der(&blocks[0].der),
            _ => RsaKeyPair::from_pkcs8(&blocks[0].der),
        };
        let pair = read.map_err(|error| PrivateKeyError::Rejected(error.to_string()))?;
        Ok(Self {
            pair: Pair::Rs256(Box::new(pair)),
            random: SystemRandom::new(),
        })
    }

    /// The JWS name of what [`Self::sign`] makes (RFC 7518, 3.1).
    pub fn algorithm(&self) -> &'static str {
        match self.pair {
            Pair::Es256(_) => "ES256",
            Pair::Rs256(_) => "RS256",
        }
    }

    /// A JWS signature.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SigningError> {
        match &self.pair {
            Pair::Es256(pair) => {
                let signature = pair.sign(&self.random, message).map_err(|_| SigningError)?;
                Ok(signature.as_ref().to_vec())
            }
            Pair::Rs256(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &self.random, message, &mut signature)
                    .map_err(|_| SigningError)?;
                Ok(signature)
            }
        }
    }

    /// The required members of the public key's JWK in the order that its thumbprint is taken over (RFC 7638, 3.2).
    pub fn public_members(&self) -> Vec<(&'static str, String)> {
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match &self.pair {
            Pair::Es256(pair) => {
                // 0x04, x, y (SEC 1, 2.3.3)
                let point = pair.public_key().as_ref();
                vec![
                    ("crv", "P-256".into()),
                    ("kty", "EC".into()),
                    ("x", encode(&point[1..33])),
                    ("y", encode(&point[33..])),
                ]
            }
            Pair::Rs256(pair) => {
                let public: RsaPublicKeyComponents<Vec<u8>> = pair.public().into();
                vec![
                    ("e", encode(&public.e)),
                    ("kty", "RSA".into()),
                    ("n", encode(&public.n)),
                ]
            }
        }
    }
}

impl std::fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TokenKey({})", self.algorithm())
    }
}
