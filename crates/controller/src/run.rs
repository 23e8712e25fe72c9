//! The whole controller: starts every loop in order, and ends them in order.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use api::{ImageCompliance, ImageExceptionStatus, ImagePolicyStatus, KeyRevocationStatus, SigningKeyStatus};
use engine::{Fact, Handle, Stopped};
use futures::FutureExt;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{ApiResource, DynamicObject, PartialObjectMeta};
use kube::core::DeserializeGuard;
use kube::{Api, Client};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;

use crate::clients::Clients;
use crate::compliances::ComplianceSink;
use crate::ending;
use crate::events::EventTask;
use crate::exceptions::Exceptions;
use crate::health::Health;
use crate::http::{self, Pages};
use crate::inventory::lookup::Lookup;
use crate::inventory::registered::{CustomObject, WorkloadTemplate};
use crate::inventory::task::{Inlet, InventoryTask};
use crate::inventory::{
    Inventory, Keychains, OWNER_KINDS, ReadTemplates, Roster, SlimOwner, SlimPod, SlimWorkload,
};
use crate::jitter::spread;
use crate::keys::Keys;
use crate::lease::{Elector, Leadership, LeaseOptions};
use crate::ledger::Ledger;
use crate::loops::{LoopEnd, LoopError, Loops};
use crate::metrics::Metrics;
use crate::namespaces::NamespaceSink;
use crate::notify::{NotifyQueue, NotifyTask, ReceiverError};
use crate::object_sink::{ObjectSink, Told};
use crate::objects::Objects;
use crate::options::{ControllerOptions, RegistryCredentials};
use crate::policies::Policies;
use crate::revocations::Revocations;
use crate::upkeep::own_namespace::OwnNamespace;
use crate::upkeep::previews::Previews;
use crate::upkeep::registries::Registries;
use crate::upkeep::trust_roots::TrustRoots;
use crate::upkeep::{Kept, UpkeepTask};
use crate::watch::{ListControl, Patience, Sink, Watch};
use crate::write::request::Requests;
use crate::write::{Pace, Writer};

/// The loops that are ended in order; the others are named after what they watch.
const WRITER: &str = "writer";
const EVENTS: &str = "events";
const NOTIFICATIONS: &str = "notifications";
const LEASE: &str = "lease";
const PAGES: &str = "pages";

/// How soon it is looked again for a registered kind that is not served.
const UNSERVED_PAUSE: Duration = Duration::from_secs(10);
/// Registered kinds may not be served at all: so long the start waits for their lists.
const REGISTERED_PATIENCE: Duration = Duration::from_secs(2);

/// Why the controller ended without being asked to.
#[derive(Debug, thiserror::Error)]
pub enum ControllerError {
    /// The address of the pages cannot be had.
    #[error("cannot listen on {address}: {source}; choose another address with --listen")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// Nobody can be notified.
    #[error(transparent)]
    Receiver(#[from] ReceiverError),
    /// A loop cannot go on.
    #[error(
        "the loop {name} of the controller ended: {source}; see the log before; the process must be started again"
    )]
    LoopFailed {
        /// The loop.
        name: &'static str,
        /// What ended it.
        source: LoopError,
    },
    /// A loop ended by itself.
    #[error(
        "the loop {name} of the controller ended although nothing asked it to, by a fault of this program; \
         the process must be started again"
    )]
    LoopEnded {
        /// The loop.
        name: &'static str,
    },
    /// A loop panicked.
    #[error(
        "the loop {name} of the controller panicked, by a fault of this program: {source}; \
         the process must be started again"
    )]
    LoopPanicked {
        /// The loop.
        name: &'static str,
        /// The panic.
        source: JoinError,
    },
}

impl From<LoopEnd> for ControllerError {
    fn from(LoopEnd { name, result }: LoopEnd) -> Self {
        match result {
            Ok(Ok(())) => ControllerError::LoopEnded { name },
            Ok(Err(source)) => ControllerError::LoopFailed { name, source },
            Err(source) => ControllerError::LoopPanicked { name, source },
        }
    }
}

