//! What attestations have in common: who signed them, how old they are, which one decides, on which digest.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use api::{AttestationRequirement, Validation};
use verify::{Outcome, TimeSource, TrustedTime};

use super::*;

pub(crate) const TYPE: &str = "https://example.com/review/v1";
const NOW: &str = "2026-11-22T12:00:00Z";

/// One attestation: who, when by its own words, and whether it says what is asked for.
pub(crate) fn review(person: &Person, digest: &Digest, time: Option<&str>, good: bool) -> Item {
    person.attest(digest, TYPE, &predicate(time, good))
}

fn predicate(time: Option<&str>, good: bool) -> Value {
    let mut predicate = json!({"approved": good});
    if let Some(time) = time {
        predicate["timestamp"] = time.into();
    }
    predicate
}

pub(crate) fn reviewed(max_age: Option<&str>) -> Requirement {
    Requirement {
        name: "reviewed".into(),
        attestation: Some(AttestationRequirement {
            predicate_type: TYPE.into(),
            signed_by: vec!["release".into()],
            max_age: max_age.map(str::to_owned),
            validations: vec![Validation {
                expression: "predicate.approved".into(),
                message: Some("nobody approved it".into()),
            }],
        }),
        ..Requirement::default()
    }
}

/// A manifest with these attestations and all ways of discovery answered; `maxAge: 24h`.
fn scene(items: Vec<Item>) -> Scene {
    let mut scene = Scene::with(items);
    scene.own.attestations = Completeness::Complete;
    scene.spec.require = vec![reviewed(Some("24h"))];
    scene
}

fn ageless(items: Vec<Item>) -> Scene {
    let mut scene = scene(items);
    scene.spec.require = vec![reviewed(None)];
    scene
}

fn own() -> Digest {
    digest("own")
}

fn by_zero(time: Option<&str>, good: bool) -> Item {
    review(person(0), &own(), time, good)
}

/// As a log or a timestamp authority would vouch for every claim of the scene.
fn vouched(mut scene: Scene, time: &str) -> Scene {
    change_claims(&mut scene, |claim| {
        let time = TrustedTime {
            at: at(time),
            source: TimeSource::TimestampAuthority,
        };
        claim.times = [time].into_iter().collect();
    });
    scene
}

/// As a certificate that is valid from this time on would limit every claim of the scene.
fn certified(mut scene: Scene, not_before: &str) -> Scene {
    change_claims(&mut scene, |claim| claim.created_after = Some(at(not_before)));
    scene
}

fn change_claims(scene: &mut Scene, change: impl Fn(&mut verify::Claim)) {
    for item in &mut scene.own.items {
        for (_, outcome) in &mut item.outcomes {
            if let Outcome::Verified(claim) = outcome {
                change(claim);
            }
        }
    }
}

fn says(scene: &Scene, part: &str) {
    let message = scene.judge().message;
    assert!(message.contains(part), "{part:?} is not in {message:?}");
    assert!(message.chars().count() <= 512);
}

#[test]
fn c4_05_an_attestation_holds_until_it_is_too_old() {
    let scene = scene(vec![by_zero(Some("2026-11-22T00:00:00Z"), true)]);
    let judgement = scene.judge();
    assert_eq!((judgement.verdict, judgement.reason), compliant());
    assert_eq!(judgement.relied_on, [person(0).fingerprint()]);
    assert_eq!(judgement.valid_until, Some(at("2026-11-23T00:00:00Z")));
    let before = scene.judge_at(at("2026-11-22T23:59:59.999999999Z"));
    assert_eq!((before.verdict, before.reason), compliant());
    let then = scene.judge_at(at("2026-11-23T00:00:00Z"));
    assert_eq!((then.verdict, then.reason), violating(Reason::AttestationExpired));
}

