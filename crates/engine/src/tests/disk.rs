//! What is on disk is believed no more than a registry: membership is proven again, what it listed is
//! remembered, absences do not count. Its room is given back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::{MultiArch, Reason, RunsAs, Stage, Verdict};
use bytes::Bytes;
use image::Digest;
use serde_json::json;

use super::attestations::{SCAN, scan, scanned};
use super::world::*;
use crate::fact::Fact;
use crate::lookup::{Seen, WaysSeen};
use crate::store::{Store, SubjectRecord};

const HOLDS: Option<(Verdict, Reason)> = Some((Verdict::Compliant, Reason::AllVerified));

fn store() -> Arc<Store> {
    Arc::new(Store::open(None).unwrap())
}

fn tell_all(world: &mut World, signer: &Signer, stage: Stage) {
    world.tell(key_fact("release-2026", key_spec("release", signer, stage)));
    world.tell(policy_fact("prod", "shop/**", &["release"]));
}

fn keep(store: &Store, bytes: impl Into<Bytes>) -> Digest {
    let bytes = bytes.into();
    let digest = Digest::sha256(&bytes);
    store.keep_body(digest.clone(), bytes);
    digest
}

fn keep_evidence(store: &Store, evidence: &Held) -> Seen {
    keep(store, evidence.layer.clone());
    let seen = WaysSeen {
        referrers: Some([keep(store, evidence.manifest.clone())].into_iter().collect()),
        ..WaysSeen::default()
    };
    Seen::from([("r.example/shop/web".parse().unwrap(), seen)])
}

fn manifest() -> Bytes {
    json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest("config"), "size": 6},
        "layers": [],
    })
    .to_string()
    .into()
}

fn index_of(child: Digest, size: usize) -> Bytes {
    json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [{"mediaType": MANIFEST, "digest": child, "size": size,
            "platform": {"architecture": "amd64", "os": "linux"}}],
    })
    .to_string()
    .into()
}

/// A restart in an outage: on disk a signed index that lists `listed`, and a record that says it lists the child.
fn restarted_with_an_index_of(listed: impl Fn(Digest) -> Digest) -> Option<(Verdict, Reason)> {
    let (store, signer) = (store(), Signer::new());
    let child_bytes = manifest();
    let size = child_bytes.len();
    let child = keep(&store, child_bytes);
    let index = keep(&store, index_of(listed(child.clone()), size));
    let record = SubjectRecord {
        checked: Some(World::new().now),
        seen: BTreeMap::from([
            (child.clone(), Seen::new()),
            (index.clone(), keep_evidence(&store, &signer.sign(&index))),
        ]),
        proven: BTreeSet::from([index]),
        ..SubjectRecord::default()
    };
    store.keep_subject(format!("r.example/shop/web@{child}"), &record);
    store.flush();
    let mut world = World::on(store);
    world.down = true;
    tell_all(&mut world, &signer, Stage::Active);
    world.tell(pod_of("web", "r.example/shop/web:1", &child));
    world.tell(Fact::Synced);
    world.pass_time(7 * 3600);
    world.look_up();
    world.verdict("web", "prod")
}

/// B34, invariant 11. Weakened once: with the record's word taken for the membership, the forged one is Compliant.
#[test]
fn b34_membership_in_an_index_is_proven_again_from_the_bytes_on_disk() {
    assert_eq!(restarted_with_an_index_of(|child| child), HOLDS);
    let forged = restarted_with_an_index_of(|_| digest("another"));
    assert_eq!(forged, Some((Verdict::Unknown, Reason::RegistryUnavailable)));
}

/// A restart in an outage: on disk an index over two manifests, of which one is signed, and a record that names these
/// as those that a policy needs.
fn restarted_with_children(named: impl Fn([Digest; 2]) -> Vec<Digest>) -> Option<(Verdict, Reason)> {
    let (store, signer) = (store(), Signer::new());
    let manifest_of = |name: &str| {
        let config = json!({"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest(name), "size": 6});
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": []});
        let manifest = manifest.to_string();
        (manifest.len(), keep(&store, manifest))
    };
    let [(size, signed), (_, unsigned)] = ["signed", "unsigned"].map(manifest_of);
    let child = |digest: Digest, architecture: &str| {
        json!({"mediaType": MANIFEST, "digest": digest, "size": size,
            "platform": {"architecture": architecture, "os": "linux"}})
    };
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [child(signed.clone(), "amd64"), child(unsigned.clone(), "arm64")],
    });
    let index = keep(&store, index.to_string());
    let record = SubjectRecord {
        checked: Some(World::new().now),
        seen: BTreeMap::from([
            (index.clone(), Seen::new()),
            (signed.clone(), keep_evidence(&store, &signer.sign(&signed))),
            (unsigned.clone(), Seen::new()),
        ]),
        children: named([signed, unsigned]),
        ..SubjectRecord::default()
    };
    store.keep_subject(format!("r.example/shop/web@{index}"), &record);
    store.flush();
    let mut world = World::on(store);
    world.down = true;
    tell_all(&mut world, &signer, Stage::Active);
    let mut facts = policy("prod", "shop/**", &["release"]);
    facts.spec.as_mut().unwrap().multi_arch = Some(MultiArch {
        accept: Some(RunsAs::Platform),
        ..MultiArch::default()
    });
    world.tell(Fact::Policy(Box::new(facts)));
    world.tell(pod_of("web", &format!("r.example/shop/web@{index}"), &index));
    world.tell(Fact::Synced);
    world.pass_time(7 * 3600);
    world.look_up();
    world.verdict("web", "prod")
}

