//! The CA as it stands at one moment.

use super::link;
use crate::model::key_algorithm::KeyError;
use crate::model::{Bundle, CaCertificate, Timestamp, Validity};
use crate::platform::crypto::{self, SigningKey};

/// Key, chain and bundle that belong together. Read once per request, so that no answer mixes two generations.
#[derive(Debug)]
pub struct CaSnapshot {
    key: SigningKey,
    chain: Vec<CaCertificate>,
    bundle: Bundle,
    generation: u64,
    tail: Vec<String>,
    validity: Validity,
}

/// Why key, chain and bundle do not make a CA.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// No signer.
    #[error("there is no signing certificate")]
    NoSigner,
    /// The test signature does not verify with the signer's certificate.
    #[error("a test signature by the key does not verify with the signing certificate")]
    TestSignature,
    /// The signer's public key is not on our list.
    #[error("the signing certificate's key: {0}")]
    Key(KeyError),
}

impl CaSnapshot {
    /// Puts a CA together. `chain` is the signer first, then each one's issuer, without roots (unless the signer is itself a root);
    /// the callers in this room have checked it. Signs and verifies once before the key is ever used.
    pub fn new(
        key: SigningKey,
        chain: Vec<CaCertificate>,
        bundle: Bundle,
        generation: u64,
    ) -> Result<Self, SnapshotError> {
        if chain.is_empty() {
            return Err(SnapshotError::NoSigner);
        }
        let validity = common_validity(&chain, &bundle);
        let mut snapshot = Self {
            key,
            chain,
            bundle,
            generation,
            tail: Vec::new(),
            validity,
        };
        // Intermediates one per element, in issuer order; the whole bundle last, unsplit.
        snapshot.tail = snapshot.intermediates().map(|member| member.pem().to_owned()).collect();
        snapshot.tail.push(snapshot.bundle.pem().to_owned());
        snapshot.test_signature()?;
        Ok(snapshot)
    }

    /// Signs something and verifies it with the signing certificate: does this key still do its work?
    pub fn test_signature(&self) -> Result<(), SnapshotError> {
        let probe = b"countersign test signature";
        let (algorithm, public_key) =
            crypto::public_key(self.signer().public_key_info()).map_err(SnapshotError::Key)?;
        let signature = self.key.sign(probe).map_err(|_| SnapshotError::TestSignature)?;
        if crypto::verify(
            algorithm,
            &public_key,
            self.key.signature_algorithm(),
            probe,
            &signature,
        ) {
            Ok(())
        } else {
            Err(SnapshotError::TestSignature)
        }
    }

    /// What stands between a leaf and its root: the chain without any root.
    pub fn intermediates(&self) -> impl Iterator<Item = &CaCertificate> {
        let is_root = |member: &CaCertificate| self.bundle.roots().iter().any(|root| root.der() == member.der());
        self.chain.iter().filter(move |member| !is_root(member))
    }

    /// The private key.
    pub fn key(&self) -> &SigningKey {
        &self.key
    }

    /// The certificate that signs.
    pub fn signer(&self) -> &CaCertificate {
        &self.chain[0]
    }

    /// The signer and its parents up to, without, a root; a root that signs directly stands here alone.
    pub fn chain(&self) -> &[CaCertificate] {
        &self.chain
    }

    /// The roots that clients are told to trust.
    pub fn bundle(&self) -> &Bundle {
        &self.bundle
    }

    /// Counts up with every change within one process, from 1.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// What follows the leaf in an answer: the intermediates one per element, then the whole bundle.
    pub fn tail(&self) -> &[String] {
        &self.tail
    }

    /// The time in which every certificate above a leaf is valid: the chain, and the root that it ends at (of several that signed its last
    /// member, as a renewed root did, the one that lasts longest). A leaf lies inside it.
    pub fn validity(&self) -> Validity {
        self.validity
    }
}

fn common_validity(chain: &[CaCertificate], bundle: &Bundle) -> Validity {
    let signed_top = |root: &CaCertificate| {
        chain.last().is_some_and(|top| {
            top.der() == root.der() || (link::is_named(top, root) && link::check(top, root, "the root").is_ok())
        })
    };
    let root = bundle
        .roots()
        .iter()
        .filter(|root| signed_top(root))
        .map(CaCertificate::validity);
    let root = root.max_by_key(|validity| validity.not_after);
    let members = || chain.iter().map(CaCertificate::validity).chain(root);
    Validity {
        not_before: members()
            .map(|validity| validity.not_before)
            .max()
            .unwrap_or(Timestamp::from_unix(i64::MAX)),
        not_after: members()
            .map(|validity| validity.not_after)
            .min()
            .unwrap_or(Timestamp::from_unix(i64::MIN)),
    }
}
