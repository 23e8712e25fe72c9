//! Rules that hold whatever is known: generated evidence, keys, policies and times.

use api::Reason;
use proptest::prelude::*;
use verify::Item;

use super::time::says_what_it_becomes;
use super::*;
use crate::evaluate::badness;

/// What may be attached to a digest; signing takes time, so each thing is made once for each digest.
struct Pool {
    digest: Digest,
    items: Vec<ItemFacts>,
}

/// In each pool, the first entries: good signatures of people 0 to 4.
static POOLS: LazyLock<[Pool; 4]> = LazyLock::new(|| ["own", "index", "amd64", "arm64"].map(Pool::of));

impl Pool {
    fn of(name: &str) -> Self {
        let digest = digest(name);
        let signatures = PEOPLE.iter().map(|person| person.signs(&digest));
        let other_repository = PEOPLE
            .iter()
            .map(|person| person.signs_for(&digest, "registry.example.com/other"));
        let bundles = PEOPLE.iter().map(|person| person.signs_as_bundle(&digest));
        let odd = |person: &Person| -> Vec<Item> {
            vec![
                person.attests(&digest),
                person.signs_blob(),
                person.signs_payload("garbage"),
                person.signs_payload(&bottomless()),
                person.signs(&super::digest("another")),
            ]
        };
        let items = signatures
            .chain(other_repository)
            .chain(bundles)
            .chain(odd(person(0)))
            .chain(odd(person(4)))
            .chain([malformed(), oversized(), of_the_future()])
            .map(|item| checked(&digest, item))
            .collect();
        Self { digest, items }
    }
}

fn knowledge(pool: usize) -> impl Strategy<Value = Knowledge> {
    let picks = proptest::collection::btree_set(0..POOLS[pool].items.len(), 0..5);
    let nature = prop_oneof![
        4 => Just(Nature::Manifest),
        2 => Just(Nature::Index),
        1 => Just(Nature::NotRead),
    ];
    (picks, nature, completeness(), any::<[bool; 8]>()).prop_map(
        move |(picks, nature, completeness, asked)| {
            let mut items: Vec<ItemFacts> = picks.iter().map(|at| POOLS[pool].items[*at].clone()).collect();
            // Now and then a key was not asked yet.
            if asked.iter().all(|bit| !bit) {
                items.iter_mut().for_each(|item| item.outcomes.truncate(2));
            }
            Knowledge {
                digest: POOLS[pool].digest.clone(),
                nature,
                items,
                completeness,
                attestations: Completeness::NeverAsked,
                forgotten: BTreeMap::new(),
            }
        },
    )
}

fn completeness() -> impl Strategy<Value = Completeness> {
    prop_oneof![
        6 => Just(Completeness::Complete),
        1 => Just(Completeness::NeverAsked),
        1 => Just(Completeness::Incomplete(gap(Reason::RegistryUnavailable))),
    ]
}

/// Seconds around the scenes' now, few enough that they meet.
fn moment() -> impl Strategy<Value = Timestamp> {
    (0i64..8).prop_map(|step| at("2026-11-22T12:00:00Z") + jiff::SignedDuration::from_hours(step - 4))
}

fn any_key() -> impl Strategy<Value = Key> {
    let stage = prop_oneof![
        6 => Just(Stage::Active),
        2 => Just(Stage::Retiring),
        1 => Just(Stage::Staged),
        1 => Just(Stage::Disabled),
        1 => Just(Stage::Revoked),
        1 => Just(Stage::Other),
    ];
    let picked = prop_oneof![9 => (0usize..4).prop_map(Some), 1 => Just(None)];
    let limit = || proptest::option::weighted(0.25, moment());
    (picked, stage, limit(), limit()).prop_map(|(at, stage, not_before, not_after)| Key {
        name: format!("key-{}", at.map_or("unreadable".to_owned(), |at| at.to_string())).into(),
        fingerprint: at.map(|at| person(at).fingerprint()),
        verifier: at.map(|at| person(at).verifier().id()),
        stage,
        not_before,
        not_after,
        spared: None,
    })
}

const RINGS: [&str; 3] = ["build", "release", "review"];

fn any_rings() -> impl Strategy<Value = KeyRings> {
    let keys = || proptest::collection::vec(any_key(), 0..3);
    proptest::collection::vec(proptest::option::weighted(0.9, keys()), RINGS.len()).prop_map(|all| KeyRings {
        rings: RINGS
            .iter()
            .zip(all)
            .filter_map(|(name, keys)| Some((Arc::from(*name), keys?)))
            .collect(),
        vetoes: Vec::new(),
    })
}

