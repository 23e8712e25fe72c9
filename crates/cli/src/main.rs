//! The `assay` command: one binary for the operator and for people.

mod check;
mod cluster;
mod controller;
mod forecast;
mod kubectl;
mod manifests;
mod output;
mod registries;
mod span;
mod table;
mod verify_bundle;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The command line.
#[derive(Parser, Debug)]
#[command(
    name = "assay",
    version,
    about = "Keeps looking: are the images that run still signed by keys you trust?",
    max_term_width = 100
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    // The text of these four is their arguments' own: one here would hide its second paragraph.
    Controller(Box<controller::ControllerArguments>),
    Check(check::CheckArguments),
    Forecast(forecast::ForecastArguments),
    VerifyBundle(verify_bundle::VerifyBundleArguments),
    /// Print the CustomResourceDefinitions as YAML
    Crds,
}

fn main() -> ExitCode {
    // The name that the binary is called by decides which command line it has.
    let program = std::env::args_os().next().unwrap_or_default();
    let name = std::path::Path::new(&program).file_stem().unwrap_or_default();
    match name.to_str() {
        Some("kubectl-assay") => with_cryptography(kubectl::KubectlCli::parse(), kubectl::run),
        Some("kubectl_complete-assay") => kubectl::completion::of_kubectl(),
        _ => with_cryptography(Cli::parse(), run),
    }
}

fn with_cryptography<T>(cli: T, run: impl FnOnce(T) -> ExitCode) -> ExitCode {
    // The only TLS and cryptography provider of the process.
    if rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .is_err()
    {
        return output::fail("another cryptography provider is installed in this process");
    }
    run(cli)
}

fn run(cli: Cli) -> ExitCode {
    match cli.command {
        Command::Controller(arguments) => controller::run(*arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Forecast(arguments) => forecast::run(&arguments),
        Command::VerifyBundle(arguments) => verify_bundle::run(&arguments),
        Command::Crds => print_crds(),
    }
}

fn print_crds() -> ExitCode {
    let printed = api::crd::definitions().and_then(|definitions| {
        definitions
            .iter()
            .map(|(_, definition)| api::crd::to_yaml(definition))
            .collect::<Result<Vec<_>, _>>()
    });
    match printed {
        Ok(documents) => {
            let text = format!("---\n{}", documents.join("---\n"));
            output::answer(&text, ExitCode::SUCCESS)
        }
        Err(error) => output::fail(error),
    }
}
