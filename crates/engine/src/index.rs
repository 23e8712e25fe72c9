//! What runs: pods, the workloads they belong to and the images they use, as rows without copies.
//! It knows nothing of evidence, policies or verdicts.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use api::ContainerRef;
use image::{Digest, ImageId, Reference, Repository};
use jiff::Timestamp;

use crate::fact::{PodFacts, PodImage, Workload, WorkloadKey};
use crate::keychain::Keychain;
use crate::subject::{Origin, SubjectKey};

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
    Digest(Digest),
}

impl ImageUse {
    /// What is looked up for it with the operator's credentials.
    pub(crate) fn subject(&self) -> Option<SubjectKey> {
        match (&self.repository, &self.running) {
            (Some(repository), RunningDigest::Digest(digest)) => Some(SubjectKey {
                repository: repository.clone(),
                digest: *digest,
                keychain: None,
            }),
            _ => None,
        }
    }

    /// The written image names a digest.
    pub(crate) fn is_pinned(&self) -> bool {
        matches!(self.origin, Some(Origin::Pinned(_)))
    }

    /// Reads what a pod says of one of its images.
    fn read(image: &PodImage) -> ImageUse {
        let written = image.written.clone();
        match written.parse::<Reference>() {
            Ok(reference) => {
                let origin = match &reference.digest {
                    Some(digest) => Origin::Pinned(*digest),
                    None => Origin::Tag(reference.tag().unwrap_or("latest").into()),
                };
                let running = running(image, reference.digest.as_ref());
                ImageUse {
                    written,
                    repository: Some(reference.repository),
                    origin: Some(origin),
                    running,
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

fn running(image: &PodImage, pinned: Option<&Digest>) -> RunningDigest {
    let unresolved = |why: String| RunningDigest::Unresolved(why.into());
    let Some(image_id) = &image.image_id else {
        return match pinned {
            Some(digest) => RunningDigest::Digest(*digest),
            None => unresolved(
                "Kubernetes does not report which digest an image volume mounts; name the volume's image by digest".into(),
            ),
        };
    };
    match ImageId::parse(image_id) {
        ImageId::NotStarted => RunningDigest::NotStarted,
        ImageId::Pulled { digest, .. } => RunningDigest::Digest(digest),
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

/// One pod.
#[derive(Debug)]
struct PodRow {
    workload: WorkloadKey,
    images: Vec<(ContainerRef, Arc<ImageUse>)>,
    keychain: Option<Arc<Keychain>>,
    first_seen: Timestamp,
}

/// An image of a workload, and whose credentials its pods bring.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ImageOf {
    pub(crate) image: Arc<ImageUse>,
    pub(crate) keychain: Option<Arc<Keychain>>,
}

/// A pod that uses a subject.
#[derive(Clone, Debug)]
pub(crate) struct Use {
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
    pub(crate) pods: BTreeSet<Arc<str>>,
}

/// Everything that runs.
#[derive(Debug, Default)]
pub(crate) struct Index {
    pods: HashMap<Arc<str>, PodRow>,
    workloads: HashMap<WorkloadKey, WorkloadRow>,
    by_namespace: BTreeMap<Arc<str>, BTreeSet<WorkloadKey>>,
    labels: BTreeMap<Arc<str>, BTreeMap<String, String>>,
    images: HashSet<Arc<ImageUse>>,
}

/// What a change of the index touches.
#[derive(Debug, Default)]
pub(crate) struct Touched {
    pub(crate) workloads: BTreeSet<WorkloadKey>,
    /// Uses that went and came.
    pub(crate) ended: Vec<Use>,
    pub(crate) begun: Vec<Use>,
    /// Some image of the pod has not started.
    pub(crate) starting: bool,
}

impl Index {
    /// Takes a pod in, new or changed.
    pub(crate) fn insert_pod(&mut self, pod: PodFacts, now: Timestamp) -> Touched {
        let key = pod.workload.key();
        let images: Vec<_> = pod
            .images
            .iter()
            .map(|image| {
                (
                    ContainerRef {
                        name: image.container.to_string(),
                        type_: image.container_type,
                    },
                    self.intern(image),
                )
            })
            .collect();
        let first_seen = self.pods.get(&pod.uid).map_or(now, |row| row.first_seen);
        let unchanged =
            self.pods.get(&pod.uid).is_some_and(|row| {
                row.workload == key && row.images == images && row.keychain == pod.keychain
            }) && self
                .workloads
                .get(&key)
                .is_some_and(|row| row.facts == pod.workload);
        if unchanged {
            return Touched::default();
        }
        let mut touched = self.remove_pod(&pod.uid);
        touched.starting = images
            .iter()
            .any(|(_, image)| image.running == RunningDigest::NotStarted);
        let row = self.workloads.entry(key.clone()).or_insert_with(|| WorkloadRow {
            facts: pod.workload.clone(),
            pods: BTreeSet::new(),
        });
        row.facts = pod.workload;
        row.pods.insert(pod.uid.clone());
        self.by_namespace
            .entry(key.namespace.clone())
            .or_default()
            .insert(key.clone());
        let row = PodRow {
            workload: key.clone(),
            images,
            keychain: pod.keychain,
            first_seen,
        };
        touched.begun.extend(row.uses());
        self.pods.insert(pod.uid, row);
        touched.workloads.insert(key);
        touched
    }

    /// Forgets a pod.
    pub(crate) fn remove_pod(&mut self, uid: &str) -> Touched {
        let mut touched = Touched::default();
        let Some(row) = self.pods.remove(uid) else {
            return touched;
        };
        touched.ended.extend(row.uses());
        if let Some(workload) = self.workloads.get_mut(&row.workload) {
            workload.pods.remove(uid);
            if workload.pods.is_empty() {
                self.workloads.remove(&row.workload);
                if let Some(keys) = self.by_namespace.get_mut(&row.workload.namespace) {
                    keys.remove(&row.workload);
                }
            }
        }
        for (_, image) in row.images {
            // Two holders are left when nobody else uses it: the set of images and this binding.
            if Arc::strong_count(&image) == 2 {
                self.images.remove(&image);
            }
        }
        touched.workloads.insert(row.workload);
        touched
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

    pub(crate) fn workloads(&self) -> impl Iterator<Item = (&WorkloadKey, &WorkloadRow)> {
        self.workloads.iter()
    }

    pub(crate) fn in_namespace(&self, namespace: &str) -> impl Iterator<Item = &WorkloadKey> {
        self.by_namespace.get(namespace).into_iter().flatten()
    }

    pub(crate) fn pod_count(&self) -> usize {
        self.pods.len()
    }

    /// The distinct images of a workload with their containers. Images that have not started are
    /// left out until their pod is older than `grace`: a pod that is just starting says nothing.
    pub(crate) fn images(
        &self,
        key: &WorkloadKey,
        started_before: Timestamp,
    ) -> BTreeMap<ImageOf, BTreeSet<ContainerRef>> {
        let mut images: BTreeMap<ImageOf, BTreeSet<ContainerRef>> = BTreeMap::new();
        let pods = self.workloads.get(key).into_iter().flat_map(|row| &row.pods);
        for row in pods.filter_map(|uid| self.pods.get(uid)) {
            for (container, image) in &row.images {
                if image.running != RunningDigest::NotStarted || row.first_seen <= started_before {
                    let image = ImageOf {
                        image: image.clone(),
                        keychain: row.keychain.clone(),
                    };
                    images.entry(image).or_default().insert(container.clone());
                }
            }
        }
        images
    }

    /// Every use of a subject by the pods of a workload.
    pub(crate) fn uses<'a>(
        &'a self,
        key: &WorkloadKey,
        subject: &'a SubjectKey,
    ) -> impl Iterator<Item = Use> + 'a {
        let pods = self.workloads.get(key).into_iter().flat_map(|row| &row.pods);
        pods.filter_map(|uid| self.pods.get(uid))
            .flat_map(PodRow::uses)
            .filter(move |used| used.is_of(subject))
    }

    /// The pods of a workload that run a subject, by uid.
    pub(crate) fn pods_running(
        &self,
        key: &WorkloadKey,
        subject: &SubjectKey,
    ) -> impl Iterator<Item = Arc<str>> {
        let pods = self.workloads.get(key).into_iter().flat_map(|row| &row.pods);
        pods.filter(|uid| {
            let row = self.pods.get(*uid);
            row.is_some_and(|row| row.uses().any(|used| used.is_of(subject)))
        })
        .cloned()
    }

    fn intern(&mut self, image: &PodImage) -> Arc<ImageUse> {
        let image = ImageUse::read(image);
        match self.images.get(&image) {
            Some(known) => known.clone(),
            None => {
                let image = Arc::new(image);
                self.images.insert(image.clone());
                image
            }
        }
    }
}

impl PodRow {
    fn uses(&self) -> impl Iterator<Item = Use> + '_ {
        self.images.iter().filter_map(|(_, image)| {
            Some(Use {
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
        Some(SubjectKey {
            keychain: Some(self.keychain.clone()?),
            ..self.subject.clone()
        })
    }

    /// It is a use of this subject: as the operator looks it up, or as it is looked up for this pod's keychain.
    fn is_of(&self, subject: &SubjectKey) -> bool {
        subject.digest == self.subject.digest
            && subject.repository == self.subject.repository
            && (subject.keychain.is_none() || subject.keychain == self.keychain)
    }
}
