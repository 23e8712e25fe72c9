//! What exceptions make of a judgement: they turn violations into Excepted, and nothing else into anything.

use api::{ImageExceptionSpec, Reason, Requirement, Stage, Verdict};
use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::*;
use crate::Spared;

const EXCEPTED: (Verdict, Reason) = (Verdict::Excepted, Reason::Excepted);

/// An exception for everything, that ends so many hours after the scenes' time.
pub(super) fn exception(name: &str, hours: i64, reasons: Option<&[Reason]>) -> Arc<CompiledException> {
    let now = Scene::signed().now;
    let spec = ImageExceptionSpec {
        policies: vec!["prod-signed".into()],
        images: vec!["**".into()],
        namespaces: vec!["*".into()],
        workloads: None,
        reasons: reasons.map(<[Reason]>::to_vec),
        expires: Time(now + SignedDuration::from_hours(hours)),
        reason: "vendor fixes it".into(),
    };
    Arc::new(CompiledException::compile(name, &spec, Some(now)).unwrap())
}

fn unsigned(exceptions: Vec<Arc<CompiledException>>) -> Scene {
    Scene {
        exceptions,
        ..Scene::with(vec![])
    }
}

/// A key that is not trusted any more in this way signed.
fn signed_by_a_key_in(stage: Stage, exceptions: Vec<Arc<CompiledException>>) -> Scene {
    let mut scene = Scene {
        exceptions,
        ..Scene::signed()
    };
    scene.release_key().stage = stage;
    scene
}

#[test]
fn c5_20_a_violation_is_excepted_and_says_by_what_and_what_is_wrong() {
    let scene = unsigned(vec![exception("hotfix", 5, None)]);
    let judgement = scene.judge();
    assert_eq!((judgement.verdict, judgement.reason), EXCEPTED);
    assert_eq!(judgement.requirement.as_deref(), Some("release-signature"));
    let excepted = judgement.excepted.clone().unwrap();
    assert_eq!(
        (&*excepted.exception, excepted.reason),
        ("hotfix", Reason::SignatureMissing)
    );
    for part in [
        "ImageException hotfix",
        "vendor fixes it",
        "found no signature",
        "See https://wiki",
    ] {
        assert!(judgement.message.contains(part), "{}", judgement.message);
    }
}

/// Its end is a deadline like any other. Fails on a build in which the ends of exceptions are no boundaries.
#[test]
fn the_end_of_an_exception_is_a_deadline_with_what_is_wrong_behind_it() {
    let scene = unsigned(vec![exception("short", 2, None), exception("long", 5, None)]);
    let judgement = scene.judge();
    let end = scene.now + SignedDuration::from_hours(5);
    assert_eq!(judgement.valid_until, Some(end));
    assert!(judgement.falls());
    let becomes = judgement.becomes.unwrap();
    assert_eq!(
        (becomes.verdict, becomes.reason),
        violating(Reason::SignatureMissing)
    );
    let then = scene.judge_at(end);
    assert_eq!((then.verdict, then.excepted), (Verdict::Violating, None));
    assert_eq!(then.message, becomes.message);
}

/// Fails on a build in which all reasons are meant where none are named.
#[test]
fn a_revoked_key_is_excepted_only_where_it_is_named() {
    let of = |reasons| signed_by_a_key_in(Stage::Revoked, vec![exception("e", 5, reasons)]).answer();
    assert_eq!(of(None), violating(Reason::KeyRevoked));
    assert_eq!(of(Some(&[Reason::KeyDisabled])), violating(Reason::KeyRevoked));
    assert_eq!(of(Some(&[Reason::KeyRevoked])), EXCEPTED);
    let disabled = signed_by_a_key_in(Stage::Disabled, vec![exception("e", 5, None)]);
    assert_eq!(disabled.answer(), EXCEPTED);
}

/// Fails on a build that asks about the first failing requirement alone.
#[test]
fn every_requirement_that_fails_must_be_passed_over() {
    let mut scene = signed_by_a_key_in(Stage::Revoked, vec![exception("e", 5, None)]);
    let first: Requirement = requirement("reviewed", &["review"], 1);
    scene
        .keys
        .rings
        .insert("review".into(), vec![key("review-1", person(1), Stage::Active)]);
    scene.spec.require.insert(0, first);
    assert_eq!(scene.answer(), violating(Reason::KeyRevoked));
    scene
        .exceptions
        .push(exception("revoked", 5, Some(&[Reason::KeyRevoked])));
    assert_eq!(scene.answer(), EXCEPTED);
    let excepted = scene.judge().excepted.unwrap();
    assert_eq!(excepted.reason, Reason::SignerNotTrusted, "the first is told");
}

