//! Which namespaces a label selector selects, with the semantics of Kubernetes
//! (`metav1.LabelSelector`): every `matchLabels` entry and every `matchExpressions` entry must hold.
//! Globs on the names of namespaces are in `compile`.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

/// A label selector, checked once. The empty selector selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Selector {
    terms: Vec<Term>,
}

/// One thing that the labels must fulfil.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Term {
    key: String,
    demand: Demand,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Demand {
    In(BTreeSet<String>),
    NotIn(BTreeSet<String>),
    Exists,
    DoesNotExist,
}

/// Why a selector cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SelectorError {
    /// The part of the selector, as `matchExpressions[0].operator`.
    pub(crate) part: String,
    /// What is there.
    pub(crate) found: String,
    /// What belongs there.
    pub(crate) expected: &'static str,
}

impl Selector {
    /// Checks the selector; an operator that this version does not know is an error, never skipped.
    pub(crate) fn compile(selector: &LabelSelector) -> Result<Self, SelectorError> {
        let mut terms = Vec::new();
        for (key, value) in selector.match_labels.iter().flatten() {
            check_key(key, || "matchLabels".to_owned())?;
            terms.push(Term {
                key: key.clone(),
                demand: Demand::In(BTreeSet::from([value.clone()])),
            });
        }
        for (at, expression) in selector.match_expressions.iter().flatten().enumerate() {
            let part = format!("matchExpressions[{at}]");
            check_key(&expression.key, || format!("{part}.key"))?;
            terms.push(Term {
                key: expression.key.clone(),
                demand: demand(expression, &part)?,
            });
        }
        Ok(Self { terms })
    }

    /// Whether every term holds for these labels.
    pub(crate) fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        self.terms.iter().all(|term| term.holds(labels.get(&term.key)))
    }
}

impl Term {
    /// `NotIn` holds where the label is absent, as in Kubernetes.
    fn holds(&self, value: Option<&String>) -> bool {
        match &self.demand {
            Demand::In(values) => value.is_some_and(|value| values.contains(value)),
            Demand::NotIn(values) => !value.is_some_and(|value| values.contains(value)),
            Demand::Exists => value.is_some(),
            Demand::DoesNotExist => value.is_none(),
        }
    }
}

fn check_key(key: &str, part: impl FnOnce() -> String) -> Result<(), SelectorError> {
    if key.is_empty() {
        return Err(SelectorError {
            part: part(),
            found: "an empty key".into(),
            expected: "the key of a label",
        });
    }
    Ok(())
}

fn demand(expression: &LabelSelectorRequirement, part: &str) -> Result<Demand, SelectorError> {
    let values: BTreeSet<String> = expression.values.iter().flatten().cloned().collect();
    let refuse = |field: &str, found: String, expected| {
        Err(SelectorError {
            part: format!("{part}.{field}"),
            found,
            expected,
        })
    };
    match (expression.operator.as_str(), values.is_empty()) {
        ("In", false) => Ok(Demand::In(values)),
        ("NotIn", false) => Ok(Demand::NotIn(values)),
        ("Exists", true) => Ok(Demand::Exists),
        ("DoesNotExist", true) => Ok(Demand::DoesNotExist),
        ("In" | "NotIn", true) => refuse("values", "no value".into(), "at least one value for In and NotIn"),
        ("Exists" | "DoesNotExist", false) => {
            refuse("values", "values".into(), "no values for Exists and DoesNotExist")
        }
        (other, _) => refuse(
            "operator",
            format!("{other:?}"),
            "In, NotIn, Exists or DoesNotExist",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    fn expression(key: &str, operator: &str, values: &[&str]) -> LabelSelectorRequirement {
        LabelSelectorRequirement {
            key: key.to_owned(),
            operator: operator.to_owned(),
            values: (!values.is_empty()).then(|| values.iter().map(|value| (*value).to_owned()).collect()),
        }
    }

    fn by_expression(key: &str, operator: &str, values: &[&str]) -> Result<Selector, SelectorError> {
        Selector::compile(&LabelSelector {
            match_expressions: Some(vec![expression(key, operator, values)]),
            ..LabelSelector::default()
        })
    }

    #[test]
    fn the_empty_selector_selects_every_namespace() {
        let selector = Selector::compile(&LabelSelector::default()).unwrap();
        assert!(selector.selects(&labels(&[])));
        assert!(selector.selects(&labels(&[("env", "prod")])));
    }

    #[test]
    fn labels_and_expressions_must_all_hold() {
        let selector = Selector::compile(&LabelSelector {
            match_labels: Some(labels(&[("env", "prod"), ("team", "shop")])),
            match_expressions: Some(vec![expression("tier", "Exists", &[])]),
        })
        .unwrap();
        assert!(selector.selects(&labels(&[("env", "prod"), ("team", "shop"), ("tier", "1")])));
        assert!(!selector.selects(&labels(&[("env", "prod"), ("team", "shop")])));
        assert!(!selector.selects(&labels(&[("env", "prod"), ("tier", "1")])));
        assert!(!selector.selects(&labels(&[("env", "test"), ("team", "shop"), ("tier", "1")])));
    }

    /// The table of Kubernetes: the operator, the label, whether it is selected.
    #[test]
    fn operators_mean_what_they_mean_in_kubernetes() {
        let cases: [(&str, &[&str], Option<&str>, bool); 12] = [
            ("In", &["a", "b"], Some("a"), true),
            ("In", &["a", "b"], Some("c"), false),
            ("In", &["a", "b"], None, false),
            ("NotIn", &["a", "b"], Some("a"), false),
            ("NotIn", &["a", "b"], Some("c"), true),
            ("NotIn", &["a", "b"], None, true),
            ("Exists", &[], Some(""), true),
            ("Exists", &[], None, false),
            ("DoesNotExist", &[], Some("x"), false),
            ("DoesNotExist", &[], None, true),
            ("In", &[""], Some(""), true),
            ("In", &[""], None, false),
        ];
        for (operator, values, value, selected) in cases {
            let selector = by_expression("env", operator, values).unwrap();
            let labels = labels(&value.map(|value| ("env", value)).into_iter().collect::<Vec<_>>());
            assert_eq!(
                selector.selects(&labels),
                selected,
                "{operator} {values:?} on {value:?}"
            );
        }
    }

    #[test]
    fn an_expression_that_cannot_be_read_is_refused_and_its_part_is_named() {
        let cases: [(&str, &str, &[&str], &str); 6] = [
            ("env", "in", &["a"], "matchExpressions[0].operator"),
            ("env", "Gt", &["1"], "matchExpressions[0].operator"),
            ("env", "In", &[], "matchExpressions[0].values"),
            ("env", "NotIn", &[], "matchExpressions[0].values"),
            ("env", "Exists", &["a"], "matchExpressions[0].values"),
            ("", "Exists", &[], "matchExpressions[0].key"),
        ];
        for (key, operator, values, part) in cases {
            assert_eq!(
                by_expression(key, operator, values).unwrap_err().part,
                part,
                "{key} {operator}"
            );
        }
    }
}
