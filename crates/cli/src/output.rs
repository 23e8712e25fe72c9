//! What the commands print.

use std::io::{ErrorKind, Write};
use std::process::ExitCode;

/// The exit code of everything that went wrong.
pub(crate) const FAILED: u8 = 2;

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
