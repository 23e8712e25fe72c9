//! From the answers about each image to the answer about the workload: the condition `Compliant`, and by the same
//! table over the policies in dry run `DryRunCompliant`.
//!
//! | running images | condition |
//! |---|---|
//! | one fails | False, the worst reason |
//! | none fails, one is Unknown | Unknown, its worst reason |
//! | all are covered and hold | True/AllVerified |
//! | some are covered and hold, others are covered by none | True/PartlyCovered |
//! | only policies in dry run cover | Unknown/DryRunOnly |
//! | no policy covers any | Unknown/NotCovered |
//! | nothing runs | Unknown/NothingRunning |

use api::conditions::Status;
use api::{Reason, Verdict};

use crate::evaluate::badness;

/// What the policies of the modes in question say of one running image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageSummary {
    /// They cover it: the worst of their answers.
    Judged(Verdict, Reason),
    /// Only policies in dry run cover it. Not used for `DryRunCompliant`, where those policies judge.
    DryRunOnly,
    /// None covers it.
    NotCovered,
}

/// The condition of a workload that runs these images.
pub fn workload_condition(images: impl Iterator<Item = ImageSummary>) -> (Status, Reason) {
    let images: Vec<ImageSummary> = images.collect();
    let judged = images.iter().filter_map(|image| match image {
        ImageSummary::Judged(Verdict::NotCovered, _)
        | ImageSummary::DryRunOnly
        | ImageSummary::NotCovered => None,
        ImageSummary::Judged(verdict, reason) => Some((*verdict, *reason)),
    });
    let judged: Vec<(Verdict, Reason)> = judged.collect();
    match worst(judged.iter().copied()) {
        Some((Verdict::Violating, reason)) => (Status::False, reason),
        Some((Verdict::Compliant, _)) if judged.len() == images.len() => (Status::True, Reason::AllVerified),
        Some((Verdict::Compliant, _)) => (Status::True, Reason::PartlyCovered),
        Some((_, reason)) => (Status::Unknown, reason),
        None if images.is_empty() => (Status::Unknown, Reason::NothingRunning),
        None if images.contains(&ImageSummary::DryRunOnly) => (Status::Unknown, Reason::DryRunOnly),
        None => (Status::Unknown, Reason::NotCovered),
    }
}

/// The worst of several answers: Violating, Unknown, NotCovered, Compliant; among equals the one with the most severe
/// reason. None of none.
pub fn worst(answers: impl Iterator<Item = (Verdict, Reason)>) -> Option<(Verdict, Reason)> {
    answers.max_by_key(|(verdict, reason)| (badness(*verdict), severity(*reason), *reason))
}

/// How severe a reason is among reasons of one verdict: what hints at an attack before what was forgotten, what a person
/// must mend before what passes by itself.
pub fn severity(reason: Reason) -> u8 {
    const ASCENDING: [Reason; 24] = [
        Reason::NotCovered,
        Reason::AllVerified,
        Reason::NothingRunning,
        Reason::PartlyCovered,
        Reason::DryRunOnly,
        Reason::Pending,
        Reason::RateLimited,
        Reason::RegistryUnavailable,
        Reason::Stale,
        Reason::EvidenceTooLarge,
        Reason::RegistryDenied,
        Reason::ImageNotFound,
        Reason::DigestUnresolved,
        Reason::KeyMissing,
        Reason::PolicyInvalid,
        Reason::TagNotPinned,
        Reason::IndexNotSigned,
        Reason::SignatureMissing,
        Reason::TooFewSigners,
        Reason::KeyStaged,
        Reason::KeyExpired,
        Reason::SignerNotTrusted,
        Reason::SignatureInvalid,
        Reason::KeyDisabled,
    ];
    match reason {
        Reason::KeyRevoked => u8::MAX,
        _ => ASCENDING
            .iter()
            .position(|known| *known == reason)
            .and_then(|at| u8::try_from(at).ok())
            .unwrap_or(100),
    }
}
