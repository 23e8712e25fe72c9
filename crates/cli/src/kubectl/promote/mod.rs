//! `kubectl assay policy promote`: a policy from DryRun to Warn to Enforce, after a soak and a look at what it does; and
//! back by one change.

mod clean;
mod soak;

use api::{ImagePolicy, Mode, PreviewChange};
use clap::{Args, Subcommand, ValueEnum};
use jiff::Timestamp;
use serde_json::json;

use self::clean::is_clean;
use self::soak::Soak;
use super::comparison::Beside;
use super::consent::{ConsentArguments, Decision};
use super::key::{done, left, not_done, patched};
use super::preview::foresee;
use super::{difference, gitops};
use crate::cluster::Session;
use crate::output::{self, Answer, Problem};
use crate::table::Style;

/// Take the steps of a policy's life
#[derive(Subcommand, Debug)]
pub(crate) enum PolicyCommand {
    // The text is its arguments' own: one here would hide its second paragraph.
    Promote(PromoteArguments),
}

/// Put a policy into its next mode, DryRun to Warn to Enforce, after a soak, showing what that does, and asking.
///
/// It is refused where the policy did not stand as it is for the time of the soak, or was not clean in it: each of its
/// results Compliant now, and for so long, in the ImageCompliances of all namespaces. It is refused as well where what
/// would change is not what was shown any more. To go back is one change as well: --to DryRun, without a soak. Where a
/// GitOps controller manages the policy, the manifest to commit is printed instead.
///
/// Exit codes: 0 done, or nothing to do, 1 not done, and why is said, 2 an error.
#[derive(Args, Debug)]
pub(crate) struct PromoteArguments {
    /// The ImagePolicy
    name: String,
    /// The mode; the next one if not given
    #[arg(long, value_enum, ignore_case = true)]
    to: Option<ModeName>,
    /// How long the policy must have stood in its mode, with nothing of its spec changed; 0s for no soak
    #[arg(long, value_name = "DURATION", default_value = "24h")]
    soak: Soak,
    /// Go on although results of the policy are not Compliant now, were not for the whole soak, or may not be read
    #[arg(long)]
    accept_unclean: bool,
    #[command(flatten)]
    consent: ConsentArguments,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, ValueEnum)]
#[value(rename_all = "PascalCase")]
enum ModeName {
    /// Judge and show apart
    DryRun,
    /// Judge and count; a webhook warns
    Warn,
    /// Judge and count; a webhook refuses
    Enforce,
}

impl ModeName {
    fn of(mode: Mode) -> Option<Self> {
        match mode {
            Mode::DryRun => Some(ModeName::DryRun),
            Mode::Warn => Some(ModeName::Warn),
            Mode::Enforce => Some(ModeName::Enforce),
            Mode::Other => None,
        }
    }

    fn mode(self) -> Mode {
        match self {
            ModeName::DryRun => Mode::DryRun,
            ModeName::Warn => Mode::Warn,
            ModeName::Enforce => Mode::Enforce,
        }
    }

    fn next(self) -> Option<Self> {
        match self {
            ModeName::DryRun => Some(ModeName::Warn),
            ModeName::Warn => Some(ModeName::Enforce),
            ModeName::Enforce => None,
        }
    }
}

/// Runs the command.
pub(crate) async fn answer(session: &Session, command: &PolicyCommand) -> Result<Answer, Problem> {
    let PolicyCommand::Promote(arguments) = command;
    let name = &arguments.name;
    let policy: ImagePolicy = session.one(name).await?;
    let before = ModeName::of(policy.spec.mode)
        .ok_or_else(|| format!("ImagePolicy/{name}: spec.mode: found a mode that this version does not know; expected DryRun, Warn or Enforce"))?;
    let Some(to) = arguments.to.or_else(|| before.next()) else {
        return Ok(done(format!("ImagePolicy/{name} is in mode Enforce already\n")));
    };
    if to == before {
        return Ok(done(format!(
            "ImagePolicy/{name} is in mode {} already\n",
            to.mode().as_str()
        )));
    }
    let object = format!("ImagePolicy/{name}");
    if to > before
        && let Err(why) = is_soaked(session, arguments, &policy).await?
    {
        return Ok(not_done(&object, &why));
    }
    // A step back makes nothing fail, so what cannot be told is no reason against it.
    let consent = match to > before {
        true => arguments.consent.clone(),
        false => arguments.consent.accepting_unknown(),
    };
    let beside = Beside::of(&policy);
    if let Some(beside) = &beside {
        output::note(&beside.sentence());
    }
    let change = changed(&policy, to.mode());
    if let Some(manager) = gitops::manager(&policy.metadata, "mode") {
        let foreseen = foresee(session, &[change], consent.preview()).await?;
        output::aside(&difference::text(&foreseen, Style::of_stderr()));
        output::note(&format!(
            "{object} is managed by {manager}, which would put it back: commit this manifest instead"
        ));
        let mut manifest = gitops::manifest(&policy);
        manifest["spec"]["mode"] = json!(to.mode());
        return Ok(left(output::yaml(&manifest)));
    }
    let (from, into) = (before.mode().as_str(), to.mode().as_str());
    let question = format!("Put {object} from {from} to {into}?");
    match consent.decide(session, &[change], &question).await? {
        Decision::OnlyShown => Ok(done(String::new())),
        Decision::Refused(why) => Ok(not_done(&object, &why)),
        Decision::Agreed => {
            patched(session, &policy, json!({"mode": to.mode()})).await?;
            // The way back from a step back is a promotion, which has its soak.
            if to > before {
                output::note(&format!(
                    "to go back: kubectl assay policy promote {name} --to {from}"
                ));
            }
            if let Some(beside) = beside.filter(|_| to == ModeName::Enforce) {
                let other = beside.supersedes();
                output::note(&format!(
                    "ImagePolicy/{other}, which it is to take the place of, is in force as well; to end it: kubectl delete \
                     imagepolicies.assay.dev {other}"
                ));
            }
            Ok(done(format!(
                "imagepolicy.assay.dev/{name} patched: {from} to {into}\n"
            )))
        }
    }
}

/// The policy stood as it is for the time of the soak, and was clean in it; the error says why not.
async fn is_soaked(
    session: &Session,
    arguments: &PromoteArguments,
    policy: &ImagePolicy,
) -> Result<Result<(), String>, Problem> {
    let now = Timestamp::now();
    if let Err(why) = arguments.soak.is_over(policy, now) {
        return Ok(Err(why));
    }
    if arguments.accept_unclean {
        return Ok(Ok(()));
    }
    let everywhere = Session {
        namespace: None,
        ..session.clone()
    };
    match everywhere.compliances().await {
        Ok(compliances) => Ok(is_clean(
            &arguments.name,
            &compliances,
            arguments.soak.begun(now),
        )),
        Err(error) if error.is_forbidden() => Ok(Err(
            "whether it was clean for its soak is not told: you may not read the ImageCompliances of all namespaces; ask \
             for the role assay-auditor, or go on all the same with --accept-unclean"
                .to_owned(),
        )),
        Err(error) => Err(error.into()),
    }
}

/// The policy as it would be.
fn changed(policy: &ImagePolicy, mode: Mode) -> PreviewChange {
    let mut object = gitops::manifest(policy);
    object["metadata"] = json!({"name": policy.metadata.name});
    object["spec"]["mode"] = json!(mode);
    PreviewChange {
        apply: Some(object),
        delete: None,
    }
}
