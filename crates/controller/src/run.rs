//! The whole controller: starts every loop in order, and ends them in order.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use api::{
    ImageCompliance, ImagePolicy, ImagePolicyStatus, KeyRevocation, KeyRevocationStatus, SigningKey,
    SigningKeyStatus,
};
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

use crate::compliances::ComplianceSink;
use crate::ending;
use crate::events::EventTask;
use crate::health::Health;
use crate::http::{self, Pages};
use crate::inventory::lookup::Lookup;
use crate::inventory::task::InventoryTask;
use crate::inventory::{Inventory, Keychains, OWNER_KINDS, Roster, SlimOwner, SlimPod};
use crate::keys::Keys;
use crate::lease::{Elector, Leadership, LeaseOptions};
use crate::ledger::Ledger;
use crate::loops::{Ended, LoopError, Loops};
use crate::metrics::Metrics;
use crate::namespaces::NamespaceSink;
use crate::object_sink::ObjectSink;
use crate::objects::Objects;
use crate::options::{ControllerOptions, RegistryCredentials};
use crate::policies::Policies;
use crate::revocations::Revocations;
use crate::upkeep::own_namespace::OwnNamespace;
use crate::upkeep::previews::Previews;
use crate::upkeep::registries::Registries;
use crate::upkeep::trust_roots::TrustRoots;
use crate::upkeep::{Kept, UpkeepTask};
use crate::watch::{ListControl, Sink, Watch};
use crate::write::request::Requests;
use crate::write::{Pace, Writer};

/// The loops that are ended in order; the others are named after what they watch.
const WRITER: &str = "writer";
const EVENTS: &str = "events";
const LEASE: &str = "lease";
const PAGES: &str = "pages";

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

