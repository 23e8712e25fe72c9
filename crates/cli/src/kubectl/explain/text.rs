//! The explanation for people.

use std::fmt::Write as _;

use api::{
    ContainerType, ImageCompliance, ImageResult, NextStart, PolicyResult, Requirement, StartDecision, Verdict,
};

use super::{Explanation, heading};
use crate::kubectl::tone;
use crate::table::{Style, paragraph};

/// The whole text.
pub(super) fn of(explanation: &Explanation, style: Style) -> String {
    let mut parts: Vec<String> = explanation
        .found
        .iter()
        .map(|compliance| workload(explanation, compliance, style))
        .collect();
    if explanation.policies.is_none() {
        parts.push(paragraph(
            "",
            "You may not read policies, so of their requirements only those are shown that decided.",
        ));
    }
    parts.join("\n")
}

fn workload(explanation: &Explanation, compliance: &ImageCompliance, style: Style) -> String {
    let status = &compliance.status;
    let mut text = format!("{}\n", heading(compliance));
    for condition in &status.conditions {
        let said = format!("{} ({})", condition.status, condition.reason);
        text += &paragraph(&format!("  {}: {said}  ", condition.type_), &condition.message);
        if condition.message.is_empty() {
            let _ = writeln!(text, "  {}: {said}", condition.type_);
        }
    }
    if let Some(managed_by) = status
        .workload
        .as_ref()
        .and_then(|workload| workload.managed_by.as_ref())
    {
        let _ = writeln!(text, "  Managed by {managed_by}");
    }
    for image in &status.images {
        text += &self::image(explanation, image, style);
    }
    if status.images.is_empty() {
        text += "  Nothing of this runs.\n";
    }
    if let Some(next) = &status.next_start {
        text += &next_start(next, style);
    }
    if let Some(omitted) = status.omitted.filter(|omitted| *omitted > 0) {
        let _ = writeln!(
            text,
            "\n  {omitted} more results are not shown: the object would be too large."
        );
    }
    text
}

/// What would be said if the workload's template started now.
fn next_start(next: &NextStart, style: Style) -> String {
    let decision = style.paint(tone(next.verdict), &format!("{:?}", next.decision));
    if next.decision == StartDecision::Admit
        && next.verdict == Verdict::Compliant
        && next.moved_tags.is_empty()
    {
        return format!("\n  Its next start: {decision}\n");
    }
    let mut text = format!(
        "\n  Its next start: {decision}, {} by policy {}\n  {}\n",
        next.reason, next.policy, next.image
    );
    if !next.digest.is_empty() {
        let _ = writeln!(text, "  {}", next.digest);
    }
    if let Some(message) = next.message.as_deref().filter(|message| !message.is_empty()) {
        text += &paragraph("    ", message);
    }
    let others: Vec<&str> = next
        .moved_tags
        .iter()
        .map(String::as_str)
        .filter(|moved| *moved != next.image)
        .collect();
    if !others.is_empty() {
        let moved = format!(
            "These tags name another digest now than the one that runs: {}",
            others.join(", ")
        );
        text += &paragraph("    ", &moved);
    }
    text
}

fn image(explanation: &Explanation, image: &ImageResult, style: Style) -> String {
    let digest = match image.digest.as_str() {
        "" => "(it cannot be told which digest runs)",
        digest => digest,
    };
    let containers: Vec<String> = image
        .containers
        .iter()
        .map(|container| format!("{} {}", container_type(container.type_), container.name))
        .collect();
    let mut text = format!("\n  {}\n  {digest}\n", image.image);
    if !containers.is_empty() {
        text += &paragraph("  runs in ", &containers.join(", "));
    }
    if image.policies.is_empty() {
        text += "    No policy covers this image.\n";
    }
    for result in &image.policies {
        text += &policy(explanation, result, style);
        text += &beside(explanation, result, &image.policies);
    }
    text
}

fn policy(explanation: &Explanation, result: &PolicyResult, style: Style) -> String {
    let verdict = style.paint(tone(result.verdict), &result.verdict.to_string());
    let said = format!(
        "{} ({}): {verdict}, {}, since {}",
        result.name,
        result.mode.as_str(),
        result.reason,
        result.since.0
    );
    let mut text = paragraph("    Policy ", &said);
    let spec = explanation
        .policies
        .as_ref()
        .and_then(|policies| policies.get(&result.name));
    match spec {
        Some(spec) => {
            for entry in &spec.require {
                let standing = standing(result, &entry.name);
                text += &paragraph(
                    &format!("      {:<8}", standing.word()),
                    &format!("{}: {}", entry.name, requirement(entry)),
                );
            }
        }
        None => {
            if let Some(name) = &result.requirement {
                let _ = writeln!(text, "      {:<8}{name}", standing(result, name).word());
            }
        }
    }
    if let Some(message) = result.message.as_deref().filter(|message| !message.is_empty()) {
        text += &paragraph("      ", message);
    }
    if let Some(since) = &result.stale_since {
        let _ = writeln!(text, "      It could not be refreshed since {}.", since.0);
    }
    if let Some(until) = &result.valid_until {
        let becomes = result.will_become.as_ref();
        let becomes = becomes.map_or(String::new(), |becomes| {
            let message = becomes.message.as_deref().unwrap_or_default();
            format!(" to {}, {}. {message}", becomes.verdict, becomes.reason)
        });
        let change = format!("This changes by itself at {}{becomes}", until.0);
        text += &paragraph("      ", &change);
    }
    text
}

