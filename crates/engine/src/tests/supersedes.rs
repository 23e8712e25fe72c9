//! A policy in dry run beside the enforced one that it is to take the place of.

use api::{Comparison, Mode, Reason, Stage};

use super::world::*;
use crate::fact::Fact;
use crate::report::Target;

/// `old` trusts release, `new` trusts review and covers one repository more. `web` is signed by release, `api` by
/// review, `cart` by both, `tool` by nobody.
fn beside() -> World {
    let mut world = World::new();
    let (release, review) = (Signer::new(), Signer::new());
    let signed: [(&str, &[&Signer]); 4] = [
        ("shop/web", &[&release]),
        ("shop/api", &[&review]),
        ("shop/cart", &[&release, &review]),
        ("tools/tool", &[]),
    ];
    for (image, by) in signed {
        let own = digest(image);
        world
            .signatures
            .insert(own.clone(), by.iter().map(|signer| signer.sign(&own)).collect());
    }
    world.tell(key_fact(
        "release-1",
        key_spec("release", &release, Stage::Active),
    ));
    world.tell(key_fact("review-1", key_spec("review", &review, Stage::Active)));
    world.tell(policy_fact("old", "shop/**", &["release"]));
    let mut new = policy("new", "**", &["review"]);
    let spec = new.spec.as_mut().unwrap();
    (spec.mode, spec.supersedes) = (Mode::DryRun, Some("old".into()));
    world.tell(Fact::Policy(Box::new(new)));
    for (workload, image) in [
        ("web", "shop/web"),
        ("api", "shop/api"),
        ("cart", "shop/cart"),
        ("tool", "tools/tool"),
    ] {
        world.tell(pod(workload, image));
    }
    world.tell(Fact::Synced);
    world.look_up();
    world.pass_time(10);
    world.drain();
    world
}

fn compared(world: &mut World) -> Comparison {
    let report = world.engine.policy_report("new", world.now).unwrap();
    report.comparison.unwrap().unwrap()
}

fn workloads(results: &[api::PolicyViolation]) -> Vec<(&str, Reason)> {
    results
        .iter()
        .map(|result| (result.workload.as_str(), result.reason))
        .collect()
}

/// C5.08. Fails on a build that leaves out what the other policy does not cover.
#[test]
fn c5_08_what_fails_and_passes_newly_is_said_beside_the_enforced_policy() {
    let mut world = beside();
    let compared = compared(&mut world);
    assert_eq!(
        (compared.newly_failing_total, compared.newly_passing_total),
        (2, 1)
    );
    assert_eq!(
        workloads(&compared.newly_failing),
        [
            ("Deployment/tool", Reason::SignatureMissing),
            ("Deployment/web", Reason::SignerNotTrusted),
        ]
    );
    assert_eq!(
        workloads(&compared.newly_passing),
        [("Deployment/api", Reason::AllVerified)]
    );
    assert_eq!(compared.unknown, 0);
    let old = world.engine.policy_report("old", world.now).unwrap();
    assert_eq!(old.comparison, None);
}

/// C5.08: continuously, also where only the other policy says something else.
#[test]
fn a_change_that_concerns_the_superseded_policy_alone_is_told_of_the_one_that_supersedes_it() {
    let mut world = beside();
    world.tell(policy_fact("old", "shop/**", &["release", "review"]));
    let mut told = Vec::new();
    world.pass_time(1);
    while let Some(target) = world.engine.queue.pop(world.now) {
        told.push(target.clone());
        world.engine.queue.done(target, None);
    }
    assert!(told.contains(&Target::Policy("new".into())), "{told:?}");
    assert_eq!(compared(&mut world).newly_passing_total, 0);
}

#[test]
fn a_superseded_policy_that_does_not_exist_is_said_to_be_missing() {
    let mut world = beside();
    world.tell(Fact::PolicyGone("old".into()));
    let report = world.engine.policy_report("new", world.now).unwrap();
    assert_eq!(report.comparison, Some(Err("old".into())));
}

#[test]
fn what_this_policy_cannot_tell_neither_fails_nor_passes() {
    let mut world = beside();
    world.tell(Fact::KeyGone("review-1".into()));
    let compared = compared(&mut world);
    assert_eq!(compared.newly_failing_total, 1, "nobody signed the tool");
    assert_eq!(workloads(&compared.newly_passing), []);
    assert_eq!((compared.unknown, compared.newly_unknown_total), (3, 3));
    assert_eq!(
        workloads(&compared.newly_unknown),
        [
            ("Deployment/api", Reason::KeyMissing),
            ("Deployment/cart", Reason::KeyMissing),
            ("Deployment/web", Reason::KeyMissing),
        ]
    );
}