/// Seen to fail with the age left out of `Found::dated`.
#[test]
fn b12_an_old_attestation_that_is_shown_again_is_expired() {
    let scene = scene(vec![by_zero(Some("2026-11-01T00:00:00Z"), true)]);
    assert_eq!(scene.answer(), violating(Reason::AttestationExpired));
    says(&scene, "2026-11-01T00:00:00Z");
    says(&scene, "no older than 24h");
}

/// Seen to fail with the latest trusted time in place of the predicate's own in `attested::created`.
#[test]
fn b40_an_old_attestation_that_was_timestamped_again_today_is_old() {
    let old = vouched(
        scene(vec![by_zero(Some("2026-11-01T00:00:00Z"), true)]),
        "2026-11-22T11:00:00Z",
    );
    assert_eq!(old.answer(), violating(Reason::AttestationExpired));
    let undated = vouched(scene(vec![by_zero(None, true)]), "2026-11-22T11:00:00Z");
    assert_eq!(undated.answer(), violating(Reason::AttestationUndated));
}

#[test]
fn a_time_that_is_vouched_for_makes_an_attestation_older_never_younger() {
    let claims_today = vec![by_zero(Some("2026-11-22T11:00:00Z"), true)];
    let existed_before = vouched(scene(claims_today), "2026-11-20T00:00:00Z");
    assert_eq!(existed_before.answer(), violating(Reason::AttestationExpired));
}

/// Weakened once: with times in the future taken for times, one dates an attestation.
#[test]
fn c4_10_an_attestation_without_a_time_or_with_one_in_the_future_is_undated() {
    for time in [None, Some("2026-11-22T12:00:00.000000001Z"), Some("soon")] {
        let scene = scene(vec![by_zero(time, true)]);
        assert_eq!(scene.answer(), violating(Reason::AttestationUndated), "{time:?}");
        says(&scene, "no time that can be trusted");
    }
    let ahead = scene(vec![by_zero(Some("2026-11-22T13:00:00Z"), true)]);
    assert_eq!(ahead.judge().valid_until, Some(at("2026-11-22T13:00:00Z")));
    let vouched_ahead = vouched(
        scene(vec![by_zero(Some("2026-11-22T11:00:00Z"), true)]),
        "2026-11-22T13:00:00Z",
    );
    assert_eq!(vouched_ahead.answer(), violating(Reason::AttestationInvalid));
}

#[test]
fn an_attestation_under_a_certificate_is_as_old_as_the_certificate_whatever_it_says_itself() {
    let undated = certified(scene(vec![by_zero(None, true)]), "2026-11-22T11:00:00Z");
    assert_eq!(undated.answer(), compliant());
    assert_eq!(undated.judge().valid_until, Some(at("2026-11-23T11:00:00Z")));
    let says_today = scene(vec![by_zero(Some("2026-11-22T11:00:00Z"), true)]);
    let old = certified(says_today.clone(), "2026-11-01T00:00:00Z");
    assert_eq!(old.answer(), violating(Reason::AttestationExpired));
    let ahead = certified(says_today, "2026-11-22T13:00:00Z");
    assert_eq!(ahead.answer(), violating(Reason::AttestationInvalid));
}

/// Seen to fail with the first instead of the newest in `Found::decide`.
#[test]
fn c4_06_b47_the_newest_decides_in_whatever_order_they_are_found() {
    let (earlier, later) = (Some("2026-11-22T08:00:00Z"), Some("2026-11-22T09:00:00Z"));
    for (first, second, answer) in [
        (
            by_zero(earlier, true),
            by_zero(later, false),
            violating(Reason::AttestationRejected),
        ),
        (by_zero(earlier, false), by_zero(later, true), compliant()),
        (
            by_zero(later, true),
            by_zero(later, false),
            violating(Reason::AttestationRejected),
        ),
        (by_zero(None, false), by_zero(later, true), compliant()),
        (
            by_zero(None, true),
            by_zero(later, false),
            violating(Reason::AttestationRejected),
        ),
    ] {
        let mut scene = scene(vec![first, second]);
        assert_eq!(scene.answer(), answer);
        scene.own.items.reverse();
        assert_eq!(scene.answer(), answer);
        scene.spec.require = vec![reviewed(None)];
        assert_eq!(scene.answer(), answer, "whether an age is asked for or not");
    }
}

