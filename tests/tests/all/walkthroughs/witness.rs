//! Reads every ImageCompliance of a namespace and every status of a key as they are written, and keeps what should not
//! have been written.

use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use api::{ImageCompliance, SigningKey, StartDecision, Verdict};
use futures::StreamExt;
use k8s_openapi::serde::de::DeserializeOwned;
use kube::api::{Api, WatchEvent, WatchParams};

use serde_json::Value;
use testkit::eventually;
use tokio::task::JoinHandle;

use super::Names;
use crate::scene::{PATIENCE, Scene, condition_in};

/// What is true, as far as the test that changes it can tell for sure.
#[derive(Default)]
pub(super) struct Truth {
    /// Deployments that must never be called good.
    pub(super) bad: Names,
    /// Deployments that may be called bad now.
    pub(super) falling: Names,
    /// At least so many workloads rest on the key that is watched, and on nothing else.
    pub(super) resting: i64,
}

#[derive(Default)]
struct Seen {
    truth: Truth,
    writes: usize,
    /// The version of the last ImageCompliance that was read.
    version: u64,
    /// Deployments that were called bad, and might be.
    fell: Vec<(String, Instant)>,
    lies: Vec<String>,
}

/// The witness.
pub(super) struct Witness {
    seen: Arc<Mutex<Seen>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Witness {
    /// From now on, until it is dropped.
    pub(super) async fn of(scene: &Scene, key: &str, truth: Truth) -> Self {
        let seen = Arc::new(Mutex::new(Seen {
            truth,
            ..Seen::default()
        }));
        let compliances: Api<ImageCompliance> = scene.namespace.api();
        let keys: Api<SigningKey> = Api::all(scene.namespace.client());
        let of_key = WatchParams::default().fields(&format!("metadata.name={key}"));
        let (workloads, statuses) = (seen.clone(), seen.clone());
        let tasks = vec![
            follow(compliances, WatchParams::default(), move |object| {
                workloads.lock().unwrap().compliance(&object);
            })
            .await,
            follow(keys, of_key, move |object: SigningKey| {
                let status = serde_json::to_value(object.status).unwrap();
                statuses.lock().unwrap().key(&status);
            })
            .await,
        ];
        Self { seen, tasks }
    }

    /// Tells it what else is true from now on; before the change is made that makes it so.
    pub(super) fn now(&self, change: impl FnOnce(&mut Truth)) {
        change(&mut self.seen.lock().unwrap().truth);
    }

    /// Waits until it has read what somebody else has read already.
    pub(super) async fn has_read(&self, written: &ImageCompliance) {
        let wanted = version(written);
        let look = async || match self.seen.lock().unwrap().version {
            read if read >= wanted => Ok(()),
            read => Err(format!("{read} of {wanted}")),
        };
        eventually("the witness to read on", PATIENCE, look)
            .await
            .unwrap();
    }

    /// What was called bad and might be since this was asked last, and when the first of it was.
    pub(super) fn fell(&self) -> (Names, Option<Instant>) {
        let fell = std::mem::take(&mut self.seen.lock().unwrap().fell);
        let first = fell.iter().map(|(_, at)| *at).min();
        (fell.into_iter().map(|(name, _)| name).collect(), first)
    }

    /// Nothing was written that is not so. How many writes were read.
    pub(super) fn saw_no_lie(&self) -> usize {
        let seen = self.seen.lock().unwrap();
        assert!(seen.lies.is_empty(), "{:#?}", seen.lies);
        assert!(
            self.tasks.iter().all(|task| !task.is_finished()),
            "it looked away"
        );
        seen.writes
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Seen {
    fn compliance(&mut self, written: &ImageCompliance) {
        self.version = version(written);
        let name = written.metadata.name.as_deref().unwrap_or_default();
        let Some(name) = name.strip_prefix("deployment-") else {
            return;
        };
        self.writes += 1;
        let status = &written.status;
        let results = status.images.iter().flat_map(|image| &image.policies);
        let verdicts: Vec<Verdict> = results.map(|result| result.verdict).collect();
        let start = status.next_start.as_ref().map(|next| next.decision);
        let is_bad = verdicts.contains(&Verdict::Violating) || start == Some(StartDecision::Deny);
        let is_good = verdicts.contains(&Verdict::Compliant) || start == Some(StartDecision::Admit);
        let told = || format!("{name}: {}", serde_json::to_string(status).unwrap());
        if self.truth.bad.contains(name) {
            self.lies.extend(is_good.then(told));
        } else if is_bad && self.truth.falling.contains(name) {
            self.fell.push((name.to_owned(), Instant::now()));
        } else {
            self.lies.extend(is_bad.then(told));
        }
    }

    fn key(&mut self, status: &Value) {
        let resting = self.truth.resting;
        let says_safe = condition_in(status, "SafeToDisable").starts_with("True/");
        let told = status["soleTrust"]["workloads"].as_i64();
        if resting > 0 && (says_safe || told.is_some_and(|told| told < resting)) {
            self.lies
                .push(format!("{resting} workloads rest on the key: {status}"));
        }
    }
}

fn version(written: &ImageCompliance) -> u64 {
    written
        .metadata
        .resource_version
        .as_ref()
        .unwrap()
        .parse()
        .unwrap()
}

/// Reads every version of every object from the one on that is there now.
async fn follow<K>(
    api: Api<K>,
    parameters: WatchParams,
    mut read: impl FnMut(K) + Send + 'static,
) -> JoinHandle<()>
where
    K: kube::Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let list = api.list(&kube::api::ListParams::default()).await.unwrap();
    let mut version = list.metadata.resource_version.unwrap();
    tokio::spawn(async move {
        loop {
            let mut events = std::pin::pin!(api.watch(&parameters, &version).await.unwrap());
            while let Some(event) = events.next().await {
                match event.unwrap() {
                    WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                        version = object.meta().resource_version.clone().unwrap();
                        read(object);
                    }
                    WatchEvent::Deleted(object) => {
                        version = object.meta().resource_version.clone().unwrap();
                    }
                    WatchEvent::Bookmark(_) => {}
                    WatchEvent::Error(error) => panic!("{error:?}"),
                }
            }
        }
    })
}
