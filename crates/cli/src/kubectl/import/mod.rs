//! `kubectl assay import`: policies of sigstore's policy-controller and of Kyverno into SigningKeys and ImagePolicies,
//! with a list of what could not be carried over.
//!
//! Nothing is dropped in silence: each field of the source is taken in by one of the readers here, or it is in the list.
//! Every policy is in mode DryRun.

mod globs;
mod kyverno;
mod made;
mod sigstore;
mod source;
mod validating;

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use self::made::Made;
use self::source::{Effect, Left, Source};
use super::headed;
use crate::manifests::documents;
use crate::output::{self, Answer, Found, Problem};
use crate::table::{Column, Style, Table, paragraph};

/// Turn policies of sigstore's policy-controller and of Kyverno into SigningKeys and ImagePolicies.
///
/// It reads ClusterImagePolicy (policy.sigstore.dev), verifyImages of ClusterPolicy and Policy (kyverno.io) and
/// ImageValidatingPolicy (policies.kyverno.io), and writes YAML, every policy in mode DryRun. What could not be carried
/// over is listed on standard error: read the list, above all what makes a policy weaker. No cluster is needed.
///
/// Exit codes: 0 everything is carried over, 1 something is not, and is listed, 2 an error.
#[derive(Args, Debug)]
pub(crate) struct ImportArguments {
    /// YAML or JSON, - for standard input
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// How to print the answer
    #[arg(short, long, value_enum, default_value_t = ImportFormat::Yaml)]
    output: ImportFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum ImportFormat {
    /// The objects; the list is on standard error
    Yaml,
    /// One object of kind Import: objects and the list
    Json,
}

/// Prints the objects, and what was left.
pub(crate) fn answer(arguments: &ImportArguments) -> Result<Answer, Problem> {
    let mut objects: Vec<Value> = Vec::new();
    let mut left: Vec<Left> = Vec::new();
    let mut made = Made::default();
    let mut read = 0;
    for (file, document) in documents(&arguments.files)? {
        let mut source = Source::of(document);
        match convert(&mut source, &mut made) {
            Some(()) => read += 1,
            None => output::note(&format!(
                "{}: {} is left out: it verifies no images",
                file.display(),
                source.name
            )),
        }
        left.extend(source.left);
    }
    if read == 0 {
        return Err(
            "the files hold no ClusterImagePolicy, no Kyverno policy with verifyImages and no \
                    ImageValidatingPolicy: there is nothing to import"
                .into(),
        );
    }
    objects.extend(made.objects());
    let text = match arguments.output {
        ImportFormat::Yaml => {
            output::aside(&list(&left, Style::of_stderr()));
            let documents: Vec<String> = objects.iter().map(output::yaml).collect();
            documents.join("---\n")
        }
        ImportFormat::Json => {
            let left: Vec<Value> = left.iter().map(Left::as_json).collect();
            let object = headed("Import", json!({"objects": objects, "notCarriedOver": left}));
            format!("{object:#}\n")
        }
    };
    Ok(Answer {
        text,
        found: Found::something(!left.is_empty()),
    })
}

/// Reads one object; None where it is none that verifies images.
fn convert(source: &mut Source, made: &mut Made) -> Option<()> {
    match (source.group.as_str(), source.kind.as_str()) {
        ("policy.sigstore.dev", "ClusterImagePolicy") => {
            sigstore::read(source, made);
            Some(())
        }
        ("kyverno.io", "ClusterPolicy" | "Policy") => kyverno::read(source, made),
        ("policies.kyverno.io", "ImageValidatingPolicy" | "NamespacedImageValidatingPolicy") => {
            validating::read(source, made);
            Some(())
        }
        _ => None,
    }
}

fn list(left: &[Left], style: Style) -> String {
    if left.is_empty() {
        return "Everything is carried over.\n".to_owned();
    }
    let mut sorted: Vec<&Left> = left.iter().collect();
    sorted.sort_by_key(|one| std::cmp::Reverse(one.effect));
    let mut table = Table::new([
        Column::Whole("EFFECT"),
        Column::Name("POLICY"),
        Column::Name("FIELD"),
        Column::Name("WHY"),
    ]);
    let mut text = String::new();
    if style.narrow {
        for one in &sorted {
            let head = format!("{:<8}  {} {}: ", one.effect.word(), one.policy, one.field);
            text += &paragraph("", &(head + &one.why));
        }
    } else {
        for one in &sorted {
            table.row([
                one.effect.word().into(),
                one.policy.as_str().into(),
                one.field.as_str().into(),
                one.why.as_str().into(),
            ]);
        }
        text = table.text(style);
    }
    let weaker = sorted.iter().filter(|one| one.effect == Effect::Weaker).count();
    let warning = match weaker {
        0 => String::new(),
        weaker => format!(
            " {weaker} of them make a policy weaker than it was: do not take it beyond DryRun as it is."
        ),
    };
    format!(
        "Not carried over:\n{text}\n{}",
        paragraph(
            "",
            &format!("{} things were not carried over.{warning}", sorted.len())
        )
    )
}

#[cfg(test)]
mod tests;
