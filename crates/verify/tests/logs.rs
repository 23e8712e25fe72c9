//! Log entries and timestamps of keyless signatures: every check that Sigstore's client leaves to us. The numbers are
//! those of the project's list of security cases.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::sync::Arc;

use assay_verify::{Cause, Demand, Outcome, Refusal, TrustRoot, Verifier, verify};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::asking::{ask, asking, at, matcher, refused, root, verified, verifier, without_evidence};
use common::private::{Authority, Enveloped, Leaf, MINUTE, NOON, Timestamps, World, YEAR, rfc3339};
use common::{COSIGN_SIGN, Signer, item, other_subject, statement, subject};
use serde_json::{Value, json};

/// Fails on a build whose facade hands the crate's entry check a body of another entry without comparing them, and
/// where `ask` is not called for an entry.
#[test]
fn b03_a_genuine_log_entry_of_another_artifact_signature_or_key_does_not_count() {
    let world = World::new();
    let other_key = world.sigstore.certify(&Leaf::default());
    let other_text = statement(&other_subject(), COSIGN_SIGN);
    let same_text = statement(&subject(), COSIGN_SIGN);
    let foreign = [
        (
            "artifact",
            Enveloped::new(&other_text, &world.certified.key),
            world.certified.pem(),
        ),
        (
            "signature",
            Enveloped::new(&same_text, &world.certified.key),
            world.certified.pem(),
        ),
        ("key", Enveloped::new(&same_text, &other_key.key), other_key.pem()),
    ];
    for (what, signed, holder) in foreign {
        let entry = world.sigstore.entry_1(&signed.body_1(&holder), NOON);
        let refusal = refused(ask(&world, &world.bundle(vec![entry], &[])));
        assert!(
            matches!(refusal, Refusal::LogInvalid { .. }),
            "{what}: {refusal:?}"
        );
    }
    let mut certificate = world.signed.body_1(&other_key.pem());
    let entry = world.sigstore.entry_1(&certificate, NOON);
    refused(ask(&world, &world.bundle(vec![entry], &[])));
    certificate["spec"]["payloadHash"]["value"] = json!("00".repeat(32));
    let entry = world.sigstore.entry_1(&certificate, NOON);
    refused(ask(&world, &world.bundle(vec![entry], &[])));
}

/// B54 too. Fails on a build that takes an entry's integratedTime without a promise for a time.
#[test]
fn b04_an_integrated_time_that_no_log_signed_is_no_time() {
    let world = World::new();
    let mut entry = world.entry_1();
    entry.as_object_mut().unwrap().remove("inclusionPromise");
    let refusal = refused(ask(&world, &world.bundle(vec![entry.clone()], &[])));
    assert!(matches!(refusal, Refusal::LogInvalid { why } if why.contains("no time")));
    let claim = verified(ask(
        &world,
        &world.bundle(vec![entry], &[world.stamp(NOON + MINUTE)]),
    ));
    assert_eq!(claim.times.earliest(), Some(at(NOON + MINUTE)));
    let mut moved = world.entry_1();
    moved["integratedTime"] = json!((NOON + 1).to_string());
    refused(ask(&world, &world.bundle(vec![moved], &[])));
}

/// The log Ignored: its time is not looked at, and a bad one is no excuse. Fails on a build where `entries` looks at
/// entries whatever is demanded.
#[test]
fn b04_with_the_log_ignored_only_timestamps_give_time() {
    let world = World::new();
    let only_timestamps = asking(&world.sigstore.trusted_root(), Demand::Ignore, Demand::Required);
    let outcome = verify(&item(&world.logged()), &subject(), &only_timestamps);
    assert_eq!(refused(outcome), Refusal::TimestampMissing);
    let mut entry = world.entry_1();
    entry["integratedTime"] = json!("1");
    let bundle = world.bundle(vec![entry], &[world.stamp(NOON)]);
    let claim = verified(verify(&item(&bundle), &subject(), &only_timestamps));
    assert_eq!(claim.times.earliest(), Some(at(NOON)));
    let bundle = world.bundle(vec![world.entry_1()], &[world.stamp(NOON + MINUTE)]);
    let claim = verified(verify(&item(&bundle), &subject(), &only_timestamps));
    assert_eq!(claim.times.earliest(), Some(at(NOON + MINUTE)));
}