/// Invariant 11. Fails on a build that believes which manifests an index lists from disk: the record without the unsigned
/// one makes the image Compliant.
#[test]
fn b34_each_manifest_that_an_index_lists_must_vouch_whichever_a_record_names() {
    let both: fn([Digest; 2]) -> Vec<Digest> = Vec::from;
    for named in [
        both,
        |[signed, _]| vec![signed],
        |_| Vec::new(),
        |_| vec![digest("another")],
    ] {
        let verdict = restarted_with_children(named).map(|(verdict, _)| verdict);
        assert_eq!(verdict, Some(Verdict::Unknown));
    }
}

/// B15, B47: more evidence is kept than is read at once, and the newest, a bad scan, is not among what is read.
/// Fails on a build that drops it silently: the old good scan holds.
#[test]
fn b47_more_kept_attestations_than_are_read_leave_none_of_them_to_decide() {
    let (store, signer) = (store(), Signer::new());
    let mut world = World::on(store.clone());
    let made = (world.now - jiff::SignedDuration::from_hours(1)).to_string();
    let predicate = json!({"ok": false, "timestamp": made, "packages": "x".repeat(3 << 19)});
    let bad = signer.state(&digest("shop/web"), SCAN, &predicate);
    let held = |bytes: Bytes| {
        let media_type = "application/vnd.dev.sigstore.bundle.v0.3+json";
        Held::new(verify::Item::from_bundle(&bytes), media_type, bytes, json!({}))
    };
    let junk = |at: u32| held(format!("{at}{}", " ".repeat(1 << 20)).into());
    let restart = |world: &mut World, evidence: &[Held]| {
        let listed = evidence.iter().map(|held| {
            keep(&store, held.layer.clone());
            keep(&store, held.manifest.clone())
        });
        let seen = WaysSeen {
            referrers: Some(listed.collect()),
            ..WaysSeen::default()
        };
        let seen = Seen::from([("r.example/shop/web".parse().unwrap(), seen)]);
        let record = SubjectRecord {
            checked: Some(world.now),
            seen: BTreeMap::from([(digest("shop/web"), seen)]),
            ..SubjectRecord::default()
        };
        store.keep_subject(format!("r.example/shop/web@{}", digest("shop/web")), &record);
        store.flush();
        world.down = true;
        world.tell(key_fact(
            "release-2026",
            key_spec("release", &signer, Stage::Active),
        ));
        world.tell(Fact::Policy(Box::new(scanned())));
        world.tell(pod("web", "shop/web"));
        world.tell(Fact::Synced);
        world.look_up();
        world.verdict("web", "prod")
    };
    let good = scan(&world, &signer, true, 2);
    let mut evidence: Vec<Held> = (0..16).map(junk).collect();
    evidence.extend([good.clone(), held(bad)]);
    let unknown = Some((Verdict::Unknown, Reason::EvidenceTooLarge));
    assert_eq!(restart(&mut world, &evidence), unknown);
    assert_eq!(restart(&mut World::on(store.clone()), &[good]), HOLDS);
}

/// A world that knows `web` as signed, on a store of its own.
fn known(signer: &Signer) -> World {
    let mut world = World::on(store());
    world
        .signatures
        .insert(digest("shop/web"), vec![signer.sign(&digest("shop/web"))]);
    tell_all(&mut world, signer, Stage::Active);
    world.tell(pod("web", "shop/web"));
    world.tell(Fact::Synced);
    world.look_up();
    world.engine.store.flush();
    world
}

/// The same disk, registry and time in a new process.
fn restarted(world: &World, signer: &Signer, stage: Stage) -> World {
    let mut again = World::on(world.engine.store.clone());
    again.now = world.now;
    again.signatures = world.signatures.clone();
    again.down = world.down;
    tell_all(&mut again, signer, stage);
    again.tell(pod("web", "shop/web"));
    again
}

/// F01, B47. Weakened once: with what a failed look-up saw written over what is kept, the third process is Unknown.
#[test]
fn f01_evidence_outlasts_any_number_of_restarts_in_an_outage() {
    let signer = Signer::new();
    let mut world = known(&signer);
    world.down = true;
    for _ in 0..3 {
        world = restarted(&world, &signer, Stage::Active);
        world.pass_time(7 * 3600);
        world.tell(Fact::Synced);
        assert_eq!(world.look_up(), 1);
        assert_eq!(world.verdict("web", "prod"), HOLDS);
        world.engine.store.flush();
    }
}

