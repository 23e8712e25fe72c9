//! A tokio runtime that lives as long as the process: what several tests share must not end with the runtime of
//! the test that happened to start it.

use std::sync::OnceLock;

use tokio::runtime::{Builder, Runtime};

use crate::{Result, TestkitError};

/// The runtime, started when it is first needed.
pub(crate) fn runtime() -> Result<&'static Runtime> {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    if let Some(runtime) = RUNTIME.get() {
        return Ok(runtime);
    }
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("testkit")
        .enable_all()
        .build();
    let runtime =
        runtime.map_err(|error| TestkitError::Invalid(format!("cannot start a tokio runtime: {error}")))?;
    // Should another thread have been faster, this one is let go of without blocking.
    if let Err(surplus) = RUNTIME.set(runtime) {
        surplus.shutdown_background();
    }
    RUNTIME
        .get()
        .ok_or_else(|| TestkitError::Invalid("the shared tokio runtime is gone".to_owned()))
}
