//! `kubectl assay status`: how the workloads of a namespace, or of all, stand with each policy; the worst first.

mod report;
mod starts;
mod troubles;

use std::time::Duration;

use clap::Args;
use futures::TryStreamExt as _;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher;

use self::report::Report;
use super::workloads::{SelectorArguments, selected};
use crate::cluster::{ClusterError, Session, innermost};
use crate::output::{self, Answer, Found, OutputArguments, Problem};

/// Changes that come together are shown together.
const GATHERED: Duration = Duration::from_millis(500);

/// Show how the workloads stand with each policy, the worst first, and what is wrong with policies and keys.
///
/// It reads ImageCompliances with your own rights, and policies and keys where you may read them.
///
/// Exit codes: 0 nothing is wrong, 1 something violates a policy in mode Warn or Enforce or cannot be told, or would with
/// its next start, or a policy or a key cannot be used, 2 an error. What a policy in mode DryRun finds is shown, and does
/// not count.
#[derive(Args, Debug)]
pub(crate) struct StatusArguments {
    #[command(flatten)]
    selector: SelectorArguments,
    /// Show it again whenever it changes
    #[arg(short, long)]
    watch: bool,
    #[command(flatten)]
    format: OutputArguments,
}

/// Prints how everything stands.
pub(crate) async fn answer(session: &Session, arguments: &StatusArguments) -> Result<Answer, Problem> {
    let mut answer = look(session, arguments).await?;
    if !arguments.watch {
        return Ok(answer);
    }
    let watched = session.namespaced::<api::ImageCompliance>();
    let changes = watcher(watched, watcher::Config::default()).default_backoff();
    let mut changes = std::pin::pin!(changes);
    loop {
        output::shown(&answer.text)?;
        let shown = answer.text;
        loop {
            if let Err(error) = changes.try_next().await {
                output::note(&format!("the watch is begun anew: {}", innermost(&error)));
            }
            while tokio::time::timeout(GATHERED, changes.try_next()).await.is_ok() {}
            answer = look(session, arguments).await?;
            if answer.text != shown {
                output::shown("\n")?;
                break;
            }
        }
    }
}

async fn look(session: &Session, arguments: &StatusArguments) -> Result<Answer, ClusterError> {
    let compliances = session.compliances().await?;
    let compliances = selected(session, &arguments.selector, compliances).await?;
    let troubles = troubles::of(session).await?;
    let report = Report::of(&compliances, session.namespace.clone(), troubles);
    let text = arguments
        .format
        .output
        .answer(|style| report.text(style), || report.as_json());
    Ok(Answer {
        text,
        found: Found::something(report.is_something_wrong()),
    })
}
