//! The node simulator as a program of its own, for the demo.

use std::path::PathBuf;
use std::process::ExitCode;

use assay_testkit::node::READY;
use assay_testkit::{NodeOptions, NodeSimulator, Runtime};
use clap::Parser;

/// Plays the scheduler and the kubelets of a number of nodes: no container runs.
#[derive(Debug, Parser)]
struct Arguments {
    /// The kubeconfig of an administrator
    #[arg(long, env = "KUBECONFIG")]
    kubeconfig: PathBuf,
    /// How many nodes
    #[arg(long, default_value_t = 2)]
    nodes: usize,
    /// The shape of imageID, unless a pod's annotation testkit.assay.dev/runtime says otherwise
    #[arg(long, value_enum, default_value_t = Runtime::Containerd)]
    runtime: Runtime,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let arguments = Arguments::parse();
    let options = NodeOptions {
        nodes: arguments.nodes,
        runtime: arguments.runtime,
        ..NodeOptions::default()
    };
    match NodeSimulator::start_with(&arguments.kubeconfig, options).await {
        Ok(simulator) => {
            println!("{} {READY}", arguments.nodes);
            simulator.join().await;
            eprintln!("the simulator ended unexpectedly");
        }
        Err(error) => eprintln!("{error}"),
    }
    ExitCode::FAILURE
}
