//! Images whose last pod in a workload ended: what the policies said of them is told once more, because a pod that lived
//! and died between two writes would leave no trace of it.
//!
//! An image of which the first look-up is still under way is held until that ended, whatever it then says. Bounded: a
//! replica that does not write, and whoever starts pods without end, gathers nothing for ever.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use api::ContainerRef;
use jiff::{SignedDuration, Timestamp};

use crate::core::Engine;
use crate::fact::{Workload, WorkloadKey};
use crate::index::ImageOf;
use crate::keychain::Keychain;
use crate::queue::Urgency;
use crate::report::{EndedImage, ImageReport, Target};
use crate::subject::{Origin, SubjectKey};

/// So many are held that wait to be told, and so many that wait for a look-up.
const LIMIT: usize = 4096;
/// What nobody asked for in this time was told by another replica, or never will be.
const KEPT: SignedDuration = SignedDuration::from_mins(5);

/// An image that a pod of a workload had.
#[derive(Clone, Debug)]
pub(crate) struct Left {
    pub(crate) workload: Arc<Workload>,
    pub(crate) of: ImageOf,
    pub(crate) containers: BTreeSet<ContainerRef>,
}

/// The same, while it waits for its first look-up.
#[derive(Clone, Debug)]
pub(crate) struct Departed {
    pub(crate) workload: WorkloadKey,
    pub(crate) origin: Origin,
    left: Left,
}

/// What waits to be told.
#[derive(Debug, Default)]
pub(crate) struct Ended {
    waiting: HashMap<WorkloadKey, Vec<(Timestamp, EndedImage)>>,
    count: usize,
    /// How many wait for a look-up.
    departed: usize,
}

impl Ended {
    fn add(&mut self, workload: &WorkloadKey, image: EndedImage, now: Timestamp) {
        if self.count >= LIMIT {
            self.forget_old(now);
        }
        if self.count < LIMIT {
            self.waiting
                .entry(workload.clone())
                .or_default()
                .push((now, image));
            self.count += 1;
        }
    }

    /// Takes what waits to be told about a workload.
    pub(crate) fn take(&mut self, workload: &WorkloadKey, now: Timestamp) -> Vec<EndedImage> {
        let images = self.waiting.remove(workload).unwrap_or_default();
        self.count -= images.len();
        let young = images.into_iter().filter(|(ended, _)| is_young(*ended, now));
        young.map(|(_, image)| image).collect()
    }

    /// What was taken could not be handed over.
    pub(crate) fn put_back(&mut self, workload: &WorkloadKey, images: Vec<EndedImage>, now: Timestamp) {
        for image in images {
            self.add(workload, image, now);
        }
    }

    /// So many do not wait for a look-up any more.
    pub(crate) fn no_longer_held(&mut self, count: usize) {
        self.departed = self.departed.saturating_sub(count);
    }

    fn forget_old(&mut self, now: Timestamp) {
        for images in self.waiting.values_mut() {
            images.retain(|(ended, _)| is_young(*ended, now));
        }
        self.waiting.retain(|_, images| !images.is_empty());
        self.count = self.waiting.values().map(Vec::len).sum();
    }
}

fn is_young(ended: Timestamp, now: Timestamp) -> bool {
    now.duration_since(ended) <= KEPT
}

impl Engine {
    /// Pods ended, or run something else now: of what no pod of their workload runs any more, the verdict is told.
    pub(crate) fn note_left(&mut self, left: Vec<Left>, now: Timestamp) {
        if !self.synced {
            return;
        }
        for left in left {
            let (key, subject) = (left.workload.key.clone(), left.of.image.subject());
            let origin = left.of.image.origin.clone();
            let (Some(subject), Some(origin)) = (subject, origin) else {
                continue;
            };
            let still_runs = self.subjects.get(&subject).is_some_and(|subject| {
                let origins = subject.users.get(&key);
                origins.is_some_and(|origins| origins.contains_key(&origin))
            });
            if !still_runs {
                self.tell_or_hold(
                    Departed {
                        workload: key,
                        origin,
                        left,
                    },
                    now,
                );
            }
        }
    }

    /// A look-up ended: what waited for it is told.
    pub(crate) fn tell_departed(&mut self, key: &SubjectKey, now: Timestamp) {
        let Some(subject) = self.subjects.get_mut(key) else {
            return;
        };
        let departed = std::mem::take(&mut subject.departed);
        if departed.is_empty() {
            return;
        }
        self.ended.no_longer_held(departed.len());
        for departed in departed {
            self.tell_or_hold(departed, now);
        }
        self.reconsider([key.clone()], now, crate::judge::Cause::Evidence);
    }

    fn tell_or_hold(&mut self, departed: Departed, now: Timestamp) {
        let Left {
            workload,
            of,
            containers,
        } = &departed.left;
        let covering = self.policies_covering(&departed.workload, of);
        match self.answers(&departed.workload, &covering, of, now) {
            Some(answers) if answers.is_empty() => {}
            Some(mut policies) => {
                for answer in &mut policies {
                    self.add_provenance(answer, &departed.workload, of);
                }
                let Some(digest) = of.image.subject().map(|subject| subject.digest.clone()) else {
                    return;
                };
                let image = EndedImage {
                    workload: workload.clone(),
                    image: ImageReport {
                        image: of.image.written.clone(),
                        digest: digest.to_string(),
                        containers: containers.iter().cloned().collect(),
                        policies,
                    },
                };
                self.ended.add(&departed.workload, image, now);
                let target = Target::Workload(departed.workload);
                self.queue.push(target, Urgency::Changed);
            }
            None => self.hold(departed),
        }
    }

    /// Holds it by the subject of which the look-up is under way.
    fn hold(&mut self, departed: Departed) {
        if self.ended.departed >= LIMIT {
            return;
        }
        let Some(key) = self
            .deciding(&departed.left.of)
            .map(|subject| subject.key.clone())
        else {
            return;
        };
        if let Some(subject) = self.subjects.get_mut(&key) {
            subject.departed.push(departed);
            self.ended.departed += 1;
        }
    }
}

impl Departed {
    /// Whose credentials the pod brought.
    pub(crate) fn keychain(&self) -> Option<&Arc<Keychain>> {
        self.left.of.keychain.as_ref()
    }
}

impl Left {
    /// Each distinct image of a pod.
    pub(crate) fn of_pod(
        workload: &Arc<Workload>,
        images: impl Iterator<Item = (ContainerRef, ImageOf)>,
    ) -> Vec<Left> {
        let mut distinct: BTreeMap<ImageOf, BTreeSet<ContainerRef>> = BTreeMap::new();
        for (container, of) in images {
            distinct.entry(of).or_default().insert(container);
        }
        let left = distinct.into_iter().map(|(of, containers)| Left {
            workload: workload.clone(),
            of,
            containers,
        });
        left.collect()
    }
}
