//! What can be said of the documents without running anything: links, names, completeness.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::{documents, read};

/// The anchor that a heading gets on the usual hosts of Markdown.
fn anchor(heading: &str) -> String {
    let kept = heading
        .trim()
        .to_lowercase()
        .chars()
        .filter(|letter| letter.is_alphanumeric() || matches!(letter, ' ' | '-' | '_'))
        .collect::<String>();
    kept.replace(' ', "-")
}

fn anchors(document: &str) -> BTreeSet<String> {
    let headings = document.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|line| anchor(line.trim_start_matches('#')))
        .collect()
}

/// The targets of `[text](target)`.
fn links(document: &str) -> impl Iterator<Item = &str> {
    document
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')'))
        .map(|(target, _)| target)
}

/// The words in backticks in the first column of tables.
fn first_cells(document: &str) -> BTreeSet<&str> {
    let rows = document.lines().filter_map(|line| line.strip_prefix("| "));
    let cells = rows.filter_map(|row| row.split(" |").next());
    cells
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .collect()
}

fn in_docs(name: &str) -> String {
    read(&testkit::workspace_root().join("docs").join(name))
}

#[test]
fn every_link_within_the_documents_leads_somewhere() {
    for file in documents() {
        let document = read(&file);
        for link in links(&document).filter(|link| !link.contains("://")) {
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target: PathBuf = match path {
                "" => file.clone(),
                path => file.parent().unwrap_or(Path::new("/")).join(path),
            };
            assert!(target.exists(), "{}: {link} leads nowhere", file.display());
            let found = anchor.is_empty() || anchors(&read(&target)).contains(anchor);
            assert!(found, "{}: {link} names no heading of its file", file.display());
        }
    }
}

#[test]
fn every_reason_is_explained() {
    let reference = in_docs("reference.md");
    let troubleshooting = in_docs("troubleshooting.md");
    let explained = first_cells(&reference);
    let good = [
        "AllVerified",
        "PartlyCovered",
        "DryRunOnly",
        "NothingRunning",
        "Trusted",
        "NotCovered",
    ];
    for reason in api::Reason::ALL {
        let name = reason.as_str();
        assert!(
            explained.contains(name),
            "docs/reference.md does not explain {name}"
        );
        let has_heading = || {
            let mut headings = troubleshooting.lines().filter(|line| line.starts_with("## "));
            headings.any(|line| line[3..].split(", ").any(|word| word == name))
        };
        assert!(
            good.contains(&name) || has_heading(),
            "docs/troubleshooting.md has no section about {name}"
        );
    }
}

#[test]
fn every_alert_has_a_section_and_every_section_an_alert() {
    let rules = read(&testkit::workspace_root().join("config/prometheus/rules.yaml"));
    let alerts: BTreeSet<&str> = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
        .collect();
    let document = in_docs("alerts.md");
    let sections: BTreeSet<&str> = document
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .collect();
    assert_eq!(alerts, sections);
    let named: BTreeSet<String> = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("runbook_url: docs/alerts.md#"))
        .map(str::to_owned)
        .collect();
    assert_eq!(
        named,
        anchors(&document)
            .into_iter()
            .filter(|name| name != "alerts")
            .collect()
    );
}

#[test]
fn every_field_of_the_definitions_is_explained() {
    let reference = in_docs("reference.md");
    for file in ["signingkeys", "imagepolicies", "trustroots", "registryconfigs"] {
        let crd = read(&testkit::workspace_root().join(format!("crds/{file}.yaml")));
        for field in spec_fields(&crd) {
            let named = |text: &str| {
                text.split(['`', '.', '[', ']', ' ', ','])
                    .any(|word| word == field)
            };
            assert!(
                reference.lines().filter(|line| line.starts_with("| ")).any(named),
                "docs/reference.md does not explain the field {field} of crds/{file}.yaml"
            );
        }
    }
}

/// The names below `properties:` within `spec`, without those of Kubernetes' own label selector.
fn spec_fields(crd: &str) -> BTreeSet<&str> {
    const SELECTOR: [&str; 5] = ["matchLabels", "matchExpressions", "key", "operator", "values"];
    let indent = |line: &str| line.len() - line.trim_start().len();
    let spec = crd
        .lines()
        .skip_while(|line| line.trim() != "spec:" || indent(line) < 10);
    let mut below: Vec<usize> = Vec::new();
    let mut fields = BTreeSet::new();
    let mut lines = spec.skip(1).peekable();
    while let Some(line) = lines.next_if(|line| indent(line) > 10) {
        while below.last().is_some_and(|depth| indent(line) < *depth) {
            below.pop();
        }
        let name = line.trim().strip_suffix(':');
        if below.last() == Some(&indent(line)) {
            fields.extend(name.filter(|name| !SELECTOR.contains(name)));
        }
        if name == Some("properties") {
            below.extend(lines.peek().map(|next| indent(next)));
        }
    }
    fields
}

#[test]
fn fields_are_read_from_a_definition() {
    let crd = read(&testkit::workspace_root().join("crds/imagepolicies.yaml"));
    let fields = spec_fields(&crd);
    for field in [
        "match",
        "images",
        "signedBy",
        "minimum",
        "maxStaleness",
        "requireDigest",
    ] {
        assert!(fields.contains(field), "{field} is not in {fields:?}");
    }
    assert!(
        !fields.contains("conditions") && !fields.contains("description:"),
        "{fields:?}"
    );
}

#[test]
fn a_heading_gives_its_anchor() {
    assert_eq!(anchor(" KeyStaged, KeyDisabled"), "keystaged-keydisabled");
    assert_eq!(anchor("What \"no signature\" needs"), "what-no-signature-needs");
}
