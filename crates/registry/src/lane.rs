//! How each registry is asked at the moment: the routes, made ready to be used.
//!
//! A lane is what calls to the same registry (or the same route) share: connections, turns, pace, credentials.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use image::Repository;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::credentials::Credentials;
use crate::guard::Guard;
use crate::http_client::Maker;
use crate::options::ClientOptions;
use crate::pace::Pace;
use crate::routes::{Route, Routes};
use crate::waits::Waits;

/// Above this many registries without a route, those without a call under way are forgotten.
const REMEMBERED: usize = 1024;
/// So many bodies above `wire::LARGE` are read from one registry at a time, so that a hostile one fills little
/// memory, and only its own calls wait.
const LARGE_AT_A_TIME: usize = 2;

pub(crate) struct Lane {
    /// The RegistryConfig, for messages.
    pub(crate) name: Option<String>,
    pub(crate) plain_http: bool,
    pub(crate) http: reqwest::Client,
    /// The operator's credentials, if the route has some.
    pub(crate) credentials: Option<Credentials>,
    pub(crate) pace: Pace,
    pub(crate) large: Semaphore,
    turns: Semaphore,
}

impl Lane {
    /// Waits for a turn. `None` only if the semaphore was closed, which nothing does.
    pub(crate) async fn enter(&self, waits: &Waits) -> Option<SemaphorePermit<'_>> {
        // Where there is no pace, others hold the turns because the registry is slow.
        let _waiting = self.pace.is_set().then(|| waits.begin());
        self.turns.acquire().await.ok()
    }
}

/// What all lanes have in common.
pub(crate) struct Yard {
    maker: Maker,
    guard: Guard,
    http: reqwest::Client,
    concurrency: usize,
    per_second: Option<std::num::NonZeroU32>,
    plain_http: BTreeSet<String>,
    token_servers: BTreeSet<String>,
}

impl Yard {
    /// # Errors
    /// What the TLS library says.
    pub(crate) fn new(
        options: &ClientOptions,
        plain_http: BTreeSet<String>,
        guard: Guard,
    ) -> Result<Self, String> {
        let maker = Maker::new(options, guard.clone());
        Ok(Self {
            http: maker.make(None)?,
            maker,
            guard,
            concurrency: options.per_registry_concurrency,
            per_second: options.requests_per_second,
            plain_http,
            token_servers: options.token_servers.values().flatten().cloned().collect(),
        })
    }

    /// The lanes for these routes. What `before` has of the same routes is kept: turns taken, budgets spent.
    ///
    /// # Errors
    /// The route that cannot be used, and what the TLS library says.
    pub(crate) fn lanes(&self, routes: Routes, before: Option<&Lanes>) -> Result<Lanes, (String, String)> {
        let mut of_routes = Vec::new();
        for route in routes.iter() {
            let old = before.and_then(|before| before.of_prefix(route));
            let lane = match old {
                Some((same, lane)) if same == route => lane.clone(),
                _ => Arc::new(self.routed(route, old.map(|(_, lane)| lane.as_ref()))?),
            };
            of_routes.push(lane);
        }
        self.guard.configure(self.configured(&routes));
        let others = match before {
            Some(before) => before.others(),
            None => HashMap::new(),
        };
        Ok(Lanes {
            routes,
            of_routes,
            others: Mutex::new(others),
        })
    }

    fn routed(&self, route: &Route, before: Option<&Lane>) -> Result<Lane, (String, String)> {
        let http = match &route.ca_bundle {
            Some(certificates) => self
                .maker
                .make(Some(certificates))
                .map_err(|why| (route.name.clone(), why))?,
            None => self.http.clone(),
        };
        let per_second = route.requests_per_second.or(self.per_second);
        let width = route
            .concurrency
            .map_or(self.concurrency, std::num::NonZeroUsize::get);
        Ok(Lane {
            name: Some(route.name.clone()),
            plain_http: route.plain_http || self.plain_http.contains(route.prefix.registry()),
            http,
            credentials: route.credentials.clone(),
            pace: Pace::new(per_second, route.daily_budget, before.map(|before| &before.pace)),
            large: Semaphore::new(LARGE_AT_A_TIME),
            turns: Semaphore::new(width.min(Semaphore::MAX_PERMITS)),
        })
    }

    fn plain(&self, registry: &str) -> Lane {
        Lane {
            name: None,
            plain_http: self.plain_http.contains(registry),
            http: self.http.clone(),
            credentials: None,
            pace: Pace::new(self.per_second, None, None),
            large: Semaphore::new(LARGE_AT_A_TIME),
            turns: Semaphore::new(self.concurrency.min(Semaphore::MAX_PERMITS)),
        }
    }

    /// The registries and token servers that an administrator named.
    fn configured<'a>(&'a self, routes: &'a Routes) -> impl Iterator<Item = &'a str> {
        let of_routes = routes.iter().flat_map(|route| {
            let mirrors = route.mirrors.iter().map(|mirror| mirror.prefix.registry());
            let evidence = route.evidence_repository.iter().map(Repository::registry);
            mirrors.chain(evidence).chain([route.prefix.registry()])
        });
        let of_options = self.plain_http.iter().chain(&self.token_servers);
        of_options.map(String::as_str).chain(of_routes)
    }

    /// The lane of a repository.
    pub(crate) fn lane(&self, lanes: &Lanes, repository: &Repository) -> Arc<Lane> {
        let routed = lanes
            .routes
            .iter()
            .zip(&lanes.of_routes)
            .find(|(route, _)| route.prefix.covers(repository));
        if let Some((_, lane)) = routed {
            return lane.clone();
        }
        let mut others = lanes.others.lock().unwrap_or_else(PoisonError::into_inner);
        if others.len() >= REMEMBERED {
            others.retain(|_, lane| Arc::strong_count(lane) > 1);
        }
        let registry = repository.registry();
        others
            .entry(registry.to_owned())
            .or_insert_with(|| Arc::new(self.plain(registry)))
            .clone()
    }
}

pub(crate) struct Lanes {
    pub(crate) routes: Routes,
    /// In the order of the routes.
    of_routes: Vec<Arc<Lane>>,
    /// By registry.
    others: Mutex<HashMap<String, Arc<Lane>>>,
}

impl Lanes {
    fn of_prefix(&self, route: &Route) -> Option<(&Route, &Arc<Lane>)> {
        let mut lanes = self.routes.iter().zip(&self.of_routes);
        lanes.find(|(other, _)| other.prefix == route.prefix)
    }

    fn others(&self) -> HashMap<String, Arc<Lane>> {
        self.others.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