#[test]
fn where_none_is_dated_and_no_age_is_asked_for_one_that_holds_is_enough() {
    assert_eq!(ageless(vec![by_zero(None, true)]).answer(), compliant());
    assert_eq!(
        ageless(vec![by_zero(None, true), by_zero(None, false)]).answer(),
        compliant()
    );
    assert_eq!(
        ageless(vec![by_zero(None, false)]).answer(),
        violating(Reason::AttestationRejected)
    );
}

#[test]
fn what_a_key_that_does_not_count_signed_decides_nothing() {
    let mut scene = scene(vec![
        by_zero(Some("2026-11-22T08:00:00Z"), true),
        review(person(2), &own(), Some("2026-11-22T09:00:00Z"), false),
        review(person(4), &own(), Some("2026-11-22T10:00:00Z"), false),
    ]);
    let keys = scene.keys.rings.get_mut("release").unwrap();
    keys.push(key("release-2027", person(2), Stage::Revoked));
    assert_eq!(scene.answer(), compliant());
    scene.release_key().stage = Stage::Disabled;
    assert_eq!(scene.answer(), violating(Reason::KeyRevoked));
    scene.keys.rings.get_mut("release").unwrap()[1].stage = Stage::Active;
    assert_eq!(scene.answer(), violating(Reason::AttestationRejected));
}

/// Seen to fail with `wanted` answering true for every type.
#[test]
fn b01_an_attestation_of_another_type_is_none() {
    let other = person(0).attest(
        &own(),
        "https://example.com/review/v2",
        &predicate(Some("2026-11-22T11:00:00Z"), true),
    );
    let scene = scene(vec![other]);
    assert_eq!(scene.answer(), violating(Reason::AttestationMissing));
    says(
        &scene,
        "only attestations of other types: https://example.com/review/v2",
    );
}

#[test]
fn b41_a_signature_is_no_attestation_and_an_attestation_no_signature() {
    let signed = scene(vec![person(0).signs(&own()), person(0).signs_as_bundle(&own())]);
    assert_eq!(signed.answer(), violating(Reason::AttestationMissing));
    let mut attested = scene(vec![by_zero(Some("2026-11-22T11:00:00Z"), true)]);
    attested.spec.require = vec![requirement("signed", &["release"], 1)];
    assert_eq!(attested.answer(), violating(Reason::SignatureMissing));
}

#[test]
fn an_attestation_by_somebody_else_is_signer_not_trusted() {
    let mut scene = scene(vec![review(
        person(4),
        &own(),
        Some("2026-11-22T11:00:00Z"),
        true,
    )]);
    assert_eq!(scene.answer(), violating(Reason::SignerNotTrusted));
    scene
        .keys
        .rings
        .insert("testing".into(), vec![key("testing-1", person(4), Stage::Active)]);
    says(&scene, "SigningKey testing-1 (key ring testing)");
}

/// Seen to fail with `Standing::Invalid` left out of `Findings::note`.
#[test]
fn b02_b53_what_a_trusted_key_signed_amiss_is_attestation_invalid() {
    let about_another = review(person(0), &digest("another"), Some("2026-11-22T11:00:00Z"), true);
    let hex = own().hex();
    let twice = format!(
        "{{\"_type\":\"https://in-toto.io/Statement/v1\",\"subject\":[{{\"digest\":{{\"sha256\":\"{hex}\"}}}}],\
         \"predicateType\":\"{TYPE}\",\"predicate\":{{\"approved\":false,\"approved\":true}}}}"
    );
    let wrong_type = statement(&own(), TYPE, &predicate(None, true)).replace("Statement/v1", "Statement/v2");
    for item in [
        about_another,
        person(0).states("garbage"),
        person(0).states(&twice),
        person(0).states(&wrong_type),
    ] {
        assert_eq!(scene(vec![item]).answer(), violating(Reason::AttestationInvalid));
    }
    assert_eq!(
        scene(vec![person(4).states("garbage")]).answer(),
        violating(Reason::AttestationInvalid),
        "nobody knows whose it is, but it is no attestation"
    );
}

