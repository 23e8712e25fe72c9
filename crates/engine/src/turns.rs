//! Whose turn it is to be asked about at a registry. Each registry has a line of its own: one that is slow holds up no
//! other. In a line what is new comes first, then what is open or missing, then what holds, each in the order in which it
//! became due; and every fourth turn belongs to whoever has waited longest, so that nobody starves.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use image::Repository;
use jiff::Timestamp;

use crate::places::Places;
use crate::schedule::Agenda;

/// Where there is no room for what holds at the first repositories, so many are looked through for one that has.
const LOOKED_THROUGH: usize = 64;
/// Every so many turns one belongs to whoever has waited longest.
const LONGEST_FIRST: u64 = 4;

/// How urgently something is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Haste {
    /// Nobody asked about it yet.
    New,
    /// It violates, or nobody knows; the next answer may be another one.
    Open,
    /// It holds, and is looked at again.
    Regular,
}

/// Something that a registry is asked about.
pub(crate) trait Asked: Ord + Clone {
    /// Where.
    fn repository(&self) -> &Repository;
}

/// Those who wait for their time, and those whose time has come.
#[derive(Debug)]
pub(crate) struct Turns<K> {
    later: Agenda<K>,
    /// By registry.
    lines: BTreeMap<String, Line<K>>,
    /// The registry that had the last turn.
    last: String,
}

/// Those whose time has come at one registry.
#[derive(Debug)]
struct Line<K> {
    by_haste: BTreeSet<(Haste, Timestamp, K)>,
    by_age: BTreeMap<(Timestamp, K), Haste>,
    turns: u64,
}

type Lines<'a, K> = Box<dyn Iterator<Item = (&'a str, &'a Line<K>)> + 'a>;

impl<K: Asked> Default for Turns<K> {
    fn default() -> Self {
        Turns {
            later: Agenda::default(),
            lines: BTreeMap::new(),
            last: String::new(),
        }
    }
}

impl<K: Asked> Default for Line<K> {
    fn default() -> Self {
        Line {
            by_haste: BTreeSet::new(),
            by_age: BTreeMap::new(),
            turns: 0,
        }
    }
}

impl<K: Asked> Turns<K> {
    /// Moves somebody from an old time to a new one.
    pub(crate) fn set(&mut self, key: &K, old: Option<Timestamp>, new: Option<Timestamp>) {
        if old == new {
            return;
        }
        if let Some(old) = old {
            self.leave_line(key, old);
        }
        self.later.set(key, old, new);
    }

    /// Puts those whose time has come in line.
    pub(crate) fn line_up(&mut self, now: Timestamp, haste: impl Fn(&K) -> Haste) {
        while let Some((due, key)) = self.later.pop_due(now) {
            let haste = haste(&key);
            let line = self
                .lines
                .entry(key.repository().registry().to_owned())
                .or_default();
            line.by_haste.insert((haste, due, key.clone()));
            line.by_age.insert((due, key), haste);
        }
    }

    /// Takes the next one out of line, and a place for it. Registries have their turns one after the other; one without a
    /// free place has none, and what holds has none where there is no room for it.
    pub(crate) fn next_turn(
        &mut self,
        places: &mut Places,
        has_room: &dyn Fn(&Repository) -> bool,
    ) -> Option<K> {
        let has_shared = places.has_shared();
        let lines = match has_shared {
            true => self.in_turn(),
            false => self.in_turn_with_own(places),
        };
        let (registry, (haste, due, key)) = lines
            .filter(|(registry, _)| places.is_free_at(registry, has_shared))
            .find_map(|(registry, line)| Some((registry.to_owned(), line.next(has_room)?)))?;
        places.take(&registry);
        if let Some(line) = self.lines.get_mut(&registry) {
            line.turns += 1;
            line.remove(haste, due, &key);
        }
        self.forget_empty(&registry);
        self.last = registry;
        Some(key)
    }

    /// The lines, that of the registry after the last one first.
    fn in_turn(&self) -> Lines<'_, K> {
        let after_last = (Bound::Excluded(self.last.as_str()), Bound::Unbounded);
        let until_last = (Bound::Unbounded, Bound::Included(self.last.as_str()));
        let lines = self.lines.range::<str, _>(after_last);
        let lines = lines.chain(self.lines.range::<str, _>(until_last));
        Box::new(lines.map(|(registry, line)| (registry.as_str(), line)))
    }

    /// The same, of registries that have places of their own. There may be very many others.
    fn in_turn_with_own<'a>(&'a self, places: &'a Places) -> Lines<'a, K> {
        let is_after = |registry: &&str| *registry > self.last.as_str();
        let (after_last, until_last): (Vec<_>, Vec<_>) = places.with_own().partition(is_after);
        let registries = after_last.into_iter().chain(until_last);
        Box::new(registries.filter_map(|registry| Some((registry, self.lines.get(registry)?))))
    }

    /// The next time at which somebody's time comes. Those in line wait for others to end, or for room.
    pub(crate) fn next(&self) -> Option<Timestamp> {
        self.later.next()
    }

    /// Where those that hold wait for their turn, and since when.
    pub(crate) fn regular_in_line(&self) -> impl Iterator<Item = (&Repository, Timestamp)> {
        let in_line = self.lines.values().flat_map(|line| &line.by_age);
        let regular = in_line.filter(|(_, haste)| **haste == Haste::Regular);
        regular.map(|((due, key), _)| (key.repository(), *due))
    }

    fn leave_line(&mut self, key: &K, due: Timestamp) {
        let registry = key.repository().registry();
        if let Some(line) = self.lines.get_mut(registry)
            && let Some(haste) = line.by_age.get(&(due, key.clone())).copied()
        {
            line.remove(haste, due, key);
            self.forget_empty(registry);
        }
    }

    fn forget_empty(&mut self, registry: &str) {
        if self
            .lines
            .get(registry)
            .is_some_and(|line| line.by_age.is_empty())
        {
            self.lines.remove(registry);
        }
    }
}

