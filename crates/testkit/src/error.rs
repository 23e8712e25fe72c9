//! The one error type of the test kit.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// Why something of the test kit did not work; the message is meant to be read in a failed test.
#[derive(Debug, thiserror::Error)]
pub enum TestkitError {
    /// A file or a folder could not be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// What was tried, as a verb: `write`, `read`.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system answered.
        source: std::io::Error,
    },

    /// A tool that `make tools` builds is not there.
    #[error("found no {tool} in {}: run `make tools`", folder.display())]
    ToolMissing {
        /// The binary's name.
        tool: String,
        /// Where it was looked for.
        folder: PathBuf,
    },

    /// A program could not be started at all.
    #[error("cannot start {program}: {source}")]
    Spawn {
        /// The program's path.
        program: String,
        /// What the system answered.
        source: std::io::Error,
    },

    /// A command ended with a status other than zero.
    #[error("`{command}` ended with {status}\n{output}")]
    Command {
        /// The command line, shortened.
        command: String,
        /// Its exit status.
        status: String,
        /// Standard output and standard error.
        output: String,
    },

    /// A server ended although it should have gone on running.
    #[error("{server} ended with {status}; the end of its log {}:\n{log}", log_file.display())]
    ServerEnded {
        /// The server's name.
        server: String,
        /// Its exit status.
        status: String,
        /// The file with the whole log.
        log_file: PathBuf,
        /// The log's last lines.
        log: String,
    },

    /// A server runs, but was not ready in time.
    #[error("{server} was not ready after {after:?} ({reason}); the end of its log {}:\n{log}", log_file.display())]
    NotReady {
        /// The server's name.
        server: String,
        /// How long it was waited for.
        after: Duration,
        /// What the last probe found.
        reason: String,
        /// The file with the whole log.
        log_file: PathBuf,
        /// The log's last lines.
        log: String,
    },

    /// Something that was waited for did not happen.
    #[error("waited {after:?} for {what} in vain; last seen: {last}")]
    TimedOut {
        /// What was waited for.
        what: String,
        /// How long.
        after: Duration,
        /// What the last look showed.
        last: String,
    },

    /// No free port was found on the loopback interface.
    #[error("found no free port on 127.0.0.1 between {from} and {to}")]
    NoFreePort {
        /// The first port that was tried.
        from: u16,
        /// The port after the last one.
        to: u16,
    },

    /// A registry answered something else than it should.
    #[error("{method} {url}: {found}")]
    Registry {
        /// The HTTP method.
        method: &'static str,
        /// The address that was asked.
        url: String,
        /// The status and body, or the failure of the connection.
        found: String,
    },

    /// The API server refused a request or could not be reached.
    #[error("{what}: {source}")]
    Kubernetes {
        /// What was tried.
        what: String,
        /// What the client reports.
        source: Box<kube::Error>,
    },

    /// A certificate, a key or a signature could not be made or read.
    #[error("{what}: {reason}")]
    Crypto {
        /// What was tried.
        what: String,
        /// Why it failed.
        reason: String,
    },

    /// The shared servers of this process could not be started; every test that needs them says so.
    #[error("the shared servers of this test run did not start: {0}")]
    Shared(String),

    /// Anything else that is wrong with what the caller gave or with what a server answered.
    #[error("{0}")]
    Invalid(String),
}

impl TestkitError {
    pub(crate) fn file(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { action, path, source }
    }

    pub(crate) fn kubernetes(what: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        let what = what.into();
        move |source| Self::Kubernetes {
            what,
            source: Box::new(source),
        }
    }

    pub(crate) fn crypto<E: std::fmt::Display>(what: impl Into<String>) -> impl FnOnce(E) -> Self {
        let what = what.into();
        move |reason| Self::Crypto {
            what,
            reason: reason.to_string(),
        }
    }
}

/// The result of everything in the test kit.
pub type Result<T, E = TestkitError> = std::result::Result<T, E>;
