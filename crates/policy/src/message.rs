//! The words for the owner of a workload, who cannot read policies and keys: what was looked for, what was found, what to
//! do next. No time and no count that changes by itself; at most 512 characters, control characters taken out.

use std::collections::BTreeSet;
use std::sync::Arc;

use api::Reason;

use crate::attestation::MaxAge;
use crate::place::Subject;
use crate::provenance::ProvenanceRule;
use crate::rule::{Failure, Kind, Rule};
use crate::signature::SignatureRule;
use crate::signers::{Discount, Doubt, DoubtKind, Findings};

/// The longest message, in characters.
pub(crate) const MAX_CHARS: usize = 512;
/// How many names a list shows.
const NAMES_SHOWN: usize = 3;
/// The longest text from outside that a message shows, in characters.
const FOREIGN_CHARS: usize = 100;

pub(crate) fn unparsable() -> String {
    finish(
        "The image reference in the workload cannot be read, so the image and its signatures cannot be looked up. \
         Write it as registry/repository:tag or registry/repository@sha256:digest.",
        "",
    )
}

pub(crate) fn not_started() -> String {
    finish(
        "The container has not started yet, so its image has no digest to check. The answer follows when it starts.",
        "",
    )
}

pub(crate) fn unresolved(why: &str) -> String {
    finish(&format!("The digest that runs cannot be told: {why}."), "")
}

pub(crate) fn not_pinned(remediation: &str) -> String {
    let body = "The workload names its image by tag, and the policy asks for a digest, because a tag can move. \
         Name the image as registry/repository@sha256:digest.";
    finish(body, remediation)
}

/// What to say of a requirement that cannot be told.
pub(crate) fn doubt(rule: &Rule, doubt: &Doubt, remediation: &str) -> String {
    let wanted = wanted(&rule.kind);
    let text = &doubt.text;
    let (body, remediation) = match doubt.kind {
        DoubtKind::Evidence => (
            format!(
                "looked for {wanted}, but what exists is not fully known: {text}. {}",
                after_gap(doubt.reason)
            ),
            "",
        ),
        DoubtKind::Key => (
            format!(
                "looked for {wanted}, but {text}, so some signers cannot be told. \
                 Ask whoever keeps the signing keys of this cluster to provide the key."
            ),
            "",
        ),
        DoubtKind::Item | DoubtKind::NotAtHand => (
            format!("looked for {wanted}, but {text}. {}", after_gap(doubt.reason)),
            "",
        ),
        DoubtKind::Absence => (
            format!("looked for {wanted}; {text}. {}", next_step(doubt.reason)),
            remediation,
        ),
    };
    finish(&format!("Requirement {}: {body}", rule.name), remediation)
}

fn after_gap(reason: Reason) -> &'static str {
    match reason {
        Reason::RegistryDenied => "Check that the registry lets Assay read this repository.",
        Reason::ImageNotFound => {
            "Check that the image still exists under the repository that the workload names."
        }
        Reason::EvidenceTooLarge => "Remove what is oversized from the repository, or sign the image again.",
        _ => "Assay asks again by itself.",
    }
}

/// What to say of a requirement that does not hold.
pub(crate) fn failure(rule: &Rule, failure: &Failure, remediation: &str) -> String {
    let body = format!(
        "Requirement {}: looked for {} on {}; {}. {}",
        rule.name,
        wanted(&rule.kind),
        place(&failure.subject),
        failure.found,
        next_step(failure.reason)
    );
    finish(&body, remediation)
}

/// What to say of a violation that an exception passes over. `why`: what the exception says of itself.
pub(crate) fn excepted(exception: &str, why: &str, violation: &str) -> String {
    let why = cut(&clean(why), FOREIGN_CHARS);
    finish(
        &format!("ImageException {exception} passes over this for a while ({why}): {violation}"),
        "",
    )
}

fn wanted(kind: &Kind) -> String {
    match kind {
        Kind::Signature(rule) => wanted_signature(rule),
        Kind::Attestation(rule) => format!(
            "an attestation of type {} by {}{}",
            rule.predicate_type(),
            one_of(rule.rings()),
            no_older(rule.max_age())
        ),
        Kind::Provenance(rule) => wanted_provenance(rule),
        Kind::Vulnerabilities(rule) => format!(
            "a scan for vulnerabilities by {}{}",
            one_of(&rule.rings),
            no_older(Some(&rule.max_age))
        ),
        Kind::Trusted(rule) => format!("nothing ({})", rule.reason()),
    }
}

