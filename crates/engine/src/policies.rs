//! The ImagePolicies as the engine holds them: the version in force of each, and what a policy
//! covers that cannot be evaluated.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::{ImagePolicySpec, Mode, OnUnknown, Reason, Requirement, SignatureRequirement};
use image::Repository;
use jiff::Timestamp;
use policy::{CompiledPolicy, Judgement, is_outage};

use crate::deadline::warning;
use crate::fact::PolicyFacts;

/// One ImagePolicy object.
#[derive(Debug)]
pub(crate) struct PolicyObject {
    pub(crate) name: Arc<str>,
    /// The generation of the object as last told.
    pub(crate) generation: i64,
    /// What is wrong with that generation.
    pub(crate) problem: Option<String>,
    /// The version that decides.
    pub(crate) in_force: Option<InForce>,
    /// Where no version ever could be evaluated: what it may match.
    scope: Option<CompiledPolicy>,
    /// The mode of a version that cannot be evaluated.
    mode: Mode,
}

/// A version that could be evaluated.
#[derive(Debug, Clone)]
pub(crate) struct InForce {
    pub(crate) generation: i64,
    pub(crate) spec: Arc<ImagePolicySpec>,
    pub(crate) compiled: Arc<CompiledPolicy>,
}

impl PolicyObject {
    /// Takes a new version in. One that cannot be evaluated leaves the last good one in force: the
    /// one held here, else the one that the status keeps.
    pub(crate) fn update(old: Option<PolicyObject>, facts: PolicyFacts) -> PolicyObject {
        let name = facts.name.clone();
        let compile =
            |spec: &ImagePolicySpec| CompiledPolicy::compile(&name, spec).map_err(|error| error.to_string());
        let (new, problem) = match &facts.spec {
            Ok(spec) => match compile(spec) {
                Ok(compiled) => (Some(in_force(facts.generation, spec, compiled)), None),
                Err(problem) => (None, Some(problem)),
            },
            Err(problem) => (None, Some(problem.clone())),
        };
        let remembered = || {
            let kept = facts.in_force.as_ref()?;
            compile(&kept.spec)
                .ok()
                .map(|compiled| in_force(kept.generation, &kept.spec, compiled))
        };
        let in_force = new
            .or_else(|| old.and_then(|old| old.in_force))
            .or_else(remembered);
        let readable = facts.spec.as_ref().ok();
        PolicyObject {
            scope: if in_force.is_none() {
                readable.and_then(|spec| scope_of(&name, spec))
            } else {
                None
            },
            mode: readable.map_or(Mode::Enforce, |spec| spec.mode),
            generation: facts.generation,
            name,
            problem,
            in_force,
        }
    }

    /// Whether the policy covers the namespace; true where the policy says nothing of that. What rests on labels that
    /// are not known is not covered yet: see [`PolicyObject::waits_for_labels`].
    pub(crate) fn covers_namespace(
        &self,
        namespace: &str,
        labels: Option<&BTreeMap<String, String>>,
    ) -> bool {
        let empty = BTreeMap::new();
        !self.waits_for_labels(namespace, labels)
            && self
                .coverage()
                .is_none_or(|coverage| coverage.covers_namespace(namespace, labels.unwrap_or(&empty)))
    }

    /// Whether the policy covers the namespace cannot be told before its labels are known.
    pub(crate) fn waits_for_labels(
        &self,
        namespace: &str,
        labels: Option<&BTreeMap<String, String>>,
    ) -> bool {
        labels.is_none()
            && self
                .coverage()
                .is_some_and(|coverage| coverage.asks_for_labels(namespace))
    }

    /// Whether the policy covers the repository; true where that cannot be told.
    pub(crate) fn covers_image(&self, repository: &Repository) -> bool {
        self.coverage()
            .is_none_or(|coverage| coverage.covers_image(repository))
    }

    /// The mode that counts.
    pub(crate) fn mode(&self) -> Mode {
        self.in_force
            .as_ref()
            .map_or(self.mode, |version| version.compiled.mode())
    }

    /// The spec that decides.
    pub(crate) fn spec_in_force(&self) -> Option<Arc<ImagePolicySpec>> {
        self.in_force.as_ref().map(|version| version.spec.clone())
    }

    /// From when on it is told that the answer gets worse by itself; None where it does not.
    pub(crate) fn warned_from(&self, judgement: &Judgement) -> Option<Timestamp> {
        warning(judgement, self.in_force.as_ref()?.compiled.warn_before())
    }

    /// Whether the policy trusts the ring.
    pub(crate) fn trusts(&self, ring: &str) -> bool {
        self.rings().any(|name| &**name == ring)
    }

    /// The rings that the policy trusts.
    pub(crate) fn rings(&self) -> impl Iterator<Item = &Arc<str>> {
        self.in_force.iter().flat_map(|version| version.compiled.rings())
    }

    /// An admission check would let start what is Unknown for this reason. Only what a registry keeps from being told:
    /// everything else fails closed.
    pub(crate) fn admits_unknown(&self, reason: Reason) -> bool {
        is_outage(reason)
            && self
                .in_force
                .as_ref()
                .is_some_and(|version| version.spec.on_unknown == Some(OnUnknown::Admit))
    }

    /// The policy that it is to take the place of.
    pub(crate) fn supersedes(&self) -> Option<&str> {
        self.in_force.as_ref()?.spec.supersedes.as_deref()
    }

    /// The version in force has a requirement of this name.
    pub(crate) fn requires(&self, requirement: &str) -> bool {
        self.in_force
            .as_ref()
            .is_some_and(|version| version.spec.require.iter().any(|entry| entry.name == requirement))
    }

    fn coverage(&self) -> Option<&CompiledPolicy> {
        self.in_force
            .as_ref()
            .map(|version| &*version.compiled)
            .or(self.scope.as_ref())
    }
}

fn in_force(generation: i64, spec: &ImagePolicySpec, compiled: CompiledPolicy) -> InForce {
    InForce {
        generation,
        spec: Arc::new(spec.clone()),
        compiled: Arc::new(compiled),
    }
}

/// What a policy that cannot be evaluated matches, where at least its `match` can be read. None
/// means that it may match everything.
fn scope_of(name: &str, spec: &ImagePolicySpec) -> Option<CompiledPolicy> {
    let anything = Requirement {
        name: "any".to_owned(),
        signature: Some(SignatureRequirement {
            signed_by: vec!["any".to_owned()],
            minimum: None,
        }),
        ..Requirement::default()
    };
    let only_match = ImagePolicySpec {
        match_: spec.match_.clone(),
        mode: Mode::Enforce,
        require: vec![anything],
        description: None,
        remediation: None,
        multi_arch: None,
        require_digest: None,
        bind_repository: None,
        recheck: None,
        warn_before: None,
        on_unknown: None,
        supersedes: None,
    };
    CompiledPolicy::compile(name, &only_match).ok()
}
