//! How many look-ups are under way at each registry, and where one more may begin. A registry earns places of its own by
//! prompt look-ups and loses them by slow ones; the others are shared by all. However many registries hold what they share
//! and never answer, one that answers promptly keeps its own places.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

/// Look-ups at one registry at the same time.
const PER_REGISTRY: usize = 16;
/// A look-up that takes longer is slow. Nothing that waits for a pace that an administrator set counts.
const PROMPT: Duration = Duration::from_secs(3);
/// So many places of its own has a registry of which an earlier process knew how it answers.
const KNOWN_BEFORE: usize = 4;

/// What is asked at each registry at the moment, images and tags together.
#[derive(Debug)]
pub(crate) struct Places {
    taken: HashMap<String, usize>,
    /// How many places each registry has for itself, where it has any.
    earned: BTreeMap<String, usize>,
    /// How many places all registries share.
    shared: usize,
}

impl Places {
    /// Of so many places at all registries together, half are shared.
    pub(crate) fn new(places: usize) -> Self {
        Places {
            taken: HashMap::new(),
            earned: BTreeMap::new(),
            shared: places.div_ceil(2),
        }
    }

    /// Whether a place that all share is free.
    pub(crate) fn has_shared(&self) -> bool {
        let taken = self.taken.iter();
        let shared = taken.map(|(registry, taken)| taken.saturating_sub(self.earned_by(registry)));
        shared.sum::<usize>() < self.shared
    }

    /// Whether one more look-up may begin at the registry; `has_shared` is the answer to the question of that name.
    pub(crate) fn is_free_at(&self, registry: &str, has_shared: bool) -> bool {
        let taken = self.taken.get(registry).copied().unwrap_or_default();
        taken < PER_REGISTRY && (has_shared || taken < self.earned_by(registry))
    }

    /// The registries that have places of their own, in order of name.
    pub(crate) fn with_own(&self) -> impl Iterator<Item = &str> {
        self.earned.keys().map(String::as_str)
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

    /// A look-up at the registry took so long. One that got no answer earns nothing, however soon it ended.
    pub(crate) fn took(&mut self, registry: &str, time: Duration, answered: bool) {
        let earned = self.earned_by(registry);
        let earned = match (time <= PROMPT, answered) {
            (true, true) => (earned + 1).min(PER_REGISTRY),
            (true, false) => earned,
            (false, _) => earned / 2,
        };
        match earned {
            0 => drop(self.earned.remove(registry)),
            _ => drop(self.earned.insert(registry.to_owned(), earned)),
        }
    }

    /// A look-up at the registry was complete in an earlier process.
    pub(crate) fn was_known_before(&mut self, registry: &str) {
        if !self.earned.contains_key(registry) {
            self.earned.insert(registry.to_owned(), KNOWN_BEFORE);
        }
    }

    /// Forgets what registries earned that nobody uses any more.
    pub(crate) fn forget_unused(&mut self, is_used: impl Fn(&str) -> bool) {
        self.earned.retain(|registry, _| is_used(registry));
    }

    fn earned_by(&self, registry: &str) -> usize {
        self.earned.get(registry).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT_ONCE: Duration = Duration::from_millis(50);
    const TIME_OUT: Duration = Duration::from_secs(10);

    /// Takes as many places as there are.
    fn take_all(places: &mut Places, registry: &str) -> usize {
        let mut taken = 0;
        while places.is_free_at(registry, places.has_shared()) {
            places.take(registry);
            taken += 1;
        }
        taken
    }

    fn earn(places: &mut Places, registry: &str, count: usize) {
        (0..count).for_each(|_| places.took(registry, AT_ONCE, true));
    }

    #[test]
    fn one_registry_has_so_many_places_and_gets_back_what_ended() {
        let mut places = Places::new(64);
        assert_eq!(take_all(&mut places, "r.example"), PER_REGISTRY);
        places.give_back("r.example");
        assert_eq!(take_all(&mut places, "r.example"), 1);
    }

    /// Weakened once: with what all share as large as all places, the ones that never answer take all 64.
    #[test]
    fn f03_registries_that_never_answered_share_half_of_the_places_however_many_there_are() {
        let mut places = Places::new(64);
        earn(&mut places, "prompt.example", 20);
        let names = (0..9).map(|number| format!("tarpit-{number}.example"));
        let taken: usize = names.map(|name| take_all(&mut places, &name)).sum();
        assert_eq!(taken, 32);
        assert_eq!(take_all(&mut places, "prompt.example"), PER_REGISTRY);
    }

    /// Weakened once: where the first prompt look-up earns all places, one answer buys sixteen that hang.
    #[test]
    fn every_place_of_its_own_costs_a_registry_a_prompt_look_up() {
        let mut places = Places::new(2);
        assert_eq!(take_all(&mut places, "tarpit.example"), 1);
        earn(&mut places, "cunning.example", 3);
        assert_eq!(take_all(&mut places, "cunning.example"), 3);
        for _ in 0..3 {
            places.took("cunning.example", TIME_OUT, false);
            places.give_back("cunning.example");
        }
        assert_eq!(take_all(&mut places, "cunning.example"), 0);
    }

    #[test]
    fn one_slow_look_up_takes_a_prompt_registry_half_of_its_own_places() {
        let mut places = Places::new(2);
        assert_eq!(take_all(&mut places, "tarpit.example"), 1);
        earn(&mut places, "r.example", 20);
        places.took("r.example", TIME_OUT, true);
        assert_eq!(take_all(&mut places, "r.example"), PER_REGISTRY / 2);
    }

    #[test]
    fn a_failure_that_comes_soon_earns_nothing_and_costs_nothing() {
        let mut places = Places::new(2);
        assert_eq!(take_all(&mut places, "tarpit.example"), 1);
        earn(&mut places, "r.example", 1);
        (0..9).for_each(|_| places.took("r.example", AT_ONCE, false));
        assert_eq!(take_all(&mut places, "r.example"), 1);
    }

    #[test]
    fn a_registry_that_an_earlier_process_knew_has_places_of_its_own_from_the_start() {
        let mut places = Places::new(2);
        assert_eq!(take_all(&mut places, "tarpit.example"), 1);
        places.was_known_before("r.example");
        places.was_known_before("r.example");
        assert_eq!(take_all(&mut places, "r.example"), KNOWN_BEFORE);
    }

    #[test]
    fn of_registries_that_nobody_uses_nothing_is_kept() {
        let mut places = Places::new(64);
        earn(&mut places, "gone.example", 1);
        earn(&mut places, "used.example", 1);
        places.forget_unused(|registry| registry == "used.example");
        assert_eq!(places.with_own().collect::<Vec<_>>(), ["used.example"]);
    }
}
