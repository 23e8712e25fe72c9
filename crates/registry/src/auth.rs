//! Answers to a registry's demand for authentication: Basic, or a token of the distribution project's token
//! authentication, anonymous where there are no credentials.
//!
//! Credentials go to the registry they are written for, and to its pinned token server. Tokens are asked for
//! pulling one repository.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use http::header::WWW_AUTHENTICATE;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use image::Repository;
use url::Url;

use crate::challenge::{Bearer, Challenge, challenges, pinned_realm};
use crate::credentials::{Credential, Credentials};
use crate::error::{Error, Place};
use crate::token::{self, Owner, Token, Tokens};
use crate::wire::{Call, Reply, Wire, authority};

/// Bytes accepted of a token server's answer.
const ANSWER_LIMIT: u64 = 64 << 10;
/// Above this many registries, what they asked for is forgotten.
const REMEMBERED: usize = 1024;

pub(crate) struct Auth {
    credentials: Credentials,
    token_servers: BTreeMap<String, BTreeSet<String>>,
    /// What each registry asked for last, so that the next call brings it along.
    demands: Mutex<HashMap<String, Challenge>>,
    tokens: Tokens,
}

/// One call that may need authentication.
pub(crate) struct Session<'a> {
    pub(crate) wire: &'a Wire,
    pub(crate) place: &'a Place,
    /// Any URL of the registry itself.
    pub(crate) base: &'a Url,
}

impl Session<'_> {
    const fn repository(&self) -> &Repository {
        &self.place.repository
    }

    fn denied(&self, why: impl Into<String>) -> Error {
        Error::denied(self.place, Some(401), why)
    }
}

impl Auth {
    pub(crate) fn new(credentials: Credentials, token_servers: BTreeMap<String, BTreeSet<String>>) -> Self {
        Self {
            credentials,
            token_servers,
            demands: Mutex::default(),
            tokens: Tokens::default(),
        }
    }

    /// What to bring along, going by what the registry asked for before. `None` where nothing is known to be
    /// needed, or where what is needed cannot be had: the registry then says again what it wants.
    pub(crate) async fn beforehand(&self, session: &Session<'_>) -> Result<Option<HeaderValue>, Error> {
        let Some(demand) = self.remembered(session.repository().registry()) else {
            return Ok(None);
        };
        match self.meet(session, &demand, None).await {
            Ok(header) => Ok(Some(header)),
            Err(error @ Error::RateLimited { .. }) => Err(error),
            Err(_) => {
                self.forget(session.repository().registry());
                Ok(None)
            }
        }
    }

    /// The answer to a 401 that came although `sent` was brought along.
    ///
    /// # Errors
    /// [`Error::Denied`] if the demand cannot be met, or was met in vain; the token server's failure.
    pub(crate) async fn answer(
        &self,
        session: &Session<'_>,
        headers: &HeaderMap,
        sent: Option<&HeaderValue>,
    ) -> Result<HeaderValue, Error> {
        let demand = preferred(headers).ok_or_else(|| {
            session.denied("the registry asks for authentication of a kind that is not supported")
        })?;
        let header = self.meet(session, &demand, sent).await?;
        if Some(&header) == sent {
            return Err(session.denied("the registry refuses the credentials"));
        }
        self.remember(session.repository().registry(), demand.for_any_repository());
        Ok(header)
    }

