//! One pass over what a registry holds about one subject: the digest itself, the indexes that may
//! list it, and, where a policy needs them, the platform manifests that it lists.
//!
//! A pass is the only thing that makes absence count: in it the repository serves the digest
//! (hash-checked) and every way of discovery answers. Nothing is judged here.

mod bodies;
mod clients;
mod gap;
mod layers;
mod relatives;
mod sources;
pub(crate) mod stored;
mod tag;
mod ways;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::FutureExt;
use image::{Digest, Repository};
use policy::{Gap, Nature};
use registry::{Manifest, Source, Waits};
use serde::{Deserialize, Serialize};
use verify::Item;

pub(crate) use bodies::Bodies;
pub(crate) use clients::Clients;
pub(crate) use gap::Shortfall;
pub(crate) use layers::{Layer, Recent};
pub(crate) use tag::{Resolved, TagAnswer, TagAsk, resolve};

use crate::small::{SmallMap, SmallSet};
use crate::subject::{Origin, SubjectKey, SubjectNames};

/// A pass that takes longer is given up; what is not read by then is a gap. That an administrator has its registry asked
/// slowly does not count.
const PASS_DEADLINE: Duration = Duration::from_secs(30);

/// What each way of discovery answered about one digest; None where it was not asked or failed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WaysSeen {
    /// The digests that the referrers API lists; empty where the registry has no such API.
    pub(crate) referrers: Option<SmallSet<Digest>>,
    /// What the fallback tag `sha256-<hex>` names.
    pub(crate) fallback: Option<Tagged>,
    /// What cosign's tag `sha256-<hex>.sig` names.
    pub(crate) signatures: Option<Tagged>,
    /// What cosign's tag `sha256-<hex>.att` names; only asked where a policy asks for attestations.
    pub(crate) attestations: Option<Tagged>,
}

/// What the ways said where everything behind them was read, by the repository that holds the evidence.
pub(crate) type Seen = SmallMap<Repository, WaysSeen>;

/// An item of evidence, and the manifest that it was found in.
#[derive(Clone, Debug)]
pub(crate) struct Evidence {
    pub(crate) item: Arc<Item>,
    pub(crate) manifest: Digest,
}

/// What a tag names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Tagged {
    /// The registry does not have the tag.
    Absent,
    /// The tag names this manifest.
    Manifest(Digest),
}

/// What a digest names, once read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Shape {
    /// One platform's manifest, with what an index must say of it.
    Manifest {
        /// Its media type.
        media_type: String,
        /// Its length in bytes.
        size: u64,
    },
    /// An index and the manifests that it lists.
    Index {
        /// Those that some node may choose.
        runnable: Vec<Digest>,
    },
}

impl Shape {
    pub(crate) fn nature(&self) -> Nature {
        match self {
            Shape::Manifest { .. } => Nature::Manifest,
            Shape::Index { .. } => Nature::Index,
        }
    }
}

/// What is known of a digest before the pass.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    pub(crate) shape: Option<Shape>,
    /// Repositories whose referrers API listed something when it was last heard, in this process or an earlier one.
    pub(crate) listed: BTreeSet<Repository>,
    pub(crate) seen: Seen,
    pub(crate) items: Vec<Evidence>,
}

/// What a pass is to find out.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) subject: SubjectKey,
    /// Tags that users write, with what each resolved to when it was first seen.
    pub(crate) tags: BTreeMap<Arc<str>, Option<Digest>>,
    /// Digests that users write.
    pub(crate) pinned: BTreeSet<Digest>,
    /// A covering policy accepts the signature of an index.
    pub(crate) wants_indexes: bool,
    /// A covering policy accepts only the signature of the platform's manifest.
    pub(crate) wants_children: bool,
    /// A covering policy asks for attestations.
    pub(crate) wants_attestations: bool,
    /// Every covering policy holds by what is known: absence will not be concluded, and moved tags
    /// need not be followed.
    pub(crate) holds: bool,
    /// Indexes already proven to list the subject.
    pub(crate) proven: BTreeSet<Digest>,
    /// What is known, by digest.
    pub(crate) known: BTreeMap<Digest, Known>,
}

