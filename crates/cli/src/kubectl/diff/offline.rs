//! `kubectl assay diff --offline`: where no operator runs, the engine itself answers, by the cluster's resources and the
//! registries, with the rights and the registry credentials of whoever asks.

use std::sync::Arc;

use api::{
    ImageException, ImagePolicy, KeyRevocation, PreviewChange, PreviewedName, RegistryConfig, SigningKey,
    TrustRoot,
};
use engine::{ExceptionFacts, Fact, KeyFacts, PolicyFacts, RevocationFacts, compare};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, ListParams};
use registry::{Client, Routes};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::cluster::{ClusterError, Session, list};
use crate::kubectl::fleet;
use crate::kubectl::preview::Foreseen;
use crate::output::{self, Problem};
use crate::registries::RegistryArguments;

/// After so many look-ups it is told how far they have come.
const TOLD_EVERY: usize = 64;

/// What the changes would do to what runs in the namespaces that were asked for.
pub(super) async fn foresee(
    session: &Session,
    changes: &[PreviewChange],
    registries: &RegistryArguments,
) -> Result<Foreseen, Problem> {
    let changes = changes
        .iter()
        .enumerate()
        .map(|(number, change)| fact(change).map_err(|why| format!("change {}: {why}", number + 1)))
        .collect::<Result<Vec<Fact>, String>>()?;
    let client = Client::new(registries.options(concat!("kubectl-assay-diff/", env!("CARGO_PKG_VERSION"))))?;
    client.set_routes(routes(session).await?)?;
    let facts = everything(session).await?;
    let mut told = 0;
    let report = compare(client, facts, changes, |ended| {
        if ended >= told + TOLD_EVERY {
            told = ended;
            output::progress(&format!("{ended} images are looked up"));
        }
    })
    .await?;
    if !report.problems.is_empty() {
        let problems = report.problems.join("; ");
        return Err(format!("the changes would not come about as they are written: {problems}").into());
    }
    Ok(Foreseen::of_report(report))
}

/// Everything that verdicts rest on, as it is.
async fn everything(session: &Session) -> Result<Vec<Fact>, Problem> {
    let now = Timestamp::now();
    let mut facts = namespaces(session).await?;
    for root in session.all::<TrustRoot>().await? {
        facts.push(trust_root(root).await);
    }
    for key in session.all::<SigningKey>().await? {
        facts.push(of_key(key));
    }
    for revocation in session.all::<KeyRevocation>().await? {
        facts.push(of_revocation(revocation, now));
    }
    for policy in session.all::<ImagePolicy>().await? {
        facts.push(of_policy(policy));
    }
    match session.all::<ImageException>().await {
        Ok(exceptions) => facts.extend(
            exceptions
                .into_iter()
                .map(|exception| of_exception(exception, now)),
        ),
        // An older install lacks the kind, and so excepts nothing.
        Err(ClusterError::NotInstalled(_)) => {}
        Err(error) => return Err(error.into()),
    }
    let pods = fleet::read(session).await?;
    output::progress(&format!("{} pods {} are judged", pods.len(), session.place()));
    facts.extend(pods.into_iter().map(Fact::Pod));
    Ok(facts)
}

/// The labels of namespaces, which policies may select by. Without them nothing can be told.
async fn namespaces(session: &Session) -> Result<Vec<Fact>, ClusterError> {
    let api: Api<Namespace> = Api::all(session.client.clone());
    let found = match &session.namespace {
        Some(name) => api.get(name).await.map(|found| vec![found]),
        None => list(&api, &ListParams::default()).await,
    };
    let verb = if session.namespace.is_some() {
        "get"
    } else {
        "list"
    };
    let found = found
        .map_err(|error| session.explained_here::<Namespace>(verb, session.namespace.as_deref(), error))?;
    let facts = found.into_iter().map(|namespace| Fact::Namespace {
        name: namespace.metadata.name.unwrap_or_default().into(),
        labels: namespace.metadata.labels.unwrap_or_default(),
    });
    Ok(facts.collect())
}

