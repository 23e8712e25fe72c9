//! From the spec of an ImagePolicy to a policy that can be evaluated: read once, checked to the last field.
//! What cannot be understood is an error that names the field, never skipped. Evaluating is in `evaluate`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use api::{ImagePolicySpec, Match, Mode, OnUnknown, Recheck, RunsAs};
use image::{GlobError, NameGlob, Repository, RepositoryGlob};

use crate::recheck::{self, DEFAULT_MAX_STALENESS, DEFAULT_WARN_BEFORE, RecheckError, RecheckPlan};
use crate::require;
use crate::rule::Rule;
use crate::selector::{Selector, SelectorError};

/// A policy that can be evaluated.
#[derive(Clone, Debug)]
pub struct CompiledPolicy {
    name: Arc<str>,
    mode: Mode,
    remediation: Arc<str>,
    namespaces: NamespaceMatch,
    images: Globs<RepositoryGlob>,
    rules: Vec<Rule>,
    /// The key rings that a rule trusts, each once, in order.
    rings: BTreeSet<Arc<str>>,
    accept: Accept,
    accept_index_attestations: bool,
    require_digest: bool,
    bind_repository: bool,
    recheck: RecheckPlan,
    max_staleness: Duration,
    warn_before: Duration,
}

/// Whose signature counts for what runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Accept {
    /// That of the digest itself, or of an index that is proven to list it.
    IndexOrPlatform,
    /// That of the platform manifest only.
    Platform,
}

#[derive(Clone, Debug)]
struct NamespaceMatch {
    names: Globs<NameGlob>,
    selector: Selector,
}

/// Patterns that let in, and patterns that leave out what was let in.
#[derive(Clone, Debug)]
struct Globs<G> {
    included: Vec<G>,
    excluded: Vec<G>,
}

/// Why a policy cannot be evaluated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("ImagePolicy {policy}: {field}: {problem}")]
pub struct CompileError {
    /// The name of the policy.
    pub policy: Arc<str>,
    /// The field, as `spec.match.images[2]`.
    pub field: String,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// A pattern that cannot be read.
    #[error("{0}")]
    Glob(#[from] GlobError),
    /// Anything else.
    #[error("found {found}; expected {expected}")]
    Unexpected {
        /// What is there.
        found: String,
        /// What belongs there.
        expected: String,
    },
}

/// An error before the policy it belongs to is named: field and problem.
pub(crate) type Flaw = (String, Problem);

impl CompiledPolicy {
    /// Reads and checks the whole spec.
    ///
    /// # Errors
    /// [`CompileError`] for the first field that this version cannot evaluate as it is written; the caller keeps the last
    /// version that compiled, and without one everything the policy may cover is Unknown/PolicyInvalid.
    pub fn compile(name: &str, spec: &ImagePolicySpec) -> Result<Self, CompileError> {
        let name: Arc<str> = name.into();
        read(name.clone(), spec).map_err(|(field, problem)| CompileError {
            policy: name,
            field,
            problem,
        })
    }

    /// The name of the policy.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// What the policy does about what it finds; never `Other`.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The names of all key rings that a requirement trusts, each once, in order.
    pub fn rings(&self) -> impl Iterator<Item = &Arc<str>> {
        self.rings.iter()
    }

    /// Whether images in this namespace are covered if their repository is.
    pub fn covers_namespace(&self, name: &str, labels: &BTreeMap<String, String>) -> bool {
        self.namespaces.names.covers(|glob| glob.matches(name), true)
            && self.namespaces.selector.selects(labels)
    }

    /// Whether the labels of a namespace of this name decide if it is covered.
    pub fn asks_for_labels(&self, name: &str) -> bool {
        self.namespaces.selector != Selector::default()
            && self.namespaces.names.covers(|glob| glob.matches(name), true)
    }

    /// Whether this repository is covered in a covered namespace.
    pub fn covers_image(&self, repository: &Repository) -> bool {
        self.images.covers(|glob| glob.matches(repository), false)
    }

    /// Whether a requirement asks for attestations.
    pub fn wants_attestations(&self) -> bool {
        self.rules.iter().any(Rule::wants_attestations)
    }

    /// Whether the signature of an index counts for what it lists.
    pub fn accepts_index(&self) -> bool {
        self.accept == Accept::IndexOrPlatform
    }

    /// How long a Compliant verdict is kept while it cannot be refreshed.
    pub fn max_staleness(&self) -> Duration {
        self.max_staleness
    }

    /// How long before a verdict gets worse by itself this is told.
    pub fn warn_before(&self) -> Duration {
        self.warn_before
    }

