//! What the operator counts, in the conventions of Prometheus. No label names a pod, an image or a digest.

mod process;
mod sources;
mod totals;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use api::{Mode, Verdict};
use jiff::Timestamp;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use self::process::Process;
use self::sources::{Sources, SourcesCollector};
use self::totals::SnapshotCollector;
pub(crate) use self::totals::{KeyUse, Snapshot};

/// From 5 ms to 40 s.
const SECONDS: [f64; 12] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 40.0,
];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct WriteLabels {
    kind: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct EventLabels {
    reason: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct EndedLabels {
    namespace: String,
    policy: String,
    mode: String,
    verdict: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RequestLabels {
    registry: String,
    operation: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RegistryLabels {
    registry: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct DurationLabels {
    registry: String,
    operation: &'static str,
}

/// Every metric of the operator. One for the whole process; cheap to share behind an [`Arc`].
pub struct Metrics {
    registry: Mutex<Registry>,
    registry_requests: Family<RequestLabels, Counter>,
    registry_held: Family<RegistryLabels, Counter>,
    registry_seconds: Family<DurationLabels, Histogram>,
    api_writes: Family<WriteLabels, Counter>,
    events: Family<EventLabels, Counter>,
    ended: Family<EndedLabels, Counter>,
    notifications: Family<OutcomeLabel, Counter>,
    watch_errors: Family<KindLabel, Counter>,
    watch_lists: Family<KindLabel, Counter>,
    leader: Gauge,
    snapshot: Arc<Mutex<Snapshot>>,
    sources: Arc<Mutex<Sources>>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WriteOutcome {
    Written,
    Deleted,
    Conflict,
    Throttled,
    /// The namespace is going, and what was to be written goes with it.
    Dropped,
    Failed,
}

impl WriteOutcome {
    fn as_str(self) -> &'static str {
        match self {
            WriteOutcome::Written => "written",
            WriteOutcome::Deleted => "deleted",
            WriteOutcome::Conflict => "conflict",
            WriteOutcome::Throttled => "throttled",
            WriteOutcome::Dropped => "dropped",
            WriteOutcome::Failed => "failed",
        }
    }
}

/// What became of an Event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EventOutcome {
    Written,
    /// It was told before.
    Exists,
    /// There was no room for it, nobody to tell it, or nowhere to.
    Dropped,
    Failed,
}

impl EventOutcome {
    fn as_str(self) -> &'static str {
        match self {
            EventOutcome::Written => "written",
            EventOutcome::Exists => "exists",
            EventOutcome::Dropped => "dropped",
            EventOutcome::Failed => "failed",
        }
    }
}

impl Metrics {
    /// Metrics for a process of this version.
    pub fn new(version: &'static str) -> Arc<Self> {
        let metrics = Metrics {
            registry: Mutex::default(),
            registry_requests: Family::default(),
            registry_held: Family::default(),
            registry_seconds: Family::new_with_constructor(|| Histogram::new(SECONDS)),
            api_writes: Family::default(),
            events: Family::default(),
            ended: Family::default(),
            notifications: Family::default(),
            watch_errors: Family::default(),
            watch_lists: Family::default(),
            leader: Gauge::default(),
            snapshot: Arc::default(),
            sources: Arc::default(),
        };
        metrics.register(version);
        Arc::new(metrics)
    }

    fn register(&self, version: &'static str) {
        let mut root = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        root.register_collector(Box::new(Process::started_now()));
        let own = root.sub_registry_with_prefix("assay");
        own.register(
            "build",
            "The version that runs",
            Info::new(vec![("version", version)]),
        );
        own.register(
            "registry_requests",
            "HTTP requests to image registries",
            self.registry_requests.clone(),
        );
        own.register(
            "registry_requests_held",
            "Requests to image registries that were not sent, because a RegistryConfig allows no more",
            self.registry_held.clone(),
        );
        own.register(
            "registry_request_seconds",
            "Time from sending a request to an image registry to the last byte read",
            self.registry_seconds.clone(),
        );
        own.register(
            "api_writes",
            "Writes to the Kubernetes API by kind and outcome",
            self.api_writes.clone(),
        );
        own.register(
            "events",
            "Kubernetes Events by reason and outcome",
            self.events.clone(),
        );
        own.register(
            "ended_verdicts",
            "Verdicts about images whose last pod ended before they were written",
            self.ended.clone(),
        );
        own.register(
            "notifications",
            "Notifications by outcome",
            self.notifications.clone(),
        );
        own.register(
            "watch_errors",
            "Failures of watches, and objects that could not be read",
            self.watch_errors.clone(),
        );
        own.register(
            "watch_lists",
            "Complete lists, the first one included",
            self.watch_lists.clone(),
        );
        own.register(
            "leader",
            "1 while this replica holds the Lease and writes",
            self.leader.clone(),
        );
        own.register_collector(Box::new(SnapshotCollector::new(self.snapshot.clone())));
        own.register_collector(Box::new(SourcesCollector(self.sources.clone())));
    }

    /// The observer to give to the registry client.
    pub fn registry_observer(self: &Arc<Self>) -> Arc<MetricsRegistryObserver> {
        Arc::new(MetricsRegistryObserver {
            metrics: self.clone(),
        })
    }

    pub(crate) fn api_write(&self, kind: &'static str, outcome: WriteOutcome) {
        self.api_writes
            .get_or_create(&WriteLabels {
                kind,
                outcome: outcome.as_str(),
            })
            .inc();
    }

    pub(crate) fn event(&self, reason: &'static str, outcome: EventOutcome) {
        let outcome = outcome.as_str();
        self.events.get_or_create(&EventLabels { reason, outcome }).inc();
    }

    /// A verdict about an image that runs no more was recorded.
    pub(crate) fn ended(&self, namespace: &str, policy: &str, mode: Mode, verdict: Verdict) {
        let labels = EndedLabels {
            namespace: namespace.to_owned(),
            policy: policy.to_owned(),
            mode: mode.as_str().to_owned(),
            verdict: verdict.to_string(),
        };
        self.ended.get_or_create(&labels).inc();
    }

    pub(crate) fn notification(&self, outcome: &'static str) {
        self.notifications.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    pub(crate) fn watch_error(&self, kind: &'static str) {
        self.watch_errors.get_or_create(&KindLabel { kind }).inc();
    }

    pub(crate) fn list_finished(&self, kind: &'static str) {
        self.watch_lists.get_or_create(&KindLabel { kind }).inc();
    }

    pub(crate) fn leads(&self, leads: bool) {
        self.leader.set(leads.into());
    }

    pub(crate) fn show(&self, snapshot: Snapshot) {
        *self.snapshot.lock().unwrap_or_else(PoisonError::into_inner) = snapshot;
    }

    /// TrustRoots by name: None where one cannot be used, else its end where it has one.
    pub(crate) fn show_trust_roots(&self, roots: BTreeMap<Arc<str>, Option<Option<Timestamp>>>) {
        self.sources
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .trust_roots = roots;
    }

    /// RegistryConfigs by name, with whether each is in use as it is written.
    pub(crate) fn show_registries(&self, registries: BTreeMap<Arc<str>, bool>) {
        self.sources
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .registries = registries;
    }

    /// Everything in the OpenMetrics text format.
    pub(crate) fn text(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        prometheus_client::encoding::text::encode(&mut text, &registry)?;
        Ok(text)
    }
}

/// Counts and times the requests of the registry client.
#[derive(Debug)]
pub struct MetricsRegistryObserver {
    metrics: Arc<Metrics>,
}

impl registry::RequestObserver for MetricsRegistryObserver {
    fn request(&self, registry: &str, operation: &'static str, outcome: &'static str, seconds: f64) {
        let registry = registry.to_owned();
        let labels = RequestLabels {
            registry: registry.clone(),
            operation,
            outcome,
        };
        self.metrics.registry_requests.get_or_create(&labels).inc();
        self.metrics
            .registry_seconds
            .get_or_create(&DurationLabels { registry, operation })
            .observe(seconds);
    }

    fn held(&self, registry: &str) {
        let registry = registry.to_owned();
        self.metrics
            .registry_held
            .get_or_create(&RegistryLabels { registry })
            .inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::Totals;
    use jiff::Timestamp;
    use registry::RequestObserver;

    #[test]
    fn the_text_names_every_metric_of_the_contract() {
        let metrics = Metrics::new("1.2.3");
        metrics
            .registry_observer()
            .request("registry.example.com", "manifest", "ok", 0.2);
        metrics.registry_observer().held("registry.example.com");
        metrics.api_write("ImageCompliance", WriteOutcome::Written);
        metrics.event("BecameCompliant", EventOutcome::Written);
        metrics.watch_error("Pod");
        metrics.list_finished("Pod");
        metrics.notification("delivered");
        metrics.leads(true);
        let mut totals = Totals {
            pods: 3,
            subjects: 2,
            verifications: 5,
            evaluations: 7,
            pending_updates: 1,
            ..Totals::default()
        };
        totals.workloads.insert(
            (
                "shop".into(),
                "prod".into(),
                api::Mode::Enforce,
                api::Verdict::Violating,
            ),
            4,
        );
        totals.stale.insert(("shop".into(), "prod".into()), 1);
        let falls = (
            "shop".into(),
            "prod".into(),
            api::Mode::Warn,
            engine::Within::WarnBefore,
        );
        totals.falling.insert(falls, 6);
        totals.uncovered.insert("dev".into(), 2);
        totals
            .excepted
            .insert(("shop".into(), "prod".into(), "hotfix".into()), 3);
        let end = Timestamp::from_second(1_790_000_000).unwrap();
        totals.exception_ends.insert("hotfix".into(), end);
        totals.key_ends.insert("good".into(), end);
        totals.lookups.insert("complete", 9);
        let place = ("registry.example.com".to_owned(), Some("small".to_owned()));
        totals.delays.insert(place, std::time::Duration::from_secs(3600));
        totals.oldest_check = Some(Timestamp::from_second(1_700_000_000).unwrap());
        totals.not_ready = vec![
            ("ImagePolicy", "bad".into()),
            ("SigningKey", "broken".into()),
            ("ImageException", "endless".into()),
        ];
        metrics.show(Snapshot {
            totals,
            policies: vec!["bad".into(), "prod".into()],
            keys: vec!["broken".into(), "good".into()],
            key_uses: vec![KeyUse {
                name: "good".into(),
                stage: Some(api::Stage::Retiring),
                sole_trust: Some(7),
            }],
        });
        let end = Timestamp::from_second(1_800_000_000).unwrap();
        let roots = [("endless", Some(None)), ("good", Some(Some(end))), ("bad", None)];
        metrics.show_trust_roots(roots.map(|(name, root)| (name.into(), root)).into());
        metrics.show_registries([("hub".into(), true), ("twice".into(), false)].into());
        let text = metrics.text().unwrap();
        for line in [
            r#"assay_build_info{version="1.2.3"} 1"#,
            r#"assay_registry_requests_total{registry="registry.example.com",operation="manifest",outcome="ok"} 1"#,
            r#"assay_registry_request_seconds_count{registry="registry.example.com",operation="manifest"} 1"#,
            r#"assay_api_writes_total{kind="ImageCompliance",outcome="written"} 1"#,
            r#"assay_events_total{reason="BecameCompliant",outcome="written"} 1"#,
            r#"assay_watch_errors_total{kind="Pod"} 1"#,
            r#"assay_watch_lists_total{kind="Pod"} 1"#,
            r#"assay_notifications_total{outcome="delivered"} 1"#,
            "assay_leader 1",
            r#"assay_workloads{namespace="shop",policy="prod",mode="Enforce",verdict="Violating"} 4"#,
            r#"assay_stale_workloads{namespace="shop",policy="prod"} 1"#,
            r#"assay_forecast_workloads{namespace="shop",policy="prod",mode="Warn",within="warnBefore"} 6"#,
            r#"assay_uncovered_workloads{namespace="dev"} 2"#,
            r#"assay_excepted_workloads{namespace="shop",policy="prod",exception="hotfix"} 3"#,
            r#"assay_exception_end_timestamp_seconds{exception="hotfix"} 1790000000"#,
            r#"assay_exception_ready{exception="hotfix"} 1"#,
            r#"assay_exception_ready{exception="endless"} 0"#,
            "assay_pods 3",
            "assay_images 2",
            r#"assay_lookups_total{outcome="complete"} 9"#,
            "assay_signature_verifications_total 5",
            "assay_evaluations_total 7",
            "assay_pending_updates 1",
            "assay_oldest_check_timestamp_seconds 1700000000",
            r#"assay_recheck_delay_seconds{registry="registry.example.com",config="small"} 3600"#,
            r#"assay_registry_requests_held_total{registry="registry.example.com"} 1"#,
            r#"assay_policy_ready{policy="bad"} 0"#,
            r#"assay_policy_ready{policy="prod"} 1"#,
            r#"assay_key_ready{key="broken"} 0"#,
            r#"assay_key_ready{key="good"} 1"#,
            r#"assay_key_end_timestamp_seconds{key="good"} 1790000000"#,
            r#"assay_key_sole_trust_workloads{key="good",stage="Retiring"} 7"#,
            r#"assay_trust_root_ready{trust_root="endless"} 1"#,
            r#"assay_trust_root_ready{trust_root="bad"} 0"#,
            r#"assay_trust_root_end_timestamp_seconds{trust_root="good"} 1800000000"#,
            r#"assay_registry_config_ready{config="hub"} 1"#,
            r#"assay_registry_config_ready{config="twice"} 0"#,
        ] {
            assert!(
                text.lines().any(|found| found.starts_with(line)),
                "{line} is not in\n{text}"
            );
        }
        for name in ["process_start_time_seconds", "process_resident_memory_bytes"] {
            assert!(
                text.lines().any(|found| found.starts_with(name)),
                "{name} is not in\n{text}"
            );
        }
        assert!(text.ends_with("# EOF\n"));
    }
}
