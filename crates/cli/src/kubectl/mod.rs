//! `kubectl assay`: the commands of the binary under the name `kubectl-assay`. They read and write Kubernetes resources
//! with the rights of whoever runs them, and judge nothing themselves.

mod comparison;
pub(crate) mod completion;
mod consent;
mod diff;
mod difference;
mod explain;
mod fleet;
mod gitops;
mod held;
mod import;
mod key;
mod preview;
mod promote;
mod recheck;
mod rotate;
mod status;
mod survey;
mod watch;
mod workloads;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::cluster::{ClusterArguments, Session};
use crate::forecast::{self, ForecastOptions};
use crate::output::{self, Answer, Problem};
use crate::table::Tone;

/// The command line.
#[derive(Parser, Debug)]
#[command(
    name = "kubectl assay",
    bin_name = "kubectl assay",
    version,
    about = "What runs with signatures you trust, and what a change of keys and policies would do",
    after_help = "Exit codes: 0 nothing to do, 1 something to do, 2 an error, or it cannot be told.",
    max_term_width = 100
)]
pub(crate) struct KubectlCli {
    #[command(flatten)]
    cluster: ClusterArguments,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    // The text of these is their arguments' own: one here would hide its second paragraph.
    Status(status::StatusArguments),
    Explain(explain::ExplainArguments),
    Watch(watch::WatchArguments),
    Forecast(ForecastOptions),
    Diff(diff::DiffArguments),
    #[command(subcommand)]
    Key(key::KeyCommand),
    Rotate(rotate::RotateArguments),
    #[command(subcommand)]
    Policy(promote::PolicyCommand),
    Recheck(recheck::RecheckArguments),
    Survey(survey::SurveyArguments),
    Import(import::ImportArguments),
    /// Print a completion script for a shell
    Completion {
        /// The shell
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
}

/// Runs a command.
pub(crate) fn run(cli: KubectlCli) -> ExitCode {
    let KubectlCli { cluster, command } = cli;
    // These two need no cluster.
    match command {
        Command::Completion { shell } => output::answer(&completion::script(shell), ExitCode::SUCCESS),
        Command::Import(arguments) => output::ended(import::answer(&arguments)),
        command => output::ended(output::in_runtime(async {
            let session = Session::connect(&cluster).await?;
            answer(&session, command).await
        })),
    }
}

async fn answer(session: &Session, command: Command) -> Result<Answer, Problem> {
    match command {
        Command::Status(arguments) => status::answer(session, &arguments).await,
        Command::Explain(arguments) => explain::answer(session, &arguments).await,
        Command::Watch(arguments) => watch::answer(session, &arguments).await,
        Command::Forecast(options) => Ok(forecast::answer(session, &options).await?),
        Command::Diff(arguments) => diff::answer(session, &arguments).await,
        Command::Key(command) => key::answer(session, &command).await,
        Command::Rotate(arguments) => rotate::answer(session, &arguments).await,
        Command::Policy(command) => promote::answer(session, &command).await,
        Command::Recheck(arguments) => recheck::answer(session, &arguments).await,
        Command::Survey(arguments) => survey::answer(session, &arguments).await,
        Command::Import(arguments) => import::answer(&arguments),
        Command::Completion { shell } => Ok(Answer {
            text: completion::script(shell),
            found: output::Found::Nothing,
        }),
    }
}

/// What every object begins with that is printed as JSON.
fn headed(kind: &str, mut object: serde_json::Value) -> serde_json::Value {
    object["apiVersion"] = format!("{}/{}", api::GROUP, api::VERSION).into();
    object["kind"] = kind.into();
    object
}

/// The tone of a verdict.
fn tone(verdict: api::Verdict) -> Tone {
    match verdict {
        api::Verdict::Compliant => Tone::Good,
        api::Verdict::Violating => Tone::Bad,
        api::Verdict::Unknown | api::Verdict::Excepted | api::Verdict::NotCovered | api::Verdict::Other => {
            Tone::Doubtful
        }
    }
}
