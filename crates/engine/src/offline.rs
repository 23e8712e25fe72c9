//! What changes would do where no operator runs: the same index, look-ups and evaluation as in the operator, once, by
//! what a caller read from the cluster.
//!
//! Everything that runs is looked up by what is, judged, told of the changes, looked up where these ask for more, and
//! judged again.

use std::sync::Arc;

use futures::future::join_all;
use jiff::Timestamp;

use crate::core::Engine;
use crate::fact::Fact;
use crate::lookup::{Bodies, Clients, look_up};
use crate::preview::differences;
use crate::report::PreviewReport;
use crate::store::{Store, StoreError};

/// Look-ups at the same time.
const AT_ONCE: usize = 16;

/// What the changes would do to what the facts describe. `progress` hears after every few look-ups how many ended.
pub async fn compare(
    client: registry::Client,
    facts: Vec<Fact>,
    changes: Vec<Fact>,
    mut progress: impl FnMut(usize),
) -> Result<PreviewReport, StoreError> {
    let store = Arc::new(Store::open(None)?);
    let mut engine = Engine::new(store.clone());
    let (clients, bodies) = (Clients::new(client, None), Bodies::new(store));
    // One time for everything: what fails is not asked again, and no deadline comes in between.
    let now = Timestamp::now();
    for fact in facts.into_iter().chain([Fact::Synced]) {
        engine.apply(fact, now);
    }
    let mut ended = 0;
    look_everything_up(&mut engine, &clients, &bodies, now, &mut ended, &mut progress).await;
    let mut problems = Vec::new();
    let concerned = engine.supposed(changes.clone(), &mut problems).concerned;
    let before = engine.standings(&concerned, now);
    for change in changes {
        engine.apply(change, now);
    }
    look_everything_up(&mut engine, &clients, &bodies, now, &mut ended, &mut progress).await;
    let after = engine.standings(&concerned, now);
    Ok(PreviewReport {
        problems,
        ..differences(&before, &after)
    })
}

async fn look_everything_up(
    engine: &mut Engine,
    clients: &Clients,
    bodies: &Bodies,
    now: Timestamp,
    ended: &mut usize,
    progress: &mut impl FnMut(usize),
) {
    loop {
        let next = || engine.next_lookup(now, &|_| true);
        let asks: Vec<_> = std::iter::from_fn(next).take(AT_ONCE).collect();
        if asks.is_empty() {
            return;
        }
        *ended += asks.len();
        let passes = asks
            .into_iter()
            .map(|ask| look_up(clients.clone(), bodies.clone(), ask));
        for pass in join_all(passes).await {
            engine.absorb_pass(pass, now);
        }
        progress(*ended);
    }
}
