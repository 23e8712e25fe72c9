//! Files and names into the changes of a preview. What cannot be previewed is refused or told, never passed over.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use api::{
    ImageException, ImagePolicy, KeyRevocation, PreviewChange, PreviewedKind, PreviewedName, SigningKey,
};
use kube::core::ClusterResourceScope;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::cluster::{ClusterError, Kind, Session};
use crate::kubectl::gitops;
use crate::manifests::{ManifestError, documents, strict};
use crate::output;

/// `KIND/NAME` of something that would not be there.
#[derive(Clone, Debug)]
pub(super) struct Deletion {
    kind: PreviewedKind,
    name: String,
}

/// Why a text names nothing that can be deleted.
#[derive(Clone, Debug, thiserror::Error)]
#[error(
    "{0:?} is not KIND/NAME of a signingkey, an imagepolicy, a keyrevocation or an imageexception; write for example \
     signingkey/release-2026"
)]
pub(crate) struct NoDeletion(String);

impl FromStr for Deletion {
    type Err = NoDeletion;

    fn from_str(text: &str) -> Result<Self, NoDeletion> {
        let refused = || NoDeletion(text.to_owned());
        let (kind, name) = text.split_once('/').ok_or_else(refused)?;
        let kind = match kind.to_ascii_lowercase().as_str() {
            "signingkey" | "signingkeys" | "skey" | "signingkeys.assay.dev" => PreviewedKind::SigningKey,
            "imagepolicy" | "imagepolicies" | "ipol" | "imagepolicies.assay.dev" => {
                PreviewedKind::ImagePolicy
            }
            "keyrevocation" | "keyrevocations" | "krev" | "keyrevocations.assay.dev" => {
                PreviewedKind::KeyRevocation
            }
            "imageexception" | "imageexceptions" | "imgex" | "imageexceptions.assay.dev" => {
                PreviewedKind::ImageException
            }
            _ => return Err(refused()),
        };
        if name.is_empty() {
            return Err(refused());
        }
        Ok(Deletion {
            kind,
            name: name.to_owned(),
        })
    }
}

/// A change, and what it is called.
#[derive(Clone, Debug)]
pub(super) struct Named {
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) change: PreviewChange,
}

/// The changes that the files and the deletions make.
pub(super) fn read(files: &[PathBuf], deletions: &[Deletion]) -> Result<Vec<Named>, ManifestError> {
    let mut changes: Vec<Named> = Vec::new();
    for (file, document) in documents(&unfolded(files)?)? {
        let Some(change) = applied(&file, document)? else {
            continue;
        };
        if changes
            .iter()
            .any(|known| (&known.kind, &known.name) == (&change.kind, &change.name))
        {
            return Err(ManifestError::Duplicate {
                file,
                object: format!("{}/{}", change.kind, change.name),
            });
        }
        changes.push(change);
    }
    changes.extend(deletions.iter().map(|deletion| Named {
        kind: format!("{:?}", deletion.kind),
        name: deletion.name.clone(),
        change: PreviewChange {
            apply: None,
            delete: Some(PreviewedName {
                kind: deletion.kind,
                name: deletion.name.clone(),
            }),
        },
    }));
    Ok(changes)
}

/// The YAML and JSON files of each folder in the place of the folder.
fn unfolded(files: &[PathBuf]) -> Result<Vec<PathBuf>, ManifestError> {
    let mut found = Vec::new();
    for file in files {
        if !file.is_dir() {
            found.push(file.clone());
            continue;
        }
        let failed = |source| ManifestError::Read {
            file: file.clone(),
            source,
        };
        let mut inside = Vec::new();
        for entry in std::fs::read_dir(file).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let extension = path.extension().and_then(|extension| extension.to_str());
            if matches!(extension, Some("yaml" | "yml" | "json")) {
                inside.push(path);
            }
        }
        inside.sort();
        found.extend(inside);
    }
    Ok(found)
}

