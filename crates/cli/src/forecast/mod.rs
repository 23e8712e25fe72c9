//! `assay forecast` and `kubectl assay forecast`: what gets a worse verdict by itself, when and why, read from what the
//! operator wrote.
//!
//! Nothing is judged here and no registry is asked: the operator has said it beside each result.

mod findings;
mod table;

use std::process::ExitCode;

use clap::Args;
use jiff::Timestamp;

use self::findings::Forecast;
use crate::cluster::{ClusterArguments, ClusterError, Session};
use crate::output::{self, Found, OutputArguments};
use crate::span::Span;

/// List what gets a worse verdict by itself, when and why: keys that end, attestations that grow too old.
///
/// It reads ImageCompliances with your own rights, and asks no registry.
///
/// Exit codes: 0 nothing falls in that time, 1 something does, 2 it cannot be told or an error.
#[derive(Args, Debug)]
pub(crate) struct ForecastArguments {
    #[command(flatten)]
    cluster: ClusterArguments,
    #[command(flatten)]
    options: ForecastOptions,
}

/// List what gets a worse verdict by itself, when and why: keys that end, attestations that grow too old.
///
/// It reads ImageCompliances with your own rights, and asks no registry.
///
/// Exit codes: 0 nothing falls in that time, 1 something does, 2 it cannot be told or an error.
#[derive(Args, Debug)]
pub(crate) struct ForecastOptions {
    /// How far ahead to look: numbers with w, d, h, m or s, such as 14d or 36h
    #[arg(long, value_name = "DURATION", default_value = "14d")]
    within: Span,
    #[command(flatten)]
    format: OutputArguments,
}

/// Runs the command of `assay`.
pub(crate) fn run(arguments: &ForecastArguments) -> ExitCode {
    output::ended(output::in_runtime(async {
        let session = Session::connect(&arguments.cluster).await?;
        Ok(answer(&session, &arguments.options).await?)
    }))
}

/// Prints what falls.
pub(crate) async fn answer(
    session: &Session,
    options: &ForecastOptions,
) -> Result<output::Answer, ClusterError> {
    let compliances = session.compliances().await?;
    let within = options.within.clone();
    let forecast = Forecast::of(&compliances, session.namespace.clone(), within, Timestamp::now());
    if let Some(doubt) = forecast.doubt() {
        output::note(&doubt);
    }
    let text = options
        .format
        .output
        .answer(|style| table::of(&forecast, style), || forecast.as_json());
    Ok(output::Answer {
        text,
        found: found(&forecast),
    })
}

fn found(forecast: &Forecast) -> Found {
    if !forecast.findings.is_empty() {
        Found::Something
    } else if forecast.doubt().is_some() {
        Found::NotTold
    } else {
        Found::Nothing
    }
}
