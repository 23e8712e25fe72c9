//! The requirement `trusted {reason}`: an explicit pass without evidence. It always holds, and the verdict shows it.

use std::sync::Arc;

/// The requirement, checked: `reason` is not empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TrustedRule {
    reason: Arc<str>,
}

impl TrustedRule {
    pub(crate) fn new(reason: Arc<str>) -> Self {
        Self { reason }
    }

    pub(crate) fn reason(&self) -> &str {
        &self.reason
    }
}