/// The change that an object makes; None where it is of another API group, which is told.
fn applied(file: &Path, document: Value) -> Result<Option<Named>, ManifestError> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (version, kind) = (text(&document["apiVersion"]), text(&document["kind"]));
    let name = text(&document["metadata"]["name"]);
    let object = format!("{kind}/{name}");
    if !version.starts_with(&format!("{}/", api::GROUP)) && !version.is_empty() && !kind.is_empty() {
        output::note(&format!(
            "{}: {object} of {version} is left out: no key, policy, revocation or exception",
            file.display()
        ));
        return Ok(None);
    }
    let checked = match (version.as_str(), kind.as_str()) {
        ("assay.dev/v1alpha1", "SigningKey") => check::<SigningKey>(file, &object, &document),
        ("assay.dev/v1alpha1", "ImagePolicy") => check::<ImagePolicy>(file, &object, &document),
        ("assay.dev/v1alpha1", "KeyRevocation") => check::<KeyRevocation>(file, &object, &document),
        ("assay.dev/v1alpha1", "ImageException") => check::<ImageException>(file, &object, &document),
        _ => Err(ManifestError::Unusable {
            file: file.to_owned(),
            object,
            why: format!(
                "found kind {kind:?} of {version:?}; only SigningKey, ImagePolicy, KeyRevocation and ImageException \
                 of assay.dev/v1alpha1 can be previewed"
            ),
        }),
    };
    checked?;
    if name.is_empty() {
        return Err(ManifestError::Unnamed {
            file: file.to_owned(),
            kind,
        });
    }
    let apply = json!({
        "apiVersion": version,
        "kind": kind,
        "metadata": {"name": name},
        "spec": document["spec"],
    });
    Ok(Some(Named {
        kind,
        name,
        change: PreviewChange {
            apply: Some(apply),
            delete: None,
        },
    }))
}

fn check<T: DeserializeOwned>(file: &Path, object: &str, document: &Value) -> Result<(), ManifestError> {
    strict::<T>(file, object, document.clone()).map(drop)
}

/// What each change is against what the cluster holds: new, changed, same, deleted, or absent already.
pub(super) async fn against(session: &Session, changes: &[Named]) -> Result<Vec<Value>, ClusterError> {
    let mut told = Vec::new();
    for change in changes {
        let name = &change.name;
        let there = match change.kind.as_str() {
            "SigningKey" => there::<SigningKey>(session, name).await,
            "ImagePolicy" => there::<ImagePolicy>(session, name).await,
            "ImageException" => there::<ImageException>(session, name).await,
            _ => there::<KeyRevocation>(session, name).await,
        };
        let action = match there {
            Ok(there) => action(change, there.as_ref()),
            Err(error) if error.is_forbidden() => "notReadable",
            Err(error) => return Err(error),
        };
        told.push(json!({"kind": change.kind, "name": name, "action": action}));
    }
    Ok(told)
}

/// The policies that are in the cluster as these changes have them, and supersede another one: their statuses compare the
/// two.
pub(super) async fn superseding(
    session: &Session,
    changes: &[Named],
    told: &[Value],
) -> Result<Vec<ImagePolicy>, ClusterError> {
    let mut policies = Vec::new();
    for (change, told) in changes.iter().zip(told) {
        let supersedes = |object: &Value| object["spec"]["supersedes"].is_string();
        let is_compared = change.change.apply.as_ref().is_some_and(supersedes) && told["action"] == "same";
        if change.kind == "ImagePolicy" && is_compared {
            policies.extend(session.maybe::<ImagePolicy>(&change.name).await?);
        }
    }
    Ok(policies)
}

/// The object as a person would write it; None where there is none.
async fn there<K>(session: &Session, name: &str) -> Result<Option<Value>, ClusterError>
where
    K: Kind + kube::Resource<Scope = ClusterResourceScope> + serde::Serialize,
{
    let found = session.maybe::<K>(name).await?;
    Ok(found.as_ref().map(gitops::manifest))
}

