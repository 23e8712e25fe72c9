//! Why the demo did not work out.

use std::path::{Path, PathBuf};
use std::time::Duration;

use testkit::TestkitError;

/// The one error type of the demo; its message is what a user reads last.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// A server, a tool or a command of the test kit failed.
    #[error(transparent)]
    Testkit(#[from] TestkitError),

    /// A file or folder could not be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// What was tried, as a verb.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system answered.
        source: std::io::Error,
    },

    /// The folder holds something else than a demo.
    #[error(
        "{} is not a folder of the demo (it holds no {marker}): name another one with --folder, or remove it",
        folder.display()
    )]
    ForeignFolder {
        /// The folder.
        folder: PathBuf,
        /// The file that marks a demo's folder.
        marker: &'static str,
    },

    /// A manifest of the demo has a placeholder that nothing fills.
    #[error("nothing fills the placeholder {placeholder} in {manifest}")]
    Placeholder {
        /// The manifest's name.
        manifest: &'static str,
        /// The placeholder with its braces.
        placeholder: String,
    },

    /// An answer of the API server could not be had.
    #[error("{what}: {source}")]
    Kubernetes {
        /// What was asked for.
        what: &'static str,
        /// What the client reports.
        source: Box<kube::Error>,
    },

    /// What the story promises did not happen in time.
    #[error("{what}: not within {} s\n{found}\n\nThe end of the operator's log:\n{log}", after.as_secs())]
    NotSeen {
        /// What was waited for.
        what: String,
        /// How long.
        after: Duration,
        /// What there was instead, with the objects' statuses.
        found: String,
        /// The end of the operator's log.
        log: String,
    },

    /// The operator ended although it should have gone on running.
    #[error("{what}: the operator ended with {status}\nThe end of its log:\n{log}")]
    OperatorEnded {
        /// What was waited for.
        what: String,
        /// How it ended.
        status: String,
        /// The end of its log.
        log: String,
    },

    /// Something that the story promises not to happen did.
    #[error("{0}")]
    BrokenPromise(String),
}

impl DemoError {
    /// Wraps what the system answered about a file or folder.
    pub fn file(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { action, path, source }
    }

    /// Wraps what the client reports about a request.
    pub fn kubernetes(what: &'static str) -> impl FnOnce(kube::Error) -> Self {
        move |source| Self::Kubernetes {
            what,
            source: Box::new(source),
        }
    }
}

/// The result of everything in the demo.
pub type Result<T, E = DemoError> = std::result::Result<T, E>;
