//! Whether the API server would take the objects of the files: a server-side dry run of each, which writes nothing. What
//! it refuses does not come about, so what an operator says of it is nothing to rely on.

use api::{ImageException, ImagePolicy, KeyRevocation, SigningKey};
use kube::api::{Api, ApiResource, DynamicObject, PostParams};
use kube::core::ClusterResourceScope;
use serde_json::Value;

use super::changes::Named;
use crate::cluster::{ClusterError, Kind, Session, plural};
use crate::kubectl::preview::FIELD_MANAGER;
use crate::output;

/// So often a dry run is tried where somebody else writes the object, the operator its status for example.
const ATTEMPTS: u32 = 5;

/// Why nothing is said of the changes.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotAccepted {
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    #[error("the API server would not take these changes, so what they would do is not asked:\n{}", .0.join("\n"))]
    Refused(Vec<String>),
}

/// What a dry run says of an object.
enum Said {
    Accepted,
    Refused(String),
    /// The right is missing, and which one.
    Forbidden(&'static str),
}

/// Tries each object that differs from what the cluster holds. Deletions are not tried: what guards them can be
/// confirmed, and what they break is what is asked.
pub(super) async fn accepted(
    session: &Session,
    changes: &[Named],
    told: &[Value],
) -> Result<(), NotAccepted> {
    let mut refused = Vec::new();
    for (change, told) in changes.iter().zip(told) {
        let Some(object) = change.change.apply.as_ref().filter(|_| told["action"] != "same") else {
            continue;
        };
        let (said, plural) = match change.kind.as_str() {
            "SigningKey" => tried::<SigningKey>(session, &change.name, object).await?,
            "ImagePolicy" => tried::<ImagePolicy>(session, &change.name, object).await?,
            "ImageException" => tried::<ImageException>(session, &change.name, object).await?,
            _ => tried::<KeyRevocation>(session, &change.name, object).await?,
        };
        match said {
            Said::Accepted => {}
            Said::Refused(why) => refused.push(format!("{}/{}: {why}", change.kind, change.name)),
            Said::Forbidden(verb) => output::note(&format!(
                "you may not {verb} {plural}, so whether the API server would take {}/{} is not told",
                change.kind, change.name
            )),
        }
    }
    match refused.is_empty() {
        true => Ok(()),
        false => Err(NotAccepted::Refused(refused)),
    }
}

async fn tried<K>(session: &Session, name: &str, object: &Value) -> Result<(Said, String), ClusterError>
where
    K: Kind + kube::Resource<Scope = ClusterResourceScope>,
{
    let api: Api<DynamicObject> = Api::all_with(session.client.clone(), &ApiResource::erase::<K>(&()));
    let parameters = PostParams {
        dry_run: true,
        field_manager: Some(FIELD_MANAGER.to_owned()),
    };
    let mut attempts = 0;
    loop {
        attempts += 1;
        let there = match api.get_opt(name).await {
            Ok(there) => there,
            Err(kube::Error::Api(status)) if status.code == 403 => {
                return Ok((Said::Forbidden("get"), plural::<K>()));
            }
            Err(error) => return Err(session.explained_here::<K>("get", Some(name), error)),
        };
        let (verb, answer) = match there {
            Some(mut there) => {
                there.data["spec"] = object["spec"].clone();
                ("update", api.replace(name, &parameters, &there).await)
            }
            None => {
                let mut new = DynamicObject::new(name, &ApiResource::erase::<K>(&()));
                new.data = serde_json::json!({"spec": object["spec"]});
                ("create", api.create(&parameters, &new).await)
            }
        };
        let said = match answer {
            Ok(_) => Said::Accepted,
            Err(kube::Error::Api(status)) if status.code == 409 && attempts < ATTEMPTS => continue,
            Err(kube::Error::Api(status)) if status.code == 403 && !is_of_admission(&status.message) => {
                Said::Forbidden(verb)
            }
            Err(kube::Error::Api(status)) if matches!(status.code, 400 | 403 | 422) => {
                Said::Refused(status.message.clone())
            }
            Err(error) => return Err(session.explained_here::<K>(verb, Some(name), error)),
        };
        return Ok((said, plural::<K>()));
    }
}

/// Not a right of the user, but a policy or a webhook that refuses the object: both say that they denied it.
fn is_of_admission(message: &str) -> bool {
    message.contains("denied request") || message.contains("denied the request")
}