#[test]
fn what_cannot_be_read_spoils_no_good_attestation() {
    let scene = scene(vec![
        by_zero(Some("2026-11-22T11:00:00Z"), true),
        person(0).states("garbage"),
        oversized(),
        of_the_future(),
        malformed(),
    ]);
    assert_eq!(scene.answer(), compliant());
}

#[test]
fn an_absence_of_attestations_that_is_not_proven_is_unknown() {
    let mut scene = scene(vec![]);
    assert_eq!(scene.answer(), violating(Reason::AttestationMissing));
    scene.own.attestations = Completeness::Incomplete(gap(Reason::RegistryUnavailable));
    assert_eq!(scene.answer(), unknown(Reason::RegistryUnavailable));
    scene.own.attestations = Completeness::NeverAsked;
    assert_eq!(scene.answer(), unknown(Reason::Pending));
    scene.own.attestations = Completeness::Complete;
    scene.own.completeness = Completeness::Incomplete(gap(Reason::RegistryUnavailable));
    assert_eq!(
        scene.answer(),
        violating(Reason::AttestationMissing),
        "signatures are found in ways of their own"
    );
}

#[test]
fn a_failure_is_open_while_a_better_attestation_may_exist() {
    for item in [
        by_zero(Some("2026-11-22T11:00:00Z"), false),
        by_zero(Some("2026-11-01T11:00:00Z"), true),
        by_zero(None, true),
    ] {
        let mut scene = scene(vec![item]);
        scene.own.attestations = Completeness::Incomplete(gap(Reason::RateLimited));
        assert_eq!(scene.answer(), unknown(Reason::RateLimited));
    }
    let mut good = scene(vec![by_zero(Some("2026-11-22T11:00:00Z"), true)]);
    good.own.attestations = Completeness::Incomplete(gap(Reason::RateLimited));
    assert_eq!(good.answer(), compliant(), "F01: an outage takes nothing away");
    let unread = scene(vec![
        by_zero(Some("2026-11-22T11:00:00Z"), false),
        of_the_future(),
    ]);
    assert_eq!(unread.answer(), unknown(Reason::Pending));
}

/// B15, B47, invariant 8: who may push, and has no key, could hide a newer bad one behind more junk than is read.
/// Weakened once: without `excess`, the older good one decides.
#[test]
fn b15_a_good_attestation_among_more_than_are_read_is_not_known_to_be_the_newest() {
    let mut scene = scene(vec![by_zero(Some("2026-11-22T11:00:00Z"), true)]);
    assert_eq!(scene.answer(), compliant());
    scene.own.attestations = Completeness::Incomplete(gap(Reason::EvidenceTooLarge));
    assert_eq!(scene.answer(), unknown(Reason::EvidenceTooLarge));
}

/// Invariant 8: what a trusted signer signed and is too large to be read may be the newest; a stranger's is not.
/// Weakened once: with a doubt of it alone, the older good one decides.
#[test]
fn c4_11_a_good_attestation_beside_a_larger_one_of_the_same_signer_is_not_known_to_be_the_newest() {
    let deep = format!("{}{}", "[".repeat(100), "]".repeat(100));
    let beside = |person: &Person| {
        scene(vec![
            by_zero(Some("2026-11-22T11:00:00Z"), true),
            person.states(&deep),
        ])
    };
    assert_eq!(beside(person(0)).answer(), unknown(Reason::EvidenceTooLarge));
    assert_eq!(beside(person(4)).answer(), compliant());
}

