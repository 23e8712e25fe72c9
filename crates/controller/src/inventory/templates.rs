//! What workloads would start next: their templates, told where they are news.

use std::collections::{HashMap, HashSet};

use api::WorkloadRef;
use engine::{Fact, TemplateFacts, Uid, Workload, WorkloadKey, WorkloadNames, group_of};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::climb::{BuiltIn, OwnerMeta, Templates as ReadTemplates};
use super::registered::CustomTemplate;
use super::slim::{Generation, Read, Record, Second, SlimWorkload, Spec, Unreadable, of_second};
use super::{Effects, Inventory, extract, owners};

/// What was told of templates, and what is asked for.
#[derive(Debug, Default)]
pub(super) struct Templates {
    told: HashMap<WorkloadKey, Version>,
    asked: HashMap<WorkloadKey, Version>,
    /// Those of `asked` that could not be read.
    unread: HashSet<WorkloadKey>,
}

/// What a template is told again for.
#[derive(Clone, Debug, PartialEq)]
struct Version {
    uid: Uid,
    /// None where the server counts no generations: then each time is another one.
    generation: Option<Generation>,
    managed_by: Option<String>,
}

impl Version {
    fn of(owner: &OwnerMeta) -> Self {
        Version {
            uid: owner.uid.clone(),
            generation: owner.generation,
            managed_by: owner.controller.as_ref().map(|controller| controller.shown()),
        }
    }

    fn is_known(&self, known: Option<&Version>) -> bool {
        self.generation.is_some() && known == Some(self)
    }
}

impl Templates {
    /// Whether no template is being asked for that was not asked for in vain before.
    pub(super) fn waits_for_nothing(&self) -> bool {
        self.asked.len() == self.unread.len()
    }

    /// Those that could not be read and are asked for again.
    pub(super) fn ask_again(&mut self) -> Vec<WorkloadKey> {
        self.unread.drain().collect()
    }
}

/// What asking for a template gave.
#[derive(Debug)]
pub(crate) enum TemplateFound {
    /// The workload, with its template.
    Workload(Box<SlimWorkload>),
    /// It does not exist.
    Nothing,
    /// It cannot be read.
    OutOfReach,
}

impl Inventory {
    /// A workload of a built-in kind that is watched with its template looks like this.
    pub(crate) fn workload(
        &mut self,
        kind: &'static BuiltIn,
        workload: &SlimWorkload,
        effects: &mut Effects,
    ) -> Result<(), Unreadable> {
        let Some(key) = owners::key_of(kind, &workload.metadata, &mut self.texts) else {
            return Ok(());
        };
        let Some(owner) = owners::owner_of(&workload.metadata, &key.namespace, &mut self.texts) else {
            return Ok(());
        };
        let must_be_alone = kind.templates != ReadTemplates::Watched;
        if must_be_alone && owner.controller.is_some() {
            self.forget_template(&key, effects);
            return Ok(());
        }
        self.tell_template(&key, &kind.api_version(), &owner, &workload.template, effects)
    }

    /// A ReplicaSet was seen, without its content: where nothing controls it, its template is asked for.
    pub(super) fn ask_for_template(&mut self, key: &WorkloadKey, owner: &OwnerMeta, effects: &mut Effects) {
        if owner.controller.is_some() {
            self.forget_template(key, effects);
            return;
        }
        let version = Version::of(owner);
        let is_known = |known| version.is_known(known);
        if is_known(self.templates.told.get(key)) || is_known(self.templates.asked.get(key)) {
            return;
        }
        self.templates.unread.remove(key);
        self.templates.asked.insert(key.clone(), version);
        effects.templates.push(key.clone());
    }

    /// The answer to a question of [`Effects::templates`].
    pub(crate) fn template_answered(
        &mut self,
        kind: &'static BuiltIn,
        key: &WorkloadKey,
        found: TemplateFound,
        effects: &mut Effects,
    ) -> Result<(), Unreadable> {
        if !self.templates.asked.contains_key(key) {
            return Ok(());
        }
        match found {
            TemplateFound::OutOfReach => {
                self.templates.unread.insert(key.clone());
                Ok(())
            }
            TemplateFound::Nothing => {
                self.forget_template(key, effects);
                Ok(())
            }
            TemplateFound::Workload(workload) => {
                self.templates.asked.remove(key);
                self.workload(kind, &workload, effects)
            }
        }
    }

