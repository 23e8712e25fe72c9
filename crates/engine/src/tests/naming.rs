//! What a message says of signers depends on what is, never on what was asked before.

use api::{Reason, Stage, Verdict};

use super::world::*;
use crate::fact::Fact;

/// More keys than a message tries to name.
const KEYS: usize = 40;

fn facts(signers: &[Signer], order: impl Iterator<Item = usize>) -> World {
    let mut world = World::new();
    let web = digest("shop/web");
    let foreign = signers.iter().rev().take(2).map(|signer| signer.sign(&web));
    world.signatures.insert(web, foreign.collect());
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
