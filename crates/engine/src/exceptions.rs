//! The ImageExceptions as the engine holds them: which of them are about a result, and when each begins to be told of
//! and ends. What they make of a result, `policy::evaluate` says.

use std::collections::BTreeMap;
use std::sync::Arc;

use image::Repository;
use jiff::Timestamp;
use policy::CompiledException;

use crate::core::Engine;
use crate::fact::{ExceptionFacts, WorkloadKey, WorkloadNames};
use crate::index::ImageUse;
use crate::judge::Cause;
use crate::queue::Urgency;
use crate::report::{ExceptionReport, ExceptionState, Target, Totals};
use crate::schedule::before;
use crate::subject::SubjectKey;
use crate::totals::count;

/// How many samples a status holds.
const SAMPLE: usize = 20;

/// Every ImageException object, by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Exceptions {
    objects: BTreeMap<Arc<str>, ExceptionObject>,
}

/// One ImageException object.
#[derive(Clone, Debug)]
pub(crate) struct ExceptionObject {
    pub(crate) generation: i64,
    /// What it passes over, or why it passes over nothing.
    pub(crate) read: Result<Arc<CompiledException>, String>,
}

impl Exceptions {
    /// Takes an object in; gives what was in force of it before.
    pub(crate) fn insert(&mut self, facts: ExceptionFacts) -> Option<Arc<CompiledException>> {
        let read = facts.spec.and_then(|spec| {
            CompiledException::compile(&facts.name, &spec, facts.created)
                .map(Arc::new)
                .map_err(|error| error.to_string())
        });
        let object = ExceptionObject {
            generation: facts.generation,
            read,
        };
        self.objects.insert(facts.name, object)?.read.ok()
    }

    /// Forgets an object; gives what was in force of it.
    pub(crate) fn remove(&mut self, name: &str) -> Option<Arc<CompiledException>> {
        self.objects.remove(name)?.read.ok()
    }

    pub(crate) fn get(&self, name: &str) -> Option<&ExceptionObject> {
        self.objects.get(name)
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.objects.keys()
    }

    /// Those that can be used, in order of name.
    pub(crate) fn usable(&self) -> impl Iterator<Item = &Arc<CompiledException>> {
        self.objects
            .values()
            .filter_map(|object| object.read.as_ref().ok())
    }

    /// Those that are about what a policy says of a repository; which workloads they mean is another question.
    pub(crate) fn about(&self, policy: &str, repository: &Repository) -> Vec<Arc<CompiledException>> {
        let is_meant = |exception: &&Arc<CompiledException>| {
            exception.is_about(policy) && exception.covers_image(repository)
        };
        self.usable().filter(is_meant).cloned().collect()
    }

    /// Those that are about what a policy says of an image of a workload, in order of name.
    pub(crate) fn covering(
        &self,
        policy: &str,
        image: &ImageUse,
        workload: &WorkloadKey,
    ) -> Vec<Arc<CompiledException>> {
        match &image.repository {
            Some(repository) if !self.objects.is_empty() => {
                of_workload(&self.about(policy, repository), workload)
            }
            // An image that cannot be read is none that an exception names.
            _ => Vec::new(),
        }
    }
}

/// Those of the exceptions that mean this workload.
pub(crate) fn of_workload(
    exceptions: &[Arc<CompiledException>],
    workload: &WorkloadKey,
) -> Vec<Arc<CompiledException>> {
    let WorkloadNames {
        namespace,
        group,
        kind,
        name,
    } = &**workload;
    let means_it =
        |exception: &&Arc<CompiledException>| exception.covers_workload(namespace, group, kind, name);
    exceptions.iter().filter(means_it).cloned().collect()
}

/// The names of exceptions, in order.
pub(crate) fn names(exceptions: &[Arc<CompiledException>]) -> Vec<Arc<str>> {
    exceptions
        .iter()
        .map(|exception| exception.name().clone())
        .collect()
}

impl Engine {
    /// An exception says something else than before, or is gone.
    pub(crate) fn exception_changed(
        &mut self,
        name: Arc<str>,
        old: Option<Arc<CompiledException>>,
        now: Timestamp,
    ) {
        if !self.synced {
            return;
        }
        let new = self.exceptions.get(&name);
        let new = new.and_then(|object| object.read.as_ref().ok()).cloned();
        if old != new {
            let both: Vec<_> = old.into_iter().chain(new).collect();
            self.rejudge(&both, Cause::Edit, now);
        }
        self.queue.push(Target::Exception(name), Urgency::Totals);
    }

