//! The ways in which signatures and attestations of one digest are found at one source: the referrers API (OCI
//! distribution 1.1), its fallback tag, cosign's signature tag, and, where a policy asks for attestations, its
//! attestation tag. All are tried, and what they find is united.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, stream};
use image::{Digest, Repository};
use registry::{Descriptor, Document, Error, ErrorKind, Manifest, Referrers, Source, TagHint};
use verify::Item;

use super::gap::Shortfall;
use super::sources::Visit;
use super::{Evidence, Known, Look, Shape, Tagged, WaysSeen};

/// More items of evidence than this are not read.
const ITEM_LIMIT: usize = 1000;
/// More bytes of evidence than this are not read for one digest.
const BYTE_BUDGET: u64 = 16 * 1024 * 1024;
/// Bodies that are fetched at the same time.
const CONCURRENCY: usize = 4;

/// A layer that holds evidence, and the manifest that it is a layer of.
type Layer = (Digest, Descriptor);

/// What the referrers API lists, and why that may not be all.
type Listing = (BTreeSet<Digest>, Option<Shortfall>);

impl Look<'_> {
    /// Asks one source about one digest.
    pub(super) async fn visit(&self, source: &Source, digest: Digest, known: &Known) -> Visit {
        let before = known.seen.get(&source.evidence);
        let mut visit = Visit::default();
        let asked_first = !(self.holds && known.shape.is_some() && before.is_some());
        if asked_first && self.subject(source, digest, &mut visit).await.is_none() && visit.absent.is_some() {
            return visit;
        }
        let before = before.cloned().unwrap_or_default();
        let at = At {
            look: self,
            repository: &source.evidence,
        };
        let prefix = digest.tag_prefix();
        let (referrers, fallback, signatures, attestations) = tokio::join!(
            at.referrers(&digest, known.listed.contains(&source.evidence)),
            at.tag(prefix.clone(), before.fallback),
            at.tag(format!("{prefix}.sig"), before.signatures),
            async {
                match self.attestations {
                    true => Some(at.tag(format!("{prefix}.att"), before.attestations).await),
                    false => None,
                }
            },
        );
        let found = &mut visit.found;
        visit.seen = WaysSeen {
            referrers: note(&mut found.both, referrers).map(|(listed, truncated)| {
                miss(&mut found.both, truncated);
                listed
            }),
            fallback: note(&mut found.both, fallback).map(|tagged| without_itself(tagged, &digest)),
            signatures: note(&mut found.signatures, signatures),
            attestations: attestations.and_then(|tagged| note(&mut found.attestations, tagged)),
        };
        visit.unchanged = visit.seen == before;
        // Of several sources it is not known which item came from which: they are read again, from the store.
        let alone = self.sources.len() == 1;
        visit.items = if alone && visit.unchanged && visit.found.is_whole() {
            known.items.clone()
        } else {
            at.items(&visit.seen, &mut visit.found).await
        };
        if !asked_first && !visit.unchanged {
            self.subject(source, digest, &mut visit).await;
        }
        visit
    }

    /// Has the source serve the digest itself, once in a pass.
    async fn subject(&self, source: &Source, digest: Digest, visit: &mut Visit) -> Option<()> {
        match self.manifest(source, &digest).await {
            Ok(manifest) => visit.shape = Some(shape_of(&manifest)),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                visit.absent = Some(Shortfall::of_subject(&error));
                return None;
            }
            Err(error) => miss(&mut visit.found.both, Some(Shortfall::of_subject(&error))),
        }
        Some(())
    }

    /// The manifest as the source serves it in this pass.
    async fn manifest(&self, source: &Source, digest: &Digest) -> Result<Manifest, Error> {
        if let Some(manifest) = self.served(&source.repository, digest) {
            return Ok(manifest);
        }
        let manifest = self.client.manifest(&source.repository, digest).await?;
        self.note_served(&source.repository, &manifest);
        Ok(manifest)
    }
}

/// Where evidence is looked for.
struct At<'a> {
    look: &'a Look<'a>,
    repository: &'a Repository,
}

