//! `kubectl assay recheck`: asks the operator to look at what a policy covers now. It writes one annotation on the
//! ImagePolicy; the operator keeps its limits.

use api::{ImagePolicy, RECHECK_REQUESTED_AT};
use clap::Args;
use jiff::Timestamp;
use serde_json::json;

use super::key::patch_as_written;
use crate::cluster::Session;
use crate::output::{Answer, Found, Problem};

/// Apart from whoever writes specs: the API server keeps one time for all that a manager wrote, and a soak is counted
/// from the time at which the spec was written.
const FIELD_MANAGER: &str = "kubectl-assay-recheck";

/// Have the operator look at everything that a policy covers now, and not at its next time.
///
/// Each image is asked for once, within the limits of its registry; one policy at most once in five minutes. What was
/// looked at since the request is not asked for again. It writes the annotation assay.dev/recheck-requested-at.
///
/// Exit codes: 0 requested, 2 an error.
#[derive(Args, Debug)]
pub(crate) struct RecheckArguments {
    /// The ImagePolicies
    #[arg(value_name = "POLICY", required_unless_present = "all")]
    policies: Vec<String>,
    /// All ImagePolicies
    #[arg(long, conflicts_with = "policies")]
    all: bool,
}

/// Writes the request.
pub(crate) async fn answer(session: &Session, arguments: &RecheckArguments) -> Result<Answer, Problem> {
    let names = match arguments.all {
        true => {
            let policies: Vec<ImagePolicy> = session.all().await?;
            policies
                .into_iter()
                .filter_map(|policy| policy.metadata.name)
                .collect()
        }
        false => arguments.policies.clone(),
    };
    // All of them must be there before the first one is written.
    for name in &names {
        session.one::<ImagePolicy>(name).await?;
    }
    let now = Timestamp::from_second(Timestamp::now().as_second())?;
    let patch = json!({"metadata": {"annotations": {RECHECK_REQUESTED_AT: now.to_string()}}});
    let mut text = String::new();
    for name in &names {
        let asked = patch_as_written::<ImagePolicy>(session, name, &patch, FIELD_MANAGER).await;
        asked.map_err(|error| session.explained_here::<ImagePolicy>("patch", Some(name), error))?;
        text += &format!("imagepolicy.assay.dev/{name} annotated: to be looked at now\n");
    }
    if names.is_empty() {
        text = "There is no ImagePolicy.\n".to_owned();
    }
    Ok(Answer {
        text,
        found: Found::Nothing,
    })
}
