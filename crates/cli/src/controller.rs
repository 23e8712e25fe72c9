//! `assay controller`: the operator's process.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use controller::{
    Clients, ControllerOptions, Metrics, NotifyOptions, PullSecretReader, RegistryCredentials,
    WorkloadTemplate,
};
use engine::{EngineOptions, PullSecrets};
use registry::{Client, ClientOptions, Cloud};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::output;
use crate::registries::RegistryArguments;

/// Run the operator: re-check every running image and write what is found.
///
/// The cluster is that of KUBECONFIG or ~/.kube/config, else the one of the pod's service account.
#[derive(Args, Debug)]
pub(crate) struct ControllerArguments {
    /// Where evidence, listings and resolved tags are kept over restarts
    #[arg(long, value_name = "FOLDER", default_value = "/var/lib/assay")]
    data_dir: PathBuf,
    /// Where /metrics, /healthz and /readyz are served
    #[arg(long, value_name = "ADDRESS:PORT", default_value_t = ControllerOptions::LISTEN)]
    listen: SocketAddr,
    #[command(flatten)]
    registries: RegistryArguments,
    /// Let requests go to this internal address, network or host; whatever --insecure-registry, --token-server or a
    /// RegistryConfig names needs none (repeatable)
    #[arg(long, value_name = "ADDRESS")]
    allow_internal: Vec<String>,
    /// Whose credentials registries are asked with: the operator's own alone, or where those are refused also the pull
    /// secrets of the pods, in namespaces that let the operator read them
    #[arg(long, value_enum, value_name = "WHOSE", default_value_t = WhoseCredentials::Operator)]
    registry_credentials: WhoseCredentials,
    /// Use the identity that this cloud gives the operator for the cloud's own registries, where there are no other
    /// credentials (repeatable)
    #[arg(long, value_enum, value_name = "CLOUD")]
    cloud_credentials: Vec<CloudOf>,
    /// Judge also what objects of a custom kind would start, as GROUP/VERSION/KIND=JSONPATH[,JSONPATH] of their pod
    /// specs; the operator must be allowed to list and watch them (repeatable)
    #[arg(long, value_name = "TEMPLATE")]
    workload_template: Vec<WorkloadTemplate>,
    /// The namespace of the operator's Lease; that of the pod if not given
    #[arg(long)]
    namespace: Option<String>,
    /// Write only while holding the Lease; give false to a single replica that is known to be alone
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    leader_elect: bool,
    /// Jobs and bare Pods younger than this get an ImageCompliance only if something violates
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = api::parse_duration)]
    report_min_age: Duration,
    /// Status writes in one second, sustained
    #[arg(long, value_name = "N", default_value_t = ControllerOptions::WRITES_PER_SECOND)]
    writes_per_second: NonZeroU32,
    /// Status writes at once
    #[arg(long, value_name = "N", default_value_t = ControllerOptions::WRITES_BURST)]
    writes_burst: NonZeroU32,
    /// Everything in the cluster is listed anew after this time, give or take a tenth, whatever the watches say
    #[arg(long, value_name = "DURATION", default_value = "50m", value_parser = api::parse_duration)]
    relist_interval: Duration,
    /// A watch of which nothing is heard for so long is begun anew; the API server sends a bookmark every minute
    #[arg(long, value_name = "DURATION", default_value = "90s", value_parser = api::parse_duration)]
    watch_silence: Duration,
    /// Notify this receiver of news, by CloudEvents over http or https; nobody is notified without it
    #[arg(long, value_name = "URL", requires = "notify_secret_file")]
    notify_url: Option<String>,
    /// The file with the secret that notifications are signed with, or with several, one a line
    #[arg(long, value_name = "FILE", requires = "notify_url")]
    notify_secret_file: Option<PathBuf>,
    /// What tells this cluster from others in notifications: the source of each CloudEvent
    #[arg(long, value_name = "URI", default_value = "/assay")]
    notify_source: String,
    /// Look-ups at registries at the same time
    #[arg(long, value_name = "N", default_value = "64")]
    concurrent_lookups: usize,
    /// How log lines are written
    #[arg(long, value_enum, default_value_t = LogFormat::Json)]
    log_format: LogFormat,
    /// What is logged, as a tracing filter
    #[arg(long, value_name = "FILTER", default_value = "info", env = "ASSAY_LOG")]
    log: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum WhoseCredentials {
    /// The operator's own alone
    Operator,
    /// The operator's own first, then those of the workload
    Workload,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum CloudOf {
    /// Amazon Elastic Container Registry
    Ecr,
    /// Google Artifact Registry and Container Registry
    Gar,
    /// Azure Container Registry
    Acr,
}

impl From<CloudOf> for Cloud {
    fn from(cloud: CloudOf) -> Self {
        match cloud {
            CloudOf::Ecr => Cloud::Ecr,
            CloudOf::Gar => Cloud::Gar,
            CloudOf::Acr => Cloud::Acr,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// One JSON object a line
    Json,
    /// For people
    Text,
}

/// Runs the operator until SIGTERM or SIGINT.
pub(crate) fn run(arguments: ControllerArguments) -> ExitCode {
    let result = start_logging(&arguments).and_then(|()| {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(operate(arguments))
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => output::fail(error),
    }
}

type AnyError = Box<dyn std::error::Error>;

async fn operate(arguments: ControllerArguments) -> Result<(), AnyError> {
    each_kind_once(&arguments.workload_template)?;
    let metrics = Metrics::new(env!("CARGO_PKG_VERSION"));
    let registries = Client::new(ClientOptions {
        observer: Some(metrics.registry_observer()),
        // What is asked is what tenants write into pods.
        clouds: arguments
            .cloud_credentials
            .iter()
            .map(|cloud| (*cloud).into())
            .collect(),
        forbid_internal_addresses: true,
        allowed_internal_addresses: arguments.allow_internal.iter().cloned().collect(),
        ..arguments
            .registries
            .options(concat!("assay/", env!("CARGO_PKG_VERSION")))
    })?;
    let clients = clients_of_the_cluster().await.map_err(|error| {
        format!("no cluster can be reached: {error}; run in a pod, or set KUBECONFIG to a file that kubectl accepts")
    })?;
    let options = arguments.options();
    let (engine, engine_ended) = engine::start(
        &arguments.engine_options(&clients.reads, &options),
        registries.clone(),
    )?;
    let ended = controller::run(options, clients, registries, engine, metrics, shutdown()?).await;
    // The engine ends when its last handle is dropped; by then everything it keeps is on disk.
    if tokio::time::timeout(controller::ENGINE_ENDS_WITHIN, engine_ended)
        .await
        .is_err()
    {
        tracing::warn!("the engine did not end in time");
    }
    Ok(ended?)
}

async fn clients_of_the_cluster() -> Result<Clients, AnyError> {
    Ok(Clients::new(kube::Config::infer().await?)?)
}

/// Two watches of one kind would contradict each other.
fn each_kind_once(registered: &[WorkloadTemplate]) -> Result<(), AnyError> {
    for (at, one) in registered.iter().enumerate() {
        let is_same = |other: &WorkloadTemplate| (&other.group, &other.kind) == (&one.group, &one.kind);
        if registered[..at].iter().any(is_same) {
            return Err(format!(
                "--workload-template: found {}/{} twice, expected each kind once: give all its paths to one flag, \
                 separated by commas",
                one.group, one.kind
            )
            .into());
        }
    }
    Ok(())
}

impl ControllerArguments {
    fn engine_options(&self, cluster: &kube::Client, options: &ControllerOptions) -> EngineOptions {
        let reader = || -> Arc<dyn PullSecrets> {
            Arc::new(PullSecretReader::new(cluster.clone(), options.namespace.clone()))
        };
        EngineOptions {
            data_dir: Some(self.data_dir.clone()),
            concurrent_lookups: self.concurrent_lookups,
            pull_secrets: match options.registry_credentials {
                RegistryCredentials::Operator => None,
                RegistryCredentials::Workload => Some(reader()),
            },
        }
    }

    fn options(&self) -> ControllerOptions {
        let defaults = ControllerOptions::default();
        ControllerOptions {
            listen: self.listen,
            namespace: self.namespace.clone().unwrap_or(defaults.namespace),
            leader_elect: self.leader_elect,
            report_min_age: self.report_min_age,
            writes_per_second: self.writes_per_second,
            writes_burst: self.writes_burst,
            relist_interval: self.relist_interval,
            watch_silence: self.watch_silence,
            tuf_folder: Some(self.data_dir.join("tuf")),
            registry_credentials: match self.registry_credentials {
                WhoseCredentials::Operator => RegistryCredentials::Operator,
                WhoseCredentials::Workload => RegistryCredentials::Workload,
            },
            workload_templates: self.workload_template.clone(),
            notify: self
                .notify_url
                .clone()
                .zip(self.notify_secret_file.clone())
                .map(|(url, secret_file)| NotifyOptions {
                    url,
                    secret_file,
                    source: self.notify_source.clone(),
                }),
            lease: defaults.lease,
            identity: defaults.identity,
        }
    }
}

/// Completes at the first SIGTERM or SIGINT.
fn shutdown() -> Result<impl Future<Output = ()> + Send + 'static, std::io::Error> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

fn start_logging(arguments: &ControllerArguments) -> Result<(), AnyError> {
    let filter = EnvFilter::try_new(&arguments.log).map_err(|error| {
        format!(
            "--log {:?} is not a filter: {error}; give a level such as info",
            arguments.log
        )
    })?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match arguments.log_format {
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
        LogFormat::Text => builder.try_init(),
    }
    .map_err(|error| format!("logging cannot be started: {error}").into())
}
