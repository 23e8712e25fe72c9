//! Content by digest: from the store where it has it (hashed again), else from the registry.

use std::sync::Arc;

use bytes::Bytes;
use image::{Digest, Repository};
use registry::{Client, Error, Manifest};

use crate::store::Store;

/// A blob of evidence larger than this is not read.
pub(crate) const EVIDENCE_BLOB_LIMIT: u64 = 4 * 1024 * 1024;

/// Content-addressed bytes, read once.
#[derive(Clone, Debug)]
pub(crate) struct Bodies {
    store: Arc<Store>,
}

impl Bodies {
    pub(crate) fn new(store: Arc<Store>) -> Self {
        Bodies { store }
    }

    pub(crate) fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// The manifest with this digest.
    pub(crate) async fn manifest(
        &self,
        client: &Client,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Manifest, Error> {
        if let Some(manifest) = self.kept_manifest(digest) {
            return Ok(manifest);
        }
        let manifest = client.manifest(repository, digest).await?;
        self.keep(&manifest);
        Ok(manifest)
    }

    /// The manifest with this digest, if it is kept.
    pub(crate) fn kept_manifest(&self, digest: &Digest) -> Option<Manifest> {
        Manifest::read(digest, None, self.store.body(digest)?).ok()
    }

    /// The blob with this digest, of at most the size that its descriptor says.
    pub(crate) async fn blob(
        &self,
        client: &Client,
        repository: &Repository,
        digest: &Digest,
        size: u64,
    ) -> Result<Bytes, Error> {
        if let Some(bytes) = self.store.body(digest) {
            return Ok(bytes);
        }
        let bytes = client
            .blob(repository, digest, size.min(EVIDENCE_BLOB_LIMIT))
            .await?;
        self.store.keep_body(digest.clone(), bytes.clone());
        Ok(bytes)
    }

    /// Keeps a manifest that was read by other means.
    pub(crate) fn keep(&self, manifest: &Manifest) {
        self.store
            .keep_body(manifest.digest.clone(), manifest.bytes.clone());
    }
}
