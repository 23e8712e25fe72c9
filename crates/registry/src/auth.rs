//! Answers to a registry's demand for authentication: Basic, or a token of the distribution project's token
//! authentication, anonymous where there are no credentials.
//!
//! Credentials go to the registry they are written for, and to its pinned token server. Tokens are asked for
//! pulling one repository. Everything that is remembered is remembered for one identity.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use http::header::WWW_AUTHENTICATE;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use image::{Digest, Repository};
use url::Url;

use crate::challenge::{Bearer, Challenge, challenges, pinned_realm};
use crate::credentials::{Caller, Credential, Credentials, Identity, Key};
use crate::error::{Error, Place};
use crate::lane::Lane;
use crate::token::{self, Owner, Token, Tokens};
use crate::waits::Waits;
use crate::wire::{Call, Reply, Wire, authority};

/// Bytes accepted of a token server's answer.
const ANSWER_LIMIT: u64 = 64 << 10;
/// Above this many registries or repositories, what is remembered of them is forgotten.
const REMEMBERED: usize = 4096;

pub(crate) struct Auth {
    token_servers: BTreeMap<String, BTreeSet<String>>,
    /// What each registry asked for last, so that the next call brings it along.
    demands: Mutex<HashMap<(Identity, String), Challenge>>,
    /// The credential that each repository accepted last.
    accepted: Mutex<HashMap<(Identity, Repository), Digest>>,
    tokens: Tokens,
}

/// One call that may need authentication.
pub(crate) struct Session<'a> {
    pub(crate) wire: &'a Wire,
    pub(crate) lane: &'a Lane,
    pub(crate) caller: &'a Caller,
    pub(crate) place: &'a Place,
    /// Any URL of the registry itself.
    pub(crate) base: &'a Url,
    /// What the registry's cloud gives the operator, where it has no other credentials for it.
    pub(crate) cloud: Option<Arc<Key>>,
    /// How long its requests wait for their turn.
    pub(crate) waits: &'a Waits,
}

impl Session<'_> {
    const fn repository(&self) -> &Repository {
        &self.place.repository
    }

    fn remembered_as(&self) -> (Identity, String) {
        (
            self.caller.identity.clone(),
            self.repository().registry().to_owned(),
        )
    }

    fn denied(&self, why: impl Into<String>) -> Error {
        Error::denied(self.place, Some(401), why)
    }

    /// Where credentials may come from, in order: a route's are the operator's.
    fn holders(&self) -> impl Iterator<Item = &Credentials> {
        let of_route = self.lane.credentials.iter();
        of_route.chain([&self.caller.operators, &self.caller.credentials])
    }

    /// Everything that may be shown to the registry.
    fn candidates(&self) -> Vec<Arc<Key>> {
        let own = &self.caller.credentials;
        let before = self.holders().filter(|holder| !std::ptr::eq(*holder, own));
        before
            .flat_map(|credentials| credentials.candidates(self.repository()))
            .chain(self.cloud.clone())
            .chain(own.candidates(self.repository()))
            .collect()
    }

    /// Why a registry may still refuse what it was brought, and what to do: part of a message.
    pub(crate) fn advice(&self) -> String {
        let candidates = self.candidates();
        let usable = candidates.iter().filter(|key| key.is_usable());
        let holders: BTreeSet<&str> = usable.map(|key| key.holder.as_ref()).collect();
        if !holders.is_empty() {
            let holders: Vec<&str> = holders.into_iter().collect();
            return format!(
                "the credentials of {} do not allow it: check their rights on this repository",
                holders.join(", ")
            );
        }
        let unusable = candidates.iter().find_map(|key| match &key.credential {
            Credential::Unusable(why) | Credential::Unavailable(why) => Some(why.clone()),
            Credential::Basic(_) | Credential::Bearer(_) => None,
        });
        unusable
            .or_else(|| {
                let registry = self.repository().registry();
                self.holders().find_map(|credentials| credentials.hint(registry))
            })
            .unwrap_or_else(|| match self.caller.identity {
                Identity::Operator => {
                    "give the registry's credentials under `auths` of the docker config".to_owned()
                }
                Identity::Other(_) => format!("there are no credentials of {}", self.caller.name),
            })
    }
}

