//! Indexes that list what runs, and platform manifests that what runs lists.

use std::collections::BTreeSet;
use std::sync::Arc;

use image::Digest;
use registry::{Document, Error, Manifest};

use super::gap::Shortfall;
use super::{Ask, Look, Pass, known, ways};

/// More platform manifests than this are not looked at.
const CHILD_LIMIT: usize = 32;

/// Looks for indexes that list the manifest that runs: the digests that users write, what their
/// tags resolved to at first sight, and, unless all is well, what the tags name now.
pub(crate) async fn follow_indexes(look: &Look<'_>, ask: &Ask, pass: &mut Pass, media_type: &str, size: u64) {
    let mut candidates: BTreeSet<Digest> = ask.pinned.clone();
    candidates.extend(ask.tags.values().flatten().cloned());
    if !ask.holds {
        for tag in ask.tags.keys() {
            candidates.extend(resolve(look, pass, tag).await);
        }
    }
    candidates.remove(&ask.subject.digest);
    for candidate in candidates.difference(&ask.proven) {
        let index = read(look, pass, candidate).await;
        if index.is_some_and(|index| lists(&index, &ask.subject.digest, media_type, size)) {
            pass.proven.insert(candidate.clone());
        }
    }
    for index in pass.proven.clone() {
        pass.relatives
            .push(look.at(index.clone(), &known(ask, &index)).await);
    }
}

/// What the tag names now, at the first source that has it.
async fn resolve(look: &Look<'_>, pass: &mut Pass, tag: &Arc<str>) -> Option<Digest> {
    for source in &look.sources {
        match look.client.tagged_manifest(&source.repository, tag).await {
            Ok(Some(manifest)) => {
                look.note_served(&source.repository, &manifest);
                pass.resolved.push((Arc::clone(tag), manifest.digest.clone()));
                return Some(manifest.digest);
            }
            Ok(None) => {}
            Err(error) => note_gap(pass, &error),
        }
    }
    None
}

/// A candidate, at the first source that has it. One that is gone proves no membership, now or later.
async fn read(look: &Look<'_>, pass: &mut Pass, candidate: &Digest) -> Option<Manifest> {
    if let Some(kept) = look.bodies.kept_manifest(candidate) {
        return Some(kept);
    }
    for source in &look.sources {
        match look.client.manifest(&source.repository, candidate).await {
            Ok(manifest) => {
                look.note_served(&source.repository, &manifest);
                return Some(manifest);
            }
            Err(Error::NotFound { .. }) => {}
            Err(error) => note_gap(pass, &error),
        }
    }
    None
}

/// Looks at every manifest of the index that may run.
pub(crate) async fn follow_children(look: &Look<'_>, ask: &Ask, pass: &mut Pass, runnable: Vec<Digest>) {
    if runnable.len() > CHILD_LIMIT {
        let detail = format!("the index lists more than {CHILD_LIMIT} platform manifests");
        pass.own.shortfall = Shortfall::worse(pass.own.shortfall.take(), Some(Shortfall::too_large(&detail)));
        return;
    }
    for child in &runnable {
        pass.relatives
            .push(look.at(child.clone(), &known(ask, child)).await);
    }
    pass.children = runnable;
}

fn note_gap(pass: &mut Pass, error: &Error) {
    let shortfall = Shortfall::of(error);
    pass.retry_after = pass.retry_after.max(shortfall.retry_after);
    pass.index_gap.get_or_insert(shortfall.gap);
}

/// The index lists the manifest directly, as what it is, for a real platform.
pub(crate) fn lists(index: &Manifest, digest: &Digest, media_type: &str, size: u64) -> bool {
    let Document::Index { children } = &index.document else {
        return false;
    };
    children.iter().any(|child| {
        child.digest == *digest
            && child.media_type == media_type
            && child.size == size
            && ways::is_for_a_real_platform(child)
    })
}
