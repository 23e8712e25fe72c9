//! From ImageCompliances to what falls: pure.

use std::collections::BTreeSet;

use api::{ImageCompliance, ImageResult, Mode, PolicyResult, Verdict, WillBecome, WorkloadRef};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::span::Span;

/// What gets a worse verdict by itself.
#[derive(Clone, Debug)]
pub(super) struct Forecast {
    /// None for all.
    pub(super) namespace: Option<String>,
    pub(super) within: Span,
    pub(super) from: Timestamp,
    pub(super) until: Timestamp,
    /// The first to fall first.
    pub(super) findings: Vec<Finding>,
    /// Results that the operator left out of objects that would be too large.
    pub(super) omitted: i64,
}

/// One result that gets worse by itself.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Finding {
    pub(super) at: Timestamp,
    pub(super) namespace: String,
    pub(super) workload: WorkloadRef,
    pub(super) image: String,
    pub(super) digest: String,
    pub(super) policy: String,
    pub(super) mode: Mode,
    pub(super) verdict: Verdict,
    pub(super) becomes: WillBecome,
}

impl Forecast {
    /// What falls from `from` on; what should have fallen before it and has not been written yet is told too.
    pub(super) fn of(
        compliances: &[ImageCompliance],
        namespace: Option<String>,
        within: Span,
        from: Timestamp,
    ) -> Self {
        let until = within.after(from);
        let mut findings: Vec<Finding> = compliances
            .iter()
            .flat_map(|compliance| findings_in(compliance, until))
            .collect();
        findings.sort_by(|one, other| one.place().cmp(&other.place()));
        let omitted = compliances
            .iter()
            .filter_map(|compliance| compliance.status.omitted);
        Forecast {
            namespace,
            within,
            from,
            until,
            findings,
            omitted: omitted.sum(),
        }
    }

    /// Why the list may not be all.
    pub(super) fn doubt(&self) -> Option<String> {
        (self.omitted > 0).then(|| {
            format!(
                "{} results were left out of objects that would be too large, and may fall too: `status.omitted` is above 0 there",
                self.omitted
            )
        })
    }

    /// The workloads that fall, each once.
    pub(super) fn workloads(&self) -> usize {
        let names = self.findings.iter().map(|finding| {
            let workload = &finding.workload;
            (
                &finding.namespace,
                &workload.api_version,
                &workload.kind,
                &workload.name,
            )
        });
        names.collect::<BTreeSet<_>>().len()
    }

    /// The shape of docs/forecast.md.
    pub(super) fn as_json(&self) -> Value {
        json!({
            "apiVersion": format!("{}/{}", api::GROUP, api::VERSION),
            "kind": "Forecast",
            "namespace": self.namespace,
            "from": seconds(self.from),
            "until": seconds(self.until),
            "omitted": self.omitted,
            "items": self.findings.iter().map(Finding::as_json).collect::<Vec<_>>(),
        })
    }
}

impl Finding {
    fn place(&self) -> impl Ord + '_ {
        (
            self.at,
            &self.namespace,
            &self.workload.kind,
            &self.workload.name,
            &self.policy,
            &self.image,
            &self.digest,
        )
    }

    fn as_json(&self) -> Value {
        json!({
            "at": seconds(self.at),
            "namespace": self.namespace,
            "workload": {
                "apiVersion": self.workload.api_version,
                "kind": self.workload.kind,
                "name": self.workload.name,
            },
            "image": self.image,
            "digest": self.digest,
            "policy": self.policy,
            "mode": self.mode,
            "verdict": self.verdict,
            "becomes": {
                "verdict": self.becomes.verdict,
                "reason": self.becomes.reason,
                "requirement": self.becomes.requirement,
                "message": self.becomes.message.as_deref().unwrap_or_default(),
            },
        })
    }
}

/// A time as statuses carry it.
pub(super) fn seconds(time: Timestamp) -> String {
    Timestamp::from_second(time.as_second())
        .unwrap_or(time)
        .to_string()
}

fn findings_in(compliance: &ImageCompliance, until: Timestamp) -> Vec<Finding> {
    let status = &compliance.status;
    let results = status
        .images
        .iter()
        .flat_map(|image| image.policies.iter().map(move |result| (image, result)));
    let found = results.filter_map(|(image, result)| {
        let (at, becomes) = falls(result)?;
        (at <= until).then(|| finding(compliance, image, result, at, becomes))
    });
    found.collect()
}

/// When the result gets worse, and what it is then.
fn falls(result: &PolicyResult) -> Option<(Timestamp, &WillBecome)> {
    let (at, becomes) = (result.valid_until.as_ref()?, result.will_become.as_ref()?);
    (policy::badness(becomes.verdict) > policy::badness(result.verdict)).then_some((at.0, becomes))
}

fn finding(
    compliance: &ImageCompliance,
    image: &ImageResult,
    result: &PolicyResult,
    at: Timestamp,
    becomes: &WillBecome,
) -> Finding {
    Finding {
        at,
        namespace: compliance.metadata.namespace.clone().unwrap_or_default(),
        workload: compliance.status.workload.clone().unwrap_or_default(),
        image: image.image.clone(),
        digest: image.digest.clone(),
        policy: result.name.clone(),
        mode: result.mode,
        verdict: result.verdict,
        becomes: becomes.clone(),
    }
}
