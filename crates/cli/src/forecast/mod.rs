//! `assay forecast`: what gets a worse verdict by itself, when and why, read from what the operator wrote.
//!
//! Nothing is judged here and no registry is asked: the operator has said it beside each result.

mod cluster;
mod findings;
mod span;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use jiff::Timestamp;

use self::cluster::{Access, Where};
use self::findings::Forecast;
use self::span::Span;
use crate::output;

/// List what gets a worse verdict by itself, when and why: keys that end, attestations that grow too old.
///
/// It reads ImageCompliances with your own rights, and asks no registry.
///
/// Exit codes: 0 nothing falls in that time, 1 something does, 2 it cannot be told or an error.
#[derive(Args, Debug)]
pub(crate) struct ForecastArguments {
    /// How far ahead to look: numbers with w, d, h, m or s, such as 14d or 36h
    #[arg(long, value_name = "DURATION", default_value = "14d")]
    within: Span,
    /// The namespace to look at; that of the context if not given
    #[arg(short, long, value_name = "NAME", conflicts_with = "all_namespaces")]
    namespace: Option<String>,
    /// Look at all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// The context of the kubeconfig
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// The kubeconfig; that of KUBECONFIG or ~/.kube/config if not given
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// How to print the answer
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people, in 100 columns, the first to fall first
    Table,
    /// One object of kind Forecast
    Json,
}

/// Runs the command.
pub(crate) fn run(arguments: &ForecastArguments) -> ExitCode {
    match foresee(arguments) {
        Ok(forecast) => {
            let text = match arguments.output {
                Output::Table => table::of(&forecast),
                Output::Json => format!("{:#}\n", forecast.as_json()),
            };
            if let Some(doubt) = forecast.doubt() {
                eprintln!("note: {doubt}");
            }
            output::answer(&text, exit_code(&forecast))
        }
        Err(error) => output::fail(error),
    }
}

fn foresee(arguments: &ForecastArguments) -> Result<Forecast, Box<dyn std::error::Error>> {
    let access = Access {
        kubeconfig: arguments.kubeconfig.clone(),
        context: arguments.context.clone(),
        place: match (&arguments.namespace, arguments.all_namespaces) {
            (Some(name), _) => Where::Namespace(name.clone()),
            (None, true) => Where::Everywhere,
            (None, false) => Where::NamespaceOfTheContext,
        },
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (namespace, compliances) = runtime.block_on(access.compliances())?;
    Ok(Forecast::of(
        &compliances,
        namespace,
        arguments.within.clone(),
        Timestamp::now(),
    ))
}

fn exit_code(forecast: &Forecast) -> ExitCode {
    if !forecast.findings.is_empty() {
        ExitCode::from(1)
    } else if forecast.doubt().is_some() {
        ExitCode::from(output::FAILED)
    } else {
        ExitCode::SUCCESS
    }
}
