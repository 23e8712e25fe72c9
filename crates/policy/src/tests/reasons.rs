//! One test for each reason that one signer and one digest can give, with the message that goes with it.

use api::{Reason, Stage, Verdict};

use super::*;

fn message(scene: &Scene) -> String {
    let judgement = scene.judge();
    assert_ne!(judgement.verdict, Verdict::Compliant);
    assert!(judgement.message.chars().count() <= 512, "{}", judgement.message);
    judgement.message
}

fn assert_says(scene: &Scene, parts: &[&str]) {
    let message = message(scene);
    for part in parts {
        assert!(message.contains(part), "{part:?} is not in {message:?}");
    }
}

fn with_stage(stage: Stage) -> Scene {
    let mut scene = Scene::signed();
    scene.release_key().stage = stage;
    scene
}

#[test]
fn a_signature_by_a_trusted_key_makes_it_compliant_and_nothing_is_said() {
    let judgement = Scene::signed().judge();
    assert_eq!((judgement.verdict, judgement.reason), compliant());
    assert_eq!(judgement.message, "");
    assert_eq!(judgement.requirement, None);
    assert_eq!(judgement.relied_on, [person(0).fingerprint()]);
}

#[test]
fn a_bundle_counts_as_the_tag_format_does() {
    assert_eq!(
        Scene::with(vec![person(0).signs_as_bundle(&digest("own"))]).answer(),
        compliant()
    );
}

#[test]
fn a_retiring_key_still_counts_for_what_runs() {
    assert_eq!(with_stage(Stage::Retiring).answer(), compliant());
}

#[test]
fn no_signature_is_signature_missing() {
    let scene = Scene::with(vec![]);
    assert_eq!(scene.answer(), violating(Reason::SignatureMissing));
    assert_eq!(scene.judge().requirement.as_deref(), Some("release-signature"));
    assert_says(
        &scene,
        &[
            "release-signature",
            "key ring release",
            "found no signature",
            "Sign the image",
        ],
    );
}

#[test]
fn b41_an_attestation_is_not_a_signature() {
    let scene = Scene::with(vec![person(0).attests(&digest("own"))]);
    assert_eq!(scene.answer(), violating(Reason::SignatureMissing));
    assert_says(
        &scene,
        &["attestations or signed blobs, which are not signatures"],
    );
}

#[test]
fn b41_a_signed_blob_is_not_a_signature() {
    assert_eq!(
        Scene::with(vec![person(0).signs_blob()]).answer(),
        violating(Reason::SignatureMissing)
    );
}

#[test]
fn a_signature_by_a_stranger_is_signer_not_trusted() {
    let mut scene = Scene::with(vec![person(4).signs(&digest("own"))]);
    assert_eq!(scene.answer(), violating(Reason::SignerNotTrusted));
    assert_says(&scene, &["a key that Assay does not know"]);
    scene
        .keys
        .rings
        .insert("testing".into(), vec![key("testing-1", person(4), Stage::Active)]);
    assert_eq!(scene.answer(), violating(Reason::SignerNotTrusted));
    assert_says(&scene, &["SigningKey testing-1 (key ring testing)"]);
}

#[test]
fn b02_signed_garbage_is_signature_invalid() {
    let scene = Scene::with(vec![person(0).signs_payload("this is no payload")]);
    assert_eq!(scene.answer(), violating(Reason::SignatureInvalid));
    assert_says(
        &scene,
        &["in the name of SigningKey release-2026", "does not count"],
    );
}

#[test]
fn c3_13_a_signature_of_another_digest_is_signature_invalid() {
    let scene = Scene::with(vec![person(0).signs(&digest("another"))]);
    assert_eq!(scene.answer(), violating(Reason::SignatureInvalid));
    assert_says(&scene, &["for another digest"]);
}

#[test]
fn c3_13_a_claim_about_another_digest_does_not_count_although_it_is_called_verified() {
    let mut scene = Scene::with(vec![]);
    scene.own.items = known(
        &digest("another"),
        Nature::Manifest,
        vec![person(0).signs(&digest("another"))],
    )
    .items;
    assert_eq!(scene.answer(), violating(Reason::SignatureInvalid));
}

#[test]
fn only_what_cannot_be_read_is_signature_invalid() {
    for item in [malformed(), person(4).signs_payload("garbage by a stranger")] {
        let scene = Scene::with(vec![item]);
        assert_eq!(scene.answer(), violating(Reason::SignatureInvalid));
        assert_says(&scene, &["cannot be read as a signature"]);
    }
}

#[test]
fn something_that_cannot_be_read_spoils_no_good_signature() {
    let scene = Scene::with(vec![
        malformed(),
        oversized(),
        person(4).signs(&digest("own")),
        person(0).signs(&digest("own")),
    ]);
    assert_eq!(scene.answer(), compliant());
}

