//! The engine's totals as metrics, taken anew at each scrape.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use api::{Mode, SigningKeyStatus, Stage};
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
    /// What the statuses of SigningKeys say, as far as they were written.
    pub(crate) key_uses: Vec<KeyUse>,
}

/// What rests on a key.
#[derive(Debug)]
pub(crate) struct KeyUse {
    pub(crate) name: Arc<str>,
    pub(crate) stage: Option<Stage>,
    /// Workloads that would get a worse verdict without it.
    pub(crate) sole_trust: Option<i64>,
}

impl KeyUse {
    pub(crate) fn of(name: &Arc<str>, status: &SigningKeyStatus) -> Self {
        KeyUse {
            name: name.clone(),
            stage: status.effective_stage,
            sole_trust: status.sole_trust.as_ref().map(|rests| rests.workloads),
        }
    }
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
        snapshot.readiness(&mut page)?;
        snapshot.keys(&mut page)
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
        let drift = self.totals.tag_drift.iter();
        let drift = drift.map(|(namespace, count)| ([("namespace", namespace.to_string())], *count));
        page.gauges(
            "tag_drift_workloads",
            "Workloads of which a tag names another digest now than the one that runs",
            drift,
        )?;
        let excepted = self
            .totals
            .excepted
            .iter()
            .map(|((namespace, policy, exception), count)| {
                let labels = [
                    ("namespace", namespace.to_string()),
                    ("policy", policy.to_string()),
                    ("exception", exception.to_string()),
                ];
                (labels, *count)
            });
        page.gauges(
            "excepted_workloads",
            "Workloads with an image that passes a policy only by an exception",
            excepted,
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
        let tags = totals.tags.iter();
        let tags = tags.map(|(outcome, count)| ([("outcome", (*outcome).to_owned())], *count));
        page.counters("tag_lookups", "Tags of templates looked up", tags)?;
        page.counter(
            "signature_verifications",
            "Signatures verified",
            totals.verifications,
        )?;
        page.counter("evaluations", "Images judged by a policy", totals.evaluations)?;
        let delays = totals.delays.iter().map(|((registry, config), delay)| {
            let config = config.clone().unwrap_or_default();
            let labels = [("registry", registry.clone()), ("config", config)];
            (labels, i64::try_from(delay.as_secs()).unwrap_or(i64::MAX))
        });
        page.gauges(
            "recheck_delay_seconds",
            "For how long the regular look-up that has waited longest has waited for its turn",
            delays,
        )?;
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
        let usable = self.totals.exception_ends.iter();
        let usable = usable.map(|(name, _)| (name, 1));
        let broken = self.totals.not_ready.iter();
        let broken = broken.filter(|(kind, _)| *kind == "ImageException");
        let exceptions = usable.chain(broken.map(|(_, name)| (name, 0)));
        let exceptions = exceptions.map(|(name, ready)| ([("exception", name.to_string())], ready));
        page.gauges(
            "exception_ready",
            "1 where the exception can be used, also where its time is over",
            exceptions,
        )?;
        let ends = self.totals.exception_ends.iter();
        let ends = ends.map(|(name, end)| ([("exception", name.to_string())], end.as_second()));
        page.gauges("exception_end_timestamp_seconds", "When the exception ends", ends)?;
        let keys = self.keys.iter();
        let keys = keys.map(|name| ([("key", name.to_string())], ready("SigningKey", name)));
        page.gauges("key_ready", "1 where the key can be used", keys)
    }

    fn keys(&self, page: &mut Page<'_>) -> fmt::Result {
        let ends = self.totals.key_ends.iter();
        let ends = ends.map(|(name, end)| ([("key", name.to_string())], end.as_second()));
        page.gauges(
            "key_end_timestamp_seconds",
            "When the key ends, by its notAfter",
            ends,
        )?;
        let rests = self.key_uses.iter().filter_map(|key| {
            let labels = [
                ("key", key.name.to_string()),
                ("stage", key.stage?.as_str().to_owned()),
            ];
            Some((labels, key.sole_trust?))
        });
        page.gauges(
            "key_sole_trust_workloads",
            "Workloads that would get a worse verdict without the key",
            rests,
        )
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