fn any_spec() -> impl Strategy<Value = ImagePolicySpec> {
    let rule = (1usize..=RINGS.len(), 1i32..=3).prop_map(|(rings, minimum)| {
        let minimum = minimum.min(i32::try_from(rings).unwrap());
        (&RINGS[..rings], minimum)
    });
    let options = (any::<[bool; 3]>(), any::<bool>());
    (proptest::collection::vec(rule, 1..3), options).prop_map(|(rules, ([platform, digest, bind], rare))| {
        let mut spec = asking(&RINGS, 1);
        let named =
            |(at, (rings, minimum)): (usize, (&[&str], i32))| requirement(&format!("r{at}"), rings, minimum);
        spec.require = rules.into_iter().enumerate().map(named).collect();
        spec.multi_arch = platform.then_some(MultiArch {
            accept: Some(RunsAs::Platform),
            ..MultiArch::default()
        });
        spec.require_digest = Some(digest && rare);
        spec.bind_repository = Some(bind && rare);
        spec
    })
}

fn any_scene() -> impl Strategy<Value = Scene> {
    let own_and_relatives = (
        knowledge(0),
        proptest::collection::vec(knowledge(1), 0..2),
        proptest::option::weighted(0.1, Just(gap(Reason::RateLimited))),
        proptest::collection::vec(prop_oneof![knowledge(2), knowledge(3)], 0..3),
    );
    let pod = (
        proptest::bool::weighted(0.97),
        any::<bool>(),
        proptest::option::weighted(0.97, Just(true)),
    );
    (any_spec(), own_and_relatives, any_rings(), moment(), pod).prop_map(
        |(spec, (own, indexes, index_gap, children), keys, now, (readable, pinned, running))| Scene {
            spec,
            repository: readable.then(|| REPOSITORY.parse().unwrap()),
            pinned,
            running,
            own,
            indexes,
            index_gap,
            children,
            keys,
            exceptions: Vec::new(),
            now,
        },
    )
}

/// Exceptions for everything: when each ends, and which reasons it passes over.
fn any_exceptions() -> impl Strategy<Value = Vec<std::sync::Arc<crate::CompiledException>>> {
    let reasons = proptest::sample::subsequence(Reason::OF_VIOLATIONS.to_vec(), 1..8);
    let exception = (-3i64..16, proptest::option::of(reasons));
    proptest::collection::vec(exception, 0..3).prop_map(|exceptions| {
        let made = exceptions.iter().enumerate().map(|(number, (hours, reasons))| {
            super::exceptions::exception(&format!("e{number}"), *hours, reasons.as_deref())
        });
        made.collect()
    })
}

fn any_scene_with_exceptions() -> impl Strategy<Value = Scene> {
    (any_scene(), any_exceptions()).prop_map(|(scene, exceptions)| Scene { exceptions, ..scene })
}

impl Scene {
    fn all_knowledge(&mut self) -> Vec<&mut Knowledge> {
        std::iter::once(&mut self.own)
            .chain(&mut self.indexes)
            .chain(&mut self.children)
            .collect()
    }

    fn all_keys(&mut self) -> impl Iterator<Item = &mut Key> {
        self.keys.rings.values_mut().flatten()
    }

    fn badness(&self) -> u8 {
        badness(self.judge().verdict)
    }
}

