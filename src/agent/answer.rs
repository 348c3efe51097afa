//! Is the CA's answer a certificate that a workload can use? The rules are ztunnel's, the strictest of Istio's clients
//! (`src/tls/certificate.rs` there), and one more: the chain must verify.

use std::time::Duration;

use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, KeyUsage};
use x509_parser::prelude::{FromDer, GeneralName, ParsedExtension, X509Certificate};
use zeroize::Zeroizing;

use super::key::Key;
use crate::model::{Identity, Timestamp, Validity, pem};

/// Most certificates in one element of an answer.
const MOST_CERTIFICATES: usize = 100;

/// A certificate that was checked, with its key and everything around it.
pub struct Certificate {
    /// The private key, PKCS#8 and PEM.
    pub key: Zeroizing<String>,
    /// Leaf, then intermediates, one PEM block each; never a root.
    pub chain: Vec<String>,
    /// The roots that the CA says to trust, as it wrote them.
    pub bundle: String,
    /// Who it is for.
    pub identity: Identity,
    /// The leaf's serial number in upper-case hexadecimal.
    pub serial: String,
    /// The leaf's lifetime.
    pub validity: Validity,
    /// The subject of the certificate that signed the leaf.
    pub issuer: String,
}

/// Why an answer cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum AnswerError {
    /// Leaf and roots do not both fit in.
    #[error("it has {0} elements; at least two are needed, the certificate first and the roots last")]
    TooShort(usize),
    /// Broken PEM.
    #[error("element {element} is not PEM: {why}")]
    Pem {
        /// From 0.
        element: usize,
        /// The finding.
        why: String,
    },
    /// Something else than a certificate.
    #[error("element {0} holds something else than certificates")]
    NotCertificates(usize),
    /// The leaf cannot be read.
    #[error("the certificate cannot be read: {0}")]
    Unreadable(String),
    /// For another key.
    #[error("the certificate is for another key than ours")]
    OtherKey,
    /// Not exactly one URI.
    #[error("the certificate has {0} URI names; exactly one is an identity")]
    Names(usize),
    /// For somebody else.
    #[error("the certificate is for {found}, not for {wanted}")]
    OtherIdentity {
        /// What it says.
        found: String,
        /// What was asked for.
        wanted: Identity,
    },
    /// No usable root.
    #[error("none of the roots can be used: {0}")]
    NoRoot(String),
    /// The chain does not hold.
    #[error("the chain does not verify for {usage} use: {why}")]
    Chain {
        /// Client or server.
        usage: &'static str,
        /// The finding.
        why: String,
    },
}

/// Checks an answer to a request of `key` for `wanted`. Takes both spellings of a chain: one certificate an element (istiod since 1.24.4),
/// and several in one.
pub fn check_answer(
    elements: &[String],
    key: &Key,
    wanted: &Identity,
    now: Timestamp,
) -> Result<Certificate, AnswerError> {
    let [chain @ .., bundle] = elements else {
        return Err(AnswerError::TooShort(0));
    };
    if chain.is_empty() {
        return Err(AnswerError::TooShort(1));
    }
    let mut certificates = Vec::new();
    for (position, element) in chain.iter().enumerate() {
        certificates.extend(read(position, element)?);
    }
    let roots = read(chain.len(), bundle)?;
    let leaf = certificates.remove(0);
    certificates.retain(|certificate| !roots.contains(certificate));
    let facts = leaf_facts(&leaf, key, wanted)?;
    verify(&leaf, &certificates, &roots, now)?;
    Ok(Certificate {
        key: key.pem(),
        chain: std::iter::once(&leaf)
            .chain(&certificates)
            .map(|der| pem::certificate(der))
            .collect(),
        bundle: bundle.clone(),
        identity: wanted.clone(),
        serial: facts.0,
        validity: facts.1,
        issuer: facts.2,
    })
}

fn read(element: usize, text: &str) -> Result<Vec<CertificateDer<'static>>, AnswerError> {
    let blocks = pem::blocks(text.as_bytes(), MOST_CERTIFICATES).map_err(|error| AnswerError::Pem {
        element,
        why: error.to_string(),
    })?;
    blocks
        .into_iter()
        .map(|block| match block.label.as_str() {
            pem::CERTIFICATE => Ok(CertificateDer::from(block.der.to_vec())),
            _ => Err(AnswerError::NotCertificates(element)),
        })
        .collect()
}