impl Ask {
    pub(crate) fn origins(&self) -> BTreeSet<Origin> {
        let tags = self.tags.keys().cloned().map(Origin::Tag);
        tags.chain(
            self.pinned
                .iter()
                .map(|digest| Origin::Pinned(Arc::new(digest.clone()))),
        )
        .collect()
    }
}

/// What was found out about one digest.
#[derive(Clone, Debug)]
pub(crate) struct DigestPass {
    pub(crate) digest: Digest,
    pub(crate) shape: Option<Shape>,
    pub(crate) seen: Seen,
    /// Repositories whose referrers API answered, and whether it listed anything.
    pub(crate) listed: BTreeMap<Repository, bool>,
    /// Every item found in this pass, in order of id.
    pub(crate) items: Vec<Evidence>,
    /// Every item that was known before was seen again, and there is one.
    pub(crate) refreshed: bool,
    /// Why `items` may not be all signatures; None where it is.
    pub(crate) shortfall: Option<Shortfall>,
    /// Why `items` may not be all attestations; None where it is, and where they were not asked for.
    pub(crate) attestations: Option<Shortfall>,
}

impl DigestPass {
    /// Everything that was asked for was answered and read.
    pub(crate) fn is_whole(&self) -> bool {
        self.shortfall.is_none() && self.attestations.is_none()
    }
}

/// What a pass found out.
#[derive(Clone, Debug)]
pub(crate) struct Pass {
    pub(crate) subject: SubjectKey,
    /// Indexes that may list the digest were looked for.
    pub(crate) asked_indexes: bool,
    /// The names that may lead to an index and were followed.
    pub(crate) asked_origins: BTreeSet<Origin>,
    /// The platform manifests that it lists were looked at.
    pub(crate) asked_children: bool,
    /// The way in which only attestations are found was asked as well.
    pub(crate) asked_attestations: bool,
    pub(crate) own: DigestPass,
    pub(crate) relatives: Vec<DigestPass>,
    pub(crate) proven: BTreeSet<Digest>,
    pub(crate) children: Vec<Digest>,
    /// A candidate for an index could not be read.
    pub(crate) index_gap: Option<Gap>,
    /// What tags named in this pass.
    pub(crate) resolved: Vec<(Arc<str>, Digest)>,
    /// The registry asked to wait so long.
    pub(crate) retry_after: Option<Duration>,
    /// How long it took, waiting for a pace that an administrator set apart.
    pub(crate) took: Duration,
}

impl Pass {
    /// A pass that found out nothing, and why.
    pub(crate) fn failed(ask: &Ask, shortfall: Shortfall) -> Pass {
        let known = ask.known.get(&ask.subject.digest).cloned().unwrap_or_default();
        Pass {
            subject: ask.subject.clone(),
            asked_indexes: false,
            asked_origins: BTreeSet::new(),
            asked_children: false,
            asked_attestations: ask.wants_attestations,
            retry_after: shortfall.retry_after,
            own: DigestPass {
                digest: ask.subject.digest.clone(),
                shape: known.shape,
                seen: known.seen,
                listed: BTreeMap::new(),
                items: known.items,
                refreshed: false,
                attestations: Some(shortfall.clone()).filter(|_| ask.wants_attestations),
                shortfall: Some(shortfall),
            },
            relatives: Vec::new(),
            proven: ask.proven.clone(),
            children: Vec::new(),
            index_gap: None,
            resolved: Vec::new(),
            took: Duration::ZERO,
        }
    }
}

/// Makes a pass. Never fails: what cannot be read is said in the pass.
pub(crate) async fn look_up(clients: Clients, bodies: Bodies, ask: Ask) -> Pass {
    let (waits, begun) = (Arc::new(Waits::default()), Instant::now());
    let clients = clients.counting_waits(&waits);
    let pass = pass_in_time(&clients, &bodies, &ask, &waits).await;
    Pass {
        took: waits.left_out_of(begun.elapsed()),
        ..pass
    }
}

