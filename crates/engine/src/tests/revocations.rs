//! KeyRevocations: what they make of keys, what outlasts a SigningKey, and what is said of them.
//! Weakened once: with revocations left out of the stage that counts, six of these tests fail.

use api::{EarlierSignatures, KeyRevocationSpec, Reason, RevocationReason, Stage, Verdict};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::world::*;
use crate::fact::{Fact, RevocationFacts};
use crate::report::RevocationReport;

const COMPLIANT: (Verdict, Reason) = (Verdict::Compliant, Reason::AllVerified);
const REVOKED: (Verdict, Reason) = (Verdict::Violating, Reason::KeyRevoked);
const DISABLED: (Verdict, Reason) = (Verdict::Violating, Reason::KeyDisabled);

/// An image that one key signed, which runs, is covered and was looked up.
struct Scene {
    world: World,
    signer: Signer,
    fingerprint: String,
}

impl Scene {
    fn new() -> Self {
        let mut world = World::new();
        let signer = Signer::new();
        let own = digest("shop/web");
        world.signatures.insert(own.clone(), vec![signer.sign(&own)]);
        world.tell(key_fact("release-1", key_spec("release", &signer, Stage::Active)));
        world.tell(policy_fact("prod", "shop/**", &["release"]));
        world.tell(pod("web", "shop/web"));
        world.tell(Fact::Synced);
        world.look_up();
        let identity = world.engine.key_report("release-1", world.now).unwrap().identity;
        let fingerprint = identity.unwrap().fingerprint;
        let scene = Scene {
            world,
            signer,
            fingerprint,
        };
        assert_eq!(scene.answer(), COMPLIANT);
        scene
    }

    fn answer(&self) -> (Verdict, Reason) {
        self.world.verdict("web", "prod").unwrap()
    }

    fn stage(&mut self, stage: Stage) {
        let spec = key_spec("release", &self.signer, stage);
        self.world.tell(key_fact("release-1", spec));
    }

    fn revoke(&mut self, reason: RevocationReason, edit: impl FnOnce(&mut KeyRevocationSpec)) {
        let mut spec = KeyRevocationSpec {
            fingerprint: self.fingerprint.clone(),
            reason,
            effective_from: None,
            earlier_signatures: None,
            honour_digests: Vec::new(),
            note: None,
        };
        edit(&mut spec);
        self.tell(Ok(spec));
    }

    fn tell(&mut self, spec: Result<KeyRevocationSpec, String>) {
        self.world.tell(Fact::Revocation(Box::new(RevocationFacts {
            name: self.fingerprint.as_str().into(),
            generation: 1,
            created: Some(Timestamp::from_second(1_800_000_000).unwrap()),
            spec,
        })));
    }

    fn report(&self) -> RevocationReport {
        self.world.engine.revocation_report(&self.fingerprint).unwrap()
    }
}

#[test]
fn a_revocation_revokes_at_once_and_without_a_request() {
    let mut scene = Scene::new();
    let asked = scene.world.asked.len();
    scene.world.drain();
    scene.revoke(RevocationReason::KeyCompromise, |_| {});
    assert_eq!(scene.answer(), REVOKED);
    assert_eq!(scene.world.asked.len(), asked);
    assert_eq!(scene.world.drain().into_iter().collect::<Vec<_>>(), ["web"]);
    let report = scene
        .world
        .engine
        .key_report("release-1", scene.world.now)
        .unwrap();
    assert_eq!(report.effective_stage, Some(Stage::Revoked));
    assert_eq!(scene.report().keys, ["release-1".into()]);
}

#[test]
fn a_revocation_outlasts_the_signing_key() {
    let mut scene = Scene::new();
    scene.revoke(RevocationReason::KeyCompromise, |_| {});
    scene.world.tell(Fact::KeyGone("release-1".into()));
    assert_eq!(scene.report().keys, []);
    scene.stage(Stage::Active);
    assert_eq!(scene.answer(), REVOKED);
    let other_name = key_spec("release", &scene.signer, Stage::Active);
    scene.world.tell(key_fact("release-again", other_name));
    assert_eq!(scene.answer(), REVOKED);
}

#[test]
fn a_hold_acts_as_disabled_and_is_reversible() {
    let mut scene = Scene::new();
    scene.revoke(RevocationReason::Hold, |_| {});
    assert_eq!(scene.answer(), DISABLED);
    let gone = Fact::RevocationGone(scene.fingerprint.as_str().into());
    scene.world.tell(gone);
    assert_eq!(scene.answer(), COMPLIANT);
}

/// C5.21.
#[test]
fn a_revocation_that_cannot_be_read_revokes() {
    let mut scene = Scene::new();
    scene.tell(Err("spec cannot be read".into()));
    assert_eq!(scene.answer(), REVOKED);
    assert!(scene.report().problem.unwrap().contains("is revoked"));
}

#[test]
fn an_image_that_is_honoured_goes_on_counting() {
    let mut scene = Scene::new();
    let honoured = vec![digest("shop/web").to_string()];
    scene.revoke(RevocationReason::KeyCompromise, |spec| {
        spec.honour_digests = honoured;
    });
    assert_eq!(scene.answer(), COMPLIANT);
    assert_eq!((scene.report().honoured, scene.report().problem), (1, None));
    scene.stage(Stage::Revoked);
    assert_eq!(scene.answer(), COMPLIANT, "the revocation says what it means");
    scene.stage(Stage::Disabled);
    assert_eq!(scene.answer(), REVOKED, "the key says that it does not count now");
}

/// B54: a time in the future.
#[test]
fn b54_a_time_after_the_creation_accepts_nothing_and_that_is_said() {
    let mut scene = Scene::new();
    scene.revoke(RevocationReason::KeyCompromise, |spec| {
        spec.earlier_signatures = Some(EarlierSignatures::AcceptIfTimestamped);
        spec.effective_from = Some(Time(Timestamp::from_second(1_800_000_001).unwrap()));
    });
    assert_eq!(scene.report().dated_before, None);
    assert!(scene.report().problem.unwrap().contains("spec.effectiveFrom"));
    scene.revoke(RevocationReason::KeyCompromise, |spec| {
        spec.earlier_signatures = Some(EarlierSignatures::AcceptIfTimestamped);
        spec.effective_from = Some(Time(Timestamp::from_second(1_800_000_000).unwrap()));
    });
    assert!(scene.report().dated_before.is_some());
    assert_eq!(scene.report().problem, None);
    assert_eq!(scene.answer(), REVOKED, "nobody dates this signature");
}

/// A Hold can be deleted by whoever keeps the keys, and would take the revocation of the key with it.
/// Fails on a build in which a Hold is enough.
#[test]
fn b44_a_key_that_only_its_own_object_revokes_lacks_a_revocation() {
    let lacks = |scene: &mut Scene| {
        scene
            .world
            .engine
            .key_report("release-1", scene.world.now)
            .unwrap()
            .revocation_missing
            .is_some()
    };
    let mut scene = Scene::new();
    assert!(!lacks(&mut scene));
    scene.stage(Stage::Revoked);
    assert!(lacks(&mut scene));
    scene.revoke(RevocationReason::Hold, |_| {});
    assert!(lacks(&mut scene), "a Hold does not last");
    scene.revoke(RevocationReason::Unspecified, |_| {});
    assert!(!lacks(&mut scene));
    let gone = Fact::RevocationGone(scene.fingerprint.as_str().into());
    scene.world.tell(gone);
    assert!(lacks(&mut scene));
}
