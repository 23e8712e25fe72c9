//! The ways in which signatures of one digest are found: the referrers API (OCI distribution 1.1),
//! its fallback tag, and cosign's signature tag. All are tried, and what they find is united.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, stream};
use image::Digest;
use registry::{Descriptor, Document, Error, Manifest, Referrers, TagHint};
use verify::Item;

use super::gap::Shortfall;
use super::{DigestPass, Known, Look, Shape, Tagged, WaysSeen};

/// The media type of a layer that holds a simple-signing payload (cosign signature specification).
const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// The annotation of such a layer that holds the signature in base64.
const SIGNATURE_ANNOTATION: &str = "dev.cosignproject.cosign/signature";
/// What the media types of a Sigstore bundle begin with.
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle";
/// More items of evidence than this are not read.
const ITEM_LIMIT: usize = 1000;
/// More bytes of evidence than this are not read for one digest.
const BYTE_BUDGET: u64 = 16 * 1024 * 1024;
/// Bodies that are fetched at the same time.
const CONCURRENCY: usize = 4;

/// A layer that holds evidence.
type Layer = Descriptor;

/// What the referrers API lists, and why that may not be all.
type Listing = (BTreeSet<Digest>, Option<Shortfall>);

impl Look<'_> {
    /// Finds out everything about one digest.
    pub(crate) async fn at(&self, digest: Digest, known: &Known) -> DigestPass {
        let (referrers, fallback, signatures) = tokio::join!(
            self.referrers(&digest, known.listed),
            self.tag(digest.tag_prefix(), known.seen.fallback),
            self.tag(format!("{}.sig", digest.tag_prefix()), known.seen.signatures),
        );
        let mut found = Found::default();
        let seen = WaysSeen {
            referrers: found.note(referrers).map(|(listed, truncated)| {
                found.miss(truncated);
                listed
            }),
            fallback: found.note(fallback).map(|tagged| without_itself(tagged, &digest)),
            signatures: found.note(signatures),
        };
        let items = if found.shortfall.is_none() && seen == known.seen {
            known.items.clone()
        } else {
            self.items(&seen, &mut found).await
        };
        let refreshed = !items.is_empty()
            && known
                .items
                .iter()
                .all(|before| items.iter().any(|item| item.id() == before.id()));
        // What was seen before and could not be read now still counts where it verifies.
        let before = if found.shortfall.is_some() {
            known.items.clone()
        } else {
            Vec::new()
        };
        let items = united(before, items);
        let unchanged = seen == known.seen;
        let mut shape = known.shape.clone();
        if shape.is_none() || !(self.holds && unchanged) {
            match self.client.manifest(self.repository, &digest).await {
                Ok(manifest) => {
                    self.bodies.keep(&manifest);
                    shape = Some(shape_of(&manifest));
                }
                Err(error) => {
                    found.shortfall = Shortfall::worse(found.shortfall, Some(Shortfall::of_subject(&error)))
                }
            }
        }
        DigestPass {
            digest,
            shape,
            seen,
            items,
            refreshed,
            shortfall: found.shortfall,
        }
    }

    /// What the referrers API lists, and why that may not be all.
    async fn referrers(&self, digest: &Digest, listed_before: bool) -> Result<Listing, Shortfall> {
        let digests = |descriptors: Vec<Descriptor>| {
            descriptors
                .into_iter()
                .map(|descriptor| descriptor.digest)
                .collect()
        };
        match self.client.referrers(self.repository, digest).await {
            Ok(Referrers::Listed(descriptors)) => Ok((digests(descriptors), None)),
            Ok(Referrers::Truncated { seen, error }) => Ok((digests(seen), Some(Shortfall::of(&error)))),
            Ok(Referrers::Unsupported) if listed_before => Err(Shortfall::unavailable(&format!(
                "{} listed referrers before and says now that it has no referrers API",
                self.repository
            ))),
            Ok(Referrers::Unsupported) => Ok((BTreeSet::new(), None)),
            Err(error) => Err(Shortfall::of(&error)),
        }
    }

    /// What a tag names now. The digest in a header is a hint: it is believed only where it says
    /// what our own hashing said before.
    async fn tag(&self, tag: String, known: Option<Tagged>) -> Result<Tagged, Shortfall> {
        if let Some(Tagged::Manifest(before)) = known {
            match self.client.head_tag(self.repository, &tag).await {
                Ok(Some(TagHint::Digest(now))) if now == before => return Ok(Tagged::Manifest(before)),
                Ok(None) => return Ok(Tagged::Absent),
                Ok(Some(_)) => {}
                Err(error) => return Err(Shortfall::of(&error)),
            }
        }
        match self.client.tagged_manifest(self.repository, &tag).await {
            Ok(Some(manifest)) => {
                self.bodies.keep(&manifest);
                Ok(Tagged::Manifest(manifest.digest))
            }
            Ok(None) => Ok(Tagged::Absent),
            Err(error) => Err(Shortfall::of(&error)),
        }
    }

    /// Every item of evidence behind what the ways found. One that cannot be read takes nothing
    /// away from the others.
    async fn items(&self, seen: &WaysSeen, found: &mut Found) -> Vec<Arc<Item>> {
        let mut manifests: BTreeSet<Digest> = seen.referrers.clone().unwrap_or_default();
        if let Some(Tagged::Manifest(index)) = seen.fallback {
            manifests.extend(found.note(self.listed(&index).await).unwrap_or_default());
        }
        if let Some(Tagged::Manifest(signatures)) = seen.signatures {
            manifests.insert(signatures);
        }
        if manifests.len() > ITEM_LIMIT {
            found.miss(Some(self.too_many()));
        }
        let lists: Vec<Result<Vec<Layer>, Shortfall>> = stream::iter(manifests.into_iter().take(ITEM_LIMIT))
            .map(|digest| self.evidence_layers(digest))
            .buffer_unordered(CONCURRENCY)
            .collect()
            .await;
        let mut layers: Vec<Layer> = lists
            .into_iter()
            .filter_map(|list| found.note(list))
            .flatten()
            .collect();
        // The same layers every time, whatever came first; signatures are small.
        layers.sort_by_key(|layer| (layer.size, layer.digest));
        if layers.len() > ITEM_LIMIT {
            found.miss(Some(self.too_many()));
            layers.truncate(ITEM_LIMIT);
        }
        if !within_budget(&mut layers) {
            found.miss(Some(self.too_many_bytes()));
        }
        let items: Vec<Result<Arc<Item>, Shortfall>> = stream::iter(layers)
            .map(|layer| self.item(layer))
            .buffer_unordered(CONCURRENCY)
            .collect()
            .await;
        items.into_iter().filter_map(|item| found.note(item)).collect()
    }

    /// What a fallback index lists.
    async fn listed(&self, index: &Digest) -> Result<Vec<Digest>, Shortfall> {
        let manifest = self.body(index).await?;
        match manifest.document {
            Document::Index { children } => Ok(children.into_iter().map(|child| child.digest).collect()),
            Document::Image { .. } => Err(Shortfall::unavailable(&format!(
                "the referrers tag in {} names a manifest where the OCI distribution specification puts an index",
                self.repository
            ))),
        }
    }

    /// The layers of one manifest that hold evidence; none where it is something else, such as an SBOM.
    async fn evidence_layers(&self, digest: Digest) -> Result<Vec<Layer>, Shortfall> {
        let Document::Image { layers, .. } = self.body(&digest).await?.document else {
            return Ok(Vec::new());
        };
        Ok(layers
            .into_iter()
            .filter(|layer| is_evidence(&layer.media_type))
            .take(ITEM_LIMIT + 1)
            .collect())
    }

    async fn item(&self, layer: Layer) -> Result<Arc<Item>, Shortfall> {
        let bytes: Bytes = self
            .bodies
            .blob(self.client, self.repository, &layer.digest, layer.size)
            .await
            .map_err(|error| Shortfall::of(&error))?;
        Ok(item(&layer, bytes))
    }

    async fn body(&self, digest: &Digest) -> Result<Manifest, Shortfall> {
        let body: Result<Manifest, Error> = self.bodies.manifest(self.client, self.repository, digest).await;
        body.map_err(|error| Shortfall::of(&error))
    }

    fn too_many_bytes(&self) -> Shortfall {
        Shortfall::too_large(&format!(
            "{} holds more than {BYTE_BUDGET} bytes of evidence for one image",
            self.repository
        ))
    }

    fn too_many(&self) -> Shortfall {
        Shortfall::too_large(&format!(
            "{} lists more than {ITEM_LIMIT} items of evidence for one image",
            self.repository
        ))
    }
}

