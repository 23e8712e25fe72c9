//! RegistryConfigs: how each becomes a route of the registry client, and what its status says.

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::sync::Arc;
use std::time::Duration;

use api::conditions::{IN_TIME, READY, Status, condition};
use api::{RegistryConfig, RegistryConfigSpec, RegistryConfigStatus};
use engine::{Fact, Handle, Stopped};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use registry::{Certificates, Client, Credentials, Mirror, Prefix, Route, Routes};

use super::own_namespace::{OwnNamespace, Unread};
use super::{Kept, Stock};
use crate::metrics::Metrics;
use crate::names::cut;
use crate::write::CONDITION_CHARACTERS;

/// Regular look-ups that wait longer for their turn are late.
const LATE: Duration = Duration::from_secs(15 * 60);
/// They are in time again when none waits longer than this.
const IN_TIME_AGAIN: Duration = Duration::from_secs(5 * 60);

const DOCKER_CONFIG: &str = ".dockerconfigjson";
const OLD_DOCKER_CONFIG: &str = ".dockercfg";

/// Keeps RegistryConfigs up to date.
pub(crate) struct Registries {
    engine: Handle,
    client: Client,
    metrics: Arc<Metrics>,
    own: OwnNamespace,
    /// What Secrets held when they were last read, by name.
    secrets: BTreeMap<String, Credentials>,
    in_force: Option<Routes>,
}

/// What is said of one RegistryConfig: None where it is in use as it is written.
type Trouble = Option<Problem>;

/// What is wrong with a RegistryConfig.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Problem {
    reason: &'static str,
    message: String,
}

impl Registries {
    /// Routes are given to the client, whose clones share them, and told to the engine.
    pub(crate) fn new(engine: Handle, client: Client, metrics: Arc<Metrics>, own: OwnNamespace) -> Self {
        Registries {
            engine,
            client,
            metrics,
            own,
            secrets: BTreeMap::new(),
            in_force: None,
        }
    }

    /// The route of one object, if there is one, and what is wrong.
    async fn route(
        &mut self,
        name: &str,
        spec: &Result<RegistryConfigSpec, String>,
    ) -> (Option<Route>, Trouble) {
        let spec = match spec {
            Ok(spec) => spec,
            Err(why) => return (None, Some(invalid(why.clone()))),
        };
        let mut route = match route_of(name, spec) {
            Ok(route) => route,
            Err(why) => return (None, Some(invalid(why))),
        };
        let Some(reference) = &spec.credentials else {
            return (Some(route), None);
        };
        let (credentials, trouble) = self.credentials(&reference.secret_name).await;
        route.credentials = Some(credentials);
        (Some(route), trouble)
    }

    /// For how long the look-up that has waited longest has waited for its turn, by RegistryConfig.
    async fn delays(&self) -> Result<BTreeMap<String, Duration>, Stopped> {
        let mut delays = BTreeMap::new();
        for ((_, config), delay) in self.engine.totals().await?.delays {
            if let Some(config) = config {
                let longest: &mut Duration = delays.entry(config).or_default();
                *longest = delay.max(*longest);
            }
        }
        Ok(delays)
    }

    /// What a Secret holds. Without it there are none, and whoever asks for them is told the Secret's name.
    async fn credentials(&mut self, name: &str) -> (Credentials, Trouble) {
        let holder = format!("Secret {}/{name}", self.own.namespace());
        let none = || Credentials::none(&holder);
        match self.own.secret(name).await {
            Ok(secret) => match read(&holder, secret) {
                Ok(credentials) => {
                    self.secrets.insert(name.to_owned(), credentials.clone());
                    (credentials, None)
                }
                Err(why) => (none(), Some(problem("SecretInvalid", why))),
            },
            Err(Unread::Missing(why)) => {
                self.secrets.remove(name);
                (none(), Some(problem("SecretMissing", why)))
            }
            Err(Unread::Trouble(why)) => {
                let kept = self.secrets.get(name).cloned();
                (kept.unwrap_or_else(none), Some(problem("SecretUnreadable", why)))
            }
        }
    }

