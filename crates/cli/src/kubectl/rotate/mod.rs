//! `kubectl assay rotate`: where the rotation of a key ring stands, what blocks its next step, and the next step. It
//! only reads.

mod missing;
mod plan;

use api::{SigningKey, Stage};
use clap::Args;
use jiff::Timestamp;
use serde_json::{Value, json};

use self::missing::{Missing, missing};
use self::plan::{Plan, Seen, Step};
use super::held::{held, stage};
use super::{gitops, headed};
use crate::cluster::Session;
use crate::output::{Answer, Found, OutputArguments, Problem, yaml};
use crate::table::{Cell, Column, Style, Table, Tone, paragraph};

/// Show where the rotation of a key ring stands, what blocks its next step, and how to take it. It only reads.
///
/// A rotation goes Staged, Active, and for the old key Retiring, Disabled, Revoked. What fails by a key that is Disabled
/// is read from the ImageCompliances of all namespaces; where you may not read them, the revocation is blocked.
///
/// Exit codes: 0 nothing blocks the next step, or there is none, 1 something blocks it, 2 an error.
#[derive(Args, Debug)]
pub(crate) struct RotateArguments {
    /// The key ring: spec.keyRing of SigningKeys
    #[arg(value_name = "KEYRING")]
    ring: String,
    #[command(flatten)]
    format: OutputArguments,
}

/// Prints where it stands.
pub(crate) async fn answer(session: &Session, arguments: &RotateArguments) -> Result<Answer, Problem> {
    let all: Vec<SigningKey> = session.all().await?;
    let mut rings: Vec<&str> = all.iter().map(|key| key.spec.key_ring.as_str()).collect();
    rings.sort_unstable();
    rings.dedup();
    if !rings.contains(&arguments.ring.as_str()) {
        return Err(format!(
            "there is no key ring {}: no SigningKey has it as spec.keyRing; found {}",
            arguments.ring,
            match rings.is_empty() {
                true => "no SigningKey at all".to_owned(),
                false => format!("the rings {}", rings.join(", ")),
            }
        )
        .into());
    }
    let keys: Vec<SigningKey> = all
        .iter()
        .filter(|key| key.spec.key_ring == arguments.ring)
        .cloned()
        .collect();
    let plan = Plan::of(
        &arguments.ring,
        &keys,
        &seen(session, &arguments.ring, &keys).await?,
    );
    let text = arguments
        .format
        .output
        .answer(|style| text(&plan, style), || as_json(&plan));
    Ok(Answer {
        text,
        found: Found::something(!plan.blocked.is_empty()),
    })
}

/// What is to be known besides the keys.
async fn seen(session: &Session, ring: &str, keys: &[SigningKey]) -> Result<Seen, Problem> {
    let mut held_keys = Vec::new();
    for key in keys {
        if let Some(held) = held(session, key).await? {
            held_keys.push((key.metadata.name.clone().unwrap_or_default(), held));
        }
    }
    let is_disabled = keys.iter().any(|key| stage(key) == Stage::Disabled);
    Ok(Seen {
        now: Timestamp::now(),
        missing: match is_disabled {
            true => missing(session, ring).await?,
            false => Missing::These(Vec::new()),
        },
        held: held_keys,
    })
}

/// The manifest of the next step, where it changes or makes an object.
fn manifest(plan: &Plan) -> Option<Value> {
    match &plan.next {
        Step::Publish => Some(json!({
            "apiVersion": "assay.dev/v1alpha1",
            "kind": "SigningKey",
            "metadata": {"name": format!("{}-next", plan.ring)},
            "spec": {
                "keyRing": plan.ring,
                "stage": "Staged",
                "publicKey": {"pem": "-----BEGIN PUBLIC KEY-----\nthe content of the next key's .pub file\n-----END PUBLIC KEY-----\n"},
            },
        })),
        Step::Move { name, to } => {
            let key = plan
                .keys
                .iter()
                .find(|key| key.metadata.name.as_ref() == Some(name))?;
            let mut manifest = gitops::manifest(key);
            manifest["spec"]["stage"] = json!(to);
            Some(manifest)
        }
        Step::Done => None,
    }
}

fn command(plan: &Plan) -> Option<String> {
    match &plan.next {
        Step::Publish => Some("kubectl apply -f <the manifest with your key>".to_owned()),
        Step::Move {
            name,
            to: Stage::Revoked,
        } => Some(format!("kubectl assay key revoke {name} --reason Superseded")),
        Step::Move { name, to } => Some(format!("kubectl assay key stage {name} {}", to.as_str())),
        Step::Done => None,
    }
}

fn as_json(plan: &Plan) -> Value {
    let versions: Vec<Value> = plan
        .keys
        .iter()
        .map(|key| {
            let status = key.status.clone().unwrap_or_default();
            json!({
                "name": key.metadata.name,
                "stage": key.spec.stage,
                "effectiveStage": stage(key),
                "algorithm": status.algorithm,
                "images": status.images,
                "soleTrust": status.sole_trust,
                "expires": status.expires,
            })
        })
        .collect();
    headed(
        "Rotation",
        json!({
            "keyRing": plan.ring,
            "versions": versions,
            "stands": plan.stands,
            "next": plan.says,
            "blockedBy": plan.blocked,
            "dependents": plan.dependents,
            "command": command(plan),
            "manifest": manifest(plan),
        }),
    )
}

fn text(plan: &Plan, style: Style) -> String {
    let mut table = Table::new([
        Column::Name("NAME"),
        Column::Whole("STAGE"),
        Column::Whole("ALGORITHM"),
        Column::Whole("IMAGES"),
        Column::Whole("SOLE-TRUST"),
        Column::Whole("EXPIRES"),
    ]);
    for key in &plan.keys {
        let status = key.status.clone().unwrap_or_default();
        let number = |number: Option<i64>| number.map_or("?".to_owned(), |number| number.to_string());
        let tone = match stage(key) {
            Stage::Active => Tone::Good,
            Stage::Revoked | Stage::Disabled => Tone::Bad,
            _ => Tone::Doubtful,
        };
        table.row([
            key.metadata.name.clone().unwrap_or_default().into(),
            Cell::toned(stage(key).as_str(), tone),
            status.algorithm.unwrap_or_default().into(),
            number(status.images).into(),
            number(status.sole_trust.map(|sole| sole.workloads)).into(),
            status.expires.unwrap_or_default().into(),
        ]);
    }
    let mut text = table.text(style);
    text += &format!("\n{}", paragraph("", &plan.stands));
    if !plan.dependents.is_empty() {
        text += "\nStill depends on the old key:\n";
        for dependent in &plan.dependents {
            text += &paragraph("  ", dependent);
        }
    }
    text += &format!("\n{}", paragraph("Next: ", &plan.says));
    for blocked in &plan.blocked {
        text += &paragraph(&style.paint(Tone::Bad, "Blocked: "), blocked);
    }
    if let Some(manager) = &plan.managed_by {
        text += &paragraph(
            "",
            &format!("{manager} manages the key: commit the manifest, do not run the command."),
        );
    }
    if let Some(manifest) = manifest(plan) {
        text += &format!("\n{}", yaml(&manifest));
    }
    if let Some(command) = command(plan) {
        text += &format!("\n$ {command}\n");
    }
    text
}
