//! TrustRoots: where each comes from, what the engine is told of it, and what its status says.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use api::conditions::{EXPIRING, READY, Status, condition};
use api::{BuiltInRoot, ConfigMapRef, TrustRoot, TrustRootSpec, TrustRootStatus, TufSource};
use engine::{Fact, Handle, Stopped};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use tokio::time::Instant;

use super::own_namespace::{OwnNamespace, Unread};
use super::tuf::Repositories;
use super::{Held, Kept, Stock, Version};
use crate::metrics::Metrics;
use crate::names::cut;
use crate::write::CONDITION_CHARACTERS;

/// The entry of a ConfigMap that is read unless another one is named.
const DEFAULT_KEY: &str = "trusted_root.json";
/// What ends within this time is said to be expiring.
const SOON: Duration = Duration::from_secs(30 * 24 * 3600);

type Root = Arc<verify::TrustRoot>;

/// Keeps TrustRoots up to date.
pub(crate) struct TrustRoots {
    engine: Handle,
    metrics: Arc<Metrics>,
    own: OwnNamespace,
    repositories: Repositories,
    told: BTreeMap<Arc<str>, Told>,
}

/// What the engine was last told of a TrustRoot.
struct Told {
    /// The spec that it comes from.
    version: Version,
    root: Result<Root, Problem>,
}

/// Why there is no trust root.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Problem {
    reason: &'static str,
    message: String,
}

/// A trust root, and what kept the last refresh from succeeding.
type Looked = (Result<Root, Problem>, Option<String>);

impl TrustRoots {
    /// What TUF repositories publish is kept in the folder; in memory without one.
    pub(crate) fn new(
        engine: Handle,
        metrics: Arc<Metrics>,
        own: OwnNamespace,
        tuf_folder: Option<PathBuf>,
    ) -> Self {
        TrustRoots {
            engine,
            metrics,
            own,
            repositories: Repositories::new(tuf_folder),
            told: BTreeMap::new(),
        }
    }

    async fn look(&self, name: &Arc<str>, held: &Held<TrustRootSpec, TrustRootStatus>) -> Looked {
        match &held.spec {
            Ok(spec) => self.look_at(name, &held.version(), spec).await,
            Err(problem) => (Err(invalid(problem.clone())), None),
        }
    }

    async fn look_at(&self, name: &Arc<str>, version: &Version, spec: &TrustRootSpec) -> Looked {
        if let Some(read) = trust_root_in(name, spec) {
            return (read.map(Arc::new).map_err(invalid), None);
        }
        if let Some(reference) = &spec.config_map_ref {
            let key = config_map_key(reference);
            return match self.own.config_map_entry(&reference.name, key).await {
                Ok(document) => {
                    let place = format!("the entry {key} of the ConfigMap {}", reference.name);
                    (parsed(name, &place, &document), None)
                }
                Err(Unread::Missing(why)) => (Err(problem("ConfigMapMissing", why)), None),
                Err(Unread::Trouble(why)) => (self.last_good(name, version, &why), Some(why)),
            };
        }
        if spec.tuf.is_some() {
            return self.published(name);
        }
        (
            Err(invalid("spec names no source of this version".to_owned())),
            None,
        )
    }

    fn published(&self, name: &str) -> Looked {
        let published = self.repositories.published(name);
        let trouble = published
            .as_ref()
            .and_then(|published| published.trouble)
            .map(str::to_owned);
        match published.and_then(|published| published.document) {
            Some(document) => (
                parsed(name, "trusted_root.json of the TUF repository", document),
                trouble,
            ),
            None => {
                let why = trouble.unwrap_or_else(|| "the TUF repository was not asked yet".to_owned());
                (Err(problem("Unavailable", why)), None)
            }
        }
    }

    /// The root that the same spec gave before, while its source cannot be read.
    fn last_good(&self, name: &str, version: &Version, why: &str) -> Result<Root, Problem> {
        let told = self.told.get(name).filter(|told| told.version == *version);
        let root = told.and_then(|told| told.root.as_ref().ok()).cloned();
        root.ok_or_else(|| problem("Unavailable", why.to_owned()))
    }