    /// Puts the routes in force; gives those that the client cannot work with.
    async fn put_in_force(&mut self, mut routes: Vec<Route>) -> Result<BTreeMap<String, Problem>, Stopped> {
        let mut unusable = BTreeMap::new();
        loop {
            let mut all = Routes::default();
            for route in &routes {
                if let Err(conflict) = all.insert(route.clone()) {
                    unusable.insert(conflict.second.clone(), problem("Conflict", conflict.to_string()));
                }
            }
            if self.in_force.as_ref() == Some(&all) {
                return Ok(unusable);
            }
            match self.client.set_routes(all.clone()) {
                Ok(()) => {
                    self.in_force = Some(all.clone());
                    self.engine.tell(Fact::Registries(all)).await?;
                    return Ok(unusable);
                }
                Err(error) => {
                    let before = routes.len();
                    routes.retain(|route| route.name != error.route);
                    unusable.insert(error.route.clone(), invalid(error.to_string()));
                    if routes.len() == before {
                        tracing::error!(%error, "the routes to registries cannot be put in force; the last ones stay");
                        return Ok(unusable);
                    }
                }
            }
        }
    }
}

impl Kept for Registries {
    const KIND: &'static str = "RegistryConfig";
    const LOOP: &'static str = "registry configurations";
    type Resource = RegistryConfig;
    type Spec = RegistryConfigSpec;
    type Status = RegistryConfigStatus;

    async fn bring_up_to_date(
        &mut self,
        objects: &Stock<Self>,
        now: Timestamp,
    ) -> Result<BTreeMap<Arc<str>, RegistryConfigStatus>, Stopped> {
        // Of two with one prefix the older one counts, so nobody takes a registry over by adding an object.
        let mut by_age: Vec<_> = objects.iter().collect();
        by_age.sort_by_key(|(name, held)| (held.created, (*name).clone()));
        let mut routes = Vec::new();
        let mut troubles = BTreeMap::new();
        for (name, held) in by_age {
            let (route, trouble) = self.route(name, &held.spec).await;
            routes.extend(route);
            troubles.insert(name.to_string(), trouble);
        }
        for (name, problem) in self.put_in_force(routes).await? {
            troubles.insert(name, Some(problem));
        }
        let ready = troubles
            .iter()
            .map(|(name, trouble)| (name.as_str().into(), trouble.is_none()));
        self.metrics.show_registries(ready.collect());
        let delays = self.delays().await?;
        let status = |(name, held): (&Arc<str>, &super::Held<_, RegistryConfigStatus>)| {
            let trouble = troubles.get(&**name).and_then(Option::as_ref);
            let delay = delays.get(&**name).copied().unwrap_or_default();
            (
                name.clone(),
                status(held.generation, trouble, delay, &held.status, now),
            )
        };
        Ok(objects.iter().map(status).collect())
    }
}

/// The route that a RegistryConfig of this name says, without its credentials, which are in a cluster.
///
/// # Errors
/// Which field is wrong, and why.
pub fn route_of(name: &str, spec: &RegistryConfigSpec) -> Result<Route, String> {
    let prefix = |field: &str, text: &str| -> Result<Prefix, String> {
        text.parse().map_err(|error| format!("{field}: {error}"))
    };
    let mut mirrors = Vec::new();
    for (at, mirror) in spec.mirrors.iter().enumerate() {
        mirrors.push(Mirror {
            prefix: prefix(&format!("spec.mirrors[{at}].prefix"), &mirror.prefix)?,
            authoritative: mirror.authoritative.unwrap_or(false),
        });
    }
    let evidence = spec.evidence_repository.as_deref().map(str::parse).transpose();
    let certificates = spec
        .ca_bundle
        .as_deref()
        .map(|pem| Certificates::from_pem(pem.as_bytes()));
    Ok(Route {
        mirrors,
        evidence_repository: evidence.map_err(|error| format!("spec.evidenceRepository: {error}"))?,
        plain_http: spec.plain_http.unwrap_or(false),
        ca_bundle: certificates
            .transpose()
            .map_err(|error| format!("spec.caBundle: {error}"))?,
        requests_per_second: limit("requestsPerSecond", spec.requests_per_second, NonZeroU32::new)?,
        concurrency: limit("concurrency", spec.concurrency, NonZeroUsize::new)?,
        daily_budget: limit("dailyBudget", spec.daily_budget, NonZeroU64::new)?,
        pull_through_cache: spec.pull_through_cache.unwrap_or(false),
        ..Route::new(name, prefix("spec.prefix", &spec.prefix)?)
    })
}