    /// A workload of a registered kind looks like this.
    pub(crate) fn registered(
        &mut self,
        template: &CustomTemplate,
        effects: &mut Effects,
    ) -> Result<(), Unreadable> {
        let Some(key) = self.key_of_registered(template) else {
            return Ok(());
        };
        let Some(owner) = owners::owner_of(&template.metadata, &key.namespace, &mut self.texts) else {
            return Ok(());
        };
        self.tell_template(&key, &template.api_version, &owner, &template.spec, effects)
    }

    /// A workload of a registered kind was deleted.
    pub(crate) fn registered_gone(&mut self, template: &CustomTemplate, effects: &mut Effects) {
        if let Some(key) = self.key_of_registered(template) {
            self.forget_template(&key, effects);
        }
    }

    /// A complete list of a registered kind did not hold these.
    pub(crate) fn registered_missing(&mut self, gone: Vec<WorkloadKey>, effects: &mut Effects) {
        for key in gone {
            self.forget_template(&key, effects);
        }
    }

    fn key_of_registered(&mut self, template: &CustomTemplate) -> Option<WorkloadKey> {
        let ObjectMeta { namespace, name, .. } = &template.metadata;
        Some(WorkloadKey::from(WorkloadNames {
            namespace: self.texts.keep(namespace.as_deref()?),
            group: self.texts.keep(group_of(&template.api_version)),
            kind: self.texts.keep(&template.kind),
            name: self.texts.keep(name.as_deref()?),
        }))
    }

    /// Tells a template where it is news; what cannot be read leaves what was told before.
    fn tell_template(
        &mut self,
        key: &WorkloadKey,
        api_version: &str,
        owner: &OwnerMeta,
        template: &Read<Record<Spec>>,
        effects: &mut Effects,
    ) -> Result<(), Unreadable> {
        let Some(Record(spec)) = template.get("the pod spec of the template")? else {
            self.forget_template(key, effects);
            return Ok(());
        };
        let version = Version::of(owner);
        if version.is_known(self.templates.told.get(key)) {
            return Ok(());
        }
        let images = extract::written(spec, &mut self.texts)?;
        let keychain = self.keychains.of(template, &key.namespace, &mut self.texts)?;
        let workload = workload_of(key, api_version, &version, owner.created);
        let workload = self.roster.enter(workload);
        if self
            .templates
            .told
            .insert(workload.key.clone(), version)
            .is_some()
        {
            self.roster.leave(key);
        }
        effects.facts.push(Fact::Template(TemplateFacts {
            workload,
            images,
            keychain,
        }));
        Ok(())
    }

    /// There is no template of this workload any more.
    pub(super) fn forget_template(&mut self, key: &WorkloadKey, effects: &mut Effects) {
        self.templates.asked.remove(key);
        self.templates.unread.remove(key);
        if self.templates.told.remove(key).is_some() {
            self.roster.leave(key);
            effects.facts.push(Fact::TemplateGone(key.clone()));
        }
    }
}