/// What a log signed with a time that this machine's clock has not reached may be proof a moment later; what it did not
/// sign is refused for good. Fails on a build that refuses the first: the refusal is remembered.
#[test]
fn b04_nobody_can_tell_before_a_logs_time_has_come_and_a_timestamp_there_is_handed_on() {
    let leaf = Leaf {
        not_after: NOON + 90 * YEAR,
        ..Leaf::default()
    };
    let world = World::of(&leaf);
    let future = NOON + 9 * YEAR + MINUTE;
    let entry = world
        .sigstore
        .entry_1(&world.signed.body_1(&world.certified.pem()), future);
    let not_yet = Outcome::CannotTell(Cause::NotYet { at: at(future) });
    assert_eq!(ask(&world, &world.bundle(vec![entry], &[])), not_yet);
    let mut forged = world.entry_1();
    forged["integratedTime"] = json!(future.to_string());
    let refusal = refused(ask(&world, &world.bundle(vec![forged], &[])));
    assert!(matches!(refusal, Refusal::LogInvalid { .. }), "{refusal:?}");
    let stamped = world.bundle(vec![world.entry_1()], &[world.stamp(future)]);
    assert_eq!(verified(ask(&world, &stamped)).times.latest(), Some(at(future)));
}

#[test]
fn b04_a_certificate_counts_only_at_times_within_its_validity() {
    let world = World::new();
    for outside in [NOON - 2 * MINUTE, NOON + 10 * MINUTE] {
        let entry = world
            .sigstore
            .entry_1(&world.signed.body_1(&world.certified.pem()), outside);
        refused(ask(&world, &world.bundle(vec![entry], &[])));
        let stamped = world.bundle(vec![world.entry_2()], &[world.stamp(outside)]);
        refused(ask(&world, &stamped));
    }
}

/// CVE-2026-24122. Fails on a build where `Authority::is_usable_at` looks at the last certificate of the chain alone.
#[test]
fn b04_b48_a_chain_with_an_expired_intermediate_or_root_counts_no_more() {
    for (expired, what) in [(0, "issuing"), (1, "root")] {
        let mut world = World::new();
        let long = (NOON - YEAR, NOON + YEAR);
        let short = (NOON - YEAR, NOON - MINUTE);
        let valid = |at: usize| if at == expired { short } else { long };
        world.sigstore.root = Authority::new("root", valid(1), true, None);
        world.sigstore.authority = Authority::new("issuing", valid(0), true, Some(&world.sigstore.root));
        world.certified = world.sigstore.certify(&Leaf::default());
        world.signed = Enveloped::new(&statement(&subject(), COSIGN_SIGN), &world.certified.key);
        for bundle in [world.logged(), world.logged_and_stamped()] {
            let refusal = refused(ask(&world, &bundle));
            assert!(
                matches!(refusal, Refusal::CertificateInvalid { .. }),
                "{what}: {refusal:?}"
            );
        }
    }
}

/// Fails on a build without `without_false_issuers`: the crate takes every certificate of a chain for an anchor.
#[test]
fn b48_a_certificate_that_may_not_issue_is_no_anchor() {
    let mut world = World::new();
    let valid = (NOON - YEAR, NOON + YEAR);
    world.sigstore.authority = Authority::new("issuing", valid, false, Some(&world.sigstore.root));
    world.certified = world.sigstore.certify(&Leaf::default());
    world.signed = Enveloped::new(&statement(&subject(), COSIGN_SIGN), &world.certified.key);
    assert!(matches!(
        refused(ask(&world, &world.logged())),
        Refusal::CertificateInvalid { .. }
    ));
}

/// Fails on a build where `check_log_was_valid` always answers Ok: the crate holds no validity against a checkpoint.
#[test]
fn b48_a_log_key_counts_only_within_its_validity() {
    let world = World::new();
    for (log, bundle) in [(0, world.logged()), (1, world.logged_and_stamped())] {
        for (start, end) in [(NOON - YEAR, NOON - 1), (NOON + 1, NOON + YEAR)] {
            let mut json = world.sigstore.trusted_root();
            json["tlogs"][log]["publicKey"]["validFor"] =
                json!({"start": rfc3339(start), "end": rfc3339(end)});
            let refusal = refused(verify(&item(&bundle), &subject(), &verifier(&json)));
            assert!(
                matches!(refusal, Refusal::LogInvalid { .. }),
                "{log}: {refusal:?}"
            );
        }
        let mut json = world.sigstore.trusted_root();
        json["tlogs"][log]["publicKey"]["validFor"] = json!({"start": rfc3339(NOON), "end": rfc3339(NOON)});
        verified(verify(&item(&bundle), &subject(), &verifier(&json)));
    }
}

