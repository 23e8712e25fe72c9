//! Notifications about news: CloudEvents to a receiver that the administrator names, apart from Kubernetes Events.
//!
//! They have a bounded queue and a task of their own, so that a receiver never delays a status: what finds no room is
//! dropped and counted. One is sent after the other, in the order in which statuses were written, by the replica that
//! wrote them. Each is tried again while the receiver has trouble; one that arrived although the answer was lost comes
//! again under the same id.
//!
//! What is sent is in `cloud_event`, what proves the sender in `signature`, and one delivery in `delivery`.

mod cloud_event;
mod delivery;
mod signature;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::mpsc;

pub(crate) use self::cloud_event::CloudEvent;
pub use self::delivery::ReceiverError;
use self::delivery::{Outcome, Receiver};
use crate::ending;
use crate::metrics::Metrics;

/// Notifications that may wait; what comes on top is dropped and counted.
const QUEUE: usize = 1024;

/// Where notifications go (`--notify-url`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotifyOptions {
    /// An http or https URL. It may be inside of the cluster: an administrator names it, and no redirect is followed.
    pub url: String,
    /// The file with the secret, or with several, one a line; read anew for each notification.
    pub secret_file: PathBuf,
    /// What tells this cluster from others: the `source` of each CloudEvent.
    pub source: String,
}

/// Takes notifications. Cheap to clone; never waits. Without a receiver it takes them for nothing.
#[derive(Clone, Debug)]
pub(crate) struct NotifyQueue(Option<(mpsc::Sender<CloudEvent>, Arc<Metrics>)>);

impl NotifyQueue {
    /// For a controller that notifies nobody.
    pub(crate) fn of_nobody() -> Self {
        NotifyQueue(None)
    }

    /// Sends what is made here, if there is a receiver and room.
    pub(crate) fn tell(&self, event: impl FnOnce() -> CloudEvent) {
        let Some((queue, metrics)) = &self.0 else { return };
        if queue.try_send(event()).is_err() {
            metrics.notification(Outcome::Dropped.as_str());
        }
    }
}

/// Sends notifications.
pub(crate) struct NotifyTask {
    queue: mpsc::Receiver<CloudEvent>,
    receiver: Receiver,
    /// What is being sent; kept where sending is interrupted.
    current: Option<CloudEvent>,
    metrics: Arc<Metrics>,
}

impl NotifyTask {
    pub(crate) fn new(
        options: &NotifyOptions,
        metrics: Arc<Metrics>,
    ) -> Result<(Self, NotifyQueue), ReceiverError> {
        let receiver = Receiver::new(options)?;
        Ok(Self::with(receiver, QUEUE, metrics))
    }

    fn with(receiver: Receiver, room: usize, metrics: Arc<Metrics>) -> (Self, NotifyQueue) {
        let (sender, queue) = mpsc::channel(room);
        let task = NotifyTask {
            queue,
            receiver,
            current: None,
            metrics: metrics.clone(),
        };
        (task, NotifyQueue(Some((sender, metrics))))
    }

    /// Sends until `stop` completes, then what waits, for [`ending::FLUSH`] at most.
    pub(crate) async fn run(mut self, stop: impl Future<Output = ()>) {
        tokio::select! {
            () = self.send_all() => return,
            () = stop => {}
        }
        self.queue.close();
        if tokio::time::timeout(ending::FLUSH, self.send_all())
            .await
            .is_err()
        {
            tracing::warn!("some notifications could not be sent before the end of the process");
        }
    }

    /// Ends when nobody can tell anything any more.
    async fn send_all(&mut self) {
        loop {
            if self.current.is_none() {
                self.current = self.queue.recv().await;
            }
            let Some(event) = &self.current else { return };
            let outcome = self.receiver.deliver(event).await;
            self.metrics.notification(outcome.as_str());
            self.current = None;
        }
    }
}
