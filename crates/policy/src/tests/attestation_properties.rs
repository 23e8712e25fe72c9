//! Rules that hold for attestations whatever is known: generated evidence, ages, keys and times.

use proptest::prelude::*;
use verify::{Outcome, TimeSource, TrustedTime};

use super::attestations::{review, reviewed};
use super::time::says_what_it_becomes;
use super::*;
use crate::evaluate::badness;

/// Hours around the scenes' now at which something was made.
const HOURS: [Option<i64>; 6] = [None, Some(-30), Some(-10), Some(-10), Some(-1), Some(2)];
const SIGNERS: [usize; 3] = [0, 1, 4];

fn hour(offset: i64) -> Timestamp {
    at("2026-11-22T12:00:00Z") + jiff::SignedDuration::from_hours(offset)
}

/// Every attestation that a scene may hold: signing takes time, so each is made once.
static POOL: LazyLock<Vec<ItemFacts>> = LazyLock::new(|| {
    let own = digest("own");
    let mut pool = Vec::new();
    for signer in SIGNERS {
        for time in HOURS {
            for good in [true, false] {
                let text = time.map(|offset| hour(offset).to_string());
                pool.push(checked(&own, review(person(signer), &own, text.as_deref(), good)));
            }
        }
    }
    pool.extend([malformed(), oversized(), person(0).states("garbage")].map(|item| checked(&own, item)));
    pool
});

/// An item, and the hours at which a timestamp vouches for it and at which its certificate begins.
fn item() -> impl Strategy<Value = ItemFacts> {
    let hours = || proptest::option::weighted(0.2, -40i64..4);
    (0..POOL.len(), hours(), hours()).prop_map(|(at, vouched, certified)| {
        let mut item = POOL[at].clone();
        for (_, outcome) in &mut item.outcomes {
            if let Outcome::Verified(claim) = outcome {
                let time = |offset| TrustedTime {
                    at: hour(offset),
                    source: TimeSource::TransparencyLog,
                };
                claim.times = vouched.map(time).into_iter().collect();
                claim.created_after = certified.map(hour);
            }
        }
        item
    })
}

fn any_key() -> impl Strategy<Value = Key> {
    let stage = prop_oneof![
        6 => Just(Stage::Active), 1 => Just(Stage::Revoked), 1 => Just(Stage::Staged), 1 => Just(Stage::Other)
    ];
    let limit = || proptest::option::weighted(0.2, (-20i64..20).prop_map(hour));
    (0usize..2, stage, limit(), limit()).prop_map(|(at, stage, not_before, not_after)| Key {
        stage,
        not_before,
        not_after,
        ..key(&format!("key-{at}"), person(at), Stage::Active)
    })
}

fn any_scene() -> impl Strategy<Value = Scene> {
    let completeness = prop_oneof![
        5 => Just(Completeness::Complete),
        1 => Just(Completeness::NeverAsked),
        1 => Just(Completeness::Incomplete(gap(Reason::RegistryUnavailable))),
    ];
    let items = proptest::collection::vec(item(), 0..5);
    let keys = proptest::collection::vec(any_key(), 0..3);
    (items, completeness, keys, any::<bool>()).prop_map(|(items, completeness, keys, aged)| {
        let mut scene = Scene::with(vec![]);
        scene.own.items = items;
        scene.own.attestations = completeness;
        scene.keys = rings(&[("release", keys)]);
        scene.spec.require = vec![reviewed(aged.then_some("24h"))];
        scene
    })
}

