//! The rules for `roots`.

use std::collections::BTreeMap;

use super::RootConfigMaps;
use super::check::Checker;
use crate::app::duration;
use crate::app::settings::{self, Settings};
use crate::cluster::Credentials;
use crate::model::{Identity, TrustDomain};
use crate::roots::{self, Expression, LabelSelector, Operator, Selection};

impl Checker {
    /// `Some(None)`: there are none.
    pub(super) fn root_config_maps(
        &mut self,
        settings: &Settings,
        environment: &BTreeMap<String, String>,
    ) -> Option<Option<RootConfigMaps>> {
        let maps = &settings.roots.config_maps;
        let in_cluster = environment.contains_key("KUBERNETES_SERVICE_HOST");
        let has_api_server = in_cluster || settings.authentication.token_review.kubeconfig.is_some();
        let enabled = maps.enabled.unwrap_or(in_cluster);
        if enabled && !has_api_server {
            let finding = "there is no API server to keep ConfigMaps in: give authentication.tokenReview.kubeconfig, or leave it out";
            self.refuse("roots.configMaps.enabled", finding);
        }
        if !is_subdomain(&maps.name) {
            let finding = format!(
                "{:?} is no name of a ConfigMap; istiod's is istio-ca-root-cert",
                maps.name
            );
            self.refuse("roots.configMaps.name", finding);
        }
        let mut selectors = Vec::new();
        for (position, selector) in maps.discovery_selectors.iter().enumerate() {
            let key = format!("roots.configMaps.discoverySelectors[{position}]");
            selectors.extend(self.unless_refused(&key, label_selector(selector)));
        }
        if let Some(name) = &maps.members_of {
            // Any valid trust domain and account do: the namespace is what is looked at.
            let domain = TrustDomain::parse("example.org").ok();
            if let Some(Err(error)) = domain.map(|domain| Identity::new(&domain, name, "any")) {
                self.refuse("roots.configMaps.membersOf", error);
            }
        }
        let arrival = duration::parse(&maps.arrival).map_err(|error| error.to_string());
        let arrival = arrival.and_then(|span| match span.as_secs() {
            0..=3600 => Ok(span),
            _ => Err(format!("{} is more than an hour; kubelets take minutes", maps.arrival)),
        });
        let arrival = self.unless_refused("roots.configMaps.arrival", arrival);
        let writes_per_second = self.within("roots.configMaps.writesPerSecond", maps.writes_per_second, 1..=10_000);
        let distribution = roots::Config {
            name: maps.name.clone(),
            selection: Selection {
                selectors,
                members_of: maps.members_of.clone(),
            },
            take_over: maps.take_over,
            arrival: arrival?,
            writes_per_second,
        };
        let kubeconfig = settings.authentication.token_review.kubeconfig.as_ref();
        let credentials = kubeconfig.map_or(Credentials::Pod, |path| Credentials::Kubeconfig(path.into()));
        Some(enabled.then_some(RootConfigMaps {
            credentials,
            distribution,
            prove_spread: maps.prove_spread,
        }))
    }
}

/// The rules are Kubernetes' own: with a rule that it would not take, nothing would ever match, in silence.
fn label_selector(selector: &settings::LabelSelector) -> Result<LabelSelector, String> {
    let mut labels = BTreeMap::new();
    for (key, value) in &selector.match_labels {
        check_label(key, [value])?;
        labels.insert(key.clone(), value.clone());
    }
    let expressions = selector
        .match_expressions
        .iter()
        .map(expression)
        .collect::<Result<_, _>>()?;
    Ok(LabelSelector { labels, expressions })
}

fn expression(rule: &settings::LabelExpression) -> Result<Expression, String> {
    check_label(&rule.key, &rule.values)?;
    let key = &rule.key;
    let operator = match (rule.operator.as_str(), rule.values.is_empty()) {
        ("In", false) => Operator::In(rule.values.clone()),
        ("NotIn", false) => Operator::NotIn(rule.values.clone()),
        ("Exists", true) => Operator::Exists,
        ("DoesNotExist", true) => Operator::DoesNotExist,
        ("In" | "NotIn", true) => return Err(format!("the rule for {key} has no values; list some")),
        ("Exists" | "DoesNotExist", false) => {
            return Err(format!("the rule for {key} takes no values; leave them out"));
        }
        (other, _) => return Err(format!("{other:?} is none of In, NotIn, Exists, DoesNotExist")),
    };
    Ok(Expression {
        key: key.clone(),
        operator,
    })
}

fn check_label<'a>(key: &str, values: impl IntoIterator<Item = &'a String>) -> Result<(), String> {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    if name.is_empty() || !is_label_text(name) || !prefix.is_none_or(is_subdomain) {
        return Err(format!(
            "{key:?} is no key of a label; write it as example.org/name or name"
        ));
    }
    match values.into_iter().find(|value| !is_label_text(value)) {
        Some(value) => Err(format!(
            "{value:?} is no value of a label; it takes at most 63 letters, digits, '-', '_' and '.'"
        )),
        None => Ok(()),
    }
}

fn is_label_text(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let at_ends = |byte: Option<&u8>| byte.is_none_or(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    bytes.len() <= 63 && bytes.iter().all(|byte| inner(*byte)) && at_ends(bytes.first()) && at_ends(bytes.last())
}

/// RFC 1123, as Kubernetes reads it.
fn is_subdomain(text: &str) -> bool {
    let is_label = |label: &str| {
        let bytes = label.as_bytes();
        let plain = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        bytes.iter().all(|byte| plain(byte) || *byte == b'-')
            && bytes.first().is_some_and(plain)
            && bytes.last().is_some_and(plain)
    };
    text.len() <= 253 && text.split('.').all(is_label)
}
