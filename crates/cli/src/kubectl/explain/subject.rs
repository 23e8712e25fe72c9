//! What somebody wants explained: a workload or an image, as they name it. Pure.

use std::fmt;
use std::str::FromStr;

use api::ImageCompliance;
use image::{Digest, Reference};

use super::super::workloads::{self, is_kind};

/// A workload or an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    Workload { kind: Option<String>, name: String },
    Digest(Digest),
    Image { written: String, reference: Reference },
}

/// Why a text names neither.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{found:?} names neither a workload nor an image: {why}; write for example deployment/web, web, \
     registry.example.com/shop/web:1.4 or sha256:…"
)]
pub(crate) struct NoSubject {
    found: String,
    why: String,
}

impl FromStr for Subject {
    type Err = NoSubject;

    fn from_str(text: &str) -> Result<Self, NoSubject> {
        let refused = |why: String| NoSubject {
            found: text.to_owned(),
            why,
        };
        if text.is_empty() {
            return Err(refused("it is empty".to_owned()));
        }
        if text.starts_with("sha256:") {
            let digest = text
                .parse()
                .map_err(|error: image::DigestError| refused(error.to_string()))?;
            return Ok(Subject::Digest(digest));
        }
        let is_image = text.contains([':', '@'])
            || text
                .split('/')
                .next()
                .is_some_and(|first| text.contains('/') && first.contains('.'));
        if is_image || text.matches('/').count() > 1 {
            let reference = text
                .parse()
                .map_err(|error: image::ReferenceError| refused(error.to_string()))?;
            return Ok(Subject::Image {
                written: text.to_owned(),
                reference,
            });
        }
        let (kind, name) = match text.split_once('/') {
            Some((kind, name)) => (Some(kind.to_owned()), name.to_owned()),
            None => (None, text.to_owned()),
        };
        if name.is_empty() || kind.as_ref().is_some_and(String::is_empty) {
            return Err(refused("expected KIND/NAME".to_owned()));
        }
        Ok(Subject::Workload { kind, name })
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Subject::Workload { kind: None, name } => write!(out, "the workload {name}"),
            Subject::Workload {
                kind: Some(kind),
                name,
            } => write!(out, "the workload {kind}/{name}"),
            Subject::Digest(digest) => write!(out, "the image {digest}"),
            Subject::Image { written, .. } => write!(out, "the image {written}"),
        }
    }
}

impl Subject {
    /// The part of an ImageCompliance that is about the subject.
    pub(super) fn in_compliance(&self, mut compliance: ImageCompliance) -> Option<ImageCompliance> {
        match self {
            Subject::Workload { kind, name } => {
                let (_, workload) = workloads::of(&compliance);
                let is_one =
                    workload.name == *name && kind.as_ref().is_none_or(|kind| is_kind(kind, &workload.kind));
                is_one.then_some(compliance)
            }
            Subject::Digest(_) | Subject::Image { .. } => {
                compliance
                    .status
                    .images
                    .retain(|image| self.is_image(&image.image, &image.digest));
                compliance
                    .status
                    .next_start
                    .take_if(|next| !self.is_image(&next.image, &next.digest));
                let is_about = !compliance.status.images.is_empty() || compliance.status.next_start.is_some();
                is_about.then_some(compliance)
            }
        }
    }

    /// Whether an image is meant: its digest, or its repository with what else was written.
    fn is_image(&self, written: &str, digest: &str) -> bool {
        match self {
            Subject::Workload { .. } => false,
            Subject::Digest(wanted) => wanted.to_string() == digest,
            Subject::Image {
                reference: wanted, ..
            } => {
                let Ok(found) = written.parse::<Reference>() else {
                    return false;
                };
                found.repository == wanted.repository
                    && wanted
                        .written_tag
                        .as_deref()
                        .is_none_or(|tag| wanted.digest.is_some() || found.tag() == Some(tag))
                    && wanted
                        .digest
                        .clone()
                        .is_none_or(|wanted| wanted.to_string() == digest)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(text: &str) -> Subject {
        text.parse().unwrap()
    }

    #[test]
    fn workloads_and_images_are_told_apart_by_how_they_are_written() {
        let workload = |text: &str| matches!(subject(text), Subject::Workload { .. });
        assert!(workload("web") && workload("deployment/web"));
        for image in [
            "r.example.com/shop/web",
            "nginx:1",
            "shop/team/web",
            "localhost:5000/web",
            "a/b@sha256:0",
        ] {
            let parsed = image.parse::<Subject>();
            assert!(!matches!(parsed, Ok(Subject::Workload { .. })), "{image}");
        }
        let digest = format!("sha256:{}", "a".repeat(64));
        assert!(matches!(subject(&digest), Subject::Digest(_)));
    }

    #[test]
    fn what_names_nothing_is_refused_with_what_would() {
        for text in ["", "/web", "deployment/", "sha256:12", "UPPER.example.com/X:1"] {
            let error = text.parse::<Subject>().unwrap_err().to_string();
            assert!(error.contains("deployment/web"), "{error}");
        }
    }

    #[test]
    fn an_image_is_found_by_any_part_that_is_written() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let other = format!("sha256:{}", "b".repeat(64));
        let written = "r.example.com/shop/web:1.4";
        for wanted in [
            "r.example.com/shop/web",
            "r.example.com/shop/web:1.4",
            &digest,
            &format!("r.example.com/shop/web@{digest}"),
        ] {
            assert!(subject(wanted).is_image(written, &digest), "{wanted}");
        }
        for wanted in [
            "r.example.com/shop/cart",
            "r.example.com/shop/web:1.5",
            &other,
            &format!("r.example.com/shop/web@{other}"),
        ] {
            assert!(!subject(wanted).is_image(written, &digest), "{wanted}");
        }
        assert!(subject("docker.io/library/nginx:1").is_image("nginx:1", &digest));
    }
}
