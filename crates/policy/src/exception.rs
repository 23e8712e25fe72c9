//! From the spec of an ImageException to what it passes over: read once, checked to the last field. An exception that
//! cannot be read is an error and passes over nothing. Judging with exceptions is in `evaluate`.

use std::collections::BTreeSet;
use std::str::FromStr;
use std::sync::Arc;

use api::{ImageExceptionSpec, LONGEST_EXCEPTION_DAYS, Reason};
use image::{GlobError, NameGlob, Repository, RepositoryGlob};
use jiff::{SignedDuration, Timestamp};

use crate::compile::{Flaw, Problem, globs, unexpected};
use crate::message;

/// The API groups of the kinds that are written without one.
const BUILT_IN_GROUPS: [&str; 3] = ["", "apps", "batch"];

/// An exception that can be judged with.
#[derive(Clone, Debug, PartialEq)]
pub struct CompiledException {
    name: Arc<str>,
    policies: BTreeSet<Arc<str>>,
    images: Vec<RepositoryGlob>,
    namespaces: Vec<NameGlob>,
    /// None for all of the namespaces.
    workloads: Option<Vec<WorkloadPattern>>,
    reasons: BTreeSet<Reason>,
    expires: Timestamp,
    why: Arc<str>,
}

/// Workloads of one kind.
#[derive(Clone, Debug, PartialEq)]
struct WorkloadPattern {
    kind: Box<str>,
    /// None for the kinds of Kubernetes itself.
    group: Option<Box<str>>,
    /// The name, or with `is_prefix` how it begins.
    name: Box<str>,
    is_prefix: bool,
}

/// Why an exception cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("ImageException {exception}: {field}: {problem}")]
pub struct ExceptionError {
    /// The name of the exception.
    pub exception: Arc<str>,
    /// The field, as `spec.images[2]`.
    pub field: String,
    /// What is wrong with it.
    pub problem: Problem,
}

/// A violation that an exception passes over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excepted {
    /// The name of the exception; of several the one that ends last.
    pub exception: Arc<str>,
    /// Why the image violates the policy.
    pub reason: Reason,
}

impl CompiledException {
    /// Reads and checks the whole spec. `created`: when the object was made.
    ///
    /// # Errors
    /// [`ExceptionError`] for the first field that cannot be used as it is written; such an exception passes over
    /// nothing.
    pub fn compile(
        name: &str,
        spec: &ImageExceptionSpec,
        created: Option<Timestamp>,
    ) -> Result<Self, ExceptionError> {
        let name: Arc<str> = name.into();
        read(name.clone(), spec, created).map_err(|(field, problem)| ExceptionError {
            exception: name,
            field,
            problem,
        })
    }

    /// The name of the exception.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The names of the policies that it is about.
    pub fn policies(&self) -> &BTreeSet<Arc<str>> {
        &self.policies
    }

    /// From then on it passes over nothing.
    pub fn expires(&self) -> Timestamp {
        self.expires
    }

    /// Whether it is about violations of this policy.
    pub fn is_about(&self, policy: &str) -> bool {
        self.policies.contains(policy)
    }

    /// Whether it is about images of this repository.
    pub fn covers_image(&self, repository: &Repository) -> bool {
        self.images.iter().any(|glob| glob.matches(repository))
    }

    /// Whether it is about this top-level workload.
    pub fn covers_workload(&self, namespace: &str, group: &str, kind: &str, name: &str) -> bool {
        let is_meant = |workload: &WorkloadPattern| workload.matches(group, kind, name);
        self.namespaces.iter().any(|glob| glob.matches(namespace))
            && self
                .workloads
                .as_ref()
                .is_none_or(|workloads| workloads.iter().any(is_meant))
    }

    /// Whether it passes over a failure for all of these reasons at this time.
    fn passes_over(&self, reasons: &BTreeSet<Reason>, now: Timestamp) -> bool {
        now < self.expires && reasons.is_subset(&self.reasons)
    }

    /// What is said of a violation that it passes over.
    pub fn message(&self, violation: &str) -> String {
        message::excepted(&self.name, &self.why, violation)
    }
}

