//! Watches pods and hands each to [`Kubelet::tend`], one look at a time per pod and many pods at the same time.

use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::api::Api;
use kube::runtime::{WatchStreamExt, watcher};
use tokio::task::JoinHandle;

use super::puller::Puller;
use super::tend::{Kubelet, Memory, Tended};
use super::view::View;
use super::{NODE_USER, NodeOptions, machines};
use crate::{
    Cluster, Lifetime, Result, Server, ServerSpec, TestkitError, background, client_for, workspace_binary,
};

/// What the binary prints once its nodes are Ready.
pub const READY: &str = "nodes are ready";

const LEASE_RENEWAL: Duration = Duration::from_secs(10);

/// A running node simulator; it stops when this is dropped, and its nodes are lost 50 s later.
#[derive(Debug)]
pub struct NodeSimulator {
    tasks: Vec<JoinHandle<()>>,
}

impl NodeSimulator {
    /// Simulates the nodes of a cluster as a task of this process, as the user [`NODE_USER`].
    pub async fn start(cluster: &Cluster, options: NodeOptions) -> Result<Self> {
        let kubeconfig = cluster.kubeconfig_for_user(NODE_USER, Some("system:masters"))?;
        Self::start_with(&kubeconfig, options).await
    }

    /// Simulates nodes with an administrator's kubeconfig. Returns once the nodes are Ready.
    pub async fn start_with(kubeconfig: &Path, options: NodeOptions) -> Result<Self> {
        let kubeconfig = kubeconfig.to_owned();
        // The client must live on the runtime that the tasks live on.
        let starting = background::runtime()?.spawn(async move {
            let client = client_for(&kubeconfig).await?;
            machines::register(&client, &options).await?;
            let puller = Puller::new(&options.architecture)?;
            let leases = tokio::spawn(renew_leases(client.clone(), options.clone()));
            let pods = tokio::spawn(tend_pods(Kubelet {
                client,
                options,
                puller,
            }));
            Ok(Self {
                tasks: vec![leases, pods],
            })
        });
        starting
            .await
            .map_err(|error| TestkitError::Invalid(format!("the node simulator did not start: {error}")))?
    }

    /// Simulates `nodes` nodes as a process of its own (the binary `assay-testkit-node`), so that it can outlive this
    /// one. Returns once the nodes are Ready; its log lies in `folder`.
    pub async fn start_process(
        folder: &Path,
        kubeconfig: &Path,
        nodes: usize,
        lifetime: Lifetime,
    ) -> Result<Server> {
        let program = workspace_binary("assay-testkit", "assay-testkit-node")?;
        let spec = ServerSpec::new("node-simulator", program, folder).lifetime(lifetime);
        let spec = spec
            .arg("--kubeconfig")
            .arg(kubeconfig)
            .args(["--nodes".to_owned(), nodes.to_string()]);
        let server = Server::start(spec)?;
        let log = server.log_file();
        server
            .wait_until_ready(Duration::from_secs(60), || {
                let text = std::fs::read_to_string(&log).map_err(|error| error.to_string());
                std::future::ready(text.map(|text| text.contains(READY)))
            })
            .await?;
        Ok(server)
    }

    /// Waits as long as it runs, which is for ever unless something in it panics.
    pub async fn join(mut self) {
        futures::future::select_all(std::mem::take(&mut self.tasks))
            .map(drop)
            .await;
    }
}

