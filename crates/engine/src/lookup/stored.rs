//! Items of evidence read again from kept bytes alone, without a registry, and which bytes those are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use image::Digest;
use registry::{Descriptor, Document, Manifest};
use verify::Item;

use super::ways;
use super::{Shape, Tagged, WaysSeen, relatives};
use crate::store::{Read, SubjectRecord};

/// Every item that the kept bytes still give. What is not kept is left out: from disk only what is
/// there counts, never what is not.
pub(crate) fn items(read: Read<'_>, seen: &WaysSeen) -> Vec<Arc<Item>> {
    let mut layers: Vec<Descriptor> = manifests(read, seen)
        .iter()
        .flat_map(|digest| evidence_layers(read, digest))
        .collect();
    layers.sort_by_key(|layer| (layer.size, layer.digest));
    ways::within_budget(&mut layers);
    let mut items = BTreeMap::new();
    for layer in &layers {
        if let Some(bytes) = read(&layer.digest) {
            let item = ways::item(layer, bytes);
            items.insert(*item.id(), item);
        }
    }
    items.into_values().collect()
}

/// Every digest of bytes that the record may be read again from.
pub(crate) fn reach(read: Read<'_>, record: &SubjectRecord) -> BTreeSet<Digest> {
    let mut reached: BTreeSet<Digest> = record.seen.keys().chain(&record.proven).copied().collect();
    reached.extend(&record.children);
    for seen in record.seen.values() {
        if let Some(Tagged::Manifest(index)) = seen.fallback {
            reached.insert(index);
        }
        for manifest in manifests(read, seen) {
            reached.extend(evidence_layers(read, &manifest).map(|layer| layer.digest));
            reached.insert(manifest);
        }
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
    if let Some(Tagged::Manifest(signatures)) = seen.signatures {
        manifests.insert(signatures);
    }
    manifests
}

fn evidence_layers(read: Read<'_>, digest: &Digest) -> impl Iterator<Item = Descriptor> {
    let layers = match manifest(read, digest).map(|manifest| manifest.document) {
        Some(Document::Image { layers, .. }) => layers,
        _ => Vec::new(),
    };
    layers
        .into_iter()
        .filter(|layer| ways::is_evidence(&layer.media_type))
}

fn manifest(read: Read<'_>, digest: &Digest) -> Option<Manifest> {
    Manifest::read(digest, None, read(digest)?).ok()
}
