//! Who else writes an object: a controller that applies what Git holds puts back what is changed here, so the change
//! belongs into Git. Pure.

use std::fmt;

use kube::Resource;
use kube::api::ObjectMeta;
use serde::Serialize;
use serde_json::{Value, json};

/// Labels and annotations by which Argo CD and Flux mark what they apply.
const MARKS: [(&str, &str); 4] = [
    ("argocd.argoproj.io/tracking-id", "Argo CD"),
    ("argocd.argoproj.io/instance", "Argo CD"),
    ("kustomize.toolkit.fluxcd.io/name", "Flux (Kustomization)"),
    ("helm.toolkit.fluxcd.io/name", "Flux (HelmRelease)"),
];
/// What the API server or kubectl noted, and nobody writes into Git.
const NOT_WRITTEN: [&str; 1] = ["kubectl.kubernetes.io/last-applied-configuration"];

/// A controller that applies an object, and how that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Manager {
    name: String,
    sign: String,
}

impl fmt::Display for Manager {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} ({})", self.name, self.sign)
    }
}

/// The controller that applies the object, or this field of its spec.
pub(super) fn manager(metadata: &ObjectMeta, field: &str) -> Option<Manager> {
    let of_field = metadata.managed_fields.iter().flatten().find_map(|entry| {
        let name = known_manager(entry.manager.as_deref()?)?;
        let owns = &entry.fields_v1.as_ref()?.0["f:spec"];
        let owned = !owns[format!("f:{field}")].is_null();
        owned.then(|| Manager {
            name: name.to_owned(),
            sign: format!(
                "spec.{field} is managed by {}",
                entry.manager.as_deref().unwrap_or_default()
            ),
        })
    });
    let marks = metadata.labels.iter().chain(&metadata.annotations).flatten();
    let mut marks = marks.filter_map(|(key, value)| {
        let (_, name) = MARKS.iter().find(|(mark, _)| mark == key)?;
        Some(Manager {
            name: (*name).to_owned(),
            sign: format!("{key}: {value}"),
        })
    });
    of_field.or_else(|| marks.next())
}

fn known_manager(manager: &str) -> Option<&'static str> {
    match manager {
        "kustomize-controller" => Some("Flux (Kustomization)"),
        "helm-controller" => Some("Flux (HelmRelease)"),
        _ if manager.starts_with("argocd") || manager.starts_with("argo-cd") => Some("Argo CD"),
        _ => None,
    }
}

/// The object as a person would write it: without status, and without what others noted about it.
pub(super) fn manifest<K: Resource<DynamicType = ()> + Serialize>(object: &K) -> Value {
    let written = serde_json::to_value(object).unwrap_or_default();
    let metadata = object.meta();
    let mut kept = json!({"name": metadata.name});
    let is_written =
        |key: &String| !NOT_WRITTEN.contains(&key.as_str()) && MARKS.iter().all(|(mark, _)| mark != key);
    for (field, entries) in [
        ("labels", &metadata.labels),
        ("annotations", &metadata.annotations),
    ] {
        let entries: serde_json::Map<String, Value> = entries
            .iter()
            .flatten()
            .filter(|(key, _)| is_written(key))
            .map(|(key, value)| (key.clone(), Value::from(value.as_str())))
            .collect();
        if !entries.is_empty() {
            kept[field] = Value::Object(entries);
        }
    }
    json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        "metadata": kept,
        "spec": written["spec"],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(value: Value) -> ObjectMeta {
        serde_json::from_value(value).unwrap()
    }

    fn managed_by(manager: &str, fields: Value) -> ObjectMeta {
        metadata(json!({"managedFields": [{
            "manager": manager, "operation": "Apply", "fieldsType": "FieldsV1", "fieldsV1": fields,
        }]}))
    }

    #[test]
    fn who_owns_the_field_is_told_and_who_owns_another_one_is_not() {
        let stage = json!({"f:spec": {"f:stage": {}}});
        for (name, expected) in [
            ("argocd-controller", "Argo CD"),
            ("argocd-application-controller", "Argo CD"),
            ("kustomize-controller", "Flux (Kustomization)"),
            ("helm-controller", "Flux (HelmRelease)"),
        ] {
            let found = manager(&managed_by(name, stage.clone()), "stage").unwrap();
            assert!(found.to_string().starts_with(expected), "{found}");
            assert_eq!(manager(&managed_by(name, stage.clone()), "mode"), None);
        }
        assert_eq!(
            manager(&managed_by("kubectl-client-side-apply", stage), "stage"),
            None
        );
    }

    #[test]
    fn the_marks_of_argo_cd_and_flux_are_signs_as_well() {
        for (mark, _) in MARKS {
            for place in ["labels", "annotations"] {
                let marked = metadata(json!({place: {mark: "shop"}}));
                assert!(manager(&marked, "stage").unwrap().to_string().contains(mark));
            }
        }
        assert_eq!(manager(&metadata(json!({"labels": {"app": "x"}})), "stage"), None);
    }

    #[test]
    fn a_manifest_holds_what_people_write() {
        let key: api::SigningKey = serde_json::from_value(json!({
            "apiVersion": "assay.dev/v1alpha1", "kind": "SigningKey",
            "metadata": {
                "name": "a", "uid": "u", "resourceVersion": "7", "labels": {"team": "x"},
                "annotations": {"argocd.argoproj.io/tracking-id": "t", "kubectl.kubernetes.io/last-applied-configuration": "{}"},
            },
            "spec": {"keyRing": "r", "stage": "Active", "publicKey": {"pem": "p"}},
            "status": {"images": 3},
        }))
        .unwrap();
        let expected = json!({
            "apiVersion": "assay.dev/v1alpha1", "kind": "SigningKey",
            "metadata": {"name": "a", "labels": {"team": "x"}},
            "spec": {"keyRing": "r", "stage": "Active", "publicKey": {"pem": "p"}},
        });
        assert_eq!(manifest(&key), expected);
    }
}
