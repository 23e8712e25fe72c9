//! Many look-ups at once, and replicas that write nothing.

use api::Stage;

use super::world::*;
use crate::fact::Fact;
use crate::lookup::Ask;
use crate::places::Places;
use crate::report::Target;

/// Weakened once: without a cap per registry, the slow one takes all 64 places.
#[test]
fn f03_a_crowded_registry_leaves_room_for_the_others_and_gets_its_turn_again() {
    let mut world = World::new();
    let mut facts = policy("prod", "**", &["release"]);
    facts.spec.as_mut().unwrap().match_.images = vec!["**".into()];
    world.tell(Fact::Policy(Box::new(facts)));
    for number in 0..100 {
        world.tell(pod(&format!("slow-{number}"), &format!("slow/{number}")));
    }
    let elsewhere = digest("elsewhere");
    world.tell(pod_of("zebra", "z.example/elsewhere:1", &elsewhere));
    world.tell(Fact::Synced);
    let asks = world.engine.due_lookups(world.now, 64);
    let of = |registry: &str| {
        asks.iter()
            .filter(|ask| ask.subject.repository.registry() == registry)
            .count()
    };
    assert_eq!((of("r.example"), of("z.example")), (16, 1));
    assert!(world.engine.due_lookups(world.now, 64).is_empty());
    world.pass_time(1);
    assert!(
        world.engine.due_lookups(world.now, 64).is_empty(),
        "none of them has ended"
    );
    world.down = true;
    let slow = asks
        .iter()
        .filter(|ask| ask.subject.repository.registry() == "r.example");
    for ask in slow.take(8) {
        world.end(ask);
    }
    world.pass_time(1);
    assert_eq!(world.engine.due_lookups(world.now, 64).len(), 8);
}

/// Weakened once: with `Places` that share out nothing, the host names that never answer take all 64.
#[test]
fn f03_host_names_that_never_answer_leave_room_for_registries_that_do() {
    let mut world = World::new();
    world.engine.places = Places::new(64);
    let mut facts = policy("prod", "**", &["release"]);
    facts.spec.as_mut().unwrap().match_.images = vec!["**".into()];
    world.tell(Fact::Policy(Box::new(facts)));
    world.tell(Fact::Synced);
    for number in 0..20 {
        world.tell(pod(&format!("web-{number}"), &format!("shop/web-{number}")));
    }
    world.settle();
    for number in 0..90 {
        let name = format!("tarpit-{number}");
        let image = format!("tarpit-{}.example/{name}:1", number % 9);
        world.tell(pod_of(&name, &image, &digest(&name)));
    }
    assert_eq!(world.engine.due_lookups(world.now, 64).len(), 32);
    for number in 20..40 {
        world.tell(pod(&format!("web-{number}"), &format!("shop/web-{number}")));
    }
    let asks = world.engine.due_lookups(world.now, 64);
    let is_of_the_shop = |ask: &Ask| ask.subject.repository.registry() == "r.example";
    assert_eq!((asks.len(), asks.iter().all(is_of_the_shop)), (16, true));
}

/// C2.11. Weakened once: with what comes back put in line only when somebody pulls, `next_time` stays in the past and
/// a standby turns without pause.
#[test]
fn c2_11_a_standby_gathers_nothing_and_hands_everything_over_once_it_leads() {
    let mut world = World::new();
    let signer = Signer::new();
    world
        .signatures
        .insert(digest("shop/web"), vec![signer.sign(&digest("shop/web"))]);
    world.tell(policy_fact("prod", "shop/**", &["release"]));
    world.tell(pod("web", "shop/web"));
    world.tell(Fact::Synced);
    for stage in [Stage::Active, Stage::Disabled, Stage::Active] {
        world.tell(key_fact("release-2026", key_spec("release", &signer, stage)));
        world.look_up();
        world.pass_time(3600);
        let next = world.engine.next_time_besides_lookups();
        assert!(next.is_none_or(|next| next > world.now), "{next:?}");
    }
    let mut handed_over = Vec::new();
    while let Some(target) = world.engine.queue.pop(world.now) {
        handed_over.push(target.clone());
        world.engine.queue.done(target, None);
    }
    handed_over.sort();
    let expected = [
        Target::Workload(key("web")),
        Target::Policy("prod".into()),
        Target::Key("release-2026".into()),
    ];
    assert_eq!(handed_over, expected);
}
