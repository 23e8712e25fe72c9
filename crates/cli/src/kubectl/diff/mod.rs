//! `kubectl assay diff`: what changes of keys, policies, revocations and exceptions would do, before they are made.

mod accepted;
mod changes;
mod offline;

use std::path::PathBuf;

use api::PreviewChange;
use clap::Args;
use serde_json::{Value, json};

use self::changes::{Deletion, Named};
use super::comparison::Beside;
use super::difference;
use super::preview::{PreviewArguments, foresee};
use crate::cluster::Session;
use crate::output::{Answer, OutputArguments, Problem};
use crate::registries::RegistryArguments;
use crate::table::{Column, Style, Table, paragraph};

/// Show what changes of keys, policies, revocations and exceptions would do: what newly fails, what newly passes.
///
/// The API server is asked first whether it would take the objects, by a dry run of each; what it refuses is an error. The
/// operator answers by a PolicyPreview, with the very functions that judge what runs. Nothing is applied, and no
/// registry is asked. With --offline no operator is needed: what runs in the namespace (or in all, with -A) is judged
/// here, by the cluster's resources and the registries, with your rights and your registry credentials.
///
/// Exit codes: 0 nothing would newly fail or be newly unknown, 1 something would, 2 an error, or nothing would of what
/// can be told now, and not everything can.
#[derive(Args, Debug)]
pub(crate) struct DiffArguments {
    /// YAML or JSON with SigningKeys, ImagePolicies, KeyRevocations and ImageExceptions as they would be; a folder for
    /// all files in it, - for standard input (repeatable)
    #[arg(
        short = 'f',
        long = "filename",
        value_name = "FILE",
        required_unless_present = "delete"
    )]
    files: Vec<PathBuf>,
    /// An object that would not be there (repeatable)
    #[arg(long, value_name = "KIND/NAME")]
    delete: Vec<Deletion>,
    /// Judge here, without an operator
    #[arg(long)]
    offline: bool,
    #[command(flatten)]
    registries: RegistryArguments,
    #[command(flatten)]
    preview: PreviewArguments,
    #[command(flatten)]
    format: OutputArguments,
}

/// Prints what would change.
pub(crate) async fn answer(session: &Session, arguments: &DiffArguments) -> Result<Answer, Problem> {
    let named = changes::read(&arguments.files, &arguments.delete)?;
    if named.is_empty() {
        return Err(
            "the files hold no SigningKey, ImagePolicy, KeyRevocation or ImageException: there is nothing to compare"
                .into(),
        );
    }
    let told = changes::against(session, &named).await?;
    accepted::accepted(session, &named, &told).await?;
    let superseding = changes::superseding(session, &named, &told).await?;
    let beside: Vec<Beside<'_>> = superseding.iter().filter_map(Beside::of).collect();
    let changes: Vec<PreviewChange> = named.iter().map(|named: &Named| named.change.clone()).collect();
    let (source, foreseen) = match arguments.offline {
        true => (
            "offline",
            offline::foresee(session, &changes, &arguments.registries).await?,
        ),
        false => ("operator", foresee(session, &changes, &arguments.preview).await?),
    };
    let text = arguments.format.output.answer(
        |style| {
            let list = list(&told, style);
            format!(
                "{list}\n{}{}",
                difference::text(&foreseen, style),
                comparisons(&beside)
            )
        },
        || {
            let mut object = difference::as_json(&foreseen, source, &json!(told));
            object["comparisons"] = beside.iter().map(Beside::as_json).collect();
            object
        },
    );
    Ok(Answer {
        text,
        found: foreseen.found(),
    })
}

/// What the cluster says of policies that are there as they are written, beside those that they supersede.
fn comparisons(beside: &[Beside<'_>]) -> String {
    let sentences = beside
        .iter()
        .map(|beside| paragraph("", &format!("{}.", beside.sentence())));
    sentences.collect()
}

fn list(told: &[Value], style: Style) -> String {
    let mut table = Table::new([Column::Name("OBJECT"), Column::Whole("CHANGE")]);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    for change in told {
        let object = format!("{}/{}", text(&change["kind"]), text(&change["name"]));
        table.row([object.into(), text(&change["action"]).into()]);
    }
    table.text(style)
}
