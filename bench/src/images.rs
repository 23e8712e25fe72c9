//! The images of a fleet: everything about one follows from its number, so that nothing has to be kept.

use image::Digest;
use serde_json::json;

/// The media type of a manifest (OCI image specification).
pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// Every image has this tag.
pub(crate) const TAG: &str = "1";

/// The repository's path, without the registry; as long for every number that a fleet has.
pub(crate) fn path(number: usize) -> String {
    format!("fleet/app-{number:05}")
}

/// The image's manifest.
pub(crate) fn manifest(number: usize) -> String {
    let config = format!("config of {number}");
    json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": CONFIG, "digest": Digest::sha256(config.as_bytes()), "size": config.len()},
        "layers": [],
    })
    .to_string()
}

/// What runs.
pub(crate) fn digest(number: usize) -> Digest {
    Digest::sha256(manifest(number).as_bytes())
}

/// The simple-signing document that every key signs.
pub(crate) fn payload(number: usize) -> String {
    format!(
        "{{\"critical\":{{\"identity\":{{\"docker-reference\":\"\"}},\"image\":{{\"docker-manifest-digest\":\"{}\"}},\
         \"type\":\"cosign container image signature\"}},\"optional\":null}}",
        digest(number)
    )
}

/// The manifest under the tag `sha256-<hex>.sig`: one layer for each signature (base64).
pub(crate) fn signatures(number: usize, signatures: &[String]) -> String {
    let payload = payload(number);
    let layer = |signature: &String| {
        json!({
            "mediaType": SIMPLE_SIGNING, "digest": Digest::sha256(payload.as_bytes()), "size": payload.len(),
            "annotations": {"dev.cosignproject.cosign/signature": signature},
        })
    };
    let config = "{}";
    json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": CONFIG, "digest": Digest::sha256(config.as_bytes()), "size": config.len()},
        "layers": signatures.iter().map(layer).collect::<Vec<_>>(),
    })
    .to_string()
}