async fn routes(session: &Session) -> Result<Routes, Problem> {
    let mut routes = Routes::default();
    for config in session.all::<RegistryConfig>().await? {
        let name = config.metadata.name.unwrap_or_default();
        let unusable = |why: String| format!("RegistryConfig/{name}: {why}");
        routes
            .insert(controller::route_of(&name, &config.spec).map_err(unusable)?)
            .map_err(|conflict| unusable(conflict.to_string()))?;
        if config.spec.credentials.is_some() {
            output::note(&format!(
                "RegistryConfig/{name}: spec.credentials names a Secret, which is not read here; give --registry-config"
            ));
        }
    }
    Ok(routes)
}

async fn trust_root(root: TrustRoot) -> Fact {
    let name = root.metadata.name.unwrap_or_default();
    let read = match (controller::trust_root_in(&name, &root.spec), &root.spec.tuf) {
        (Some(read), _) => read,
        (None, Some(source)) => controller::published_trust_root(&name, source)
            .await
            .map_err(|why| why.to_string()),
        (None, None) => Err("its ConfigMap is in the operator's namespace, and is not read here".to_owned()),
    };
    Fact::TrustRoot {
        name: name.into(),
        root: read.map(Arc::new),
    }
}

fn of_key(key: SigningKey) -> Fact {
    Fact::Key(Box::new(KeyFacts {
        name: key.metadata.name.unwrap_or_default().into(),
        generation: key.metadata.generation.unwrap_or_default(),
        spec: Ok(key.spec),
    }))
}

/// One that is in no cluster yet would be made now.
fn of_revocation(revocation: KeyRevocation, now: Timestamp) -> Fact {
    let created = revocation.metadata.creation_timestamp.map(|time| time.0);
    Fact::Revocation(Box::new(RevocationFacts {
        name: revocation.metadata.name.unwrap_or_default().into(),
        generation: revocation.metadata.generation.unwrap_or_default(),
        created: Some(created.unwrap_or(now)),
        spec: Ok(revocation.spec),
    }))
}

/// One that is in no cluster yet would be made now.
fn of_exception(exception: ImageException, now: Timestamp) -> Fact {
    let created = exception.metadata.creation_timestamp.map(|time| time.0);
    Fact::Exception(Box::new(ExceptionFacts {
        name: exception.metadata.name.unwrap_or_default().into(),
        generation: exception.metadata.generation.unwrap_or_default(),
        created: Some(created.unwrap_or(now)),
        spec: Ok(exception.spec),
    }))
}

fn of_policy(policy: ImagePolicy) -> Fact {
    Fact::Policy(Box::new(PolicyFacts {
        name: policy.metadata.name.unwrap_or_default().into(),
        generation: policy.metadata.generation.unwrap_or_default(),
        spec: Ok(policy.spec),
        in_force: policy.status.and_then(|status| status.in_force),
    }))
}

fn fact(change: &PreviewChange) -> Result<Fact, String> {
    match (&change.apply, &change.delete) {
        (Some(object), None) => applied(object),
        (None, Some(PreviewedName { kind, name })) => Fact::gone(*kind, name.as_str().into())
            .ok_or_else(|| "found a kind that this version does not know".to_owned()),
        _ => Err("expected exactly one of apply and delete".to_owned()),
    }
}

fn applied(object: &Value) -> Result<Fact, String> {
    fn read<K: DeserializeOwned>(object: &Value) -> Result<K, String> {
        serde_json::from_value(object.clone()).map_err(|error| error.to_string())
    }
    match object["kind"].as_str() {
        Some("SigningKey") => Ok(of_key(read(object)?)),
        Some("ImagePolicy") => Ok(of_policy(read(object)?)),
        Some("KeyRevocation") => Ok(of_revocation(read(object)?, Timestamp::now())),
        Some("ImageException") => Ok(of_exception(read(object)?, Timestamp::now())),
        _ => Err(
            "found another kind than SigningKey, ImagePolicy, KeyRevocation and ImageException".to_owned(),
        ),
    }
}
