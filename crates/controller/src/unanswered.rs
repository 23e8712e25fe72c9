//! Writes that had no answer: each may have been heard all the same, and nothing of it was told. They are kept with
//! their news until one shows. What an object holds, and who tells, is known elsewhere.

use std::time::{Duration, Instant};

/// So many of one object are kept.
const KEPT: usize = 4;
/// What was not heard until then is not heard any more.
const HEARD_WITHIN: Duration = Duration::from_secs(120);

/// The writes of one object that had no answer, each with what it wrote and what is to be told of it.
#[derive(Clone, Debug)]
pub(crate) struct Unanswered<C, N> {
    /// The oldest first.
    writes: Vec<(Instant, C, N)>,
}

impl<C, N> Default for Unanswered<C, N> {
    fn default() -> Self {
        Unanswered { writes: Vec::new() }
    }
}

impl<C: PartialEq, N> Unanswered<C, N> {
    /// One more write had no answer.
    pub(crate) fn push(&mut self, content: C, news: N) {
        if self.writes.len() == KEPT {
            self.writes.remove(0);
        }
        self.writes.push((Instant::now(), content, news));
    }

    /// One of them wrote this.
    pub(crate) fn wrote(&self, content: &C) -> bool {
        self.writes.iter().any(|(_, wrote, _)| wrote == content)
    }

    /// The object holds this: the news of the write that was heard. The others were not, and are forgotten with it.
    pub(crate) fn heard(&mut self, content: &C) -> Option<N> {
        let at = self.writes.iter().position(|(_, wrote, _)| wrote == content)?;
        let (_, _, news) = std::mem::take(&mut self.writes).swap_remove(at);
        Some(news)
    }

    /// Forgets what was never heard; the object holds `shown`.
    pub(crate) fn forget_unheard(&mut self, shown: Option<&C>) {
        let may_be_heard =
            |since: &Instant, wrote: &C| since.elapsed() < HEARD_WITHIN || Some(wrote) == shown;
        self.writes.retain(|(since, wrote, _)| may_be_heard(since, wrote));
    }

    /// The news of the last one.
    pub(crate) fn last(&self) -> Option<&N> {
        self.writes.last().map(|(_, _, news)| news)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_shows_is_told_once_and_the_others_are_forgotten() {
        let mut unanswered = Unanswered::default();
        (1..=5).for_each(|number| unanswered.push(number, number * 10));
        assert_eq!(unanswered.heard(&1), None, "so many are not kept");
        assert!(unanswered.wrote(&2));
        assert_eq!(unanswered.heard(&2), Some(20));
        assert!(unanswered.is_empty());
        assert_eq!(unanswered.heard(&2), None);
    }

    #[test]
    fn what_was_never_heard_is_forgotten_after_a_while_and_what_shows_is_not() {
        let mut unanswered = Unanswered::default();
        (1..=3).for_each(|number| unanswered.push(number, ()));
        let long_ago = Instant::now().checked_sub(HEARD_WITHIN).unwrap();
        unanswered.writes[0].0 = long_ago;
        unanswered.writes[1].0 = long_ago;
        unanswered.forget_unheard(Some(&2));
        let kept: Vec<_> = unanswered.writes.iter().map(|(_, wrote, ())| *wrote).collect();
        assert_eq!(kept, [2, 3]);
    }
}
