//! Drives one target: mutates its corpus, keeps what leads somewhere new, stops at a finding.

use std::collections::BTreeSet;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::mutate::{Random, mutate};
use crate::outcome::Outcome;
use crate::targets::Target;

/// An input that takes longer is a finding. It is tried again first, because the machine may have been busy.
const SLOW: Duration = Duration::from_secs(1);
/// If the process grows by more kB, the last input is a finding.
const GROWTH: u64 = 256 << 10;
/// How many inputs are kept at most.
const CORPUS: usize = 4096;

/// How long and from where.
pub(crate) struct Run {
    pub(crate) time: Duration,
    pub(crate) seed: u64,
}

/// What a run without a finding did.
pub(crate) struct Report {
    inputs: u64,
    outcomes: usize,
    slowest: Duration,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (inputs, outcomes, slowest) = (self.inputs, self.outcomes, self.slowest.as_millis());
        write!(
            f,
            "{inputs:>8} inputs, {outcomes:>4} outcomes, slowest {slowest} ms"
        )
    }
}

/// An input that must become a test.
pub(crate) struct Finding {
    what: String,
    input: PathBuf,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; the input is in {}", self.what, self.input.display())
    }
}

impl Run {
    pub(crate) fn of(&self, target: &Target) -> Result<Report, Finding> {
        let mut random = Random::new(self.seed);
        let mut corpus = target.seeds.clone();
        let mut outcomes = BTreeSet::new();
        let mut report = Report {
            inputs: 0,
            outcomes: 0,
            slowest: Duration::ZERO,
        };
        for input in &corpus {
            outcomes.insert(report.run(target, input)?);
        }
        let (begin, memory) = (Instant::now(), resident());
        while begin.elapsed() < self.time {
            let input = choose(&mut random, &corpus);
            let other = choose(&mut random, &corpus);
            let input = mutate(&mut random, &input, &other, target.words);
            if outcomes.insert(report.run(target, &input)?) && corpus.len() < CORPUS {
                corpus.push(input);
            } else if report.inputs.is_multiple_of(1024) && resident() > memory + GROWTH {
                return Err(finding(target, &input, "the process has grown"));
            }
        }
        report.outcomes = outcomes.len();
        Ok(report)
    }
}

impl Report {
    fn run(&mut self, target: &Target, input: &[u8]) -> Result<Outcome, Finding> {
        let mut took = Duration::MAX;
        for _ in 0..3 {
            let begin = Instant::now();
            let outcome = catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
            took = took.min(begin.elapsed());
            match outcome {
                Ok(outcome) if took < SLOW => {
                    self.inputs += 1;
                    self.slowest = self.slowest.max(took);
                    return Ok(outcome);
                }
                Ok(_) => {}
                Err(_) => return Err(finding(target, input, "a panic")),
            }
        }
        Err(finding(
            target,
            input,
            &format!("it takes {} ms", took.as_millis()),
        ))
    }
}

fn choose(random: &mut Random, corpus: &[Vec<u8>]) -> Vec<u8> {
    random.choose(corpus).cloned().unwrap_or_else(Vec::new)
}

fn finding(target: &Target, input: &[u8], what: &str) -> Finding {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("findings");
    let name = format!("{}-{}", target.name, &image::Digest::sha256(input).hex()[..16]);
    let path = folder.join(name);
    let written = std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(&path, input));
    Finding {
        what: match written {
            Ok(()) => what.to_owned(),
            Err(error) => format!("{what}, and the input could not be written: {error}"),
        },
        input: path,
    }
}

/// The resident memory of this process in kB; 0 where the system does not tell.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status");
    status
        .ok()
        .and_then(|status| {
            let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
            line.split_whitespace().nth(1)?.parse().ok()
        })
        .unwrap_or(0)
}
