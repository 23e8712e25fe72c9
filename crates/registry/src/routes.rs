//! How registries are asked, as data: what RegistryConfig objects say, by prefix. Nothing here sends anything.
//!
//! The longest prefix that fits a repository decides, for each repository that is asked: a mirror is asked as the
//! route of the mirror's own repositories says.

use std::fmt;
use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::str::FromStr;

use image::{ReferenceError, Repository, normalise_registry};

use crate::certificates::Certificates;
use crate::credentials::Credentials;
use crate::error::shown;

/// A registry, or a registry and the beginning of a path: `docker.io`, `registry.example.com:5000/shop`. A path
/// ends at a component: `shop` covers `shop/web`, and not `shopping/web`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Prefix {
    registry: String,
    path: String,
}

impl Prefix {
    /// The registry: `host` or `host:port`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// Whether the repository lies under the prefix.
    pub fn covers(&self, repository: &Repository) -> bool {
        self.rest(repository).is_some()
    }

    /// What follows the prefix in the repository's name; empty where they are the same.
    fn rest<'a>(&self, repository: &'a Repository) -> Option<&'a str> {
        if self.registry != repository.registry() {
            return None;
        }
        if self.path.is_empty() {
            return Some(repository.path());
        }
        let rest = repository.path().strip_prefix(&self.path)?;
        if rest.is_empty() {
            return Some(rest);
        }
        rest.strip_prefix('/')
    }

    /// The repository `rest` under the prefix; `None` where that is no repository.
    fn join(&self, rest: &str) -> Option<Repository> {
        let path: Vec<&str> = [self.path.as_str(), rest]
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect();
        let joined = format!("{}/{}", self.registry, path.join("/")).parse();
        joined
            .ok()
            .filter(|joined: &Repository| joined.registry() == self.registry)
    }
}

impl FromStr for Prefix {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let (host, path) = text.split_once('/').unwrap_or((text, ""));
        let registry = normalise_registry(host)?;
        if !path.is_empty() || text.ends_with('/') {
            // The rules for paths are those of repositories; Docker Hub's short names are no paths.
            let _checked: Repository = format!("prefix.invalid/{path}").parse()?;
        }
        Ok(Self {
            registry,
            path: path.to_owned(),
        })
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.registry)?;
        if self.path.is_empty() {
            return Ok(());
        }
        write!(f, "/{}", self.path)
    }
}

/// A place that holds copies of the repositories under a prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    /// What stands in place of the route's prefix at the mirror.
    pub prefix: Prefix,
    /// Whether what it does not have does not exist. Otherwise its absences prove nothing.
    pub authoritative: bool,
}

/// How the repositories under one prefix are asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The name of the RegistryConfig, for messages.
    pub name: String,
    /// What it is about.
    pub prefix: Prefix,
    /// Where the repositories may be found besides, in the order in which they are asked, before the prefix itself.
    pub mirrors: Vec<Mirror>,
    /// Where signatures and attestations of the images are looked for instead, as cosign's COSIGN_REPOSITORY.
    pub evidence_repository: Option<Repository>,
    /// Whether the registry is asked over http without TLS.
    pub plain_http: bool,
    /// Certificates that the registry's may be signed by, besides the system's.
    pub ca_bundle: Option<Certificates>,
    /// The operator's credentials for the registry; no other identity uses them.
    pub credentials: Option<Credentials>,
    /// How many requests are sent in a second, all kinds counted.
    pub requests_per_second: Option<NonZeroU32>,
    /// How many calls are under way at the same time.
    pub concurrency: Option<NonZeroUsize>,
    /// How many requests are sent in 24 hours, all kinds counted.
    pub daily_budget: Option<NonZeroU64>,
    /// Whether the registry fetches what it is asked for, so that its absences prove nothing.
    pub pull_through_cache: bool,
}

impl Route {
    /// A route that changes nothing for the repositories under `prefix`.
    pub fn new(name: impl Into<String>, prefix: Prefix) -> Self {
        Self {
            name: name.into(),
            prefix,
            mirrors: Vec::new(),
            evidence_repository: None,
            plain_http: false,
            ca_bundle: None,
            credentials: None,
            requests_per_second: None,
            concurrency: None,
            daily_budget: None,
            pull_through_cache: false,
        }
    }
}