fn leaf_facts(
    leaf: &CertificateDer<'_>,
    key: &Key,
    wanted: &Identity,
) -> Result<(String, Validity, String), AnswerError> {
    let (_, parsed) = X509Certificate::from_der(leaf).map_err(|error| AnswerError::Unreadable(error.to_string()))?;
    if parsed.public_key().raw != key.public_key_info() {
        return Err(AnswerError::OtherKey);
    }
    let uris: Vec<&str> = parsed
        .extensions()
        .iter()
        .filter_map(|extension| match extension.parsed_extension() {
            ParsedExtension::SubjectAlternativeName(names) => Some(&names.general_names),
            _ => None,
        })
        .flatten()
        .filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        })
        .collect();
    let [uri] = uris[..] else {
        return Err(AnswerError::Names(uris.len()));
    };
    if uri != wanted.to_string() {
        return Err(AnswerError::OtherIdentity {
            found: uri.chars().take(300).collect(),
            wanted: wanted.clone(),
        });
    }
    let validity = Validity {
        not_before: Timestamp::from_unix(parsed.validity().not_before.timestamp()),
        not_after: Timestamp::from_unix(parsed.validity().not_after.timestamp()),
    };
    let serial = parsed.raw_serial().iter().map(|byte| format!("{byte:02X}")).collect();
    Ok((serial, validity, parsed.issuer().to_string()))
}

