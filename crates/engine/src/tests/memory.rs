//! What survives a restart, and what an earlier process wrote.

use std::path::Path;

use api::{Reason, Stage, Verdict};
use jiff::Timestamp;

use super::world::*;
use crate::fact::{Fact, RememberedViolation};
use crate::report::WorkloadAnswer;

fn start(folder: Option<&Path>, signer: &Signer) -> World {
    let mut world = World::with_store(folder);
    world.tell(key_fact(
        "release-2026",
        key_spec("release", signer, Stage::Active),
    ));
    world.tell(policy_fact("prod", "shop/**", &["release"]));
    world.tell(pod("web", "shop/web"));
    world
}

fn remembered(digest: &image::Digest) -> Fact {
    Fact::Remembered(RememberedViolation {
        workload: key("web"),
        written: "r.example/shop/web:1".into(),
        digest: digest.to_string().into(),
        policy: "prod".into(),
        requirement: Some("signed".into()),
        reason: Reason::SignatureMissing,
        message: "found no signature".into(),
        since: Timestamp::UNIX_EPOCH,
        stale_since: None,
    })
}

#[test]
fn b43_a_violation_that_was_written_stays_through_a_restart_in_an_outage() {
    let signer = Signer::new();
    let mut world = start(None, &signer);
    world.tell(remembered(&digest("shop/web")));
    world.tell(Fact::Synced);
    assert!(
        matches!(
            world.engine.answer(&key("web"), world.now),
            WorkloadAnswer::Undecided
        ),
        "nothing is written yet"
    );
    world.down = true;
    world.look_up();
    assert_eq!(
        world.verdict("web", "prod"),
        Some((Verdict::Violating, Reason::SignatureMissing))
    );
    world.down = false;
    world
        .signatures
        .insert(digest("shop/web"), vec![signer.sign(&digest("shop/web"))]);
    world.pass_time(30);
    world.look_up();
    assert_eq!(
        world.verdict("web", "prod"),
        Some((Verdict::Compliant, Reason::AllVerified)),
        "positive evidence ends it"
    );
}

#[test]
fn a_violation_of_another_digest_is_not_inherited() {
    let mut world = start(None, &Signer::new());
    world.tell(remembered(&digest("another")));
    world.tell(Fact::Synced);
    world.down = true;
    world.look_up();
    assert_eq!(
        world.verdict("web", "prod"),
        Some((Verdict::Unknown, Reason::RegistryUnavailable))
    );
}

#[test]
fn an_image_without_a_finished_look_up_stays_undecided_after_a_restart_without_disk() {
    let mut world = start(None, &Signer::new());
    world.tell(Fact::Synced);
    assert!(matches!(
        world.engine.answer(&key("web"), world.now),
        WorkloadAnswer::Undecided
    ));
}

#[test]
fn before_everything_is_told_nothing_is_asked_or_judged() {
    let mut world = start(None, &Signer::new());
    assert_eq!(world.look_up(), 0);
    assert!(world.drain().is_empty());
    world.tell(Fact::Synced);
    assert_eq!(world.look_up(), 1);
}
