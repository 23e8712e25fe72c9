//! The engine's totals as metrics, taken anew at each scrape.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use api::Mode;
use engine::{Totals, Within};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// What a scrape shows.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    pub(crate) totals: Totals,
    /// The names of all ImagePolicies.
    pub(crate) policies: Vec<Arc<str>>,
    /// The names of all SigningKeys.
    pub(crate) keys: Vec<Arc<str>>,
}

#[derive(Debug)]
pub(super) struct SnapshotCollector {
    snapshot: Arc<Mutex<Snapshot>>,
}

impl SnapshotCollector {
    pub(super) fn new(snapshot: Arc<Mutex<Snapshot>>) -> Self {
        SnapshotCollector { snapshot }
    }
}

impl Collector for SnapshotCollector {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let snapshot = self.snapshot.lock().unwrap_or_else(PoisonError::into_inner);
        let mut page = Page::new(encoder);
        snapshot.workloads(&mut page)?;
        snapshot.work(&mut page)?;
        snapshot.readiness(&mut page)
    }
}

impl Snapshot {
    fn workloads(&self, page: &mut Page<'_>) -> fmt::Result {
        let workloads = self
            .totals
            .workloads
            .iter()
            .map(|((namespace, policy, mode, verdict), count)| {
                let labels = [
                    ("namespace", namespace.to_string()),
                    ("policy", policy.to_string()),
                    ("mode", Mode::as_str(*mode).to_owned()),
                    ("verdict", verdict.to_string()),
                ];
                (labels, *count)
            });
        page.gauges("workloads", "Workloads by policy and verdict", workloads)?;
        let stale = self.totals.stale.iter().map(|((namespace, policy), count)| {
            (
                [
                    ("namespace", namespace.to_string()),
                    ("policy", policy.to_string()),
                ],
                *count,
            )
        });
        page.gauges(
            "stale_workloads",
            "Workloads with a verdict that could not be refreshed when due",
            stale,
        )?;
        let falling = self
            .totals
            .falling
            .iter()
            .map(|((namespace, policy, mode, within), count)| {
                let labels = [
                    ("namespace", namespace.to_string()),
                    ("policy", policy.to_string()),
                    ("mode", Mode::as_str(*mode).to_owned()),
                    ("within", span(*within).to_owned()),
                ];
                (labels, *count)
            });
        page.gauges(
            "forecast_workloads",
            "Workloads with a verdict that gets worse by itself within a time",
            falling,
        )?;
        let uncovered = self.totals.uncovered.iter();
        let uncovered = uncovered.map(|(namespace, count)| ([("namespace", namespace.to_string())], *count));
        page.gauges(
            "uncovered_workloads",
            "Workloads that no policy covers",
            uncovered,
        )
    }

    fn work(&self, page: &mut Page<'_>) -> fmt::Result {
        let totals = &self.totals;
        page.gauge("pods", "Pods that run", totals.pods)?;
        page.gauge(
            "images",
            "Distinct repositories and digests that run",
            totals.subjects,
        )?;
        page.gauge(
            "pending_updates",
            "Changes that wait to be written",
            totals.pending_updates,
        )?;
        let lookups = totals
            .lookups
            .iter()
            .map(|(outcome, count)| ([("outcome", (*outcome).to_owned())], *count));
        page.counters("lookups", "Look-ups of images finished", lookups)?;
        page.counter(
            "signature_verifications",
            "Signatures verified",
            totals.verifications,
        )?;
        page.counter("evaluations", "Images judged by a policy", totals.evaluations)?;
        let Some(oldest) = totals.oldest_check else {
            return Ok(());
        };
        let help = "When the covered image that waits longest was last looked up";
        page.gauge("oldest_check_timestamp_seconds", help, oldest.as_second())
    }

    fn readiness(&self, page: &mut Page<'_>) -> fmt::Result {
        let ready = |kind: &str, name: &Arc<str>| {
            i64::from(
                !self
                    .totals
                    .not_ready
                    .iter()
                    .any(|(bad, of)| *bad == kind && of == name),
            )
        };
        let policies = self.policies.iter();
        let policies = policies.map(|name| ([("policy", name.to_string())], ready("ImagePolicy", name)));
        page.gauges(
            "policy_ready",
            "1 where the policy can be evaluated and its key rings exist",
            policies,
        )?;
        let keys = self.keys.iter();
        let keys = keys.map(|name| ([("key", name.to_string())], ready("SigningKey", name)));
        page.gauges("key_ready", "1 where the key can be used", keys)
    }
}

fn span(within: Within) -> &'static str {
    match within {
        Within::WarnBefore => "warnBefore",
        Within::Week => "7d",
        Within::Month => "30d",
    }
}

/// One scrape that is being written.
pub(super) struct Page<'a> {
    encoder: DescriptorEncoder<'a>,
}

impl<'a> Page<'a> {
    pub(super) fn new(encoder: DescriptorEncoder<'a>) -> Self {
        Page { encoder }
    }

    fn gauge(&mut self, name: &str, help: &str, value: i64) -> fmt::Result {
        let gauge = ConstGauge::new(value);
        gauge.encode(
            self.encoder
                .encode_descriptor(name, help, None, MetricType::Gauge)?,
        )
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let counter = ConstCounter::new(value);
        counter.encode(
            self.encoder
                .encode_descriptor(name, help, None, MetricType::Counter)?,
        )
    }

    pub(super) fn gauges<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        values: impl Iterator<Item = (L, i64)>,
    ) -> fmt::Result {
        let mut family = self
            .encoder
            .encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in values {
            ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn counters<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        values: impl Iterator<Item = (L, u64)>,
    ) -> fmt::Result {
        let mut family = self
            .encoder
            .encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in values {
            ConstCounter::new(value).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
