//! Several keychains of one namespace, and what one knows of what another one saw. Nothing of it reaches another
//! namespace (invariants 1 and 7, B37, B42, B43, B47).

use std::collections::BTreeSet;

use api::{Reason, Verdict};
use testkit::{Access, FakeRegistry};

use super::site::*;
use super::tenants::{DENIED, Secrets, private, settle, with};
use crate::fact::Fact;
use crate::tests::attestations::SCAN;
use crate::tests::world::{World, gone, key, key_fact, key_spec, policy};

const REJECTED: Option<(Verdict, Reason)> = Some((Verdict::Violating, Reason::AttestationRejected));

/// Puts a pull secret that the registry takes, and pods with others of the namespaces `a` and `b` that it does not.
async fn with_broken_ones_beside(
    site: &mut Site,
    fake: &FakeRegistry,
    secrets: &Secrets,
    digest: &image::Digest,
) {
    secrets.put("a/pull", fake, "alice", "a");
    for (workload, secret) in [("a/one", "broken"), ("a/two", "zz-broken"), ("b/one", "broken")] {
        let pod = runs(fake, workload, "web", digest);
        site.world.tell(with(secret, pod));
    }
    settle(site).await;
    assert_eq!(site.verdict("a/one"), DENIED);
}

/// B43, finding of a review: a secret that other pods name already is no way out either, whichever of the two is
/// told or forgotten first, and whether or not the image is written as before. Weakened once: with a violation kept by
/// the keychain that found it alone, the workload turns Unknown.
#[tokio::test]
async fn b43_a_change_to_a_broken_secret_that_other_pods_name_already_takes_no_violation_back() {
    for secret in ["broken", "zz-broken"] {
        for pinned in [false, true] {
            let (fake, mut site, secrets) = private().await;
            let digest = image(&fake, "web");
            with_broken_ones_beside(&mut site, &fake, &secrets, &digest).await;
            site.world
                .tell(with("pull", runs(&fake, "a/web", "web", &digest)));
            settle(&mut site).await;
            assert_eq!(site.verdict("a/web"), UNSIGNED);
            let again = match pinned {
                true => runs_pinned(&fake, "a/web", "web", &digest, &digest),
                false => runs(&fake, "a/web", "web", &digest),
            };
            site.world.tell(with(secret, again));
            for check in 0..3 {
                assert_eq!(site.verdict("a/web"), UNSIGNED, "{secret}, check {check}");
                assert_eq!(site.verdict("b/one"), DENIED, "another namespace learns nothing");
                site.next_check().await;
                settle(&mut site).await;
            }
        }
    }
}

/// B43, the other side: what is Violating with one secret of a namespace is so for all its pods that cannot look, until
/// a complete look with any of them says otherwise. Weakened once: with a violation kept whatever others find, it stays
/// for ever.
#[tokio::test]
async fn b43_a_violation_is_the_namespaces_until_a_complete_look_with_any_of_its_secrets() {
    let (fake, mut site, secrets) = private().await;
    let digest = image(&fake, "web");
    with_broken_ones_beside(&mut site, &fake, &secrets, &digest).await;
    site.world
        .tell(with("pull", runs(&fake, "a/web", "web", &digest)));
    site.world.drain();
    settle(&mut site).await;
    for workload in ["a/web", "a/one", "a/two"] {
        assert_eq!(site.verdict(workload), UNSIGNED, "{workload}");
    }
    let told = site.world.drain();
    let expected = ["a/one", "a/two", "a/web"].map(str::to_owned);
    assert!(BTreeSet::from(expected).is_subset(&told), "{told:?}");
    sign_by_tag(&fake, "web", &site.signer, &digest);
    site.next_check().await;
    settle(&mut site).await;
    assert_eq!(site.verdict("a/web"), HOLDS);
    for workload in ["a/one", "a/two"] {
        assert_eq!(site.verdict(workload), DENIED, "{workload}");
    }
    assert!(fake.delete("shop/web", &evidence_tag(&digest, "sig")));
    site.next_check().await;
    settle(&mut site).await;
    assert_eq!(site.verdict("a/one"), UNSIGNED);
    assert_eq!(site.verdict("b/one"), DENIED);
}

