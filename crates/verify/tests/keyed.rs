//! Keys that are asked for with a log or with timestamps.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use assay_verify::{Cause, Demand, Outcome, Refusal, TimeSource, Verifier, verify};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::asking::{at, refused, root, verified};
use common::private::{Enveloped, MINUTE, NOON, Sigstore, Timestamps, YEAR, rfc3339};
use common::{COSIGN_SIGN, Signer, item, pem, statement, subject, verify_signature};
use serde_json::{Value, json};

struct Keyed {
    sigstore: Sigstore,
    key: Signer,
    signed: Enveloped,
}

impl Keyed {
    fn new() -> Self {
        let key = Signer::p256();
        let signed = Enveloped::new(&statement(&subject(), COSIGN_SIGN), &key);
        Self {
            sigstore: Sigstore::new(),
            key,
            signed,
        }
    }

    fn entry_1(&self) -> Value {
        self.sigstore
            .entry_1(&self.signed.body_1(&pem("PUBLIC KEY", &self.key.spki())), NOON)
    }

    fn entry_2(&self) -> Value {
        let verifier = json!({"publicKey": {"rawBytes": STANDARD.encode(self.key.spki())}});
        self.sigstore.entry_2(&self.signed.body_2(verifier))
    }

    fn stamp(&self) -> Vec<u8> {
        self.sigstore
            .timestamps
            .stamp(&self.signed.signature, NOON + MINUTE)
    }

    fn bundle(&self, entries: Vec<Value>, timestamps: &[Vec<u8>]) -> Value {
        self.signed
            .bundle(json!({"publicKey": {"hint": "aGludA=="}}), entries, timestamps)
    }

    fn ask(&self, bundle: &Value, log: Demand, timestamp: Demand) -> Outcome {
        self.ask_under(bundle, log, timestamp, &self.sigstore.trusted_root())
    }

    fn ask_under(&self, bundle: &Value, log: Demand, timestamp: Demand, json: &Value) -> Outcome {
        let verifier = Verifier::by_key_with(self.key.public(), log, timestamp, Some(root(json))).unwrap();
        verify(&item(bundle), &subject(), &verifier)
    }
}

#[test]
fn a_key_with_a_log_proves_the_times_that_verify() {
    let keyed = Keyed::new();
    let both = keyed.bundle(vec![keyed.entry_1(), keyed.entry_2()], &[keyed.stamp()]);
    for log in [Demand::Required, Demand::Optional] {
        for timestamp in [Demand::Required, Demand::Optional] {
            let claim = verified(keyed.ask(&both, log, timestamp));
            let times: Vec<_> = claim.times.iter().map(|time| (time.at, time.source)).collect();
            assert_eq!(
                times,
                [
                    (at(NOON), TimeSource::TransparencyLog),
                    (at(NOON + MINUTE), TimeSource::TimestampAuthority)
                ]
            );
            assert_eq!((claim.identity, claim.created_after), (None, None));
        }
    }
    assert!(
        verified(verify_signature(&item(&both), &subject(), &keyed.key.public()))
            .times
            .is_empty()
    );
    let claim = verified(keyed.ask(&both, Demand::Ignore, Demand::Optional));
    assert_eq!(claim.times.earliest(), Some(at(NOON + MINUTE)));
}

/// Whatever is demanded of the log: without the entry's time the claim would be another one. Fails on a build that
/// leaves such an entry out.
#[test]
fn b04_nobody_can_tell_of_a_keys_signature_either_before_its_logs_time_has_come() {
    let keyed = Keyed::new();
    let future = NOON + 9 * YEAR;
    let body = keyed.signed.body_1(&pem("PUBLIC KEY", &keyed.key.spki()));
    let bundle = keyed.bundle(vec![keyed.sigstore.entry_1(&body, future)], &[]);
    for log in [Demand::Required, Demand::Optional] {
        let not_yet = Outcome::CannotTell(Cause::NotYet { at: at(future) });
        assert_eq!(keyed.ask(&bundle, log, Demand::Optional), not_yet, "{log:?}");
    }
    verified(keyed.ask(&bundle, Demand::Ignore, Demand::Optional));
}

#[test]
fn what_is_required_and_missing_is_a_refusal() {
    let keyed = Keyed::new();
    let bare = keyed.bundle(vec![], &[]);
    assert_eq!(
        refused(keyed.ask(&bare, Demand::Required, Demand::Ignore)),
        Refusal::LogMissing
    );
    assert_eq!(
        refused(keyed.ask(&bare, Demand::Ignore, Demand::Required)),
        Refusal::TimestampMissing
    );
    verified(keyed.ask(&bare, Demand::Optional, Demand::Optional));
}