/// Roots that webpki cannot use are passed over, as ztunnel does; at least one must remain.
fn verify(
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    roots: &[CertificateDer<'_>],
    now: Timestamp,
) -> Result<(), AnswerError> {
    let mut anchors = Vec::new();
    let mut unusable = String::new();
    for root in roots {
        match webpki::anchor_from_trusted_cert(root) {
            Ok(anchor) => anchors.push(anchor),
            Err(error) => unusable = error.to_string(),
        }
    }
    if anchors.is_empty() {
        return Err(AnswerError::NoRoot(unusable));
    }
    let leaf = EndEntityCert::try_from(leaf).map_err(|error| AnswerError::Unreadable(error.to_string()))?;
    let time = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(now.unix()).unwrap_or(0)));
    for (usage, purpose) in [("client", KeyUsage::client_auth()), ("server", KeyUsage::server_auth())] {
        leaf.verify_for_usage(
            webpki::ALL_VERIFICATION_ALGS,
            &anchors,
            intermediates,
            time,
            purpose,
            None,
            None,
        )
        .map_err(|error| AnswerError::Chain {
            usage,
            why: error.to_string(),
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::KeyAlgorithm;
    use rcgen::{
        BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, PKCS_ED25519,
        SanType, SubjectPublicKeyInfo,
    };

    const NOW: Timestamp = Timestamp::from_unix(1_800_000_000);

    /// A CA of three levels that makes whatever answer a test wants.
    struct Ca {
        key: Key,
        wanted: Identity,
        root: String,
        intermediate: String,
        issuer: Issuer<'static, KeyPair>,
    }

    fn authority(name: &str) -> CertificateParams {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters
    }

    impl Ca {
        fn new() -> Self {
            let keys = [KeyPair::generate().unwrap(), KeyPair::generate().unwrap()];
            let root = authority("root").self_signed(&keys[0]).unwrap().pem();
            let [root_key, key] = keys;
            let intermediate = authority("intermediate")
                .signed_by(&key, &Issuer::new(authority("root"), root_key))
                .unwrap()
                .pem();
            Self {
                key: Key::generate(KeyAlgorithm::P256).unwrap(),
                wanted: Identity::parse("spiffe://cluster.local/ns/default/sa/sleep").unwrap(),
                root,
                intermediate,
                issuer: Issuer::new(authority("intermediate"), key),
            }
        }

        fn leaf(&self, change: impl FnOnce(&mut CertificateParams)) -> String {
            self.leaf_for(&self.key.public_key_info(), change)
        }

        fn leaf_for(&self, public_key: &[u8], change: impl FnOnce(&mut CertificateParams)) -> String {
            let mut parameters = CertificateParams::default();
            parameters.distinguished_name = rcgen::DistinguishedName::new();
            parameters.subject_alt_names = vec![SanType::URI(self.wanted.to_string().try_into().unwrap())];
            parameters.extended_key_usages =
                vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
            change(&mut parameters);
            let key = SubjectPublicKeyInfo::from_der(public_key).unwrap();
            parameters.signed_by(&key, &self.issuer).unwrap().pem()
        }

        fn check(&self, elements: &[&str]) -> Result<Certificate, AnswerError> {
            let elements: Vec<String> = elements.iter().map(|element| (*element).to_owned()).collect();
            check_answer(&elements, &self.key, &self.wanted, NOW)
        }

        fn refusal(&self, elements: &[&str]) -> AnswerError {
            self.check(elements).err().expect("it was accepted")
        }

        fn refusal_of(&self, change: impl FnOnce(&mut CertificateParams)) -> AnswerError {
            self.refusal(&[&self.leaf(change), &self.intermediate, &self.root])
        }
    }

    #[test]
    fn both_spellings_of_a_chain() {
        let ca = Ca::new();
        let leaf = ca.leaf(|_| ());
        let joined = format!("{leaf}{}", ca.intermediate);
        let with_root = format!("{}{}", ca.intermediate, ca.root);
        for elements in [
            &[&leaf[..], &ca.intermediate, &ca.root][..],
            &[&joined, &ca.root],
            &[&leaf, &with_root, &ca.root],
            &[leaf.trim_end(), &ca.intermediate, &ca.root],
        ] {
            let certificate = ca.check(elements).unwrap();
            assert_eq!(certificate.chain.len(), 2, "{elements:?}");
            assert_eq!(certificate.bundle, ca.root);
            assert_eq!(certificate.issuer, "CN=intermediate");
            assert_eq!(
                Key::from_pem(&certificate.key).unwrap().public_key_info(),
                ca.key.public_key_info()
            );
        }
    }

    #[test]
    fn shape() {
        let ca = Ca::new();
        let leaf = ca.leaf(|_| ());
        assert_eq!(ca.refusal(&[]), AnswerError::TooShort(0));
        assert_eq!(ca.refusal(&[&leaf]), AnswerError::TooShort(1));
        assert!(matches!(
            ca.refusal(&["", &ca.root]),
            AnswerError::Pem { element: 0, .. }
        ));
        assert!(matches!(
            ca.refusal(&[&leaf, "garbage", &ca.root]),
            AnswerError::Pem { element: 1, .. }
        ));
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap().serialize_pem();
        assert_eq!(ca.refusal(&[&leaf, &key]), AnswerError::NotCertificates(1));
    }

    #[test]
    fn whose_it_is() {
        let ca = Ca::new();
        let other = Key::generate(KeyAlgorithm::P256).unwrap();
        let leaf = ca.leaf_for(&other.public_key_info(), |_| ());
        assert_eq!(ca.refusal(&[&leaf, &ca.intermediate, &ca.root]), AnswerError::OtherKey);
        let stranger = "spiffe://cluster.local/ns/default/sa/admin";
        let uri = |uri: &str| SanType::URI(uri.try_into().unwrap());
        assert_eq!(
            ca.refusal_of(|leaf| leaf.subject_alt_names = vec![uri(stranger)]),
            AnswerError::OtherIdentity {
                found: stranger.into(),
                wanted: ca.wanted.clone(),
            }
        );
        assert_eq!(
            ca.refusal_of(|leaf| leaf.subject_alt_names.push(uri(stranger))),
            AnswerError::Names(2)
        );
        assert_eq!(
            ca.refusal_of(|leaf| leaf.subject_alt_names.clear()),
            AnswerError::Names(0)
        );
    }

    #[test]
    fn chain() {
        let ca = Ca::new();
        let leaf = ca.leaf(|_| ());
        let stranger = Ca::new();
        for elements in [
            [&leaf[..], &stranger.intermediate, &ca.root],
            [&leaf, &ca.intermediate, &stranger.root],
        ] {
            assert!(matches!(
                ca.refusal(&elements),
                AnswerError::Chain { usage: "client", .. }
            ));
        }
        let past = rcgen::date_time_ymd(2026, 1, 1);
        let future = rcgen::date_time_ymd(2028, 1, 1);
        for refusal in [
            ca.refusal_of(|leaf| leaf.not_after = past),
            ca.refusal_of(|leaf| leaf.not_before = future),
            ca.refusal_of(|leaf| leaf.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)),
            ca.refusal_of(|leaf| leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]),
        ] {
            assert!(
                matches!(refusal, AnswerError::Chain { usage: "client", .. }),
                "{refusal}"
            );
        }
        let refusal = ca.refusal_of(|leaf| leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]);
        assert!(
            matches!(refusal, AnswerError::Chain { usage: "server", .. }),
            "{refusal}"
        );
    }
}