/// B47: the newest attestation is bad, and its bytes are gone since its signature was verified, or before. Fails on a build
/// that leaves out what it cannot read: the older good one decides.
#[test]
fn b47_an_attestation_whose_bytes_are_gone_may_be_the_newest() {
    let bad = by_zero(Some("2026-11-22T11:00:00Z"), false);
    let good = by_zero(Some("2026-11-22T10:00:00Z"), true);
    for kept_when_asked in [true, false] {
        let is_kept = Arc::new(AtomicBool::new(kept_when_asked));
        let (kept, whole) = (is_kept.clone(), bad.clone());
        let gone = bad.kept_elsewhere(Arc::new(move || kept.load(Relaxed).then(|| whole.clone())));
        let scene = scene(vec![gone, good.clone()]);
        is_kept.store(false, Relaxed);
        assert_eq!(scene.answer(), unknown(Reason::Pending));
        is_kept.store(true, Relaxed);
        if kept_when_asked {
            assert_eq!(scene.answer(), violating(Reason::AttestationRejected));
        }
    }
}

/// C4.11: a large attestation is not held, and not read again at every edit of a key either. Seen to fail without `OwnTimes`.
#[test]
fn what_an_attestation_says_is_read_once_for_a_requirement() {
    let good = by_zero(Some("2026-11-22T11:00:00Z"), true);
    let reads = Arc::new(AtomicUsize::new(0));
    let (count, whole) = (reads.clone(), good.clone());
    let keeper = move || {
        count.fetch_add(1, Relaxed);
        Some(whole.clone())
    };
    let scene = scene(vec![good.kept_elsewhere(Arc::new(keeper))]);
    let policy = scene.policy();
    let to_verify = reads.load(Relaxed);
    for _ in 0..3 {
        let judgement = evaluate(&policy, &scene.facts(), &scene.keys, scene.now);
        assert_eq!((judgement.verdict, judgement.reason), compliant());
    }
    assert_eq!(reads.load(Relaxed), to_verify + 1);
}

#[test]
fn a_key_that_cannot_be_read_matters_only_where_it_may_have_attested() {
    let mut scene = scene(vec![review(
        person(4),
        &own(),
        Some("2026-11-22T11:00:00Z"),
        true,
    )]);
    scene.release_key().verifier = None;
    assert_eq!(scene.answer(), unknown(Reason::KeyMissing));
    scene.keys = rings(&[]);
    assert_eq!(scene.answer(), unknown(Reason::KeyMissing));
    scene.own.items.clear();
    assert_eq!(scene.answer(), violating(Reason::AttestationMissing));
}

/// A child of an index that carries the attestation.
fn child_of_attested(good: bool) -> Scene {
    let index = digest("index");
    let item = review(person(0), &index, Some("2026-11-22T11:00:00Z"), good);
    let mut index = known(&index, Nature::Index, vec![item]);
    index.attestations = Completeness::Complete;
    Scene {
        indexes: vec![index],
        ..scene(vec![])
    }
}

fn accepting_indexes(mut scene: Scene) -> Scene {
    scene.spec.multi_arch = Some(MultiArch {
        accept_index_attestations: Some(true),
        ..MultiArch::default()
    });
    scene
}

/// Seen to fail with `accept_index` taken for true in `Places::of`.
#[test]
fn b51_an_attestation_of_the_index_counts_for_a_child_only_where_the_policy_says_so() {
    let scene = child_of_attested(true);
    assert_eq!(scene.answer(), violating(Reason::AttestationMissing));
    assert_eq!(accepting_indexes(scene).answer(), compliant());
}

