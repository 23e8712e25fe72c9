//! The whole controller: starts every loop in order, and ends them in order.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use api::{ImageCompliance, ImagePolicy, ImagePolicyStatus, SigningKey, SigningKeyStatus};
use engine::{Fact, Handle, Stopped};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{ApiResource, DynamicObject, PartialObjectMeta};
use kube::core::DeserializeGuard;
use kube::{Api, Client};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinError, JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::compliances::ComplianceSink;
use crate::events::EventTask;
use crate::health::Health;
use crate::http::{self, Pages};
use crate::inventory::lookup::Lookup;
use crate::inventory::task::InventoryTask;
use crate::inventory::{OWNER_KINDS, Roster, SlimOwner, SlimPod};
use crate::keys::Keys;
use crate::lease::{self, Elector, Leadership, LeaseOptions};
use crate::ledger::Ledger;
use crate::metrics::Metrics;
use crate::namespaces::NamespaceSink;
use crate::object_sink::ObjectSink;
use crate::objects::Objects;
use crate::options::ControllerOptions;
use crate::policies::Policies;
use crate::watch::{ListControl, Sink, Watch};
use crate::write::request::Requests;
use crate::write::{Pace, Writer};

/// Everything together ends within this time after the process is asked to.
const END_WITHIN: Duration = Duration::from_secs(25);

/// Who still reads a page when everything else has ended is not waited for longer.
const CLOSE_PAGES_WITHIN: Duration = Duration::from_millis(500);

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
    /// The pages cannot be served any more.
    #[error("the pages cannot be served any more: {0}")]
    Serve(#[source] std::io::Error),
    /// The engine ended.
    #[error("the engine ended, see the log before; the process must be started again")]
    Engine(#[from] Stopped),
    /// A loop ended by a fault of this program.
    #[error(
        "a loop of the controller ended by a fault of this program: {0}; the process must be started again"
    )]
    Loop(#[from] JoinError),
}