/// A limit that is above zero.
fn limit<N: TryFrom<i64>, L>(
    field: &str,
    given: Option<i64>,
    read: impl Fn(N) -> Option<L>,
) -> Result<Option<L>, String> {
    let Some(number) = given else { return Ok(None) };
    let limit = N::try_from(number).ok().and_then(read);
    match limit {
        Some(limit) => Ok(Some(limit)),
        None => Err(format!("spec.{field} is {number}: it must be at least 1")),
    }
}

/// The credentials in a Secret of one of the types that kubectl makes for registries.
fn read(holder: &str, secret: Secret) -> Result<Credentials, String> {
    let data = secret.data.unwrap_or_default();
    let entry = |key: &str| data.get(key).map(|bytes| bytes.0.as_slice());
    if let Some(config) = entry(DOCKER_CONFIG) {
        return Credentials::from_docker_config(holder, config).map_err(|error| error.to_string());
    }
    if let Some(config) = entry(OLD_DOCKER_CONFIG) {
        return Credentials::from_dockercfg(holder, config).map_err(|error| error.to_string());
    }
    let (Some(user), Some(password)) = (entry("username"), entry("password")) else {
        return Err(format!(
            "{holder} has neither {DOCKER_CONFIG} nor username and password: make it with `kubectl create secret docker-registry`"
        ));
    };
    match (std::str::from_utf8(user), std::str::from_utf8(password)) {
        (Ok(user), Ok(password)) => {
            Credentials::from_password(holder, user, password).map_err(|error| error.to_string())
        }
        _ => Err(format!("{holder}: username or password is not text")),
    }
}

fn invalid(message: String) -> Problem {
    problem("Invalid", message)
}

fn problem(reason: &'static str, message: String) -> Problem {
    Problem { reason, message }
}

fn status(
    generation: i64,
    trouble: Option<&Problem>,
    delay: Duration,
    before: &RegistryConfigStatus,
    now: Timestamp,
) -> RegistryConfigStatus {
    let (status, reason, message) = match trouble {
        None => (Status::True, "InUse", "registries are asked as it says"),
        Some(problem) => (Status::False, problem.reason, problem.message.as_str()),
    };
    let message = cut(message, CONDITION_CHARACTERS);
    let ready = condition(
        &before.conditions,
        READY,
        status,
        reason,
        &message,
        Some(generation),
        now,
    );
    RegistryConfigStatus {
        observed_generation: Some(generation),
        conditions: vec![ready, in_time(generation, delay, before, now)],
    }
}

/// A pace or a budget that is too small stretches the interval of the policies, and that is said.
fn in_time(generation: i64, delay: Duration, before: &RegistryConfigStatus, now: Timestamp) -> Condition {
    let was_late = before
        .conditions
        .iter()
        .any(|condition| condition.type_ == IN_TIME && condition.status == Status::False.as_str());
    let (status, reason, message) = match delay > if was_late { IN_TIME_AGAIN } else { LATE } {
        false => (
            Status::True,
            "InTime",
            "images are looked at again when their policies ask for it",
        ),
        true => (
            Status::False,
            "Stretched",
            "images that hold are looked at again later than their policies ask for: requestsPerSecond, concurrency and \
             dailyBudget allow less, or the registry is slow. Raise them, or recheck.interval of the policies; \
             assay_recheck_delay_seconds says how late",
        ),
    };
    condition(
        &before.conditions,
        IN_TIME,
        status,
        reason,
        message,
        Some(generation),
        now,
    )
}

#[cfg(test)]
#[path = "registries_tests.rs"]
mod tests;
