//! Which namespaces get the roots.
//!
//! Takes: a namespace as the API server has it. Gives: yes or no. Pure.

use std::collections::BTreeMap;

use crate::cluster::Namespace;

/// Namespaces of Kubernetes' own and of local test clusters, which hold no workloads; istiod passes over the same ones (Istio:
/// `inject.IgnoredNamespaces` without `kube-system`, where node proxies run).
const IGNORED: [&str; 3] = ["kube-public", "kube-node-lease", "local-path-storage"];

/// OpenShift Service Mesh puts it on the namespaces that belong to a mesh; its value is the namespace of the control plane.
const MEMBER_OF: &str = "maistra.io/member-of";

/// The rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// One of these must match; none at all means every namespace.
    pub selectors: Vec<LabelSelector>,
    /// Only the members of the mesh with this control plane, and the control plane's own namespace.
    pub members_of: Option<String>,
}

/// Kubernetes' `LabelSelector`: all of its parts must match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector {
    /// These labels, with these values.
    pub labels: BTreeMap<String, String>,
    /// And these rules.
    pub expressions: Vec<Expression>,
}

/// A rule for one label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expression {
    /// The label.
    pub key: String,
    /// What must be true of it.
    pub operator: Operator,
}

/// What must be true of a label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operator {
    /// It is there, with one of these values.
    In(Vec<String>),
    /// It is not there, or with another value.
    NotIn(Vec<String>),
    /// It is there.
    Exists,
    /// It is not there.
    DoesNotExist,
}

impl Selection {
    /// Whether a namespace gets the roots.
    pub fn takes(&self, namespace: &Namespace) -> bool {
        let name = namespace.name.as_str();
        let is_member = |mesh: &String| namespace.labels.get(MEMBER_OF) == Some(mesh) || name == mesh;
        !namespace.terminating
            && !IGNORED.contains(&name)
            && self.members_of.as_ref().is_none_or(is_member)
            && (self.selectors.is_empty()
                || self
                    .selectors
                    .iter()
                    .any(|selector| selector.matches(&namespace.labels)))
    }
}

impl LabelSelector {
    fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.labels.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self.expressions.iter().all(|rule| rule.matches(labels.get(&rule.key)))
    }
}

impl Expression {
    fn matches(&self, value: Option<&String>) -> bool {
        match &self.operator {
            Operator::In(values) => value.is_some_and(|value| values.contains(value)),
            Operator::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn namespace(name: &str, labels: &[(&str, &str)]) -> Namespace {
        Namespace {
            name: name.into(),
            labels: labels
                .iter()
                .map(|(key, value)| ((*key).into(), (*value).into()))
                .collect(),
            terminating: false,
        }
    }

    fn rule(key: &str, operator: Operator) -> LabelSelector {
        LabelSelector {
            labels: BTreeMap::new(),
            expressions: vec![Expression {
                key: key.into(),
                operator,
            }],
        }
    }

    fn takes(selectors: &[LabelSelector], labels: &[(&str, &str)]) -> bool {
        let selectors = selectors.to_vec();
        let members_of = None;
        Selection { selectors, members_of }.takes(&namespace("a", labels))
    }

    #[test]
    fn without_a_selector_all_but_those_without_workloads() {
        let all = Selection::default();
        for (name, taken) in [
            ("default", true),
            ("kube-system", true),
            ("kube-public", false),
            ("kube-node-lease", false),
            ("local-path-storage", false),
        ] {
            assert_eq!(all.takes(&namespace(name, &[])), taken, "{name}");
        }
        let mut ending = namespace("a", &[]);
        ending.terminating = true;
        assert!(!all.takes(&ending));
    }

    #[test]
    fn one_selector_is_enough_and_all_its_parts_must_match() {
        let prod = LabelSelector {
            labels: BTreeMap::from([("env".into(), "prod".into()), ("mesh".into(), "on".into())]),
            expressions: vec![Expression {
                key: "skip".into(),
                operator: Operator::DoesNotExist,
            }],
        };
        let either = [prod, rule("extra", Operator::Exists)];
        assert!(takes(&either, &[("env", "prod"), ("mesh", "on")]));
        assert!(takes(&either, &[("extra", "")]));
        for labels in [
            &[][..],
            &[("env", "prod")],
            &[("env", "prod"), ("mesh", "off")],
            &[("env", "prod"), ("mesh", "on"), ("skip", "")],
        ] {
            assert!(!takes(&either, labels), "{labels:?}");
        }
    }

    #[test]
    fn operators_mean_what_kubernetes_means() {
        let values = || vec!["a".to_owned(), "b".to_owned()];
        for (operator, absent, a, c) in [
            (Operator::In(values()), false, true, false),
            (Operator::NotIn(values()), true, false, true),
            (Operator::Exists, false, true, true),
            (Operator::DoesNotExist, true, false, false),
        ] {
            let selector = [rule("key", operator.clone())];
            assert_eq!(takes(&selector, &[]), absent, "{operator:?} without the label");
            assert_eq!(takes(&selector, &[("key", "a")]), a, "{operator:?} of a");
            assert_eq!(takes(&selector, &[("key", "c")]), c, "{operator:?} of c");
        }
    }

    #[test]
    fn members_only() {
        let selection = Selection {
            selectors: vec![rule("skip", Operator::DoesNotExist)],
            members_of: Some("istio-system".into()),
        };
        for (name, labels, taken) in [
            ("a", &[(MEMBER_OF, "istio-system")][..], true),
            ("a", &[(MEMBER_OF, "other-mesh")], false),
            ("a", &[], false),
            ("a", &[(MEMBER_OF, "istio-system"), ("skip", "")], false),
            ("istio-system", &[], true),
        ] {
            assert_eq!(selection.takes(&namespace(name, labels)), taken, "{name} {labels:?}");
        }
    }
}