/// An edit begins anew: what nobody finds under it is no violation, and what somebody finds is one for all at once.
/// Weakened once: with those that cannot look judged in the course of the edit alone, they are Unknown.
#[tokio::test]
async fn after_an_edit_those_that_cannot_look_learn_at_once_what_others_find_under_it() {
    let (fake, mut site, secrets) = private().await;
    let digest = image(&fake, "web");
    sign_by_tag(&fake, "web", &site.signer, &digest);
    with_broken_ones_beside(&mut site, &fake, &secrets, &digest).await;
    site.world
        .tell(with("pull", runs(&fake, "a/web", "web", &digest)));
    settle(&mut site).await;
    assert_eq!((site.verdict("a/web"), site.verdict("a/one")), (HOLDS, DENIED));
    let stage = |site: &mut Site, stage| {
        let spec = key_spec("release", &site.signer, stage);
        site.world.tell(key_fact("release-2026", spec));
    };
    let revoked = Some((Verdict::Violating, Reason::KeyDisabled));
    for _ in 0..2 {
        stage(&mut site, api::Stage::Disabled);
        for workload in ["a/web", "a/one", "a/two"] {
            assert_eq!(site.verdict(workload), revoked, "{workload}");
        }
        stage(&mut site, api::Stage::Active);
        assert_eq!(site.verdict("a/web"), HOLDS);
        for workload in ["a/one", "a/two", "b/one"] {
            assert_eq!(site.verdict(workload), DENIED, "{workload}");
        }
    }
}

/// B43: what the operator saw before it was refused is older than what a secret of the namespace lets be seen.
/// Weakened once: with a tenant that cannot look left out of those that decide, the old answer of the operator is shown.
#[tokio::test]
async fn b43_a_broken_secret_does_not_bring_back_what_the_operator_saw_before() {
    let (fake, mut site, secrets) = private().await;
    fake.set_access(Access::Open);
    let digest = image(&fake, "web");
    sign_by_tag(&fake, "web", &site.signer, &digest);
    secrets.put("a/pull", &fake, "alice", "a");
    for (workload, secret) in [("a/one", "broken"), ("a/web", "pull"), ("b/one", "broken")] {
        site.world
            .tell(with(secret, runs(&fake, workload, "web", &digest)));
    }
    settle(&mut site).await;
    assert_eq!(site.verdict("a/web"), HOLDS);
    fake.set_access(Access::token_for("alice", "a"));
    assert!(fake.delete("shop/web", &evidence_tag(&digest, "sig")));
    site.next_check().await;
    settle(&mut site).await;
    assert_eq!(site.verdict("a/web"), UNSIGNED);
    site.world
        .tell(with("broken", runs(&fake, "a/web", "web", &digest)));
    settle(&mut site).await;
    assert_eq!(site.verdict("a/web"), UNSIGNED);
    assert_eq!(
        site.verdict("b/one"),
        HOLDS,
        "what the operator saw is everybody's"
    );
}

/// A good and a newer bad scan, both seen with `pull` of the namespace `a`; then the bad one is deleted.
async fn bad_scan_deleted(before: &[(&str, &str)]) -> (FakeRegistry, Site, image::Digest) {
    let (fake, mut site, secrets) = private().await;
    site.ask_for_scans();
    let digest = image(&fake, "web");
    let attach = |site: &Site, day: &str, ok: bool| {
        let bundle = site.signer.state(&digest, SCAN, &scan_of(day, ok));
        fake.attach("shop/web", &digest.to_string(), BUNDLE, bundle)
    };
    attach(&site, "2027-01-14", true);
    for secret in ["a/pull", "a/other", "b/pull"] {
        secrets.put(secret, &fake, "alice", "a");
    }
    for (workload, secret) in before {
        site.world
            .tell(with(secret, runs(&fake, workload, "web", &digest)));
    }
    settle(&mut site).await;
    let bad = attach(&site, "2027-01-15", false);
    site.world
        .tell(with("pull", runs(&fake, "a/web", "web", &digest)));
    settle(&mut site).await;
    assert_eq!(site.verdict("a/web"), REJECTED);
    assert!(fake.delete("shop/web", &bad));
    (fake, site, digest)
}

