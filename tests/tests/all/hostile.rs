//! Images whose registry holds as much evidence by strangers as is read: the operator judges them, judges others
//! meanwhile, and holds little of it in memory.

use std::time::Duration;

use api::ImageCompliance;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kube::api::{Api, ListParams};
use serde_json::{Value, json};
use testkit::{FakeRegistry, eventually, node::annotation};

use crate::operator::{Operator, insecure, install};
use crate::own::own_cluster;
use crate::scene::{Scene, condition, deployment};

const IMAGES: usize = 30;
/// Whatever they send, the cache of the data folder included, which takes half of it.
const GROWTH: u64 = 128 << 20;
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

/// What somebody without a key can attach: bundles of almost 4 MiB, of which four are read for each image.
fn junk() -> Vec<String> {
    let padding = "a".repeat(2_600_000);
    let statement = |at: usize| {
        json!({
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"name": "x", "digest": {"sha256": "0".repeat(64)}}],
            "predicateType": "https://example.com/junk/v1", "predicate": {"at": at, "padding": padding},
        })
    };
    let bundle = |payload: Value| {
        json!({
            "mediaType": BUNDLE, "verificationMaterial": {"publicKey": {"hint": ""}},
            "dsseEnvelope": {"payloadType": "application/vnd.in-toto+json", "payload": STANDARD.encode(payload.to_string()),
                "signatures": [{"sig": "AAAA"}]},
        })
    };
    let long = json!({"mediaType": "b".repeat(3_900_000)});
    let bundles = (0..3).map(statement).map(bundle).chain([long]);
    bundles.map(|bundle| bundle.to_string()).collect()
}

/// An image of the registry with all of it attached; its reference.
fn image(fake: &FakeRegistry, number: usize, junk: &[String]) -> String {
    let repository = format!("hostile/{number}");
    let config = fake.put_blob(&repository, format!("{{\"image\": {number}}}"));
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "layers": [],
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": 12},
    });
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let digest = fake.put_manifest(&repository, None, media_type, manifest.to_string());
    for layer in junk {
        fake.attach(&repository, &digest, BUNDLE, layer.clone());
    }
    format!("{}/{repository}@{digest}", fake.host())
}

fn running(name: &str, image: &str) -> Value {
    let image_id = format!("{}.main", annotation::IMAGE_ID);
    let spec = json!({"containers": [{"name": "main", "image": image}]});
    deployment(name, spec, json!({(image_id.as_str()): image}))
}

/// B15, F04. Fails on a build that holds in memory what it read: the memory grows by 515 MiB.
#[tokio::test(flavor = "multi_thread")]
async fn f04_b15_what_strangers_attach_to_many_images_is_not_held_in_memory() {
    let cluster = own_cluster("hostile").await;
    install(cluster).await;
    let fake = FakeRegistry::start().await.unwrap();
    let mut arguments = insecure(&[fake.host()]);
    arguments.push("--leader-elect=false".to_owned());
    let operator = Operator::start(cluster, "operator", &arguments).await;
    let scene = Scene::on(cluster, "hostile").await;
    scene.signer("release", "release", "Active").await;
    for number in 0..20 {
        scene
            .signer(&format!("other-{number}"), &format!("other-{number}"), "Active")
            .await;
    }
    scene
        .create(&[scene.policy("signed", "release", json!({}))])
        .await;
    let first = image(&fake, IMAGES, &[]);
    scene.create(&[running("before", &first)]).await;
    scene.says("deployment-before", "False/SignatureMissing").await;
    let before = operator.server.resident_bytes().unwrap();

    let junk = junk();
    let images: Vec<Value> = (0..IMAGES)
        .map(|number| running(&format!("hostile-{number}"), &image(&fake, number, &junk)))
        .collect();
    scene.create(&images).await;
    let api: Api<ImageCompliance> = scene.namespace.api();
    let judged = async || {
        let all = api.list(&ListParams::default()).await.unwrap().items;
        let judged = all
            .iter()
            .filter(|one| condition(one).starts_with("False/"))
            .count();
        match judged == IMAGES + 1 {
            true => Ok(()),
            false => Err(format!("{judged} of {}", all.len())),
        }
    };
    eventually("all images are judged", Duration::from_secs(300), judged)
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let growth = operator.server.resident_bytes().unwrap().saturating_sub(before);
    println!("{IMAGES} images with 15 MiB each: {} KiB more", growth >> 10);
    assert!(growth <= GROWTH, "the memory grew by {} MiB", growth >> 20);
}
