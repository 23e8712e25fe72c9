//! What a message says of signers depends on what is, never on what was asked before.

use api::{Reason, Stage, Verdict};

use super::world::*;
use crate::fact::Fact;

/// More keys than a message tries to name.
const KEYS: usize = 40;
const VERY_MANY: usize = 100;

fn facts(signers: &[Signer], order: impl Iterator<Item = usize>) -> World {
    let web = digest("shop/web");
    let foreign = signers.iter().rev().take(2).map(|signer| signer.sign(&web));
    told_of(foreign.collect(), signers, order)
}

fn told_of(signatures: Vec<Held>, signers: &[Signer], order: impl Iterator<Item = usize>) -> World {
    let mut world = World::new();
    world.signatures.insert(digest("shop/web"), signatures);
    world.tell(policy_fact("prod", "shop/**", &["release"]));
    world.tell(pod("web", "shop/web"));
    world.tell(Fact::Synced);
    world.look_up();
    for at in std::iter::once(0).chain(order) {
        let ring = if at == 0 {
            "release".to_owned()
        } else {
            format!("ring-{at}")
        };
        world.tell(key_fact(
            &format!("key-{at:02}"),
            key_spec(&ring, &signers[at], Stage::Active),
        ));
    }
    world
}

fn message(world: &World) -> String {
    let answer = world.result("web", "prod").unwrap();
    assert_eq!(
        (answer.verdict, answer.reason),
        (Verdict::Violating, Reason::SignerNotTrusted)
    );
    answer.message.to_string()
}

/// F12, C5.12: a restart rewrites no message. Weakened once: with every outcome kept that was ever asked for, the
/// process that saw the signers' keys first names them and the one that saw them last does not.
#[test]
fn c5_12_who_signed_is_told_alike_in_whatever_order_keys_and_evidence_came() {
    let signers: Vec<Signer> = (0..KEYS).map(|_| Signer::new()).collect();
    let upwards = facts(&signers, 1..KEYS);
    let downwards = facts(&signers, (1..KEYS).rev());
    let mut restarted = facts(&signers, 1..KEYS);
    restarted.pass_time(3600);
    restarted.look_up();
    assert_eq!(message(&upwards), message(&downwards));
    assert_eq!(message(&upwards), message(&restarted));
}

#[test]
fn a_signer_among_the_known_keys_is_named() {
    let signers: Vec<Signer> = (0..4).map(|_| Signer::new()).collect();
    let world = facts(&signers, 1..4);
    assert!(message(&world).contains("key-03"), "{}", message(&world));
}

/// Weakened once: without what bundles say of their keys, the signer is not named.
#[test]
fn the_key_that_a_bundle_names_is_named_among_however_many() {
    let signers: Vec<Signer> = (0..VERY_MANY).map(|_| Signer::new()).collect();
    let bundle = signers[VERY_MANY - 1].sign_as_bundle(&digest("shop/web"));
    let media_type = "application/vnd.dev.sigstore.bundle.v0.3+json";
    let held = Held::new(
        verify::Item::from_bundle(&bundle),
        media_type,
        bundle,
        serde_json::json!({}),
    );
    let world = told_of(vec![held], &signers, 1..VERY_MANY);
    assert!(message(&world).contains("key-99"), "{}", message(&world));
}

/// Weakened once: without a note of the keys that were not asked, the signer is called one that Assay does not know.
#[test]
fn a_signer_that_was_not_looked_for_is_not_called_unknown() {
    let signers: Vec<Signer> = (0..VERY_MANY).map(|_| Signer::new()).collect();
    let message = message(&facts(&signers, 1..VERY_MANY));
    assert!(message.contains("too many SigningKeys"), "{message}");
    assert!(!message.contains("does not know"), "{message}");
}

/// Who may push cannot have the engine try every key on every one of a thousand signatures.
/// Weakened once: with the same keys tried whatever the number of signatures, 33,000.
#[test]
fn b15_however_many_signatures_strangers_push_few_verifications_look_for_their_names() {
    let signers: Vec<Signer> = (0..KEYS).map(|_| Signer::new()).collect();
    let web = digest("shop/web");
    let pushed = (0..1000).map(|_| signers[KEYS - 1].sign(&web)).collect();
    let world = told_of(pushed, &signers, 1..KEYS);
    message(&world);
    assert_eq!(
        world.engine.counters.verifications, 1000,
        "those by the trusted key alone"
    );
}