/// What the policy says that this one is to take the place of.
fn beside(explanation: &Explanation, result: &PolicyResult, all: &[PolicyResult]) -> String {
    let policies = explanation.policies.as_ref();
    let spec = policies.and_then(|policies| policies.get(&result.name));
    let Some(other) = spec.and_then(|spec| spec.supersedes.as_ref()) else {
        return String::new();
    };
    let said = match all.iter().find(|said| said.name == *other) {
        Some(said) => format!("says {}, {}", said.verdict, said.reason),
        None => "does not cover this image".to_owned(),
    };
    paragraph(
        "      ",
        &format!("Policy {other}, which this one supersedes, {said}."),
    )
}

/// What is known of one requirement of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Holds,
    Fails,
    NotTold,
    /// Another one decided first.
    NotReached,
}

impl Standing {
    fn word(self) -> &'static str {
        match self {
            Standing::Holds => "holds",
            Standing::Fails => "fails",
            Standing::NotTold => "unknown",
            Standing::NotReached => "-",
        }
    }
}

fn standing(result: &PolicyResult, requirement: &str) -> Standing {
    let decided = result.requirement.as_deref() == Some(requirement);
    match result.verdict {
        Verdict::Compliant => Standing::Holds,
        Verdict::Violating | Verdict::Excepted if decided => Standing::Fails,
        Verdict::Unknown | Verdict::Other if decided => Standing::NotTold,
        _ => Standing::NotReached,
    }
}

/// What a requirement asks for, in a sentence.
pub(super) fn requirement(entry: &Requirement) -> String {
    let rings = |rings: &[String]| format!("by key ring {}", rings.join(" or "));
    let age = |age: &Option<String>| {
        age.as_ref()
            .map_or(String::new(), |age| format!(", not older than {age}"))
    };
    if let Some(signature) = &entry.signature {
        let all = signature.signed_by.len();
        return match signature
            .minimum
            .and_then(|minimum| usize::try_from(minimum).ok())
        {
            Some(minimum) if minimum > 1 => format!(
                "signatures by at least {minimum} of {all} key rings ({})",
                signature.signed_by.join(", ")
            ),
            _ => format!("a signature {}", rings(&signature.signed_by)),
        };
    }
    if let Some(attestation) = &entry.attestation {
        let validations = match attestation.validations.len() {
            0 => String::new(),
            1 => ", with 1 expression that must be true".to_owned(),
            many => format!(", with {many} expressions that must be true"),
        };
        return format!(
            "an attestation of type {} {}{}{validations}",
            attestation.predicate_type,
            rings(&attestation.signed_by),
            age(&attestation.max_age)
        );
    }
    if let Some(provenance) = &entry.provenance {
        let from = |what: &str, value: &Option<String>| {
            value
                .as_ref()
                .map_or(String::new(), |value| format!(", {what} {value}"))
        };
        return format!(
            "provenance {}{}{}{}{}",
            rings(&provenance.signed_by),
            from("builder", &provenance.builder_id),
            from("source", &provenance.source_repository),
            from("reference", &provenance.source_ref),
            age(&provenance.max_age)
        );
    }
    if let Some(scan) = &entry.vulnerabilities {
        return format!(
            "a scan for vulnerabilities {}, not older than {}; worst accepted with a fix {:?}, without one {:?}",
            rings(&scan.signed_by),
            scan.max_age,
            scan.max_fixable.unwrap_or_default(),
            scan.max_unfixable.unwrap_or_default()
        );
    }
    match &entry.trusted {
        Some(trusted) => format!("nothing: trusted without evidence, because {}", trusted.reason),
        None => "something that this version of the command does not know".to_owned(),
    }
}

fn container_type(type_: ContainerType) -> &'static str {
    match type_ {
        ContainerType::Container => "container",
        ContainerType::Init => "init container",
        ContainerType::Sidecar => "sidecar",
        ContainerType::Ephemeral => "ephemeral container",
        ContainerType::ImageVolume => "image volume",
        ContainerType::Other => "container of another type",
    }
}
