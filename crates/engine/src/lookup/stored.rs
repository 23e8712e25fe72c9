//! Items of evidence read again from kept bytes alone, without a registry.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use image::Digest;
use registry::{Document, Manifest};
use verify::Item;

use super::ways;
use super::{Tagged, WaysSeen};
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
    let mut items = BTreeMap::new();
    for digest in manifests {
        let Some(Document::Image { layers, .. }) = document(store, &digest) else {
            continue;
        };
        for layer in layers.iter().filter(|layer| ways::is_evidence(&layer.media_type)) {
            if let Some(bytes) = store.body(&layer.digest) {
                let item = ways::item(layer, bytes);
                items.insert(*item.id(), item);
            }
        }
    }
    items.into_values().collect()
}

fn document(store: &Store, digest: &Digest) -> Option<Document> {
    Manifest::read(digest, None, store.body(digest)?)
        .ok()
        .map(|manifest| manifest.document)
}
