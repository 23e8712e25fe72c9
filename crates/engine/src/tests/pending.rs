//! What totals say of the statuses that are still to be written.

use api::Stage;

use super::world::*;
use crate::fact::Fact;
use crate::report::{Target, Update};

/// Takes what is handed over until there is nothing, without the workloads; gives what totals said was pending.
fn pending_said(world: &mut World) -> Vec<(Target, i64)> {
    let mut said = Vec::new();
    while let Some(target) = world.engine.queue.pop(world.now) {
        let update = world.engine.handed_over(&target, world.now);
        match &update {
            Update::Policy(_, Some(report)) => said.push((target.clone(), report.pending_status_writes)),
            Update::Key(_, Some(report)) => said.push((target.clone(), report.pending_status_writes)),
            _ => {}
        }
        world.engine.done(target, None, world.now);
    }
    said
}

/// Deliverable "writes".
#[test]
fn totals_say_how_many_statuses_are_still_to_be_written_and_take_it_back() {
    let signer = Signer::new();
    let mut world = World::new();
    world.tell(key_fact(
        "release-2026",
        key_spec("release", &signer, Stage::Active),
    ));
    world.tell(policy_fact("prod", "shop/**", &["release"]));
    for number in 0..40 {
        world.tell(pod(&format!("web-{number}"), "shop/web"));
    }
    world.tell(Fact::Synced);
    world.look_up();
    world.pass_time(10);
    let said = pending_said(&mut world);
    let of_policy = |said: &[(Target, i64)]| -> Vec<i64> {
        said.iter()
            .filter(|(target, _)| *target == Target::Policy("prod".into()))
            .map(|(_, pending)| *pending)
            .collect()
    };
    let first = of_policy(&said);
    assert!(first[0] > 0, "{said:?}");
    world.pass_time(10);
    let last = of_policy(&pending_said(&mut world));
    assert_eq!(last.last().or(first.last()), Some(&0));
    world.pass_time(10);
    assert_eq!(pending_said(&mut world), [], "said once and for all");
}
