//! A change is made only after somebody saw what it does: it is shown, somebody agrees, and it must still do the same
//! when it is made.

use std::io::{BufRead, IsTerminal};

use api::PreviewChange;
use clap::Args;

use super::difference;
use super::preview::{Foreseen, PreviewArguments, PreviewError, foresee};
use crate::cluster::Session;
use crate::output;
use crate::table::Style;

// No doc comment: it would take the place of the text of the command that holds these.
#[derive(Args, Clone, Debug)]
pub(super) struct ConsentArguments {
    /// Show what would change, and change nothing
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
    /// Do not ask. Refused where something would fail that you did not expect, or cannot be told; see --expect-failing,
    /// --expect-results and --accept-unknown
    #[arg(short, long)]
    yes: bool,
    /// Refuse unless exactly so many results would newly fail, those of next starts included, and none would be newly
    /// unknown
    #[arg(long, value_name = "N")]
    expect_failing: Option<usize>,
    /// Refuse unless exactly these results would change: the resultsDigest of an earlier look
    #[arg(long, value_name = "DIGEST")]
    expect_results: Option<String>,
    /// With --yes: go on although there are results that cannot be told, now as then, and may fail
    #[arg(long)]
    accept_unknown: bool,
    #[command(flatten)]
    preview: PreviewArguments,
}

/// Whether the change is made.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Decision {
    /// Somebody agreed to exactly this.
    Agreed,
    /// It was only to be shown.
    OnlyShown,
    /// It is not made, and why.
    Refused(String),
}

impl ConsentArguments {
    /// For a step that cannot make anything fail: what cannot be told does not hold it up.
    pub(super) fn accepting_unknown(&self) -> Self {
        ConsentArguments {
            accept_unknown: true,
            ..self.clone()
        }
    }

    /// How the operator is asked.
    pub(super) fn preview(&self) -> &PreviewArguments {
        &self.preview
    }

    /// Shows what the changes do on standard error, asks where it has to, and looks once more.
    pub(super) async fn decide(
        &self,
        session: &Session,
        changes: &[PreviewChange],
        question: &str,
    ) -> Result<Decision, PreviewError> {
        let seen = foresee(session, changes, &self.preview).await?;
        output::aside(&difference::text(&seen, Style::of_stderr()));
        output::aside(&format!("resultsDigest {}\n", seen.digest));
        if self.dry_run {
            return Ok(Decision::OnlyShown);
        }
        if let Some(why) = self.not_expected(&seen) {
            return Ok(Decision::Refused(why));
        }
        if !self.yes && !asked(question) {
            return Ok(Decision::Refused("nobody said yes".to_owned()));
        }
        let now = foresee(session, changes, &self.preview).await?;
        Ok(match self.is_as_shown(&seen, &now) {
            true => Decision::Agreed,
            false => Decision::Refused(format!(
                "what would change is not what was shown any more: {} newly failing, {} newly unknown and {} not to be \
                 told now, {}, {} and {} then; look at it again",
                now.worse(),
                now.untold(),
                now.still_unknown(),
                seen.worse(),
                seen.untold(),
                seen.still_unknown()
            )),
        })
    }

    /// The lists are the same, and there is nothing untold where there was none. How much cannot be told changes with
    /// every pod that starts.
    fn is_as_shown(&self, seen: &Foreseen, now: &Foreseen) -> bool {
        let is_same = now == seen || (now.digest == seen.digest && !now.digest.is_empty());
        let is_told = self.accept_unknown || seen.still_unknown() > 0 || now.still_unknown() == 0;
        is_same && is_told
    }

