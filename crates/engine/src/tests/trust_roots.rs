//! Keys that name a trust root.

use std::sync::Arc;

use api::{Reason, Stage, Verdict};
use verify::VerifierId;

use super::world::*;
use crate::fact::{Fact, KeyFacts};
use crate::keys::KeySet;

fn key_with_root(set: &mut KeySet, root: &str) {
    let mut spec = key_spec("release", &Signer::new(), Stage::Active);
    spec.trust_root = Some(root.to_owned());
    set.insert(KeyFacts {
        name: "release-1".into(),
        generation: 1,
        spec: Ok(spec),
    });
}

fn problem(set: &KeySet) -> String {
    let object = set.object("release-1").unwrap();
    object.verifier.as_ref().err().cloned().unwrap_or_default()
}

/// B46: a trust root that is missing, or cannot be used, makes the key unreadable; it is never used without.
#[test]
fn a_key_that_names_a_trust_root_is_readable_only_while_there_is_one() {
    let mut set = KeySet::default();
    key_with_root(&mut set, "own");
    assert!(
        problem(&set).contains("there is no TrustRoot own"),
        "{}",
        problem(&set)
    );
    assert!(!set.ring_is_usable("release"));

    let rings = set.set_trust_root("own".into(), Some(Err("not JSON".to_owned())));
    assert!(rings.is_empty(), "unreadable before and after");
    assert!(
        problem(&set).contains("TrustRoot own cannot be used: not JSON"),
        "{}",
        problem(&set)
    );

    let root = Arc::new(verify::TrustRoot::from_json(ROOT.as_bytes()).unwrap());
    let rings = set.set_trust_root("own".into(), Some(Ok(root)));
    assert_eq!(rings, [Arc::from("release")].into());
    assert_eq!(problem(&set), "");

    let rings = set.set_trust_root("own".into(), None);
    assert_eq!(rings, [Arc::from("release")].into());
    assert!(
        problem(&set).contains("there is no TrustRoot own"),
        "{}",
        problem(&set)
    );
}

/// A world whose only key asks for timestamps where they are, under the trust root `own`.
fn world_with(root: Option<&str>) -> (World, Signer) {
    let (mut world, signer) = (World::new(), Signer::new());
    world
        .signatures
        .insert(digest("shop/web"), vec![signer.sign(&digest("shop/web"))]);
    let spec = api::SigningKeySpec {
        trust_root: Some("own".to_owned()),
        timestamp: Some(api::Demand::Optional),
        ..key_spec("release", &signer, Stage::Active)
    };
    world.tell(key_fact("release-2026", spec));
    if let Some(root) = root {
        world.tell(trust_root(root));
    }
    world.tell(policy_fact("prod", "shop/**", &["release"]));
    world.tell(pod("web", "shop/web"));
    world.tell(Fact::Synced);
    world.look_up();
    (world, signer)
}

fn trust_root(json: &str) -> Fact {
    Fact::TrustRoot {
        name: "own".into(),
        root: Ok(Arc::new(verify::TrustRoot::from_json(json.as_bytes()).unwrap())),
    }
}

fn asked(world: &World) -> Vec<VerifierId> {
    let subject = world.engine.subjects.values().next().unwrap();
    let items = subject.knowledge().flat_map(|known| &known.items);
    items.flat_map(|item| &item.outcomes).map(|(id, _)| *id).collect()
}

/// F09: a key whose trust root is missing makes Unknown/KeyMissing, never a pass, and heals by itself.
#[test]
fn f09_without_its_trust_root_a_key_makes_unknown_and_with_it_the_verdict_heals_without_a_request() {
    let (mut world, _) = world_with(None);
    let missing = Some((Verdict::Unknown, Reason::KeyMissing));
    assert_eq!(world.verdict("web", "prod"), missing);
    world.tell(trust_root(ROOT));
    assert_eq!(
        world.verdict("web", "prod"),
        Some((Verdict::Compliant, Reason::AllVerified))
    );
    assert_eq!(world.look_up(), 0, "the evidence is held");
    world.tell(Fact::TrustRootGone("own".into()));
    assert_eq!(world.verdict("web", "prod"), missing);
}

/// B46. Weakened once: with claims kept by the key's fingerprint, nobody is asked again and the old claim counts.
#[test]
fn b46_no_claim_that_was_made_under_another_trust_root_or_demand_is_used() {
    let (mut world, signer) = world_with(Some(ROOT));
    let first = asked(&world);
    assert_eq!(first.len(), 1);
    world.tell(trust_root(&ROOT.replace("log.example.com", "other.example.com")));
    let second = asked(&world);
    assert_eq!(second.len(), 1);
    assert_ne!(first, second, "another root");
    let spec = api::SigningKeySpec {
        trust_root: Some("own".to_owned()),
        timestamp: Some(api::Demand::Required),
        ..key_spec("release", &signer, Stage::Active)
    };
    world.tell(key_fact("release-2026", spec));
    let third = asked(&world);
    assert_eq!(third.len(), 1);
    assert_ne!(second, third, "another demand");
    assert_ne!(world.verdict("web", "prod").unwrap().0, Verdict::Compliant);
}

/// A log alone, whose key verifies nothing.
const ROOT: &str = r#"{
    "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
    "tlogs": [{
        "baseUrl": "https://log.example.com", "hashAlgorithm": "SHA2_256",
        "publicKey": {"rawBytes": "MCowBQYDK2VwAyEAt8rlp1knGwjfbcXAYPYAkn0XiLz1x8O4t0YkEhie244=", "keyDetails": "PKIX_ED25519", "validFor": {"start": "2026-01-01T00:00:00Z"}},
        "logId": {"keyId": "AAAA"}
    }]
}"#;
