//! ImageExceptions: what they make of workloads, by which timers they end, and what is said of them.

use api::{ImageExceptionSpec, Reason, Stage, Verdict};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::world::*;
use crate::fact::{ExceptionFacts, Fact, RememberedViolation};
use crate::report::{ExceptionReport, ExceptionState, Within};

const HOUR: i64 = 3600;
const EXCEPTED: (Verdict, Reason) = (Verdict::Excepted, Reason::Excepted);
const MISSING: (Verdict, Reason) = (Verdict::Violating, Reason::SignatureMissing);

/// An exception of the policy `prod` in the namespace `shop`, made now, that ends after so many hours.
pub(super) fn exception(
    world: &World,
    name: &str,
    hours: i64,
    edit: impl FnOnce(&mut ImageExceptionSpec),
) -> Fact {
    let mut spec = ImageExceptionSpec {
        policies: vec!["prod".into()],
        images: vec!["r.example/shop/**".into()],
        namespaces: vec!["shop".into()],
        workloads: None,
        reasons: None,
        expires: Time(world.now + SignedDuration::from_hours(hours)),
        reason: "vendor fixes it".into(),
    };
    edit(&mut spec);
    Fact::Exception(Box::new(ExceptionFacts {
        name: name.into(),
        generation: 1,
        created: Some(world.now),
        spec: Ok(spec),
    }))
}

/// Unsigned images in two workloads and in another namespace, covered by `prod` and by `other`.
fn unsigned() -> World {
    let mut world = World::new();
    world.tell(key_fact(
        "release-1",
        key_spec("release", &Signer::new(), Stage::Active),
    ));
    for policy in ["prod", "other"] {
        world.tell(policy_fact(policy, "shop/**", &["release"]));
    }
    for workload in ["web", "api", "jobs/web"] {
        world.tell(pod(workload, "shop/web"));
    }
    world.tell(Fact::Synced);
    world.look_up();
    world.drain();
    world
}

fn report(world: &mut World) -> ExceptionReport {
    world.engine.exception_report("hotfix", world.now).unwrap()
}

/// B30. Fails on a build in which an exception means every workload that runs the image.
#[test]
fn b30_only_what_an_exception_names_is_excepted() {
    let mut world = unsigned();
    let asked = world.asked.len();
    let fact = exception(&world, "hotfix", 10, |spec| {
        spec.workloads = Some(vec!["Deployment/web".into()]);
    });
    world.tell(fact);
    assert_eq!(world.verdict("web", "prod"), Some(EXCEPTED));
    for (workload, policy) in [("web", "other"), ("api", "prod"), ("jobs/web", "prod")] {
        assert_eq!(
            world.verdict(workload, policy),
            Some(MISSING),
            "{workload} {policy}"
        );
    }
    assert_eq!(world.asked.len(), asked, "no registry is asked");
    assert!(world.drain().contains("web"));
    let totals = world.engine.policy_report("prod", world.now).unwrap();
    assert_eq!((totals.violating, totals.excepted, totals.workloads), (2, 1, 3));
    let said = report(&mut world);
    assert_eq!((said.workloads, said.images, said.sample.len()), (1, 1, 1));
    assert_eq!(said.sample[0].reason, Reason::SignatureMissing);
    let counted = world.engine.totals(world.now).excepted;
    assert_eq!(counted.values().copied().collect::<Vec<_>>(), [1]);
    assert_eq!(counted.keys().next().unwrap().2, "hotfix".into());
    world.tell(Fact::ExceptionGone("hotfix".into()));
    assert_eq!(world.verdict("web", "prod"), Some(MISSING));
    assert!(world.drain().contains("web"));
}

