//! The layers of manifests that hold evidence: which of them are read, which are held, and how the others are read again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use image::Digest;
use registry::{Descriptor, Document, Manifest};
use verify::Item;

use super::ways::{BYTE_BUDGET, ITEM_LIMIT};
use crate::store::Store;

/// So many bytes of evidence about one digest are held in memory, the smallest items; of the others what they say they are.
const HELD: u64 = 16 * 1024;

/// A layer that holds evidence.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    /// The manifest that it is a layer of.
    pub(crate) manifest: Digest,
    /// The how manieth: two may have the same content and differ in what is written beside it, as cosign's signatures do.
    position: usize,
    pub(crate) descriptor: Descriptor,
}

impl Layer {
    /// Those of a manifest; none where it is something else, such as an SBOM. Of what is written beside them only what is
    /// read is held: anybody may write megabytes there.
    pub(crate) fn all_of(manifest: &Manifest) -> Vec<Layer> {
        let Document::Image { layers, .. } = &manifest.document else {
            return Vec::new();
        };
        let evidence = layers
            .iter()
            .enumerate()
            .filter(|(_, layer)| Item::is_in_layers_of(&layer.media_type));
        let layer = |(position, layer): (usize, &Descriptor)| {
            let beside = layer.annotations.iter();
            let read = beside.filter(|(name, _)| Item::is_read_beside_layers(name));
            Layer {
                manifest: manifest.digest.clone(),
                position,
                descriptor: Descriptor {
                    media_type: layer.media_type.clone(),
                    digest: layer.digest.clone(),
                    size: layer.size,
                    platform: None,
                    artifact_type: None,
                    annotations: read.map(|(name, value)| (name.clone(), value.clone())).collect(),
                },
            }
        };
        evidence.take(ITEM_LIMIT + 1).map(layer).collect()
    }

    /// The item in it.
    pub(crate) fn item(&self, bytes: Bytes) -> Item {
        let said = verify::Layer {
            media_type: &self.descriptor.media_type,
            size: self.descriptor.size,
            digest: &self.descriptor.digest,
            annotations: &self.descriptor.annotations,
        };
        Item::from_layer(said, bytes)
    }

    /// The same, as it is held: without its content where there is no room for that, which is read again from what is kept.
    pub(crate) fn held_item(&self, bytes: Bytes, has_room: bool, store: &Arc<Store>) -> Arc<Item> {
        let item = self.item(bytes);
        if has_room {
            return Arc::new(item);
        }
        Arc::new(item.kept_elsewhere(Arc::new(InStore {
            store: store.clone(),
            manifest: self.manifest.clone(),
            position: self.position,
        })))
    }

    fn bytes_beside(&self) -> usize {
        let beside = self.descriptor.annotations.iter();
        beside.map(|(name, value)| name.len() + value.len()).sum()
    }
}

/// The same layers first every time, whatever came first; signatures are small.
pub(crate) fn in_order(layers: &mut [Layer]) {
    layers.sort_by_key(|layer| {
        let descriptor = &layer.descriptor;
        (
            descriptor.size,
            descriptor.digest.clone(),
            layer.manifest.clone(),
            layer.position,
        )
    });
}

/// Keeps the first layers that fit the budget; false where some did not. The sizes are those of the descriptors: a body
/// that is larger than its descriptor says is refused when it is read. One that several layers share is read once.
pub(crate) fn within_budget(layers: &mut Vec<Layer>) -> bool {
    let all = layers.len();
    let mut total = 0_u64;
    let mut counted = BTreeSet::new();
    layers.retain(|Layer { descriptor, .. }| {
        let body = (descriptor.digest.clone(), descriptor.size);
        let with_it = total.saturating_add(descriptor.size);
        let fits = counted.contains(&body) || with_it <= BYTE_BUDGET;
        if fits && counted.insert(body) {
            total = with_it;
        }
        fits
    });
    layers.len() == all
}

/// Which of the layers are held in memory, the first ones.
pub(crate) fn with_room(layers: Vec<Layer>) -> impl Iterator<Item = (Layer, bool)> {
    let mut total = 0_u64;
    layers.into_iter().map(move |layer| {
        let size = layer.descriptor.size;
        total = total
            .saturating_add(size)
            .saturating_add(layer.bytes_beside() as u64);
        (layer, total <= HELD)
    })
}

/// Where an item is kept: the manifest that says what the layer is, and which of its layers.
struct InStore {
    store: Arc<Store>,
    manifest: Digest,
    position: usize,
}

impl InStore {
    fn read<T>(&self, of: impl FnOnce(&Layer, Bytes) -> T) -> Option<T> {
        let layers = self.store.layers(&self.manifest)?;
        let layer = layers.iter().find(|layer| layer.position == self.position)?;
        Some(of(layer, self.store.body(&layer.descriptor.digest)?))
    }
}

impl verify::Keeper for InStore {
    fn item(&self) -> Option<Item> {
        self.read(Layer::item)
    }

    fn is_at_hand(&self) -> bool {
        self.read(|_, _| ()).is_some()
    }
}

/// The layers of manifests that were read again lately: a thousand items may lie in one manifest of megabytes, which is
/// read once for all of them and not held for longer than they are looked through.
#[derive(Debug, Default)]
pub(crate) struct Recent(Mutex<Held>);

#[derive(Debug, Default)]
struct Held {
    layers: BTreeMap<Digest, Arc<[Layer]>>,
    /// Of their manifests.
    bytes: u64,
}

impl Recent {
    /// The layers of a manifest; `read` gives its bytes.
    pub(crate) fn layers(
        &self,
        manifest: &Digest,
        read: impl FnOnce() -> Option<Bytes>,
    ) -> Option<Arc<[Layer]>> {
        if let Some(layers) = self.held().layers.get(manifest) {
            return Some(layers.clone());
        }
        let bytes = read()?;
        let size = bytes.len() as u64;
        let layers: Arc<[Layer]> = Layer::all_of(&Manifest::read(manifest, None, bytes).ok()?).into();
        let mut held = self.held();
        if held.bytes.saturating_add(size) > BYTE_BUDGET {
            *held = Held::default();
        }
        if held.layers.insert(manifest.clone(), layers.clone()).is_none() {
            held.bytes += size;
        }
        Some(layers)
    }

    /// Lets go of all of them.
    pub(crate) fn clear(&self) {
        *self.held() = Held::default();
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