    /// Tells the engine what differs from what it was told.
    async fn tell(
        &mut self,
        name: &Arc<str>,
        version: Version,
        root: Result<Root, Problem>,
    ) -> Result<(), Stopped> {
        let before = self.told.get(name).map(|told| &told.root);
        let same = match (before, &root) {
            (Some(Ok(before)), Ok(root)) => before.digest() == root.digest(),
            (Some(Err(before)), Err(problem)) => before == problem,
            _ => false,
        };
        if !same {
            let content = root.clone().map_err(|problem| problem.message);
            let fact = Fact::TrustRoot {
                name: name.clone(),
                root: content,
            };
            self.engine.tell(fact).await?;
        }
        self.told.insert(name.clone(), Told { version, root });
        Ok(())
    }
}

impl Kept for TrustRoots {
    const KIND: &'static str = "TrustRoot";
    const LOOP: &'static str = "trust roots";
    type Resource = TrustRoot;
    type Spec = TrustRootSpec;
    type Status = TrustRootStatus;

    async fn bring_up_to_date(
        &mut self,
        objects: &Stock<Self>,
        now: Timestamp,
    ) -> Result<BTreeMap<Arc<str>, TrustRootStatus>, Stopped> {
        let gone: Vec<Arc<str>> = self
            .told
            .keys()
            .filter(|name| !objects.contains_key(*name))
            .cloned()
            .collect();
        for name in gone {
            self.told.remove(&name);
            self.engine.tell(Fact::TrustRootGone(name)).await?;
        }
        let repositories = objects.iter().filter_map(|(name, held)| {
            let source = held.spec.as_ref().ok()?.tuf.clone()?;
            Some((name.clone(), source))
        });
        self.repositories.refresh(&repositories.collect()).await;
        let mut statuses = BTreeMap::new();
        let mut ends = BTreeMap::new();
        for (name, held) in objects {
            let looked = self.look(name, held).await;
            self.tell(name, held.version(), looked.0.clone()).await?;
            ends.insert(name.clone(), looked.0.as_ref().ok().map(|root| root.expires()));
            statuses.insert(name.clone(), status(held.generation, &looked, &held.status, now));
        }
        self.metrics.show_trust_roots(ends);
        Ok(statuses)
    }

    fn due(&self) -> Option<Instant> {
        self.repositories.due()
    }
}

/// The trust root that a TrustRoot of this name holds itself; None where its content is elsewhere.
///
/// # Errors
/// Which field is wrong, and why.
pub fn trust_root_in(name: &str, spec: &TrustRootSpec) -> Option<Result<verify::TrustRoot, String>> {
    let root = match (&spec.inline, spec.built_in) {
        (Some(text), _) => {
            verify::TrustRoot::from_json(text.as_bytes()).map_err(|error| format!("spec.inline: {error}"))
        }
        (None, Some(BuiltInRoot::PublicGood)) => built_in(verify::TrustRoot::public_good()),
        (None, Some(BuiltInRoot::Staging)) => built_in(verify::TrustRoot::staging()),
        (None, Some(BuiltInRoot::Other)) => Err(
            "spec.builtIn names a root that this version does not have; use PublicGood or Staging".to_owned(),
        ),
        (None, None) => return None,
    };
    // The name is part of the fingerprints of keyless signers.
    Some(root.map(|root| root.named(name)))
}

/// The entry of a ConfigMap that holds the document.
#[must_use]
pub fn config_map_key(reference: &ConfigMapRef) -> &str {
    reference.key.as_deref().unwrap_or(DEFAULT_KEY)
}

