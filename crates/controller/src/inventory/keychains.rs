//! Which pull secrets pods name, kept once for all that name the same; nothing is kept where they are not used.

use std::collections::HashSet;
use std::sync::Arc;

use engine::{Keychain, KeychainHolder};

use super::slim::{Read, Record, Spec, Unreadable};
use super::texts::Texts;
use crate::names::is_object_name;
use crate::pull_secrets::MOST;

/// The longest name of an object.
const LONGEST_NAME: usize = 253;

/// The ServiceAccount of a pod that names none.
const DEFAULT_ACCOUNT: &str = "default";

/// The keychains in use.
#[derive(Debug, Default)]
pub(crate) struct Keychains {
    used: bool,
    kept: HashSet<Arc<Keychain>>,
}

impl Keychains {
    /// With `used`, pods have keychains.
    pub(crate) fn new(used: bool) -> Self {
        Keychains {
            used,
            kept: HashSet::new(),
        }
    }

    /// The keychain of a pod: what it names, else its ServiceAccount, whose secrets admission would have copied.
    pub(crate) fn of(
        &mut self,
        spec: &Read<Record<Spec>>,
        namespace: &Arc<str>,
        texts: &mut Texts,
    ) -> Result<Option<Arc<Keychain>>, Unreadable> {
        if !self.used {
            return Ok(None);
        }
        let none = Spec::default();
        let spec = spec.get("spec")?.map_or(&none, |Record(spec)| spec);
        const FIELD: &str = "spec.imagePullSecrets";
        let (mut names, mut named) = (Vec::new(), false);
        for entry in spec.image_pull_secrets.entries(FIELD)? {
            if let Some(Record(reference)) = entry.get(FIELD)? {
                let name = reference.name.text(FIELD)?;
                named |= !name.is_empty();
                // The API server takes any text here; no Secret has another name.
                if name.len() <= LONGEST_NAME && is_object_name(name) && names.len() <= MOST {
                    names.push(texts.keep(name));
                }
            }
        }
        let account = spec.service_account_name.text("spec.serviceAccountName")?;
        let holder = match (!named, account) {
            (false, _) => KeychainHolder::Secrets(names),
            (true, "") => KeychainHolder::ServiceAccount(texts.keep(DEFAULT_ACCOUNT)),
            (true, account) => KeychainHolder::ServiceAccount(texts.keep(account)),
        };
        let keychain = Keychain {
            namespace: namespace.clone(),
            holder,
        };
        if let Some(kept) = self.kept.get(&keychain) {
            return Ok(Some(kept.clone()));
        }
        let kept = Arc::new(keychain);
        self.kept.insert(kept.clone());
        Ok(Some(kept))
    }

    /// Forgets what nobody uses any more.
    pub(crate) fn forget_unused(&mut self) {
        self.kept.retain(|keychain| Arc::strong_count(keychain) > 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn of(keychains: &mut Keychains, spec: Value) -> Result<Option<Arc<Keychain>>, Unreadable> {
        let spec: Read<Record<Spec>> = serde_json::from_value(spec).unwrap();
        keychains.of(&spec, &"shop".into(), &mut Texts::default())
    }

    fn shown(spec: Value) -> String {
        let found = of(&mut Keychains::new(true), spec).unwrap();
        found.unwrap().to_string()
    }

    #[test]
    fn c3_12_a_pod_has_the_secrets_it_names_else_those_of_its_service_account() {
        let named = json!([{"name": "b"}, {"name": "a"}, {"name": ""}, {}]);
        for (spec, expected) in [
            (
                json!({"imagePullSecrets": named, "serviceAccountName": "x"}),
                "secrets shop/b,a",
            ),
            (json!({"serviceAccountName": "x"}), "serviceaccount shop/x"),
            (
                json!({"imagePullSecrets": [], "serviceAccountName": ""}),
                "serviceaccount shop/default",
            ),
            (json!({"imagePullSecrets": null}), "serviceaccount shop/default"),
        ] {
            assert_eq!(shown(spec), expected);
        }
    }

    /// The API server takes any text for the name of a pull secret. Weakened once: with every text taken, these are kept.
    #[test]
    fn what_is_no_name_of_a_secret_is_not_asked_for_and_the_service_account_does_not_take_its_place() {
        let spec = |names: &[&str]| {
            let entries: Vec<Value> = names.iter().map(|name| json!({"name": name})).collect();
            json!({"imagePullSecrets": entries})
        };
        let long = "a".repeat(254);
        for bad in ["../../payments/secrets/db", "a,b", "a?x=y", "A", &long] {
            assert_eq!(shown(spec(&[bad])), "secrets shop/", "{bad}");
            assert_eq!(shown(spec(&["a", bad])), "secrets shop/a", "{bad}");
        }
        let many: Vec<String> = (0..1000).map(|number| format!("s{number}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(shown(spec(&many)).len() < 200);
    }

    #[test]
    fn equal_keychains_are_kept_once_and_forgotten_when_unused() {
        let mut keychains = Keychains::new(true);
        let spec = json!({"imagePullSecrets": [{"name": "a"}]});
        let (one, other) = (
            of(&mut keychains, spec.clone()).unwrap(),
            of(&mut keychains, spec).unwrap(),
        );
        assert!(Arc::ptr_eq(one.as_ref().unwrap(), other.as_ref().unwrap()));
        drop((one, other));
        keychains.forget_unused();
        assert!(keychains.kept.is_empty());
    }

    #[test]
    fn where_they_are_not_used_nothing_is_kept_and_no_shape_of_theirs_spoils_a_pod() {
        let mut keychains = Keychains::new(false);
        assert_eq!(of(&mut keychains, json!({"imagePullSecrets": 7})).unwrap(), None);
        assert!(of(&mut Keychains::new(true), json!({"imagePullSecrets": 7})).is_err());
    }
}
