//! A folder of manifests that a controller keeps applying, as Flux does it: server-side apply under a field manager of
//! its own, which takes fields back.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use testkit::{Cluster, eventually};
use tokio::task::JoinHandle;

use crate::scene::{PATIENCE, Scene};

/// As Flux calls itself.
pub(super) const MANAGER: &str = "kustomize-controller";
/// Between two times that everything is applied.
const PAUSE: Duration = Duration::from_millis(500);

/// What Git holds, and the controller.
pub(super) struct Git {
    folder: tempfile::TempDir,
    applied: Arc<Mutex<Applied>>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Applied {
    times: usize,
    refused: Vec<String>,
}

impl Git {
    /// With these manifests, by file name.
    pub(super) async fn with(scene: &Scene, manifests: &[(&str, Value)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, manifest) in manifests {
            write(folder.path(), name, manifest);
        }
        let applied = Arc::default();
        let task = tokio::spawn(keep_applying(
            scene.cluster,
            folder.path().to_owned(),
            Arc::clone(&applied),
        ));
        let git = Git {
            folder,
            applied,
            task,
        };
        git.is_applied().await;
        git
    }

    /// Commits a manifest, and waits until it was applied.
    pub(super) async fn commit(&self, name: &str, manifest: &Value) {
        write(self.folder.path(), name, manifest);
        self.is_applied().await;
    }

    /// Everything as it is now was applied at least once.
    pub(super) async fn is_applied(&self) {
        let before = self.applied.lock().unwrap().times;
        // The first to end may have begun before.
        let look = async || match self.applied.lock().unwrap().times {
            times if times >= before + 2 => Ok(()),
            times => Err(format!("{before}, then {times}")),
        };
        eventually("everything to be applied", PATIENCE, look)
            .await
            .unwrap();
    }

    /// What was refused since this was asked last.
    pub(super) fn refused(&self) -> Vec<String> {
        std::mem::take(&mut self.applied.lock().unwrap().refused)
    }
}

impl Drop for Git {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn keep_applying(cluster: &'static Cluster, folder: PathBuf, applied: Arc<Mutex<Applied>>) {
    let manager = format!("--field-manager={MANAGER}");
    let folder = folder.to_str().unwrap();
    let apply = [
        "apply",
        "--server-side",
        "--force-conflicts",
        &manager,
        "-f",
        folder,
    ];
    loop {
        let output = cluster.kubectl_output(&apply, "").await.unwrap();
        {
            let mut applied = applied.lock().unwrap();
            applied.times += 1;
            if !output.succeeded() {
                applied.refused.push(output.stderr);
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn file(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.json"))
}

/// A manifest is replaced whole: half a file would be applied as such.
fn write(folder: &Path, name: &str, manifest: &Value) {
    let next = tempfile::NamedTempFile::new_in(folder).unwrap();
    std::fs::write(next.path(), manifest.to_string()).unwrap();
    next.persist(file(folder, name)).unwrap();
}
