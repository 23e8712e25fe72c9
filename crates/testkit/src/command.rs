//! Runs a command to its end with a time limit and keeps what it printed.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::AsyncWriteExt;

use crate::{Result, TestkitError};

const LIMIT: Duration = Duration::from_secs(120);

/// What a command printed and how it ended.
#[derive(Debug, Clone)]
pub struct CommandOutput {
    /// The command line, for messages.
    pub command: String,
    /// How it ended.
    pub status: ExitStatus,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl CommandOutput {
    /// Whether it ended with exit code 0.
    pub fn succeeded(&self) -> bool {
        self.status.success()
    }

    /// Standard output, or an error with everything it printed when it did not succeed.
    pub fn into_stdout(self) -> Result<String> {
        if self.succeeded() {
            return Ok(self.stdout);
        }
        Err(TestkitError::Command {
            command: self.command,
            status: self.status.to_string(),
            output: format!("{}{}", self.stdout, self.stderr),
        })
    }
}

/// A command that is being put together; killed when its future is dropped.
#[derive(Debug)]
pub(crate) struct Tool {
    command: tokio::process::Command,
    input: Vec<u8>,
}

impl Tool {
    /// `home` becomes HOME, so that no tool reads or writes the user's own files.
    pub(crate) fn new(program: &Path, home: &Path) -> Self {
        let mut command = tokio::process::Command::new(program);
        command.env("HOME", home).kill_on_drop(true).stdin(Stdio::piped());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Self {
            command,
            input: Vec::new(),
        }
    }

    pub(crate) fn args<S: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        self.command.args(arguments);
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    pub(crate) fn current_dir(mut self, folder: &Path) -> Self {
        self.command.current_dir(folder);
        self
    }

    pub(crate) fn input(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = input.into();
        self
    }

    /// Runs it; an exit status other than zero is no error here.
    pub(crate) async fn output(mut self) -> Result<CommandOutput> {
        let line = format!("{:?}", self.command.as_std());
        let mut child = self.command.spawn().map_err(|source| TestkitError::Spawn {
            program: self.command.as_std().get_program().to_string_lossy().into_owned(),
            source,
        })?;
        if let Some(mut stdin) = child.stdin.take() {
            // A command that does not read its input to the end closes the pipe: its status tells.
            drop(stdin.write_all(&self.input).await);
        }
        let output = tokio::time::timeout(LIMIT, child.wait_with_output())
            .await
            .map_err(|_| TestkitError::TimedOut {
                what: format!("`{line}` to end"),
                after: LIMIT,
                last: "it was killed".to_owned(),
            })?;
        let output = output.map_err(|source| TestkitError::Spawn {
            program: line.clone(),
            source,
        })?;
        Ok(CommandOutput {
            command: line,
            status: output.status,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Runs it and gives its standard output; an exit status other than zero is an error.
    pub(crate) async fn stdout(self) -> Result<String> {
        self.output().await?.into_stdout()
    }
}
