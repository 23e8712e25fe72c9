//! What waits to be written, the most urgent first, each target once; totals have their turn in between, so that they
//! do not wait for the last of thousands of workloads.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};

use jiff::Timestamp;

use crate::report::Target;

/// How urgent an update is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Urgency {
    /// A verdict became worse.
    Worse,
    /// Something else a user sees changed.
    Changed,
    /// The totals of a policy or a key.
    Totals,
}

/// So many workloads are handed over before totals that wait have a turn.
const WORKLOADS_BEFORE_TOTALS: usize = 9;

/// The queue. A target that is handed over is not handed over again until it is done.
#[derive(Debug, Default)]
pub(crate) struct UpdateQueue {
    waiting: BTreeMap<Urgency, VecDeque<Target>>,
    queued: BTreeMap<Target, Urgency>,
    in_flight: HashSet<Target>,
    again: BTreeMap<Target, Urgency>,
    later: BTreeSet<(Timestamp, Target)>,
    gathered: HashSet<Target>,
    /// Workloads handed over since totals were.
    workloads_in_a_row: usize,
}

impl UpdateQueue {
    /// The target has something new to say.
    pub(crate) fn push(&mut self, target: Target, urgency: Urgency) {
        if self.in_flight.contains(&target) {
            let again = self.again.entry(target).or_insert(urgency);
            *again = urgency.min(*again);
            return;
        }
        match self.queued.get(&target) {
            Some(queued) if *queued <= urgency => return,
            // The older, less urgent entry stays in its line and is passed over when its turn comes.
            _ => self.queued.insert(target.clone(), urgency),
        };
        self.waiting.entry(urgency).or_default().push_back(target);
    }

    /// The target has something to say at a later time.
    pub(crate) fn push_later(&mut self, target: Target, time: Timestamp) {
        self.later.insert((time, target));
    }

    /// The target has something to say at a later time, once for all that happens until then.
    pub(crate) fn push_gathered(&mut self, target: Target, time: Timestamp) {
        if self.gathered.insert(target.clone()) {
            self.later.insert((time, target));
        }
    }

    /// Takes the most urgent target, or totals where it is their turn.
    pub(crate) fn pop(&mut self, now: Timestamp) -> Option<Target> {
        self.wake(now);
        let turn = self.workloads_in_a_row >= WORKLOADS_BEFORE_TOTALS;
        let order = [Urgency::Worse, Urgency::Changed, Urgency::Totals];
        let first = turn.then_some(Urgency::Totals);
        let target = first
            .into_iter()
            .chain(order)
            .find_map(|urgency| self.pop_line(urgency))?;
        self.workloads_in_a_row = match target {
            Target::Workload(_) => self.workloads_in_a_row + 1,
            Target::Policy(_) | Target::Key(_) | Target::Revocation(_) | Target::Exception(_) => 0,
        };
        self.in_flight.insert(target.clone());
        Some(target)
    }

    fn pop_line(&mut self, urgency: Urgency) -> Option<Target> {
        let line = self.waiting.get_mut(&urgency)?;
        while let Some(target) = line.pop_front() {
            if self.queued.get(&target) == Some(&urgency) {
                self.queued.remove(&target);
                return Some(target);
            }
        }
        None
    }

    /// How many workloads wait to be handed over.
    pub(crate) fn waiting_workloads(&self) -> usize {
        // Workloads come before everything else in the order of targets, and the others are few.
        let others = self.queued.range(Target::Policy("".into())..).count();
        self.queued.len() - others
    }

    /// What was handed over is written, or wanted again at a time.
    pub(crate) fn done(&mut self, target: Target, again_at: Option<Timestamp>) {
        self.in_flight.remove(&target);
        if let Some(urgency) = self.again.remove(&target) {
            self.push(target.clone(), urgency);
        }
        if let Some(time) = again_at {
            self.push_later(target, time);
        }
    }

    /// The next time at which something comes back.
    pub(crate) fn next_wake(&self) -> Option<Timestamp> {
        self.later.first().map(|(time, _)| *time)
    }

    /// How many targets wait or are being written.
    pub(crate) fn len(&self) -> usize {
        self.queued.len() + self.in_flight.len()
    }

