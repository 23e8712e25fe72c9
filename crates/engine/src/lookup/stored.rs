//! Items of evidence read again from kept bytes alone, without a registry, and which bytes those are.

use std::collections::BTreeSet;
use std::sync::Arc;

use image::Digest;
use policy::Gap;
use registry::{Document, Manifest};

use super::layers::{self, Layer};
use super::{Evidence, Seen, Shape, Shortfall, Tagged, WaysSeen, relatives, ways};
use crate::small::SmallMap;
use crate::store::{Read, Store, SubjectRecord};

/// Every item that the kept bytes still give, and why there may be more. What is not kept is left out: from disk only what
/// is there counts, never what is not.
pub(crate) fn items(read: Read<'_>, store: &Arc<Store>, seen: &Seen) -> (Vec<Evidence>, Option<Gap>) {
    let manifests: BTreeSet<Digest> = seen.values().flat_map(|seen| manifests(read, seen)).collect();
    let mut layers = layers_of(read, manifests);
    let all_fit = layers::within_budget(&mut layers);
    let gap = || Shortfall::too_large("more evidence is kept of the image than is read at once").gap;
    (items_in(read, store, layers), (!all_fit).then(gap))
}

/// The items in these manifests, which hold what is remembered: few, so all of them, one after the other.
pub(crate) fn past_items(
    read: Read<'_>,
    store: &Arc<Store>,
    manifests: impl IntoIterator<Item = Digest>,
) -> Vec<Evidence> {
    items_in(read, store, layers_of(read, manifests))
}

fn layers_of(read: Read<'_>, manifests: impl IntoIterator<Item = Digest>) -> Vec<Layer> {
    let mut layers: Vec<Layer> = manifests
        .into_iter()
        .flat_map(|digest| evidence_layers(read, digest))
        .collect();
    layers::in_order(&mut layers);
    layers
}

fn items_in(read: Read<'_>, store: &Arc<Store>, layers: Vec<Layer>) -> Vec<Evidence> {
    let found = layers::with_room(layers).filter_map(|(layer, has_room)| {
        let bytes = read(&layer.descriptor.digest)?;
        Some(Evidence {
            item: layer.held_item(bytes, has_room, store),
            manifest: layer.manifest,
        })
    });
    ways::united(Vec::new(), found.collect())
}

/// Every digest of bytes that the record may be read again from.
pub(crate) fn reach(read: Read<'_>, record: &SubjectRecord) -> BTreeSet<Digest> {
    let mut reached: BTreeSet<Digest> = record.seen.keys().chain(&record.proven).cloned().collect();
    reached.extend(record.children.iter().cloned());
    let mut holding: BTreeSet<Digest> = record.past.values().flatten().cloned().collect();
    for seen in record.seen.values().flat_map(SmallMap::values) {
        if let Some(Tagged::Manifest(index)) = &seen.fallback {
            reached.insert(index.clone());
        }
        holding.extend(manifests(read, seen));
    }
    for manifest in holding {
        let layers = evidence_layers(read, manifest.clone());
        reached.extend(layers.iter().map(|layer| layer.descriptor.digest.clone()));
        reached.insert(manifest);
    }
    reached
}

/// What a digest names, read again from kept bytes.
pub(crate) fn shape(read: Read<'_>, digest: &Digest) -> Option<Shape> {
    manifest(read, digest).map(|manifest| ways::shape_of(&manifest))
}

/// The kept bytes of the index and of the digest prove that the one lists the other.
pub(crate) fn proves(read: Read<'_>, index: &Digest, digest: &Digest) -> bool {
    let Some(Shape::Manifest { media_type, size }) = shape(read, digest) else {
        return false;
    };
    manifest(read, index).is_some_and(|index| relatives::lists(&index, digest, &media_type, size))
}

/// The manifests of evidence that the ways of discovery gave.
fn manifests(read: Read<'_>, seen: &WaysSeen) -> BTreeSet<Digest> {
    let mut manifests: BTreeSet<Digest> = seen.referrers.iter().flatten().cloned().collect();
    if let Some(Tagged::Manifest(index)) = &seen.fallback
        && let Some(Document::Index { children }) = manifest(read, index).map(|index| index.document)
    {
        manifests.extend(children.into_iter().map(|child| child.digest));
    }
    for tagged in [seen.signatures.clone(), seen.attestations.clone()] {
        if let Some(Tagged::Manifest(holding)) = tagged {
            manifests.insert(holding);
        }
    }
    manifests
}

fn evidence_layers(read: Read<'_>, digest: Digest) -> Vec<Layer> {
    manifest(read, &digest).map_or_else(Vec::new, |manifest| Layer::all_of(&manifest))
}

fn manifest(read: Read<'_>, digest: &Digest) -> Option<Manifest> {
    Manifest::read(digest, None, read(digest)?).ok()
}
