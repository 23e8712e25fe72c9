//! Manifests of evidence: many layers in one, layers with the same content, and manifests of megabytes.

use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use image::Digest;
use registry::Manifest;
use serde_json::{Value, json};
use testkit::FakeRegistry;

use super::site::*;
use crate::lookup::Layer;
use crate::tests::world::*;

const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
const CERTIFICATE: &str = "dev.sigstore.cosign/certificate";

/// The payload that all signatures of an image share, and what a signer writes beside it.
fn signature(signer: &Signer, digest: &Digest) -> (Bytes, Value) {
    let held = signer.sign(digest);
    let manifest: Value = serde_json::from_slice(&held.manifest).unwrap();
    (
        held.layer,
        manifest["layers"][0]["annotations"][SIGNATURE].clone(),
    )
}

/// Puts signatures with these annotations under cosign's tag, each a layer of one manifest with the same payload.
fn put_signatures(fake: &FakeRegistry, digest: &Digest, payload: &Bytes, annotations: &[Value]) -> Bytes {
    let layer = |annotations: &Value| {
        json!({"mediaType": "application/vnd.dev.cosign.simplesigning.v1+json",
            "digest": Digest::sha256(payload), "size": payload.len(), "annotations": annotations})
    };
    let layers: Vec<Value> = annotations.iter().map(layer).collect();
    let manifest = manifest_with(&layers, json!(null));
    fake.put_blob("shop/web", payload.clone());
    let tag = evidence_tag(digest, "sig");
    fake.put_manifest("shop/web", Some(&tag), MANIFEST, manifest.clone());
    manifest
}

fn manifest_with(layers: &[Value], subject: Value) -> Bytes {
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "layers": layers, "subject": subject,
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": Digest::sha256(b"{}"), "size": 2},
    });
    manifest.to_string().into()
}

/// C2.06: cosign puts all signatures of an image under one tag, as layers with the same payload. Each of them can be read
/// again. Fails on a build that takes the first layer with the digest: the late key's signature is never found, and the
/// image is Unknown.
#[tokio::test]
async fn c2_06_each_of_many_signatures_with_one_payload_is_read_again_when_its_key_comes() {
    let fake = FakeRegistry::start().await.unwrap();
    let mut site = Site::new(&[&fake]);
    let (digest, late) = (image(&fake, "web"), Signer::new());
    let beside = |signer: &Signer| json!({(SIGNATURE): signature(signer, &digest).1});
    let mut all: Vec<Value> = (0..100).map(|_| beside(&Signer::new())).collect();
    all.insert(70, beside(&late));
    all.push(beside(&site.signer));
    put_signatures(&fake, &digest, &signature(&late, &digest).0, &all);
    site.world.tell(runs(&fake, "web", "web", &digest));
    site.look_up().await;
    assert_eq!(site.verdict("web"), HOLDS, "{}", site.message("web"));
    fake.forget();
    site.world.tell(key_fact(
        "release-2026",
        key_spec("release", &late, api::Stage::Active),
    ));
    assert_eq!(site.verdict("web"), HOLDS, "{}", site.message("web"));
    site.next_check().await;
    assert_eq!(site.verdict("web"), HOLDS);
    assert_eq!(fake.asked("/blobs/"), 0);
}

/// B15: a manifest of megabytes with a thousand signatures in it is read once for all of them, not once for each.
/// Fails on a build whose items each read it again.
#[tokio::test]
async fn b15_a_thousand_signatures_in_one_large_manifest_cost_one_reading_of_it() {
    let fake = FakeRegistry::start().await.unwrap();
    let mut site = Site::new(&[&fake]);
    let digest = image(&fake, "web");
    let payload = signature(&site.signer, &digest).0;
    let beside =
        |at: u32| json!({(SIGNATURE): STANDARD.encode(at.to_be_bytes()), (CERTIFICATE): "x".repeat(3500)});
    let all: Vec<Value> = (0..1000).map(beside).collect();
    let manifest = put_signatures(&fake, &digest, &payload, &all);
    site.world.tell(runs(&fake, "web", "web", &digest));
    site.look_up().await;
    assert_eq!(site.verdict("web").unwrap().0, api::Verdict::Violating);
    let start = Instant::now();
    Manifest::read(&Digest::sha256(&manifest), None, manifest).unwrap();
    let one = start.elapsed();
    let start = Instant::now();
    let spec = key_spec("release", &Signer::new(), api::Stage::Active);
    site.world.tell(key_fact("release-2027", spec));
    let all = start.elapsed();
    assert!(
        all < 100 * one,
        "one reading takes {one:?}, and all signatures {all:?}"
    );
}

/// B15, B16: large manifests are read up to a budget and no further, the smallest first, so that they hide no signature;
/// what was not read is no absence. Fails on a build that reads every one: all twelve are asked for.
#[tokio::test]
async fn b15_b16_large_manifests_are_read_up_to_a_budget_and_hide_no_signature() {
    let fake = FakeRegistry::start().await.unwrap();
    let mut site = Site::new(&[&fake]);
    let images = ["web", "bare"].map(|name| (name, image(&fake, name)));
    for (name, digest) in &images {
        let repository = format!("shop/{name}");
        let content = fake.put_blob(&repository, "{}");
        for at in 0..12 {
            let subject = json!({"mediaType": MANIFEST, "digest": digest, "size": 1});
            let junk = json!({"at": at.to_string(), "junk": "x".repeat((4 << 20) - 2000)});
            let layer = json!({"mediaType": BUNDLE, "digest": content, "size": 2, "annotations": junk});
            let manifest = manifest_with(&[layer], subject);
            fake.put_manifest(&repository, None, MANIFEST, manifest);
        }
    }
    sign_by_bundle(&fake, "web", &site.signer, &images[0].1);
    for (name, digest) in &images {
        site.world.tell(runs(&fake, name, name, digest));
        fake.forget();
        site.look_up().await;
        let read = fake.asked("/manifests/sha256:");
        assert!(read < 12, "{name}: {read} manifests were read");
    }
    assert_eq!(site.verdict("web"), HOLDS, "{}", site.message("web"));
    let unknown = Some((api::Verdict::Unknown, api::Reason::EvidenceTooLarge));
    assert_eq!(site.verdict("bare"), unknown, "{}", site.message("bare"));
}

/// B15: of what anybody may write beside a layer only what says something is held. Fails on a build that holds it all.
#[test]
fn b15_of_what_is_written_beside_a_layer_only_what_is_read_is_held() {
    let annotations = json!({(SIGNATURE): "AAAA", (CERTIFICATE): "none", "predicateType": "any", "junk": "x".repeat(1 << 20)});
    let layer = json!({"mediaType": BUNDLE, "digest": Digest::sha256(b"{}"), "size": 2, "annotations": annotations,
        "artifactType": "x".repeat(1 << 20)});
    let manifest = manifest_with(&[layer], json!(null));
    let manifest = Manifest::read(&Digest::sha256(&manifest), None, manifest).unwrap();
    let layers = Layer::all_of(&manifest);
    let names: Vec<&String> = layers[0].descriptor.annotations.keys().collect();
    assert_eq!(names, [SIGNATURE, CERTIFICATE]);
    assert_eq!(layers[0].descriptor.artifact_type, None);
}