fn action(change: &Named, there: Option<&Value>) -> &'static str {
    match (&change.change.apply, there) {
        (None, Some(_)) => "deleted",
        (None, None) => "absent",
        (Some(_), None) => "new",
        (Some(object), Some(there)) => match normal(&change.kind, object) == there["spec"] {
            true => "same",
            false => "changed",
        },
    }
}

/// The spec as the API server would hold it, with what is set by default.
fn normal(kind: &str, object: &Value) -> Value {
    fn of<K: DeserializeOwned + serde::Serialize>(object: &Value) -> Value {
        let read: Option<K> = serde_json::from_value(object.clone()).ok();
        read.and_then(|read| serde_json::to_value(read).ok())
            .map_or(Value::Null, |written| written["spec"].clone())
    }
    match kind {
        "SigningKey" => of::<SigningKey>(object),
        "ImagePolicy" => of::<ImagePolicy>(object),
        "ImageException" => of::<ImageException>(object),
        _ => of::<KeyRevocation>(object),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = "apiVersion: assay.dev/v1alpha1\nkind: ImagePolicy\nmetadata: {name: p, labels: {a: b}}\nspec:\n  match: {images: ['**']}\n  require: [{name: r, signature: {signedBy: [a]}}]\n";

    fn read_text(text: &str) -> Result<Vec<Named>, ManifestError> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.yaml"), text).unwrap();
        std::fs::write(folder.path().join("README.md"), "not read").unwrap();
        read(&[folder.path().to_owned()], &["skey/old".parse().unwrap()])
    }

    #[test]
    fn objects_of_a_folder_and_deletions_are_changes() {
        let config = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n";
        let changes = read_text(&format!("{POLICY}---\n{config}")).unwrap();
        let names: Vec<_> = changes
            .iter()
            .map(|change| format!("{}/{}", change.kind, change.name))
            .collect();
        assert_eq!(names, ["ImagePolicy/p", "SigningKey/old"]);
        assert!(
            changes[0].change.apply.as_ref().unwrap()["metadata"]
                .get("labels")
                .is_none()
        );
    }

    #[test]
    fn what_cannot_be_previewed_is_refused() {
        let error = |text: &str| read_text(text).unwrap_err().to_string();
        let exception =
            "apiVersion: assay.dev/v1alpha1\nkind: ImageException\nmetadata: {name: x}\nspec: {reason: r}\n";
        assert!(error(exception).contains("policies"), "{}", error(exception));
        let root = "apiVersion: assay.dev/v1alpha1\nkind: TrustRoot\nmetadata: {name: x}\nspec: {builtIn: Staging}\n";
        assert!(error(root).contains("can be previewed"), "{}", error(root));
        assert!(error(&POLICY.replace("match:", "matches:")).contains("match"));
        assert!(error(&POLICY.replace("signedBy", "signed_by")).contains("signedBy"));
        assert!(error(&format!("{POLICY}---\n{POLICY}")).contains("twice"));
        assert!(error("kind: ImagePolicy\n").contains("ImagePolicy"));
        for bad in ["release", "pod/x", "skey/"] {
            let error = bad.parse::<Deletion>().unwrap_err().to_string();
            assert!(error.contains("signingkey/release-2026"), "{error}");
        }
    }

    #[test]
    fn a_change_is_compared_with_what_the_cluster_holds() {
        let changes = read_text(POLICY).unwrap();
        let there = serde_json::from_value::<ImagePolicy>(changes[0].change.apply.clone().unwrap()).unwrap();
        let mut there = gitops::manifest(&there);
        assert_eq!(action(&changes[0], Some(&there)), "same");
        there["spec"]["mode"] = "Enforce".into();
        assert_eq!(action(&changes[0], Some(&there)), "changed");
        assert_eq!(action(&changes[0], None), "new");
        assert_eq!(action(&changes[1], Some(&there)), "deleted");
        assert_eq!(action(&changes[1], None), "absent");
    }
}