impl WorkloadPattern {
    fn matches(&self, group: &str, kind: &str, name: &str) -> bool {
        let is_group = match &self.group {
            Some(own) => **own == *group,
            None => BUILT_IN_GROUPS.contains(&group),
        };
        let is_name = match self.is_prefix {
            true => name.starts_with(&*self.name),
            false => *name == *self.name,
        };
        is_group && *self.kind == *kind && is_name
    }
}

impl FromStr for WorkloadPattern {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (kind, name) = text.split_once('/').ok_or(())?;
        let (kind, group) = match kind.split_once('.') {
            Some((kind, group)) => (kind, Some(group)),
            None => (kind, None),
        };
        let (name, is_prefix) = match name.strip_suffix('*') {
            Some(beginning) => (beginning, true),
            None => (name, false),
        };
        let is_kind = kind.starts_with(|first: char| first.is_ascii_uppercase())
            && kind.chars().all(|letter| letter.is_ascii_alphanumeric());
        let in_names = |letter: char| {
            letter.is_ascii_lowercase() || letter.is_ascii_digit() || matches!(letter, '-' | '.')
        };
        let is_group = group.is_none_or(|group| !group.is_empty() && group.chars().all(in_names));
        let is_name = (is_prefix || !name.is_empty()) && name.chars().all(in_names);
        match is_kind && is_group && is_name {
            true => Ok(WorkloadPattern {
                kind: kind.into(),
                group: group.map(Into::into),
                name: name.into(),
                is_prefix,
            }),
            false => Err(()),
        }
    }
}

/// The exception that passes over a failure for all of these reasons at this time; of several the one that ends last,
/// and of those the first by name.
pub fn passing_over<'a>(
    exceptions: &'a [Arc<CompiledException>],
    reasons: &BTreeSet<Reason>,
    now: Timestamp,
) -> Option<&'a CompiledException> {
    exceptions
        .iter()
        .filter(|exception| exception.passes_over(reasons, now))
        .max_by_key(|exception| (exception.expires, std::cmp::Reverse(&exception.name)))
        .map(|exception| &**exception)
}

fn read(
    name: Arc<str>,
    spec: &ImageExceptionSpec,
    created: Option<Timestamp>,
) -> Result<CompiledException, Flaw> {
    Ok(CompiledException {
        policies: policies(&spec.policies)?,
        images: some_globs("spec.images", &spec.images, "at least one; ** covers every image")?,
        namespaces: some_globs(
            "spec.namespaces",
            &spec.namespaces,
            "at least one; * covers every namespace",
        )?,
        workloads: spec.workloads.as_deref().map(workloads).transpose()?,
        reasons: reasons(spec.reasons.as_deref())?,
        expires: expires(spec, created)?,
        why: why(&spec.reason)?,
        name,
    })
}

fn policies(names: &[String]) -> Result<BTreeSet<Arc<str>>, Flaw> {
    match names.iter().position(String::is_empty) {
        Some(at) => Err(unexpected(
            format!("spec.policies[{at}]"),
            "an empty name",
            "the name of an ImagePolicy",
        )),
        None if names.is_empty() => Err(unexpected(
            "spec.policies",
            "no name",
            "the name of at least one ImagePolicy",
        )),
        None => Ok(names.iter().map(|name| name.as_str().into()).collect()),
    }
}

fn some_globs<G: FromStr<Err = GlobError>>(
    field: &str,
    patterns: &[String],
    expected: &str,
) -> Result<Vec<G>, Flaw> {
    match patterns {
        [] => Err(unexpected(field, "no pattern", expected)),
        _ => globs(field, patterns),
    }
}

fn workloads(written: &[String]) -> Result<Vec<WorkloadPattern>, Flaw> {
    if written.is_empty() {
        let expected = "at least one, or no field at all for every workload of the namespaces";
        return Err(unexpected("spec.workloads", "an empty list", expected));
    }
    let read = |(at, text): (usize, &String)| {
        text.parse().map_err(|()| {
            unexpected(
                format!("spec.workloads[{at}]"),
                format!("{text:?}"),
                "a kind and a name, such as Deployment/web, CronJob/backup-* or Rollout.argoproj.io/web",
            )
        })
    };
    written.iter().enumerate().map(read).collect()
}

