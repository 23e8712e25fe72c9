//! `kubectl assay survey`: what runs, grouped by repository, and who signed it: the first hour on a cluster, before there
//! is a policy. The first part asks the API server alone.

mod report;
mod signers;
mod suggest;

use api::SigningKey;
use clap::Args;

use self::report::Survey;
use super::fleet;
use crate::cluster::Session;
use crate::output::{self, Answer, Format, Found, OutputArguments, Problem, yaml};
use crate::registries::RegistryArguments;

/// Show what runs, grouped by repository: images, pods, workloads. With --signers also who signed it.
///
/// It reads pods with your own rights. With --signers each image is looked up at its registry, and its signatures are
/// checked by the SigningKeys that you may read and, for identities, by the public-good Sigstore. -o yaml writes
/// SigningKeys for the identities that were found and policies in mode DryRun to begin with: read them before you apply
/// them, for what signs today is not what should be trusted.
///
/// Exit codes: 0 shown, 1 with --signers: something is signed by nobody who is known, or could not be told, 2 an error.
#[derive(Args, Debug)]
pub(crate) struct SurveyArguments {
    /// Look each image up at its registry, and say who signed it
    #[arg(long)]
    signers: bool,
    /// Stop looking up after so many requests to registries; what is left is shown as not looked at
    #[arg(long, value_name = "N", default_value_t = 2000)]
    max_requests: u64,
    #[command(flatten)]
    registries: RegistryArguments,
    #[command(flatten)]
    format: OutputArguments,
}

/// Prints what runs.
pub(crate) async fn answer(session: &Session, arguments: &SurveyArguments) -> Result<Answer, Problem> {
    let pods = fleet::read(session).await?;
    let mut survey = Survey::of(&pods);
    if arguments.signers {
        let keys: Vec<SigningKey> = match session.all().await {
            Ok(keys) => keys,
            Err(error) if error.is_forbidden() => {
                output::note("you may not read SigningKeys, so only identities are told");
                Vec::new()
            }
            Err(crate::cluster::ClusterError::NotInstalled(_)) => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        signers::look_up(&mut survey, &keys, &arguments.registries, arguments.max_requests).await?;
    }
    let text = match arguments.format.output {
        Format::Yaml => {
            if !arguments.signers {
                output::note(
                    "without --signers nobody is known who signs: the policies ask for a key ring that you have to make",
                );
            }
            let objects = suggest::objects(&survey);
            objects.iter().map(yaml).collect::<Vec<_>>().join("---\n")
        }
        format => format.answer(|style| survey.text(&session.place(), style), || survey.as_json()),
    };
    Ok(Answer {
        text,
        found: Found::something(arguments.signers && survey.has_doubts()),
    })
}
