//! What another replica said while this one did not write. It looks at images in its own time, and may have seen what this
//! one has not: an image of which it said something else is looked at. Until that look has ended, for a moment at most,
//! nothing is said of it here: so a replica that begins to write takes nothing back that is true.

use std::collections::HashMap;
use std::time::Duration;

use api::{Reason, Verdict};
use jiff::Timestamp;

use crate::core::Engine;
use crate::fact::{SaidElsewhere, SaidOfImage, WorkloadKey};
use crate::index::ImageOf;
use crate::judge::is_gap;
use crate::queue::Urgency;
use crate::schedule::{Agenda, after};
use crate::subject::{Subject, SubjectKey};

/// A key or a policy that made the difference may be told here a moment later.
const LOOKED_AT_AFTER: Duration = Duration::from_secs(1);
/// How long nothing is said at most.
const HELD_BACK: Duration = Duration::from_secs(15);

/// The images of which another replica said something else.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    doubts: HashMap<SubjectKey, Doubt>,
    /// When each of them is looked at, or has been held back for long enough.
    agenda: Agenda,
}

#[derive(Debug)]
struct Doubt {
    since: Timestamp,
    look: Look,
    said: Said,
}

impl Doubt {
    /// When something is to be done about it.
    fn next(&self) -> Timestamp {
        let pause = match self.look {
            Look::Later => LOOKED_AT_AFTER,
            Look::Awaited(_) => HELD_BACK,
        };
        after(self.since, pause)
    }
}

/// What the other replica said of the image, by one policy or another.
#[derive(Clone, Copy, Debug, Default)]
struct Said {
    holds: bool,
    violates: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    /// It is not asked for yet.
    Later,
    /// So many have to end: one that was under way already may have been too early.
    Awaited(u8),
}

impl Heard {
    pub(crate) fn forget(&mut self, key: &SubjectKey) {
        if let Some(doubt) = self.doubts.remove(key) {
            self.agenda.set(key, Some(doubt.next()), None);
        }
    }

    /// When something is to be done.
    pub(crate) fn next(&self) -> Option<Timestamp> {
        self.agenda.next()
    }

    /// Whether a look at the image is awaited because of what was heard.
    pub(crate) fn awaits_a_look(&self, key: &SubjectKey) -> bool {
        let doubt = self.doubts.get(key);
        doubt.is_some_and(|doubt| doubt.look != Look::Later)
    }

    /// Takes in a doubt about an image of which there is none.
    fn insert(&mut self, key: SubjectKey, doubt: Doubt) {
        self.agenda.set(&key, None, Some(doubt.next()));
        self.doubts.insert(key, doubt);
    }
}

impl Engine {
    /// Another replica wrote this about a workload.
    pub(crate) fn said_elsewhere(&mut self, said: &SaidElsewhere, now: Timestamp) {
        if !self.synced {
            return;
        }
        let images = self.index.images(&said.workload, Timestamp::MAX);
        let mut doubtful = Vec::new();
        for of in images.keys() {
            for image in &said.images {
                if let Some(said) = self.says_something_else(&said.workload, image, of) {
                    doubtful.extend(self.deciding(of).map(|subject| (subject.key.clone(), said)));
                }
            }
        }
        for (key, said) in doubtful {
            self.doubt(key, said, now);
        }
    }

    /// What was said of an image, where it is something else than what is known here.
    fn says_something_else(&self, workload: &WorkloadKey, said: &SaidOfImage, of: &ImageOf) -> Option<Said> {
        if said.written != of.image.written || *said.digest != *of.image.digest_text() {
            return None;
        }
        let (policy, subject) = self.policies.get(&said.policy).zip(self.deciding(of))?;
        let judged = self.judged_of(workload, policy, subject, &of.image)?;
        let holds_here = judged.judgement.verdict == Verdict::Compliant;
        let said = Said {
            holds: !holds_here && said.violation.is_none(),
            violates: holds_here && said.violation.is_some_and(rests_on_a_registry),
        };
        (said.holds || said.violates).then_some(said)
    }

    fn doubt(&mut self, key: SubjectKey, said: Said, now: Timestamp) {
        if let Some(known) = self.heard.doubts.get_mut(&key) {
            known.said.holds |= said.holds;
            known.said.violates |= said.violates;
            return;
        }
        let doubt = Doubt {
            since: now,
            look: Look::Later,
            said,
        };
        self.heard.insert(key, doubt);
    }

    /// Does what is due about what was heard.
    pub(crate) fn wake_heard(&mut self, now: Timestamp) {
        while let Some((_, key)) = self.heard.agenda.pop_due(now) {
            let Some(doubt) = self.heard.doubts.remove(&key) else {
                continue;
            };
            if doubt.look == Look::Later && self.still_differs(&key, &doubt) {
                self.look_at_what_was_heard(key, doubt, now);
            } else {
                self.users_changed(&key, Urgency::Changed, now);
            }
        }
    }

    /// Whether no key and no policy explains by now what was said.
    fn still_differs(&self, key: &SubjectKey, doubt: &Doubt) -> bool {
        let subject = self.subjects.get(key);
        let covered = subject.filter(|subject| !subject.covering.is_empty());
        covered.is_some_and(|subject| {
            let mut verdicts = subject.judgements.values().map(|judged| judged.judgement.verdict);
            (doubt.said.holds && subject.fails())
                || (doubt.said.violates && verdicts.any(|verdict| verdict == Verdict::Compliant))
        })
    }

    fn look_at_what_was_heard(&mut self, key: SubjectKey, doubt: Doubt, now: Timestamp) {
        let in_flight = self
            .subjects
            .get(&key)
            .is_some_and(|subject| subject.plan.in_flight);
        if !in_flight {
            self.set_due(&key, Some(now));
        }
        let doubt = Doubt {
            look: Look::Awaited(if in_flight { 2 } else { 1 }),
            ..doubt
        };
        self.heard.insert(key, doubt);
    }

    /// A look at the image ended.
    pub(crate) fn settle_doubt(&mut self, key: &SubjectKey, now: Timestamp) {
        let Some(doubt) = self.heard.doubts.get_mut(key) else {
            return;
        };
        match doubt.look {
            Look::Later => {}
            Look::Awaited(looks) if looks > 1 => {
                doubt.look = Look::Awaited(looks - 1);
                self.set_due(key, Some(now));
            }
            Look::Awaited(_) => {
                self.heard.forget(key);
                self.users_changed(key, Urgency::Changed, now);
            }
        }
    }

    /// Whether nothing is said of the image for a moment. What keys, policies and the time decide is said at once.
    pub(crate) fn is_in_doubt(&self, of: &ImageOf) -> bool {
        let is_held_back = |subject: &Subject| {
            let mut judgements = subject.judgements.values().map(|judged| &judged.judgement);
            self.heard.doubts.contains_key(&subject.key)
                && judgements.all(|judgement| {
                    judgement.verdict == Verdict::Compliant
                        || is_gap(judgement.reason)
                        || rests_on_a_registry(judgement.reason)
                })
        };
        !self.heard.doubts.is_empty() && self.deciding(of).is_some_and(is_held_back)
    }
}

/// Whether what a registry holds makes it a violation, and not keys, policies or the time alone.
fn rests_on_a_registry(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::SignatureMissing
            | Reason::SignerNotTrusted
            | Reason::SignatureInvalid
            | Reason::TooFewSigners
            | Reason::IndexNotSigned
            | Reason::AttestationMissing
            | Reason::AttestationInvalid
            | Reason::AttestationUndated
            | Reason::AttestationRejected
            | Reason::ScanMissing
            | Reason::VulnerabilityFound
    )
}