/// B47. Weakened once: with nothing taken over by a keychain that is new, the old good scan is revived.
#[tokio::test]
async fn b47_a_new_secret_does_not_revive_a_good_scan_behind_a_bad_one_that_was_deleted() {
    for gone_first in [false, true] {
        let (fake, mut site, digest) = bad_scan_deleted(&[]).await;
        let keeper = with("pull", runs(&fake, "a/keeper", "web", &digest));
        if gone_first {
            site.world.tell(keeper);
        }
        site.world
            .tell(with("other", runs(&fake, "a/web", "web", &digest)));
        site.world
            .tell(with("pull", runs(&fake, "b/web", "web", &digest)));
        settle(&mut site).await;
        for check in 0..2 {
            assert_eq!(site.verdict("a/web"), REJECTED, "check {check}");
            assert_eq!(site.verdict("b/web"), HOLDS, "another namespace never saw it");
            site.next_check().await;
            settle(&mut site).await;
        }
    }
}

/// B47, as B43 above: the other secret was in use before the bad scan was there. Weakened once: with attestations
/// taken over by new keychains alone, the old good scan is revived.
#[tokio::test]
async fn b47_nor_does_a_secret_that_other_pods_name_already() {
    let (fake, mut site, digest) = bad_scan_deleted(&[("a/one", "other"), ("b/one", "pull")]).await;
    site.world
        .tell(with("other", runs(&fake, "a/web", "web", &digest)));
    for check in 0..2 {
        settle(&mut site).await;
        assert_eq!(site.verdict("a/web"), REJECTED, "check {check}");
        assert_eq!(site.verdict("b/one"), HOLDS, "another namespace never saw it");
        site.next_check().await;
    }
}

/// B47: nor does an operator that is served after the bad scan was deleted. Fails on a build that remembers nothing of
/// what a secret that is not needed any more let be seen: the old good scan is revived.
#[tokio::test]
async fn b47_nor_does_an_operator_that_is_served_afterwards() {
    let (fake, mut site, digest) = bad_scan_deleted(&[("b/one", "pull")]).await;
    fake.set_access(Access::Open);
    site.next_check().await;
    settle(&mut site).await;
    assert_eq!(site.world.engine.subjects.len(), 1, "the operator is served");
    for check in 0..2 {
        assert_eq!(site.verdict("a/web"), REJECTED, "check {check}");
        assert_eq!(site.verdict("b/one"), HOLDS, "another namespace never saw it");
        site.next_check().await;
    }
    let now = site.world.now.to_string();
    let newer = serde_json::json!({"ok": true, "timestamp": now});
    let bundle = site.signer.state(&digest, SCAN, &newer);
    fake.attach("shop/web", &digest.to_string(), BUNDLE, bundle);
    site.next_check().await;
    assert_eq!(site.verdict("a/web"), HOLDS, "a newer one decides");
}

