//! The CA as it stands at one moment.

use std::sync::Arc;

use super::coverage::Coverage;
use super::link;
use super::rotation::Offer;
use crate::model::key_algorithm::KeyError;
use crate::model::{Bundle, CaCertificate, Fingerprint, Timestamp, Validity};
use crate::platform::crypto::{self, SigningKey};

/// A set of CA files that was found sound: a key, its certificate, what stands between it and a root, and the roots that the files list.
#[derive(Debug)]
pub struct LoadedCa {
    key: SigningKey,
    chain: Vec<CaCertificate>,
    roots: Bundle,
    root: CaCertificate,
}

/// Key, chain and bundle that belong together. Read once per request, so that no answer mixes two generations.
#[derive(Debug)]
pub struct CaSnapshot {
    ca: Arc<LoadedCa>,
    bundle: Bundle,
    generation: u64,
    tail: Vec<String>,
    validity: Validity,
    coverage: Arc<Coverage>,
}

/// Why key, chain and bundle do not make a CA.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// No signer.
    #[error("there is no signing certificate")]
    NoSigner,
    /// No root.
    #[error("none of the roots signed the last certificate of the chain")]
    NoRoot,
    /// The test signature does not verify with the signer's certificate.
    #[error("a test signature by the key does not verify with the signing certificate")]
    TestSignature,
    /// The signer's public key is not on our list.
    #[error("the signing certificate's key: {0}")]
    Key(KeyError),
}

impl LoadedCa {
    /// Puts a CA together. `chain` is the signer first, then each one's issuer, without roots (unless the signer is itself a root);
    /// the callers in this room have checked it. Signs and verifies once before the key is ever used.
    pub fn new(key: SigningKey, chain: Vec<CaCertificate>, roots: Bundle) -> Result<Self, SnapshotError> {
        let top = chain.last().ok_or(SnapshotError::NoSigner)?;
        // Of several that signed it, as a renewed root and the one before did, the one that lasts longest.
        let root = roots.roots().iter().filter(|root| is_signed_by(top, root));
        let root = root
            .max_by_key(|root| root.validity().not_after)
            .ok_or(SnapshotError::NoRoot)?;
        let loaded = Self {
            root: root.clone(),
            key,
            chain,
            roots,
        };
        loaded.test_signature()?;
        Ok(loaded)
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

    /// The roots that its files list.
    pub fn roots(&self) -> &Bundle {
        &self.roots
    }

    /// The root that the chain ends at.
    pub fn root(&self) -> &CaCertificate {
        &self.root
    }

    /// Whether it signs under this root: its own, or the same with other dates (a root that was renewed keeps name and key).
    pub fn is_under(&self, root: &CaCertificate) -> bool {
        self.root == *root || is_same_authority(&self.root, root)
    }

    /// What it means for the roots, seen from the one that signs now.
    pub(super) fn offer(&self, signing: Option<&CaCertificate>) -> Offer {
        Offer {
            root: self.root.fingerprint(),
            roots: self.roots.roots().iter().map(CaCertificate::fingerprint).collect(),
            chain: self.fingerprints(),
            renewal: signing.is_some_and(|signing| is_same_authority(signing, &self.root)),
        }
    }

    /// The chain's certificates by their hash.
    pub(super) fn fingerprints(&self) -> Vec<Fingerprint> {
        self.chain.iter().map(CaCertificate::fingerprint).collect()
    }

    /// When every certificate of the chain is valid, and the root that it ends at.
    pub fn validity(&self) -> Validity {
        common_validity(self.chain.iter().chain([&self.root]))
    }
}

impl CaSnapshot {
    /// A CA that signs under `root`, with the bundle that clients are to trust meanwhile.
    pub(super) fn new(
        ca: Arc<LoadedCa>,
        root: &CaCertificate,
        bundle: Bundle,
        generation: u64,
        coverage: Arc<Coverage>,
    ) -> Self {
        let mut snapshot = Self {
            validity: common_validity(ca.chain.iter().chain([root])),
            ca,
            bundle,
            generation,
            tail: Vec::new(),
            coverage,
        };
        // Intermediates one per element, in issuer order; the whole bundle last, unsplit.
        snapshot.tail = snapshot.intermediates().map(|member| member.pem().to_owned()).collect();
        snapshot.tail.push(snapshot.bundle.pem().to_owned());
        snapshot
    }

    /// A CA that never changes: the bundle is what its files list.
    pub fn fixed(ca: LoadedCa) -> Self {
        let (root, bundle) = (ca.root.clone(), ca.roots.clone());
        Self::new(Arc::new(ca), &root, bundle, 1, Arc::new(Coverage::unlimited()))
    }

    /// What stands between a leaf and its root: the chain without any root.
    pub fn intermediates(&self) -> impl Iterator<Item = &CaCertificate> {
        let is_root = |member: &CaCertificate| self.bundle.roots().iter().any(|root| root.der() == member.der());
        self.chain().iter().filter(move |member| !is_root(member))
    }

    /// The files that it came from.
    pub fn ca(&self) -> &Arc<LoadedCa> {
        &self.ca
    }

    /// The private key.
    pub fn key(&self) -> &SigningKey {
        &self.ca.key
    }

    /// The certificate that signs.
    pub fn signer(&self) -> &CaCertificate {
        self.ca.signer()
    }

    /// The signer and its parents up to, without, a root; a root that signs directly stands here alone.
    pub fn chain(&self) -> &[CaCertificate] {
        &self.ca.chain
    }

    /// The roots that clients are told to trust.
    pub fn bundle(&self) -> &Bundle {
        &self.bundle
    }

    /// Counts, from 1 and over restarts, the times that bundle or signing root changed.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// What follows the leaf in an answer: the intermediates one per element, then the whole bundle.
    pub fn tail(&self) -> &[String] {
        &self.tail
    }

    /// How long the leaves last that may leave.
    pub fn coverage(&self) -> &Arc<Coverage> {
        &self.coverage
    }

    /// The time in which every certificate above a leaf is valid. A leaf lies inside it.
    pub fn validity(&self) -> Validity {
        self.validity
    }
}

fn is_signed_by(top: &CaCertificate, root: &CaCertificate) -> bool {
    top.der() == root.der() || (link::is_named(top, root) && link::check(top, root, "the root").is_ok())
}

fn is_same_authority(one: &CaCertificate, other: &CaCertificate) -> bool {
    one.subject() == other.subject() && one.public_key_info() == other.public_key_info()
}

fn common_validity<'a>(members: impl Iterator<Item = &'a CaCertificate>) -> Validity {
    let all = Validity {
        not_before: Timestamp::from_unix(i64::MIN),
        not_after: Timestamp::from_unix(i64::MAX),
    };
    members
        .map(CaCertificate::validity)
        .fold(all, |common, member| Validity {
            not_before: common.not_before.max(member.not_before),
            not_after: common.not_after.min(member.not_after),
        })
}
