//! `kubectl assay watch`: each change of a verdict as it comes.

mod transitions;

use std::time::Duration;

use api::ImageCompliance;
use clap::Args;
use futures::StreamExt as _;
use jiff::Timestamp;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Error as WatchError, Event};

use self::transitions::{Ledger, Transition};
use crate::cluster::{ClusterError, Session, innermost};
use crate::output::{self, Answer, Format, Found, OutputArguments, Problem};
use crate::span::Span;
use crate::table::Style;

/// Print each change of a verdict as it comes: what became worse, what became better, what is not covered any more.
///
/// It reads ImageCompliances with your own rights. It ends with --for, or when you stop it. With -o json or yaml each
/// change is an object of its own.
///
/// Exit codes: 0 nothing became worse in that time, 1 something did, 2 an error.
#[derive(Args, Debug)]
pub(crate) struct WatchArguments {
    /// End after this time; watch until you stop it if not given
    #[arg(long = "for", value_name = "DURATION")]
    time: Option<Span>,
    #[command(flatten)]
    format: OutputArguments,
}

/// Prints changes until the time is over.
pub(crate) async fn answer(session: &Session, arguments: &WatchArguments) -> Result<Answer, Problem> {
    // The rights, and that there is such a kind, are told before anything is waited for.
    session.compliances().await?;
    let end = arguments
        .time
        .as_ref()
        .map(|span| Duration::from_secs(span.seconds()));
    let mut worse = false;
    let watching = follow(session, arguments.format.output, &mut worse);
    match end {
        Some(end) => {
            if let Ok(ended) = tokio::time::timeout(end, watching).await {
                ended?;
            }
        }
        None => watching.await?,
    }
    Ok(Answer {
        text: String::new(),
        found: Found::something(worse),
    })
}

/// Prints changes until the watch ends for good.
async fn follow(session: &Session, format: Format, worse: &mut bool) -> Result<(), Problem> {
    let api = session.namespaced::<ImageCompliance>();
    let mut events = watcher::watcher(api, watcher::Config::default())
        .default_backoff()
        .boxed();
    let style = Style::of_stdout(format != Format::Wide);
    let mut ledger = Ledger::default();
    if format.is_for_people() {
        output::shown(&transitions::heads(style))?;
    }
    while let Some(event) = events.next().await {
        let event = match event {
            Ok(event) => event,
            Err(error) => {
                let refused = refused(session, error)?;
                output::note(&format!("the watch is begun anew: {refused}"));
                continue;
            }
        };
        for transition in taken(&mut ledger, event) {
            *worse |= transition.is_worse();
            output::shown(&printed(&transition, format, style))?;
        }
    }
    Ok(())
}

fn taken(ledger: &mut Ledger, event: Event<ImageCompliance>) -> Vec<Transition> {
    let now = Timestamp::now();
    match event {
        Event::Init => ledger.list_begins(),
        Event::InitDone => ledger.list_ended(now),
        Event::InitApply(object) | Event::Apply(object) => ledger.seen(&object, now),
        Event::Delete(object) => ledger.gone(&object, now),
    }
}

fn printed(transition: &Transition, format: Format, style: Style) -> String {
    match format {
        Format::Table | Format::Wide => transition.line(style),
        Format::Json => format!("{}\n", transition.as_json()),
        Format::Yaml => format!("---\n{}", output::yaml(&transition.as_json())),
    }
}

/// What will not pass by itself ends the watch; the text of everything else is given back.
fn refused(session: &Session, error: WatchError) -> Result<String, ClusterError> {
    let source = match error {
        WatchError::InitialListFailed(source)
        | WatchError::WatchStartFailed(source)
        | WatchError::WatchFailed(source) => source,
        other => return Ok(innermost(&other)),
    };
    let text = innermost(&source);
    match session.explained::<ImageCompliance>("watch", session.namespace.as_deref(), source) {
        error @ (ClusterError::Forbidden { .. }
        | ClusterError::NotInstalled(_)
        | ClusterError::Unauthorized(_)) => Err(error),
        _ => Ok(text),
    }
}