/// Keeps the first layers that fit the budget; false where some did not. The sizes are those of the
/// descriptors: a body that is larger than its descriptor says is refused when it is read.
pub(crate) fn within_budget(layers: &mut Vec<Layer>) -> bool {
    let all = layers.len();
    let mut total = 0_u64;
    layers.retain(|layer| {
        let fits = total.saturating_add(layer.size) <= BYTE_BUDGET;
        if fits {
            total = total.saturating_add(layer.size);
        }
        fits
    });
    layers.len() == all
}

/// Gathers what failed on the way.
#[derive(Default)]
struct Found {
    shortfall: Option<Shortfall>,
}

impl Found {
    fn miss(&mut self, shortfall: Option<Shortfall>) {
        self.shortfall = Shortfall::worse(self.shortfall.take(), shortfall);
    }

    fn note<T>(&mut self, answer: Result<T, Shortfall>) -> Option<T> {
        match answer {
            Ok(answer) => Some(answer),
            Err(shortfall) => {
                self.miss(Some(shortfall));
                None
            }
        }
    }
}

/// Some registries resolve the fallback tag to the image itself; that lists nothing.
fn without_itself(tagged: Tagged, digest: &Digest) -> Tagged {
    if tagged == Tagged::Manifest(*digest) {
        Tagged::Absent
    } else {
        tagged
    }
}

