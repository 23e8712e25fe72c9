//! The loops of the controller by name: started together, watched together, ended one by one.

use std::collections::HashMap;
use std::future::Future;
use std::time::Duration;

use engine::Stopped;
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};

/// Why a loop ended although nobody asked it to.
#[derive(Debug, thiserror::Error)]
pub enum LoopError {
    /// Another part that it needs ended before.
    #[error("it cannot go on: {0}")]
    Stopped(#[from] Stopped),
    /// The pages cannot be served any more.
    #[error("the pages cannot be served any more: {0}")]
    Serve(#[source] std::io::Error),
}

/// A loop that is not there any more.
#[derive(Debug)]
pub(crate) struct LoopEnd {
    pub(crate) name: &'static str,
    pub(crate) result: Result<Result<(), LoopError>, JoinError>,
}

/// The loops that run.
#[derive(Debug, Default)]
pub(crate) struct Loops {
    tasks: JoinSet<Result<(), LoopError>>,
    running: HashMap<Id, (&'static str, AbortHandle)>,
}

impl Loops {
    /// Starts a loop. Names are told in logs and errors.
    pub(crate) fn spawn(
        &mut self,
        name: &'static str,
        task: impl Future<Output = Result<(), LoopError>> + Send + 'static,
    ) {
        let handle = self.tasks.spawn(task);
        self.running.insert(handle.id(), (name, handle));
    }

    /// Waits for the next loop that ends; in the order in which they end. None where none runs.
    pub(crate) async fn next_ended(&mut self) -> Option<LoopEnd> {
        let (id, result) = match self.tasks.join_next_with_id().await? {
            Ok((id, result)) => (id, Ok(result)),
            Err(error) => (error.id(), Err(error)),
        };
        let (name, _) = self.running.remove(&id)?;
        Some(LoopEnd { name, result })
    }

    /// Waits until the loop of this name has ended, and aborts it where that takes too long. False
    /// where it was aborted.
    pub(crate) async fn until_ended(&mut self, name: &'static str, within: Duration) -> bool {
        let in_time = tokio::time::timeout(within, self.wait_for(name)).await.is_ok();
        if !in_time {
            for (_, handle) in self.running.values().filter(|(running, _)| *running == name) {
                handle.abort();
            }
            self.wait_for(name).await;
        }
        in_time
    }

    /// Aborts what still runs.
    pub(crate) async fn shutdown(mut self) {
        self.tasks.shutdown().await;
    }

    async fn wait_for(&mut self, name: &'static str) {
        while self.running.values().any(|(running, _)| *running == name) {
            let Some(ended) = self.next_ended().await else {
                return;
            };
            ended.log();
        }
    }
}

impl LoopEnd {
    fn log(&self) {
        let name = self.name;
        match &self.result {
            Ok(Ok(())) => tracing::debug!(name, "a loop has ended"),
            Ok(Err(error)) => tracing::warn!(name, %error, "a loop ended badly"),
            Err(error) if error.is_cancelled() => {
                tracing::warn!(name, "a loop did not end in time and is aborted")
            }
            Err(error) => tracing::error!(name, %error, "a loop panicked"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(5);

    fn with_a_loop_that_never_ends(name: &'static str) -> Loops {
        let mut loops = Loops::default();
        loops.spawn(name, std::future::pending());
        loops
    }

    #[tokio::test]
    async fn a_loop_that_ends_is_named_however_it_ends() {
        let mut loops = with_a_loop_that_never_ends("pods");
        loops.spawn("events", async { Ok(()) });
        let ended = loops.next_ended().await.unwrap();
        assert!(
            matches!(
                ended,
                LoopEnd {
                    name: "events",
                    result: Ok(Ok(()))
                }
            ),
            "{ended:?}"
        );
        loops.spawn("writer", async { Err(Stopped.into()) });
        let ended = loops.next_ended().await.unwrap();
        assert!(
            matches!(
                ended,
                LoopEnd {
                    name: "writer",
                    result: Ok(Err(_))
                }
            ),
            "{ended:?}"
        );
        loops.spawn("inventory", async { panic!("by a test") });
        let ended = loops.next_ended().await.unwrap();
        assert_eq!(ended.name, "inventory");
        assert!(ended.result.unwrap_err().is_panic());
    }

    #[tokio::test]
    async fn one_loop_can_be_waited_for_while_others_run_or_are_gone() {
        let mut loops = with_a_loop_that_never_ends("pods");
        loops.spawn("events", async { Ok(()) });
        loops.spawn("writer", async {
            tokio::task::yield_now().await;
            Ok(())
        });
        assert!(loops.until_ended("writer", SOON).await);
        assert!(
            loops.until_ended("events", SOON).await,
            "it may have ended before"
        );
        assert!(loops.until_ended("lease", SOON).await, "there never was one");
    }

    #[tokio::test]
    async fn a_loop_that_takes_too_long_is_gone_afterwards_all_the_same() {
        let held = std::sync::Arc::new(());
        let used = held.clone();
        let mut loops = with_a_loop_that_never_ends("pods");
        loops.spawn("writer", async move {
            std::future::pending::<()>().await;
            drop(used);
            Ok(())
        });
        assert!(!loops.until_ended("writer", Duration::from_millis(10)).await);
        assert_eq!(std::sync::Arc::strong_count(&held), 1);
        loops.shutdown().await;
    }
}
