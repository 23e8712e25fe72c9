//! The ways in which signatures and attestations of one digest are found at one source: the referrers API (OCI
//! distribution 1.1), its fallback tag, cosign's signature tag, and, where a policy asks for attestations, its
//! attestation tag. All are tried, and what they find is united.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::{StreamExt, stream};
use image::{Digest, Repository};
use registry::{Descriptor, Document, Error, ErrorKind, Manifest, Referrers, Source, TagHint};

use super::gap::Shortfall;
use super::layers::{self, Layer};
use super::sources::Visit;
use super::{Evidence, Known, Look, Shape, Tagged, WaysSeen};

/// More items of evidence than this are not read.
pub(crate) const ITEM_LIMIT: usize = 1000;
/// More bytes of evidence than this are not read for one digest, nor more bytes of manifests that hold it.
pub(crate) const BYTE_BUDGET: u64 = 16 * 1024 * 1024;
/// Bodies that are fetched at the same time.
const CONCURRENCY: usize = 4;

/// Manifests that may hold evidence, each with its size as listed, or 0 where nothing lists it.
type Listed = BTreeMap<Digest, u64>;

impl Look<'_> {
    /// Asks one source about one digest.
    pub(super) async fn visit(&self, source: &Source, digest: Digest, known: &Known) -> Visit {
        let before = known.seen.get(&source.evidence);
        let mut visit = Visit::default();
        let asked_first = !(self.holds && known.shape.is_some() && before.is_some());
        if asked_first
            && self.subject(source, digest.clone(), &mut visit).await.is_none()
            && visit.absent.is_some()
        {
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
            at.tag(prefix.clone(), before.fallback.clone()),
            at.tag(format!("{prefix}.sig"), before.signatures.clone()),
            async {
                match self.attestations {
                    true => Some(at.tag(format!("{prefix}.att"), before.attestations.clone()).await),
                    false => None,
                }
            },
        );
        let found = &mut visit.found;
        let mut listed = Listed::new();
        visit.seen = WaysSeen {
            referrers: note(&mut found.both, referrers).map(|(referrers, truncated)| {
                miss(&mut found.both, truncated);
                listed = referrers;
                listed.keys().cloned().collect()
            }),
            fallback: note(&mut found.both, fallback).map(|tagged| without_itself(tagged, &digest)),
            signatures: note(&mut found.signatures, signatures),
            attestations: attestations.and_then(|tagged| note(&mut found.attestations, tagged)),
        };
        visit.unchanged = visit.seen == before;
        // Of several sources it is not known which item came from which: they are read again, from the store.
        let alone = self.sources.len() == 1;
        let is_at_hand = |evidence: &Evidence| evidence.item.is_at_hand();
        visit.unchanged &= known.items.iter().all(is_at_hand);
        visit.items = if alone && visit.unchanged && visit.found.is_whole() {
            known.items.clone()
        } else {
            at.items(&visit.seen, listed, &mut visit.found).await
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
    async fn referrers(
        &self,
        digest: &Digest,
        listed_before: bool,
    ) -> Result<(Listed, Option<Shortfall>), Shortfall> {
        match self.look.client.referrers(self.repository, digest).await {
            Ok(Referrers::Listed(descriptors)) => Ok((sizes(descriptors), None)),
            Ok(Referrers::Truncated { seen, error }) => Ok((sizes(seen), Some(Shortfall::of(&error)))),
            Ok(Referrers::Unsupported) if listed_before => Err(Shortfall::unavailable(&format!(
                "{} listed referrers before and says now that it has no referrers API",
                self.repository
            ))),
            Ok(Referrers::Unsupported) => Ok((Listed::new(), None)),
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
    async fn items(&self, seen: &WaysSeen, listed: Listed, found: &mut Found) -> Vec<Evidence> {
        let mut manifests = listed;
        if let Some(Tagged::Manifest(index)) = &seen.fallback {
            let listed = self.listed(index.clone()).await;
            manifests.extend(note(&mut found.both, listed).unwrap_or_default());
        }
        if let Some(Tagged::Manifest(signatures)) = &seen.signatures {
            manifests.insert(signatures.clone(), 0);
        }
        let items = self.items_of(manifests, &mut found.both).await;
        let Some(Tagged::Manifest(attestations)) = &seen.attestations else {
            return united(Vec::new(), items);
        };
        let attestations = Listed::from([(attestations.clone(), 0)]);
        united(items, self.items_of(attestations, &mut found.attestations).await)
    }

    async fn items_of(&self, manifests: Listed, found: &mut Option<Shortfall>) -> Vec<Evidence> {
        if manifests.len() > ITEM_LIMIT {
            miss(found, Some(self.too_many()));
        }
        let mut layers = self.layers_of(manifests, found).await;
        layers::in_order(&mut layers);
        if layers.len() > ITEM_LIMIT {
            miss(found, Some(self.too_many()));
            layers.truncate(ITEM_LIMIT);
        }
        if !layers::within_budget(&mut layers) {
            miss(found, Some(self.too_many_bytes()));
        }
        let items: Vec<Result<Evidence, Shortfall>> = stream::iter(layers::with_room(layers))
            .map(|(layer, has_room)| self.item(layer, has_room))
            .buffer_unordered(CONCURRENCY)
            .collect()
            .await;
        items.into_iter().filter_map(|item| note(found, item)).collect()
    }

    /// The layers in these manifests, the smallest first, as far as the budget reaches: what else is there is not read.
    async fn layers_of(&self, manifests: Listed, found: &mut Option<Shortfall>) -> Vec<Layer> {
        let mut manifests: Vec<(u64, Digest)> = manifests
            .into_iter()
            .map(|(digest, size)| (size, digest))
            .collect();
        manifests.sort_unstable();
        let mut read = stream::iter(manifests.into_iter().take(ITEM_LIMIT))
            .map(|(_, digest)| self.body(digest))
            .buffered(CONCURRENCY);
        let mut layers = Vec::new();
        let mut total = 0_u64;
        while let Some(manifest) = read.next().await {
            let Some(manifest) = note(found, manifest) else {
                continue;
            };
            total = total.saturating_add(manifest.bytes.len() as u64);
            if total > BYTE_BUDGET {
                miss(found, Some(self.too_many_bytes()));
                break;
            }
            layers.extend(Layer::all_of(&manifest));
        }
        layers
    }

    /// What a fallback index lists.
    async fn listed(&self, index: Digest) -> Result<Listed, Shortfall> {
        let manifest = self.body(index).await?;
        match manifest.document {
            Document::Index { children } => Ok(sizes(children)),
            Document::Image { .. } => Err(Shortfall::unavailable(&format!(
                "the referrers tag in {} names a manifest where the OCI distribution specification puts an index",
                self.repository
            ))),
        }
    }

    async fn item(&self, layer: Layer, has_room: bool) -> Result<Evidence, Shortfall> {
        let bodies = self.look.bodies;
        let Descriptor { digest, size, .. } = &layer.descriptor;
        let bytes: Bytes = bodies
            .blob(self.look.client, self.repository, digest, *size)
            .await
            .map_err(|error| Shortfall::of(&error))?;
        Ok(Evidence {
            item: layer.held_item(bytes, has_room, bodies.store()),
            manifest: layer.manifest,
        })
    }

    async fn body(&self, digest: Digest) -> Result<Manifest, Shortfall> {
        let (client, bodies) = (self.look.client, self.look.bodies);
        let body: Result<Manifest, Error> = bodies.manifest(client, self.repository, &digest).await;
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

fn sizes(descriptors: Vec<Descriptor>) -> Listed {
    let size = |descriptor: Descriptor| (descriptor.digest, descriptor.size);
    descriptors.into_iter().map(size).collect()
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
    if tagged == Tagged::Manifest(digest.clone()) {
        Tagged::Absent
    } else {
        tagged
    }
}

/// Each item once, in order of id.
pub(crate) fn united(first: Vec<Evidence>, second: Vec<Evidence>) -> Vec<Evidence> {
    let by_id: BTreeMap<Digest, Evidence> = first
        .into_iter()
        .chain(second)
        .map(|found| (found.item.id().clone(), found))
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
                .filter(|child| may_run(child))
                .map(|child| child.digest.clone())
                .collect(),
        },
    }
}

/// A child that some node may choose: all but those that an index lists for a platform that is `unknown`, as build
/// tools list attestations. Container runtimes take one without a platform, or without an operating system, for theirs.
fn may_run(child: &Descriptor) -> bool {
    child
        .platform
        .as_ref()
        .is_none_or(|platform| !platform.is_unknown())
}

/// A child with a real platform: so much must be said of a manifest for the index to vouch for it.
pub(crate) fn is_for_a_real_platform(child: &Descriptor) -> bool {
    child.platform.as_ref().is_some_and(registry::Platform::is_real)
}
