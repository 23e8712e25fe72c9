//! The demo: the whole story on one machine, with real servers, real signatures and the real operator.
//!
//! `assay-demo up` tells the story, checks every claim of it and leaves everything up; `assay-demo down` removes it.
//! Interrupted or failed, it ends whatever it started.

mod checkout;
mod error;
mod expect;
mod gallery;
mod manifests;
mod narrator;
mod observer;
mod stage;
mod story;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

/// Shows what Assay does, on this machine alone.
#[derive(Debug, Parser)]
#[command(max_term_width = 100)]
struct Arguments {
    /// The folder of everything that the demo writes; .demo in the workspace unless told
    #[arg(long, global = true)]
    folder: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Clone, Copy, Subcommand)]
enum Command {
    /// Remove what an earlier demo left, tell the story, leave everything up
    Up,
    /// End every process and remove the folder
    Down,
}

/// The shell's exit code of what was interrupted.
const INTERRUPTED: u8 = 130;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let folder = arguments
        .folder
        .unwrap_or_else(|| testkit::workspace_root().join(".demo"));
    let folder = std::path::absolute(&folder).unwrap_or(folder);
    match arguments.command {
        Command::Up => Box::pin(up(&folder)).await,
        Command::Down => match stage::down(&folder) {
            Ok(ended) if ended.is_empty() => {
                eprintln!("no process of the demo was running");
                ExitCode::SUCCESS
            }
            Ok(ended) => {
                eprintln!("ended {}; removed {}", ended.join(", "), folder.display());
                ExitCode::SUCCESS
            }
            Err(error) => fail(&error),
        },
    }
}

async fn up(folder: &Path) -> ExitCode {
    let interrupted = match Interruption::listen() {
        Ok(interruption) => interruption.comes(),
        Err(error) => {
            eprintln!("cannot listen for signals: {error}");
            return ExitCode::FAILURE;
        }
    };
    if let Err(error) = stage::down(folder) {
        return fail(&error);
    }
    // A server is started and its pid file written without a pause in between: what is dropped here is known there.
    let told = tokio::select! {
        told = story::tell(folder) => Some(told),
        () = interrupted => None,
    };
    match told {
        Some(Ok(())) => ExitCode::SUCCESS,
        Some(Err(error)) => {
            eprintln!();
            let failed = fail(&error);
            match stage::end(folder) {
                Ok(_) => eprintln!("Everything was ended; the logs are in {}.", folder.display()),
                Err(error) => eprintln!("{error}"),
            }
            failed
        }
        None => {
            eprintln!("\ninterrupted: removing everything …");
            match stage::down(folder) {
                Ok(_) => ExitCode::from(INTERRUPTED),
                Err(error) => fail(&error),
            }
        }
    }
}

fn fail(error: &error::DemoError) -> ExitCode {
    eprintln!("demo: {error}");
    ExitCode::FAILURE
}

/// Ctrl-C, a closed terminal, a polite kill.
struct Interruption {
    signals: [tokio::signal::unix::Signal; 3],
}

impl Interruption {
    fn listen() -> std::io::Result<Self> {
        let signals = [
            signal(SignalKind::interrupt())?,
            signal(SignalKind::hangup())?,
            signal(SignalKind::terminate())?,
        ];
        Ok(Self { signals })
    }

    async fn comes(mut self) {
        let waits = self.signals.iter_mut().map(|signal| Box::pin(signal.recv()));
        futures::future::select_all(waits).await;
    }
}
