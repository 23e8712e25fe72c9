//! Completion: a script for a shell, and the answers that kubectl asks the program `kubectl_complete-assay` for.

use std::process::ExitCode;

use clap::{Command, CommandFactory};

use super::KubectlCli;
use crate::output;

/// What kubectl is told after the words: that files complete nothing here.
const NO_FILES: &str = ":4";
/// Files complete the word.
const FILES: &str = ":0";

/// The script for a shell.
pub(crate) fn script(shell: clap_complete::Shell) -> String {
    let mut bytes = Vec::new();
    clap_complete::generate(shell, &mut KubectlCli::command(), "kubectl-assay", &mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Answers kubectl: the words that may stand in the place of the last argument, one a line.
pub(crate) fn of_kubectl() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    output::answer(&candidates(KubectlCli::command(), &words), ExitCode::SUCCESS)
}

fn candidates(mut command: Command, words: &[String]) -> String {
    command.build();
    let (last, before) = words
        .split_last()
        .map_or(("", &[][..]), |(last, before)| (last, before));
    let mut at = &command;
    for word in before {
        at = at.find_subcommand(word).unwrap_or(at);
    }
    let takes_value = before.last().and_then(|word| flag(at, word));
    let found: Vec<String> = match takes_value {
        Some(flag) if flag.get_action().takes_values() => {
            let values = flag.get_possible_values();
            if values.is_empty() {
                return format!("{FILES}\n");
            }
            values.iter().map(|value| value.get_name().to_owned()).collect()
        }
        _ if last.starts_with('-') => {
            let longs = at.get_arguments().filter(|flag| !flag.is_hide_set());
            longs
                .filter_map(|flag| flag.get_long().map(|name| format!("--{name}")))
                .collect()
        }
        _ => {
            let positionals = at.get_positionals().flat_map(clap::Arg::get_possible_values);
            let commands = at.get_subcommands().map(|command| command.get_name().to_owned());
            let values = positionals.map(|value| value.get_name().to_owned());
            commands.chain(values).collect()
        }
    };
    let mut lines: Vec<String> = found.into_iter().filter(|word| word.starts_with(last)).collect();
    lines.sort();
    lines.push(NO_FILES.to_owned());
    lines.join("\n") + "\n"
}

/// The flag that a word is.
fn flag<'a>(command: &'a Command, word: &str) -> Option<&'a clap::Arg> {
    let name = word.strip_prefix('-')?;
    command.get_arguments().find(|flag| match name.strip_prefix('-') {
        Some(long) => flag.get_long() == Some(long),
        None => flag.get_short().is_some_and(|short| name == short.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(words: &[&str]) -> Vec<String> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let text = candidates(KubectlCli::command(), &words);
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn kubectl_is_told_commands_flags_and_values() {
        assert_eq!(of(&["sta"]), ["status", ":4"]);
        assert_eq!(of(&["status", "--outp"]), ["--output", ":4"]);
        assert_eq!(of(&["status", "-o", "j"]), ["json", ":4"]);
        assert_eq!(of(&["status", "--kubeconfig", ""]), [":0"]);
        assert!(of(&[""]).contains(&"explain".to_owned()));
    }

    #[test]
    fn a_script_names_the_program_and_its_commands() {
        for shell in [
            clap_complete::Shell::Bash,
            clap_complete::Shell::Zsh,
            clap_complete::Shell::Fish,
        ] {
            let script = script(shell);
            assert!(script.contains("kubectl-assay") && script.contains("forecast"));
        }
    }
}
