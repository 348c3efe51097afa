//! ring's verification under the JWT library's seam, so that claims, headers and key sets stay the library's business and no second crypto
//! stack comes in. Only what Kubernetes and its peers sign with is offered: RS256, ES256, ES384. Nothing here signs.

use jsonwebtoken::crypto::{CryptoProvider, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::signature::{self as traits, Verifier};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind, EncodingKey};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
    UnparsedPublicKey,
};

static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: no_signing,
    verifier_factory: verifier,
    key_utils: KeyUtils::new_unimplemented(),
};

/// Makes the JWT library verify with ring, for the whole process. Harmless to repeat.
pub fn install_jwt_provider() {
    // An error means that it is installed already.
    let _ = PROVIDER.install_default();
}

fn no_signing(_: &Algorithm, _: &EncodingKey) -> Result<Box<dyn jsonwebtoken::crypto::JwtSigner>, Error> {
    Err(Error::from(ErrorKind::InvalidAlgorithm))
}

fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>, Error> {
    match (algorithm, key.kind()) {
        (Algorithm::RS256, DecodingKeyKind::RsaModulusExponent { n, e }) => {
            Ok(Box::new(Rs256(RsaPublicKeyComponents {
                n: n.clone(),
                e: e.clone(),
            })))
        }
        (Algorithm::ES256, DecodingKeyKind::SecretOrDer(point)) if point.len() == 65 => Ok(Box::new(Ecdsa(
            Algorithm::ES256,
            UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point.clone()),
        ))),
        (Algorithm::ES384, DecodingKeyKind::SecretOrDer(point)) if point.len() == 97 => Ok(Box::new(Ecdsa(
            Algorithm::ES384,
            UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point.clone()),
        ))),
        _ => Err(Error::from(ErrorKind::InvalidAlgorithm)),
    }
}

struct Rs256(RsaPublicKeyComponents<Vec<u8>>);

impl Verifier<Vec<u8>> for Rs256 {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), traits::Error> {
        self.0
            .verify(&RSA_PKCS1_2048_8192_SHA256, message, signature)
            .map_err(|_| traits::Error::new())
    }
}

impl JwtVerifier for Rs256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::RS256
    }
}

struct Ecdsa(Algorithm, UnparsedPublicKey<Vec<u8>>);

impl Verifier<Vec<u8>> for Ecdsa {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), traits::Error> {
        self.1.verify(message, signature).map_err(|_| traits::Error::new())
    }
}

impl JwtVerifier for Ecdsa {
    fn algorithm(&self) -> Algorithm {
        self.0
    }
}
