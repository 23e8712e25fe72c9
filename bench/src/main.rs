//! `make bench`: what the operator costs at scale.
//!
//! - `engine`: the engine alone, through its public interface, against a counting stand-in registry.
//! - `fleet`: the whole operator, as a process, on a real API server.
//! - `registry`: that stand-in; started by the others as a process of its own.
//!
//! Every figure goes to `target/bench/results.json`. CPU time is measured where the bar is CPU time: others may use
//! the machine meanwhile.

mod engine_run;
mod figures;
mod fleet;
mod fleet_facts;
mod images;
mod process;
mod report;
mod stand_in;

use std::net::Ipv4Addr;
use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// Why a bench ended early.
#[derive(Debug)]
pub(crate) struct Failed(String);

impl Failed {
    pub(crate) fn new(what: impl std::fmt::Display, why: impl std::fmt::Display) -> Failed {
        Failed(format!("cannot {what}: {why}"))
    }
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failed {}

/// What the operator costs at scale.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// Where the figures are kept.
    #[arg(long, global = true, default_value = "target/bench/results.json")]
    results: PathBuf,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The engine alone.
    Engine {
        /// Pods of the largest fleet.
        #[arg(long, default_value_t = 150_000)]
        pods: usize,
        /// Images, and workloads, of the largest fleet.
        #[arg(long, default_value_t = 16_400)]
        images: usize,
    },
    /// One part of it, as a process of its own.
    #[command(hide = true)]
    EnginePart {
        part: engine_run::Part,
        #[arg(long)]
        folder: PathBuf,
        #[arg(long)]
        port: u16,
        #[arg(long)]
        pods: usize,
        #[arg(long)]
        images: usize,
    },
    /// The whole operator on a fleet in a real API server.
    Fleet {
        /// Pods of the fleet.
        #[arg(long)]
        pods: usize,
        /// Images, and workloads, of the fleet.
        #[arg(long)]
        images: usize,
        /// Write at the operator's own pace, as it is shipped, instead of as fast as the API server takes it.
        #[arg(long)]
        shipped_pace: bool,
    },
    /// The table of all figures, and plots.
    Report {
        /// Where the plots are written.
        #[arg(long, default_value = "target/bench")]
        plots: PathBuf,
    },
    /// The stand-in registry.
    Registry {
        /// How many images it holds.
        #[arg(long)]
        images: usize,
        /// Where it listens.
        #[arg(long, default_value_t = Ipv4Addr::LOCALHOST)]
        address: Ipv4Addr,
        /// Its port; 0 for any.
        #[arg(long, default_value_t = 0)]
        port: u16,
    },
}

#[tokio::main]
async fn main() -> Result<(), Failed> {
    let arguments = Arguments::parse();
    match arguments.command {
        Command::Engine { pods, images } => engine_run::run(&arguments.results, pods, images).await,
        Command::EnginePart {
            part,
            folder,
            port,
            pods,
            images,
        } => engine_run::run_part(&arguments.results, part, &folder, port, (pods, images)).await,
        Command::Report { plots } => report::run(figures::Figures::open(&arguments.results)?.all(), &plots),
        Command::Fleet {
            pods,
            images,
            shipped_pace,
        } => {
            let pace = match shipped_pace {
                true => fleet::Pace::Shipped,
                false => fleet::Pace::Raised,
            };
            fleet::run(
                &arguments.results,
                fleet::FleetSpec {
                    pods,
                    workloads: images,
                },
                pace,
            )
            .await
        }
        Command::Registry {
            images,
            address,
            port,
        } => stand_in::serve(images, address, port).await,
    }
}