    /// Judges again what the exceptions are about, and says it again of every workload that they mean: what has no
    /// digest is judged when it is said.
    fn rejudge(&mut self, exceptions: &[Arc<CompiledException>], cause: Cause, now: Timestamp) {
        let concerned: Vec<SubjectKey> = self
            .subjects
            .values()
            .filter(|subject| {
                let repository = &subject.key.repository;
                exceptions.iter().any(|exception| {
                    exception.covers_image(repository)
                        && subject.covering.iter().any(|policy| exception.is_about(policy))
                })
            })
            .map(|subject| subject.key.clone())
            .collect();
        for key in concerned {
            self.judge(&key, now, cause);
        }
        let meant: Vec<WorkloadKey> = self
            .index
            .workloads()
            .filter(|key| !of_workload(exceptions, key).is_empty())
            .cloned()
            .collect();
        for workload in meant {
            self.workload_changed(workload, Urgency::Changed, now);
        }
    }

    /// The next time after this one at which an exception ends, or its end comes as close as a policy wants to know.
    pub(crate) fn next_end_of_exception(&self, now: Timestamp) -> Option<Timestamp> {
        let times = self.exceptions.usable().flat_map(|one| self.times_of(one));
        times.filter(|time| *time > now).min()
    }

    fn times_of<'a>(&'a self, exception: &'a CompiledException) -> impl Iterator<Item = Timestamp> + 'a {
        let end = exception.expires();
        let policies = exception
            .policies()
            .iter()
            .filter_map(|name| self.policies.get(name));
        let versions = policies.filter_map(|policy| policy.in_force.as_ref());
        let warnings = versions.map(move |version| before(end, version.compiled.warn_before()));
        warnings.chain([end])
    }

    /// Does what the ends of exceptions bring that came since it was last done.
    pub(crate) fn wake_exceptions(&mut self, now: Timestamp) {
        let Some(since) = self.exceptions_told else {
            return;
        };
        self.exceptions_told = Some(now);
        let came = |time: Timestamp| since < time && time <= now;
        let ended: Vec<_> = self
            .exceptions
            .usable()
            .filter(|exception| self.times_of(exception).any(came))
            .cloned()
            .collect();
        if ended.is_empty() {
            return;
        }
        self.rejudge(&ended, Cause::Evidence, now);
        for exception in ended {
            let target = Target::Exception(exception.name().clone());
            self.queue.push(target, Urgency::Totals);
        }
    }

    /// What is said of an exception; None where it is gone.
    pub(crate) fn exception_report(&mut self, name: &str, now: Timestamp) -> Option<ExceptionReport> {
        self.count_changes(now);
        let (name, object) = self.exceptions.objects.get_key_value(name)?;
        let state = match &object.read {
            Err(problem) => ExceptionState::Invalid(problem.clone()),
            Ok(exception) if exception.expires() <= now => ExceptionState::Expired(exception.expires()),
            Ok(exception) => ExceptionState::InForce {
                missing: self.missing_policies(exception),
            },
        };
        let sums = self.tally.exception(name);
        Some(ExceptionReport {
            name: name.clone(),
            generation: object.generation,
            state,
            workloads: count(sums.map_or(0, |sums| sums.workloads)),
            images: count(sums.map_or(0, |sums| sums.images.len())),
            sample: sums
                .into_iter()
                .flat_map(|sums| &sums.violations)
                .take(SAMPLE)
                .map(|violation| (**violation).clone())
                .collect(),
        })
    }

    /// When they end, and which cannot be used, for metrics.
    pub(crate) fn count_exceptions(&self, totals: &mut Totals) {
        for (name, object) in &self.exceptions.objects {
            match &object.read {
                Ok(exception) => drop(totals.exception_ends.insert(name.clone(), exception.expires())),
                Err(_) => totals.not_ready.push(("ImageException", name.clone())),
            }
        }
    }

    fn missing_policies(&self, exception: &CompiledException) -> Vec<Arc<str>> {
        let is_missing = |name: &&Arc<str>| !self.policies.contains_key(*name);
        exception.policies().iter().filter(is_missing).cloned().collect()
    }
}
