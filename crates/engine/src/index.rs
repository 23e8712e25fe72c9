//! What runs: pods, the workloads they belong to and the images they use, as rows without copies.
//! It knows nothing of evidence, policies or verdicts.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use api::ContainerRef;
use image::{Digest, ImageId, Reference, Repository};
use jiff::Timestamp;

use crate::ended::Left;
use crate::fact::{PodFacts, PodImage, Workload, WorkloadKey};
use crate::keychain::Keychain;
use crate::small::SmallMap;
use crate::subject::{Origin, SubjectKey};
use crate::uid::Uid;

/// What runs in one container: the image as written and the digest behind it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ImageUse {
    pub(crate) written: Arc<str>,
    /// None where the written image does not parse.
    pub(crate) repository: Option<Repository>,
    pub(crate) origin: Option<Origin>,
    pub(crate) running: RunningDigest,
}

/// The digest that runs, or why there is none.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum RunningDigest {
    NotStarted,
    Unresolved(Arc<str>),
    /// With the repository of the written image: what is looked up for it with the operator's credentials.
    Of(SubjectKey),
}

impl RunningDigest {
    pub(crate) fn of(repository: &Repository, digest: Digest) -> RunningDigest {
        RunningDigest::Of(SubjectKey::of_the_operator(repository.clone(), digest))
    }
}

impl ImageUse {
    /// What is looked up for it with the operator's credentials.
    pub(crate) fn subject(&self) -> Option<SubjectKey> {
        match &self.running {
            RunningDigest::Of(subject) => Some(subject.clone()),
            RunningDigest::NotStarted | RunningDigest::Unresolved(_) => None,
        }
    }

    /// The written image names a digest.
    pub(crate) fn is_pinned(&self) -> bool {
        matches!(self.origin, Some(Origin::Pinned(_)))
    }

    /// The digest that runs as it is said; empty where it cannot be told.
    pub(crate) fn digest_text(&self) -> String {
        match &self.running {
            RunningDigest::Of(subject) => subject.digest.to_string(),
            RunningDigest::NotStarted | RunningDigest::Unresolved(_) => String::new(),
        }
    }

    /// Reads what a pod says of one of its images.
    fn read(image: &PodImage) -> ImageUse {
        ImageUse::written(image.written.clone(), |repository, pinned| {
            running(image, repository, pinned)
        })
    }

    /// Reads an image of a template: what would run is known where a digest is written, and asked for where a tag is.
    pub(crate) fn of_template(written: &Arc<str>) -> ImageUse {
        ImageUse::written(written.clone(), |repository, pinned| {
            pinned.map_or(RunningDigest::NotStarted, |digest| {
                RunningDigest::of(repository, digest.clone())
            })
        })
    }

    fn written(
        written: Arc<str>,
        running: impl FnOnce(&Repository, Option<&Digest>) -> RunningDigest,
    ) -> ImageUse {
        match written.parse::<Reference>() {
            Ok(reference) => {
                let origin = match &reference.digest {
                    Some(digest) => Origin::Pinned(Arc::new(digest.clone())),
                    None => Origin::Tag(reference.tag().unwrap_or("latest").into()),
                };
                ImageUse {
                    written,
                    running: running(&reference.repository, reference.digest.as_ref()),
                    repository: Some(reference.repository),
                    origin: Some(origin),
                }
            }
            Err(error) => {
                let why = format!("the image of the pod's spec is not a valid reference: {error}");
                ImageUse {
                    written,
                    repository: None,
                    origin: None,
                    running: RunningDigest::Unresolved(why.into()),
                }
            }
        }
    }
}

fn running(image: &PodImage, repository: &Repository, pinned: Option<&Digest>) -> RunningDigest {
    let unresolved = |why: String| RunningDigest::Unresolved(why.into());
    let Some(image_id) = &image.image_id else {
        return match pinned {
            Some(digest) => RunningDigest::of(repository, digest.clone()),
            None => unresolved(
                "Kubernetes does not report which digest an image volume mounts; name the volume's image by digest".into(),
            ),
        };
    };
    match ImageId::parse(image_id) {
        ImageId::NotStarted => RunningDigest::NotStarted,
        ImageId::Pulled { digest, .. } => RunningDigest::of(repository, digest),
        ImageId::ConfigOnly { digest } => unresolved(format!(
            "the container runtime reports only the digest of the image's config ({digest}), which no registry serves: \
             the image was loaded without a registry or the runtime does not keep the repository's digest; pull it from its registry"
        )),
        ImageId::Unreadable(text) => unresolved(format!(
            "the container runtime reports the image as {text:?}, which is none of the known forms \
             (repository@sha256:…, docker-pullable://…, sha256:…)"
        )),
    }
}