/// What a TUF repository publishes now, for a look that keeps nothing.
///
/// # Errors
/// A message that names the repository and what is wrong.
pub async fn published_trust_root(name: &str, source: &TufSource) -> Result<verify::TrustRoot, String> {
    let mut repositories = Repositories::new(None);
    let name: Arc<str> = name.into();
    repositories
        .refresh(&[(name.clone(), source.clone())].into())
        .await;
    let published = repositories.published(&name);
    match published.as_ref().and_then(|published| published.document) {
        Some(document) => {
            let read = verify::TrustRoot::from_json(document);
            let read = read.map_err(|error| {
                format!("trusted_root.json of the TUF repository {}: {error}", source.url)
            })?;
            Ok(read.named(&name))
        }
        None => {
            let trouble = published.and_then(|published| published.trouble.map(str::to_owned));
            Err(trouble.unwrap_or_else(|| format!("the TUF repository {} was not asked", source.url)))
        }
    }
}

fn built_in(root: Result<verify::TrustRoot, verify::TrustRootError>) -> Result<verify::TrustRoot, String> {
    root.map_err(|error| format!("spec.builtIn: {error}"))
}

fn parsed(name: &str, place: &str, document: &[u8]) -> Result<Root, Problem> {
    match verify::TrustRoot::from_json(document) {
        Ok(root) => Ok(Arc::new(root.named(name))),
        Err(error) => Err(invalid(format!("{place}: {error}"))),
    }
}

fn invalid(message: String) -> Problem {
    problem("Invalid", message)
}

fn problem(reason: &'static str, message: String) -> Problem {
    Problem { reason, message }
}

/// What is said of a trust root.
fn status(generation: i64, looked: &Looked, before: &TrustRootStatus, now: Timestamp) -> TrustRootStatus {
    let root = looked.0.as_ref().ok();
    let digest = root.map(|root| root.digest().to_string());
    let refreshed = match (&digest, &before.digest) {
        (Some(digest), Some(known)) if digest == known => before.refreshed.clone(),
        (Some(_), _) => Some(Time(now)),
        (None, _) => None,
    };
    let expires = root.and_then(|root| root.expires());
    let conditions = [ready(looked), expiring(root.is_some(), expires, now)];
    let condition = |(type_, status, reason, message): Said| {
        let message = cut(&message, CONDITION_CHARACTERS);
        condition(
            &before.conditions,
            type_,
            status,
            reason,
            &message,
            Some(generation),
            now,
        )
    };
    TrustRootStatus {
        observed_generation: Some(generation),
        digest,
        refreshed,
        expires: expires.map(date),
        conditions: conditions.into_iter().map(condition).collect::<Vec<Condition>>(),
    }
}

/// Type, status, reason and message of a condition.
type Said = (&'static str, Status, &'static str, String);

fn ready(looked: &Looked) -> Said {
    match looked {
        (Err(problem), _) => (READY, Status::False, problem.reason, problem.message.clone()),
        (Ok(_), Some(trouble)) => {
            let message = format!("the last good version is in use: {trouble}");
            (READY, Status::True, "RefreshFailing", message)
        }
        (Ok(_), None) => {
            let message = "keys that name it are verified by it".to_owned();
            (READY, Status::True, "Usable", message)
        }
    }
}

fn expiring(is_there: bool, expires: Option<Timestamp>, now: Timestamp) -> Said {
    let (status, reason, message) = match expires {
        _ if !is_there => (Status::Unknown, "NotReady", "there is no trust root".to_owned()),
        None => (
            Status::False,
            "NoEnd",
            "no authority or log in use has an end".to_owned(),
        ),
        Some(end) if end <= now => {
            let message = format!(
                "an authority or a log ended on {}; renew the trust root",
                date(end)
            );
            (Status::True, "Expired", message)
        }
        Some(end) if now.checked_add(SOON).is_ok_and(|soon| end <= soon) => {
            let message = format!(
                "an authority or a log ends on {}; renew the trust root",
                date(end)
            );
            (Status::True, "EndsSoon", message)
        }
        Some(end) => (
            Status::False,
            "InTime",
            format!("nothing ends before {}", date(end)),
        ),
    };
    (EXPIRING, status, reason, message)
}

fn date(time: Timestamp) -> String {
    time.to_zoned(TimeZone::UTC).date().to_string()
}

#[cfg(test)]
#[path = "trust_roots_tests.rs"]
mod tests;
