//! How the fake registry answers: the endpoints of the OCI distribution specification 1.1 that clients use.

use axum::body::{Body, Bytes};
use axum::http::{Method, Response};
use serde_json::{Value, json};

use super::SeenRequest;
use super::content::{Content, INDEX};
use crate::images::digest_of;

/// An answer before it becomes HTTP, so that a fault can change it.
#[derive(Clone)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Bytes,
}

impl Answer {
    pub(super) fn new(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Bytes::new(),
        }
    }

    /// An error body of the specification.
    pub(super) fn error(status: u16, code: &str) -> Self {
        let body = json!({"errors": [{"code": code, "message": "the fake registry says so"}]});
        Self {
            status,
            ..Self::json(&body)
        }
    }

    pub(super) fn json(body: &Value) -> Self {
        Self::new(200)
            .with("content-type", "application/json")
            .body(body.to_string())
    }

    pub(super) fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(super) fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    pub(super) fn into_response(self) -> Response<Body> {
        let body = Body::from(self.body.clone());
        self.with_body(body)
    }

    /// The status and headers with another body.
    pub(super) fn with_body(self, body: Body) -> Response<Body> {
        let mut response = Response::builder().status(self.status);
        for (name, value) in &self.headers {
            response = response.header(name, value);
        }
        response.body(body).unwrap_or_else(|error| {
            let mut broken = Response::new(Body::from(error.to_string()));
            *broken.status_mut() = axum::http::StatusCode::INTERNAL_SERVER_ERROR;
            broken
        })
    }
}

/// The parts of a path: the repository, the kind of thing asked for, and its name.
struct Asked<'a> {
    repository: &'a str,
    kind: &'a str,
    name: &'a str,
}

fn asked(path: &str) -> Option<Asked<'_>> {
    let rest = path.strip_prefix("/v2/")?;
    [
        "/blobs/uploads/",
        "/manifests/",
        "/blobs/",
        "/referrers/",
        "/tags/",
    ]
    .into_iter()
    .find_map(|kind| {
        let at = rest.find(kind)?;
        Some(Asked {
            repository: &rest[..at],
            kind: kind.trim_matches('/'),
            name: &rest[at + kind.len()..],
        })
    })
}

impl Content {
    pub(super) fn answer(&mut self, seen: &SeenRequest, body: Bytes) -> Answer {
        if seen.path() == "/v2/" {
            return Answer::json(&json!({}));
        }
        let Some(asked) = asked(seen.path()) else {
            return Answer::new(404).body("404 page not found");
        };
        match (asked.kind, seen.method.as_str()) {
            ("manifests", "GET" | "HEAD") => self.get_manifest(&asked, &seen.method),
            ("manifests", "PUT") => self.push_manifest(&asked, seen, body),
            ("manifests" | "blobs", "DELETE") => match self.delete(asked.repository, asked.name) {
                true => Answer::new(202),
                false => Answer::error(404, "MANIFEST_UNKNOWN"),
            },
            ("blobs", "GET" | "HEAD") => self.get_blob(&asked),
            ("blobs/uploads", _) => self.upload(&asked, seen, body),
            ("referrers", "GET") => self.list_referrers(&asked, seen),
            ("tags", "GET") => self.list_tags(&asked),
            _ => Answer::error(405, "UNSUPPORTED"),
        }
    }

    fn get_manifest(&mut self, asked: &Asked<'_>, method: &Method) -> Answer {
        let Some(repository) = self.repositories.get(asked.repository) else {
            return Answer::error(404, "NAME_UNKNOWN");
        };
        let Some((digest, manifest)) = repository.manifest(asked.name) else {
            return Answer::error(404, "MANIFEST_UNKNOWN");
        };
        let answer = Answer::new(200)
            .with("content-type", &manifest.media_type)
            .with("docker-content-digest", digest);
        if method == Method::HEAD {
            return answer.with("content-length", &manifest.bytes.len().to_string());
        }
        answer.body(manifest.bytes.clone())
    }