/// Invariant 11: whose signature an item is said to be on disk is the order in which keys are asked, and nothing more.
/// A lie costs one more question, and makes nobody's signature anybody's.
#[test]
fn who_signed_according_to_the_disk_is_only_asked_first() {
    let (signer, stranger) = (Signer::new(), Signer::new());
    for (told_of, expected, questions) in [(&signer, HOLDS, 1), (&stranger, HOLDS, 2)] {
        let world = known(&signer);
        let name = format!("r.example/shop/web@{}", digest("shop/web"));
        let mut record = world.engine.store.subject(&name).unwrap();
        assert_eq!(record.signed_by.len(), 1, "it is kept");
        let told_of = verify::PublicKey::from_pem(&told_of.pem()).unwrap().fingerprint();
        record
            .signed_by
            .values_mut()
            .for_each(|signer| *signer = told_of.to_string());
        world.engine.store.keep_subject(name, &record);
        let mut again = restarted(&world, &signer, Stage::Active);
        again.down = true;
        again.tell(key_fact("beside", key_spec("release", &stranger, Stage::Active)));
        again.tell(Fact::Synced);
        assert_eq!(again.verdict("web", "prod"), expected);
        assert_eq!(again.engine.counters.verifications, questions);
    }
}

/// Invariant 11: that no other key signed is an absence, and from disk no absence counts. So a key that was disabled
/// while the operator was down makes Unknown until the registry answers, and Violating then.
/// Weakened once: with what is restored taken as complete, the first answer is Violating.
#[test]
fn a_key_disabled_before_a_restart_in_an_outage_makes_unknown_until_the_registry_answers() {
    let signer = Signer::new();
    let mut world = known(&signer);
    world.down = true;
    let mut again = restarted(&world, &signer, Stage::Disabled);
    again.tell(Fact::Synced);
    again.look_up();
    assert_eq!(
        again.verdict("web", "prod"),
        Some((Verdict::Unknown, Reason::RegistryUnavailable))
    );
    again.down = false;
    again.pass_time(30);
    again.look_up();
    assert_eq!(
        again.verdict("web", "prod"),
        Some((Verdict::Violating, Reason::KeyDisabled))
    );
}

/// Weakened once: with only this process's listings asked, the second look-up knows of no referrers.
#[test]
fn that_referrers_were_listed_is_remembered_across_a_restart_and_by_look_ups_that_were_not_complete() {
    let signer = Signer::new();
    let world = known(&signer);
    let mut again = restarted(&world, &signer, Stage::Active);
    again.tell(Fact::Synced);
    again.pass_time(7 * 3600);
    let asks = again.engine.due_lookups(again.now, 9);
    let own = digest("shop/web");
    assert!(!asks[0].known[&own].listed.is_empty());
    assert!(asks[0].known[&own].seen.is_empty(), "it is read again");
    again.bodiless = true;
    again.end(&asks[0]);
    again.pass_time(60);
    assert!(
        !again.engine.due_lookups(again.now, 9)[0].known[&own]
            .listed
            .is_empty()
    );
}

/// Weakened once: without the gap for names that were not followed, the pinned pod makes the image Violating at once.
#[test]
fn b34_a_name_that_was_not_followed_yet_is_no_absence() {
    let signer = Signer::new();
    let mut world = World::new();
    let (child, index) = (digest("shop/web"), digest("index"));
    world
        .indexes
        .insert(index.clone(), BTreeSet::from([child.clone()]));
    world.signatures.insert(index.clone(), vec![signer.sign(&index)]);
    tell_all(&mut world, &signer, Stage::Active);
    world.tell(policy_fact("any", "shop/**", &["release"]));
    world.tell(pod("early", "shop/web"));
    world.tell(Fact::Synced);
    world.look_up();
    assert_eq!(
        world.verdict("early", "prod"),
        Some((Verdict::Violating, Reason::SignatureMissing))
    );
    world.tell(super::world::gone("early"));
    world.tell(pod("early", "shop/web"));
    world.look_up();
    world.tell(policy_fact("late", "shop/**", &["release"]));
    world.tell(pod_of("late", &format!("r.example/shop/web@{index}"), &child));
    assert_eq!(
        world.verdict("late", "late"),
        Some((Verdict::Unknown, Reason::Pending)),
        "the index was not looked at"
    );
    world.look_up();
    assert_eq!(world.verdict("late", "late"), HOLDS);
}

#[test]
fn what_runs_keeps_its_evidence_however_old_and_what_does_not_gives_it_back() {
    let signer = Signer::new();
    let mut world = known(&signer);
    let evidence = world.signatures[&digest("shop/web")][0].clone();
    let held = |world: &World| world.engine.store.body(&evidence.digest()).is_some();
    world.down = true;
    world.pass_time(30 * 24 * 3600);
    world.engine.store.flush();
    assert!(held(&world), "it runs");
    world.tell(super::world::gone("web"));
    world.pass_time(7 * 3600);
    world.engine.store.flush();
    assert!(!held(&world));
    assert!(
        world
            .engine
            .store
            .subject(&format!("r.example/shop/web@{}", digest("shop/web")))
            .is_none()
    );
}
