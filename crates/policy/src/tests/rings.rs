//! Several rings, several keys, several requirements, the binding to a repository.

use api::{Reason, Stage};

use super::*;

/// Signed by these people; the rings `build` and `release` must both have signed.
fn two_of_two(signers: &[usize], keys: KeyRings) -> Scene {
    let mut scene = Scene::with(
        signers
            .iter()
            .map(|at| person(*at).signs(&digest("own")))
            .collect(),
    );
    scene.spec = asking(&["build", "release"], 2);
    scene.keys = keys;
    scene
}

fn build_and_release() -> KeyRings {
    rings(&[
        ("build", vec![key("build-1", person(1), Stage::Active)]),
        (
            "release",
            vec![
                key("release-1", person(0), Stage::Active),
                key("release-2", person(2), Stage::Active),
            ],
        ),
    ])
}

#[test]
fn two_rings_of_two_signed_is_compliant_and_rests_on_both() {
    let scene = two_of_two(&[0, 1], build_and_release());
    assert_eq!(scene.answer(), compliant());
    assert!(scene.rests_on(person(0)) && scene.rests_on(person(1)));
    let mut both = [person(0).fingerprint(), person(1).fingerprint()];
    both.sort();
    assert_eq!(scene.judge().relied_on, both);
}

#[test]
fn one_ring_of_two_is_too_few_signers() {
    let scene = two_of_two(&[0], build_and_release());
    assert_eq!(scene.answer(), violating(Reason::TooFewSigners));
    let message = scene.judge().message;
    assert!(
        message.contains("each of the key rings build, release"),
        "{message}"
    );
    assert!(
        message.contains("only key ring release (SigningKey release-1)"),
        "{message}"
    );
}

/// Weakened once: with signers counted in the place of rings, the two versions are two.
#[test]
fn b45_the_old_and_the_new_version_of_one_ring_count_once() {
    assert_eq!(
        two_of_two(&[0, 2], build_and_release()).answer(),
        violating(Reason::TooFewSigners)
    );
}

#[test]
fn b06_one_key_under_two_rings_counts_once() {
    let keys = rings(&[
        ("build", vec![key("build-1", person(0), Stage::Active)]),
        ("release", vec![key("release-1", person(0), Stage::Active)]),
    ]);
    let scene = two_of_two(&[0], keys);
    assert_eq!(scene.answer(), violating(Reason::TooFewSigners));
    assert!(
        scene.judge().message.contains("one key counts once"),
        "{}",
        scene.judge().message
    );
}

#[test]
fn b06_a_key_under_two_rings_serves_the_ring_that_has_no_other_signer() {
    let keys = rings(&[
        ("build", vec![key("build-1", person(0), Stage::Active)]),
        (
            "release",
            vec![
                key("release-1", person(0), Stage::Active),
                key("release-2", person(2), Stage::Active),
            ],
        ),
    ]);
    assert_eq!(two_of_two(&[0, 2], keys).answer(), compliant());
}

#[test]
fn a_ring_short_of_the_minimum_says_which_key_does_not_count() {
    let mut keys = build_and_release();
    keys.rings.get_mut("build").unwrap()[0].stage = Stage::Revoked;
    let scene = two_of_two(&[0, 1], keys);
    assert_eq!(scene.answer(), violating(Reason::TooFewSigners));
    assert!(
        scene.judge().message.contains("SigningKey build-1 is revoked"),
        "{}",
        scene.judge().message
    );
}

#[test]
fn a_missing_ring_matters_only_if_it_could_make_up_what_is_missing() {
    let release_only = || rings(&[("release", vec![key("release-1", person(0), Stage::Active)])]);
    let beside_a_stranger = two_of_two(&[0, 4], release_only());
    assert_eq!(beside_a_stranger.answer(), unknown(Reason::KeyMissing));
    let alone = two_of_two(&[0], release_only());
    assert_eq!(
        alone.answer(),
        violating(Reason::TooFewSigners),
        "no signature is left for the missing ring"
    );
    let mut three = two_of_two(&[0, 4], release_only());
    three.spec = asking(&["build", "release", "review"], 3);
    three
        .keys
        .rings
        .insert("review".into(), vec![key("review-1", person(3), Stage::Active)]);
    assert_eq!(
        three.answer(),
        violating(Reason::TooFewSigners),
        "review did not sign, whoever build is"
    );
}

#[test]
fn one_signature_by_an_unknown_key_serves_one_missing_ring() {
    let scene = two_of_two(&[4], rings(&[]));
    assert_eq!(scene.answer(), violating(Reason::SignerNotTrusted));
    assert_eq!(
        two_of_two(&[3, 4], rings(&[])).answer(),
        unknown(Reason::KeyMissing)
    );
}

#[test]
fn c5_01_either_key_of_a_ring_satisfies_and_none_is_sole_trust() {
    let mut scene = Scene::with(vec![
        person(0).signs(&digest("own")),
        person(2).signs(&digest("own")),
    ]);
    scene.keys = build_and_release();
    assert_eq!(scene.answer(), compliant());
    assert!(!scene.rests_on(person(0)) && !scene.rests_on(person(2)));
    let mut only_one = Scene::with(vec![person(2).signs(&digest("own"))]);
    only_one.keys = build_and_release();
    assert_eq!(only_one.answer(), compliant());
    assert!(only_one.rests_on(person(2)));
    assert!(!only_one.rests_on(person(0)), "it did not sign");
    assert!(!only_one.rests_on(person(1)), "its ring is not asked for");
}