fn wanted_signature(rule: &SignatureRule) -> String {
    let rings = list(rule.rings().iter().map(|ring| ring.to_string()));
    match (rule.minimum(), rule.rings().len()) {
        (1, _) => format!("a signature by {}", one_of(rule.rings())),
        (minimum, all) if minimum == all => format!("signatures by each of the key rings {rings}"),
        (minimum, _) => format!("signatures by {minimum} of the key rings {rings}"),
    }
}

fn wanted_provenance(rule: &ProvenanceRule) -> String {
    let mut text = format!(
        "SLSA provenance by {}{}",
        one_of(&rule.rings),
        no_older(rule.max_age.as_ref())
    );
    for (what, value) in [
        ("the builder", &rule.builder),
        ("the source", &rule.repository),
        ("its reference", &rule.reference),
    ] {
        if let Some(value) = value {
            text.push_str(&format!(", naming {what} {value}"));
        }
    }
    text
}

fn one_of(rings: &[Arc<str>]) -> String {
    let names = list(rings.iter().map(|ring| ring.to_string()));
    match rings.len() {
        1 => format!("key ring {names}"),
        _ => format!("one of the key rings {names}"),
    }
}

fn no_older(max_age: Option<&MaxAge>) -> String {
    max_age
        .map(|age| format!(", no older than {}", age.text))
        .unwrap_or_default()
}

fn place(subject: &Subject) -> String {
    match subject {
        Subject::Image => "the image".into(),
        Subject::ImageOrIndex => "the image or an index that lists it".into(),
        Subject::Index => "the index (multi-arch image) that runs".into(),
        Subject::Platform(digest) => format!("the platform manifest {digest} of the index that runs"),
    }
}

/// What the signers of what was found tell, as a clause.
pub(crate) fn found(reason: Reason, findings: &Findings) -> String {
    match reason {
        Reason::TooFewSigners => too_few(findings),
        Reason::KeyRevoked | Reason::KeyDisabled | Reason::KeyExpired | Reason::KeyStaged => {
            format!("found only signatures that do not count: {}", discounts(findings))
        }
        Reason::SignatureInvalid => invalid(findings, "a signature"),
        Reason::AttestationInvalid => invalid(findings, "an attestation"),
        Reason::SignerNotTrusted => strangers(findings),
        Reason::AttestationMissing if !findings.others.is_empty() => {
            format!(
                "found only attestations of other types: {}",
                foreign(&findings.others)
            )
        }
        Reason::AttestationMissing => "found no attestation".into(),
        Reason::ScanMissing => "found no scan".into(),
        _ if !findings.others.is_empty() => {
            "found no signature, only attestations or signed blobs, which are not signatures of an image"
                .into()
        }
        _ => "found no signature".into(),
    }
}

/// Names that anybody may have written.
fn foreign(names: &BTreeSet<String>) -> String {
    list(names.iter().map(|name| cut(name, FOREIGN_CHARS)))
}

fn too_few(findings: &Findings) -> String {
    let by_ring =
        |(ring, keys): (&Arc<str>, &BTreeSet<Arc<str>>)| format!("{ring} (SigningKey {})", names(keys));
    let mut text = format!(
        "found too few distinct signers: only key ring {}",
        list(findings.counted.iter().map(by_ring))
    );
    if findings.counted.len() > 1 {
        text.push_str("; one key counts once, whatever rings it is in");
    }
    if !findings.discounted.is_empty() {
        text.push_str(&format!("; {}", discounts(findings)));
    }
    text
}

fn discounts(findings: &Findings) -> String {
    let clause = |(discount, keys): (&Discount, &BTreeSet<Arc<str>>)| {
        let state = match discount {
            Discount::Revoked => "revoked",
            Discount::Disabled => "disabled",
            Discount::OutsideValidity => "outside its validity",
            Discount::Staged => "staged and not in use yet",
        };
        format!("SigningKey {} is {state}", names(keys))
    };
    findings
        .discounted
        .iter()
        .map(clause)
        .collect::<Vec<_>>()
        .join("; ")
}

fn invalid(findings: &Findings, what: &str) -> String {
    match findings.invalid.first() {
        Some((key, why)) => {
            format!("found something in the name of SigningKey {key} that does not count: {why}")
        }
        None => format!("found only something that cannot be read as {what}"),
    }
}

fn strangers(findings: &Findings) -> String {
    let known = list(
        findings
            .untrusted
            .iter()
            .map(|(ring, key)| format!("{key} (key ring {ring})")),
    );
    let stranger = match findings.unasked {
        true => "a key that is not trusted (there are too many SigningKeys or signatures to find out which)",
        false => "a key that Assay does not know",
    };
    match (findings.untrusted.is_empty(), findings.strangers) {
        (true, _) => format!("found only signatures by {stranger}"),
        (false, false) => {
            format!("found only signatures that this requirement does not trust, by SigningKey {known}")
        }
        (false, true) => format!(
            "found only signatures that this requirement does not trust, by SigningKey {known} and by {stranger}"
        ),
    }
}

