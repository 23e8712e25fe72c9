//! `kubectl assay explain`: why a workload or an image is judged as it is, requirement by requirement, and what to do.
//!
//! ImageCompliances are enough. What policies ask for is shown beside it where they may be read.

mod subject;
mod text;

use std::collections::BTreeMap;

use api::{ImageCompliance, ImagePolicy, ImagePolicySpec, Verdict};
use clap::Args;
use serde_json::{Value, json};

use self::subject::Subject;
use super::headed;
use super::workloads::{self, named};
use crate::cluster::{ClusterError, Session};
use crate::output::{Answer, Found, OutputArguments, Problem};

/// Say why a workload or an image is judged as it is, requirement by requirement, and what to do.
///
/// It reads ImageCompliances with your own rights: the role view of a namespace is enough. What the policies ask for
/// is shown beside it where you may read them.
///
/// Exit codes: 0 everything holds, 1 something does not hold or cannot be told, or would not with the next start, 2 an
/// error, or nothing is said of it.
#[derive(Args, Debug)]
pub(crate) struct ExplainArguments {
    /// A workload (deployment/web, or web) or an image (registry.example.com/shop/web, with a tag or digest, or
    /// sha256:… alone)
    #[arg(value_name = "WORKLOAD|IMAGE")]
    subject: Subject,
    #[command(flatten)]
    format: OutputArguments,
}

/// What is explained, with what the policies say where they may be read.
struct Explanation {
    found: Vec<ImageCompliance>,
    /// None where they may not be read.
    policies: Option<BTreeMap<String, ImagePolicySpec>>,
}

/// Prints the explanation.
pub(crate) async fn answer(session: &Session, arguments: &ExplainArguments) -> Result<Answer, Problem> {
    let compliances = session.compliances().await?;
    let found: Vec<ImageCompliance> = compliances
        .into_iter()
        .filter_map(|compliance| arguments.subject.in_compliance(compliance))
        .collect();
    if found.is_empty() {
        return Err(nothing(session, &arguments.subject).into());
    }
    let explanation = Explanation {
        found,
        policies: policies(session).await?,
    };
    let text = arguments
        .format
        .output
        .answer(|style| text::of(&explanation, style), || explanation.as_json());
    Ok(Answer {
        text,
        found: Found::something(!explanation.holds()),
    })
}

/// The specs in force by name; None where they may not be read.
async fn policies(session: &Session) -> Result<Option<BTreeMap<String, ImagePolicySpec>>, ClusterError> {
    let policies = match session.all::<ImagePolicy>().await {
        Ok(policies) => policies,
        Err(error) if error.is_forbidden() => return Ok(None),
        Err(error) => return Err(error),
    };
    let in_force = policies.into_iter().map(|policy| {
        let decides = policy.status.and_then(|status| status.in_force);
        let spec = decides.map_or(policy.spec, |decides| decides.spec);
        (policy.metadata.name.unwrap_or_default(), spec)
    });
    Ok(Some(in_force.collect()))
}

fn nothing(session: &Session, subject: &Subject) -> String {
    format!(
        "nothing is said of {subject} {}: the name is another one, no pod of it runs, or no policy covers it; \
         `kubectl get imgc` lists what something is said of",
        session.place()
    )
}

impl Explanation {
    fn holds(&self) -> bool {
        let images = self.found.iter().flat_map(|compliance| &compliance.status.images);
        let running = images
            .flat_map(|image| &image.policies)
            .map(|result| result.verdict);
        let starts = self
            .found
            .iter()
            .filter_map(|compliance| compliance.status.next_start.as_ref());
        running
            .chain(starts.map(|next| next.verdict))
            .all(|verdict| verdict == Verdict::Compliant)
    }

    /// The shape of docs/kubectl-assay.md.
    fn as_json(&self) -> Value {
        let items: Vec<Value> = self
            .found
            .iter()
            .map(|compliance| self.item(compliance))
            .collect();
        headed(
            "Explanation",
            json!({"policiesReadable": self.policies.is_some(), "items": items}),
        )
    }

    fn item(&self, compliance: &ImageCompliance) -> Value {
        let (namespace, workload) = workloads::of(compliance);
        let status = &compliance.status;
        json!({
            "namespace": namespace,
            "workload": workloads::as_json(&workload),
            "verdict": status.verdict,
            "conditions": status.conditions,
            "images": status.images,
            "nextStart": status.next_start,
            "omitted": status.omitted.unwrap_or_default(),
            "requirements": self.asked(compliance),
        })
    }

    /// What each policy that covers something asks for; nothing of what may not be read.
    fn asked(&self, compliance: &ImageCompliance) -> BTreeMap<String, Vec<Value>> {
        let images = compliance.status.images.iter();
        let names = images.flat_map(|image| image.policies.iter().map(|result| &result.name));
        let starts = compliance.status.next_start.as_ref().map(|next| &next.policy);
        let asked = names.chain(starts).filter_map(|name| {
            let spec = self.policies.as_ref()?.get(name)?;
            let asked = spec
                .require
                .iter()
                .map(|entry| json!({"name": entry.name, "asks": text::requirement(entry)}));
            Some((name.clone(), asked.collect()))
        });
        asked.collect()
    }
}

/// `Deployment/web in shop`.
fn heading(compliance: &ImageCompliance) -> String {
    let (namespace, workload) = workloads::of(compliance);
    format!("{} in {namespace}", named(&workload))
}
