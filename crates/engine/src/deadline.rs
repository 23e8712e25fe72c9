//! What time alone changes: when a subject is judged again, and what is told ahead of it.
//!
//! Deadlines are times in an agenda, never polled. Why a verdict changes then, `policy::evaluate` says.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::Verdict;
use jiff::Timestamp;
use policy::{Judgement, badness};

use crate::policies::PolicyObject;
use crate::schedule::{self, after};
use crate::subject::{JudgementKey, Subject};

impl Subject {
    /// When it must be judged again although nothing changes; always after `now`.
    pub(crate) fn next_wake(
        &self,
        policies: &BTreeMap<Arc<str>, PolicyObject>,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let judged = || self.judgements.values();
        let valid_until = judged().filter_map(|judged| judged.judgement.valid_until);
        let version = |key: &JudgementKey| policies.get(&key.policy)?.in_force.as_ref();
        let warnings = self.judgements.iter().filter_map(|(key, judged)| {
            let version = version(key)?;
            warning(&judged.judgement, version.compiled.warn_before())
        });
        let decay = self.overdue_since.and_then(|_| {
            self.judgements
                .iter()
                .filter(|(_, judged)| judged.judgement.verdict == Verdict::Compliant)
                .filter_map(|(key, _)| version(key))
                .filter_map(|version| decays(self, version.compiled.max_staleness()))
                .min()
        });
        let overdue = self.overdue_at().filter(|_| self.overdue_since.is_none());
        let times = valid_until.chain(warnings).chain(decay).chain(overdue);
        times.filter(|time| *time > now).min()
    }
}

/// From when on it is told that the answer gets worse by itself; None where it does not.
pub(crate) fn warning(judgement: &Judgement, before: Duration) -> Option<Timestamp> {
    let until = judgement.valid_until.filter(|_| judgement.falls())?;
    Some(schedule::before(until, before))
}

/// A violation that is kept while nothing can be told; None where none is left to keep. One whose time came has no such
/// time any more; one that an exception passed over until then is a violation from then on.
pub(crate) fn kept(before: &Judgement, now: Timestamp) -> Option<Judgement> {
    let until = before.valid_until.filter(|until| *until <= now);
    let Some(until) = until else {
        return Some(before.clone());
    };
    let past = Judgement {
        valid_until: None,
        becomes: None,
        ..before.clone()
    };
    if before.verdict == Verdict::Violating {
        return Some(past);
    }
    let then = before.at(until);
    (then.verdict == Verdict::Violating).then_some(Judgement {
        verdict: then.verdict,
        reason: then.reason,
        requirement: then.requirement,
        message: then.message,
        excepted: None,
        ..past
    })
}

/// When a Compliant verdict that cannot be refreshed is not believed any more.
pub(crate) fn decays(subject: &Subject, max_staleness: Duration) -> Option<Timestamp> {
    subject.last_seen().map(|seen| after(seen, max_staleness))
}

/// Evidence that disappears can only worsen a verdict: of the answers with and without it, the worse, until either
/// may change.
pub(crate) fn worse(without: Judgement, with: Judgement) -> Judgement {
    let until = [without.valid_until, with.valid_until]
        .into_iter()
        .flatten()
        .min();
    let becomes = until.map(|time| {
        let (without, with) = (without.at(time), with.at(time));
        match badness(with.verdict) > badness(without.verdict) {
            true => with,
            false => without,
        }
    });
    let worse = match badness(with.verdict) > badness(without.verdict) {
        true => with,
        false => without,
    };
    let differs = |then: &policy::Becomes| (then.verdict, then.reason) != (worse.verdict, worse.reason);
    Judgement {
        valid_until: until,
        becomes: becomes.filter(differs).map(Arc::new),
        ..worse
    }
}
