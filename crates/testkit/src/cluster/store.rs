//! What befalls the store of a cluster: its history is dropped, it is copied, it is set back to a copy.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::Cluster;
use crate::{Result, TestkitError};

/// A copy of a store, in a folder.
#[derive(Debug)]
pub struct StoreCopy(PathBuf);

impl Cluster {
    /// Drops the history of the store up to now. The API server answers 410 to whoever wants to go on from before, once
    /// it does not remember that itself: after it was started again.
    pub async fn drop_history(&self) -> Result<()> {
        let now = self.ask_etcd("kv/range", &json!({"key": "AA=="})).await?;
        let revision = now["header"]["revision"].clone();
        let compaction = json!({"revision": revision, "physical": true});
        self.ask_etcd("kv/compaction", &compaction).await.map(drop)
    }

    /// Stops etcd, copies its data to a folder of this name in the cluster's own, and starts it again; the API server is
    /// without a store meanwhile.
    pub async fn copy_store(&self, name: &str) -> Result<StoreCopy> {
        let copy = self.folder.join(name);
        self.etcd.stop()?;
        copy_folder(&self.etcd_data, &copy)?;
        self.etcd.start_again()?;
        self.wait_until_ready().await?;
        Ok(StoreCopy(copy))
    }

    /// Stops the control plane, puts a copy in the place of its store, and starts it again, as somebody who restores a
    /// backup does.
    pub async fn set_store_back(&self, copy: &StoreCopy) -> Result<()> {
        let manager = self.controller_manager.as_ref();
        for server in manager.into_iter().chain([&self.api_server, &self.etcd]) {
            server.stop()?;
        }
        std::fs::remove_dir_all(&self.etcd_data).map_err(TestkitError::file("remove", &self.etcd_data))?;
        copy_folder(&copy.0, &self.etcd_data)?;
        self.etcd.start_again()?;
        self.api_server.start_again()?;
        self.wait_until_ready().await?;
        manager.map_or(Ok(()), |manager| manager.start_again())
    }

    async fn ask_etcd(&self, path: &str, request: &Value) -> Result<Value> {
        let url = format!("{}/v3/{path}", self.etcd_url);
        let failed = |error: &dyn std::fmt::Display| TestkitError::Invalid(format!("{url}: {error}"));
        let answer = reqwest::Client::new().post(&url).body(request.to_string()).send();
        let answer = answer.await.and_then(reqwest::Response::error_for_status);
        let text = answer.map_err(|error| failed(&error))?.text().await;
        serde_json::from_str(&text.map_err(|error| failed(&error))?).map_err(|error| failed(&error))
    }
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to).map_err(TestkitError::file("create", to))?;
    for entry in std::fs::read_dir(from).map_err(TestkitError::file("read", from))? {
        let entry = entry.map_err(TestkitError::file("read", from))?;
        let (inner, copied) = (entry.path(), to.join(entry.file_name()));
        match inner.is_dir() {
            true => copy_folder(&inner, &copied)?,
            false => {
                std::fs::copy(&inner, &copied).map_err(TestkitError::file("copy", &inner))?;
            }
        }
    }
    Ok(())
}
