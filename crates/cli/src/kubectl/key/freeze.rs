//! `kubectl assay key freeze`: a KeyRevocation that goes on honouring exactly what rests on the key now. A list that may
//! miss something is never printed as if it were whole.

use std::collections::BTreeSet;

use api::{KeyRevocationSpec, PreviewChange, SigningKey, Stage};
use clap::Args;

use super::revoke::{ReasonName, Signer, new_spec, revocation};
use super::{done, staged};
use crate::cluster::Session;
use crate::kubectl::held::{dependents, stage};
use crate::kubectl::preview::{Foreseen, PreviewArguments, foresee};
use crate::output::{self, Answer, Problem};
use crate::table::counted;

/// What spec.honourDigests holds.
const HONOURED: usize = 900;

/// Print a KeyRevocation that honours exactly the images that rest on the key now, and nothing signed later.
///
/// Nothing is written. Take out what you do not know to be good, and apply it: the list may only shrink afterwards. It is
/// checked before it is printed that nothing that runs would fail by it.
///
/// Exit codes: 0 printed, 2 an error, or the list would not be whole.
#[derive(Args, Debug)]
pub(crate) struct FreezeArguments {
    /// The SigningKey
    name: String,
    /// Why; Hold can be taken back, or be given another reason
    #[arg(long, value_enum, ignore_case = true, default_value = "Hold")]
    reason: ReasonName,
    /// For people: who decided, which ticket
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    /// Print the list although results cannot be told now, so that images may be missing from it
    #[arg(long)]
    accept_unknown: bool,
    #[command(flatten)]
    preview: PreviewArguments,
}

/// Why there is no list.
#[derive(Debug, thiserror::Error)]
enum FreezeError {
    #[error(
        "SigningKey/{name} counts as {stage}: nothing rests on it now, so there is nothing to honour; use \
         `kubectl assay key revoke`"
    )]
    DoesNotCount { name: String, stage: &'static str },
    #[error(
        "SigningKey/{name} counts as {stage}, and a KeyRevocation honours images that {found} workloads rest on: that is \
         the list, and it may only shrink; see `kubectl get keyrevocation {fingerprint} -o yaml`, and take out what is \
         not known to be good"
    )]
    Frozen {
        name: String,
        stage: &'static str,
        found: usize,
        fingerprint: String,
    },
    #[error(
        "{0} results cannot be told now, so images that rest on the key may be missing from the list: wait until their \
         registries answer (kubectl assay status -A), or accept that with --accept-unknown"
    )]
    Unknown(i64),
    #[error(
        "{found} images rest on the key, and spec.honourDigests holds {HONOURED}: sign some of them with the ring's next \
         key first (kubectl assay key images lists them), or, where a log or timestamps date the signatures, use \
         earlierSignatures: AcceptIfTimestamped"
    )]
    TooMany { found: usize },
    #[error(
        "{0} results would fail although the list honours every image that rests on the key: what rests on it changed \
         meanwhile, or another SigningKey with its fingerprint is Staged or Disabled; try again"
    )]
    NotEnough(usize),
}

/// Prints the KeyRevocation.
pub(super) async fn answer(session: &Session, arguments: &FreezeArguments) -> Result<Answer, Problem> {
    let key: SigningKey = session.one(&arguments.name).await?;
    let signer = Signer::of(&key)?;
    if let Some(why) = not_to_freeze(&key, &signer) {
        return Err(why.into());
    }
    let foreseen = foresee(session, &[staged(&key, Stage::Disabled)], &arguments.preview).await?;
    let digests = honoured(&foreseen, arguments.accept_unknown)?;
    let spec = KeyRevocationSpec {
        honour_digests: digests.into_iter().collect(),
        ..new_spec(
            &signer.fingerprint,
            arguments.reason.into(),
            arguments.note.clone(),
        )
    };
    let manifest = revocation(&spec);
    let change = PreviewChange {
        apply: Some(manifest.clone()),
        delete: None,
    };
    let kept = foresee(session, &[change], &arguments.preview).await?;
    if !kept.failing.is_empty() {
        return Err(FreezeError::NotEnough(kept.failing.len()).into());
    }
    let starts = usize::try_from(kept.starts.newly_failing_total).unwrap_or_default();
    if starts > 0 {
        output::note(&format!(
            "{} would fail with the next start of a workload that does not run now: what it would start is not honoured, \
             since a tag may name something else by then; sign these images with the next key",
            counted(starts, "result")
        ));
    }
    output::note(&format!(
        "{} images are honoured; the list may only shrink once it is applied",
        spec.honour_digests.len()
    ));
    Ok(done(output::yaml(&manifest)))
}