impl At<'_> {
    /// What the referrers API lists, and why that may not be all.
    async fn referrers(&self, digest: &Digest, listed_before: bool) -> Result<Listing, Shortfall> {
        let digests = |descriptors: Vec<Descriptor>| {
            descriptors
                .into_iter()
                .map(|descriptor| descriptor.digest)
                .collect()
        };
        match self.look.client.referrers(self.repository, digest).await {
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
            match self.look.client.head_tag(self.repository, &tag).await {
                Ok(Some(TagHint::Digest(now))) if now == before => return Ok(Tagged::Manifest(before)),
                Ok(None) => return Ok(Tagged::Absent),
                Ok(Some(_)) => {}
                Err(error) => return Err(Shortfall::of(&error)),
            }
        }
        match self.look.client.tagged_manifest(self.repository, &tag).await {
            Ok(Some(manifest)) => {
                self.look.bodies.keep(&manifest);
                Ok(Tagged::Manifest(manifest.digest))
            }
            Ok(None) => Ok(Tagged::Absent),
            Err(error) => Err(Shortfall::of(&error)),
        }
    }

    /// Every item of evidence behind what the ways found. One that cannot be read takes nothing
    /// away from the others, and what only attestations are found by nothing from signatures.
    async fn items(&self, seen: &WaysSeen, found: &mut Found) -> Vec<Evidence> {
        let mut manifests: BTreeSet<Digest> = seen.referrers.clone().unwrap_or_default();
        if let Some(Tagged::Manifest(index)) = seen.fallback {
            let listed = self.listed(&index).await;
            manifests.extend(note(&mut found.both, listed).unwrap_or_default());
        }
        if let Some(Tagged::Manifest(signatures)) = seen.signatures {
            manifests.insert(signatures);
        }
        let items = self.items_of(manifests, &mut found.both).await;
        let Some(Tagged::Manifest(attestations)) = seen.attestations else {
            return united(Vec::new(), items);
        };
        let attestations = BTreeSet::from([attestations]);
        united(items, self.items_of(attestations, &mut found.attestations).await)
    }

    async fn items_of(&self, manifests: BTreeSet<Digest>, found: &mut Option<Shortfall>) -> Vec<Evidence> {
        if manifests.len() > ITEM_LIMIT {
            miss(found, Some(self.too_many()));
        }
        let lists: Vec<Result<Vec<Layer>, Shortfall>> = stream::iter(manifests.into_iter().take(ITEM_LIMIT))
            .map(|digest| self.evidence_layers(digest))
            .buffer_unordered(CONCURRENCY)
            .collect()
            .await;
        let mut layers: Vec<Layer> = lists
            .into_iter()
            .filter_map(|list| note(found, list))
            .flatten()
            .collect();
        in_order(&mut layers);
        if layers.len() > ITEM_LIMIT {
            miss(found, Some(self.too_many()));
            layers.truncate(ITEM_LIMIT);
        }
        if !within_budget(&mut layers) {
            miss(found, Some(self.too_many_bytes()));
        }
        let items: Vec<Result<Evidence, Shortfall>> = stream::iter(layers)
            .map(|layer| self.item(layer))
            .buffer_unordered(CONCURRENCY)
            .collect()
            .await;
        items.into_iter().filter_map(|item| note(found, item)).collect()
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
        let layers = layers
            .into_iter()
            .filter(|layer| Item::is_in_layers_of(&layer.media_type));
        Ok(layers.take(ITEM_LIMIT + 1).map(|layer| (digest, layer)).collect())
    }

    async fn item(&self, (manifest, layer): Layer) -> Result<Evidence, Shortfall> {
        let bytes: Bytes = self
            .look
            .bodies
            .blob(self.look.client, self.repository, &layer.digest, layer.size)
            .await
            .map_err(|error| Shortfall::of(&error))?;
        let item = item(&layer, bytes);
        Ok(Evidence { item, manifest })
    }

    async fn body(&self, digest: &Digest) -> Result<Manifest, Shortfall> {
        let (client, bodies) = (self.look.client, self.look.bodies);
        let body: Result<Manifest, Error> = bodies.manifest(client, self.repository, digest).await;
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

/// The same layers first every time, whatever came first; signatures are small.
pub(crate) fn in_order(layers: &mut [Layer]) {
    layers.sort_by_key(|(manifest, layer)| (layer.size, layer.digest, *manifest));
}

/// Keeps the first layers that fit the budget; false where some did not. The sizes are those of the
/// descriptors: a body that is larger than its descriptor says is refused when it is read.
pub(crate) fn within_budget(layers: &mut Vec<Layer>) -> bool {
    let all = layers.len();
    let mut total = 0_u64;
    layers.retain(|(_, layer)| {
        let fits = total.saturating_add(layer.size) <= BYTE_BUDGET;
        if fits {
            total = total.saturating_add(layer.size);
        }
        fits
    });
    layers.len() == all
}

/// What failed on the way, by what it may have hidden.
#[derive(Default)]
pub(super) struct Found {
    both: Option<Shortfall>,
    signatures: Option<Shortfall>,
    attestations: Option<Shortfall>,
}

impl Found {
    /// Everything that was asked for was read.
    pub(super) fn is_whole(&self) -> bool {
        self.both.is_none() && self.signatures.is_none() && self.attestations.is_none()
    }

    /// Why signatures may be missing.
    pub(super) fn of_signatures(&self) -> Option<Shortfall> {
        Shortfall::worse(self.both.clone(), self.signatures.clone())
    }

    /// Why attestations may be missing.
    pub(super) fn of_attestations(&self) -> Option<Shortfall> {
        Shortfall::worse(self.both.clone(), self.attestations.clone())
    }

    /// Something may hide signatures and attestations.
    #[cfg(test)]
    pub(super) fn miss(&mut self, shortfall: Option<Shortfall>) {
        miss(&mut self.both, shortfall);
    }
}

fn miss(told: &mut Option<Shortfall>, shortfall: Option<Shortfall>) {
    *told = Shortfall::worse(told.take(), shortfall);
}

fn note<T>(told: &mut Option<Shortfall>, answer: Result<T, Shortfall>) -> Option<T> {
    match answer {
        Ok(answer) => Some(answer),
        Err(shortfall) => {
            miss(told, Some(shortfall));
            None
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
    let said = verify::Layer {
        media_type: &layer.media_type,
        size: layer.size,
        digest: &layer.digest,
        annotations: &layer.annotations,
    };
    Arc::new(Item::from_layer(said, bytes))
}

/// Each item once, in order of id.
pub(crate) fn united(first: Vec<Evidence>, second: Vec<Evidence>) -> Vec<Evidence> {
    let by_id: BTreeMap<Digest, Evidence> = first
        .into_iter()
        .chain(second)
        .map(|found| (*found.item.id(), found))
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
