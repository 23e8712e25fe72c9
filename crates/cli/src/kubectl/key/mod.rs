//! `kubectl assay key`: what rests on a key, what a step would break, and the step itself.

mod freeze;
mod images;
mod revoke;

use api::{PreviewChange, SigningKey, Stage};
use clap::{Args, Subcommand, ValueEnum};
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};

use super::consent::{ConsentArguments, Decision};
use super::held::{Held, held};
use super::preview::{FIELD_MANAGER, PreviewArguments, foresee};
use super::{difference, gitops};
use crate::cluster::Session;
use crate::output::{self, Answer, Found, OutputArguments, Problem};

/// So often a step is tried where only the status changed meanwhile.
const ATTEMPTS: u32 = 5;

/// Ask what a key is worth, and take the steps of its life
#[derive(Subcommand, Debug)]
pub(crate) enum KeyCommand {
    // The text of these is their arguments' own: one here would hide its second paragraph.
    Impact(ImpactArguments),
    Stage(StageArguments),
    Revoke(revoke::RevokeArguments),
    Images(images::ImagesArguments),
    Freeze(freeze::FreezeArguments),
}

/// Show what would newly fail and newly pass if a key were in another stage. Nothing is changed.
///
/// Exit codes: 0 nothing would newly fail or be newly unknown, 1 something would, 2 an error, or nothing would of what
/// can be told now, and not everything can.
#[derive(Args, Debug)]
pub(crate) struct ImpactArguments {
    /// The SigningKey
    name: String,
    /// The stage it would be in
    #[arg(long, value_enum, ignore_case = true)]
    stage: StageName,
    #[command(flatten)]
    preview: PreviewArguments,
    #[command(flatten)]
    format: OutputArguments,
}

/// Put a key into another stage, after showing what that does and asking.
///
/// It is refused where what would change is not what was shown any more. Where a GitOps controller manages the key, the
/// manifest to commit is printed instead.
///
/// Exit codes: 0 done, or nothing to do, 1 not done, and why is said, 2 an error.
#[derive(Args, Debug)]
pub(crate) struct StageArguments {
    /// The SigningKey
    name: String,
    /// The stage
    #[arg(value_enum, ignore_case = true)]
    stage: StageName,
    #[command(flatten)]
    consent: ConsentArguments,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "PascalCase")]
enum StageName {
    /// Not yet trusted; its signatures are counted
    Staged,
    /// Trusted
    Active,
    /// Trusted for what runs, the old one of two
    Retiring,
    /// Not trusted, reversible
    Disabled,
    /// Not trusted, for ever
    Revoked,
}

impl From<StageName> for Stage {
    fn from(name: StageName) -> Self {
        match name {
            StageName::Staged => Stage::Staged,
            StageName::Active => Stage::Active,
            StageName::Retiring => Stage::Retiring,
            StageName::Disabled => Stage::Disabled,
            StageName::Revoked => Stage::Revoked,
        }
    }
}

/// Runs one of them.
pub(crate) async fn answer(session: &Session, command: &KeyCommand) -> Result<Answer, Problem> {
    match command {
        KeyCommand::Impact(arguments) => impact(session, arguments).await,
        KeyCommand::Stage(arguments) => stage(session, arguments).await,
        KeyCommand::Revoke(arguments) => revoke::answer(session, arguments).await,
        KeyCommand::Images(arguments) => images::answer(session, arguments).await,
        KeyCommand::Freeze(arguments) => freeze::answer(session, arguments).await,
    }
}

async fn impact(session: &Session, arguments: &ImpactArguments) -> Result<Answer, Problem> {
    let key: SigningKey = session.one(&arguments.name).await?;
    let stage = Stage::from(arguments.stage);
    let foreseen = foresee(session, &[staged(&key, stage)], &arguments.preview).await?;
    let told = json!([{"kind": "SigningKey", "name": arguments.name, "action": "changed", "stage": stage}]);
    let text = arguments.format.output.answer(
        |style| {
            let head = format!(
                "SigningKey/{} from {} to {}\n\n",
                arguments.name,
                key.spec.stage.as_str(),
                stage.as_str()
            );
            head + &difference::text(&foreseen, style)
        },
        || difference::as_json(&foreseen, "operator", &told),
    );
    Ok(Answer {
        text,
        found: foreseen.found(),
    })
}

async fn stage(session: &Session, arguments: &StageArguments) -> Result<Answer, Problem> {
    let name = &arguments.name;
    let key: SigningKey = session.one(name).await?;
    let (before, stage) = (key.spec.stage, Stage::from(arguments.stage));
    if before == stage {
        return Ok(done(format!("SigningKey/{name} is {} already\n", stage.as_str())));
    }
    if before == Stage::Revoked {
        return Err(format!(
            "SigningKey/{name} is Revoked, which is terminal: create a new SigningKey in the key ring {}",
            key.spec.key_ring
        )
        .into());
    }
    let held = held(session, &key).await?;
    if let Some(held) = &held {
        output::note(&held.sentence());
    }
    let final_words = (stage == Stage::Revoked).then(|| final_words(name, held.as_ref()));
    if let Some(words) = &final_words {
        output::note(words);
    }
    let question = question(name, before, stage, final_words.as_deref());
    if let Some(manager) = gitops::manager(&key.metadata, "stage") {
        let foreseen = foresee(session, &[staged(&key, stage)], arguments.consent.preview()).await?;
        output::aside(&difference::text(&foreseen, crate::table::Style::of_stderr()));
        output::note(&format!(
            "SigningKey/{name} is managed by {manager}, which would put it back: commit this manifest instead"
        ));
        let mut manifest = gitops::manifest(&key);
        manifest["spec"]["stage"] = json!(stage);
        return Ok(left(output::yaml(&manifest)));
    }
    match arguments
        .consent
        .decide(session, &[staged(&key, stage)], &question)
        .await?
    {
        Decision::OnlyShown => Ok(done(String::new())),
        Decision::Refused(why) => Ok(not_done(&format!("SigningKey/{name}"), &why)),
        Decision::Agreed => {
            patched(session, &key, json!({"stage": stage})).await?;
            Ok(done(format!(
                "signingkey.assay.dev/{name} patched: {} to {}\n",
                before.as_str(),
                stage.as_str()
            )))
        }
    }
}