/// Runs the controller until `shutdown` completes.
///
/// The engine must be started with the client `registries` or a clone, and be told nothing by anybody else. `metrics` is the one whose
/// observer the registry client has. After `shutdown`, and after a fault, readiness goes, nothing more is
/// pulled, writes under way end, waiting Events are sent, the Lease is given back: within 30 s in all.
pub async fn run(
    options: ControllerOptions,
    clients: Clients,
    registries: registry::Client,
    engine: Handle,
    metrics: Arc<Metrics>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ControllerError> {
    let address = options.listen;
    let listener = TcpListener::bind(address)
        .await
        .map_err(|source| ControllerError::Listen { address, source })?;
    let notifications = match &options.notify {
        Some(receiver) => Some(NotifyTask::new(receiver, metrics.clone())?),
        None => None,
    };
    let outside = Outside {
        clients,
        registries,
        listener,
        notifications,
    };
    let mut controller = Controller::start(&options, outside, engine, metrics);
    let result = tokio::select! {
        fault = controller.fault() => {
            tracing::error!(%fault, "the controller ends");
            Err(fault)
        }
        () = shutdown => {
            tracing::info!("the process is asked to end");
            Ok(())
        }
    };
    controller.end().await;
    tracing::info!("the controller has ended");
    result
}

/// The loops that run, and how they are ended.
struct Controller {
    loops: Loops,
    health: Health,
    stops: Stops,
}

/// What ends the loops that are not simply aborted.
#[derive(Default)]
struct Stops {
    writing: CancellationToken,
    events: CancellationToken,
    leading: CancellationToken,
    pages: CancellationToken,
}

/// What the controller talks to, besides the engine.
struct Outside {
    clients: Clients,
    registries: registry::Client,
    listener: TcpListener,
    notifications: Option<(NotifyTask, NotifyQueue)>,
}

/// What the loops share.
#[derive(Clone)]
struct Shared {
    clients: Clients,
    engine: Handle,
    metrics: Arc<Metrics>,
    health: Health,
    leadership: Leadership,
    patience: Patience,
    ledger: Ledger,
    policies: Objects<ImagePolicyStatus>,
    keys: Objects<SigningKeyStatus>,
    revocations: Objects<KeyRevocationStatus>,
    exceptions: Objects<ImageExceptionStatus>,
}

impl Controller {
    fn start(options: &ControllerOptions, outside: Outside, engine: Handle, metrics: Arc<Metrics>) -> Self {
        let Outside {
            clients,
            registries,
            listener,
            notifications,
        } = outside;
        let (health, stops, mut loops) = (Health::default(), Stops::default(), Loops::default());
        let leadership = lead(options, &clients.writes, &health, &stops, &mut loops);
        let shared = Shared {
            clients,
            engine,
            metrics,
            health: health.clone(),
            leadership,
            patience: Patience {
                relist: options.relist_interval,
                silence: options.watch_silence,
                retry: Patience::RETRY,
            },
            ledger: Ledger::default(),
            policies: Objects::default(),
            keys: Objects::default(),
            revocations: Objects::default(),
            exceptions: Objects::default(),
        };
        let (roster, lookup) = (Roster::default(), Arc::new(Lookup::default()));
        let kept = keep_all(&shared, &mut loops, options, registries);
        let (compliances, pods_told) = watch_all(&shared, &mut loops, kept, &roster, &lookup, options);
        let pages = http::serve(listener, shared.pages(), stops.pages.clone().cancelled_owned());
        loops.spawn(PAGES, async move { pages.await.map_err(LoopError::Serve) });
        let (event_task, events) =
            EventTask::new(shared.requests(), health.clone(), options.identity.clone());
        let notifications = match notifications {
            Some((task, queue)) => {
                let task = task.run(stops.events.clone().cancelled_owned());
                loops.spawn(NOTIFICATIONS, task.map(Ok));
                queue
            }
            None => NotifyQueue::of_nobody(),
        };
        let writer = Arc::new(Writer {
            engine: shared.engine.clone(),
            reads: shared.clients.reads.clone(),
            requests: shared.requests(),
            ledger: shared.ledger,
            policies: shared.policies,
            keys: shared.keys,
            revocations: shared.revocations,
            exceptions: shared.exceptions,
            events,
            notifications,
            lookup,
            roster,
            pods_told,
            health: health.clone(),
            minimum_age: options.report_min_age,
            failures: AtomicU32::new(0),
        });
        let pace = Pace {
            per_second: options.writes_per_second,
            burst: options.writes_burst,
        };
        let writer = writer.run(compliances, pace, stops.writing.clone());
        loops.spawn(WRITER, async move { Ok(writer.await?) });
        let events = event_task.run(stops.events.clone().cancelled_owned());
        loops.spawn(EVENTS, events.map(Ok));
        Controller { loops, health, stops }
    }

    /// Waits for a loop that ends although nobody asked it to.
    async fn fault(&mut self) -> ControllerError {
        match self.loops.next_ended().await {
            Some(ended) => ended.into(),
            None => std::future::pending().await,
        }
    }

    /// Ends the loops in order: what writes first, the Lease after it, the rest at last. A loop that a
    /// fault ended is not waited for.
    async fn end(self) {
        let Controller {
            mut loops,
            health,
            stops,
        } = self;
        health.set_ending();
        stops.writing.cancel();
        loops.until_ended(WRITER, ending::WRITER).await;
        stops.events.cancel();
        loops.until_ended(EVENTS, ending::EVENTS).await;
        loops.until_ended(NOTIFICATIONS, ending::NOTIFICATIONS).await;
        stops.leading.cancel();
        loops.until_ended(LEASE, ending::LEASE).await;
        stops.pages.cancel();
        loops.until_ended(PAGES, ending::PAGES).await;
        loops.shutdown().await;
    }
}

impl Shared {
    fn pages(&self) -> Pages {
        Pages {
            metrics: self.metrics.clone(),
            health: self.health.clone(),
            engine: self.engine.clone(),
            leadership: self.leadership.clone(),
            policies: self.policies.clone(),
            keys: self.keys.clone(),
        }
    }

    fn requests(&self) -> Requests {
        Requests {
            client: self.clients.writes.clone(),
            leadership: self.leadership.clone(),
            metrics: self.metrics.clone(),
        }
    }

    /// Starts to keep one kind up to date; gives what becomes true when all that existed at the start is told.
    fn keep<K: Kept>(&self, loops: &mut Loops, kept: K) -> watch::Receiver<bool> {
        let (task, sink, told) = UpkeepTask::new(kept, self.requests(), self.health.clone());
        self.watch(loops, K::KIND, dynamic::<K::Resource>(&self.clients.reads), sink);
        loops.spawn(K::LOOP, async move { Ok(task.run().await?) });
        told
    }

    /// Starts the watch of a kind of which the objects become facts.
    fn watch_objects<K: Told>(&self, loops: &mut Loops, objects: &Objects<K::Status>) -> ListControl {
        let sink = ObjectSink::<K>::new(
            self.engine.clone(),
            objects.clone(),
            self.leadership.clone(),
            self.metrics.clone(),
        );
        self.watch(loops, K::KIND, dynamic::<K::Resource>(&self.clients.reads), sink)
    }

    /// Starts the watch of one kind.
    fn watch<K>(
        &self,
        loops: &mut Loops,
        kind: &'static str,
        api: Api<K>,
        sink: impl Sink<K> + 'static,
    ) -> ListControl
    where
        K: kube::Resource + Clone + serde::de::DeserializeOwned + std::fmt::Debug + Send + 'static,
    {
        let (watch, control) = Watch::of(kind, self.metrics.clone(), self.health.clone(), self.patience);
        loops.spawn(kind, async move { Ok(watch.run(api, sink).await?) });
        control
    }
}

/// Starts to keep TrustRoots and RegistryConfigs up to date, and to answer PolicyPreviews.
fn keep_all(
    shared: &Shared,
    loops: &mut Loops,
    options: &ControllerOptions,
    registries: registry::Client,
) -> Vec<watch::Receiver<bool>> {
    let own = OwnNamespace::new(shared.clients.reads.clone(), options.namespace.clone());
    let trust_roots = TrustRoots::new(
        shared.engine.clone(),
        shared.metrics.clone(),
        own.clone(),
        options.tuf_folder.clone(),
    );
    let registries = Registries::new(shared.engine.clone(), registries, shared.metrics.clone(), own);
    let previews = Previews::new(shared.engine.clone(), shared.requests());
    vec![
        shared.keep(loops, trust_roots),
        shared.keep(loops, registries),
        shared.keep(loops, previews),
    ]
}

/// Starts every watch, and tells the engine when all that existed at the start was told. Gives the
/// control over the list of ImageCompliances, and what becomes true when every pod was told.
fn watch_all(
    shared: &Shared,
    loops: &mut Loops,
    kept: Vec<watch::Receiver<bool>>,
    roster: &Roster,
    lookup: &Arc<Lookup>,
    options: &ControllerOptions,
) -> (ListControl, watch::Receiver<bool>) {
    let namespaces: Api<PartialObjectMeta<Namespace>> = Api::all(shared.clients.reads.clone());
    let sink = NamespaceSink::new(shared.engine.clone());
    let namespaces = shared.watch(loops, "Namespace", namespaces, sink);
    let policies = shared.watch_objects::<Policies>(loops, &shared.policies);
    let keys = shared.watch_objects::<Keys>(loops, &shared.keys);
    let revocations = shared.watch_objects::<Revocations>(loops, &shared.revocations);
    let exceptions = shared.watch_objects::<Exceptions>(loops, &shared.exceptions);
    let compliances: Api<DeserializeGuard<ImageCompliance>> = Api::all(shared.clients.reads.clone());
    let sink = ComplianceSink::new(
        shared.engine.clone(),
        shared.ledger.clone(),
        shared.metrics.clone(),
    );
    let compliances = shared.watch(loops, ImageCompliance::KIND, compliances, sink);
    let (registered, pods_told) = watch_inventory(shared, loops, roster, lookup, options);
    let others = [
        namespaces,
        policies,
        keys,
        revocations,
        exceptions,
        compliances.clone(),
    ];
    let everything_told = kept.into_iter().chain([pods_told.clone()]).collect();
    let first_lists = sync(
        shared.engine.clone(),
        shared.health.clone(),
        others,
        registered,
        everything_told,
    );
    loops.spawn("first lists", first_lists);
    (compliances, pods_told)
}

/// Starts the watches of pods, and of the owners and templates of built-in and registered kinds. Gives the controls over
/// the lists of registered kinds, and what becomes true when every pod was told.
fn watch_inventory(
    shared: &Shared,
    loops: &mut Loops,
    roster: &Roster,
    lookup: &Arc<Lookup>,
    options: &ControllerOptions,
) -> (Vec<ListControl>, watch::Receiver<bool>) {
    let client = &shared.clients.reads;
    let keychains = Keychains::new(options.registry_credentials == RegistryCredentials::Workload);
    let (inventory, inlet, pods_told) = InventoryTask::new(
        Inventory::new(roster.clone(), keychains),
        lookup.clone(),
        client.clone(),
        shared.engine.clone(),
        shared.metrics.clone(),
        shared.health.clone(),
    );
    loops.spawn("inventory", async move { Ok(inventory.run().await?) });
    let mut owners = Vec::new();
    for kind in &OWNER_KINDS {
        let resource = kind.resource();
        owners.push(match kind.templates {
            ReadTemplates::AskedForWhereAlone => {
                let api: Api<SlimOwner> = Api::all_with(client.clone(), &resource);
                shared.watch(loops, kind.kind, api, inlet.owners(kind))
            }
            ReadTemplates::Watched | ReadTemplates::WatchedWhereAlone => {
                let api: Api<SlimWorkload> = Api::all_with(client.clone(), &resource);
                shared.watch(loops, kind.kind, api, inlet.workloads(kind))
            }
        });
    }
    let registered = watch_registered(shared, loops, &inlet, &options.workload_templates);
    let (pods, _) = Watch::of(
        "Pod",
        shared.metrics.clone(),
        shared.health.clone(),
        shared.patience,
    );
    let api: Api<SlimPod> = Api::all(client.clone());
    loops.spawn("Pod", async move {
        // A pod is told with its owner, so the owners come first.
        for mut owner in owners {
            owner.first().await?;
        }
        Ok(pods.run(api, inlet.pods()).await?)
    });
    (registered, pods_told)
}

/// Starts the watches of the registered custom kinds, each as soon as the API server serves it.
fn watch_registered(
    shared: &Shared,
    loops: &mut Loops,
    inlet: &Inlet,
    registered: &[WorkloadTemplate],
) -> Vec<ListControl> {
    let watch = |template: &WorkloadTemplate| {
        // As the names of the other loops, it lives as long as the process.
        let name: &'static str = template.to_string().leak();
        let (watch, control) = Watch::of(
            name,
            shared.metrics.clone(),
            shared.health.clone(),
            shared.patience,
        );
        let (kind, client) = (Arc::new(template.clone()), shared.clients.reads.clone());
        let sink = inlet.registered(kind.clone());
        loops.spawn(name, async move {
            let resource = until_served(&client, &kind).await;
            let api: Api<CustomObject> = Api::all_with(client, &resource);
            Ok(watch.run(api, sink).await?)
        });
        control
    };
    registered.iter().map(watch).collect()
}

/// Waits until the API server serves a registered kind.
async fn until_served(client: &Client, kind: &WorkloadTemplate) -> ApiResource {
    let mut told = false;
    loop {
        let found = Lookup::registered(client, &kind.group, &kind.version, &kind.kind).await;
        let trouble = match found {
            Ok(Some(resource)) => return resource,
            Ok(None) => "the API server does not serve it in namespaces".to_owned(),
            Err(error) => error.to_string(),
        };
        if !std::mem::replace(&mut told, true) {
            tracing::warn!(%kind, trouble,
                "the kind of --workload-template cannot be watched yet, and is tried again: what its objects would \
                 start is not judged");
        }
        tokio::time::sleep(spread(UNSERVED_PAUSE)).await;
    }
}

/// Tells the engine when everything that existed at the start was told, and becomes ready when the
/// engine has taken it all in.
async fn sync(
    engine: Handle,
    health: Health,
    lists: impl IntoIterator<Item = ListControl>,
    registered: Vec<ListControl>,
    everything_told: Vec<watch::Receiver<bool>>,
) -> Result<(), LoopError> {
    for mut list in lists {
        list.first().await?;
    }
    let until = tokio::time::Instant::now() + REGISTERED_PATIENCE;
    for mut list in registered {
        if let Ok(listed) = tokio::time::timeout_at(until, list.first()).await {
            listed?;
        }
    }
    for mut told in everything_told {
        told.wait_for(|told| *told).await.map_err(|_| Stopped)?;
    }
    engine.tell(Fact::Synced).await?;
    // The engine takes one thing in after the other: with this answer everything told is compiled.
    engine.totals().await?;
    tracing::info!("everything that existed at the start is told");
    health.set_ready();
    std::future::pending().await
}

/// Begins to claim leadership, or takes it for granted.
fn lead(
    options: &ControllerOptions,
    client: &Client,
    health: &Health,
    stops: &Stops,
    loops: &mut Loops,
) -> Leadership {
    if !options.leader_elect {
        return Leadership::Alone;
    }
    let lease = LeaseOptions {
        namespace: options.namespace.clone(),
        name: options.lease.clone(),
        identity: options.identity.clone(),
    };
    let (elector, leadership) = Elector::new(client.clone(), lease, health.clone());
    loops.spawn(
        LEASE,
        elector.run(stops.leading.clone().cancelled_owned()).map(Ok),
    );
    leadership
}

/// Objects of which spec and status are read apart, so that one can be broken without the other.
fn dynamic<K: kube::Resource<DynamicType = ()>>(client: &Client) -> Api<DynamicObject> {
    Api::all_with(client.clone(), &ApiResource::erase::<K>(&()))
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
