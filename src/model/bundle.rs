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

    /// The roots.
    pub fn roots(&self) -> &[CaCertificate] {
        &self.roots
    }

    /// All roots in PEM, each ended by a newline.
    pub fn pem(&self) -> &str {
        &self.pem
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
        #[test]
        fn no_root_stands_twice_and_the_text_is_theirs(picks in picks()) {
            let bundle = bundle(&picks);
            let mut found = numbers(&bundle);
            let text: String = found.iter().map(|root| ROOTS[*root].pem()).collect();
            prop_assert_eq!(bundle.pem(), text);
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
