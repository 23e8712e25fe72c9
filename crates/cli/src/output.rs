//! What the commands print, and the codes that they end with.

use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde_json::Value;

use crate::table::Style;

/// The exit code of everything that went wrong, and of what cannot be told.
pub(crate) const FAILED: u8 = 2;

/// What a command found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// There is nothing to do.
    Nothing,
    /// There is something to do.
    Something,
    /// It cannot be told whether there is.
    NotTold,
}

impl Found {
    /// Something, if there is something.
    pub(crate) fn something(is: bool) -> Self {
        if is { Found::Something } else { Found::Nothing }
    }

    /// 0, 1 or 2.
    pub(crate) fn code(self) -> ExitCode {
        match self {
            Found::Nothing => ExitCode::SUCCESS,
            Found::Something => ExitCode::from(1),
            Found::NotTold => ExitCode::from(FAILED),
        }
    }
}

// No doc comment: it would take the place of the text of the command that holds these.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct OutputArguments {
    /// How to print the answer
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,
}

/// How an answer is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people, in 100 columns
    Table,
    /// For people, with every name in full
    Wide,
    /// One object, of the shape that docs/kubectl-assay.md tells
    Json,
    /// The same object as YAML
    Yaml,
}

impl Format {
    /// The answer: a text for people, or an object.
    pub(crate) fn answer(self, text: impl FnOnce(Style) -> String, object: impl FnOnce() -> Value) -> String {
        match self {
            Format::Table => text(Style::of_stdout(true)),
            Format::Wide => text(Style::of_stdout(false)),
            Format::Json => format!("{:#}\n", object()),
            Format::Yaml => yaml(&object()),
        }
    }

    /// The answer is for people.
    pub(crate) fn is_for_people(self) -> bool {
        matches!(self, Format::Table | Format::Wide)
    }
}

/// An object as YAML.
pub(crate) fn yaml(object: &Value) -> String {
    serde_norway::to_string(object).unwrap_or_else(|error| format!("# not to be written as YAML: {error}\n"))
}

/// What a command prints on standard output, and what it found.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) text: String,
    pub(crate) found: Found,
}

/// Anything that ends a command without an answer.
pub(crate) type Problem = Box<dyn std::error::Error>;

/// Runs what has to wait for a cluster or a registry.
pub(crate) fn in_runtime<T>(work: impl Future<Output = Result<T, Problem>>) -> Result<T, Problem> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(work)
}

/// Prints the answer, or what went wrong, and ends with the code for it.
pub(crate) fn ended(answer: Result<Answer, Problem>) -> ExitCode {
    match answer {
        Ok(Answer { text, found }) => self::answer(&text, found.code()),
        Err(error) => fail(error),
    }
}

/// Says something beside the answer, on standard error.
pub(crate) fn note(text: &str) {
    drop(writeln!(std::io::stderr().lock(), "note: {text}"));
}

/// Shows something on standard error that is no part of the answer.
pub(crate) fn aside(text: &str) {
    let mut err = std::io::stderr().lock();
    drop(err.write_all(text.as_bytes()).and_then(|()| err.flush()));
}

/// Tells how far long work has come, on standard error.
pub(crate) fn progress(text: &str) {
    drop(writeln!(std::io::stderr().lock(), "{text} …"));
}

/// Prints an answer and ends with its code. A reader that closed the pipe has read what it wanted: that
/// changes nothing of the answer.
pub(crate) fn answer(text: &str, code: ExitCode) -> ExitCode {
    match written(&mut std::io::stdout().lock(), text) {
        Ok(()) => code,
        Err(error) => fail(format_args!(
            "the answer cannot be written to standard output: {error}"
        )),
    }
}

/// Prints a part of an answer at once.
pub(crate) fn shown(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush())
}

/// Says what went wrong, and ends with the code for it.
pub(crate) fn fail(error: impl std::fmt::Display) -> ExitCode {
    // Where nobody reads errors, the code says enough.
    drop(writeln!(std::io::stderr().lock(), "error: {error}"));
    ExitCode::from(FAILED)
}

/// The text in lines of at most so many characters, broken between words; a word that alone is longer is broken too.
pub(crate) fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut current = String::new();
    for word in text.split_whitespace() {
        let mut letters: Vec<char> = word.chars().collect();
        if !current.is_empty() && current.chars().count() + 1 + letters.len() > width {
            lines.push(std::mem::take(&mut current));
        }
        while letters.len() > width {
            lines.push(letters.drain(..width).collect());
        }
        if !current.is_empty() {
            current.push(' ');
        }
        current.extend(letters);
    }
    if !current.is_empty() {
        lines.push(current);
    }
    lines
}

fn written(out: &mut impl Write, text: &str) -> std::io::Result<()> {
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Broken(ErrorKind);

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(self.0.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_went_away_is_no_error_and_a_full_disk_is_one() {
        assert!(written(&mut Broken(ErrorKind::BrokenPipe), "text").is_ok());
        assert!(written(&mut Broken(ErrorKind::StorageFull), "text").is_err());
        let mut buffer = Vec::new();
        written(&mut buffer, "text").unwrap();
        assert_eq!(buffer, b"text");
    }
}