/// Runs the controller until `shutdown` completes.
///
/// The engine must be started, and be told nothing by anybody else. `metrics` is the one whose
/// observer the registry client has. After `shutdown` readiness goes, nothing more is pulled, writes
/// under way end, waiting Events are sent, the Lease is given back: within 30 s in all.
pub async fn run(
    options: ControllerOptions,
    client: Client,
    engine: Handle,
    metrics: Arc<Metrics>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ControllerError> {
    let address = options.listen;
    let listener = TcpListener::bind(address)
        .await
        .map_err(|source| ControllerError::Listen { address, source })?;
    let mut controller = Controller::start(&options, client, engine, metrics, listener);
    tokio::select! {
        fault = controller.fault() => Err(fault),
        () = shutdown => {
            tracing::info!("the process is asked to end");
            controller.end().await;
            tracing::info!("the controller has ended");
            Ok(())
        }
    }
}

/// The loops that run, and how they are ended.
struct Controller {
    /// Watches and inventory: ended last and without ceremony.
    loops: JoinSet<Result<(), ControllerError>>,
    pages: JoinHandle<Result<(), ControllerError>>,
    writer: JoinHandle<Result<(), Stopped>>,
    events: JoinHandle<()>,
    elector: Option<JoinHandle<()>>,
    health: Health,
    stop_writing: CancellationToken,
    stop_events: CancellationToken,
    stop_leading: CancellationToken,
    stop_pages: CancellationToken,
    /// Held so that undisputed leadership lasts.
    _undisputed: Undisputed,
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
}

impl Controller {
    fn start(
        options: &ControllerOptions,
        client: Client,
        engine: Handle,
        metrics: Arc<Metrics>,
        listener: TcpListener,
    ) -> Self {
        let health = Health::default();
        let (stop_writing, stop_events) = (CancellationToken::new(), CancellationToken::new());
        let (stop_leading, stop_pages) = (CancellationToken::new(), CancellationToken::new());
        let (elector, undisputed, leadership) = lead(options, &client, &health, &stop_leading);
        let shared = Shared {
            client,
            engine,
            metrics,
            health: health.clone(),
            leadership,
            ledger: Ledger::default(),
            policies: Objects::default(),
            keys: Objects::default(),
        };
        let mut loops = JoinSet::new();
        let (roster, lookup) = (Roster::default(), Arc::new(Lookup::new()));
        let (compliances, all_told) = watch_all(&shared, &mut loops, &roster, &lookup);
        let pages = tokio::spawn(serve(listener, shared.pages(), stop_pages.clone()));
        let (event_task, events) = EventTask::new(
            shared.client.clone(),
            shared.leadership.clone(),
            shared.metrics.clone(),
            health.clone(),
            options.identity.clone(),
        );
        let writer = Arc::new(Writer {
            engine: shared.engine.clone(),
            requests: Requests {
                client: shared.client.clone(),
                leadership: shared.leadership.clone(),
                metrics: shared.metrics.clone(),
            },
            ledger: shared.ledger,
            policies: shared.policies,
            keys: shared.keys,
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
        Controller {
            loops,
            pages,
            writer: tokio::spawn(writer.run(compliances, pace, stop_writing.clone())),
            events: tokio::spawn(event_task.run(stop_events.clone().cancelled_owned())),
            elector,
            health,
            stop_writing,
            stop_events,
            stop_leading,
            stop_pages,
            _undisputed: undisputed,
        }
    }

    /// Waits for a loop that ends although nobody asked it to.
    async fn fault(&mut self) -> ControllerError {
        tokio::select! {
            Some(ended) = self.loops.join_next() => fault_of(ended),
            ended = &mut self.pages => fault_of(ended),
            ended = &mut self.writer => fault_of(ended.map(|ended| ended.map_err(ControllerError::from))),
            ended = &mut self.events => fault_of(ended.map(Ok)),
            ended = async {
                match &mut self.elector {
                    Some(elector) => elector.await,
                    None => std::future::pending().await,
                }
            } => fault_of(ended.map(Ok)),
        }
    }

    /// Ends the loops in order: what writes first, the Lease after it, the rest at last.
    async fn end(mut self) {
        self.health.set_ending();
        let abandoned: Vec<AbortHandle> = [self.writer.abort_handle(), self.events.abort_handle()]
            .into_iter()
            .collect();
        let ordered = async {
            self.stop_writing.cancel();
            log_end("writer", self.writer.await.map(drop));
            self.stop_events.cancel();
            log_end("events", self.events.await);
        };
        if tokio::time::timeout(END_WITHIN - lease::REQUEST_DEADLINE, ordered)
            .await
            .is_err()
        {
            tracing::warn!("writes or Events did not end in time and are abandoned");
            abandoned.iter().for_each(AbortHandle::abort);
        }
        self.stop_leading.cancel();
        if let Some(elector) = self.elector.take() {
            log_end("lease", elector.await);
        }
        self.loops.shutdown().await;
        self.stop_pages.cancel();
        if tokio::time::timeout(CLOSE_PAGES_WITHIN, self.pages)
            .await
            .is_err()
        {
            tracing::debug!("somebody still reads a page");
        }
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

    /// Starts the watch of one kind.
    fn watch<K>(
        &self,
        loops: &mut JoinSet<Result<(), ControllerError>>,
        kind: &'static str,
        api: Api<K>,
        sink: impl Sink<K> + 'static,
    ) -> ListControl
    where
        K: kube::Resource + Clone + serde::de::DeserializeOwned + std::fmt::Debug + Send + 'static,
    {
        let (watch, control) = Watch::of(kind, self.metrics.clone(), self.health.clone());
        loops.spawn(async move { Ok(watch.run(api, sink).await?) });
        control
    }
}

/// Starts every watch, and tells the engine when all that existed at the start was told. Gives the
/// control over the list of ImageCompliances, and what becomes true when every pod was told.
fn watch_all(
    shared: &Shared,
    loops: &mut JoinSet<Result<(), ControllerError>>,
    roster: &Roster,
    lookup: &Arc<Lookup>,
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
    let compliances: Api<DeserializeGuard<ImageCompliance>> = Api::all(client.clone());
    let sink = ComplianceSink::new(engine.clone(), shared.ledger.clone(), metrics.clone());
    let compliances = shared.watch(loops, ImageCompliance::KIND, compliances, sink);

    let (inventory, inlet, told) = InventoryTask::new(
        roster.clone(),
        lookup.clone(),
        client.clone(),
        engine.clone(),
        metrics.clone(),
        shared.health.clone(),
    );
    loops.spawn(async move { Ok(inventory.run().await?) });
    let mut owners = Vec::new();
    for kind in &OWNER_KINDS {
        let resource = kind.resource();
        let api: Api<SlimOwner> = Api::all_with(client.clone(), &resource);
        owners.push(shared.watch(loops, kind.kind, api, inlet.owners(kind)));
    }
    let (pods, _) = Watch::of("Pod", metrics.clone(), shared.health.clone());
    let api: Api<SlimPod> = Api::all(client.clone());
    loops.spawn(async move {
        // A pod is told with its owner, so the owners come first.
        for mut owner in owners {
            owner.first().await?;
        }
        Ok(pods.run(api, inlet.pods()).await?)
    });
    let others = [namespaces, policies, keys, compliances.clone()];
    loops.spawn(sync(engine.clone(), shared.health.clone(), others, told.clone()));
    (compliances, told)
}

/// Tells the engine when everything that existed at the start was told, and becomes ready when the
/// engine has taken it all in.
async fn sync(
    engine: Handle,
    health: Health,
    lists: impl IntoIterator<Item = ListControl>,
    mut pods_told: watch::Receiver<bool>,
) -> Result<(), ControllerError> {
    for mut list in lists {
        list.first().await?;
    }
    pods_told.wait_for(|told| *told).await.map_err(|_| Stopped)?;
    engine.tell(Fact::Synced).await?;
    // The engine takes one thing in after the other: with this answer everything told is compiled.
    engine.totals().await?;
    tracing::info!("everything that existed at the start is told");
    health.set_ready();
    std::future::pending().await
}

async fn serve(listener: TcpListener, pages: Pages, stop: CancellationToken) -> Result<(), ControllerError> {
    http::serve(listener, pages, stop.cancelled_owned())
        .await
        .map_err(ControllerError::Serve)
}

type Undisputed = Option<Arc<watch::Sender<Option<tokio::time::Instant>>>>;

/// Begins to claim leadership, or takes it for granted.
fn lead(
    options: &ControllerOptions,
    client: &Client,
    health: &Health,
    stop: &CancellationToken,
) -> (Option<JoinHandle<()>>, Undisputed, Leadership) {
    if !options.leader_elect {
        let (sender, leadership) = lease::undisputed();
        return (None, Some(sender), leadership);
    }
    let lease = LeaseOptions {
        namespace: options.namespace.clone(),
        name: options.lease.clone(),
        identity: options.identity.clone(),
    };
    let (elector, leadership) = Elector::new(client.clone(), lease, health.clone());
    (
        Some(tokio::spawn(elector.run(stop.clone().cancelled_owned()))),
        None,
        leadership,
    )
}

/// Objects of which spec and status are read apart, so that one can be broken without the other.
fn dynamic<K: kube::Resource<DynamicType = ()>>(client: &Client) -> Api<DynamicObject> {
    Api::all_with(client.clone(), &ApiResource::erase::<K>(&()))
}

/// A loop that ended although nobody asked it to.
fn fault_of(ended: Result<Result<(), ControllerError>, JoinError>) -> ControllerError {
    match ended {
        Ok(Ok(())) => ControllerError::Engine(Stopped),
        Ok(Err(error)) => error,
        Err(error) => ControllerError::Loop(error),
    }
}

fn log_end(name: &str, ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::warn!(name, %error, "a loop ended badly");
    }
}
