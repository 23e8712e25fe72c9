//! Who signed an image, by what its registry serves now: for people who begin, before there is a policy. Nothing is judged
//! and nothing kept.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use image::{Digest, Repository};
use verify::{ClaimKind, Identity, ItemKind, Outcome, Verifier};

use crate::lookup::{Ask, Bodies, Clients, DigestPass, look_up};
use crate::store::{Store, StoreError};
use crate::subject::SubjectKey;

/// An image, and the names under which an index of it may be found.
#[derive(Clone, Debug)]
pub struct Signable {
    /// Where it is looked for.
    pub repository: Repository,
    /// What runs.
    pub digest: Digest,
    /// Tags that pods name it by.
    pub tags: BTreeSet<Arc<str>>,
    /// Digests that pods name it by.
    pub pinned: BTreeSet<Digest>,
}

/// Who signed an image, or an index that lists it.
#[derive(Clone, Debug, Default)]
pub struct Signers {
    /// The verifiers that verified a signature, by their place in the list that was given, and the identity where it is a
    /// keyless one.
    pub by: Vec<(usize, Option<Arc<Identity>>)>,
    /// There are signatures that none of them verified.
    pub by_others: bool,
    /// Why this may not be all.
    pub trouble: Option<String>,
}

/// Looks an image up, and asks each verifier about every signature that is found.
pub async fn signers(
    client: registry::Client,
    image: &Signable,
    verifiers: &[Verifier],
) -> Result<Signers, StoreError> {
    let bodies = Bodies::new(Arc::new(Store::open(None)?));
    let ask = Ask {
        subject: SubjectKey::of_the_operator(image.repository.clone(), image.digest.clone()),
        tags: image.tags.iter().map(|tag| (tag.clone(), None)).collect(),
        pinned: image.pinned.clone(),
        wants_indexes: true,
        wants_children: false,
        wants_attestations: false,
        holds: false,
        proven: BTreeSet::new(),
        known: BTreeMap::new(),
    };
    let pass = look_up(Clients::new(client, None), bodies, ask).await;
    let mut found = Signers::default();
    let indexes = pass
        .relatives
        .iter()
        .filter(|index| pass.proven.contains(&index.digest));
    for one in std::iter::once(&pass.own).chain(indexes) {
        found.take(one, verifiers);
    }
    if let Some(gap) = pass.index_gap {
        found.trouble.get_or_insert_with(|| gap.detail.to_string());
    }
    Ok(found)
}

impl Signers {
    fn take(&mut self, pass: &DigestPass, verifiers: &[Verifier]) {
        for evidence in &pass.items {
            let mut verified = false;
            for (at, verifier) in verifiers.iter().enumerate() {
                let Outcome::Verified(claim) = verify::verify(&evidence.item, &pass.digest, verifier) else {
                    continue;
                };
                if claim.kind != ClaimKind::ImageSignature {
                    continue;
                }
                verified = true;
                let signer = (at, claim.identity.clone());
                if !self.by.contains(&signer) {
                    self.by.push(signer);
                }
            }
            self.by_others |= !verified && evidence.item.kind() == ItemKind::ImageSignature;
        }
        if let Some(shortfall) = &pass.shortfall {
            self.trouble
                .get_or_insert_with(|| shortfall.gap.detail.to_string());
        }
    }
}