    /// When the registry is asked again.
    pub fn recheck(&self) -> &RecheckPlan {
        &self.recheck
    }

    pub(crate) fn rules(&self) -> &[Rule] {
        &self.rules
    }

    pub(crate) fn accept(&self) -> Accept {
        self.accept
    }

    pub(crate) fn accept_index_attestations(&self) -> bool {
        self.accept_index_attestations
    }

    pub(crate) fn require_digest(&self) -> bool {
        self.require_digest
    }

    pub(crate) fn bind_repository(&self) -> bool {
        self.bind_repository
    }

    pub(crate) fn remediation(&self) -> &str {
        &self.remediation
    }
}

impl<G> Globs<G> {
    /// `if_none_included`: the answer where no pattern lets in.
    fn covers(&self, matches: impl Fn(&G) -> bool, if_none_included: bool) -> bool {
        let included = if self.included.is_empty() {
            if_none_included
        } else {
            self.included.iter().any(&matches)
        };
        included && !self.excluded.iter().any(matches)
    }
}

fn read(name: Arc<str>, spec: &ImagePolicySpec) -> Result<CompiledPolicy, Flaw> {
    if spec.supersedes.as_deref() == Some(&*name) {
        return Err(unexpected(
            "spec.supersedes",
            "the policy's own name",
            "the name of another policy",
        ));
    }
    check_on_unknown(spec)?;
    let all_defaults = Recheck::default();
    let recheck = spec.recheck.as_ref().unwrap_or(&all_defaults);
    let rules = require::rules(spec)?;
    Ok(CompiledPolicy {
        name,
        mode: mode(spec.mode)?,
        remediation: spec.remediation.as_deref().unwrap_or("").trim().into(),
        namespaces: namespaces(&spec.match_)?,
        images: images(&spec.match_)?,
        rings: rules.iter().flat_map(Rule::rings).cloned().collect(),
        rules,
        accept: accept(spec)?,
        accept_index_attestations: spec
            .multi_arch
            .and_then(|multi_arch| multi_arch.accept_index_attestations)
            .unwrap_or(false),
        require_digest: spec.require_digest.unwrap_or(false),
        bind_repository: spec.bind_repository.unwrap_or(false),
        recheck: RecheckPlan::compile(recheck).map_err(recheck_flaw)?,
        max_staleness: match &recheck.max_staleness {
            None => DEFAULT_MAX_STALENESS,
            Some(text) => recheck::duration("maxStaleness", text).map_err(recheck_flaw)?,
        },
        warn_before: match &spec.warn_before {
            None => DEFAULT_WARN_BEFORE,
            Some(text) => warn_before(text)?,
        },
    })
}

fn warn_before(text: &str) -> Result<Duration, Flaw> {
    api::parse_duration(text).map_err(|_| {
        let found = format!("{text:?}");
        unexpected(
            "spec.warnBefore",
            &found,
            "a duration above zero, such as \"72h\" or \"1h30m\"",
        )
    })
}

fn mode(mode: Mode) -> Result<Mode, Flaw> {
    match mode {
        Mode::DryRun | Mode::Warn | Mode::Enforce => Ok(mode),
        Mode::Other => Err(unexpected(
            "spec.mode",
            "a mode that this version does not know",
            "DryRun, Warn or Enforce",
        )),
    }
}

/// Nothing is evaluated by it: it is what an admission check makes of a verdict.
fn check_on_unknown(spec: &ImagePolicySpec) -> Result<(), Flaw> {
    match spec.on_unknown {
        None | Some(OnUnknown::Deny | OnUnknown::Admit) => Ok(()),
        Some(OnUnknown::Other) => Err(unexpected(
            "spec.onUnknown",
            "a value that this version does not know",
            "Deny or Admit",
        )),
    }
}

fn accept(spec: &ImagePolicySpec) -> Result<Accept, Flaw> {
    match spec.multi_arch.and_then(|multi_arch| multi_arch.accept) {
        None | Some(RunsAs::IndexOrPlatform) => Ok(Accept::IndexOrPlatform),
        Some(RunsAs::Platform) => Ok(Accept::Platform),
        Some(RunsAs::Other) => Err(unexpected(
            "spec.multiArch.accept",
            "a value that this version does not know",
            "IndexOrPlatform or Platform",
        )),
    }
}

fn namespaces(match_: &Match) -> Result<NamespaceMatch, Flaw> {
    let selector = match &match_.namespace_selector {
        None => Selector::default(),
        Some(selector) => Selector::compile(selector).map_err(selector_flaw)?,
    };
    Ok(NamespaceMatch {
        names: Globs {
            included: globs("spec.match.namespaces", &match_.namespaces)?,
            excluded: globs("spec.match.excludeNamespaces", &match_.exclude_namespaces)?,
        },
        selector,
    })
}

fn images(match_: &Match) -> Result<Globs<RepositoryGlob>, Flaw> {
    if match_.images.is_empty() {
        return Err(unexpected(
            "spec.match.images",
            "no pattern",
            "at least one; ** covers every image",
        ));
    }
    Ok(Globs {
        included: globs("spec.match.images", &match_.images)?,
        excluded: globs("spec.match.excludeImages", &match_.exclude_images)?,
    })
}

pub(crate) fn globs<G: FromStr<Err = GlobError>>(field: &str, patterns: &[String]) -> Result<Vec<G>, Flaw> {
    let read = |(at, pattern): (usize, &String)| {
        pattern
            .parse()
            .map_err(|error: GlobError| (format!("{field}[{at}]"), error.into()))
    };
    patterns.iter().enumerate().map(read).collect()
}

pub(crate) fn unexpected(
    field: impl Into<String>,
    found: impl fmt::Display,
    expected: impl Into<String>,
) -> Flaw {
    (
        field.into(),
        Problem::Unexpected {
            found: found.to_string(),
            expected: expected.into(),
        },
    )
}

fn recheck_flaw(error: RecheckError) -> Flaw {
    unexpected(
        format!("spec.recheck.{}", error.field),
        error.found,
        error.expected,
    )
}

fn selector_flaw(error: SelectorError) -> Flaw {
    unexpected(
        format!("spec.match.namespaceSelector.{}", error.part),
        error.found,
        error.expected,
    )
}

#[cfg(test)]
mod tests {
    use api::{MultiArch, Requirement, SignatureRequirement};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