/// One place where an image and what vouches for it may be found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Where the image is looked for.
    pub repository: Repository,
    /// Where its signatures and attestations are looked for: referrers, fallback tag, `.sig` and `.att`.
    pub evidence: Repository,
    /// Whether an absence here proves that there is nothing: neither an incomplete mirror nor a pull-through cache
    /// is asked. An image that is absent from another source is not mirrored there, which says nothing of its
    /// signatures.
    pub authoritative: bool,
    /// Whether this is the repository that was asked about, rather than a mirror of it.
    pub origin: bool,
}

/// All routes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Routes {
    /// The longest prefix first.
    routes: Vec<Route>,
}

/// Two routes for one prefix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "RegistryConfig {second} names the prefix {}, which RegistryConfig {first} names already: keep one of them",
    shown(prefix)
)]
pub struct RouteConflict {
    /// The prefix.
    pub prefix: String,
    /// The route that stays.
    pub first: String,
    /// The route that is not taken.
    pub second: String,
}

impl Routes {
    /// Adds a route.
    ///
    /// # Errors
    /// [`RouteConflict`] if there is one for the prefix; it stays, and nothing changes.
    pub fn insert(&mut self, route: Route) -> Result<(), RouteConflict> {
        if let Some(first) = self.routes.iter().find(|other| other.prefix == route.prefix) {
            return Err(RouteConflict {
                prefix: route.prefix.to_string(),
                first: first.name.clone(),
                second: route.name,
            });
        }
        let length = |route: &Route| route.prefix.path.len();
        let at = self
            .routes
            .partition_point(|other| length(other) >= length(&route));
        self.routes.insert(at, route);
        Ok(())
    }

    /// All routes, the longest prefix first.
    pub fn iter(&self) -> impl Iterator<Item = &Route> {
        self.routes.iter()
    }

    /// The route that decides for a repository.
    pub fn of(&self, repository: &Repository) -> Option<&Route> {
        self.routes.iter().find(|route| route.prefix.covers(repository))
    }

    /// Where the images of a repository may be found, in the order in which they are to be asked; the repository
    /// itself is the last. There is always one.
    pub fn sources(&self, repository: &Repository) -> Vec<Source> {
        let Some(route) = self.of(repository) else {
            return vec![self.source(repository.clone(), None, true, true)];
        };
        let rest = route.prefix.rest(repository).unwrap_or("");
        let evidence = route.evidence_repository.as_ref();
        let mut sources: Vec<Source> = Vec::new();
        for mirror in &route.mirrors {
            let Some(mirrored) = mirror.prefix.join(rest) else {
                continue;
            };
            if mirrored != *repository && sources.iter().all(|source| source.repository != mirrored) {
                sources.push(self.source(mirrored, evidence, mirror.authoritative, false));
            }
        }
        sources.push(self.source(repository.clone(), evidence, true, true));
        sources
    }