fn question(name: &str, before: Stage, stage: Stage, final_words: Option<&str>) -> String {
    let asked = format!(
        "Put SigningKey/{name} from {} to {}?",
        before.as_str(),
        stage.as_str()
    );
    match final_words {
        Some(words) => format!("{asked} {words}."),
        None => asked,
    }
}

/// What Revoked means that no other stage does.
fn final_words(name: &str, held: Option<&Held>) -> String {
    let revocation = match held.and_then(Held::by_hold) {
        Some(hold) => format!(
            "the operator makes KeyRevocation/{hold}, a Hold now, terminal, with the honourDigests that it has"
        ),
        None => format!(
            "the operator writes a terminal KeyRevocation for its signer with empty honourDigests, to which nothing can \
             be added, so that nothing it signed counts any more; to keep something, apply what `kubectl assay key freeze \
             {name}` prints before"
        ),
    };
    format!("Revoked is final, no other stage is accepted after it, and {revocation}")
}

/// The key as it would be in another stage.
fn staged(key: &SigningKey, stage: Stage) -> PreviewChange {
    let mut spec = key.spec.clone();
    spec.stage = stage;
    let mut object = json!({
        "apiVersion": "assay.dev/v1alpha1",
        "kind": "SigningKey",
        "metadata": {"name": key.metadata.name},
    });
    object["spec"] = serde_json::to_value(spec).unwrap_or_default();
    PreviewChange {
        apply: Some(object),
        delete: None,
    }
}

/// Changes fields of the spec of an object as it was looked at. What the operator writes into the status meanwhile is no
/// other object; one that was made anew under the name is, whatever its generation.
pub(super) async fn patched<K>(session: &Session, seen: &K, spec: Value) -> Result<(), Problem>
where
    K: crate::cluster::Kind + kube::Resource<Scope = kube::core::ClusterResourceScope>,
{
    let name = seen.meta().name.as_deref().unwrap_or_default();
    let mut version = seen.meta().resource_version.clone();
    let mut attempts = 0;
    loop {
        attempts += 1;
        let patch = json!({"metadata": {"resourceVersion": version}, "spec": spec});
        let Err(error) = patch_as_written::<K>(session, name, &patch, FIELD_MANAGER).await else {
            return Ok(());
        };
        let is_conflict = matches!(&error, kube::Error::Api(status) if status.code == 409);
        if is_conflict && attempts < ATTEMPTS {
            let now: K = session.one(name).await?;
            let identity = |object: &K| (object.meta().uid.clone(), object.meta().generation);
            if identity(&now) == identity(seen) {
                version = now.meta().resource_version.clone();
                continue;
            }
        }
        return Err(session.explained_here::<K>("patch", Some(name), error).into());
    }
}

/// Changes an object whatever it looks like by now, where `patch` says nothing of its version.
pub(super) async fn patch_as_written<K>(
    session: &Session,
    name: &str,
    patch: &Value,
    field_manager: &str,
) -> Result<(), kube::Error>
where
    K: crate::cluster::Kind + kube::Resource<Scope = kube::core::ClusterResourceScope>,
{
    let api: Api<K> = Api::all(session.client.clone());
    let parameters = PatchParams {
        field_manager: Some(field_manager.to_owned()),
        ..PatchParams::default()
    };
    api.patch(name, &parameters, &Patch::Merge(patch)).await.map(drop)
}

pub(super) fn done(text: String) -> Answer {
    Answer {
        text,
        found: Found::Nothing,
    }
}

/// Something is left to do for whoever reads this.
pub(super) fn left(text: String) -> Answer {
    Answer {
        text,
        found: Found::Something,
    }
}

pub(super) fn not_done(what: &str, why: &str) -> Answer {
    output::note(&format!("{what} is not changed: {why}"));
    left(String::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever says yes to it has read that there is no way back.
    #[test]
    fn the_question_about_a_revocation_says_that_it_is_final_and_what_is_written() {
        let words = final_words("old", None);
        let asked = question("old", Stage::Active, Stage::Revoked, Some(&words));
        for part in [
            "from Active to Revoked?",
            "is final",
            "terminal KeyRevocation",
            "empty honourDigests",
        ] {
            assert!(asked.contains(part), "{part}: {asked}");
        }
        let other = question("old", Stage::Active, Stage::Retiring, None);
        assert_eq!(other, "Put SigningKey/old from Active to Retiring?");
    }
}