/// A refusal says nothing where the registry's cloud, whose credentials it may accept, cannot be asked for them.
pub(crate) fn unless_missing(cloud: Option<&Key>, error: Error) -> Error {
    match (&error, cloud.map(|key| &key.credential)) {
        (Error::Denied { at, .. }, Some(Credential::Unavailable(why))) => Error::unavailable(at, why.clone()),
        _ => error,
    }
}

impl Auth {
    pub(crate) fn new(token_servers: BTreeMap<String, BTreeSet<String>>) -> Self {
        Self {
            token_servers,
            demands: Mutex::default(),
            accepted: Mutex::default(),
            tokens: Tokens::default(),
        }
    }

    /// The credentials to try, in order: the one that the repository accepted last, then the others. `None` stands
    /// for none; there is always one to try.
    pub(crate) fn attempts(&self, session: &Session<'_>) -> Vec<Option<Arc<Key>>> {
        let mut keys = session.candidates();
        keys.retain(|key| key.is_usable());
        let of = (session.caller.identity.clone(), session.repository().clone());
        let accepted = self.accepted.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(id) = accepted.get(&of) {
            keys.sort_by_key(|key| key.id != *id);
        }
        match keys.is_empty() {
            true => vec![None],
            false => keys.into_iter().map(Some).collect(),
        }
    }

    /// Remembers what a repository accepted.
    pub(crate) fn accept(&self, session: &Session<'_>, key: &Key) {
        let of = (session.caller.identity.clone(), session.repository().clone());
        let mut accepted = self.accepted.lock().unwrap_or_else(PoisonError::into_inner);
        if accepted.len() >= REMEMBERED {
            accepted.clear();
        }
        accepted.insert(of, key.id.clone());
    }

