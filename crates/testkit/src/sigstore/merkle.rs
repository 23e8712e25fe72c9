//! Merkle trees as RFC 6962, 2.1 defines them.

use sha2::{Digest as _, Sha256};

/// A node's hash.
pub(super) type Hash = [u8; 32];

/// The hash of an entry.
pub(super) fn leaf(entry: &[u8]) -> Hash {
    Sha256::new()
        .chain_update([0])
        .chain_update(entry)
        .finalize()
        .into()
}

/// The hash of a tree with these leaves.
pub(super) fn root(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => Sha256::digest([]).into(),
        [leaf] => *leaf,
        _ => {
            let (left, right) = halves(leaves);
            node(&root(left), &root(right))
        }
    }
}

/// The audit path of the leaf with this number, from the leaf up.
pub(super) fn path(number: usize, leaves: &[Hash]) -> Vec<Hash> {
    if leaves.len() < 2 {
        return Vec::new();
    }
    let (left, right) = halves(leaves);
    let (mut path, sibling) = match number.checked_sub(left.len()) {
        None => (path(number, left), root(right)),
        Some(number) => (path(number, right), root(left)),
    };
    path.push(sibling);
    path
}

fn node(left: &Hash, right: &Hash) -> Hash {
    Sha256::new()
        .chain_update([1])
        .chain_update(left)
        .chain_update(right)
        .finalize()
        .into()
}

/// The left one holds the largest power of two that is smaller than the number of leaves.
fn halves(leaves: &[Hash]) -> (&[Hash], &[Hash]) {
    leaves.split_at(leaves.len().next_power_of_two() / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tree of five leaves, drawn by hand.
    #[test]
    fn a_path_leads_from_its_leaf_to_the_root() {
        let [a, b, c, d, e] = [b"a", b"b", b"c", b"d", b"e"].map(|entry| leaf(entry));
        let leaves = [a, b, c, d, e];
        let (ab, cd) = (node(&a, &b), node(&c, &d));
        assert_eq!(root(&leaves), node(&node(&ab, &cd), &e));
        assert_eq!(path(2, &leaves), [d, ab, e]);
        assert_eq!(path(4, &leaves), [node(&ab, &cd)]);
        assert!(path(0, &leaves[..1]).is_empty());
    }

    #[test]
    fn an_empty_tree_hashes_to_the_hash_of_nothing() {
        assert_eq!(hex::encode(&root(&[])[..4]), "e3b0c442");
    }
}
