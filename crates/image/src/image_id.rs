//! What container runtimes write into `status.containerStatuses[].imageID`, taken apart.
//!
//! | runtime | text |
//! |---|---|
//! | containerd, CRI-O | `repository@sha256:…`: the index or the platform's manifest |
//! | cri-dockerd | `docker-pullable://repository@sha256:…`, or `docker://sha256:…` for an image never pulled |
//! | any, image loaded without a registry | `sha256:…`: the digest of the config; CRI-O writes the bare hex |
//! | any, not started | empty |

use crate::digest::Digest;
use crate::error::shown;
use crate::reference::Reference;
use crate::repository::{Repository, is_image_id};

/// A container's image id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageId {
    /// Empty: the container has not started yet.
    NotStarted,
    /// What was pulled from a registry.
    Pulled {
        /// Under which repository the runtime knows the content, which need not be the one in the pod's spec;
        /// `None` if it does not parse.
        repository: Option<Repository>,
        /// The digest of the index or of the manifest.
        digest: Digest,
    },
    /// Only the digest of the image's config is known: the image did not come from a registry.
    ConfigOnly {
        /// The digest of the config, which no registry serves as a manifest.
        digest: Digest,
    },
    /// None of the shapes above; the text, shortened.
    Unreadable(String),
}

impl ImageId {
    /// Reads the text of an `imageID` field. Never fails: what cannot be read is [`ImageId::Unreadable`].
    pub fn parse(text: &str) -> Self {
        if text.is_empty() {
            return Self::NotStarted;
        }
        let read = if let Some(pulled) = text.strip_prefix("docker-pullable://") {
            pulled_from(pulled)
        } else if let Some(config) = text.strip_prefix("docker://") {
            config_of(config)
        } else {
            config_of(text).or_else(|| pulled_from(text))
        };
        read.unwrap_or_else(|| Self::Unreadable(shown(text)))
    }
}

fn config_of(text: &str) -> Option<ImageId> {
    let written = if is_image_id(text) {
        format!("sha256:{text}")
    } else {
        text.to_owned()
    };
    written.parse().ok().map(|digest| ImageId::ConfigOnly { digest })
}

fn pulled_from(text: &str) -> Option<ImageId> {
    let (name, digest) = text.rsplit_once('@')?;
    let digest = digest.parse().ok()?;
    let repository = name
        .parse::<Reference>()
        .ok()
        .map(|reference| reference.repository);
    Some(ImageId::Pulled { repository, digest })
}
