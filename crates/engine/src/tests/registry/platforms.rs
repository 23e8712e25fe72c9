//! An index that runs under a policy that accepts platform manifests alone: each one that a node may choose must vouch.

use api::{MultiArch, Reason, RunsAs, Verdict};
use image::Digest;
use serde_json::{Value, json};
use testkit::FakeRegistry;

use super::site::*;
use crate::fact::Fact;
use crate::tests::world::*;

/// A manifest under `shop/web` as an index lists it for this platform.
fn child(fake: &FakeRegistry, name: &str, platform: Value) -> (Digest, Value) {
    let (digest, size) = manifest_of(fake, "web", name);
    let mut child = json!({"mediaType": MANIFEST, "digest": digest, "size": size});
    if !platform.is_null() {
        child["platform"] = platform;
    }
    (digest, child)
}

async fn verdict_of(site: &mut Site, fake: &FakeRegistry, children: &[&Value]) -> Option<(Verdict, Reason)> {
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": children}).to_string();
    let index = fake.put_manifest("shop/web", Some("1"), INDEX, index);
    let index: Digest = index.parse().unwrap();
    site.world.tell(gone("web"));
    site.world.tell(runs_pinned(fake, "web", "web", &index, &index));
    site.look_up().await;
    site.verdict("web")
}

/// B34: container runtimes take a child without a platform, or without an operating system, for theirs, and pass over one
/// that says `unknown`. Fails on a build that looks only at children with a whole platform: the unsigned ones run, and the
/// image is Compliant.
#[tokio::test]
async fn b34_every_child_that_a_node_may_choose_must_vouch_where_platforms_alone_count() {
    let fake = FakeRegistry::start().await.unwrap();
    let mut site = Site::new(&[&fake]);
    let mut facts = policy("prod", "**", &["release"]);
    let spec = facts.spec.as_mut().unwrap();
    spec.match_.images = vec!["**/shop/**".into()];
    spec.multi_arch = Some(MultiArch {
        accept: Some(RunsAs::Platform),
        ..MultiArch::default()
    });
    site.world.tell(Fact::Policy(Box::new(facts)));
    let (signed, amd64) = child(&fake, "amd64", json!({"architecture": "amd64", "os": "linux"}));
    sign_by_tag(&fake, "web", &site.signer, &signed);
    let (_, attestation) = child(&fake, "att", json!({"architecture": "unknown", "os": "unknown"}));
    let both = [&amd64, &attestation];
    assert_eq!(
        verdict_of(&mut site, &fake, &both).await,
        HOLDS,
        "{}",
        site.message("web")
    );
    for platform in [
        Value::Null,
        json!({}),
        json!({"architecture": "arm64", "os": ""}),
        json!({"architecture": "", "os": "linux"}),
    ] {
        let (digest, unsigned) = child(&fake, &platform.to_string(), platform.clone());
        let all = [&amd64, &attestation, &unsigned];
        assert_eq!(verdict_of(&mut site, &fake, &all).await, UNSIGNED, "{platform}");
        sign_by_tag(&fake, "web", &site.signer, &digest);
        site.next_check().await;
        assert_eq!(site.verdict("web"), HOLDS, "{platform}: {}", site.message("web"));
    }
}