/// Whoever repairs a right does not wait for hours; but a look that was answered is repeated as everybody's. Weakened
/// once: with every look for a keychain repeated within five minutes, an unsigned image is asked about without end.
#[tokio::test]
async fn the_pause_after_a_complete_look_is_everybodys_and_after_another_one_five_minutes_at_most() {
    let (fake, mut site, secrets) = private().await;
    let digest = image(&fake, "web");
    secrets.put("a/pull", &fake, "alice", "a");
    site.world
        .tell(with("pull", runs(&fake, "a/web", "web", &digest)));
    site.world
        .tell(with("broken", runs(&fake, "b/web", "web", &digest)));
    let mut longest = [0, 0];
    for _ in 0..12 {
        settle(&mut site).await;
        let now = site.world.now;
        for (of, namespace) in longest.iter_mut().zip(["a", "b"]) {
            let mut subjects = site.world.engine.subjects.values();
            let of_it = |key: &crate::subject::SubjectKey| {
                let keychain = key.keychain.as_ref();
                keychain.is_some_and(|keychain| *keychain.namespace == *namespace)
            };
            let subject = subjects.find(|subject| of_it(&subject.key)).unwrap();
            let pause = subject.plan.due.unwrap().duration_since(now).as_secs();
            *of = pause.max(*of);
        }
        let next = site.world.engine.turns.next().unwrap();
        let pause = next.duration_since(now).as_secs();
        site.world.pass_time(pause + 1);
    }
    assert!(longest[0] > 300, "{longest:?}");
    assert_eq!(longest[1], 300);
}

/// The operator's answer is shown again although nothing of it changed. Fails on a build without a word to those that a
/// keychain decided for: the workload is not told.
#[tokio::test]
async fn those_for_whom_a_secret_decided_are_told_when_the_operator_is_served_again() {
    let (fake, mut site, secrets) = private().await;
    fake.set_access(Access::Open);
    let digest = image(&fake, "web");
    sign_by_tag(&fake, "web", &site.signer, &digest);
    secrets.put("a/pull", &fake, "alice", "a");
    site.world
        .tell(with("pull", runs(&fake, "a/web", "web", &digest)));
    settle(&mut site).await;
    fake.set_access(Access::token_for("alice", "a"));
    assert!(fake.delete("shop/web", &evidence_tag(&digest, "sig")));
    site.look_up_as_the_operator_next().await;
    settle(&mut site).await;
    assert_eq!(site.verdict("a/web"), UNSIGNED);
    sign_by_tag(&fake, "web", &site.signer, &digest);
    fake.set_access(Access::Open);
    site.world.drain();
    site.look_up_as_the_operator_next().await;
    assert_eq!(site.verdict("a/web"), HOLDS, "as it said before it was refused");
    assert!(site.world.drain().contains("a/web"));
}

/// F01, invariant 11: a refusal is noted beside what is kept, and not in its place. Weakened once: with what the
/// refused look saw written, the next process is Unknown at once.
#[tokio::test]
async fn a_refusal_before_a_restart_takes_nothing_away_from_what_is_kept() {
    let (fake, mut site, secrets) = private().await;
    fake.set_access(Access::Open);
    let digest = image(&fake, "web");
    sign_by_tag(&fake, "web", &site.signer, &digest);
    secrets.put("a/pull", &fake, "alice", "broken");
    let pod = with("pull", runs(&fake, "a/web", "web", &digest));
    site.world.tell(pod.clone());
    settle(&mut site).await;
    fake.set_access(Access::token_for("alice", "a"));
    site.next_check().await;
    settle(&mut site).await;
    assert_eq!(site.verdict("a/web"), HOLDS);
    assert_eq!(site.world.engine.subjects.len(), 2, "it is refused");

    let mut after = World::on(site.world.engine.store.clone());
    after.now = site.world.now;
    after.down = true;
    let spec = key_spec("release", &site.signer, api::Stage::Active);
    after.tell(key_fact("release-2026", spec));
    let mut facts = policy("prod", "**", &["release"]);
    facts.spec.as_mut().unwrap().match_.images = vec!["**/shop/**".into()];
    after.tell(Fact::Policy(Box::new(facts)));
    after.tell(pod);
    after.tell(Fact::Synced);
    after.pass_time(61);
    after.look_up();
    assert_eq!(after.verdict("a/web", "prod"), HOLDS);
    assert_eq!(after.engine.subjects.len(), 2, "that it is refused is known");
    after.tell(gone("a/web"));
    assert!(matches!(
        after.engine.answer(&key("a/web"), after.now),
        crate::report::WorkloadAnswer::NothingRuns
    ));
}