/// Fails on a build that keeps every log of the root in `kept_at`: the crate then takes the other log's checkpoint.
#[test]
fn b48_a_checkpoint_by_another_log_than_the_entry_names_is_refused() {
    let world = World::new();
    let body = world.signed.body_2(world.certified.verifier_2());
    let mut entry = world.entry_2();
    let id_1 = common::private::sha256(&world.sigstore.rekor_1.spki());
    entry["inclusionProof"] = world
        .sigstore
        .proof(&body, &id_1, |note| world.sigstore.rekor_1.sign(note));
    let refusal = refused(ask(
        &world,
        &world.bundle(vec![entry.clone()], &[world.stamp(NOON)]),
    ));
    assert!(matches!(refusal, Refusal::LogInvalid { .. }), "{refusal:?}");
    entry["logId"]["keyId"] = json!(STANDARD.encode(b"no such log"));
    refused(ask(&world, &world.bundle(vec![entry], &[world.stamp(NOON)])));
}

/// Fails on a build where `form` answers Bundle0_1 whatever `promise` says.
#[test]
fn a_bundle_needs_a_proof_whatever_version_it_says_it_is() {
    let world = World::new();
    let mut entry = world.entry_1();
    entry.as_object_mut().unwrap().remove("inclusionProof");
    let mut bundle = world.bundle(vec![entry], &[]);
    for version in [".v0.3+json", "+json;version=0.1", "+json;version=0.2"] {
        bundle["mediaType"] = json!(format!("application/vnd.dev.sigstore.bundle{version}"));
        let refusal = refused(ask(&world, &bundle));
        assert!(
            matches!(refusal, Refusal::LogInvalid { why } if why.contains("proof")),
            "{version}"
        );
    }
}

/// Each mutated by one byte in each part.
#[test]
fn no_changed_byte_of_certificate_proof_promise_or_timestamp_verifies() {
    let world = World::new();
    let parts = [
        ("/verificationMaterial/certificate/rawBytes", true, true),
        (
            "/verificationMaterial/tlogEntries/0/inclusionPromise/signedEntryTimestamp",
            true,
            false,
        ),
        (
            "/verificationMaterial/tlogEntries/0/inclusionProof/hashes/0",
            true,
            true,
        ),
        (
            "/verificationMaterial/tlogEntries/0/inclusionProof/rootHash",
            true,
            true,
        ),
        (
            "/verificationMaterial/tlogEntries/0/canonicalizedBody",
            true,
            true,
        ),
        ("/verificationMaterial/tlogEntries/0/logId/keyId", true, true),
        (
            "/verificationMaterial/timestampVerificationData/rfc3161Timestamps/0/signedTimestamp",
            false,
            true,
        ),
        ("/dsseEnvelope/signatures/0/sig", true, true),
        ("/dsseEnvelope/payload", true, true),
    ];
    let root = verifier(&world.sigstore.trusted_root());
    for (name, bundle, is_v2) in [
        ("v1", world.logged(), false),
        ("v2", world.logged_and_stamped(), true),
    ] {
        let whole_claim = without_evidence(verified(verify(&item(&bundle), &subject(), &root)));
        for (part, in_v1, in_v2) in parts {
            if !(if is_v2 { in_v2 } else { in_v1 }) {
                continue;
            }
            let whole = STANDARD
                .decode(bundle.pointer(part).unwrap().as_str().unwrap())
                .unwrap();
            for at in 0..whole.len() {
                let mut mutated = whole.clone();
                mutated[at] ^= 1 << (at % 8);
                let mut changed = bundle.clone();
                *changed.pointer_mut(part).unwrap() = json!(STANDARD.encode(mutated));
                let outcome = verify(&item(&changed), &subject(), &root);
                match outcome {
                    // The status beside a token and the algorithms named in it are not signed.
                    Outcome::Verified(claim) if part.ends_with("signedTimestamp") => {
                        assert_eq!(without_evidence(*claim), whole_claim, "{name} {part} byte {at}");
                    }
                    Outcome::Verified(_) => panic!("{name} {part} byte {at}"),
                    _ => {}
                }
            }
        }
        let part = "/verificationMaterial/tlogEntries/0/inclusionProof/checkpoint/envelope";
        let note = bundle
            .pointer(part)
            .unwrap()
            .as_str()
            .unwrap()
            .as_bytes()
            .to_vec();
        for at in 0..note.len() {
            let mut mutated = note.clone();
            mutated[at] ^= 1;
            let Ok(text) = String::from_utf8(mutated) else {
                continue;
            };
            // The name on the signature's line is not signed; the key is found by its id.
            let mut changed = bundle.clone();
            *changed.pointer_mut(part).unwrap() = json!(text);
            let outcome = verify(&item(&changed), &subject(), &root);
            let signed_by_line = text.rfind('\u{2014}').is_some_and(|line| at > line);
            assert!(
                signed_by_line || !matches!(outcome, Outcome::Verified(_)),
                "{name} checkpoint byte {at}"
            );
        }
    }
}