/// C5.04: an image that a revocation honours is excepted for its other signer alone. Without the honoured one it would
/// rest on a revoked key, which this exception does not name.
/// Fails on a build in which what would be if a key stopped counting takes it for disabled, revoked or not.
#[test]
fn c5_04_what_rests_on_an_honoured_signer_is_not_excepted_without_it() {
    let mut scene = Scene::signed();
    scene.spec = asking(&["build", "release"], 2);
    scene
        .keys
        .rings
        .insert("build".into(), vec![key("build-1", person(1), Stage::Active)]);
    scene.release_key().stage = Stage::Revoked;
    scene.release_key().spared = Some(Arc::new(Spared {
        honoured: BTreeSet::from([digest("own")]),
        dated_before: None,
    }));
    let reasons = [Reason::TooFewSigners, Reason::KeyDisabled];
    scene.exceptions = vec![exception("e", 5, Some(&reasons))];
    assert_eq!(scene.answer(), EXCEPTED);
    assert!(scene.rests_on(person(0)));
    scene.release_key().spared = None;
    assert_eq!(scene.answer(), violating(Reason::KeyRevoked));
}

#[test]
fn a_revoked_signer_among_too_few_must_be_named() {
    let mut scene = Scene::with(vec![
        person(0).signs(&digest("own")),
        person(1).signs(&digest("own")),
    ]);
    scene.spec = asking(&["build", "release"], 2);
    scene
        .keys
        .rings
        .insert("build".into(), vec![key("build-1", person(1), Stage::Revoked)]);
    assert_eq!(scene.answer(), violating(Reason::TooFewSigners));
    scene.exceptions = vec![exception("e", 5, None)];
    assert_eq!(scene.answer(), violating(Reason::TooFewSigners));
    let both = [Reason::TooFewSigners, Reason::KeyRevoked];
    scene.exceptions = vec![exception("e", 5, Some(&both))];
    assert_eq!(scene.answer(), EXCEPTED);
}

#[test]
fn a_platform_behind_the_first_that_fails_must_be_passed_over_too() {
    let mut scene = Scene::with(vec![]).platform_only();
    scene.own = known(&digest("index"), Nature::Index, vec![]);
    let child = |name: &str, items| known(&digest(name), Nature::Manifest, items);
    scene.children = vec![
        child("one", vec![]),
        child("two", vec![person(0).signs(&digest("two"))]),
    ];
    scene.exceptions = vec![exception("e", 5, None)];
    scene.release_key().stage = Stage::Revoked;
    assert_eq!(scene.answer(), violating(Reason::SignatureMissing));
    scene.release_key().stage = Stage::Disabled;
    assert_eq!(scene.answer(), EXCEPTED);
    scene.children[1].completeness = Completeness::Incomplete(gap(Reason::RegistryUnavailable));
    scene.children[1].items.clear();
    assert_eq!(
        scene.answer(),
        violating(Reason::SignatureMissing),
        "nobody knows the other one"
    );
}

#[test]
fn what_cannot_be_told_is_not_excepted() {
    let mut scene = unsigned(vec![exception("e", 5, None)]);
    scene.own.completeness = Completeness::Incomplete(gap(Reason::RegistryUnavailable));
    assert_eq!(scene.answer(), unknown(Reason::RegistryUnavailable));
}

#[test]
fn a_tag_that_is_excepted_still_needs_what_else_is_asked_for() {
    let mut scene = unsigned(vec![exception("tags", 5, Some(&[Reason::TagNotPinned]))]);
    (scene.pinned, scene.spec.require_digest) = (false, Some(true));
    assert_eq!(scene.answer(), violating(Reason::SignatureMissing));
    scene.own = Scene::signed().own;
    assert_eq!(scene.answer(), EXCEPTED);
    assert_eq!(scene.judge().excepted.unwrap().reason, Reason::TagNotPinned);
    scene.exceptions.clear();
    assert_eq!(scene.answer(), violating(Reason::TagNotPinned));
}