/// One pod: what it runs is held once for all pods of a workload that are alike.
#[derive(Debug)]
struct PodRow {
    shape: Arc<PodShape>,
    first_seen: Second,
}

/// A time in whole seconds, rounded down: thousands of pods share one.
type Second = i64;

/// What pods have in common.
#[derive(Debug, PartialEq, Eq)]
struct PodShape {
    workload: WorkloadKey,
    images: Box<[(ContainerRef, Arc<ImageUse>)]>,
    keychain: Option<Arc<Keychain>>,
}

/// The pods of a workload that are alike.
#[derive(Debug)]
struct PodGroup {
    shape: Arc<PodShape>,
    /// How many were first seen when.
    first_seen: SmallMap<Second, u32>,
}

impl PodGroup {
    fn pods(&self) -> usize {
        self.first_seen.values().map(|pods| *pods as usize).sum()
    }

    fn oldest(&self) -> Option<Second> {
        self.first_seen.keys().next().copied()
    }
}

/// An image of a workload, and whose credentials its pods bring.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ImageOf {
    pub(crate) image: Arc<ImageUse>,
    pub(crate) keychain: Option<Arc<Keychain>>,
}

/// How a workload uses a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    /// A pod runs it.
    Runs,
    /// Its template would start it.
    Starts,
}

/// A use of a subject, by a pod or by a template.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Use {
    pub(crate) role: Role,
    /// The subject as the operator looks it up.
    pub(crate) subject: SubjectKey,
    pub(crate) keychain: Option<Arc<Keychain>>,
    pub(crate) workload: WorkloadKey,
    pub(crate) origin: Origin,
}

/// One workload.
#[derive(Debug)]
pub(crate) struct WorkloadRow {
    pub(crate) facts: Arc<Workload>,
    groups: Vec<PodGroup>,
}

/// Everything that runs.
#[derive(Debug, Default)]
pub(crate) struct Index {
    pods: HashMap<Uid, PodRow>,
    workloads: HashMap<WorkloadKey, WorkloadRow>,
    by_namespace: BTreeMap<Arc<str>, BTreeSet<WorkloadKey>>,
    /// The workloads that run an image without a digest, so that no subject stands for it.
    undetermined: HashSet<WorkloadKey>,
    labels: BTreeMap<Arc<str>, BTreeMap<String, String>>,
    images: HashSet<Arc<ImageUse>>,
    /// So many images are held before those are looked for that nobody uses.
    images_before_sweep: usize,
}

/// Fewer images are never swept.
const FIRST_SWEEP: usize = 1024;

/// What a change of the index touches.
#[derive(Debug, Default)]
pub(crate) struct Touched {
    pub(crate) workloads: BTreeSet<WorkloadKey>,
    /// Uses that went and came.
    pub(crate) ended: Vec<Use>,
    pub(crate) begun: Vec<Use>,
    /// The images of a pod that ended, or is another one now.
    pub(crate) left: Vec<Left>,
    /// Some image of the pod has not started.
    pub(crate) starting: bool,
}

impl Index {
    /// Takes a pod in, new or changed.
    pub(crate) fn insert_pod(&mut self, pod: PodFacts, now: Timestamp) -> Touched {
        let (uid, key) = (pod.uid, pod.workload.key.clone());
        let shape = PodShape {
            workload: key.clone(),
            images: pod.images.iter().map(|image| self.container(image)).collect(),
            keychain: pod.keychain,
        };
        let known = self.pods.get(&uid);
        let first_seen = known.map_or(now.as_second(), |row| row.first_seen);
        let is_told_again = known.is_some_and(|row| *row.shape == shape)
            && self
                .workloads
                .get(&key)
                .is_some_and(|row| row.facts == pod.workload);
        if is_told_again {
            return Touched::default();
        }
        let mut touched = self.remove_pod(&uid);
        touched.starting = shape
            .images
            .iter()
            .any(|(_, image)| image.running == RunningDigest::NotStarted);
        touched.begun.extend(shape.uses());
        let workload = self.enter(key.clone(), pod.workload);
        if shape.is_undetermined() {
            self.undetermined.insert(workload.clone());
        }
        let shape = self.join(&workload, shape, first_seen);
        self.pods.insert(uid, PodRow { shape, first_seen });
        touched.workloads.insert(key);
        touched
    }

