//! The `assay` binary under test.

use std::path::PathBuf;
use std::sync::OnceLock;

/// Its path: the one that `ASSAY_BINARY` names, else that of this build, which is built first if it is not there.
pub(crate) fn assay() -> PathBuf {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    let find = || match std::env::var_os("ASSAY_BINARY") {
        Some(named) => PathBuf::from(named),
        None => testkit::workspace_binary("assay-cli", "assay").unwrap(),
    };
    BINARY.get_or_init(find).clone()
}