fn workload_of(key: &WorkloadKey, api_version: &str, version: &Version, created: Second) -> Workload {
    Workload {
        key: key.clone(),
        reference: WorkloadRef {
            api_version: api_version.to_owned(),
            kind: key.kind.to_string(),
            name: key.name.to_string(),
            uid: version.uid.to_string(),
            observed_generation: version.generation.map(Generation::get),
            managed_by: version.managed_by.clone(),
        },
        created: of_second(created),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::{Keychains, Roster, climb};
    use serde_json::{Value, json};

    const REPLICA_SET: &BuiltIn = &climb::BUILT_IN[1];
    const JOB: &BuiltIn = &climb::BUILT_IN[4];

    fn kind(name: &str) -> &'static BuiltIn {
        climb::BUILT_IN.iter().find(|kind| kind.kind == name).unwrap()
    }

    fn metadata(generation: i64, owners: Value) -> Value {
        json!({"name": "x", "namespace": "shop", "uid": "u", "generation": generation, "ownerReferences": owners})
    }

    fn workload(generation: i64, owners: Value) -> SlimWorkload {
        let spec = json!({"containers": [{"name": "main", "image": "r/app:1"}], "imagePullSecrets": [{"name": "pull"}]});
        let object = json!({"metadata": metadata(generation, owners), "spec": {"template": {"spec": spec}}});
        serde_json::from_value(object).unwrap()
    }

    fn told(effects: &Effects) -> Vec<String> {
        let shown = |fact: &Fact| match fact {
            Fact::Template(facts) => format!(
                "{} starts {}",
                facts.workload.reference.kind,
                facts.images.join(", ")
            ),
            Fact::TemplateGone(key) => format!("{} starts nothing", key.kind),
            other => format!("{other:?}"),
        };
        effects.facts.iter().map(shown).collect()
    }

    fn seen(inventory: &mut Inventory, kind: &'static BuiltIn, workload: &SlimWorkload) -> Vec<String> {
        let mut effects = Effects::default();
        inventory.workload(kind, workload, &mut effects).unwrap();
        told(&effects)
    }

    #[test]
    fn a_template_is_told_once_for_each_generation_and_until_its_workload_goes() {
        let mut inventory = Inventory::default();
        let deployment = kind("Deployment");
        assert_eq!(
            seen(&mut inventory, deployment, &workload(1, json!([]))),
            ["Deployment starts r/app:1"]
        );
        assert!(
            seen(&mut inventory, deployment, &workload(1, json!([]))).is_empty(),
            "a new status is no news"
        );
        assert_eq!(
            seen(&mut inventory, deployment, &workload(2, json!([]))),
            ["Deployment starts r/app:1"]
        );
        let now = std::time::Instant::now();
        inventory.owner(deployment, &workload(2, json!([])).metadata, now);
        let gone = inventory.owner_deleted(deployment, &workload(2, json!([])).metadata, now);
        assert_eq!(told(&gone), ["Deployment starts nothing"]);
    }

    #[test]
    fn a_job_that_is_controlled_has_no_template_of_its_own_and_a_stateful_set_has() {
        let custom =
            json!([{"apiVersion": "x.io/v1", "kind": "App", "name": "a", "uid": "a", "controller": true}]);
        let mut inventory = Inventory::default();
        assert!(seen(&mut inventory, JOB, &workload(1, custom.clone())).is_empty());
        assert_eq!(
            seen(&mut inventory, JOB, &workload(1, json!([]))),
            ["Job starts r/app:1"]
        );
        assert_eq!(
            seen(&mut inventory, JOB, &workload(1, custom.clone())),
            ["Job starts nothing"]
        );
        let mut effects = Effects::default();
        inventory
            .workload(kind("StatefulSet"), &workload(1, custom), &mut effects)
            .unwrap();
        let [Fact::Template(facts)] = effects.facts.as_slice() else {
            panic!("it is told: {effects:?}")
        };
        assert_eq!(facts.workload.reference.managed_by.as_deref(), Some("App.x.io/a"));
    }

    #[test]
    fn a_replica_set_is_asked_for_its_template_only_where_nothing_controls_it() {
        let mut inventory = Inventory::default();
        let now = std::time::Instant::now();
        let of_a_deployment = json!([{"apiVersion": "apps/v1", "kind": "Deployment", "name": "d", "uid": "d", "controller": true}]);
        let effects = inventory.owner(REPLICA_SET, &workload(1, of_a_deployment).metadata, now);
        assert!(effects.templates.is_empty());
        let alone = workload(1, json!([]));
        let asked = inventory.owner(REPLICA_SET, &alone.metadata, now).templates;
        assert_eq!(asked.len(), 1);
        assert!(
            inventory
                .owner(REPLICA_SET, &alone.metadata, now)
                .templates
                .is_empty(),
            "one question is enough"
        );
        assert!(!inventory.holds_nobody());

        let mut effects = Effects::default();
        let mut answer = |inventory: &mut Inventory, found| {
            inventory
                .template_answered(REPLICA_SET, &asked[0], found, &mut effects)
                .unwrap();
        };
        answer(&mut inventory, TemplateFound::OutOfReach);
        assert!(inventory.holds_nobody(), "what cannot be read holds nobody up");
        assert_eq!(inventory.tidy().templates, asked, "it is asked for again");
        answer(&mut inventory, TemplateFound::Workload(Box::new(alone.clone())));
        assert_eq!(told(&effects), ["ReplicaSet starts r/app:1"]);
        assert!(
            inventory
                .owner(REPLICA_SET, &alone.metadata, now)
                .templates
                .is_empty()
        );
        let next = inventory.owner(REPLICA_SET, &workload(2, json!([])).metadata, now);
        assert_eq!(next.templates.len(), 1, "another generation is asked for");
    }

    #[test]
    fn c3_12_a_template_brings_the_pull_secrets_that_its_pods_would_have() {
        let roster = Roster::default();
        let mut inventory = Inventory::new(roster.clone(), Keychains::new(true));
        let mut effects = Effects::default();
        inventory
            .workload(kind("Deployment"), &workload(1, json!([])), &mut effects)
            .unwrap();
        let [Fact::Template(facts)] = effects.facts.as_slice() else {
            panic!("it is told: {effects:?}")
        };
        assert_eq!(facts.keychain.as_ref().unwrap().to_string(), "secrets shop/pull");
        assert!(
            roster.runs(&facts.workload.key),
            "the sweep for orphans leaves it alone"
        );
    }
}