impl Drop for NodeSimulator {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn renew_leases(client: kube::Client, options: NodeOptions) {
    loop {
        tokio::time::sleep(LEASE_RENEWAL).await;
        if let Err(error) = machines::renew(&client, &options).await {
            tracing::warn!(%error, "cannot renew the nodes' leases");
        }
    }
}

/// A pod with what is known of it.
#[derive(Debug, Default)]
struct Slot {
    memory: Memory,
    /// Queued or being tended.
    busy: bool,
    /// A newer version that came meanwhile.
    newer: Option<Pod>,
}

/// What became of one job.
struct Done {
    uid: String,
    place: Place,
    /// `None` when the pod is gone.
    tended: Option<Tended>,
}

/// Where a pod is found again.
#[derive(Debug, Clone)]
struct Place {
    namespace: String,
    name: String,
}

enum Job {
    Tend(Box<Pod>),
    LookAgain(Place),
}

struct Dispatcher {
    kubelet: Arc<Kubelet>,
    slots: HashMap<String, Slot>,
    waiting: VecDeque<(String, Job)>,
    running: FuturesUnordered<BoxFuture<'static, Done>>,
    delayed: FuturesUnordered<BoxFuture<'static, (String, Place)>>,
}

async fn tend_pods(kubelet: Kubelet) {
    let pods: Api<Pod> = Api::all(kubelet.client.clone());
    let mut events = watcher(pods, watcher::Config::default())
        .default_backoff()
        .boxed();
    let mut dispatcher = Dispatcher {
        kubelet: Arc::new(kubelet),
        slots: HashMap::new(),
        waiting: VecDeque::new(),
        running: FuturesUnordered::new(),
        delayed: FuturesUnordered::new(),
    };
    loop {
        dispatcher.fill();
        tokio::select! {
            event = events.next() => match event {
                Some(Ok(event)) => dispatcher.take(event),
                Some(Err(error)) => tracing::warn!(%error, "the watch of pods broke; it is started again"),
                None => return,
            },
            Some(done) = dispatcher.running.next() => dispatcher.finish(done),
            Some((uid, place)) = dispatcher.delayed.next() => dispatcher.look_again(uid, place),
        }
    }
}

impl Dispatcher {
    fn take(&mut self, event: watcher::Event<Pod>) {
        match event {
            watcher::Event::Apply(pod) | watcher::Event::InitApply(pod) => self.see(pod),
            watcher::Event::Delete(pod) => {
                if let Some(uid) = pod.metadata.uid {
                    self.slots.remove(&uid);
                }
            }
            watcher::Event::Init | watcher::Event::InitDone => {}
        }
    }

    fn see(&mut self, pod: Pod) {
        let Some(uid) = pod.metadata.uid.clone() else {
            return;
        };
        let slot = self.slots.entry(uid.clone()).or_default();
        if slot.busy {
            slot.newer = Some(pod);
        } else if self.kubelet.has_work(&pod, &slot.memory) {
            slot.busy = true;
            self.waiting.push_back((uid, Job::Tend(Box::new(pod))));
        }
    }

    fn look_again(&mut self, uid: String, place: Place) {
        if let Some(slot) = self.slots.get_mut(&uid)
            && !slot.busy
        {
            slot.busy = true;
            self.waiting.push_back((uid, Job::LookAgain(place)));
        }
    }

    /// Starts as many jobs as may run at the same time.
    fn fill(&mut self) {
        while self.running.len() < self.kubelet.options.concurrency
            && let Some((uid, job)) = self.waiting.pop_front()
        {
            let memory = self
                .slots
                .get(&uid)
                .map(|slot| slot.memory.clone())
                .unwrap_or_default();
            self.running
                .push(carry_out(Arc::clone(&self.kubelet), uid, job, memory).boxed());
        }
    }

    fn finish(&mut self, done: Done) {
        let Some(slot) = self.slots.get_mut(&done.uid) else {
            return;
        };
        slot.busy = false;
        let Some(tended) = done.tended else { return };
        slot.memory = tended.memory;
        let newer = slot.newer.take();
        if let Some(pause) = tended.again {
            let (uid, place) = (done.uid, done.place);
            self.delayed.push(
                async move {
                    tokio::time::sleep(pause).await;
                    (uid, place)
                }
                .boxed(),
            );
        }
        if let Some(pod) = newer {
            self.see(pod);
        }
    }
}

async fn carry_out(kubelet: Arc<Kubelet>, uid: String, job: Job, memory: Memory) -> Done {
    let (pod, place) = match job {
        Job::Tend(pod) => {
            let namespace = pod.metadata.namespace.clone().unwrap_or_default();
            let place = Place {
                namespace,
                name: pod.metadata.name.clone().unwrap_or_default(),
            };
            (Some(*pod), place)
        }
        Job::LookAgain(place) => {
            let pods: Api<Pod> = Api::namespaced(kubelet.client.clone(), &place.namespace);
            match pods.get_opt(&place.name).await {
                Ok(found) => (
                    found.filter(|pod| pod.metadata.uid.as_deref() == Some(uid.as_str())),
                    place,
                ),
                Err(_) => {
                    let tended = Tended {
                        memory,
                        again: Some(Duration::from_secs(1)),
                    };
                    return Done {
                        uid,
                        place,
                        tended: Some(tended),
                    };
                }
            }
        }
    };
    let tended = match pod.as_ref().and_then(View::of) {
        Some(view) => Some(kubelet.tend(view.pod, memory).await),
        None => None,
    };
    Done { uid, place, tended }
}
