//! Fuzzes every parser that reads remote bytes (F22): `make fuzz` for a short time, longer by hand.
//!
//! A target is a plain function of bytes, so that any engine can drive it. The engine here needs nothing but a stable
//! compiler: it mutates a corpus and keeps what leads to an outcome that no input led to before. It is weaker than
//! one that sees coverage, and can be run everywhere that the project builds.
//!
//! A finding is an input that panics, takes longer than a second, or makes the process grow; it is written into
//! `fuzz/findings`, and becomes a unit test of the parser.

mod engine;
mod mutate;
mod outcome;
mod seeds;
mod targets;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use engine::Run;

/// Fuzz the parsers of remote bytes.
#[derive(Parser)]
struct Arguments {
    /// Only these targets
    targets: Vec<String>,
    /// How long each target runs
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Where the random numbers begin; a run with the same seed tries the same inputs
    #[arg(long)]
    seed: Option<u64>,
    /// Run one input through the target that is named, and say what it leads to
    #[arg(long)]
    input: Option<PathBuf>,
    /// Print the names of the targets
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let known = targets::all();
    if arguments.list {
        known.iter().for_each(|target| println!("{}", target.name));
        return ExitCode::SUCCESS;
    }
    let unknown = arguments
        .targets
        .iter()
        .find(|name| known.iter().all(|target| target.name != **name));
    if let Some(unknown) = unknown {
        eprintln!("error: there is no target {unknown}; --list prints them");
        return ExitCode::from(2);
    }
    let chosen = known.into_iter().filter(|target| {
        arguments.targets.is_empty() || arguments.targets.iter().any(|name| name == target.name)
    });
    let seed = arguments.seed.unwrap_or_else(|| u64::from(std::process::id()));
    let mut findings = 0;
    for target in chosen {
        if let Some(path) = &arguments.input {
            match std::fs::read(path) {
                Ok(input) => println!("{}: {:?}", target.name, (target.run)(&input)),
                Err(error) => eprintln!("error: cannot read {}: {error}", path.display()),
            }
            continue;
        }
        let run = Run {
            time: Duration::from_secs(arguments.seconds),
            seed,
        };
        match run.of(&target) {
            Ok(report) => println!("{:<18} {report}", target.name),
            Err(finding) => {
                findings += 1;
                println!("{:<18} FINDING (seed {seed}): {finding}", target.name);
            }
        }
    }
    ExitCode::from(u8::from(findings > 0))
}