    /// What was expected and is not so.
    fn not_expected(&self, seen: &Foreseen) -> Option<String> {
        let (failing, unknown) = (seen.worse(), seen.untold());
        let untold = seen.still_unknown();
        if self.yes && untold > 0 && !self.accept_unknown {
            return Some(format!(
                "{untold} results cannot be told, now as then, and may fail: wait until their registries answer (kubectl \
                 assay status -A), or accept that with --accept-unknown"
            ));
        }
        if let Some(expected) = &self.expect_results {
            return (*expected != seen.digest).then(|| {
                format!(
                    "--expect-results {expected} was given, and the results are {}",
                    seen.digest
                )
            });
        }
        if let Some(expected) = self.expect_failing {
            return (failing != expected || unknown > 0).then(|| {
                format!(
                    "--expect-failing {expected} was given, and {failing} would newly fail and {unknown} be newly unknown"
                )
            });
        }
        (self.yes && seen.breaks()).then(|| {
            format!(
                "{failing} would newly fail and {unknown} be newly unknown, which --yes alone does not agree to: add \
                 --expect-results {}",
                seen.digest
            )
        })
    }
}

/// Asks on the terminal; no without one.
fn asked(question: &str) -> bool {
    if !std::io::stdin().is_terminal() {
        output::note(
            "there is no terminal to ask on: give --yes, with --expect-failing N or --expect-results",
        );
        return false;
    }
    output::aside(&format!("{question} Type yes to go on: "));
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    read.is_ok() && answer.trim() == "yes"
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::json;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        consent: ConsentArguments,
    }

    fn refused(arguments: &[&str], failing: usize, unknown: usize) -> bool {
        let result = |_| {
            serde_json::from_value(json!({
                "namespace": "n", "workload": "w", "image": "i", "policy": "p", "reason": "KeyRevoked",
            }))
            .unwrap()
        };
        let seen = Foreseen {
            failing: (0..failing).map(result).collect(),
            newly_unknown: (0..unknown).map(result).collect(),
            digest: "sha256:aa".to_owned(),
            ..Foreseen::default()
        };
        let words = std::iter::once("x").chain(arguments.iter().copied());
        Command::parse_from(words).consent.not_expected(&seen).is_some()
    }

    /// C5.04: a script goes on only with what it expects.
    #[test]
    fn yes_alone_agrees_to_nothing_that_breaks() {
        assert!(!refused(&["--yes"], 0, 0));
        assert!(refused(&["--yes"], 1, 0));
        assert!(refused(&["--yes"], 0, 1));
        assert!(!refused(&["--yes", "--expect-failing", "1"], 1, 0));
        assert!(refused(&["--yes", "--expect-failing", "1"], 2, 0));
        assert!(refused(&["--yes", "--expect-failing", "1"], 0, 0));
        assert!(refused(&["--yes", "--expect-failing", "1"], 1, 1));
        assert!(!refused(&["--yes", "--expect-results", "sha256:aa"], 3, 2));
        assert!(refused(&["--yes", "--expect-results", "sha256:bb"], 0, 0));
        assert!(!refused(&[], 3, 0), "a person is asked");
    }

    /// C5.04: what cannot be told may fail, and no digest of results names it.
    /// Fails on a build in which --yes asks for the lists alone.
    #[test]
    fn yes_takes_no_step_of_which_a_part_cannot_be_told() {
        let seen = |unknown| Foreseen {
            unknown,
            digest: "sha256:aa".to_owned(),
            ..Foreseen::default()
        };
        let consent = |arguments: &[&str]| {
            let words = std::iter::once("x").chain(arguments.iter().copied());
            Command::parse_from(words).consent
        };
        let refused = |arguments: &[&str]| consent(arguments).not_expected(&seen(2)).is_some();
        assert!(refused(&["--yes"]));
        assert!(refused(&["--yes", "--expect-failing", "0"]));
        assert!(refused(&["--yes", "--expect-results", "sha256:aa"]));
        assert!(!refused(&["--yes", "--accept-unknown"]));
        assert!(!refused(&[]), "a person is told and asked");
        assert!(
            !consent(&[]).is_as_shown(&seen(0), &seen(1)),
            "it was told when it was shown"
        );
        assert!(consent(&[]).is_as_shown(&seen(2), &seen(3)));
    }
}
