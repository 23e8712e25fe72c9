//! Items of evidence read again from kept bytes alone, without a registry.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use image::Digest;
use registry::{Document, Manifest};
use verify::Item;

use super::ways;
use super::{Shape, Tagged, WaysSeen, relatives};
use crate::store::Store;

/// Every item that the kept bytes still give. What is not kept is left out: from disk only what is
/// there counts, never what is not.
pub(crate) fn items(store: &Store, seen: &WaysSeen) -> Vec<Arc<Item>> {
    let mut manifests: BTreeSet<Digest> = seen.referrers.clone().unwrap_or_default();
    if let Some(Tagged::Manifest(index)) = seen.fallback
        && let Some(Document::Index { children }) = document(store, &index)
    {
        manifests.extend(children.into_iter().map(|child| child.digest));
    }
    if let Some(Tagged::Manifest(signatures)) = seen.signatures {
        manifests.insert(signatures);
    }
    let mut layers = Vec::new();
    for digest in manifests {
        if let Some(Document::Image { layers: found, .. }) = document(store, &digest) {
            layers.extend(
                found
                    .into_iter()
                    .filter(|layer| ways::is_evidence(&layer.media_type)),
            );
        }
    }
    ways::within_budget(&mut layers);
    let mut items = BTreeMap::new();
    for layer in &layers {
        if let Some(bytes) = store.body(&layer.digest) {
            let item = ways::item(layer, bytes);
            items.insert(*item.id(), item);
        }
    }
    items.into_values().collect()
}

/// What a digest names, read again from kept bytes.
pub(crate) fn shape(store: &Store, digest: &Digest) -> Option<Shape> {
    Manifest::read(digest, None, store.body(digest)?)
        .ok()
        .map(|manifest| ways::shape_of(&manifest))
}

/// The kept bytes of the index and of the digest prove that the one lists the other.
pub(crate) fn proves(store: &Store, index: &Digest, digest: &Digest) -> bool {
    let Some(Shape::Manifest { media_type, size }) = shape(store, digest) else {
        return false;
    };
    let index = store
        .body(index)
        .and_then(|bytes| Manifest::read(index, None, bytes).ok());
    index.is_some_and(|index| relatives::lists(&index, digest, &media_type, size))
}

fn document(store: &Store, digest: &Digest) -> Option<Document> {
    Manifest::read(digest, None, store.body(digest)?)
        .ok()
        .map(|manifest| manifest.document)
}
