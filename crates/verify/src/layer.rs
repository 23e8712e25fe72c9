//! An item in a layer of a manifest. What the manifest says of the layer is held against the layer: a descriptor that
//! says something else than its bytes makes evidence that does not count.

use std::collections::BTreeMap;

use bytes::Bytes;
use image::Digest;

use crate::bundle;
use crate::claim::Format;
use crate::cosign_layer;
use crate::item::{Content, Item};
use crate::outcome::Cause;

/// What a manifest's descriptor says of a layer (OCI image specification 1.1, descriptor).
#[derive(Debug, Clone, Copy)]
pub struct Layer<'a> {
    /// The media type.
    pub media_type: &'a str,
    /// The length of the content, in bytes.
    pub size: u64,
    /// The digest of the content, which the caller has compared.
    pub digest: &'a Digest,
    /// The annotations.
    pub annotations: &'a BTreeMap<String, String>,
}

impl Item {
    /// Whether layers of this media type hold evidence: the two of cosign's tag format, and Sigstore bundles. Bundles of
    /// a version that is not known do as well: they are evidence that cannot be read, which is not no evidence.
    #[must_use]
    pub fn is_in_layers_of(media_type: &str) -> bool {
        matches!(media_type, Self::SIMPLE_SIGNING | Self::DSSE_ENVELOPE)
            || media_type.starts_with(bundle::MEDIA_TYPE_FAMILY)
    }

    /// Whether an annotation of this name beside a layer says anything: it belongs to the item. The others are not read.
    #[must_use]
    pub fn is_read_beside_layers(annotation: &str) -> bool {
        cosign_layer::is_read(annotation)
    }

    /// The item in a layer of one of the media types of [`Item::is_in_layers_of`]. Never fails, as
    /// [`Item::from_cosign_layer`]: a layer that is not what its descriptor says is an item of kind
    /// [`ItemKind::Malformed`](crate::ItemKind::Malformed), a bundle of an unknown version one of kind
    /// [`ItemKind::NotRead`](crate::ItemKind::NotRead).
    #[must_use]
    pub fn from_layer(layer: Layer<'_>, bytes: Bytes) -> Self {
        let found = bytes.len() as u64;
        if found != layer.size {
            let why = format!("its layer is said to have {} bytes and has {found}", layer.size);
            return layer.malformed(why);
        }
        match layer.format() {
            Format::Bundle => layer.bundle(&bytes),
            _ => Self::from_cosign_layer(layer.media_type, layer.annotations, bytes),
        }
    }
}

impl Layer<'_> {
    fn format(&self) -> Format {
        match self.media_type {
            Item::SIMPLE_SIGNING => Format::SimpleSigning,
            Item::DSSE_ENVELOPE => Format::DsseLayer,
            _ => Format::Bundle,
        }
    }

    fn bundle(&self, bytes: &[u8]) -> Item {
        let Some(said) = bundle::Version::of(self.media_type) else {
            let what = self.media_type.to_owned();
            let content = Content::NotRead(Cause::UnknownVersion { what });
            return Item::unread(&self.name(), self.format(), content);
        };
        match bundle::version(bytes) {
            Some(found) if found != said => self.malformed(format!(
                "its layer is said to be {:?} and holds a bundle of another version",
                self.media_type
            )),
            _ => Item::from_bundle(bytes),
        }
    }

    fn malformed(&self, why: String) -> Item {
        Item::unread(&self.name(), self.format(), Content::Malformed(why))
    }

    /// What makes it another item than the same bytes under another descriptor.
    fn name(&self) -> String {
        format!("{} {} {}", self.media_type, self.size, self.digest)
    }
}