    use super::*;
    use crate::tests::{asking, requirement};

    fn compile(mutate: impl FnOnce(&mut ImagePolicySpec)) -> Result<CompiledPolicy, CompileError> {
        let mut spec = asking(&["release", "build"], 1);
        mutate(&mut spec);
        CompiledPolicy::compile("prod-signed", &spec)
    }

    fn field_of_error(mutate: impl FnOnce(&mut ImagePolicySpec)) -> String {
        compile(mutate).unwrap_err().field
    }

    fn first_signature(spec: &mut ImagePolicySpec) -> &mut SignatureRequirement {
        spec.require[0].signature.as_mut().unwrap()
    }

    #[test]
    fn c5_21_f11_an_error_names_the_policy_the_field_what_is_there_and_what_belongs_there() {
        let error = compile(|spec| first_signature(spec).minimum = Some(3)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "ImagePolicy prod-signed: spec.require[0].signature.minimum: found 3; expected 1 to 2, the number of key \
             rings in signedBy"
        );
    }

    #[test]
    fn c5_21_a_pattern_that_cannot_be_read_is_refused_by_its_place() {
        let bad = || {
            vec![
                "registry.example.com/**".into(),
                "registry.example.com/web:1.0".into(),
            ]
        };
        assert_eq!(
            field_of_error(|spec| spec.match_.images = bad()),
            "spec.match.images[1]"
        );
        assert_eq!(
            field_of_error(|spec| spec.match_.exclude_images = bad()),
            "spec.match.excludeImages[1]"
        );
        let bad = || vec!["shop".into(), "Shop".into()];
        assert_eq!(
            field_of_error(|spec| spec.match_.namespaces = bad()),
            "spec.match.namespaces[1]"
        );
        assert_eq!(
            field_of_error(|spec| spec.match_.exclude_namespaces = bad()),
            "spec.match.excludeNamespaces[1]"
        );
    }

    #[test]
    fn c5_21_empty_lists_are_refused() {
        assert_eq!(
            field_of_error(|spec| spec.match_.images.clear()),
            "spec.match.images"
        );
        assert_eq!(field_of_error(|spec| spec.require.clear()), "spec.require");
        assert_eq!(
            field_of_error(|spec| first_signature(spec).signed_by.clear()),
            "spec.require[0].signature.signedBy"
        );
    }

    #[test]
    fn c5_21_a_requirement_without_a_kind_is_refused_never_skipped() {
        let without = Requirement {
            name: "scan".into(),
            ..Requirement::default()
        };
        assert_eq!(
            field_of_error(|spec| spec.require.push(without)),
            "spec.require[1]"
        );
    }

