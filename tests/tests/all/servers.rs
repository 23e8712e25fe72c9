//! The servers that all tests share, with Assay's kinds installed.

use testkit::Shared;
use tokio::sync::OnceCell;

/// The shared servers; `kubectl apply -f crds/` was carried out once.
pub(crate) async fn servers() -> &'static Shared {
    static INSTALLED: OnceCell<()> = OnceCell::const_new();
    let shared = testkit::shared().unwrap();
    let install = || async { shared.cluster.install_kinds().await.unwrap() };
    INSTALLED.get_or_init(install).await;
    shared
}