#[test]
fn c5_05_a_revoked_key_is_key_revoked() {
    assert_eq!(with_stage(Stage::Revoked).answer(), violating(Reason::KeyRevoked));
    assert_says(
        &with_stage(Stage::Revoked),
        &["SigningKey release-2026 is revoked", "suspect"],
    );
}

#[test]
fn a_disabled_key_is_key_disabled() {
    assert_eq!(
        with_stage(Stage::Disabled).answer(),
        violating(Reason::KeyDisabled)
    );
    assert_says(
        &with_stage(Stage::Disabled),
        &["SigningKey release-2026 is disabled"],
    );
}

#[test]
fn a_staged_key_does_not_count_yet() {
    assert_eq!(with_stage(Stage::Staged).answer(), violating(Reason::KeyStaged));
    assert_says(&with_stage(Stage::Staged), &["SigningKey release-2026 is staged"]);
}

#[test]
fn b05_a_key_outside_its_validity_is_key_expired_on_either_side() {
    let mut ended = Scene::signed();
    ended.release_key().not_after = Some(ended.now);
    assert_eq!(ended.answer(), violating(Reason::KeyExpired));
    assert_says(&ended, &["SigningKey release-2026 is outside its validity"]);
    let mut ahead = Scene::signed();
    ahead.release_key().not_before = Some(at("2026-11-22T12:00:00.000000001Z"));
    assert_eq!(ahead.answer(), violating(Reason::KeyExpired));
}

/// The worst state of a key that signed is told first.
#[test]
fn of_several_keys_that_do_not_count_revoked_is_told_before_disabled_expired_and_staged() {
    let items = (0..4).map(|at| person(at).signs(&digest("own"))).collect();
    let mut scene = Scene::with(items);
    let mut expired = key("expired", person(2), Stage::Active);
    expired.not_after = Some(scene.now);
    let mut keys = vec![
        key("revoked", person(0), Stage::Revoked),
        key("disabled", person(1), Stage::Disabled),
        expired,
        key("staged", person(3), Stage::Staged),
    ];
    for reason in [
        Reason::KeyRevoked,
        Reason::KeyDisabled,
        Reason::KeyExpired,
        Reason::KeyStaged,
    ] {
        scene.keys = rings(&[("release", keys.clone())]);
        assert_eq!(scene.answer(), violating(reason));
        keys.remove(0);
    }
}

#[test]
fn a_key_that_does_not_count_is_told_before_strangers_and_garbage() {
    let mut scene = Scene::with(vec![
        person(0).signs(&digest("own")),
        person(0).signs_payload("garbage"),
        person(4).signs(&digest("own")),
        malformed(),
    ]);
    scene.release_key().stage = Stage::Revoked;
    assert_eq!(scene.answer(), violating(Reason::KeyRevoked));
}

#[test]
fn an_absence_that_is_not_proven_is_unknown_with_the_reason_of_the_gap() {
    let reasons = [
        Reason::RegistryUnavailable,
        Reason::RegistryDenied,
        Reason::RateLimited,
        Reason::EvidenceTooLarge,
        Reason::ImageNotFound,
        Reason::Pending,
    ];
    for reason in reasons {
        let mut scene = Scene::with(vec![person(4).signs(&digest("own"))]);
        scene.own.completeness = Completeness::Incomplete(gap(reason));
        assert_eq!(scene.answer(), unknown(reason));
        assert_says(&scene, &["503 Service Unavailable"]);
        assert!(
            !message(&scene).contains("wiki.example.com"),
            "the remediation is for violations"
        );
    }
}

#[test]
fn a_digest_that_was_never_asked_about_is_pending() {
    let mut scene = Scene::with(vec![]);
    scene.own.completeness = Completeness::NeverAsked;
    assert_eq!(scene.answer(), unknown(Reason::Pending));
}

#[test]
fn a_good_signature_counts_whatever_else_is_not_known() {
    for completeness in [
        Completeness::NeverAsked,
        Completeness::Incomplete(gap(Reason::RegistryUnavailable)),
    ] {
        let mut scene = Scene::signed();
        scene.own.completeness = completeness;
        assert_eq!(scene.answer(), compliant());
    }
}

#[test]
fn b15_an_item_too_large_to_be_read_is_unknown_not_violating() {
    let scene = Scene::with(vec![oversized()]);
    assert_eq!(scene.answer(), unknown(Reason::EvidenceTooLarge));
    assert_says(&scene, &["larger than the limit"]);
    let signed_but_bottomless = Scene::with(vec![person(0).signs_payload(&bottomless())]);
    assert_eq!(signed_but_bottomless.answer(), unknown(Reason::EvidenceTooLarge));
}

#[test]
fn an_item_of_a_later_format_is_unknown() {
    let scene = Scene::with(vec![of_the_future()]);
    assert_eq!(scene.answer(), unknown(Reason::Pending));
    assert_says(&scene, &["upgrade Assay"]);
}

