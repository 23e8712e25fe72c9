//! Workloads that come and go while somebody else does something.

use std::collections::VecDeque;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde_json::json;
use testkit::Pushed;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::scene::{Scene, simple};

/// Between two changes.
const PAUSE: Duration = Duration::from_millis(300);
/// So many of the load's own Deployments are there at a time.
const ALIVE: usize = 6;
/// Their names begin so.
pub(super) const CHURN: &str = "churn-";

/// Creates and deletes Deployments of the images, and scales one that stays, until it is stopped.
pub(super) struct Load {
    stop: oneshot::Sender<()>,
    task: JoinHandle<usize>,
}

impl Load {
    pub(super) fn start(scene: &Scene, images: &[Pushed], scaled: &str) -> Self {
        let (stop, stopped) = oneshot::channel();
        let api: Api<Deployment> = scene.namespace.api();
        let images: Vec<String> = images.iter().map(Pushed::by_tag).collect();
        let task = tokio::spawn(churn(api, images, scaled.to_owned(), stopped));
        Self { stop, task }
    }

    /// Ends it, and removes what it made. How many Deployments it made.
    pub(super) async fn stop(self) -> usize {
        assert!(self.stop.send(()).is_ok(), "it stopped before");
        self.task.await.unwrap()
    }
}

async fn churn(
    api: Api<Deployment>,
    images: Vec<String>,
    scaled: String,
    mut stopped: oneshot::Receiver<()>,
) -> usize {
    let mut alive: VecDeque<String> = VecDeque::new();
    let mut made = 0;
    while tokio::time::timeout(PAUSE, &mut stopped).await.is_err() {
        let name = format!("{CHURN}{made}");
        let object = simple(&name, &images[made % images.len()]);
        let object: Deployment = serde_json::from_value(object).unwrap();
        api.create(&PostParams::default(), &object).await.unwrap();
        alive.push_back(name);
        made += 1;
        if made % 5 == 0 {
            let replicas = json!({"spec": {"replicas": 1 + made % 3}});
            let scale = Patch::Merge(&replicas);
            api.patch(&scaled, &PatchParams::default(), &scale).await.unwrap();
        }
        if alive.len() > ALIVE {
            remove(&api, &alive.pop_front().unwrap()).await;
        }
    }
    for name in alive {
        remove(&api, &name).await;
    }
    made
}

async fn remove(api: &Api<Deployment>, name: &str) {
    api.delete(name, &DeleteParams::background()).await.unwrap();
}