fn answer_at(scene: &Scene, now: Timestamp) -> (Verdict, Reason) {
    let judgement = scene.judge_at(now);
    (judgement.verdict, judgement.reason)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn c4_06_the_order_in_which_attestations_come_changes_nothing(scene in any_scene(), turn in 0usize..5) {
        let mut other = scene.clone();
        other.own.items.reverse();
        let length = other.own.items.len().max(1);
        other.own.items.rotate_left(turn % length);
        other.own.items.iter_mut().for_each(|item| item.outcomes.reverse());
        other.keys.rings.values_mut().for_each(|keys| keys.reverse());
        prop_assert_eq!(answer_at(&other, scene.now), answer_at(&scene, scene.now));
    }

    #[test]
    fn every_judgement_says_what_fits(scene in any_scene()) {
        let judgement = scene.judge();
        prop_assert!(judgement.message.chars().count() <= 512);
        prop_assert_eq!(judgement.message.is_empty(), judgement.verdict == Verdict::Compliant);
        prop_assert_eq!(judgement.relied_on.is_empty(), judgement.verdict != Verdict::Compliant);
    }

    /// Against every hour in which anything can happen, and the nanosecond before it.
    #[test]
    fn valid_until_is_exact_for_ages_too(scene in any_scene()) {
        let judgement = scene.judge();
        let now = (judgement.verdict, judgement.reason);
        let hours = (1..60).map(hour).flat_map(|hour| [hour - jiff::SignedDuration::from_nanos(1), hour]);
        let before: Vec<Timestamp> = hours
            .filter(|then| judgement.valid_until.is_none_or(|until| *then < until))
            .collect();
        for (then, answer) in before.iter().zip(scene.answers_at(before.iter().copied())) {
            prop_assert_eq!(answer, now, "at {} before {:?}", then, judgement.valid_until);
        }
        if let Some(until) = judgement.valid_until {
            prop_assert!(until > scene.now);
            prop_assert_ne!(scene.answers_at([until])[0], now);
        }
        prop_assert!(says_what_it_becomes(&scene, &judgement));
    }

    /// Recomputed from the facts: what is relied on is good, by a key in use, and no older than asked.
    #[test]
    fn compliant_rests_on_a_good_attestation_by_a_key_in_use(scene in any_scene()) {
        let aged = scene.spec.require[0].attestation.as_ref().unwrap().max_age.is_some();
        for fingerprint in scene.judge().relied_on {
            let keys = scene.keys.rings.values().flatten();
            let in_use = keys.filter(|key| key.fingerprint == Some(fingerprint) && key.stage == Stage::Active);
            let verifiers: Vec<_> = in_use.filter_map(|key| key.verifier).collect();
            let supports = |item: &ItemFacts| {
                let Ok(Some(statement)) = item.item.statement() else { return false };
                let claims = verifiers.iter().filter_map(|verifier| match item.outcome(verifier) {
                    Some(Outcome::Verified(claim)) => Some(claim),
                    _ => None,
                });
                let own = statement.predicate()["timestamp"].as_str().map(at);
                let bound = |claim: &verify::Claim| claim.created_after.or(own.map(|own| own.min(claim.times.earliest().unwrap_or(own))));
                let fresh = |claim: &verify::Claim| bound(claim).is_some_and(|time| time > hour(-24) && time <= scene.now);
                statement.predicate()["approved"] == true && claims.into_iter().any(|claim| !aged || fresh(claim))
            };
            prop_assert!(scene.own.items.iter().any(supports));
        }
    }

    /// B43: what a stranger adds makes nothing better and takes nothing good away.
    #[test]
    fn b43_what_a_stranger_attests_changes_no_verdict_for_the_better_and_spoils_none(
        scene in any_scene(), time in 0usize..HOURS.len(), good: bool,
    ) {
        let mut more = scene.clone();
        let stranger = SIGNERS.len() - 1;
        more.own.items.push(POOL[(stranger * HOURS.len() + time) * 2 + usize::from(!good)].clone());
        let (before, after) = (scene.judge().verdict, more.judge().verdict);
        prop_assert_eq!(before == Verdict::Compliant, after == Verdict::Compliant);
    }

    #[test]
    fn a_gap_never_turns_anything_violating_nor_compliant_among_attestations(scene in any_scene()) {
        let mut gapped = scene.clone();
        gapped.own.attestations = Completeness::Incomplete(gap(Reason::RegistryUnavailable));
        let (before, after) = (scene.judge().verdict, gapped.judge().verdict);
        prop_assert!(after == before || after == Verdict::Unknown);
        prop_assert!(badness(after) >= badness(before).min(badness(Verdict::Unknown)));
        prop_assert_ne!(after, Verdict::Violating);
    }
}
