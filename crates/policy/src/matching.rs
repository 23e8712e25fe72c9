//! How many key rings can be given a signer of their own: a maximum bipartite matching. One key under two rings
//! serves one of them, two keys of one ring serve that one ring.

use std::collections::{BTreeMap, BTreeSet};

use verify::Fingerprint;

/// Who signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Signer {
    /// The owner of this key.
    Key(Fingerprint),
    /// Whoever signed the item at this place, a key that cannot be told.
    OfItem(usize),
}

/// Which signers each ring, by its place in the requirement, can be given.
#[derive(Clone, Debug, Default)]
pub(crate) struct Offers {
    by_ring: BTreeMap<usize, BTreeSet<Signer>>,
}

impl Offers {
    /// The ring can be given the signer.
    pub(crate) fn add(&mut self, ring: usize, signer: Signer) {
        self.by_ring.entry(ring).or_default().insert(signer);
    }

    /// These offers and those.
    pub(crate) fn and(&self, others: &Self) -> Self {
        let mut both = self.clone();
        for (ring, signers) in &others.by_ring {
            both.by_ring.entry(*ring).or_default().extend(signers);
        }
        both
    }

    /// The largest number of rings that can have a signer each, no signer twice.
    pub(crate) fn distinct_rings(&self) -> usize {
        let mut holders = BTreeMap::new();
        self.by_ring
            .keys()
            .filter(|ring| self.find_signer(**ring, &mut holders, &mut BTreeSet::new()))
            .count()
    }

    /// Every key that is offered to some ring.
    pub(crate) fn keys(&self) -> BTreeSet<Fingerprint> {
        let signers = self.by_ring.values().flatten();
        signers
            .filter_map(|signer| {
                if let Signer::Key(key) = signer {
                    Some(*key)
                } else {
                    None
                }
            })
            .collect()
    }

    /// Gives the ring a signer, if need be by finding another one for the ring that holds it (an augmenting path;
    /// as deep as there are rings).
    fn find_signer(
        &self,
        ring: usize,
        holders: &mut BTreeMap<Signer, usize>,
        tried: &mut BTreeSet<Signer>,
    ) -> bool {
        for signer in self.by_ring.get(&ring).into_iter().flatten() {
            if !tried.insert(*signer) {
                continue;
            }
            let holder = holders.get(signer).copied();
            if holder.is_none_or(|holder| self.find_signer(holder, holders, tried)) {
                holders.insert(*signer, ring);
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offers(pairs: &[(usize, u8)]) -> Offers {
        let mut offers = Offers::default();
        for (ring, key) in pairs {
            offers.add(*ring, Signer::Key(Fingerprint::from([*key; 32])));
        }
        offers
    }

    #[test]
    fn b06_one_key_under_two_rings_serves_one_of_them() {
        assert_eq!(offers(&[(0, 1), (1, 1)]).distinct_rings(), 1);
    }

    #[test]
    fn b45_two_keys_of_one_ring_serve_one_ring() {
        assert_eq!(offers(&[(0, 1), (0, 2)]).distinct_rings(), 1);
    }

    #[test]
    fn a_ring_gives_way_where_it_has_another_signer() {
        assert_eq!(offers(&[(0, 1), (0, 2), (1, 1)]).distinct_rings(), 2);
        assert_eq!(
            offers(&[(0, 1), (1, 1), (1, 2), (2, 2), (2, 3)]).distinct_rings(),
            3
        );
        assert_eq!(offers(&[(0, 1), (1, 1), (1, 2), (2, 2)]).distinct_rings(), 2);
        assert_eq!(offers(&[]).distinct_rings(), 0);
    }

    #[test]
    fn an_item_whose_signer_cannot_be_told_serves_one_ring() {
        let mut offers = Offers::default();
        offers.add(0, Signer::OfItem(0));
        offers.add(1, Signer::OfItem(0));
        assert_eq!(offers.distinct_rings(), 1);
        offers.add(1, Signer::OfItem(1));
        assert_eq!(offers.distinct_rings(), 2);
    }
}
