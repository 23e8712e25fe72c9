//! Looks at the cluster until it says what the story promises, or fails with what it says instead.

use std::time::{Duration, Instant};

use api::{ImageCompliance, ImagePolicy, SigningKey};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::events::v1::Event;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use serde::de::DeserializeOwned;
use testkit::Operator;

use crate::error::{DemoError, Result};
use crate::expect::{Answer, Count, Trust, mismatches};

/// How often the cluster is looked at: also the error of every time that is told.
const PAUSE: Duration = Duration::from_millis(50);

/// Who reports the operator's Events.
pub const REPORTER: &str = "assay.dev/controller";

/// What an Event must say: its reason, the kind and the name of what it is about.
pub type News = (&'static str, &'static str, &'static str);

/// An administrator who looks and changes nothing.
pub struct Observer {
    client: Client,
}

impl Observer {
    /// Looks with this client.
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// Waits until every pod runs that is to run.
    pub async fn pods_run(&self, expected: usize, limit: Duration) -> Result<()> {
        let pods: Api<Pod> = Api::all(self.client.clone());
        let what = format!("{expected} pods that run");
        watch(&what, limit, None, async || {
            let found = list(&pods, "list pods").await?;
            let phase = |pod: &Pod| pod.status.as_ref().and_then(|status| status.phase.clone());
            let running = found
                .iter()
                .filter(|pod| phase(pod).as_deref() == Some("Running"))
                .count();
            Ok((running != expected).then(|| format!("{running} of {} pods run", found.len())))
        })
        .await
    }

    /// Waits until every answer is as expected, and there is no other.
    pub async fn answers(
        &self,
        what: &str,
        limit: Duration,
        operator: &Operator,
        expected: &[Answer],
    ) -> Result<()> {
        let compliances: Api<ImageCompliance> = Api::all(self.client.clone());
        watch(what, limit, Some(operator), async || {
            let found = list(&compliances, "list ImageCompliances").await?;
            let wrong = mismatches(expected, &found);
            Ok((!wrong.is_empty()).then(|| {
                let mut text = wrong.join("\n");
                for object in &found {
                    if let Ok(status) = serde_json::to_string(&object.status)
                        && wrong.iter().any(|wrong| names(wrong, object))
                    {
                        text.push_str("\n\n");
                        text.push_str(&status);
                    }
                }
                text
            }))
        })
        .await
    }

    /// Waits until policies and keys count what they should.
    pub async fn counts(
        &self,
        limit: Duration,
        operator: &Operator,
        policies: &[Count],
        keys: &[Trust],
    ) -> Result<()> {
        let all_policies: Api<ImagePolicy> = Api::all(self.client.clone());
        let all_keys: Api<SigningKey> = Api::all(self.client.clone());
        watch(
            "the counts of policies and keys",
            limit,
            Some(operator),
            async || {
                let found = list(&all_policies, "list ImagePolicies").await?;
                let mut wrong: Vec<String> = policies
                    .iter()
                    .filter_map(|count| count.mismatch(&found))
                    .collect();
                let found = list(&all_keys, "list SigningKeys").await?;
                wrong.extend(keys.iter().filter_map(|trust| trust.mismatch(&found)));
                Ok((!wrong.is_empty()).then(|| wrong.join("\n")))
            },
        )
        .await
    }

    /// Waits until every piece of news was told as an Event.
    pub async fn events(&self, limit: Duration, operator: &Operator, expected: &[News]) -> Result<()> {
        let events: Api<Event> = Api::all(self.client.clone());
        watch("the operator's Events", limit, Some(operator), async || {
            let found = list(&events, "list Events").await?;
            let ours = found
                .iter()
                .filter(|event| event.reporting_controller.as_deref() == Some(REPORTER));
            let told: Vec<_> = ours
                .map(|event| {
                    let about = event.regarding.as_ref();
                    let kind = about.and_then(|about| about.kind.as_deref());
                    let name = about.and_then(|about| about.name.as_deref());
                    (
                        event.reason.as_deref().unwrap_or(""),
                        kind.unwrap_or(""),
                        name.unwrap_or(""),
                    )
                })
                .collect();
            let missing: Vec<_> = expected.iter().filter(|news| !told.contains(news)).collect();
            Ok((!missing.is_empty()).then(|| format!("not told: {missing:?}\ntold: {told:?}")))
        })
        .await
    }
}

/// Whether a mismatch is about this object.
fn names(mismatch: &str, object: &ImageCompliance) -> bool {
    let name = format!(
        "{}/{}:",
        object.namespace().unwrap_or_default(),
        object.name_any()
    );
    mismatch.starts_with(&name)
}

async fn list<K>(api: &Api<K>, what: &'static str) -> Result<Vec<K>>
where
    K: Clone + DeserializeOwned + std::fmt::Debug,
{
    Ok(api
        .list(&ListParams::default())
        .await
        .map_err(DemoError::kubernetes(what))?
        .items)
}

/// Looks until nothing is wrong any more. Ends at once when the operator does.
async fn watch(
    what: &str,
    limit: Duration,
    operator: Option<&Operator>,
    mut look: impl AsyncFnMut() -> Result<Option<String>>,
) -> Result<()> {
    let deadline = Instant::now() + limit;
    let log = || operator.map_or_else(String::new, |operator| operator.server.log_tail());
    loop {
        let Some(found) = look().await? else { return Ok(()) };
        if let Some(status) = operator.and_then(|operator| operator.server.ended()) {
            return Err(DemoError::OperatorEnded {
                what: what.to_owned(),
                status,
                log: log(),
            });
        }
        if Instant::now() > deadline {
            return Err(DemoError::NotSeen {
                what: what.to_owned(),
                after: limit,
                found,
                log: log(),
            });
        }
        tokio::time::sleep(PAUSE).await;
    }
}