#[test]
fn nothing_rests_on_a_key_where_the_verdict_cannot_get_worse() {
    let mut scene = Scene::signed();
    scene.release_key().stage = Stage::Revoked;
    assert!(!scene.rests_on(person(0)));
}

#[test]
fn every_requirement_must_hold_and_the_worst_is_told() {
    let mut scene = Scene::signed();
    scene.keys = build_and_release();
    scene.spec.require.push(requirement("reviewed", &["review"], 1));
    scene.spec.require.push(requirement("built", &["build"], 1));
    let judgement = scene.judge();
    assert_eq!(
        (judgement.verdict, judgement.reason),
        violating(Reason::SignerNotTrusted)
    );
    assert_eq!(
        judgement.requirement.as_deref(),
        Some("built"),
        "the one before it is only unknown"
    );
    assert_eq!(judgement.relied_on, []);
    scene.spec.require.pop();
    scene
        .own
        .items
        .push(checked(&digest("own"), person(4).signs(&digest("own"))));
    let judgement = scene.judge();
    assert_eq!((judgement.verdict, judgement.reason), unknown(Reason::KeyMissing));
    assert_eq!(judgement.requirement.as_deref(), Some("reviewed"));
}

#[test]
fn of_equally_bad_requirements_the_first_is_told() {
    let mut scene = Scene::with(vec![]);
    scene.spec.require = vec![
        requirement("second-name", &["release"], 1),
        requirement("a-name", &["release"], 1),
    ];
    assert_eq!(scene.judge().requirement.as_deref(), Some("second-name"));
}

#[test]
fn of_several_requirements_that_cannot_be_told_the_first_is_told() {
    let mut scene = Scene::with(vec![person(4).signs(&digest("own"))]);
    scene.keys = rings(&[]);
    scene.spec.require = vec![
        requirement("second-name", &["build"], 1),
        requirement("a-name", &["release"], 1),
    ];
    let judgement = scene.judge();
    assert_eq!((judgement.verdict, judgement.reason), unknown(Reason::KeyMissing));
    assert_eq!(judgement.requirement.as_deref(), Some("second-name"));
}

/// C2.05: an admission check may be told to overlook an outage, so one hides nothing else.
/// Fails on a build in which the first doubt is told, whatever it is.
#[test]
fn c2_05_an_outage_is_told_only_where_nothing_else_is_in_doubt() {
    let mut scene = Scene::with(vec![]);
    scene.own.completeness = Completeness::Incomplete(gap(Reason::RegistryUnavailable));
    let mut other = requirement("second", &["release"], 1);
    other.signature = None;
    other.attestation = Some(api::AttestationRequirement {
        predicate_type: "https://example.com/review/v1".into(),
        signed_by: vec!["release".into()],
        max_age: None,
        validations: Vec::new(),
    });
    scene.spec.require.push(other);
    scene.own.attestations = Completeness::Incomplete(gap(Reason::EvidenceTooLarge));
    let judgement = scene.judge();
    assert_eq!(
        (judgement.verdict, judgement.reason),
        unknown(Reason::EvidenceTooLarge)
    );
    assert_eq!(judgement.requirement.as_deref(), Some("second"));
    scene.own.attestations = Completeness::Incomplete(gap(Reason::RateLimited));
    assert_eq!(scene.answer(), unknown(Reason::RegistryUnavailable));
}

fn bound(item: verify::Item) -> Scene {
    let mut scene = Scene::with(vec![item]);
    assert_eq!(
        scene.answer(),
        compliant(),
        "it counts where the repository is not bound"
    );
    scene.spec.bind_repository = Some(true);
    scene
}

#[test]
fn b14_a_bound_signature_counts_for_the_repository_that_it_names_and_for_no_other() {
    let here = person(0).signs_for(&digest("own"), REPOSITORY);
    assert_eq!(bound(here).answer(), compliant());
    let tagged = person(0).signs_for(&digest("own"), "registry.example.com/shop/web:1.0");
    assert_eq!(bound(tagged).answer(), compliant());
    let elsewhere = person(0).signs_for(&digest("own"), "registry.example.com/other/web");
    assert_eq!(bound(elsewhere).answer(), violating(Reason::SignatureInvalid));
    for unreadable in ["", "Not A Reference"] {
        let item = person(0).signs_for(&digest("own"), unreadable);
        assert_eq!(
            bound(item).answer(),
            violating(Reason::SignatureInvalid),
            "{unreadable:?}"
        );
    }
}

#[test]
fn c3_15_a_bound_repository_is_compared_in_its_normal_form() {
    let mut scene = bound(person(0).signs_for(&digest("own"), "index.docker.io/library/nginx"));
    scene.repository = Some("nginx".parse().unwrap());
    assert_eq!(scene.answer(), compliant());
}

#[test]
fn a_bundle_names_no_repository_and_does_not_count_where_one_is_bound() {
    let scene = bound(person(0).signs_as_bundle(&digest("own")));
    assert_eq!(scene.answer(), violating(Reason::SignatureInvalid));
    assert!(
        scene.judge().message.contains("names no repository"),
        "{}",
        scene.judge().message
    );
}
