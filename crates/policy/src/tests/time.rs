//! What changes by itself: the validity of keys.

use api::Reason;

use super::*;

const DAY_1: &str = "2026-12-01T00:00:00Z";
const DAY_2: &str = "2026-12-02T00:00:00Z";

#[test]
fn c5_02_before_not_after_it_holds_and_from_then_on_it_does_not() {
    let mut scene = Scene::signed();
    scene.release_key().stage = Stage::Retiring;
    scene.release_key().not_after = Some(at(DAY_1));
    let judgement = scene.judge();
    assert_eq!((judgement.verdict, judgement.reason), compliant());
    assert_eq!(judgement.valid_until, Some(at(DAY_1)));
    let before = scene.judge_at(at("2026-11-30T23:59:59.999999999Z"));
    assert_eq!((before.verdict, before.reason), compliant());
    let then = scene.judge_at(at(DAY_1));
    assert_eq!((then.verdict, then.reason), violating(Reason::KeyExpired));
    assert_eq!(then.valid_until, None);
}

#[test]
fn a_key_counts_from_not_before_on() {
    let mut scene = Scene::signed();
    scene.release_key().not_before = Some(at(DAY_1));
    assert_eq!(scene.answer(), violating(Reason::KeyExpired));
    assert_eq!(scene.judge().valid_until, Some(at(DAY_1)));
    let then = scene.judge_at(at(DAY_1));
    assert_eq!((then.verdict, then.reason), compliant());
}

#[test]
fn valid_until_passes_over_boundaries_that_change_nothing() {
    let mut scene = Scene::signed();
    scene.release_key().not_after = Some(at(DAY_2));
    let mut idle = key("release-2027", person(1), Stage::Active);
    idle.not_before = Some(at(DAY_1));
    scene.keys.rings.get_mut("release").unwrap().push(idle);
    assert_eq!(scene.judge().valid_until, Some(at(DAY_2)));
}

#[test]
fn a_successor_that_signed_too_bridges_the_end_of_the_old_key() {
    let mut scene = Scene::with(vec![
        person(0).signs(&digest("own")),
        person(1).signs(&digest("own")),
    ]);
    scene.release_key().not_after = Some(at(DAY_1));
    scene
        .keys
        .rings
        .get_mut("release")
        .unwrap()
        .push(key("release-2027", person(1), Stage::Active));
    assert_eq!(scene.judge().valid_until, None);
    assert!(!scene.rests_on(person(0)));
}

#[test]
fn keys_of_rings_that_the_policy_does_not_name_set_no_deadline() {
    let mut scene = Scene::signed();
    let mut other = key("other", person(1), Stage::Active);
    other.not_after = Some(at(DAY_1));
    scene.keys.rings.insert("other".into(), vec![other]);
    assert_eq!(scene.judge().valid_until, None);
}

#[test]
fn an_unreadable_key_that_expires_ends_the_doubt() {
    let mut scene = Scene::with(vec![person(4).signs(&digest("own"))]);
    scene.release_key().fingerprint = None;
    scene.release_key().verifier = None;
    scene.release_key().not_after = Some(at(DAY_1));
    assert_eq!(scene.answer(), unknown(Reason::KeyMissing));
    assert_eq!(scene.judge().valid_until, Some(at(DAY_1)));
}

/// What it turns into is what is said when the time has come, to the last word.
pub(super) fn says_what_it_becomes(scene: &Scene, judgement: &Judgement) -> bool {
    match (judgement.valid_until, &judgement.becomes) {
        (Some(until), Some(becomes)) => {
            let then = scene.judge_at(until);
            let said = (
                &becomes.verdict,
                &becomes.reason,
                &becomes.requirement,
                &becomes.message,
            );
            said == (&then.verdict, &then.reason, &then.requirement, &then.message)
        }
        (until, becomes) => until.is_none() && becomes.is_none(),
    }
}

#[test]
fn what_will_fall_is_said_with_why_and_what_to_do() {
    let mut scene = Scene::signed();
    scene.release_key().not_after = Some(at(DAY_1));
    let judgement = scene.judge();
    assert!(judgement.falls() && says_what_it_becomes(&scene, &judgement));
    let becomes = judgement.becomes.clone().unwrap();
    assert_eq!((becomes.verdict, becomes.reason), violating(Reason::KeyExpired));
    assert!(
        becomes.message.contains("outside its validity"),
        "{}",
        becomes.message
    );
    assert_eq!(judgement.at(scene.now).verdict, Verdict::Compliant);
    assert_eq!(judgement.at(at(DAY_1)), *becomes);
}

#[test]
fn what_heals_by_itself_does_not_fall() {
    let mut scene = Scene::signed();
    scene.release_key().not_before = Some(at(DAY_1));
    let judgement = scene.judge();
    assert!(judgement.becomes.is_some() && !judgement.falls());
}