/// The item in a layer.
pub(crate) fn item(layer: &Descriptor, bytes: Bytes) -> Arc<Item> {
    Arc::new(if layer.media_type == SIMPLE_SIGNING {
        let signature = layer
            .annotations
            .get(SIGNATURE_ANNOTATION)
            .map_or("", String::as_str);
        Item::from_simple_signing(bytes, signature)
    } else {
        Item::from_bundle(&bytes)
    })
}

pub(crate) fn is_evidence(media_type: &str) -> bool {
    media_type == SIMPLE_SIGNING || media_type.starts_with(BUNDLE)
}

/// Each item once, in order of id.
fn united(first: Vec<Arc<Item>>, second: Vec<Arc<Item>>) -> Vec<Arc<Item>> {
    let by_id: BTreeMap<Digest, Arc<Item>> = first
        .into_iter()
        .chain(second)
        .map(|item| (*item.id(), item))
        .collect();
    by_id.into_values().collect()
}

pub(crate) fn shape_of(manifest: &Manifest) -> Shape {
    match &manifest.document {
        Document::Image { .. } => Shape::Manifest {
            media_type: manifest.media_type.clone(),
            size: manifest.bytes.len() as u64,
        },
        Document::Index { children } => Shape::Index {
            runnable: children
                .iter()
                .filter(|child| is_runnable(child))
                .map(|child| child.digest)
                .collect(),
        },
    }
}

/// A child with a real platform: not an attestation manifest that an index lists as unknown/unknown.
pub(crate) fn is_runnable(child: &Descriptor) -> bool {
    child.platform.as_ref().is_some_and(registry::Platform::is_real)
}