/// Fails on a build where `times` is asked before the key: the stranger's signature then has times of its own.
#[test]
fn another_keys_signature_is_refused_whatever_the_log_says() {
    let (keyed, other) = (Keyed::new(), Keyed::new());
    let bundle = other.bundle(vec![other.entry_1()], &[other.stamp()]);
    for demand in [Demand::Required, Demand::Optional, Demand::Ignore] {
        let outcome = keyed.ask_under(&bundle, demand, demand, &other.sigstore.trusted_root());
        assert_eq!(refused(outcome), Refusal::SignatureMismatch);
    }
}

/// Fails on a build that answers `Ok` for `Err` in `entries` or `stamps`, and on one that answers `Err` under Optional.
#[test]
fn b50_unverifiable_entries_and_timestamps_spoil_only_where_they_are_required() {
    let keyed = Keyed::new();
    let stranger = Timestamps::new((NOON - YEAR, NOON + YEAR)).stamp(&keyed.signed.signature, NOON);
    let mut entry = keyed.entry_1();
    entry["inclusionPromise"]["signedEntryTimestamp"] = json!("AAAA");
    let bundle = keyed.bundle(vec![entry, json!({"logIndex": "1"})], &[stranger, vec![1]]);
    for (log, timestamp) in [
        (Demand::Optional, Demand::Optional),
        (Demand::Optional, Demand::Ignore),
        (Demand::Ignore, Demand::Optional),
        (Demand::Ignore, Demand::Ignore),
    ] {
        assert!(verified(keyed.ask(&bundle, log, timestamp)).times.is_empty());
    }
    let log = refused(keyed.ask(&bundle, Demand::Required, Demand::Ignore));
    assert!(matches!(log, Refusal::LogInvalid { .. }), "{log:?}");
    let timestamp = refused(keyed.ask(&bundle, Demand::Ignore, Demand::Required));
    assert!(
        matches!(timestamp, Refusal::TimestampInvalid { .. }),
        "{timestamp:?}"
    );
}

/// CVE-2022-36056: the entry must be about this signature by this key.
#[test]
fn b03_a_log_entry_of_another_key_or_signature_does_not_count() {
    let (keyed, other) = (Keyed::new(), Keyed::new());
    let again = Enveloped::new(&statement(&subject(), COSIGN_SIGN), &keyed.key);
    let by_key = |body: &Value| keyed.sigstore.entry_1(body, NOON);
    let own = pem("PUBLIC KEY", &keyed.key.spki());
    for (what, entry) in [
        ("another signature by the same key", by_key(&again.body_1(&own))),
        (
            "another key",
            by_key(&keyed.signed.body_1(&pem("PUBLIC KEY", &other.key.spki()))),
        ),
        (
            "another payload",
            by_key(&Enveloped::new("{}", &keyed.key).body_1(&own)),
        ),
        ("another log", other.entry_1()),
    ] {
        let bundle = keyed.bundle(vec![entry], &[]);
        let refusal = refused(keyed.ask(&bundle, Demand::Required, Demand::Ignore));
        assert!(
            matches!(refusal, Refusal::LogInvalid { .. }),
            "{what}: {refusal:?}"
        );
    }
}

/// Nobody vouches for the time of an entry in Rekor v2: a log whose key has an end cannot be believed without one.
#[test]
fn b48_without_any_time_only_a_log_key_without_end_counts() {
    let keyed = Keyed::new();
    let bundle = keyed.bundle(vec![keyed.entry_2()], &[]);
    assert!(
        verified(keyed.ask(&bundle, Demand::Required, Demand::Ignore))
            .times
            .is_empty()
    );
    let mut json = keyed.sigstore.trusted_root();
    json["tlogs"][1]["publicKey"]["validFor"]["end"] = json!(rfc3339(NOON + YEAR));
    let refusal = refused(keyed.ask_under(&bundle, Demand::Required, Demand::Ignore, &json));
    assert!(matches!(refusal, Refusal::LogInvalid { why } if why.contains("end")));
    let stamped = keyed.bundle(vec![keyed.entry_2()], &[keyed.stamp()]);
    verified(keyed.ask_under(&stamped, Demand::Required, Demand::Required, &json));
}

#[test]
fn a_keyless_bundle_under_the_log_of_a_key_is_not_the_keys() {
    let keyed = Keyed::new();
    let certified = keyed.sigstore.certify(&common::private::Leaf::default());
    let mut bundle = keyed.bundle(vec![keyed.entry_1()], &[]);
    bundle["verificationMaterial"]
        .as_object_mut()
        .unwrap()
        .remove("publicKey");
    bundle["verificationMaterial"]["certificate"] = certified.holder()["certificate"].clone();
    // The certificate proves nothing and spoils nothing: the key's own signature is what counts.
    verified(keyed.ask(&bundle, Demand::Ignore, Demand::Ignore));
}