/// Without a list, all but a revoked key: nobody passes over a revocation without saying so.
fn reasons(written: Option<&[Reason]>) -> Result<BTreeSet<Reason>, Flaw> {
    let all = || Reason::OF_VIOLATIONS.iter().copied();
    let Some(written) = written else {
        return Ok(all().filter(|reason| *reason != Reason::KeyRevoked).collect());
    };
    let expected = || {
        let names: Vec<&str> = all().map(Reason::as_str).collect();
        format!("reasons of violations: {}", names.join(", "))
    };
    if written.is_empty() {
        return Err(unexpected("spec.reasons", "an empty list", expected()));
    }
    match written
        .iter()
        .position(|reason| !Reason::OF_VIOLATIONS.contains(reason))
    {
        Some(at) => Err(unexpected(format!("spec.reasons[{at}]"), written[at], expected())),
        None => Ok(written.iter().copied().collect()),
    }
}

fn expires(spec: &ImageExceptionSpec, created: Option<Timestamp>) -> Result<Timestamp, Flaw> {
    let written = spec.expires.0;
    let longest = SignedDuration::from_hours(24 * LONGEST_EXCEPTION_DAYS);
    let latest = created.and_then(|created| created.checked_add(longest).ok());
    match latest {
        Some(latest) if written <= latest => Ok(written),
        Some(latest) => Err(unexpected(
            "spec.expires",
            written,
            format!(
                "a time within {LONGEST_EXCEPTION_DAYS} days of the object's creation, that is until {latest}"
            ),
        )),
        None => Err(unexpected(
            "spec.expires",
            written,
            "an object that says when it was created",
        )),
    }
}

