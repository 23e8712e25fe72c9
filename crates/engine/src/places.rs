//! How many look-ups are under way at each registry, and where one more may begin. Registries that answer slowly, or of
//! which nobody knows yet how they answer, share a part of all places: however many of them there are, those that answer
//! at once keep the rest.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::schedule::after;

/// Look-ups at one registry at the same time.
const PER_REGISTRY: usize = 16;
/// A registry at which a look-up took longer is slow.
const PROMPT: Duration = Duration::from_secs(5);
/// How long a registry counts as slow after such a look-up.
const SLOW_FOR: Duration = Duration::from_secs(600);

/// What is asked at each registry at the moment, images and tags together.
#[derive(Debug)]
pub(crate) struct Places {
    taken: HashMap<String, usize>,
    /// Since when, or from when on, a registry counts as prompt.
    prompt_from: HashMap<String, Timestamp>,
    /// How many places the registries have together that are not prompt.
    for_slow: usize,
}

impl Default for Places {
    /// Any number at any number of registries.
    fn default() -> Self {
        Places {
            taken: HashMap::new(),
            prompt_from: HashMap::new(),
            for_slow: usize::MAX,
        }
    }
}

impl Places {
    /// From so many places, half are kept for registries that are prompt.
    pub(crate) fn share_out(&mut self, places: usize) {
        self.for_slow = places.div_ceil(2);
    }

    /// Tells where a place is free now.
    pub(crate) fn free(&self, now: Timestamp) -> impl Fn(&str) -> bool {
        let slow = self
            .taken
            .iter()
            .filter(|(registry, _)| !self.is_prompt(registry, now));
        let taken_by_slow: usize = slow.map(|(_, taken)| taken).sum();
        move |registry| {
            let taken = self.taken.get(registry).copied().unwrap_or_default();
            taken < PER_REGISTRY && (taken_by_slow < self.for_slow || self.is_prompt(registry, now))
        }
    }

    pub(crate) fn take(&mut self, registry: &str) {
        *self.taken.entry(registry.to_owned()).or_default() += 1;
    }

    /// One that was taken is free again.
    pub(crate) fn give_back(&mut self, registry: &str) {
        if let Some(taken) = self.taken.get_mut(registry) {
            *taken = taken.saturating_sub(1);
            if *taken == 0 {
                self.taken.remove(registry);
            }
        }
    }

    /// A look-up at the registry took so long.
    pub(crate) fn took(&mut self, registry: &str, time: Duration, now: Timestamp) {
        if time > PROMPT {
            self.prompt_from.insert(registry.to_owned(), after(now, SLOW_FOR));
        } else if !self.prompt_from.contains_key(registry) {
            self.prompt_from.insert(registry.to_owned(), now);
        }
    }

    /// Forgets how registries answered that nobody uses any more.
    pub(crate) fn forget_unused(&mut self, is_used: impl Fn(&str) -> bool) {
        self.prompt_from.retain(|registry, _| is_used(registry));
    }

    fn is_prompt(&self, registry: &str, now: Timestamp) -> bool {
        self.prompt_from.get(registry).is_some_and(|from| *from <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT_ONCE: Duration = Duration::from_millis(50);
    const TIME_OUT: Duration = Duration::from_secs(10);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// Takes as many places as there are.
    fn take_all(places: &mut Places, registry: &str, now: Timestamp) -> usize {
        let mut taken = 0;
        while places.free(now)(registry) {
            places.take(registry);
            taken += 1;
        }
        taken
    }

    #[test]
    fn one_registry_has_so_many_places_and_gets_back_what_ended() {
        let mut places = Places::default();
        assert_eq!(take_all(&mut places, "r.example", at(0)), PER_REGISTRY);
        places.give_back("r.example");
        assert_eq!(take_all(&mut places, "r.example", at(0)), 1);
    }

    /// Weakened once: with `is_prompt` true for every registry, the slow ones take all 64 places.
    #[test]
    fn f03_slow_and_unknown_registries_share_half_of_the_places_however_many_there_are() {
        let mut places = Places::default();
        places.share_out(64);
        places.took("prompt.example", AT_ONCE, at(0));
        let names = (0..9).map(|number| format!("tarpit-{number}.example"));
        let taken: usize = names.map(|name| take_all(&mut places, &name, at(0))).sum();
        assert_eq!(taken, 32);
        assert_eq!(take_all(&mut places, "prompt.example", at(0)), PER_REGISTRY);
    }

    #[test]
    fn one_prompt_answer_between_slow_ones_makes_no_registry_prompt() {
        let mut places = Places::default();
        places.took("r.example", AT_ONCE, at(0));
        assert!(places.is_prompt("r.example", at(0)));
        places.took("r.example", TIME_OUT, at(10));
        places.took("r.example", AT_ONCE, at(11));
        assert!(!places.is_prompt("r.example", at(609)));
        assert!(places.is_prompt("r.example", at(610)));
    }

    #[test]
    fn of_registries_that_nobody_uses_nothing_is_kept() {
        let mut places = Places::default();
        places.took("gone.example", AT_ONCE, at(0));
        places.took("used.example", AT_ONCE, at(0));
        places.forget_unused(|registry| registry == "used.example");
        assert!(!places.is_prompt("gone.example", at(0)));
        assert!(places.is_prompt("used.example", at(0)));
    }
}