    fn source(
        &self,
        repository: Repository,
        evidence: Option<&Repository>,
        authoritative: bool,
        origin: bool,
    ) -> Source {
        let is_cache =
            |repository: &Repository| self.of(repository).is_some_and(|route| route.pull_through_cache);
        let evidence = evidence.unwrap_or(&repository).clone();
        Source {
            authoritative: authoritative && !is_cache(&repository) && !is_cache(&evidence),
            repository,
            evidence,
            origin,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> Prefix {
        text.parse().unwrap()
    }

    fn repository(text: &str) -> Repository {
        text.parse().unwrap()
    }

    fn routes(all: Vec<Route>) -> Routes {
        let mut routes = Routes::default();
        for route in all {
            routes.insert(route).unwrap();
        }
        routes
    }

    fn mirror(text: &str, authoritative: bool) -> Mirror {
        Mirror {
            prefix: prefix(text),
            authoritative,
        }
    }

    fn named(sources: &[Source]) -> Vec<(String, bool)> {
        sources
            .iter()
            .map(|source| (source.repository.to_string(), source.authoritative))
            .collect()
    }

    #[test]
    fn the_longest_prefix_decides_and_paths_end_at_components() {
        let all = ["r.io", "r.io/shop/web", "r.io/shop", "docker.io/library"];
        for order in [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2]] {
            let routes = routes(order.map(|at| Route::new(all[at], prefix(all[at]))).into());
            for (name, expected) in [
                ("r.io/a", Some("r.io")),
                ("r.io/shop", Some("r.io/shop")),
                ("r.io/shop/db", Some("r.io/shop")),
                ("r.io/shop/web", Some("r.io/shop/web")),
                ("r.io/shop/web/cache", Some("r.io/shop/web")),
                ("r.io/shopping/web", Some("r.io")),
                ("r.io:5000/shop", None),
                ("nginx", Some("docker.io/library")),
                ("docker.io/grafana/loki", None),
            ] {
                let route = routes.of(&repository(name)).map(|route| route.name.as_str());
                assert_eq!(route, expected, "{name}");
            }
        }
    }

    #[test]
    fn two_routes_for_one_prefix_are_a_conflict_and_the_first_stays() {
        let mut routes = routes(vec![Route::new("one", prefix("index.docker.io"))]);
        let conflict = routes.insert(Route::new("two", prefix("docker.io"))).unwrap_err();
        assert_eq!(
            (conflict.first.as_str(), conflict.second.as_str()),
            ("one", "two")
        );
        assert!(conflict.to_string().contains("docker.io"), "{conflict}");
        assert_eq!(routes.iter().count(), 1);
    }

    #[test]
    fn sources_are_the_mirrors_in_order_and_then_the_repository() {
        let routes = routes(vec![Route {
            mirrors: vec![
                mirror("mirror.corp:5000/hub", false),
                mirror("full.corp", true),
                mirror("docker.io", true),
                mirror("full.corp", false),
            ],
            ..Route::new("hub", prefix("docker.io"))
        }]);
        let sources = routes.sources(&repository("nginx"));
        assert_eq!(
            named(&sources),
            [
                ("mirror.corp:5000/hub/library/nginx".to_owned(), false),
                ("full.corp/library/nginx".to_owned(), true),
                ("docker.io/library/nginx".to_owned(), true),
            ]
        );
        assert_eq!(
            sources.iter().map(|source| source.origin).collect::<Vec<_>>(),
            [false, false, true]
        );
        assert!(sources.iter().all(|source| source.evidence == source.repository));
        assert_eq!(
            named(&routes.sources(&repository("r.io/a"))),
            [("r.io/a".to_owned(), true)]
        );
    }

    #[test]
    fn a_prefix_that_is_a_whole_repository_is_replaced_as_a_whole() {
        let routes = routes(vec![Route {
            mirrors: vec![mirror("m.corp/other", true), mirror("m.corp", true)],
            ..Route::new("one", prefix("r.io/shop/web"))
        }]);
        assert_eq!(
            named(&routes.sources(&repository("r.io/shop/web"))),
            [
                ("m.corp/other".to_owned(), true),
                ("r.io/shop/web".to_owned(), true)
            ]
        );
    }

    /// Weakened: without `is_cache` in `source` this fails.
    #[test]
    fn b42_a_pull_through_cache_is_never_authoritative_whatever_a_mirror_says_of_it() {
        let cache = Route {
            pull_through_cache: true,
            ..Route::new("cache", prefix("cache.corp"))
        };
        let hub = Route {
            mirrors: vec![mirror("cache.corp/hub", true)],
            ..Route::new("hub", prefix("docker.io"))
        };
        let elsewhere = Route {
            evidence_repository: Some(repository("cache.corp/signatures")),
            ..Route::new("r", prefix("r.io"))
        };
        let routes = routes(vec![cache, hub, elsewhere]);
        assert_eq!(
            named(&routes.sources(&repository("nginx"))),
            [
                ("cache.corp/hub/library/nginx".to_owned(), false),
                ("docker.io/library/nginx".to_owned(), true)
            ]
        );
        assert!(!routes.sources(&repository("cache.corp/hub/library/nginx"))[0].authoritative);
        assert!(!routes.sources(&repository("r.io/a"))[0].authoritative);
    }

    #[test]
    fn evidence_is_looked_for_in_the_evidence_repository() {
        let routes = routes(vec![Route {
            mirrors: vec![mirror("m.corp", false)],
            evidence_repository: Some(repository("r.io/signatures")),
            ..Route::new("r", prefix("r.io/shop"))
        }]);
        for source in routes.sources(&repository("r.io/shop/web")) {
            assert_eq!(source.evidence.as_str(), "r.io/signatures");
        }
        assert_eq!(
            routes.sources(&repository("r.io/other"))[0].evidence.as_str(),
            "r.io/other"
        );
    }

    #[test]
    fn what_is_no_prefix_is_refused() {
        for text in [
            "",
            "r.io/",
            "registry",
            "r.io/A",
            "r.io//a",
            "r.io/a:tag",
            "r.io/a@b",
            "*.io",
            "https://r.io",
        ] {
            assert!(text.parse::<Prefix>().is_err(), "{text}");
        }
        for (text, shown) in [
            ("INDEX.docker.io", "docker.io"),
            ("r.io:443/a", "r.io/a"),
            ("docker.io/library", "docker.io/library"),
        ] {
            assert_eq!(prefix(text).to_string(), shown);
        }
    }
}