/// Every reason that a judgement may give with this verdict.
fn fits(verdict: Verdict, reason: Reason) -> bool {
    use Reason::*;
    match verdict {
        Verdict::Compliant => reason == AllVerified,
        Verdict::Violating => matches!(
            reason,
            SignatureMissing
                | SignerNotTrusted
                | SignatureInvalid
                | TooFewSigners
                | KeyStaged
                | KeyDisabled
                | KeyRevoked
                | KeyExpired
                | IndexNotSigned
                | TagNotPinned
        ),
        Verdict::Unknown => matches!(
            reason,
            Pending | DigestUnresolved | KeyMissing | EvidenceTooLarge | RegistryUnavailable | RateLimited
        ),
        Verdict::Excepted => reason == Excepted,
        Verdict::NotCovered | Verdict::Other => false,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn every_scene_gets_a_verdict_with_a_reason_that_fits_and_a_message_that_fits(scene in any_scene()) {
        let judgement = scene.judge();
        prop_assert!(fits(judgement.verdict, judgement.reason), "{judgement:?}");
        prop_assert!(judgement.message.chars().count() <= 512);
        prop_assert_eq!(judgement.message.is_empty(), judgement.verdict == Verdict::Compliant);
        prop_assert_eq!(judgement.relied_on.is_empty(), judgement.verdict != Verdict::Compliant);
    }

    /// No verdict without a key that counts: recomputed from the facts, not through the code under test.
    #[test]
    fn compliant_rests_on_active_keys_within_their_validity_that_verified(scene in any_scene()) {
        let mut scene = scene;
        let now = scene.now;
        for fingerprint in scene.judge().relied_on {
            let counts = |key: &Key| {
                key.fingerprint == Some(fingerprint)
                    && matches!(key.stage, Stage::Active | Stage::Retiring)
                    && key.not_before.is_none_or(|from| from <= now)
                    && key.not_after.is_none_or(|end| now < end)
            };
            prop_assert!(scene.all_keys().any(|key| counts(key)));
            let signed_by_it = |outcome: &verify::Outcome| {
                matches!(outcome, verify::Outcome::Verified(claim) if claim.signer == fingerprint)
            };
            let verified = |item: &ItemFacts| item.outcomes.iter().any(|(_, outcome)| signed_by_it(outcome));
            prop_assert!(scene.all_knowledge().iter().any(|knowledge| knowledge.items.iter().any(verified)));
        }
    }

    #[test]
    fn a_staged_disabled_revoked_or_unknown_stage_never_makes_anything_hold(
        scene in any_scene(),
        stage in prop_oneof![
            Just(Stage::Staged), Just(Stage::Disabled), Just(Stage::Revoked), Just(Stage::Other)
        ],
    ) {
        let mut scene = scene;
        scene.all_keys().for_each(|key| key.stage = stage);
        prop_assert_ne!(scene.judge().verdict, Verdict::Compliant);
    }

    #[test]
    fn one_more_good_signature_never_makes_it_worse(scene in any_scene(), signer in 0usize..4, everywhere: bool) {
        let mut better = scene.clone();
        for knowledge in better.all_knowledge().into_iter().take(if everywhere { usize::MAX } else { 1 }) {
            let pool = POOLS.iter().find(|pool| pool.digest == knowledge.digest).unwrap();
            knowledge.items.push(pool.items[signer].clone());
        }
        prop_assert!(better.badness() <= scene.badness());
    }

    #[test]
    fn one_item_less_never_makes_it_better(scene in any_scene(), pick: prop::sample::Index) {
        let mut poorer = scene.clone();
        let mut knowledge = poorer.all_knowledge();
        let at = pick.index(knowledge.len());
        if !knowledge[at].items.is_empty() {
            let item = pick.index(knowledge[at].items.len());
            knowledge[at].items.remove(item);
        }
        prop_assert!(poorer.badness() >= scene.badness());
    }

    /// A key that is gone may leave a doubt (KeyMissing) where there was none, but never a pass.
    #[test]
    fn one_key_less_never_makes_it_compliant(scene in any_scene(), pick: prop::sample::Index) {
        let mut poorer = scene.clone();
        let mut lists: Vec<&mut Vec<Key>> = poorer.keys.rings.values_mut().filter(|keys| !keys.is_empty()).collect();
        if !lists.is_empty() {
            let at = pick.index(lists.len());
            let key = pick.index(lists[at].len());
            lists[at].remove(key);
        }
        if poorer.judge().verdict == Verdict::Compliant {
            prop_assert_eq!(scene.judge().verdict, Verdict::Compliant);
        }
    }

    #[test]
    fn a_gap_never_turns_anything_violating_nor_compliant(scene in any_scene(), pick: prop::sample::Index) {
        let mut gapped = scene.clone();
        let mut knowledge = gapped.all_knowledge();
        let at = pick.index(knowledge.len());
        knowledge[at].completeness = Completeness::Incomplete(gap(Reason::RegistryUnavailable));
        let (before, after) = (scene.judge().verdict, gapped.judge().verdict);
        prop_assert!(after == before || after == Verdict::Unknown, "{before} became {after}");
        if before == Verdict::Compliant {
            prop_assert_eq!(after, Verdict::Compliant);
        }
    }

    #[test]
    fn an_outage_of_everything_leaves_no_violation_but_a_tag(scene in any_scene()) {
        let mut scene = scene;
        for knowledge in scene.all_knowledge() {
            knowledge.completeness = Completeness::Incomplete(gap(Reason::RegistryUnavailable));
        }
        let judgement = scene.judge();
        prop_assert!(judgement.verdict != Verdict::Violating || judgement.reason == Reason::TagNotPinned);
    }

    #[test]
    fn the_order_in_which_items_and_outcomes_come_changes_nothing(scene in any_scene()) {
        let mut reversed = scene.clone();
        for knowledge in reversed.all_knowledge() {
            knowledge.items.reverse();
            knowledge.items.iter_mut().for_each(|item| item.outcomes.reverse());
        }
        prop_assert_eq!(reversed.judge(), scene.judge());
    }

    /// Against every hour in which anything can happen, and the nanosecond before it.
    #[test]
    fn valid_until_is_exact(scene in any_scene_with_exceptions()) {
        let judgement = scene.judge();
        let answer = |now: Timestamp| {
            let then = scene.judge_at(now);
            (then.verdict, then.reason)
        };
        let hours = (0..16).map(|hour| scene.now + jiff::SignedDuration::from_hours(hour));
        for hour in hours.filter(|hour| *hour > scene.now) {
            for then in [hour - jiff::SignedDuration::from_nanos(1), hour] {
                if judgement.valid_until.is_none_or(|until| then < until) {
                    prop_assert_eq!(answer(then), answer(scene.now), "before {:?}", judgement.valid_until);
                }
            }
        }
        if let Some(until) = judgement.valid_until {
            prop_assert!(until > scene.now);
            prop_assert_ne!(answer(until), answer(scene.now));
        }
        prop_assert!(says_what_it_becomes(&scene, &judgement));
    }

    /// C5.04: the number of those that would fail is exact, because each is judged without the key. One that is revoked is
    /// never disabled: what rests on it is what is spared of it.
    #[test]
    fn c5_04_what_rests_on_a_key_is_what_gets_worse_when_it_is_disabled(
        scene in any_scene_with_exceptions(), at in 0usize..4,
    ) {
        let mut without = scene.clone();
        let fingerprint = person(at).fingerprint();
        for key in without.all_keys().filter(|key| key.fingerprint == Some(fingerprint)) {
            key.spared = None;
            if key.stage != Stage::Revoked {
                key.stage = Stage::Disabled;
            }
        }
        prop_assert_eq!(scene.rests_on(person(at)), without.badness() > scene.badness());
    }

    /// C5.20: they change violations alone, into nothing but Excepted, and never one by a revoked key that none names.
    #[test]
    fn c5_20_exceptions_change_violations_alone(scene in any_scene_with_exceptions()) {
        let judgement = scene.judge();
        let plain = Scene { exceptions: Vec::new(), ..scene.clone() }.judge();
        if judgement.verdict != Verdict::Excepted {
            let unknown_behind = plain.verdict == Verdict::Violating && judgement.verdict == Verdict::Unknown;
            prop_assert!(unknown_behind || judgement.verdict == plain.verdict);
        } else {
            prop_assert_eq!(plain.verdict, Verdict::Violating);
            let excepted = judgement.excepted.unwrap();
            prop_assert_eq!(excepted.reason, plain.reason);
            let named = scene.exceptions.iter().find(|exception| *exception.name() == excepted.exception);
            prop_assert!(scene.now < named.unwrap().expires());
        }
        if scene.exceptions.iter().all(|exception| exception.expires() <= scene.now) {
            prop_assert_eq!((judgement.verdict, judgement.reason), (plain.verdict, plain.reason));
        }
    }

    #[test]
    fn compiling_refuses_or_understands_any_text(
        image in ".{0,40}", namespace in ".{0,20}", schedule in ".{0,20}", zone in proptest::option::of(".{0,12}"),
        minimum in any::<i32>(), ring in ".{0,8}",
    ) {
        let mut spec = asking(&["release"], minimum);
        spec.match_.images = vec![image];
        spec.match_.namespaces = vec![namespace];
        spec.require[0].signature.as_mut().unwrap().signed_by.push(ring);
        spec.recheck = Some(api::Recheck { schedule: Some(schedule), time_zone: zone, ..api::Recheck::default() });
        if let Err(error) = CompiledPolicy::compile("p", &spec) {
            prop_assert!(error.to_string().starts_with("ImagePolicy p: spec."));
        }
    }
}