    /// Puts what comes back by now in line. Called whether or not anybody pulls: a replica that does
    /// not write must not gather it for ever.
    pub(crate) fn wake(&mut self, now: Timestamp) {
        while self.later.first().is_some_and(|(time, _)| *time <= now) {
            if let Some((_, target)) = self.later.pop_first() {
                self.gathered.remove(&target);
                let urgency = match target {
                    Target::Workload(_) => Urgency::Changed,
                    Target::Policy(_) | Target::Key(_) | Target::Revocation(_) | Target::Exception(_) => {
                        Urgency::Totals
                    }
                };
                self.push(target, urgency);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(name: &str) -> Target {
        Target::Policy(name.into())
    }

    #[test]
    fn the_most_urgent_comes_first_and_each_target_once() {
        let now = Timestamp::now();
        let mut queue = UpdateQueue::default();
        queue.push(policy("a"), Urgency::Totals);
        queue.push(policy("b"), Urgency::Changed);
        queue.push(policy("a"), Urgency::Worse);
        assert_eq!(queue.pop(now), Some(policy("a")));
        assert_eq!(queue.pop(now), Some(policy("b")));
        assert_eq!(queue.pop(now), None);
    }

    fn workload(number: usize) -> Target {
        Target::Workload(crate::fact::WorkloadKey::from(crate::fact::WorkloadNames {
            namespace: "shop".into(),
            group: "apps".into(),
            kind: "Deployment".into(),
            name: format!("web-{number:05}").into(),
        }))
    }

    /// F18.
    #[test]
    fn f18_totals_have_their_turn_before_the_last_of_many_workloads_and_these_come_in_order() {
        let now = Timestamp::now();
        let mut queue = UpdateQueue::default();
        for number in 0..50_000 {
            queue.push(workload(number), Urgency::Worse);
        }
        let totals: Vec<Target> = (0..20).map(|number| policy(&number.to_string())).collect();
        for target in &totals {
            queue.push(target.clone(), Urgency::Totals);
        }
        assert_eq!(queue.waiting_workloads(), 50_000);
        let order: Vec<Target> = std::iter::from_fn(|| queue.pop(now)).collect();
        assert_eq!(order.len(), 50_020);
        let is_workload = |target: &&Target| matches!(target, Target::Workload(_));
        assert!(
            order[..9].iter().all(|target| is_workload(&target)),
            "violations come first"
        );
        let last = order.iter().rposition(|target| !is_workload(&target)).unwrap();
        assert!(last < 200, "the last totals come after {last} updates");
        let workloads: Vec<&Target> = order.iter().filter(is_workload).collect();
        assert!(workloads.is_sorted(), "in the order in which they changed");
        assert_eq!(queue.waiting_workloads(), 0);
    }

    #[test]
    fn what_changes_while_it_is_written_is_handed_over_again_afterwards() {
        let now = Timestamp::now();
        let mut queue = UpdateQueue::default();
        queue.push(policy("a"), Urgency::Changed);
        queue.pop(now);
        queue.push(policy("a"), Urgency::Worse);
        assert_eq!(queue.pop(now), None, "it is in flight");
        queue.done(policy("a"), None);
        assert_eq!(queue.pop(now), Some(policy("a")));
    }

    #[test]
    fn what_is_wanted_while_it_is_written_does_not_end_that_write() {
        let now = Timestamp::now();
        let mut queue = UpdateQueue::default();
        queue.push(policy("a"), Urgency::Changed);
        queue.pop(now);
        queue.push_later(policy("a"), now);
        assert_eq!(queue.pop(now), None, "it is in flight");
        queue.done(policy("a"), None);
        assert_eq!(queue.pop(now), Some(policy("a")));
    }

    #[test]
    fn what_is_wanted_later_comes_back_at_its_time() {
        let now = Timestamp::from_second(100).unwrap();
        let later = Timestamp::from_second(130).unwrap();
        let mut queue = UpdateQueue::default();
        queue.push(policy("a"), Urgency::Changed);
        queue.pop(now);
        queue.done(policy("a"), Some(later));
        assert_eq!(queue.pop(now), None);
        assert_eq!(queue.next_wake(), Some(later));
        assert_eq!(queue.pop(later), Some(policy("a")));
    }
}