/// Fails on a build without the timer of exceptions: nothing else wakes the engine at the end of one that is about an
/// image without a digest.
#[test]
fn an_exception_ends_by_a_timer_at_the_very_time_and_is_foretold() {
    let mut world = unsigned();
    let mut prod = policy("prod", "shop/**", &["release"]);
    let spec = prod.spec.as_mut().unwrap();
    (spec.warn_before, spec.require_digest) = (Some("10h".into()), Some(true));
    world.tell(Fact::Policy(Box::new(prod)));
    world.tell(starting_pod("late", "shop/late"));
    world.pass_time(60);
    let fact = exception(&world, "hotfix", 30, |_| {});
    world.tell(fact);
    let end = world.now + SignedDuration::from_hours(30);
    let late = |world: &World| world.verdict("late", "prod").unwrap();
    assert_eq!(
        late(&world),
        (Verdict::Unknown, Reason::Pending),
        "its digest is not known"
    );
    let web = |world: &World| world.result("web", "prod").unwrap();
    assert_eq!(web(&world).valid_until, Some(end));
    assert!(!web(&world).warned);
    world.drain();
    world.pass_time(20 * HOUR);
    world.look_up();
    assert!(web(&world).warned && world.drain().contains("web"));
    let falling = world.engine.totals(world.now).falling;
    assert!(falling.iter().any(|((_, policy, _, within), count)| {
        **policy == *"prod" && *within == Within::WarnBefore && *count == 3
    }));
    world.down = true;
    world.now = end - SignedDuration::from_nanos(1);
    world.engine.wake(world.now);
    world.look_up();
    world.drain();
    assert_eq!(world.engine.next_end_of_exception(world.now), Some(end));
    assert_eq!(web(&world).verdict, Verdict::Excepted);
    world.now = end;
    world.engine.wake(end);
    assert_eq!(
        world.verdict("web", "prod"),
        Some((Verdict::Violating, Reason::TagNotPinned))
    );
    assert_eq!(late(&world), (Verdict::Violating, Reason::TagNotPinned));
    let said = world.drain();
    assert!(said.contains("web") && said.contains("late"), "{said:?}");
    assert_eq!(report(&mut world).state, ExceptionState::Expired(end));
    assert_eq!(report(&mut world).workloads, 0);
}

/// C5.21.
#[test]
fn what_cannot_be_read_is_over_or_never_began_passes_over_nothing() {
    let mut world = unsigned();
    for hours in [-1, 0, 90 * 24 + 1] {
        let fact = exception(&world, "hotfix", hours, |_| {});
        world.tell(fact);
        assert_eq!(world.verdict("web", "prod"), Some(MISSING), "{hours}");
    }
    assert!(matches!(report(&mut world).state, ExceptionState::Invalid(_)));
    let good = exception(&world, "hotfix", 5, |_| {});
    world.tell(good);
    assert_eq!(world.verdict("web", "prod"), Some(EXCEPTED));
    assert_eq!(
        report(&mut world).state,
        ExceptionState::InForce { missing: Vec::new() }
    );
    world.tell(Fact::Exception(Box::new(ExceptionFacts {
        name: "hotfix".into(),
        generation: 2,
        created: Some(world.now),
        spec: Err("spec cannot be read: expires".into()),
    })));
    assert_eq!(world.verdict("web", "prod"), Some(MISSING));
}

/// B43: neither an exception nor a restart makes a violation pass, and its end brings it back while the registry is
/// down.
#[test]
fn b43_a_violation_that_an_exception_passes_over_is_not_forgotten_in_an_outage() {
    let mut world = World::new();
    world.down = true;
    world.tell(key_fact(
        "release-1",
        key_spec("release", &Signer::new(), Stage::Active),
    ));
    world.tell(policy_fact("prod", "shop/**", &["release"]));
    let fact = exception(&world, "hotfix", 5, |_| {});
    world.tell(fact);
    world.tell(Fact::Remembered(RememberedViolation {
        workload: key("web"),
        written: "r.example/shop/web:1".into(),
        digest: digest("shop/web").to_string().into(),
        policy: "prod".into(),
        requirement: Some("signed".into()),
        reason: Reason::SignatureMissing,
        message: "no signature".into(),
        since: Timestamp::UNIX_EPOCH,
        stale_since: None,
    }));
    world.tell(pod("web", "shop/web"));
    world.tell(Fact::Synced);
    world.look_up();
    assert_eq!(world.verdict("web", "prod"), Some(EXCEPTED));
    let answer = world.result("web", "prod").unwrap();
    assert_eq!(answer.becomes.unwrap().reason, Reason::SignatureMissing);
    world.drain();
    world.pass_time(5 * HOUR);
    assert_eq!(world.verdict("web", "prod"), Some(MISSING));
    assert!(world.drain().contains("web"));
}

#[test]
fn an_exception_of_a_policy_that_does_not_exist_says_so() {
    let mut world = unsigned();
    let fact = exception(&world, "hotfix", 5, |spec| spec.policies = vec!["prodd".into()]);
    world.tell(fact);
    let missing = vec!["prodd".into()];
    assert_eq!(report(&mut world).state, ExceptionState::InForce { missing });
    assert_eq!(report(&mut world).workloads, 0);
}
