//! Items of evidence read again from kept bytes alone, without a registry, and which bytes those are.

use std::collections::{BTreeMap, BTreeSet};

use image::Digest;
use registry::{Descriptor, Document, Manifest};
use verify::Item;

use super::ways;
use super::{Evidence, Seen, Shape, Tagged, WaysSeen, relatives};
use crate::store::{Read, SubjectRecord};

/// Every item that the kept bytes still give. What is not kept is left out: from disk only what is
/// there counts, never what is not.
pub(crate) fn items(read: Read<'_>, seen: &Seen) -> Vec<Evidence> {
    let manifests: BTreeSet<Digest> = seen.values().flat_map(|seen| manifests(read, seen)).collect();
    items_of(read, manifests)
}

/// The items in these manifests.
pub(crate) fn items_of(read: Read<'_>, manifests: impl IntoIterator<Item = Digest>) -> Vec<Evidence> {
    let mut layers: Vec<_> = manifests
        .into_iter()
        .flat_map(|digest| evidence_layers(read, digest))
        .collect();
    ways::in_order(&mut layers);
    ways::within_budget(&mut layers);
    let found = layers.into_iter().filter_map(|(manifest, layer)| {
        let item = ways::item(&layer, read(&layer.digest)?);
        Some(Evidence { item, manifest })
    });
    ways::united(Vec::new(), found.collect())
}

/// Every digest of bytes that the record may be read again from.
pub(crate) fn reach(read: Read<'_>, record: &SubjectRecord) -> BTreeSet<Digest> {
    let mut reached: BTreeSet<Digest> = record.seen.keys().chain(&record.proven).copied().collect();
    reached.extend(&record.children);
    let mut holding: BTreeSet<Digest> = record.past.values().flatten().copied().collect();
    for seen in record.seen.values().flat_map(BTreeMap::values) {
        if let Some(Tagged::Manifest(index)) = seen.fallback {
            reached.insert(index);
        }
        holding.extend(manifests(read, seen));
    }
    for manifest in holding {
        reached.extend(evidence_layers(read, manifest).map(|(_, layer)| layer.digest));
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
    let mut manifests: BTreeSet<Digest> = seen.referrers.clone().unwrap_or_default();
    if let Some(Tagged::Manifest(index)) = seen.fallback
        && let Some(Document::Index { children }) = manifest(read, &index).map(|index| index.document)
    {
        manifests.extend(children.into_iter().map(|child| child.digest));
    }
    for tagged in [seen.signatures, seen.attestations] {
        if let Some(Tagged::Manifest(holding)) = tagged {
            manifests.insert(holding);
        }
    }
    manifests
}

fn evidence_layers(read: Read<'_>, digest: Digest) -> impl Iterator<Item = (Digest, Descriptor)> {
    let layers = match manifest(read, &digest).map(|manifest| manifest.document) {
        Some(Document::Image { layers, .. }) => layers,
        _ => Vec::new(),
    };
    layers
        .into_iter()
        .filter(|layer| Item::is_in_layers_of(&layer.media_type))
        .map(move |layer| (digest, layer))
}

fn manifest(read: Read<'_>, digest: &Digest) -> Option<Manifest> {
    Manifest::read(digest, None, read(digest)?).ok()
}