    /// The key of a workload that has this pod now.
    fn enter(&mut self, key: WorkloadKey, facts: Arc<Workload>) -> WorkloadKey {
        let known = self.workloads.get_key_value(&key).map(|(key, _)| key.clone());
        let workload = known.unwrap_or_else(|| {
            let namespace = self.by_namespace.entry(key.namespace.clone()).or_default();
            namespace.insert(key.clone());
            key
        });
        let row = self
            .workloads
            .entry(workload.clone())
            .or_insert_with(|| WorkloadRow {
                facts: facts.clone(),
                groups: Vec::new(),
            });
        row.facts = facts;
        workload
    }

    /// Counts a pod to those of its workload that are alike.
    fn join(&mut self, workload: &WorkloadKey, shape: PodShape, first_seen: Second) -> Arc<PodShape> {
        let Some(row) = self.workloads.get_mut(workload) else {
            return Arc::new(shape);
        };
        if let Some(group) = row.groups.iter_mut().find(|group| *group.shape == shape) {
            *group.first_seen.get_or_insert_with(first_seen, || 0) += 1;
            return group.shape.clone();
        }
        let shape = Arc::new(shape);
        row.groups.push(PodGroup {
            shape: shape.clone(),
            first_seen: SmallMap::from([(first_seen, 1)]),
        });
        shape
    }

    /// Forgets a pod.
    pub(crate) fn remove_pod(&mut self, uid: &Uid) -> Touched {
        let mut touched = Touched::default();
        let Some(row) = self.pods.remove(uid) else {
            return touched;
        };
        touched.ended.extend(row.shape.uses());
        if let Some(workload) = self.workloads.get_mut(&row.shape.workload) {
            touched.left = Left::of_pod(&workload.facts, row.shape.images_of());
            workload.part(&row);
            if workload.groups.is_empty() {
                self.workloads.remove(&row.shape.workload);
                self.leave_namespace(&row.shape.workload);
            }
        }
        if row.shape.is_undetermined() {
            self.note_undetermined(&row.shape.workload);
        }
        touched.workloads.insert(row.shape.workload.clone());
        touched
    }

    fn leave_namespace(&mut self, workload: &WorkloadKey) {
        if let Some(keys) = self.by_namespace.get_mut(&workload.namespace) {
            keys.remove(workload);
            if keys.is_empty() {
                self.by_namespace.remove(&workload.namespace);
            }
        }
    }

    fn note_undetermined(&mut self, workload: &WorkloadKey) {
        let row = self.workloads.get(workload);
        let is = row.is_some_and(|row| row.groups.iter().any(|group| group.shape.is_undetermined()));
        if !is {
            self.undetermined.remove(workload);
        }
    }

    /// Sets a namespace's labels; answers whether they differ.
    pub(crate) fn set_labels(&mut self, name: &Arc<str>, labels: Option<BTreeMap<String, String>>) -> bool {
        match labels {
            Some(labels) => self.labels.insert(name.clone(), labels.clone()) != Some(labels),
            None => self.labels.remove(name).is_some(),
        }
    }

    pub(crate) fn labels(&self, namespace: &str) -> Option<&BTreeMap<String, String>> {
        self.labels.get(namespace)
    }

    pub(crate) fn workload(&self, key: &WorkloadKey) -> Option<&WorkloadRow> {
        self.workloads.get(key)
    }

    /// When the first of a workload's pods was seen.
    pub(crate) fn first_seen(&self, key: &WorkloadKey) -> Option<Timestamp> {
        let oldest = self.groups(key).filter_map(PodGroup::oldest).min()?;
        Timestamp::from_second(oldest).ok()
    }

    pub(crate) fn workloads(&self) -> impl Iterator<Item = &WorkloadKey> {
        self.workloads.keys()
    }

    pub(crate) fn in_namespace(&self, namespace: &str) -> impl Iterator<Item = &WorkloadKey> {
        self.by_namespace.get(namespace).into_iter().flatten()
    }

    /// The workloads in namespaces of which the labels are not known.
    pub(crate) fn without_labels(&self) -> impl Iterator<Item = &WorkloadKey> {
        let namespaces = self.by_namespace.iter();
        let unknown = namespaces.filter(|(name, _)| !self.labels.contains_key(*name));
        unknown.flat_map(|(_, keys)| keys)
    }

    /// The workloads that run an image without a digest.
    pub(crate) fn undetermined(&self) -> impl Iterator<Item = &WorkloadKey> {
        self.undetermined.iter()
    }

    pub(crate) fn pod_count(&self) -> usize {
        self.pods.len()
    }

    fn groups(&self, key: &WorkloadKey) -> impl Iterator<Item = &PodGroup> {
        self.workloads.get(key).into_iter().flat_map(|row| &row.groups)
    }

