//! What a tag names now: asked with HEAD where that was found out before, and fetched and hashed only where it names
//! something else.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::Reason;
use futures::FutureExt;
use image::{Digest, Repository};
use policy::Gap;
use registry::{Client, Error, TagHint, Waits};

use super::clients::Clients;
use super::gap::Shortfall;
use super::{Bodies, PASS_DEADLINE};
use crate::tags::TagKey;

/// A tag to ask for.
#[derive(Clone, Debug)]
pub(crate) struct TagAsk {
    pub(crate) tag: TagKey,
    /// What it named when that was last found out.
    pub(crate) named: Option<Digest>,
}

/// The answer.
#[derive(Clone, Debug)]
pub(crate) struct Resolved {
    pub(crate) tag: TagKey,
    pub(crate) answer: TagAnswer,
    /// How long it took, waiting for a pace that an administrator set apart.
    pub(crate) took: Duration,
}

/// What a registry says of a tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TagAnswer {
    /// It names this.
    Names(Digest),
    /// No source has it.
    Absent(Gap),
    /// It could not be found out.
    Failed(Shortfall),
}

/// Asks what a tag names. Never fails: what cannot be read is said in the answer.
pub(crate) async fn resolve(clients: Clients, bodies: Bodies, ask: TagAsk) -> Resolved {
    let (waits, begun) = (Arc::new(Waits::default()), Instant::now());
    let clients = clients.counting_waits(&waits);
    let guarded = AssertUnwindSafe(answer(&clients, &bodies, &ask)).catch_unwind();
    let answer = match waits.deadline(PASS_DEADLINE, guarded).await {
        Some(Ok(answer)) => answer,
        Some(Err(_panic)) => {
            tracing::error!(repository = %ask.tag.repository, tag = &*ask.tag.tag, "asking for a tag panicked");
            TagAnswer::Failed(Shortfall::unavailable(
                "the look-up failed inside the operator; its log says more",
            ))
        }
        None => {
            let (registry, seconds) = (ask.tag.repository.registry(), PASS_DEADLINE.as_secs());
            let detail = format!("{registry} did not finish answering within {seconds} seconds");
            TagAnswer::Failed(Shortfall::unavailable(&detail))
        }
    };
    Resolved {
        tag: ask.tag,
        answer,
        took: waits.left_out_of(begun.elapsed()),
    }
}

async fn answer(clients: &Clients, bodies: &Bodies, ask: &TagAsk) -> TagAnswer {
    let TagKey {
        repository, keychain, ..
    } = &ask.tag;
    let chosen = match clients.of(repository, keychain.as_deref()).await {
        Ok(chosen) => chosen,
        Err(shortfall) => return TagAnswer::Failed(shortfall),
    };
    match ask_sources(&chosen.client, bodies, ask).await {
        TagAnswer::Failed(mut shortfall) => {
            clients.ended(keychain.as_deref(), &chosen, [&mut shortfall]);
            TagAnswer::Failed(shortfall)
        }
        answer => answer,
    }
}

/// The first source that has the tag decides, as for whoever pulls.
async fn ask_sources(client: &Client, bodies: &Bodies, ask: &TagAsk) -> TagAnswer {
    let mut failed = None;
    for source in client.sources(&ask.tag.repository) {
        match ask_one(client, bodies, &source.repository, ask).await {
            Ok(Some(digest)) => return TagAnswer::Names(digest),
            Ok(None) => {}
            Err(error) => failed = Shortfall::worse(failed, Some(Shortfall::of(&error))),
        }
    }
    match failed {
        Some(shortfall) => TagAnswer::Failed(shortfall),
        None => TagAnswer::Absent(absent(&ask.tag)),
    }
}

async fn ask_one(
    client: &Client,
    bodies: &Bodies,
    repository: &Repository,
    ask: &TagAsk,
) -> Result<Option<Digest>, Error> {
    if let Some(known) = &ask.named {
        match client.head_tag(repository, &ask.tag.tag).await? {
            None => return Ok(None),
            Some(TagHint::Digest(digest)) if digest == *known => return Ok(Some(known.clone())),
            Some(TagHint::Digest(_) | TagHint::NoDigest) => {}
        }
    }
    let Some(manifest) = client.tagged_manifest(repository, &ask.tag.tag).await? else {
        return Ok(None);
    };
    bodies.keep(&manifest);
    Ok(Some(manifest.digest))
}

fn absent(tag: &TagKey) -> Gap {
    Gap {
        reason: Reason::DigestUnresolved,
        detail: Arc::from(format!("{} does not have the tag {}", tag.repository, tag.tag)),
    }
}