#[test]
fn a_key_that_was_not_asked_about_an_item_is_pending() {
    let mut scene = Scene::signed();
    scene.own.items[0]
        .outcomes
        .retain(|(asked, _)| *asked != person(0).verifier().id());
    assert_eq!(scene.answer(), unknown(Reason::Pending));
}

#[test]
fn f09_a_ring_without_a_key_is_key_missing_where_it_could_matter() {
    for keys in [rings(&[]), rings(&[("release", vec![])])] {
        let mut scene = Scene::signed();
        scene.keys = keys;
        assert_eq!(scene.answer(), unknown(Reason::KeyMissing));
        assert_says(&scene, &["no SigningKey has key ring release"]);
    }
}

#[test]
fn an_image_without_any_signature_violates_even_where_the_ring_has_no_key() {
    let mut scene = Scene::with(vec![person(0).attests(&digest("own"))]);
    scene.keys = rings(&[]);
    assert_eq!(scene.answer(), violating(Reason::SignatureMissing));
}

#[test]
fn a_key_that_cannot_be_read_is_key_missing_where_it_could_matter() {
    let mut scene = Scene::signed();
    scene.release_key().fingerprint = None;
    scene.release_key().verifier = None;
    assert_eq!(scene.answer(), unknown(Reason::KeyMissing));
    assert_says(&scene, &["SigningKey release-2026", "cannot be read"]);
    for stage in [Stage::Staged, Stage::Disabled, Stage::Revoked] {
        scene.release_key().stage = stage;
        assert_eq!(
            scene.answer(),
            violating(Reason::SignerNotTrusted),
            "{stage:?} would not count if it could be read"
        );
    }
    scene.release_key().stage = Stage::Other;
    assert_eq!(scene.answer(), unknown(Reason::KeyMissing));
    scene.release_key().not_after = Some(scene.now);
    assert_eq!(scene.answer(), violating(Reason::SignerNotTrusted));
}

#[test]
fn a_key_in_a_stage_of_a_later_version_is_unknown_and_never_counts() {
    let scene = with_stage(Stage::Other);
    assert_eq!(scene.answer(), unknown(Reason::KeyMissing));
    assert_says(
        &scene,
        &[
            "SigningKey release-2026",
            "a stage that this version of Assay does not know",
        ],
    );
}

#[test]
fn a_revoked_key_stays_revoked_although_another_key_of_its_ring_cannot_be_read() {
    let mut scene = with_stage(Stage::Revoked);
    let unreadable = Key {
        fingerprint: None,
        verifier: None,
        ..key("release-2027", person(1), Stage::Active)
    };
    scene.keys.rings.get_mut("release").unwrap().push(unreadable);
    assert_eq!(scene.answer(), violating(Reason::KeyRevoked));
}

#[test]
fn c3_01_a_tag_violates_require_digest_whatever_else_is_known() {
    let mut scene = Scene::signed();
    scene.pinned = false;
    assert_eq!(scene.answer(), compliant());
    scene.spec.require_digest = Some(true);
    assert_eq!(scene.answer(), violating(Reason::TagNotPinned));
    assert_eq!(scene.judge().requirement, None);
    assert_says(&scene, &["by tag", "@sha256:"]);
    scene.running = None;
    assert_eq!(
        scene.answer(),
        violating(Reason::TagNotPinned),
        "the spec is known before the container starts"
    );
}

#[test]
fn a_container_that_has_not_started_is_pending() {
    let scene = Scene {
        running: None,
        ..Scene::signed()
    };
    assert_eq!(scene.answer(), unknown(Reason::Pending));
    assert_says(&scene, &["not started"]);
}

#[test]
fn c3_08_a_digest_that_cannot_be_told_is_digest_unresolved() {
    let scene = Scene {
        running: Some(false),
        ..Scene::signed()
    };
    assert_eq!(scene.answer(), unknown(Reason::DigestUnresolved));
    assert_says(&scene, &["the runtime names only the id of a local image"]);
}

#[test]
fn an_image_reference_that_cannot_be_read_is_digest_unresolved_and_never_compliant() {
    let mut scene = Scene {
        repository: None,
        pinned: false,
        ..Scene::signed()
    };
    assert_eq!(scene.answer(), unknown(Reason::DigestUnresolved));
    scene.spec.require_digest = Some(true);
    assert_eq!(
        scene.answer(),
        unknown(Reason::DigestUnresolved),
        "whether it is pinned cannot be told either"
    );
}

#[test]
fn every_message_about_a_violation_ends_with_the_remediation() {
    let mut tag = Scene {
        pinned: false,
        ..Scene::signed()
    };
    tag.spec.require_digest = Some(true);
    for scene in [tag, Scene::with(vec![]), with_stage(Stage::Revoked)] {
        assert!(
            message(&scene).ends_with("See https://wiki.example.com/signing."),
            "{}",
            message(&scene)
        );
    }
}