#[test]
fn where_attestations_of_indexes_count_the_newest_of_all_decides() {
    let mut scene = accepting_indexes(child_of_attested(true));
    let newer = by_zero(Some("2026-11-22T11:30:00Z"), false);
    scene.own.items.push(checked(&own(), newer));
    assert_eq!(scene.answer(), violating(Reason::AttestationRejected));
    let mut gapped = accepting_indexes(child_of_attested(false));
    gapped.index_gap = Some(gap(Reason::RateLimited));
    assert_eq!(gapped.answer(), unknown(Reason::RateLimited));
}

#[test]
fn where_platforms_alone_count_every_platform_of_a_running_index_must_be_attested() {
    let child = |name: &str, good| {
        let item = review(person(0), &digest(name), Some("2026-11-22T11:00:00Z"), good);
        let mut child = known(&digest(name), Nature::Manifest, vec![item]);
        child.attestations = Completeness::Complete;
        child
    };
    let running = |children| {
        let mut scene = Scene {
            children,
            ..scene(vec![by_zero(Some("2026-11-22T11:00:00Z"), true)])
        };
        scene.own.nature = Nature::Index;
        scene
    };
    let good = running(vec![child("amd64", true), child("arm64", true)]);
    assert_eq!(good.clone().platform_only().answer(), compliant());
    let bad = running(vec![child("amd64", true), child("arm64", false)]);
    assert_eq!(
        bad.answer(),
        compliant(),
        "the index itself runs, and is attested"
    );
    assert_eq!(
        bad.platform_only().answer(),
        violating(Reason::AttestationRejected)
    );
    assert_eq!(
        running(vec![]).platform_only().answer(),
        unknown(Reason::Pending),
        "B23: no platform is not every platform"
    );
}

#[test]
fn an_envelope_in_a_layer_of_its_own_is_an_attestation_and_never_taken_for_a_broken_signature() {
    let layer = |payload: &str| {
        let bytes = Bytes::from(person(0).envelope(payload));
        Item::from_cosign_layer(Item::DSSE_ENVELOPE, &BTreeMap::new(), bytes)
    };
    let good = statement(&own(), TYPE, &predicate(Some("2026-11-22T11:00:00Z"), true));
    assert_eq!(scene(vec![layer(&good)]).answer(), compliant());
    let mut garbage = scene(vec![layer("garbage")]);
    assert_eq!(garbage.answer(), violating(Reason::AttestationInvalid));
    garbage.spec.require = vec![requirement("signed", &["release"], 1)];
    assert_eq!(garbage.answer(), violating(Reason::SignatureMissing));
}

/// B05, for signatures and attestations alike. Seen to fail with the clock alone in `is_within_validity`.
#[test]
fn b05_a_key_is_valid_at_the_time_that_is_vouched_for_else_by_the_clock() {
    let ended = |scene: Scene| {
        let mut scene = scene;
        scene.spec.require.push(requirement("signed", &["release"], 1));
        scene.release_key().not_before = Some(at("2026-11-10T00:00:00Z"));
        scene.release_key().not_after = Some(at("2026-11-20T00:00:00Z"));
        scene
    };
    let signed = || ageless(vec![by_zero(None, true), person(0).signs(&own())]);
    assert_eq!(ended(signed()).answer(), violating(Reason::KeyExpired));
    for (time, answer) in [
        ("2026-11-15T00:00:00Z", compliant()),
        ("2026-11-20T00:00:00Z", violating(Reason::KeyExpired)),
        ("2026-11-09T00:00:00Z", violating(Reason::KeyExpired)),
    ] {
        assert_eq!(ended(vouched(signed(), time)).answer(), answer, "{time}");
    }
    assert_eq!(at(NOW), signed().now);
}

#[test]
fn c5_04_an_attestation_rests_on_its_signer() {
    let scene = scene(vec![by_zero(Some("2026-11-22T11:00:00Z"), true)]);
    assert!(scene.rests_on(person(0)) && !scene.rests_on(person(1)));
}
