//! Which digests may carry the signature: what runs, the indexes that list it, its platform manifests.

use api::Reason;

use super::*;

fn signed(name: &str, nature: Nature) -> Knowledge {
    known(&digest(name), nature, vec![person(0).signs(&digest(name))])
}

fn unsigned(name: &str, nature: Nature) -> Knowledge {
    known(&digest(name), nature, vec![])
}

fn incomplete(mut knowledge: Knowledge) -> Knowledge {
    knowledge.completeness = Completeness::Incomplete(gap(Reason::RegistryUnavailable));
    knowledge
}

/// An unsigned manifest that a signed index lists.
fn child_of_signed_index() -> Scene {
    Scene {
        indexes: vec![signed("index", Nature::Index)],
        ..Scene::with(vec![])
    }
}

fn running_index(own: Knowledge, children: Vec<Knowledge>) -> Scene {
    Scene {
        own,
        children,
        ..Scene::with(vec![])
    }
}

#[test]
fn c3_09_b34_a_child_of_a_signed_index_passes_where_the_policy_accepts_indexes() {
    assert_eq!(child_of_signed_index().answer(), compliant());
    assert_eq!(
        child_of_signed_index().judge().relied_on,
        [person(0).fingerprint()]
    );
    assert!(child_of_signed_index().rests_on(person(0)));
}

#[test]
fn c3_09_b34_a_child_of_a_signed_index_fails_where_the_policy_accepts_platforms_only() {
    assert_eq!(
        child_of_signed_index().platform_only().answer(),
        violating(Reason::SignatureMissing)
    );
}

#[test]
fn c3_09_without_a_proven_index_a_child_has_only_its_own_signature() {
    assert_eq!(Scene::with(vec![]).answer(), violating(Reason::SignatureMissing));
    assert_eq!(Scene::signed().answer(), compliant());
}

#[test]
fn one_signed_index_of_several_is_enough() {
    let mut scene = child_of_signed_index();
    scene.indexes.insert(0, unsigned("another index", Nature::Index));
    assert_eq!(scene.answer(), compliant());
}

#[test]
fn an_index_that_could_not_be_read_keeps_a_failure_unknown() {
    let gapped = Scene {
        index_gap: Some(gap(Reason::RateLimited)),
        ..Scene::with(vec![])
    };
    assert_eq!(gapped.answer(), unknown(Reason::RateLimited));
    assert_eq!(
        gapped.clone().platform_only().answer(),
        violating(Reason::SignatureMissing),
        "it would not count"
    );
    let signed = Scene {
        index_gap: Some(gap(Reason::RateLimited)),
        ..Scene::signed()
    };
    assert_eq!(signed.answer(), compliant());
    let half_known = Scene {
        indexes: vec![incomplete(unsigned("index", Nature::Index))],
        ..Scene::with(vec![])
    };
    assert_eq!(half_known.answer(), unknown(Reason::RegistryUnavailable));
}

#[test]
fn signatures_of_different_digests_do_not_add_up_to_the_minimum() {
    let mut scene = Scene::signed();
    scene.spec = asking(&["build", "release"], 2);
    scene
        .keys
        .rings
        .insert("build".into(), vec![key("build-1", person(1), Stage::Active)]);
    scene.indexes = vec![known(
        &digest("index"),
        Nature::Index,
        vec![person(1).signs(&digest("index"))],
    )];
    assert_eq!(scene.answer(), violating(Reason::TooFewSigners));
}

#[test]
fn a_signature_of_the_index_does_not_count_as_one_of_the_child() {
    let scene = Scene::with(vec![person(0).signs(&digest("index"))]);
    assert_eq!(scene.answer(), violating(Reason::SignatureInvalid));
}

#[test]
fn what_the_index_tells_is_told_where_the_child_has_no_signature() {
    let mut scene = child_of_signed_index();
    scene.release_key().stage = Stage::Revoked;
    assert_eq!(scene.answer(), violating(Reason::KeyRevoked));
    assert!(
        scene
            .judge()
            .message
            .contains("the image or an index that lists it"),
        "{}",
        scene.judge().message
    );
}

#[test]
fn an_index_that_runs_is_judged_by_its_own_signature() {
    let children = vec![unsigned("amd64", Nature::Manifest)];
    assert_eq!(
        running_index(signed("own", Nature::Index), children).answer(),
        compliant()
    );
}

#[test]
fn b34_an_unsigned_index_with_signed_children_is_index_not_signed() {
    let children = vec![
        signed("amd64", Nature::Manifest),
        signed("arm64", Nature::Manifest),
    ];
    let scene = running_index(unsigned("own", Nature::Index), children);
    assert_eq!(scene.answer(), violating(Reason::IndexNotSigned));
    assert!(
        scene.judge().message.contains("Sign the index itself"),
        "{}",
        scene.judge().message
    );
}

#[test]
fn an_index_signed_by_a_stranger_is_signer_not_trusted() {
    let own = known(
        &digest("own"),
        Nature::Index,
        vec![person(4).signs(&digest("own"))],
    );
    assert_eq!(
        running_index(own, vec![]).answer(),
        violating(Reason::SignerNotTrusted)
    );
}

#[test]
fn c3_10_where_platforms_alone_count_every_child_of_a_running_index_must_be_signed() {
    let scene = |children| running_index(signed("own", Nature::Index), children).platform_only();
    let amd64 = || signed("amd64", Nature::Manifest);
    assert_eq!(
        scene(vec![amd64(), signed("arm64", Nature::Manifest)]).answer(),
        compliant()
    );
    let one_unsigned = scene(vec![amd64(), unsigned("arm64", Nature::Manifest)]);
    assert_eq!(one_unsigned.answer(), violating(Reason::SignatureMissing));
    let message = one_unsigned.judge().message;
    assert!(
        message.contains(&format!("the platform manifest {}", digest("arm64"))),
        "{message}"
    );
    let one_half_known = scene(vec![incomplete(unsigned("arm64", Nature::Manifest)), amd64()]);
    assert_eq!(one_half_known.answer(), unknown(Reason::RegistryUnavailable));
    let certain = scene(vec![
        incomplete(unsigned("arm64", Nature::Manifest)),
        unsigned("amd64", Nature::Manifest),
    ]);
    assert_eq!(certain.answer(), violating(Reason::SignatureMissing));
}

/// B23: an index without a known child is not an index of which every child is signed.
#[test]
fn b23_where_platforms_alone_count_no_known_child_is_unknown() {
    let scene = running_index(signed("own", Nature::Index), vec![]).platform_only();
    assert_eq!(scene.answer(), unknown(Reason::Pending));
    let scene = running_index(incomplete(signed("own", Nature::Index)), vec![]).platform_only();
    assert_eq!(scene.answer(), unknown(Reason::RegistryUnavailable));
}

#[test]
fn where_platforms_alone_count_what_was_not_read_may_be_an_index() {
    let scene = running_index(signed("own", Nature::NotRead), vec![]);
    assert_eq!(scene.answer(), compliant());
    assert_eq!(scene.clone().platform_only().answer(), unknown(Reason::Pending));
    let scene = running_index(incomplete(signed("own", Nature::NotRead)), vec![]).platform_only();
    assert_eq!(scene.answer(), unknown(Reason::RegistryUnavailable));
}
