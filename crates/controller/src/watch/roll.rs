//! Which objects a complete list held, so that the others can be told as gone.

use std::collections::HashMap;
use std::hash::Hash;

/// The objects of one kind that exist, each with the last list that held it.
#[derive(Debug)]
pub(crate) struct Roll<I> {
    present: HashMap<I, u32>,
    list: u32,
}

impl<I> Default for Roll<I> {
    fn default() -> Self {
        Roll {
            present: HashMap::new(),
            list: 0,
        }
    }
}

impl<I: Clone + Eq + Hash> Roll<I> {
    pub(crate) fn list_begins(&mut self) {
        self.list += 1;
    }

    pub(crate) fn seen(&mut self, id: I) {
        self.present.insert(id, self.list);
    }

    pub(crate) fn gone(&mut self, id: &I) {
        self.present.remove(id);
    }

    /// What the list did not hold.
    pub(crate) fn list_ended(&mut self) -> Vec<I> {
        let list = self.list;
        self.present
            .extract_if(|_, seen| *seen != list)
            .map(|(id, _)| id)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_complete_list_does_not_hold_is_gone_once() {
        let mut roll = Roll::default();
        roll.list_begins();
        roll.seen("a");
        roll.seen("b");
        assert_eq!(roll.list_ended(), Vec::<&str>::new());
        roll.seen("c");
        roll.gone(&"a");
        roll.list_begins();
        roll.seen("c");
        assert_eq!(roll.list_ended(), ["b"]);
        roll.list_begins();
        roll.seen("c");
        assert_eq!(roll.list_ended(), Vec::<&str>::new());
    }
}