async fn pass_in_time(clients: &Clients, bodies: &Bodies, ask: &Ask, waits: &Waits) -> Pass {
    let guarded = AssertUnwindSafe(pass_with(clients, bodies, ask)).catch_unwind();
    match waits.deadline(PASS_DEADLINE, guarded).await {
        Some(Ok(pass)) => pass,
        Some(Err(_panic)) => {
            tracing::error!(
                subject = ask.subject.text(),
                "a look-up panicked; the image stays Unknown"
            );
            Pass::failed(
                ask,
                Shortfall::unavailable("the look-up failed inside the operator; its log says more"),
            )
        }
        None => {
            let registry = ask.subject.repository.registry();
            let detail = format!(
                "{registry} did not finish answering within {} seconds",
                PASS_DEADLINE.as_secs()
            );
            Pass::failed(ask, Shortfall::unavailable(&detail))
        }
    }
}

async fn pass_with(clients: &Clients, bodies: &Bodies, ask: &Ask) -> Pass {
    let SubjectNames {
        repository, keychain, ..
    } = &*ask.subject;
    let chosen = match clients.of(repository, keychain.as_deref()).await {
        Ok(chosen) => chosen,
        Err(shortfall) => return Pass::failed(ask, shortfall),
    };
    let mut pass = pass(&chosen.client, bodies, ask).await;
    let gaps = [&mut pass.own.shortfall, &mut pass.own.attestations];
    clients.ended(keychain.as_deref(), &chosen, gaps.into_iter().flatten());
    pass
}

async fn pass(client: &registry::Client, bodies: &Bodies, ask: &Ask) -> Pass {
    let look = Look {
        client,
        bodies,
        sources: client.sources(&ask.subject.repository),
        holds: ask.holds,
        attestations: ask.wants_attestations,
        served: Mutex::default(),
    };
    let own = look
        .at(ask.subject.digest.clone(), &known(ask, &ask.subject.digest))
        .await;
    let mut pass = Pass {
        subject: ask.subject.clone(),
        asked_indexes: ask.wants_indexes && own.shape.is_some(),
        asked_origins: if ask.wants_indexes && own.shape.is_some() {
            ask.origins()
        } else {
            BTreeSet::new()
        },
        asked_children: ask.wants_children,
        asked_attestations: ask.wants_attestations,
        retry_after: own.shortfall.as_ref().and_then(|shortfall| shortfall.retry_after),
        relatives: Vec::new(),
        proven: ask.proven.clone(),
        children: Vec::new(),
        index_gap: None,
        resolved: Vec::new(),
        took: Duration::ZERO,
        own,
    };
    match pass.own.shape.clone() {
        Some(Shape::Manifest { media_type, size }) if ask.wants_indexes => {
            relatives::follow_indexes(&look, ask, &mut pass, &media_type, size).await;
        }
        Some(Shape::Index { runnable }) if ask.wants_children => {
            relatives::follow_children(&look, ask, &mut pass, runnable).await;
        }
        _ => {}
    }
    pass
}

fn known(ask: &Ask, digest: &Digest) -> Known {
    ask.known.get(digest).cloned().unwrap_or_default()
}

/// The means of one pass.
pub(crate) struct Look<'a> {
    pub(crate) client: &'a registry::Client,
    pub(crate) bodies: &'a Bodies,
    /// Where the image and its evidence may be, in the order in which they are asked.
    pub(crate) sources: Vec<Source>,
    pub(crate) holds: bool,
    pub(crate) attestations: bool,
    /// What was served in this pass: nothing is asked for twice.
    served: Mutex<HashMap<(Repository, Digest), Manifest>>,
}

impl Look<'_> {
    fn served(&self, repository: &Repository, digest: &Digest) -> Option<Manifest> {
        let served = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        served.get(&(repository.clone(), digest.clone())).cloned()
    }

    fn note_served(&self, repository: &Repository, manifest: &Manifest) {
        self.bodies.keep(manifest);
        let mut served = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        served.insert((repository.clone(), manifest.digest.clone()), manifest.clone());
    }
}
