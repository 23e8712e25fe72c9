//! `kubectl assay key revoke`: a KeyRevocation, which no sync from Git touches.

use api::{KeyRevocation, KeyRevocationSpec, PreviewChange, RevocationReason, SigningKey};
use clap::{Args, ValueEnum};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{Api, PostParams};
use serde_json::json;

use super::{done, left, not_done, patched};
use crate::cluster::Session;
use crate::kubectl::consent::{ConsentArguments, Decision};
use crate::kubectl::gitops;
use crate::kubectl::preview::FIELD_MANAGER;
use crate::output::{self, Answer, Problem};

/// Revoke a signer by a KeyRevocation, after showing what that does and asking.
///
/// A KeyRevocation holds for every SigningKey with the fingerprint, existing or to come, and no sync from Git touches
/// it. Hold can be taken back; every other reason is for ever. To go on trusting what is known to be good, apply what
/// `kubectl assay key freeze` prints instead.
///
/// Exit codes: 0 done, or nothing to do, 1 not done, and why is said, 2 an error.
#[derive(Args, Debug)]
pub(crate) struct RevokeArguments {
    /// The SigningKey, or the fingerprint of the signer: 64 hex digits
    #[arg(value_name = "NAME|FINGERPRINT")]
    signer: String,
    /// Why
    #[arg(long, value_enum, ignore_case = true)]
    reason: ReasonName,
    /// For people: who decided, which ticket
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    /// Print the KeyRevocation, and create nothing
    #[arg(long, conflicts_with_all = ["yes", "dry_run"])]
    print: bool,
    #[command(flatten)]
    consent: ConsentArguments,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "PascalCase")]
pub(super) enum ReasonName {
    /// Nobody knows yet, or it is a rehearsal: reversible
    Hold,
    /// Somebody else has the key, or may have it
    KeyCompromise,
    /// Another key took its place
    Superseded,
    /// The signer signs no more
    CessationOfOperation,
    /// It is not said
    Unspecified,
}

impl From<ReasonName> for RevocationReason {
    fn from(name: ReasonName) -> Self {
        match name {
            ReasonName::Hold => RevocationReason::Hold,
            ReasonName::KeyCompromise => RevocationReason::KeyCompromise,
            ReasonName::Superseded => RevocationReason::Superseded,
            ReasonName::CessationOfOperation => RevocationReason::CessationOfOperation,
            ReasonName::Unspecified => RevocationReason::Unspecified,
        }
    }
}

/// Revokes the signer.
pub(super) async fn answer(session: &Session, arguments: &RevokeArguments) -> Result<Answer, Problem> {
    let signer = Signer::find(session, &arguments.signer).await?;
    let reason = RevocationReason::from(arguments.reason);
    let there: Option<KeyRevocation> = session.maybe(&signer.fingerprint).await?;
    if let Some(there) = &there
        && (there.spec.reason != RevocationReason::Hold || reason == RevocationReason::Hold)
    {
        return Ok(done(format!(
            "{} is revoked already, with the reason {:?}: keyrevocation.assay.dev/{}\n",
            signer.name, there.spec.reason, signer.fingerprint
        )));
    }
    let spec = match &there {
        Some(there) => KeyRevocationSpec {
            reason,
            note: arguments.note.clone().or_else(|| there.spec.note.clone()),
            ..there.spec.clone()
        },
        None => new_spec(&signer.fingerprint, reason, arguments.note.clone()),
    };
    let manifest = revocation(&spec);
    if arguments.print {
        return Ok(done(output::yaml(&manifest)));
    }
    let managed = there
        .as_ref()
        .and_then(|there| gitops::manager(&there.metadata, "reason"));
    if let Some(manager) = managed {
        output::note(&format!(
            "keyrevocation.assay.dev/{} is managed by {manager}, which would put it back: commit this manifest instead",
            signer.fingerprint
        ));
        return Ok(left(output::yaml(&manifest)));
    }
    let change = PreviewChange {
        apply: Some(manifest),
        delete: None,
    };
    let end = match reason {
        RevocationReason::Hold => "It can be taken back by deleting the KeyRevocation.",
        _ => "It cannot be taken back.",
    };
    let question = format!("Revoke {} with the reason {reason:?}? {end}", signer.name);
    match arguments.consent.decide(session, &[change], &question).await? {
        Decision::OnlyShown => Ok(done(String::new())),
        Decision::Refused(why) => Ok(not_done(&signer.name, &why)),
        Decision::Agreed => write(session, there.as_ref(), spec).await,
    }
}

async fn write(
    session: &Session,
    there: Option<&KeyRevocation>,
    spec: KeyRevocationSpec,
) -> Result<Answer, Problem> {
    let name = spec.fingerprint.clone();
    let Some(there) = there else {
        let api: Api<KeyRevocation> = Api::all(session.client.clone());
        let parameters = PostParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        let created = api.create(&parameters, &KeyRevocation::new(&name, spec)).await;
        created.map_err(|error| session.explained_here::<KeyRevocation>("create", Some(&name), error))?;
        return Ok(done(format!("keyrevocation.assay.dev/{name} created\n")));
    };
    patched(session, there, json!({"reason": spec.reason, "note": spec.note})).await?;
    Ok(done(format!(
        "keyrevocation.assay.dev/{name} patched: Hold to {:?}\n",
        spec.reason
    )))
}

pub(super) fn new_spec(
    fingerprint: &str,
    reason: RevocationReason,
    note: Option<String>,
) -> KeyRevocationSpec {
    KeyRevocationSpec {
        fingerprint: fingerprint.to_owned(),
        reason,
        effective_from: None::<Time>,
        earlier_signatures: None,
        honour_digests: Vec::new(),
        note,
    }
}

/// The KeyRevocation as it is written.
pub(super) fn revocation(spec: &KeyRevocationSpec) -> serde_json::Value {
    json!({
        "apiVersion": "assay.dev/v1alpha1",
        "kind": "KeyRevocation",
        "metadata": {"name": spec.fingerprint},
        "spec": spec,
    })
}

/// A signer by its fingerprint, and what it is called.
#[derive(Debug)]
pub(super) struct Signer {
    pub(super) fingerprint: String,
    pub(super) name: String,
}

impl Signer {
    /// By the name of a SigningKey, or by the fingerprint itself.
    async fn find(session: &Session, text: &str) -> Result<Self, Problem> {
        if is_fingerprint(text) {
            return Ok(Signer {
                fingerprint: text.to_owned(),
                name: format!("the signer {text}"),
            });
        }
        let key: SigningKey = session.one(text).await?;
        Signer::of(&key)
    }

    /// Of a SigningKey that the operator has read.
    pub(super) fn of(key: &SigningKey) -> Result<Self, Problem> {
        let name = key.metadata.name.clone().unwrap_or_default();
        let status = key.status.as_ref();
        let fingerprint = status.and_then(|status| status.fingerprint.clone());
        let fingerprint = fingerprint.ok_or_else(|| {
            format!(
                "SigningKey/{name}: status.fingerprint: found none, for the operator has not read the key, or cannot: \
                 see `kubectl describe signingkey {name}`"
            )
        })?;
        Ok(Signer {
            fingerprint,
            name: format!("SigningKey/{name}"),
        })
    }
}

fn is_fingerprint(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}
