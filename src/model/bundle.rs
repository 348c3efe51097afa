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

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;

    use super::*;

    /// Six roots; only their bytes matter.
    static ROOTS: LazyLock<Vec<CaCertificate>> = LazyLock::new(|| {
        let root = |number| {
            let key = rcgen::KeyPair::generate().unwrap();
            let mut parameters = rcgen::CertificateParams::default();
            parameters
                .distinguished_name
                .push(rcgen::DnType::CommonName, format!("root {number}"));
            parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            CaCertificate::parse(parameters.self_signed(&key).unwrap().der()).unwrap()
        };
        (0..6).map(root).collect()
    });

    fn bundle(picks: &[usize]) -> Bundle {
        Bundle::new(picks.iter().map(|pick| ROOTS[*pick].clone())).unwrap()
    }

    /// Which roots stand there, by number.
    fn numbers(bundle: &Bundle) -> Vec<usize> {
        let number = |root: &CaCertificate| ROOTS.iter().position(|known| known == root).unwrap();
        bundle.roots().iter().map(number).collect()
    }

    fn picks() -> impl Strategy<Value = Vec<usize>> {
        prop::collection::vec(0..6_usize, 1..9)
    }

    proptest! {
        /// Conformance lines 28 and 29: the text is the roots' PEM one after the other, and changes only when the set does.
        #[test]
        fn order_changes_only_with_the_set(before in picks(), after in picks()) {
            let (before, plain) = (bundle(&before), bundle(&after));
            let ordered = plain.clone().ordered_after(&before);
            let (old, new, plain) = (numbers(&before), numbers(&ordered), numbers(&plain));
            let kept: Vec<_> = old.iter().filter(|root| plain.contains(root)).copied().collect();
            let added: Vec<_> = plain.iter().filter(|root| !old.contains(root)).copied().collect();
            prop_assert_eq!(&new, &[kept, added].concat(), "what stays keeps its place, what is new is appended");
            let text: String = new.iter().map(|root| ROOTS[*root].pem()).collect();
            prop_assert_eq!(ordered.pem(), text);
            let same_set = old.len() == new.len() && old.iter().all(|root| new.contains(root));
            prop_assert_eq!(ordered.pem() == before.pem(), same_set);
        }

        #[test]
        fn no_root_stands_twice(picks in picks()) {
            let mut found = numbers(&bundle(&picks));
            found.sort_unstable();
            let mut unique = picks;
            unique.sort_unstable();
            unique.dedup();
            prop_assert_eq!(found, unique);
        }
    }

    #[test]
    fn none_is_empty() {
        assert_eq!(Bundle::new([]), None);
    }
}