fn next_step(reason: Reason) -> &'static str {
    match reason {
        Reason::KeyRevoked => "Treat the image as suspect: rebuild it and have it signed with a key in use.",
        Reason::KeyDisabled | Reason::KeyExpired => "Have the image signed with a key in use.",
        Reason::KeyStaged => {
            "Have the image signed with a key in use, or wait until this one is put into use."
        }
        Reason::TooFewSigners => "Have the missing signers sign the same digest.",
        Reason::SignatureInvalid => "Sign this very image again and remove what is not a signature of it.",
        Reason::SignerNotTrusted => "Check where the image comes from, and have a trusted signer sign it.",
        Reason::AttestationMissing => "Have the image attested, or run one that is.",
        Reason::AttestationInvalid => "Have this very image attested again.",
        Reason::AttestationExpired => "Have the image attested anew: scan it again, or build it again.",
        Reason::AttestationUndated => {
            "Have it attested with a time in the predicate, or by a signer with a certificate."
        }
        Reason::AttestationRejected => "Mend what was attested, and have the image attested again.",
        Reason::ScanMissing => "Have the image scanned by a trusted scanner, and the report attested.",
        Reason::VulnerabilityFound => {
            "Update what is vulnerable, and have the new image scanned; or ask whoever keeps the policy."
        }
        Reason::IndexNotSigned => {
            "Sign the index itself; signatures of its platform manifests do not count for it."
        }
        _ => "Sign the image, or run one that is signed.",
    }
}

fn names(keys: &BTreeSet<Arc<str>>) -> String {
    list(keys.iter().map(|name| name.to_string()))
}

/// The first few, and that there are more.
fn list(entries: impl Iterator<Item = String>) -> String {
    let entries: Vec<String> = entries.collect();
    let shown = entries
        .iter()
        .take(NAMES_SHOWN)
        .cloned()
        .collect::<Vec<_>>()
        .join(", ");
    if entries.len() > NAMES_SHOWN {
        format!("{shown} and others")
    } else {
        shown
    }
}

/// The body, cut if it must be so that the remediation stays whole.
fn finish(body: &str, remediation: &str) -> String {
    let body = clean(body);
    let remediation = clean(remediation);
    if remediation.is_empty() {
        return cut(&body, MAX_CHARS);
    }
    let room = MAX_CHARS.saturating_sub(remediation.chars().count() + 1);
    if room == 0 {
        return cut(&remediation, MAX_CHARS);
    }
    format!("{} {remediation}", cut(&body, room))
}

fn clean(text: &str) -> String {
    let unseen = |character: char| character.is_control() || turns_text(character);
    text.trim()
        .chars()
        .map(|character| if unseen(character) { ' ' } else { character })
        .collect()
}

/// Whether it changes the direction in which what follows is shown (Unicode UAX #9), so that it reads as something else.
fn turns_text(character: char) -> bool {
    matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// At most this many characters; where something is cut off, the last is an ellipsis.
pub fn cut(text: &str, limit: usize) -> String {
    if text.chars().nth(limit).is_none() {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(limit.saturating_sub(1)).collect();
    short.push('…');
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_cut_at_512_characters_and_the_remediation_stays_whole() {
        let body = "ü".repeat(600);
        let remediation = "Ask the team.";
        let message = finish(&body, remediation);
        assert_eq!(message.chars().count(), MAX_CHARS);
        assert!(message.ends_with("… Ask the team."), "{message}");
        assert_eq!(finish(&body, "").chars().count(), MAX_CHARS);
        assert!(finish(&body, "").ends_with('…'));
        assert_eq!(finish(&body, &"x".repeat(600)).chars().count(), MAX_CHARS);
        assert_eq!(finish("short", "Ask."), "short Ask.");
    }

    #[test]
    fn a_message_of_exactly_512_characters_is_not_cut() {
        assert_eq!(finish(&"ü".repeat(MAX_CHARS), ""), "ü".repeat(MAX_CHARS));
    }

    #[test]
    fn control_characters_of_remote_texts_do_not_reach_the_reader() {
        assert_eq!(finish("a\nb\u{1b}[31mc", ""), "a b [31mc");
        assert_eq!(finish("by \u{202e}esaeler\u{2069} key", ""), "by  esaeler  key");
    }

    #[test]
    fn long_lists_show_the_first_names_and_that_there_are_more() {
        let names = ["a", "b", "c", "d"].map(str::to_owned);
        assert_eq!(list(names.clone().into_iter().take(3)), "a, b, c");
        assert_eq!(list(names.into_iter()), "a, b, c and others");
    }
}