/// Why there is nothing to freeze: the key does not count, or what rests on it is frozen already.
fn not_to_freeze(key: &SigningKey, signer: &Signer) -> Option<FreezeError> {
    let (name, stage) = (key.metadata.name.clone().unwrap_or_default(), stage(key));
    if matches!(stage, Stage::Active | Stage::Retiring) {
        return None;
    }
    let stage = stage.as_str();
    Some(match dependents(key).unwrap_or_default() {
        0 => FreezeError::DoesNotCount { name, stage },
        found => FreezeError::Frozen {
            name,
            stage,
            found,
            fingerprint: signer.fingerprint.clone(),
        },
    })
}

/// The digests, or why there is no whole list of them.
fn honoured(foreseen: &Foreseen, accept_unknown: bool) -> Result<BTreeSet<String>, FreezeError> {
    if foreseen.unknown > 0 && !accept_unknown {
        return Err(FreezeError::Unknown(foreseen.unknown));
    }
    let digests: BTreeSet<String> = foreseen
        .failing
        .iter()
        .chain(&foreseen.newly_unknown)
        .map(|result| result.digest.clone())
        .filter(|digest| !digest.is_empty())
        .collect();
    match digests.len() {
        found if found > HONOURED => Err(FreezeError::TooMany { found }),
        _ => Ok(digests),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn foreseen(digests: usize, unknown: i64) -> Foreseen {
        let result = |number: usize| {
            serde_json::from_value(json!({
                "namespace": "n", "workload": "w", "image": "i", "digest": format!("sha256:{:064x}", number / 2),
                "policy": "p", "reason": "KeyDisabled",
            }))
            .unwrap()
        };
        Foreseen {
            failing: (0..digests * 2).map(result).collect(),
            unknown,
            ..Foreseen::default()
        }
    }

    #[test]
    fn what_a_hold_honours_is_frozen_already_and_is_not_called_nothing() {
        let refused = |counts: &str, workloads: i64| {
            let key: SigningKey = serde_json::from_value(json!({
                "metadata": {"name": "old"},
                "spec": {"keyRing": "release", "stage": "Active", "publicKey": {"pem": "p"}},
                "status": {
                    "effectiveStage": counts, "fingerprint": "ab",
                    "soleTrust": {"images": 0, "workloads": workloads, "pods": 0},
                },
            }))
            .unwrap();
            not_to_freeze(&key, &Signer::of(&key).unwrap()).map(|why| why.to_string())
        };
        assert_eq!(refused("Active", 0), None);
        assert!(refused("Disabled", 0).unwrap().contains("nothing rests on it"));
        let frozen = refused("Disabled", 2).unwrap();
        assert!(
            frozen.contains("2 workloads rest on") && frozen.contains("keyrevocation ab"),
            "{frozen}"
        );
    }

    /// A list that may miss an image would let it fail in the night in which it is needed.
    #[test]
    fn a_list_that_is_not_whole_is_none() {
        assert_eq!(honoured(&foreseen(900, 0), false).unwrap().len(), 900);
        let error = honoured(&foreseen(901, 0), false).unwrap_err().to_string();
        assert!(
            error.contains("901 images") && error.contains("AcceptIfTimestamped"),
            "{error}"
        );
        let error = honoured(&foreseen(1, 3), false).unwrap_err().to_string();
        assert!(
            error.contains("3 results") && error.contains("--accept-unknown"),
            "{error}"
        );
        assert_eq!(honoured(&foreseen(1, 3), true).unwrap().len(), 1);
    }
}