    #[test]
    fn c5_21_values_of_a_later_version_are_refused() {
        assert_eq!(field_of_error(|spec| spec.mode = Mode::Other), "spec.mode");
        let other = Some(MultiArch {
            accept: Some(RunsAs::Other),
            ..MultiArch::default()
        });
        assert_eq!(
            field_of_error(|spec| spec.multi_arch = other),
            "spec.multiArch.accept"
        );
        assert_eq!(
            field_of_error(|spec| spec.on_unknown = Some(OnUnknown::Other)),
            "spec.onUnknown"
        );
        let expression = LabelSelectorRequirement {
            key: "env".into(),
            operator: "Like".into(),
            values: None,
        };
        let selector = LabelSelector {
            match_labels: None,
            match_expressions: Some(vec![expression]),
        };
        assert_eq!(
            field_of_error(|spec| spec.match_.namespace_selector = Some(selector)),
            "spec.match.namespaceSelector.matchExpressions[0].operator"
        );
    }

    #[test]
    fn a_minimum_below_one_or_above_the_rings_is_refused() {
        for minimum in [i32::MIN, -1, 0, 3, i32::MAX] {
            let field = field_of_error(|spec| first_signature(spec).minimum = Some(minimum));
            assert_eq!(field, "spec.require[0].signature.minimum", "{minimum}");
        }
    }

    #[test]
    fn names_that_are_empty_or_given_twice_are_refused() {
        let again = requirement("release-signature", &["release"], 1);
        assert_eq!(
            field_of_error(|spec| spec.require.push(again)),
            "spec.require[1].name"
        );
        let nameless = requirement("", &["release"], 1);
        assert_eq!(
            field_of_error(|spec| spec.require.push(nameless)),
            "spec.require[1].name"
        );
        let ring = |name: &str| {
            let name = name.to_owned();
            field_of_error(|spec| first_signature(spec).signed_by.push(name))
        };
        assert_eq!(ring("release"), "spec.require[0].signature.signedBy[2]");
        assert_eq!(ring(""), "spec.require[0].signature.signedBy[2]");
    }

    #[test]
    fn a_policy_does_not_supersede_itself() {
        let supersedes = |name: &str| compile(|spec| spec.supersedes = Some(name.into()));
        assert_eq!(supersedes("prod-signed").unwrap_err().field, "spec.supersedes");
        assert!(supersedes("prod-signed-1").is_ok());
    }

    #[test]
    fn the_fields_of_recheck_are_named() {
        let recheck = |recheck: Recheck| field_of_error(|spec| spec.recheck = Some(recheck));
        let text = |text: &str| Some(text.to_owned());
        let base = Recheck::default;
        assert_eq!(
            recheck(Recheck {
                interval: text("soon"),
                ..base()
            }),
            "spec.recheck.interval"
        );
        assert_eq!(
            recheck(Recheck {
                schedule: text("soon"),
                ..base()
            }),
            "spec.recheck.schedule"
        );
        assert_eq!(
            recheck(Recheck {
                time_zone: text("UTC"),
                ..base()
            }),
            "spec.recheck.timeZone"
        );
        assert_eq!(
            recheck(Recheck {
                max_staleness: text("0s"),
                ..base()
            }),
            "spec.recheck.maxStaleness"
        );
        assert_eq!(
            field_of_error(|spec| spec.warn_before = text("3d")),
            "spec.warnBefore"
        );
    }

    #[test]
    fn rings_are_listed_once_over_all_requirements() {
        let policy =
            compile(|spec| spec.require.push(requirement("second", &["review", "build"], 1))).unwrap();
        assert_eq!(
            policy.rings().map(AsRef::as_ref).collect::<Vec<&str>>(),
            ["build", "release", "review"]
        );
    }

    #[test]
    fn without_options_indexes_are_accepted_and_verdicts_are_kept_three_days() {
        let policy = compile(|_| ()).unwrap();
        assert!(policy.accepts_index());
        assert_eq!(policy.max_staleness(), Duration::from_secs(72 * 3600));
        assert_eq!(policy.warn_before(), Duration::from_secs(72 * 3600));
        assert_eq!(policy.recheck().interval_hint(), Duration::from_secs(6 * 3600));
        assert_eq!(
            (policy.name().as_ref(), policy.mode()),
            ("prod-signed", Mode::Enforce)
        );
    }

    /// B20: a pattern on one host does not match a path that looks like it on another.
    #[test]
    fn b20_a_pattern_covers_no_other_host() {
        let policy = compile(|spec| spec.match_.images = vec!["*.trusted.io/org/*".into()]).unwrap();
        assert!(policy.covers_image(&"a.trusted.io/org/app".parse().unwrap()));
        assert!(!policy.covers_image(&"evil.io/x.trusted.io/org/app".parse().unwrap()));
    }
}