    /// What to bring along, going by what the registry asked for before. `None` where nothing is known to be
    /// needed, or where what is needed cannot be had: the registry then says again what it wants.
    pub(crate) async fn beforehand(
        &self,
        session: &Session<'_>,
        key: Option<&Key>,
    ) -> Result<Option<HeaderValue>, Error> {
        let Some(demand) = self.remembered(session) else {
            return Ok(None);
        };
        match self.meet(session, key, &demand, None).await {
            Ok(header) => Ok(Some(header)),
            Err(error @ Error::RateLimited { .. }) => Err(error),
            Err(_) => {
                self.forget(session);
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
        key: Option<&Key>,
        headers: &HeaderMap,
        sent: Option<&HeaderValue>,
    ) -> Result<HeaderValue, Error> {
        let demand = preferred(headers).ok_or_else(|| {
            session.denied("the registry asks for authentication of a kind that is not supported")
        })?;
        let header = self.meet(session, key, &demand, sent).await?;
        if Some(&header) == sent {
            return Err(session.denied(format!("the registry refuses them: {}", session.advice())));
        }
        self.remember(session, demand.for_any_repository());
        Ok(header)
    }

    async fn meet(
        &self,
        session: &Session<'_>,
        key: Option<&Key>,
        demand: &Challenge,
        rejected: Option<&HeaderValue>,
    ) -> Result<HeaderValue, Error> {
        match (demand, key.map(|key| &key.credential)) {
            (Challenge::Basic, Some(Credential::Basic(header)))
            | (Challenge::Bearer(_), Some(Credential::Bearer(header))) => Ok(header.clone()),
            (Challenge::Basic, _) => Err(session.denied(format!(
                "the registry asks for a user name and password: {}",
                session.advice()
            ))),
            (Challenge::Bearer(bearer), _) => self.token(session, key, bearer, rejected).await,
        }
    }

    async fn token(
        &self,
        session: &Session<'_>,
        key: Option<&Key>,
        bearer: &Bearer,
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
        let (credential, basic) = match key.map(|key| (key, &key.credential)) {
            Some((key, Credential::Basic(header))) => (Some(key.id.clone()), Some(header)),
            _ => (None, None),
        };
        let owner = Owner {
            repository: session.repository().clone(),
            identity: session.caller.identity.clone(),
            credential,
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
        let named = self.token_servers.get(session.repository().registry());
        let call = Call {
            place: session.place,
            lane: session.lane,
            identity: session.caller.identity.clone(),
            operation: "token",
            method: Method::GET,
            own: url.origin() == session.base.origin()
                || named.is_some_and(|servers| servers.contains(&server)),
            url,
            accept: Some("application/json"),
            authorization: basic,
            limit: ANSWER_LIMIT,
            waits: session.waits,
        };
        let Reply { status, body, .. } = session.wire.send(call).await?;
        match status {
            StatusCode::OK => {
                token::parse(&body, Instant::now()).map_err(|why| Error::malformed(session.place, why))
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                let why = format!("the token server {server} refuses: {}", session.advice());
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

    fn remembered(&self, session: &Session<'_>) -> Option<Challenge> {
        self.demands
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&session.remembered_as())
            .cloned()
    }

    fn remember(&self, session: &Session<'_>, demand: Challenge) {
        let mut demands = self.demands.lock().unwrap_or_else(PoisonError::into_inner);
        if demands.len() >= REMEMBERED {
            demands.clear();
        }
        demands.insert(session.remembered_as(), demand);
    }

    fn forget(&self, session: &Session<'_>) {
        self.demands
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&session.remembered_as());
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
    // A second scope in the realm would be asked for beside the one that was examined.
    let others: Vec<_> = realm
        .query_pairs()
        .filter(|(name, _)| name != "scope")
        .map(|(name, value)| (name.into_owned(), value.into_owned()))
        .collect();
    let mut query = realm.query_pairs_mut();
    query.clear().extend_pairs(others);
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
    use crate::error::ErrorKind;

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

    /// B17. Weakened once: without the filter, the token is asked for both.
    #[test]
    fn b17_a_scope_in_the_realm_widens_no_token() {
        let realm =
            "https://r.io/token?scope=repository:secret:pull,push&account=x&%73cope=registry:catalog:*";
        let bearer = Bearer {
            realm: String::new(),
            service: None,
            scope: Some("repository:shop/web:pull".to_owned()),
        };
        let asked = token_url(realm.parse().unwrap(), &bearer, &"r.io/shop/web".parse().unwrap());
        assert_eq!(
            asked.as_str(),
            "https://r.io/token?account=x&scope=repository%3Ashop%2Fweb%3Apull"
        );
    }

    /// Weakened once: with the error given as it came, the image is Unknown/RegistryDenied while a metadata service restarts.
    #[test]
    fn a_refusal_for_want_of_credentials_that_cannot_be_had_for_the_moment_is_an_outage() {
        let place = Place {
            repository: "r.io/shop/web".parse().unwrap(),
            object: "tag v1".to_owned(),
        };
        let denied = || Error::denied(&place, Some(401), "the registry refuses");
        let kind = |key: Option<Key>, error| unless_missing(key.as_ref(), error).kind();
        let unavailable = || Some(Key::unavailable("Amazon ECR", "no answer".to_owned()));
        let absent = Error::NotFound { at: place.clone() };
        assert_eq!(kind(unavailable(), denied()), ErrorKind::Unavailable);
        assert_eq!(kind(unavailable(), absent), ErrorKind::NotFound);
        let unusable = Some(Key::unusable("Amazon ECR", "no role".to_owned()));
        let given = Some(Key::of_a_cloud("Amazon ECR", "AWS", "secret"));
        for key in [unusable, given, None] {
            assert_eq!(kind(key, denied()), ErrorKind::Denied);
        }
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
