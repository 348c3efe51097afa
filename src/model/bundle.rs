//! The trust bundle: the set of roots that clients are to trust, in one stable spelling.

use super::CaCertificate;

/// Roots in the order in which they joined, none twice. Istio's agent compares the text byte by byte and tells Envoy of every difference, so
/// the text depends on nothing but the set and the order of joining.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    roots: Vec<CaCertificate>,
    pem: String,
}

impl Bundle {
    /// A bundle of these roots in this order; repetitions are dropped. `None` when there is none: clients cannot work without a root.
    pub fn new(roots: impl IntoIterator<Item = CaCertificate>) -> Option<Self> {
        let mut unique: Vec<CaCertificate> = Vec::new();
        for root in roots {
            if !unique.iter().any(|known| known.der() == root.der()) {
                unique.push(root);
            }
        }
        let pem = unique.iter().map(CaCertificate::pem).collect();
        (!unique.is_empty()).then_some(Self { roots: unique, pem })
    }

    /// This bundle with the order of `before` kept for every root that was there, and new roots appended: a file whose order changed is no
    /// change to a client.
    pub fn ordered_after(self, before: &Bundle) -> Self {
        let (mut kept, added): (Vec<_>, Vec<_>) =
            self.roots.into_iter().partition(|root| before.position(root).is_some());
        kept.sort_by_key(|root| before.position(root));
        kept.extend(added);
        let pem = kept.iter().map(CaCertificate::pem).collect();
        Self { roots: kept, pem }
    }

    /// The roots.
    pub fn roots(&self) -> &[CaCertificate] {
        &self.roots
    }

    /// All roots in PEM, each ended by a newline.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    fn position(&self, root: &CaCertificate) -> Option<usize> {
        self.roots.iter().position(|known| known.der() == root.der())
    }
}