    /// The distinct images of a workload with their containers. Images that have not started are
    /// left out until their pod is older than `grace`: a pod that is just starting says nothing.
    pub(crate) fn images(
        &self,
        key: &WorkloadKey,
        started_before: Timestamp,
    ) -> BTreeMap<ImageOf, BTreeSet<ContainerRef>> {
        let mut images: BTreeMap<ImageOf, BTreeSet<ContainerRef>> = BTreeMap::new();
        for group in self.groups(key) {
            let is_old = group
                .oldest()
                .is_some_and(|oldest| oldest <= started_before.as_second());
            for (container, of) in group.shape.images_of() {
                if of.image.running != RunningDigest::NotStarted || is_old {
                    images.entry(of).or_default().insert(container);
                }
            }
        }
        images
    }

    /// The distinct images of each set of pods that are alike, and how many pods these are.
    pub(crate) fn pods_by_images(
        &self,
        key: &WorkloadKey,
    ) -> impl Iterator<Item = (usize, BTreeSet<ImageOf>)> {
        self.groups(key).map(|group| {
            let images = group.shape.images_of().map(|(_, of)| of);
            (group.pods(), images.collect())
        })
    }

    /// When the first pod was seen of which an image has not started, among those that were seen after this time.
    pub(crate) fn first_starting(&self, key: &WorkloadKey, after: Timestamp) -> Option<Timestamp> {
        let starts = |(_, image): &(ContainerRef, Arc<ImageUse>)| image.running == RunningDigest::NotStarted;
        let starting = self
            .groups(key)
            .filter(|group| group.shape.images.iter().any(starts));
        let young = starting.filter_map(|group| group.oldest().filter(|oldest| *oldest > after.as_second()));
        Timestamp::from_second(young.min()?).ok()
    }

    /// Every use of a subject by the pods of a workload.
    pub(crate) fn uses<'a>(
        &'a self,
        key: &'a WorkloadKey,
        subject: &'a SubjectKey,
    ) -> impl Iterator<Item = Use> + 'a {
        self.groups(key).flat_map(move |group| {
            let uses = group.shape.uses().filter(move |used| used.is_of(subject));
            uses.flat_map(|used| std::iter::repeat_n(used, group.pods()))
        })
    }

    fn container(&mut self, image: &PodImage) -> (ContainerRef, Arc<ImageUse>) {
        let container = ContainerRef {
            name: image.container.to_string(),
            type_: image.container_type,
        };
        (container, self.intern(image))
    }

    fn intern(&mut self, image: &PodImage) -> Arc<ImageUse> {
        let image = ImageUse::read(image);
        if let Some(known) = self.images.get(&image) {
            return known.clone();
        }
        if self.images.len() >= self.images_before_sweep.max(FIRST_SWEEP) {
            self.images.retain(|image| Arc::strong_count(image) > 1);
            self.images_before_sweep = 2 * self.images.len();
        }
        let image = Arc::new(image);
        self.images.insert(image.clone());
        image
    }
}

impl WorkloadRow {
    /// A pod is not one of those that are alike any more.
    fn part(&mut self, pod: &PodRow) {
        let Some(at) = self.groups.iter().position(|group| group.shape == pod.shape) else {
            return;
        };
        let group = &mut self.groups[at];
        if let Some(count) = group.first_seen.get_mut(&pod.first_seen) {
            *count -= 1;
            if *count == 0 {
                group.first_seen.remove(&pod.first_seen);
            }
        }
        if group.first_seen.is_empty() {
            self.groups.swap_remove(at);
        }
    }
}

impl PodShape {
    fn images_of(&self) -> impl Iterator<Item = (ContainerRef, ImageOf)> {
        self.images.iter().map(|(container, image)| {
            let of = ImageOf {
                image: image.clone(),
                keychain: self.keychain.clone(),
            };
            (container.clone(), of)
        })
    }

    fn is_undetermined(&self) -> bool {
        self.images.iter().any(|(_, image)| image.subject().is_none())
    }

    fn uses(&self) -> impl Iterator<Item = Use> {
        self.images.iter().filter_map(move |(_, image)| {
            Some(Use {
                role: Role::Runs,
                subject: image.subject()?,
                keychain: self.keychain.clone(),
                workload: self.workload.clone(),
                origin: image.origin.clone()?,
            })
        })
    }
}

impl Use {
    /// The subject as it is looked up for this pod's keychain.
    pub(crate) fn as_tenant(&self) -> Option<SubjectKey> {
        Some(self.subject.with(self.keychain.clone()?))
    }

    /// It is a use of this subject: as the operator looks it up, or as it is looked up for this pod's keychain.
    pub(crate) fn is_of(&self, subject: &SubjectKey) -> bool {
        subject.digest == self.subject.digest
            && subject.repository == self.subject.repository
            && (subject.keychain.is_none() || subject.keychain == self.keychain)
    }
}
