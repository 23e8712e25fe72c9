//! Asking a keyless signer about items of the private Sigstore.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;

use assay_verify::{Claim, Demand, IdentityMatcher, Outcome, Pattern, Refusal, TrustRoot, Verifier, verify};
use serde_json::Value;

use super::private::{ISSUER, SUBJECT, World};
use super::{item, subject};

pub fn root(json: &Value) -> Arc<TrustRoot> {
    Arc::new(TrustRoot::from_json(json.to_string().as_bytes()).unwrap())
}

pub fn matcher() -> IdentityMatcher {
    IdentityMatcher::new(Pattern::exact(ISSUER).unwrap(), Pattern::exact(SUBJECT).unwrap())
}

pub fn asking(json: &Value, log: Demand, timestamp: Demand) -> Verifier {
    Verifier::keyless(matcher(), log, timestamp, root(json)).unwrap()
}

/// As a SigningKey without further words asks: the log Required, timestamps looked at.
pub fn verifier(json: &Value) -> Verifier {
    asking(json, Demand::Required, Demand::Optional)
}

pub fn ask(world: &World, bundle: &Value) -> Outcome {
    verify(
        &item(bundle),
        &subject(),
        &verifier(&world.sigstore.trusted_root()),
    )
}

/// The claim without the name of the bytes that it was read from.
pub fn without_evidence(claim: Claim) -> Claim {
    Claim {
        evidence: subject(),
        ..claim
    }
}

#[track_caller]
pub fn verified(outcome: Outcome) -> Claim {
    match outcome {
        Outcome::Verified(claim) => *claim,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
pub fn refused(outcome: Outcome) -> Refusal {
    match outcome {
        Outcome::Refused(refusal) => refusal,
        other => panic!("{other:?}"),
    }
}

pub fn at(seconds: i64) -> jiff::Timestamp {
    jiff::Timestamp::from_second(seconds).unwrap()
}