/// What a proof repeats of the signed checkpoint beside it is no other than there, whichever of the two is believed.
/// Weakened once: without `check_proof_repeats_checkpoint`, changed numbers verify, and a changed rootHash of Rekor v2 in
/// the test above.
#[test]
fn a_proof_with_another_size_or_place_than_in_the_log_is_refused() {
    let world = World::new();
    for (name, bundle) in [("v1", world.logged()), ("v2", world.logged_and_stamped())] {
        for number in ["logIndex", "inclusionProof/logIndex", "inclusionProof/treeSize"] {
            let pointer = format!("/verificationMaterial/tlogEntries/0/{number}");
            let mut changed = bundle.clone();
            let value = changed.pointer_mut(&pointer).unwrap();
            let before: u64 = value.as_str().unwrap().parse().unwrap();
            *value = json!((before + 1).to_string());
            let refusal = refused(ask(&world, &changed));
            assert!(
                matches!(refusal, Refusal::LogInvalid { .. }),
                "{name} {number}: {refusal:?}"
            );
        }
    }
}

/// The certificates in a token prove nothing, and yet none of their bytes may be changed. Weakened once: without
/// `check_carried`, another authority's certificate does no harm.
#[test]
fn a_timestamp_carries_no_other_certificates_than_the_trust_root_has() {
    let world = World::new();
    let stamps = &world.sigstore.timestamps;
    let stamp = |carried: &[&[u8]]| stamps.stamp_carrying(&world.signed.signature, NOON, carried);
    let ask = |stamp: Vec<u8>| ask(&world, &world.bundle(vec![world.entry_2()], &[stamp]));
    let [leaf, root] = [&stamps.chain[0], &stamps.chain[1]].map(Vec::as_slice);
    for carried in [vec![], vec![leaf], vec![leaf, root], vec![root, leaf]] {
        verified(ask(stamp(&carried)));
    }
    let other = Timestamps::new((NOON - YEAR, NOON + YEAR));
    for carried in [
        vec![other.chain[0].as_slice()],
        vec![leaf, &other.chain[1]],
        vec![leaf, &world.certified.certificate],
    ] {
        refused(ask(stamp(&carried)));
    }
    let whole = stamp(&[leaf, root]);
    for certificate in [leaf, root] {
        let start = whole
            .windows(certificate.len())
            .position(|part| part == certificate);
        for at in 0..certificate.len() {
            let mut changed = whole.clone();
            changed[start.unwrap() + at] ^= 1 << (at % 8);
            refused(ask(changed));
        }
    }
}

/// B46: what a claim rests on is in the verifier's id, so no cache can exchange claims. Fails on a build that leaves the
/// root's digest or a demand out of `id`.
#[test]
fn b46_every_setting_that_an_answer_rests_on_is_in_the_verifiers_id() {
    let world = World::new();
    let whole = world.sigstore.trusted_root();
    let mut fewer_logs = whole.clone();
    fewer_logs["tlogs"].as_array_mut().unwrap().remove(0);
    let mut more_authorities = whole.clone();
    let other = Timestamps::new((NOON - YEAR, NOON + YEAR));
    let mut another = whole["timestampAuthorities"][0].clone();
    another["certChain"]["certificates"][0]["rawBytes"] = json!(STANDARD.encode(&other.chain[0]));
    another["certChain"]["certificates"][1]["rawBytes"] = json!(STANDARD.encode(&other.chain[1]));
    more_authorities["timestampAuthorities"]
        .as_array_mut()
        .unwrap()
        .push(another);
    let verifiers = [
        verifier(&whole),
        verifier(&fewer_logs),
        verifier(&more_authorities),
        asking(&whole, Demand::Required, Demand::Required),
        asking(&whole, Demand::Required, Demand::Ignore),
        asking(&whole, Demand::Optional, Demand::Required),
        asking(&whole, Demand::Ignore, Demand::Required),
    ];
    for (at, one) in verifiers.iter().enumerate() {
        assert_eq!(
            one.fingerprint(),
            verifiers[0].fingerprint(),
            "the signer is the same"
        );
        assert!(
            verifiers[at + 1..].iter().all(|other| other.id() != one.id()),
            "{at}"
        );
    }
    let bundle = item(&world.logged());
    let claim = verified(verify(&bundle, &subject(), &verifiers[0]));
    assert_eq!(claim.verifier, verifiers[0].id());
    assert!(matches!(
        refused(verify(&bundle, &subject(), &verifiers[1])),
        Refusal::LogInvalid { .. }
    ));
    let key = Signer::p256().public();
    let root = root(&whole);
    let by = |log, timestamp| {
        Verifier::by_key_with(key.clone(), log, timestamp, Some(root.clone()))
            .unwrap()
            .id()
    };
    assert_ne!(
        by(Demand::Optional, Demand::Ignore),
        by(Demand::Ignore, Demand::Optional)
    );
    assert_eq!(
        by(Demand::Ignore, Demand::Ignore),
        Verifier::by_key(key.clone()).id()
    );
    let renamed = |name: &str| {
        let named = TrustRoot::from_json(whole.to_string().as_bytes())
            .unwrap()
            .named(name);
        Verifier::keyless(matcher(), Demand::Required, Demand::Ignore, Arc::new(named))
            .unwrap()
            .fingerprint()
    };
    assert_ne!(renamed("one"), renamed("two"));
}