    /// Why a registry may still refuse what it was brought: part of a message.
    pub(crate) fn advice(&self, repository: &Repository) -> &'static str {
        match self.credentials.for_repository(repository) {
            Some((_, Credential::Unusable(why))) => why,
            Some(_) => "the configured credentials do not allow it: check their rights on this repository",
            None => self.credentials.hint(),
        }
    }

    async fn meet(
        &self,
        session: &Session<'_>,
        demand: &Challenge,
        rejected: Option<&HeaderValue>,
    ) -> Result<HeaderValue, Error> {
        let credential = self.credentials.for_repository(session.repository());
        match (demand, credential) {
            (Challenge::Basic, Some((_, Credential::Basic(header))))
            | (Challenge::Bearer(_), Some((_, Credential::Bearer(header)))) => Ok(header.clone()),
            (Challenge::Basic, _) => {
                let advice = self.advice(session.repository());
                Err(session.denied(format!(
                    "the registry asks for a user name and password: {advice}"
                )))
            }
            (Challenge::Bearer(bearer), credential) => {
                self.token(session, bearer, credential, rejected).await
            }
        }
    }

    async fn token(
        &self,
        session: &Session<'_>,
        bearer: &Bearer,
        credential: Option<(usize, &Credential)>,
        rejected: Option<&HeaderValue>,
    ) -> Result<HeaderValue, Error> {
        let registry = session.repository().registry();
        let realm = pinned_realm(
            &bearer.realm,
            registry,
            session.base,
            self.token_servers.get(registry),
        )
        .map_err(|why| session.denied(why))?;
        let (identity, basic) = match credential {
            Some((id, Credential::Basic(header))) => (Some(id), Some(header)),
            _ => (None, None),
        };
        let owner = Owner {
            repository: session.repository().clone(),
            credential: identity,
        };
        let fetch = self.fetch(session, token_url(realm, bearer, session.repository()), basic);
        self.tokens
            .get(&owner, rejected, fetch)
            .await
            .map_err(|error| error.at(session.place))
    }

    async fn fetch(
        &self,
        session: &Session<'_>,
        url: Url,
        basic: Option<&HeaderValue>,
    ) -> Result<Token, Error> {
        let server = authority(&url);
        let call = Call {
            place: session.place,
            operation: "token",
            method: Method::GET,
            url,
            accept: Some("application/json"),
            authorization: basic,
            limit: ANSWER_LIMIT,
        };
        let Reply { status, body, .. } = session.wire.send(call).await?;
        match status {
            StatusCode::OK => {
                token::parse(&body, Instant::now()).map_err(|why| Error::malformed(session.place, why))
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                let advice = self.advice(session.repository());
                let why = format!("the token server {server} refuses: {advice}");
                Err(Error::denied(session.place, Some(status.as_u16()), why))
            }
            status if status.is_redirection() => Err(session.denied(format!(
                "the token server {server} redirects, which is not followed"
            ))),
            status => {
                let why = format!("the token server {server} answers HTTP {}", status.as_u16());
                Err(Error::unavailable(session.place, why))
            }
        }
    }

    fn remembered(&self, registry: &str) -> Option<Challenge> {
        self.demands
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(registry)
            .cloned()
    }

    fn remember(&self, registry: &str, demand: Challenge) {
        let mut demands = self.demands.lock().unwrap_or_else(PoisonError::into_inner);
        if demands.len() >= REMEMBERED {
            demands.clear();
        }
        demands.insert(registry.to_owned(), demand);
    }

    fn forget(&self, registry: &str) {
        self.demands
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(registry);
    }
}

/// The demand to meet: a token rather than a password.
fn preferred(headers: &HeaderMap) -> Option<Challenge> {
    let texts = headers
        .get_all(WWW_AUTHENTICATE)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let all: Vec<Challenge> = texts.flat_map(challenges).collect();
    let bearer = all
        .iter()
        .find(|challenge| matches!(challenge, Challenge::Bearer(_)));
    bearer.or_else(|| all.first()).cloned()
}

fn token_url(mut realm: Url, bearer: &Bearer, repository: &Repository) -> Url {
    let own_scope = format!("repository:{}:pull", repository.path());
    let scope = bearer
        .scope
        .as_deref()
        .filter(|scope| asks_to_pull_one_repository(scope))
        .unwrap_or(&own_scope);
    realm.set_fragment(None);
    let mut query = realm.query_pairs_mut();
    if let Some(service) = &bearer.service {
        query.append_pair("service", service);
    }
    query.append_pair("scope", scope);
    drop(query);
    realm
}

/// Whether a scope that the registry names is no more than what is needed; registries that map names may name
/// another path than the one asked for.
fn asks_to_pull_one_repository(scope: &str) -> bool {
    let path = scope
        .strip_prefix("repository:")
        .and_then(|rest| rest.strip_suffix(":pull"));
    path.is_some_and(|path| {
        !path.is_empty()
            && path
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"._-/".contains(&byte))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(scope: Option<&str>) -> String {
        let bearer = Bearer {
            realm: String::new(),
            service: Some("the registry".to_owned()),
            scope: scope.map(str::to_owned),
        };
        let realm = Url::parse("https://r.io/token?account=x").unwrap();
        token_url(realm, &bearer, &"r.io/shop/web".parse().unwrap()).to_string()
    }

    #[test]
    fn a_token_is_asked_for_pulling_one_repository_and_no_more() {
        let own = "https://r.io/token?account=x&service=the+registry&scope=repository%3Ashop%2Fweb%3Apull";
        for scope in [
            None,
            Some("repository:shop/web:pull"),
            Some("repository:shop/web:pull,push"),
            Some("repository:*:pull"),
            Some("repository:shop/web:pull repository:other:pull"),
            Some("registry:catalog:*"),
            Some("repository::pull"),
            Some(""),
        ] {
            assert_eq!(url(scope), own, "{scope:?}");
        }
        assert!(url(Some("repository:mapped/web:pull")).ends_with("scope=repository%3Amapped%2Fweb%3Apull"));
    }

    #[test]
    fn a_token_is_preferred_to_a_password() {
        let mut headers = HeaderMap::new();
        headers.append(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"x\""));
        assert_eq!(preferred(&headers), Some(Challenge::Basic));
        headers.append(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"x\""));
        assert!(matches!(preferred(&headers), Some(Challenge::Bearer(_))));
        assert_eq!(preferred(&HeaderMap::new()), None);
    }
}
