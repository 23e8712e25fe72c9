//! How others talk to the engine: facts go in, updates are pulled out.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::fact::Fact;
use crate::report::{PreviewReport, Target, Totals, Update};

/// What the engine's task is asked.
#[derive(Debug)]
pub(crate) enum Request {
    /// Something became true.
    Fact(Fact),
    /// Hand over the next update as soon as there is one.
    NextUpdate(oneshot::Sender<Update>),
    /// An update was written, or shall be handed over again after a while.
    Done(Target, Option<Duration>),
    /// Something outside of the engine asks for an update.
    Wanted(Target, Duration),
    /// The totals as of now.
    Totals(oneshot::Sender<Totals>),
    /// What would change if this became true.
    Preview(Vec<Fact>, oneshot::Sender<Option<PreviewReport>>),
}

/// The engine's task is gone; nothing can be told or asked any more.
#[derive(Debug, thiserror::Error)]
#[error("the engine has stopped")]
pub struct Stopped;

/// A way to talk to the engine. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle {
    pub(crate) requests: mpsc::Sender<Request>,
}

impl Handle {
    /// Tells a fact. Waits while the engine is behind.
    pub async fn tell(&self, fact: Fact) -> Result<(), Stopped> {
        self.requests.send(Request::Fact(fact)).await.map_err(|_| Stopped)
    }

    /// Tells facts in their order, and waits for room for many of them at once: the engine is woken once, and not for
    /// each.
    pub async fn tell_all(&self, facts: Vec<Fact>) -> Result<(), Stopped> {
        let mut facts = facts.into_iter();
        while facts.len() > 0 {
            let places = facts.len().min(self.requests.max_capacity());
            let places = self.requests.reserve_many(places).await.map_err(|_| Stopped)?;
            places
                .zip(&mut facts)
                .for_each(|(place, fact)| place.send(Request::Fact(fact)));
        }
        Ok(())
    }

    /// The next update, the most urgent first, with its content as of now. Each target is handed
    /// over once until [`Handle::done`] is called for it. Safe to drop while waiting.
    pub async fn next_update(&self) -> Result<Update, Stopped> {
        self.ask(Request::NextUpdate).await
    }

    /// An update that was handed over was written (`None`), or is wanted again after a while.
    pub async fn done(&self, target: Target, again_after: Option<Duration>) -> Result<(), Stopped> {
        self.requests
            .send(Request::Done(target, again_after))
            .await
            .map_err(|_| Stopped)
    }

    /// An update about the target is wanted after a while, although nothing that the engine knows of
    /// changed. Where one is handed over and not done yet, another one follows it.
    pub async fn wanted(&self, target: Target, after: Duration) -> Result<(), Stopped> {
        self.requests
            .send(Request::Wanted(target, after))
            .await
            .map_err(|_| Stopped)
    }

    /// The totals as of now.
    pub async fn totals(&self) -> Result<Totals, Stopped> {
        self.ask(Request::Totals).await
    }

    /// What would change if these facts about keys, revocations and policies became true; None before everything that
    /// existed at the start was told. Nothing changes by it, and no registry is asked.
    pub async fn preview(&self, changes: Vec<Fact>) -> Result<Option<PreviewReport>, Stopped> {
        self.ask(|answer| Request::Preview(changes, answer)).await
    }

    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> Request) -> Result<T, Stopped> {
        let (answer, receive) = oneshot::channel();
        self.requests.send(request(answer)).await.map_err(|_| Stopped)?;
        receive.await.map_err(|_| Stopped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn more_facts_than_there_is_room_for_come_in_their_order() {
        let (requests, mut receive) = mpsc::channel(2);
        let told: Vec<String> = (0..5).map(|number| format!("policy-{number}")).collect();
        let gone = |name: &String| Fact::PolicyGone(name.as_str().into());
        let facts = told.iter().map(gone).collect();
        let telling = tokio::spawn(async move { Handle { requests }.tell_all(facts).await });
        let mut heard = Vec::new();
        while let Some(Request::Fact(Fact::PolicyGone(name))) = receive.recv().await {
            heard.push(name.to_string());
        }
        assert_eq!(heard, told);
        telling.await.unwrap().unwrap();
    }
}