/// B46: the same envelope with two timestamps, in either order, proves the same times.
#[test]
fn b46_the_order_of_timestamps_changes_nothing() {
    let world = World::new();
    let (early, late) = (world.stamp(NOON), world.stamp(NOON + MINUTE));
    let times =
        |stamps: &[Vec<u8>]| verified(ask(&world, &world.bundle(vec![world.entry_2()], stamps))).times;
    let one = times(&[early.clone(), late.clone()]);
    assert_eq!(one, times(&[late.clone(), early]));
    assert_eq!(
        (one.earliest(), one.latest()),
        (Some(at(NOON)), Some(at(NOON + MINUTE)))
    );
    assert_eq!(times(&[late]).earliest(), Some(at(NOON + MINUTE)));
}

/// A timestamp by nobody, or out of the certificate's validity, gives no time, and takes none away. Fails on a build that
/// returns the first error in `stamps` whatever the rigour.
#[test]
fn b50_what_does_not_verify_is_left_out_where_it_is_optional() {
    let world = World::new();
    let stranger = Timestamps::new((NOON - YEAR, NOON + YEAR)).stamp(&world.signed.signature, NOON);
    let elsewhere = world.sigstore.timestamps.stamp(b"another signature", NOON);
    let late = world.stamp(NOON + YEAR);
    let mut broken_entry = world.entry_1();
    broken_entry["logIndex"] = json!("42");
    for junk in [stranger, elsewhere, late, vec![], vec![0x30, 0]] {
        let entries = vec![broken_entry.clone(), json!({}), Value::Null, world.entry_1()];
        let claim = verified(ask(&world, &world.bundle(entries, std::slice::from_ref(&junk))));
        assert_eq!(claim.times.iter().count(), 1);
        let required = asking(&world.sigstore.trusted_root(), Demand::Required, Demand::Required);
        let bundle = world.bundle(vec![world.entry_1()], &[junk]);
        let refusal = refused(verify(&item(&bundle), &subject(), &required));
        assert!(matches!(refusal, Refusal::TimestampInvalid { .. }), "{refusal:?}");
    }
    let refusal = refused(ask(&world, &world.bundle(vec![broken_entry], &[])));
    assert!(matches!(refusal, Refusal::LogInvalid { .. }), "{refusal:?}");
}

/// Fails on a build without `is_usable_at` in `timestamp::verify`: the crate takes an expired root for an anchor.
#[test]
fn a_timestamp_counts_only_while_its_authority_is_valid() {
    let mut world = World::new();
    for (start, end) in [(NOON - YEAR, NOON - 1), (NOON + 1, NOON + YEAR)] {
        let mut json = world.sigstore.trusted_root();
        json["timestampAuthorities"][0]["validFor"] = json!({"start": rfc3339(start), "end": rfc3339(end)});
        refused(verify(
            &item(&world.logged_and_stamped()),
            &subject(),
            &verifier(&json),
        ));
    }
    let (past, present) = ((NOON - YEAR, NOON - MINUTE), (NOON - YEAR, NOON + YEAR));
    for (leaf, root) in [(past, present), (present, past)] {
        world.sigstore.timestamps = Timestamps::under(leaf, root);
        refused(ask(&world, &world.logged_and_stamped()));
    }
}