fn why(text: &str) -> Result<Arc<str>, Flaw> {
    match text.trim() {
        "" => Err(unexpected("spec.reason", "nothing", "why these images may run")),
        text => Ok(text.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn spec() -> ImageExceptionSpec {
        ImageExceptionSpec {
            policies: vec!["prod".into()],
            images: vec!["registry.example.com/shop/**".into()],
            namespaces: vec!["shop".into()],
            workloads: None,
            reasons: None,
            expires: Time(time("2026-03-31T00:00:00Z")),
            reason: "vendor fixes it".into(),
        }
    }

    fn compile(edit: impl FnOnce(&mut ImageExceptionSpec)) -> Result<CompiledException, ExceptionError> {
        let mut spec = spec();
        edit(&mut spec);
        CompiledException::compile("hotfix", &spec, Some(time("2026-01-01T00:00:00Z")))
    }

    #[test]
    fn c5_21_what_cannot_be_read_is_refused_by_its_field() {
        let field = |edit: fn(&mut ImageExceptionSpec)| compile(edit).unwrap_err().field;
        assert_eq!(field(|spec| spec.policies.clear()), "spec.policies");
        assert_eq!(
            field(|spec| spec.policies.push(String::new())),
            "spec.policies[1]"
        );
        assert_eq!(field(|spec| spec.images.clear()), "spec.images");
        assert_eq!(field(|spec| spec.images.push("Web".into())), "spec.images[1]");
        assert_eq!(field(|spec| spec.namespaces.clear()), "spec.namespaces");
        assert_eq!(
            field(|spec| spec.namespaces.push("A".into())),
            "spec.namespaces[1]"
        );
        assert_eq!(field(|spec| spec.workloads = Some(Vec::new())), "spec.workloads");
        assert_eq!(field(|spec| spec.reasons = Some(Vec::new())), "spec.reasons");
        assert_eq!(field(|spec| spec.reason = " ".into()), "spec.reason");
        for other in [Reason::Pending, Reason::RegistryUnavailable, Reason::Other] {
            let refused = compile(|spec| spec.reasons = Some(vec![Reason::KeyRevoked, other])).unwrap_err();
            assert_eq!(refused.field, "spec.reasons[1]");
        }
        for workload in [
            "web",
            "deployment/web",
            "Deployment/",
            "Deployment/Web",
            "Rollout./web",
            "A/b/c",
        ] {
            let refused = compile(|spec| spec.workloads = Some(vec![workload.into()])).unwrap_err();
            assert_eq!(refused.field, "spec.workloads[0]", "{workload}");
        }
    }

    /// Fails on a build without the bound.
    #[test]
    fn an_exception_ends_within_ninety_days_of_its_creation() {
        assert!(compile(|spec| spec.expires = Time(time("2026-04-01T00:00:00Z"))).is_ok());
        let refused = compile(|spec| spec.expires = Time(time("2026-04-01T00:00:01Z"))).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "ImageException hotfix: spec.expires: found 2026-04-01T00:00:01Z; expected a time within 90 days of the \
             object's creation, that is until 2026-04-01T00:00:00Z"
        );
        assert!(CompiledException::compile("hotfix", &spec(), None).is_err());
    }

    /// B30. Fails on a build that does not ask for the namespace.
    #[test]
    fn b30_an_exception_covers_what_it_names_and_nothing_else() {
        let exception = compile(|spec| {
            spec.workloads = Some(vec![
                "Deployment/web".into(),
                "CronJob/backup-*".into(),
                "Rollout.argoproj.io/*".into(),
            ]);
        })
        .unwrap();
        assert!(exception.is_about("prod") && !exception.is_about("prod-2"));
        let image = |text: &str| exception.covers_image(&text.parse().unwrap());
        assert!(image("registry.example.com/shop/web"));
        assert!(!image("registry.example.com/shopping/web") && !image("evil.example.com/shop/web"));
        let covers = |namespace, group, kind, name| exception.covers_workload(namespace, group, kind, name);
        assert!(covers("shop", "apps", "Deployment", "web"));
        for (namespace, group, kind, name) in [
            ("shop-2", "apps", "Deployment", "web"),
            ("shop", "apps", "Deployment", "web-2"),
            ("shop", "apps", "StatefulSet", "web"),
            ("shop", "evil.example.com", "Deployment", "web"),
            ("shop", "batch", "CronJob", "back"),
            ("shop", "evil.example.com", "Rollout", "web"),
        ] {
            assert!(
                !covers(namespace, group, kind, name),
                "{namespace} {group} {kind} {name}"
            );
        }
        assert!(covers("shop", "batch", "CronJob", "backup-1"));
        assert!(covers("shop", "argoproj.io", "Rollout", "web"));
    }

    #[test]
    fn a_revoked_key_is_passed_over_only_where_it_is_named_and_nothing_at_the_end() {
        let (before, end) = (time("2026-03-30T23:59:59Z"), time("2026-03-31T00:00:00Z"));
        let passes = |exception: &CompiledException, reasons: &[Reason], now| {
            exception.passes_over(&reasons.iter().copied().collect(), now)
        };
        let all = compile(|_| {}).unwrap();
        assert!(passes(&all, &[Reason::SignatureMissing], before));
        assert!(!passes(&all, &[Reason::SignatureMissing], end));
        assert!(!passes(&all, &[Reason::KeyRevoked], before));
        assert!(!passes(
            &all,
            &[Reason::TooFewSigners, Reason::KeyRevoked],
            before
        ));
        assert!(!passes(&all, &[Reason::RegistryUnavailable], before));
        let named = compile(|spec| spec.reasons = Some(vec![Reason::KeyRevoked])).unwrap();
        assert!(passes(&named, &[Reason::KeyRevoked], before));
        assert!(!passes(&named, &[Reason::SignatureMissing], before));
    }

    #[test]
    fn of_several_the_one_that_ends_last_is_named() {
        let ending = |name: &str, end: &str| {
            let spec = ImageExceptionSpec {
                expires: Time(time(end)),
                ..spec()
            };
            let created = Some(time("2026-01-01T00:00:00Z"));
            Arc::new(CompiledException::compile(name, &spec, created).unwrap())
        };
        let all = [
            ending("c", "2026-03-02T00:00:00Z"),
            ending("b", "2026-03-02T00:00:00Z"),
            ending("a", "2026-03-01T00:00:00Z"),
        ];
        let named = |now| {
            let found = passing_over(&all, &BTreeSet::from([Reason::KeyExpired]), time(now));
            found.map(|exception| exception.name().to_string())
        };
        assert_eq!(named("2026-02-01T00:00:00Z").as_deref(), Some("b"));
        assert_eq!(named("2026-03-02T00:00:00Z"), None);
    }
}