    fn get_blob(&mut self, asked: &Asked<'_>) -> Answer {
        let blob = self
            .repositories
            .get(asked.repository)
            .and_then(|repository| repository.blobs.get(asked.name));
        match blob {
            Some(blob) => Answer::new(200)
                .with("content-type", "application/octet-stream")
                .body(blob.clone()),
            None => Answer::error(404, "BLOB_UNKNOWN"),
        }
    }

    fn push_manifest(&mut self, asked: &Asked<'_>, seen: &SeenRequest, body: Bytes) -> Answer {
        let media_type = seen
            .headers
            .get("content-type")
            .and_then(|value| value.to_str().ok())
            .unwrap_or("application/octet-stream");
        let tag = Some(asked.name).filter(|name| !name.contains(':'));
        if tag.is_none() && asked.name != digest_of(&body) {
            return Answer::error(400, "DIGEST_INVALID");
        }
        let subject = serde_json::from_slice::<Value>(&body)
            .ok()
            .and_then(|document| document["subject"]["digest"].as_str().map(str::to_owned));
        let digest = self.put_manifest(asked.repository, tag, media_type, body);
        let answer = Answer::new(201)
            .with(
                "location",
                &format!("/v2/{}/manifests/{digest}", asked.repository),
            )
            .with("docker-content-digest", &digest);
        match subject {
            Some(subject) if self.referrers_api => answer.with("oci-subject", &subject),
            _ => answer,
        }
    }

    /// Uploads in one request, or started by POST, fed by PATCH and ended by PUT.
    fn upload(&mut self, asked: &Asked<'_>, seen: &SeenRequest, body: Bytes) -> Answer {
        let named = seen.parameter("digest").map(|digest| digest.replace("%3A", ":"));
        let repository = self.repository(asked.repository);
        let number: usize = if seen.method == Method::POST {
            repository.uploads.keys().max().map_or(1, |last| last + 1)
        } else {
            asked.name.parse().unwrap_or(0)
        };
        let mut content = repository.uploads.remove(&number).unwrap_or_default();
        content.extend_from_slice(&body);
        match named {
            Some(digest) if digest != digest_of(&content) => Answer::error(400, "DIGEST_INVALID"),
            Some(digest) => {
                self.put_blob(asked.repository, content.into());
                Answer::new(201)
                    .with("location", &format!("/v2/{}/blobs/{digest}", asked.repository))
                    .with("docker-content-digest", &digest)
            }
            None => {
                let end = content.len().saturating_sub(1);
                repository.uploads.insert(number, content);
                Answer::new(202)
                    .with(
                        "location",
                        &format!("/v2/{}/blobs/uploads/{number}", asked.repository),
                    )
                    .with("range", &format!("0-{end}"))
            }
        }
    }

    fn list_referrers(&mut self, asked: &Asked<'_>, seen: &SeenRequest) -> Answer {
        if !self.referrers_api {
            return Answer::new(404).body("404 page not found");
        }
        let listed = self
            .repositories
            .get(asked.repository)
            .map(|repository| repository.referrers(asked.name))
            .unwrap_or_default();
        let first: usize = seen
            .parameter("from")
            .and_then(|text| text.parse().ok())
            .unwrap_or(0);
        let page: Vec<Value> = listed.iter().skip(first).take(self.page_size).cloned().collect();
        let next = first + page.len();
        let answer = page_of(page);
        if next < listed.len() {
            answer.with("link", &format!("<{}?from={next}>; rel=\"next\"", seen.path()))
        } else {
            answer
        }
    }

    fn list_tags(&mut self, asked: &Asked<'_>) -> Answer {
        let repository = self.repository(asked.repository);
        let tags: Vec<&String> = repository.tags.keys().collect();
        Answer::json(&json!({"name": asked.repository, "tags": tags}))
    }
}

/// A page of a listing of referrers.
pub(super) fn page_of(manifests: Vec<Value>) -> Answer {
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests});
    Answer::json(&index).with_type(INDEX)
}

impl Answer {
    fn with_type(mut self, media_type: &str) -> Self {
        self.headers.retain(|(name, _)| name != "content-type");
        self.with("content-type", media_type)
    }
}