impl From<Ended> for ControllerError {
    fn from(Ended { name, result }: Ended) -> Self {
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
    client: Client,
    registries: registry::Client,
    engine: Handle,
    metrics: Arc<Metrics>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ControllerError> {
    let address = options.listen;
    let listener = TcpListener::bind(address)
        .await
        .map_err(|source| ControllerError::Listen { address, source })?;
    let mut controller = Controller::start(&options, client, registries, engine, metrics, listener);
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

/// What the loops share.
#[derive(Clone)]
struct Shared {
    client: Client,
    engine: Handle,
    metrics: Arc<Metrics>,
    health: Health,
    leadership: Leadership,
    ledger: Ledger,
    policies: Objects<ImagePolicyStatus>,
    keys: Objects<SigningKeyStatus>,
    revocations: Objects<KeyRevocationStatus>,
}

impl Controller {
    fn start(
        options: &ControllerOptions,
        client: Client,
        registries: registry::Client,
        engine: Handle,
        metrics: Arc<Metrics>,
        listener: TcpListener,
    ) -> Self {
        let (health, stops, mut loops) = (Health::default(), Stops::default(), Loops::default());
        let leadership = lead(options, &client, &health, &stops, &mut loops);
        let shared = Shared {
            client,
            engine,
            metrics,
            health: health.clone(),
            leadership,
            ledger: Ledger::default(),
            policies: Objects::default(),
            keys: Objects::default(),
            revocations: Objects::default(),
        };
        let (roster, lookup) = (Roster::default(), Arc::new(Lookup::default()));
        let kept = keep_all(&shared, &mut loops, options, registries);
        let (compliances, all_told) = watch_all(
            &shared,
            &mut loops,
            kept,
            &roster,
            &lookup,
            options.registry_credentials,
        );
        let pages = http::serve(listener, shared.pages(), stops.pages.clone().cancelled_owned());
        loops.spawn(PAGES, async move { pages.await.map_err(LoopError::Serve) });
        let (event_task, events) =
            EventTask::new(shared.requests(), health.clone(), options.identity.clone());
        let writer = Arc::new(Writer {
            engine: shared.engine.clone(),
            requests: shared.requests(),
            ledger: shared.ledger,
            policies: shared.policies,
            keys: shared.keys,
            revocations: shared.revocations,
            events,
            lookup,
            roster,
            all_told,
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
            client: self.client.clone(),
            leadership: self.leadership.clone(),
            metrics: self.metrics.clone(),
        }
    }

    /// Starts to keep one kind up to date; gives what becomes true when all that existed at the start is told.
    fn keep<K: Kept>(&self, loops: &mut Loops, kept: K) -> watch::Receiver<bool> {
        let (task, sink, told) = UpkeepTask::new(kept, self.requests(), self.health.clone());
        self.watch(loops, K::KIND, dynamic::<K::Resource>(&self.client), sink);
        loops.spawn(K::LOOP, async move { Ok(task.run().await?) });
        told
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
        let (watch, control) = Watch::of(kind, self.metrics.clone(), self.health.clone());
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
    let own = OwnNamespace::new(shared.client.clone(), options.namespace.clone());
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
    registry_credentials: RegistryCredentials,
) -> (ListControl, watch::Receiver<bool>) {
    let Shared {
        client,
        engine,
        metrics,
        ..
    } = shared;
    let namespaces: Api<PartialObjectMeta<Namespace>> = Api::all(client.clone());
    let namespaces = shared.watch(loops, "Namespace", namespaces, NamespaceSink::new(engine.clone()));
    let sink = ObjectSink::<Policies>::new(
        engine.clone(),
        shared.policies.clone(),
        shared.leadership.clone(),
        metrics.clone(),
    );
    let policies = shared.watch(loops, "ImagePolicy", dynamic::<ImagePolicy>(client), sink);
    let sink = ObjectSink::<Keys>::new(
        engine.clone(),
        shared.keys.clone(),
        shared.leadership.clone(),
        metrics.clone(),
    );
    let keys = shared.watch(loops, "SigningKey", dynamic::<SigningKey>(client), sink);
    let sink = ObjectSink::<Revocations>::new(
        engine.clone(),
        shared.revocations.clone(),
        shared.leadership.clone(),
        metrics.clone(),
    );
    let revocations = shared.watch(loops, "KeyRevocation", dynamic::<KeyRevocation>(client), sink);
    let compliances: Api<DeserializeGuard<ImageCompliance>> = Api::all(client.clone());
    let sink = ComplianceSink::new(engine.clone(), shared.ledger.clone(), metrics.clone());
    let compliances = shared.watch(loops, ImageCompliance::KIND, compliances, sink);

    let keychains = Keychains::new(registry_credentials == RegistryCredentials::Workload);
    let (inventory, inlet, told) = InventoryTask::new(
        Inventory::new(roster.clone(), keychains),
        lookup.clone(),
        client.clone(),
        engine.clone(),
        metrics.clone(),
        shared.health.clone(),
    );
    loops.spawn("inventory", async move { Ok(inventory.run().await?) });
    let mut owners = Vec::new();
    for kind in &OWNER_KINDS {
        let resource = kind.resource();
        let api: Api<SlimOwner> = Api::all_with(client.clone(), &resource);
        owners.push(shared.watch(loops, kind.kind, api, inlet.owners(kind)));
    }
    let (pods, _) = Watch::of("Pod", metrics.clone(), shared.health.clone());
    let api: Api<SlimPod> = Api::all(client.clone());
    loops.spawn("Pod", async move {
        // A pod is told with its owner, so the owners come first.
        for mut owner in owners {
            owner.first().await?;
        }
        Ok(pods.run(api, inlet.pods()).await?)
    });
    let others = [namespaces, policies, keys, revocations, compliances.clone()];
    let all_told = kept.into_iter().chain([told.clone()]).collect();
    let first_lists = sync(engine.clone(), shared.health.clone(), others, all_told);
    loops.spawn("first lists", first_lists);
    (compliances, told)
}

/// Tells the engine when everything that existed at the start was told, and becomes ready when the
/// engine has taken it all in.
async fn sync(
    engine: Handle,
    health: Health,
    lists: impl IntoIterator<Item = ListControl>,
    all_told: Vec<watch::Receiver<bool>>,
) -> Result<(), LoopError> {
    for mut list in lists {
        list.first().await?;
    }
    for mut told in all_told {
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
