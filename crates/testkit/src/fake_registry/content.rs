//! What the fake registry holds: repositories of manifests, tags and blobs.

use std::collections::{BTreeMap, HashMap};

use axum::body::Bytes;
use serde_json::{Value, json};

use crate::images::{descriptor, digest_of};

pub(super) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(super) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const EMPTY: &str = "application/vnd.oci.empty.v1+json";

pub(super) struct Content {
    pub(super) referrers_api: bool,
    pub(super) page_size: usize,
    pub(super) repositories: BTreeMap<String, Repository>,
}

impl Default for Content {
    fn default() -> Self {
        Self {
            referrers_api: true,
            page_size: 1000,
            repositories: BTreeMap::new(),
        }
    }
}

#[derive(Default)]
pub(super) struct Repository {
    /// By digest; in the order of the digests, so that pages are stable.
    pub(super) manifests: BTreeMap<String, Manifest>,
    pub(super) tags: BTreeMap<String, String>,
    pub(super) blobs: HashMap<String, Bytes>,
    /// Uploads under way, by number.
    pub(super) uploads: HashMap<usize, Vec<u8>>,
}

#[derive(Clone)]
pub(super) struct Manifest {
    pub(super) media_type: String,
    pub(super) bytes: Bytes,
}

impl Repository {
    /// The digest and content that a tag or a digest names.
    pub(super) fn manifest(&self, reference: &str) -> Option<(&String, &Manifest)> {
        let digest = self.tags.get(reference).map_or(reference, String::as_str);
        self.manifests.get_key_value(digest)
    }

    /// Descriptors of what names `subject` as its subject.
    pub(super) fn referrers(&self, subject: &str) -> Vec<Value> {
        self.manifests
            .values()
            .filter_map(|manifest| referrer(manifest, subject))
            .collect()
    }
}

impl Content {
    pub(super) fn repository(&mut self, name: &str) -> &mut Repository {
        self.repositories.entry(name.to_owned()).or_default()
    }

    pub(super) fn put_blob(&mut self, repository: &str, content: Bytes) -> String {
        let digest = digest_of(&content);
        self.repository(repository).blobs.insert(digest.clone(), content);
        digest
    }

    pub(super) fn put_manifest(
        &mut self,
        repository: &str,
        tag: Option<&str>,
        media_type: &str,
        bytes: Bytes,
    ) -> String {
        let digest = digest_of(&bytes);
        let manifest = Manifest {
            media_type: media_type.to_owned(),
            bytes,
        };
        let repository = self.repository(repository);
        repository.manifests.insert(digest.clone(), manifest);
        if let Some(tag) = tag {
            repository.tags.insert(tag.to_owned(), digest.clone());
        }
        digest
    }

    pub(super) fn attach(
        &mut self,
        repository: &str,
        subject: &str,
        layer_type: &str,
        layer: Bytes,
    ) -> String {
        let described = match self.repository(repository).manifest(subject) {
            Some((_, manifest)) => descriptor(&manifest.media_type, &manifest.bytes),
            None => json!({"mediaType": MANIFEST, "digest": subject, "size": 0}),
        };
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": layer_type,
            "config": descriptor(EMPTY, b"{}"),
            "layers": [descriptor(layer_type, &layer)],
            "subject": described,
        });
        self.put_blob(repository, Bytes::from_static(b"{}"));
        self.put_blob(repository, layer);
        let digest = self.put_manifest(repository, None, MANIFEST, manifest.to_string().into());
        if !self.referrers_api {
            let listed = self.repository(repository).referrers(subject);
            let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": listed});
            let tag = subject.replace(':', "-");
            self.put_manifest(repository, Some(&tag), INDEX, index.to_string().into());
        }
        digest
    }

    pub(super) fn delete(&mut self, repository: &str, reference: &str) -> bool {
        let repository = self.repository(repository);
        let tag = repository.tags.remove(reference).is_some();
        let manifest = repository.manifests.remove(reference).is_some();
        repository.tags.retain(|_, digest| digest != reference);
        let blob = repository.blobs.remove(reference).is_some();
        tag || manifest || blob
    }
}

/// The descriptor of a manifest in a listing, if it refers to `subject`.
fn referrer(manifest: &Manifest, subject: &str) -> Option<Value> {
    let document: Value = serde_json::from_slice(&manifest.bytes).ok()?;
    if document["subject"]["digest"] != subject {
        return None;
    }
    let mut listed = descriptor(&manifest.media_type, &manifest.bytes);
    let artifact_type = [&document["artifactType"], &document["config"]["mediaType"]]
        .into_iter()
        .find(|value| value.is_string());
    if let Some(artifact_type) = artifact_type {
        listed["artifactType"] = artifact_type.clone();
    }
    if document["annotations"].is_object() {
        listed["annotations"] = document["annotations"].clone();
    }
    Some(listed)
}