impl<K: Asked> Line<K> {
    fn next(&self, has_room: &dyn Fn(&Repository) -> bool) -> Option<(Haste, Timestamp, K)> {
        let may_begin = |haste: Haste, key: &K| haste != Haste::Regular || has_room(key.repository());
        let longest = || {
            let ((due, key), haste) = self.by_age.first_key_value()?;
            may_begin(*haste, key).then(|| (*haste, *due, key.clone()))
        };
        let hastiest = || {
            let mut first = self.by_haste.iter().take(LOOKED_THROUGH);
            first.find(|(haste, _, key)| may_begin(*haste, key)).cloned()
        };
        match self.turns % LONGEST_FIRST == LONGEST_FIRST - 1 {
            true => longest().or_else(hastiest),
            false => hastiest(),
        }
    }

    fn remove(&mut self, haste: Haste, due: Timestamp, key: &K) {
        self.by_age.remove(&(due, key.clone()));
        self.by_haste.remove(&(haste, due, key.clone()));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::tags::TagKey;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn tag(repository: &str, tag: &str) -> TagKey {
        TagKey {
            repository: repository.parse::<image::Reference>().unwrap().repository,
            tag: Arc::from(tag),
            keychain: None,
        }
    }

    fn haste(key: &TagKey) -> Haste {
        match key.tag.chars().next() {
            Some('n') => Haste::New,
            Some('o') => Haste::Open,
            _ => Haste::Regular,
        }
    }

    /// Who has a turn, in this order, where everybody ends before the next one begins.
    fn order(turns: &mut Turns<TagKey>, has_room: &dyn Fn(&Repository) -> bool) -> Vec<String> {
        let mut places = Places::new(64);
        let next = || {
            let key = turns.next_turn(&mut places, has_room)?;
            places.give_back(key.repository.registry());
            Some(key.tag.to_string())
        };
        std::iter::from_fn(next).collect()
    }

    fn lined_up(tags: &[(&str, &str, i64)]) -> Turns<TagKey> {
        let mut turns = Turns::default();
        for (repository, name, due) in tags {
            turns.set(&tag(repository, name), None, Some(at(*due)));
        }
        turns.line_up(at(100), haste);
        turns
    }

    /// Seen to fail with `LONGEST_FIRST` at infinity: the one that waits longest comes last.
    #[test]
    fn c2_09_what_is_new_comes_first_and_who_waits_longest_has_every_fourth_turn() {
        let mut turns = lined_up(&[
            ("r.example/a", "regular", 1),
            ("r.example/a", "open", 2),
            ("r.example/a", "new-5", 5),
            ("r.example/a", "new-3", 3),
            ("r.example/a", "new-4", 4),
            ("r.example/a", "new-6", 6),
        ]);
        let expected = ["new-3", "new-4", "new-5", "regular", "new-6", "open"];
        assert_eq!(order(&mut turns, &|_| true), expected);
    }

    #[test]
    fn registries_have_their_turns_one_after_the_other() {
        let mut turns = lined_up(&[
            ("a.example/x", "a1", 1),
            ("a.example/x", "a2", 2),
            ("b.example/x", "b1", 9),
            ("c.example/x", "c1", 9),
        ]);
        assert_eq!(order(&mut turns, &|_| true), ["a1", "b1", "c1", "a2"]);
    }

    #[test]
    fn where_no_shared_place_is_free_registries_with_their_own_have_their_turns_one_after_the_other() {
        let mut turns = lined_up(&[
            ("a.example/x", "a1", 1),
            ("b.example/x", "b1", 1),
            ("b.example/x", "b2", 2),
            ("c.example/x", "c1", 1),
            ("d.example/x", "d1", 1),
        ]);
        let mut places = Places::new(2);
        places.was_known_before("b.example");
        places.was_known_before("c.example");
        let mut next = || Some(turns.next_turn(&mut places, &|_| true)?.tag.to_string());
        let order: Vec<String> = std::iter::from_fn(&mut next).collect();
        assert_eq!(order, ["a1", "b1", "c1", "b2"]);
    }

    #[test]
    fn where_there_is_no_room_for_what_holds_the_rest_has_its_turn() {
        let mut turns = lined_up(&[
            ("r.example/small", "regular", 1),
            ("r.example/small", "new", 50),
            ("r.example/large", "regular-too", 60),
        ]);
        let has_room = |repository: &Repository| !repository.path().starts_with("small");
        assert_eq!(order(&mut turns, &has_room), ["new", "regular-too"]);
        let waiting: Vec<_> = turns.regular_in_line().collect();
        assert_eq!(waiting, [(&tag("r.example/small", "regular").repository, at(1))]);
    }

    #[test]
    fn whoever_gets_another_time_leaves_the_line() {
        let mut turns = lined_up(&[("r.example/a", "new", 1)]);
        turns.set(&tag("r.example/a", "new"), Some(at(1)), Some(at(200)));
        assert_eq!(order(&mut turns, &|_| true), [""; 0]);
        assert_eq!(turns.next(), Some(at(200)));
        turns.line_up(at(200), haste);
        assert_eq!(order(&mut turns, &|_| true), ["new"]);
    }
}
