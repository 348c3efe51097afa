//! A workload's private key, and the certificate request that asks for its certificate.

use rcgen::{CertificateParams, DistinguishedName, KeyPair, PublicKeyData, SanType};
use zeroize::Zeroizing;

use crate::model::{Identity, KeyAlgorithm};

/// A private key. It cannot print itself.
pub struct Key(KeyPair);

/// Why there is no key, or no request by it.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The crypto library makes no such keys.
    #[error("{0} keys cannot be made here, only P-256 and P-384; make one with openssl genpkey and pass it with --key")]
    CannotMake(KeyAlgorithm),
    /// Not a private key that we can read.
    #[error(
        "it is not an unencrypted PKCS#8 key (BEGIN PRIVATE KEY), RSA, P-256, P-384 or Ed25519 ({0}); convert it with openssl pkcs8 -topk8 -nocrypt"
    )]
    Unreadable(rcgen::Error),
    /// A key of a kind that we cannot use.
    #[error(
        "it is a PKCS#8 key, but of none of the kinds RSA (2048 bits or more), P-256, P-384 and Ed25519 ({0}); make another key"
    )]
    Kind(rcgen::Error),
    /// The crypto library failed.
    #[error("making a key or signing with it failed: {0}")]
    Crypto(#[from] rcgen::Error),
}

impl Key {
    /// Makes a new key: P-256 or P-384.
    pub fn generate(algorithm: KeyAlgorithm) -> Result<Self, KeyError> {
        let algorithm = match algorithm {
            KeyAlgorithm::P256 => &rcgen::PKCS_ECDSA_P256_SHA256,
            KeyAlgorithm::P384 => &rcgen::PKCS_ECDSA_P384_SHA384,
            other => return Err(KeyError::CannotMake(other)),
        };
        Ok(Self(KeyPair::generate_for(algorithm)?))
    }

    /// Reads a PKCS#8 key in PEM.
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        KeyPair::from_pem(pem)
            .map(Self)
            .map_err(|error| match pem.contains("-----BEGIN PRIVATE KEY-----") {
                true => KeyError::Kind(error),
                false => KeyError::Unreadable(error),
            })
    }

    /// The key in PKCS#8 and PEM.
    pub fn pem(&self) -> Zeroizing<String> {
        Zeroizing::new(self.0.serialize_pem())
    }

    /// The DER SubjectPublicKeyInfo.
    pub fn public_key_info(&self) -> Vec<u8> {
        self.0.subject_public_key_info()
    }

    /// A certificate request in PEM: no subject, one critical SPIFFE URI, as SPIFFE's X.509 standard wants certificates.
    pub fn request(&self, identity: &Identity) -> Result<String, KeyError> {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name = DistinguishedName::new();
        parameters.subject_alt_names = vec![SanType::URI(identity.to_string().try_into()?)];
        Ok(parameters.serialize_request(&self.0)?.pem()?)
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use x509_parser::prelude::{FromDer, ParsedCriAttribute, ParsedExtension};

    #[test]
    fn asks_for_exactly_its_identity() {
        let identity = Identity::parse("spiffe://cluster.local/ns/default/sa/sleep").unwrap();
        for algorithm in [KeyAlgorithm::P256, KeyAlgorithm::P384] {
            let key = Key::generate(algorithm).unwrap();
            let again = Key::from_pem(&key.pem()).unwrap();
            assert_eq!(key.public_key_info(), again.public_key_info());
            let pem = again.request(&identity).unwrap();
            let blocks = crate::model::pem::blocks(pem.as_bytes(), 1).unwrap();
            let (_, request) =
                x509_parser::certification_request::X509CertificationRequest::from_der(&blocks[0].der).unwrap();
            request.verify_signature().unwrap();
            assert_eq!(request.certification_request_info.subject.iter().count(), 0);
            assert_eq!(
                request.certification_request_info.subject_pki.raw,
                key.public_key_info()
            );
            let [attribute] = request.certification_request_info.attributes() else {
                panic!()
            };
            let ParsedCriAttribute::ExtensionRequest(asked) = attribute.parsed_attribute() else {
                panic!()
            };
            let [extension] = &asked.extensions[..] else { panic!() };
            assert!(extension.critical);
            let ParsedExtension::SubjectAlternativeName(names) = extension.parsed_extension() else {
                panic!()
            };
            assert_eq!(names.general_names.len(), 1);
            assert!(names.general_names[0].to_string().contains(&identity.to_string()));
        }
        let refused = Key::generate(KeyAlgorithm::Rsa(2048)).unwrap_err().to_string();
        assert!(refused.starts_with("RSA-2048 keys cannot be made here"), "{refused}");
    }

    #[test]
    fn says_how_to_convert_other_keys() {
        let error = Key::from_pem("-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n").unwrap_err();
        assert!(error.to_string().contains("openssl pkcs8 -topk8 -nocrypt"), "{error}");
    }

    /// By `openssl ecparam -name secp256k1 -genkey -noout | openssl pkcs8 -topk8 -nocrypt`; converting it would change nothing.
    #[test]
    fn says_which_kinds_of_keys_there_are() {
        let text = "-----BEGIN PRIVATE KEY-----\nMIGEAgEAMBAGByqGSM49AgEGBSuBBAAKBG0wawIBAQQgRBzlgUiySpcql0h9f8IG\noRiNL7fYHr91FgHhh/yq/YChRANCAAT8hBZhmFA8cXoQCUrE4O0BbX1ijM4STV3J\n5ETViIfTZbfg0gqUxcUbPEAwaaEJlpS7v2dNKTEoCSrPsF+ygzeo\n-----END PRIVATE KEY-----\n";
        let error = Key::from_pem(text).unwrap_err().to_string();
        assert!(
            error.contains("make another key") && !error.contains("openssl"),
            "{error}"
        );
    }
}
