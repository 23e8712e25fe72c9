//! What a revocation leaves of a signer's signatures.

use verify::{Outcome, TimeSource, TrustedTime};

use super::*;
use crate::Spared;

const BEFORE: &str = "2026-03-01T00:00:00Z";
const LEAK: &str = "2026-03-02T00:00:00Z";

/// An image whose only signer is revoked, but for this.
fn revoked(spared: Spared) -> Scene {
    let mut scene = Scene::signed();
    scene.release_key().stage = Stage::Revoked;
    scene.release_key().spared = Some(Arc::new(spared));
    scene
}

fn honouring(digests: &[Digest]) -> Spared {
    Spared {
        honoured: digests.iter().cloned().collect(),
        dated_before: None,
    }
}

/// Somebody vouches for the time of every signature of the scene.
fn dated(mut scene: Scene, time: &str) -> Scene {
    for item in &mut scene.own.items {
        for (_, outcome) in &mut item.outcomes {
            if let Outcome::Verified(claim) = outcome {
                let time = TrustedTime {
                    at: at(time),
                    source: TimeSource::TimestampAuthority,
                };
                claim.times = [time].into_iter().collect();
            }
        }
    }
    scene
}

fn before_the_leak() -> Spared {
    Spared {
        honoured: BTreeSet::new(),
        dated_before: Some(at(LEAK)),
    }
}

/// Weakened once: with any list taken for one that names this image, the other one counts.
#[test]
fn an_honoured_image_goes_on_counting_and_no_other_one() {
    assert_eq!(revoked(honouring(&[digest("own")])).answer(), compliant());
    assert_eq!(
        revoked(honouring(&[digest("other")])).answer(),
        violating(Reason::KeyRevoked)
    );
}

#[test]
fn an_honoured_image_that_an_index_is_signed_for_goes_on_counting() {
    let mut scene = revoked(honouring(&[digest("own")]));
    scene.own.items.clear();
    scene.indexes = vec![known(
        &digest("index"),
        Nature::Index,
        vec![person(0).signs(&digest("index"))],
    )];
    assert_eq!(scene.answer(), compliant());
    scene.release_key().spared = Some(Arc::new(honouring(&[digest("index")])));
    assert_eq!(scene.answer(), compliant());
    scene.release_key().spared = Some(Arc::new(honouring(&[digest("other")])));
    assert_eq!(scene.answer(), violating(Reason::KeyRevoked));
}

/// C5.03, B54. Weakened once: with a signature that nobody dates taken for an early one, it counts.
#[test]
fn what_is_dated_before_the_leak_counts_and_what_is_dated_at_it_or_by_nobody_does_not() {
    let answer = |time: &str| dated(revoked(before_the_leak()), time).answer();
    assert_eq!(answer(BEFORE), compliant());
    assert_eq!(answer(LEAK), violating(Reason::KeyRevoked));
    assert_eq!(revoked(before_the_leak()).answer(), violating(Reason::KeyRevoked));
}

#[test]
fn what_is_left_still_ends_with_the_key() {
    let mut scene = revoked(honouring(&[digest("own")]));
    scene.release_key().not_after = Some(at(BEFORE));
    assert_eq!(scene.answer(), violating(Reason::KeyExpired));
}

/// C5.05: while an answer of a signer is missing, what may be spared is not called a violation.
#[test]
fn a_signature_that_was_not_checked_yet_may_be_one_that_is_left() {
    let mut scene = revoked(before_the_leak());
    scene.own.items[0].outcomes.clear();
    assert_eq!(scene.answer(), unknown(Reason::Pending));
    scene.release_key().spared = Some(Arc::new(honouring(&[digest("other")])));
    assert_eq!(scene.answer().0, Verdict::Violating);
}

#[test]
fn the_image_rests_on_the_signer_that_goes_on_counting() {
    assert!(revoked(honouring(&[digest("own")])).rests_on(person(0)));
}
