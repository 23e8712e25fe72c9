//! From the answers about each image to the answer about the workload: the condition `Compliant`, and by the same
//! table over the policies in dry run `DryRunCompliant`.
//!
//! | running images | condition |
//! |---|---|
//! | one fails | False, the worst reason |
//! | none fails, one is Unknown | Unknown, its worst reason |
//! | of the others one passes only by an exception | Unknown/Excepted |
//! | all are covered and hold | True/AllVerified; True/Trusted where one holds without evidence |
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
        Some((Verdict::Compliant, reason)) if judged.len() == images.len() => (Status::True, reason),
        Some((Verdict::Compliant, _)) => (Status::True, Reason::PartlyCovered),
        Some((_, reason)) => (Status::Unknown, reason),
        None if images.is_empty() => (Status::Unknown, Reason::NothingRunning),
        None if images.contains(&ImageSummary::DryRunOnly) => (Status::Unknown, Reason::DryRunOnly),
        None => (Status::Unknown, Reason::NotCovered),
    }
}

/// The worst of several answers: Violating, Unknown, Excepted, NotCovered, Compliant; among equals the one with the most severe
/// reason. None of none.
pub fn worst(answers: impl Iterator<Item = (Verdict, Reason)>) -> Option<(Verdict, Reason)> {
    answers.max_by_key(|(verdict, reason)| (rank(*verdict, *reason), *reason))
}

/// How bad an answer is: by its verdict, and among equals by the severity of its reason.
pub fn rank(verdict: Verdict, reason: Reason) -> (u8, u8) {
    (badness(verdict), severity(reason))
}

/// How severe a reason is among reasons of one verdict: what hints at an attack before what was forgotten, what a person
/// must mend before what passes by itself.
pub fn severity(reason: Reason) -> u8 {
    const ASCENDING: [Reason; 33] = [
        Reason::NotCovered,
        Reason::AllVerified,
        Reason::Trusted,
        Reason::Excepted,
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
        Reason::ScanMissing,
        Reason::KeyMissing,
        Reason::PolicyInvalid,
        Reason::TagNotPinned,
        Reason::IndexNotSigned,
        Reason::SignatureMissing,
        Reason::AttestationMissing,
        Reason::AttestationUndated,
        Reason::AttestationExpired,
        Reason::TooFewSigners,
        Reason::KeyStaged,
        Reason::KeyExpired,
        Reason::AttestationRejected,
        Reason::VulnerabilityFound,
        Reason::SignerNotTrusted,
        Reason::AttestationInvalid,
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

#[cfg(test)]
mod tests {
    use super::*;
    use ImageSummary::{DryRunOnly, Judged, NotCovered};

    const HOLDS: ImageSummary = Judged(Verdict::Compliant, Reason::AllVerified);
    const FAILS: ImageSummary = Judged(Verdict::Violating, Reason::SignatureMissing);
    const EXCEPTED: ImageSummary = Judged(Verdict::Excepted, Reason::Excepted);
    const PENDING: ImageSummary = Judged(Verdict::Unknown, Reason::Pending);

    #[test]
    fn the_condition_follows_the_table() {
        let cases: &[(&[ImageSummary], Status, Reason)] = &[
            (&[HOLDS, FAILS, PENDING], Status::False, Reason::SignatureMissing),
            (&[HOLDS, PENDING], Status::Unknown, Reason::Pending),
            (&[HOLDS, EXCEPTED, NotCovered], Status::Unknown, Reason::Excepted),
            (&[EXCEPTED, PENDING], Status::Unknown, Reason::Pending),
            (&[EXCEPTED, FAILS], Status::False, Reason::SignatureMissing),
            (&[HOLDS, HOLDS], Status::True, Reason::AllVerified),
            (&[HOLDS, NotCovered], Status::True, Reason::PartlyCovered),
            (&[HOLDS, DryRunOnly], Status::True, Reason::PartlyCovered),
            (&[FAILS, NotCovered], Status::False, Reason::SignatureMissing),
            (
                &[PENDING, DryRunOnly, NotCovered],
                Status::Unknown,
                Reason::Pending,
            ),
            (&[DryRunOnly, NotCovered], Status::Unknown, Reason::DryRunOnly),
            (&[], Status::Unknown, Reason::NothingRunning),
        ];
        for (images, status, reason) in cases {
            assert_eq!(
                workload_condition(images.iter().copied()),
                (*status, *reason),
                "{images:?}"
            );
        }
    }

    #[test]
    fn b23_what_no_policy_covers_is_never_compliant() {
        let not_covered = (Status::Unknown, Reason::NotCovered);
        assert_eq!(
            workload_condition([NotCovered, NotCovered].into_iter()),
            not_covered
        );
        let judged = Judged(Verdict::NotCovered, Reason::NotCovered);
        assert_eq!(workload_condition([judged].into_iter()), not_covered);
        assert_eq!(
            workload_condition([HOLDS, judged].into_iter()),
            (Status::True, Reason::PartlyCovered)
        );
    }

    #[test]
    fn an_image_that_is_trusted_without_evidence_shows_in_the_condition() {
        let trusted = Judged(Verdict::Compliant, Reason::Trusted);
        assert_eq!(
            workload_condition([HOLDS, trusted].into_iter()),
            (Status::True, Reason::Trusted)
        );
        assert_eq!(
            workload_condition([trusted, FAILS].into_iter()),
            (Status::False, Reason::SignatureMissing)
        );
    }

    #[test]
    fn a_verdict_of_a_later_version_is_unknown() {
        let other = Judged(Verdict::Other, Reason::Other);
        assert_eq!(
            workload_condition([HOLDS, other].into_iter()),
            (Status::Unknown, Reason::Other)
        );
    }

    #[test]
    fn c5_18_of_several_failures_the_most_severe_is_told_whatever_their_order() {
        let mut images = [
            FAILS,
            Judged(Verdict::Violating, Reason::KeyRevoked),
            Judged(Verdict::Violating, Reason::TagNotPinned),
        ];
        for _ in 0..images.len() {
            images.rotate_left(1);
            assert_eq!(
                workload_condition(images.into_iter()),
                (Status::False, Reason::KeyRevoked)
            );
        }
    }

    #[test]
    fn the_worst_answer_is_violating_before_unknown_before_compliant() {
        let compliant = (Verdict::Compliant, Reason::AllVerified);
        let unknown = (Verdict::Unknown, Reason::PolicyInvalid);
        let violating = (Verdict::Violating, Reason::TagNotPinned);
        assert_eq!(worst([compliant, unknown].into_iter()), Some(unknown));
        assert_eq!(
            worst([violating, compliant, unknown].into_iter()),
            Some(violating)
        );
        assert_eq!(worst(std::iter::empty()), None);
    }

    #[test]
    fn every_reason_has_a_severity_of_its_own() {
        let severities: std::collections::BTreeSet<u8> =
            Reason::ALL.iter().map(|reason| severity(*reason)).collect();
        assert_eq!(severities.len(), Reason::ALL.len());
        assert!(!severities.contains(&severity(Reason::Other)));
    }
}
