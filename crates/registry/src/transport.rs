//! One call to a registry, whole: its turn, its pace, its deadline, authentication, redirects; and what the status
//! means.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use http::header::LOCATION;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use image::Repository;
use serde::Deserialize;
use url::Url;

use crate::auth::{Auth, Session, unless_missing};
use crate::cloud::Clouds;
use crate::credentials::{Caller, Identity, Key};
use crate::error::{Error, Place};
use crate::flight::Flights;
use crate::guard::Guard;
use crate::lane::{Lane, Lanes, Yard};
use crate::meter::Meter;
use crate::options::{ClientOptions, ClientOptionsError, normalised, normalised_one};
use crate::redirect;
use crate::routes::Routes;
use crate::waits::Waits;
use crate::wire::{Call, Reply, Wire, authority};

pub(crate) struct Transport {
    wire: Wire,
    auth: Auth,
    clouds: Clouds,
    yard: Yard,
    lanes: RwLock<Arc<Lanes>>,
    flights: Flights<Flight, Result<Result<Success, Absence>, Error>>,
    timeout: Duration,
}

/// What makes two calls the same: they would send the same requests and accept the same answers.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Flight {
    identity: Identity,
    repository: Repository,
    method: Method,
    url: Url,
    accept: Option<&'static str>,
    limit: u64,
}

/// What to ask for.
pub(crate) struct Query<'a> {
    pub(crate) place: &'a Place,
    pub(crate) operation: &'static str,
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) accept: Option<&'static str>,
    /// Bytes accepted of the body.
    pub(crate) limit: u64,
}

/// A 200.
#[derive(Clone)]
pub(crate) struct Success {
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// A 404, with the codes of its OCI error body.
#[derive(Clone)]
pub(crate) struct Absence {
    codes: Vec<String>,
    /// It is the answer to a HEAD from where the registry redirected to: there is no body that says more.
    is_hearsay: bool,
}

/// An answer, and whether the registry gave it itself.
struct Answer {
    reply: Reply,
    at_registry: bool,
}

impl Absence {
    /// Whether it is about a name or a manifest, rather than about the endpoint.
    pub(crate) fn names_content(&self) -> bool {
        self.codes.iter().any(|code| {
            matches!(
                code.as_str(),
                "NAME_UNKNOWN" | "MANIFEST_UNKNOWN" | "NAME_INVALID"
            )
        })
    }

    /// Whether only a GET would tell what it means.
    pub(crate) fn is_hearsay(&self) -> bool {
        self.is_hearsay
    }
}

/// One call under way.
struct Journey<'a> {
    session: Session<'a>,
    query: &'a Query<'a>,
}

impl Transport {
    pub(crate) fn new(options: &ClientOptions) -> Result<Self, ClientOptionsError> {
        if options.per_registry_concurrency == 0 {
            return Err(ClientOptionsError::Concurrency);
        }
        let https = |why| ClientOptionsError::Https { why };
        let token_servers = options.token_servers.iter().map(|(registry, servers)| {
            Ok((
                normalised_one("token servers", registry)?,
                normalised("token servers", servers)?,
            ))
        });
        let guard = Guard::new(options)?;
        let plain_http = normalised("plain http", &options.plain_http)?;
        let yard = Yard::new(options, plain_http, guard.clone()).map_err(https)?;
        let lanes = yard
            .lanes(Routes::default(), None)
            .map_err(|(_, why)| https(why))?;
        Ok(Self {
            wire: Wire::new(guard, Meter::new(options.observer.clone())),
            clouds: Clouds::new(&options.clouds, &options.user_agent)?,
            auth: Auth::new(token_servers.collect::<Result<_, _>>()?),
            yard,
            lanes: RwLock::new(Arc::new(lanes)),
            flights: Flights::default(),
            timeout: options.limits.request_timeout,
        })
    }

    pub(crate) fn requests(&self) -> u64 {
        self.wire.meter.requests()
    }

    /// Puts new routes in the place of those in force. Calls under way end as they began.
    ///
    /// # Errors
    /// The route that cannot be used, and why; those in force stay.
    pub(crate) fn set_routes(&self, routes: Routes) -> Result<(), (String, String)> {
        let mut lanes = self.lanes.write().unwrap_or_else(PoisonError::into_inner);
        let new = self.yard.lanes(routes, Some(&lanes))?;
        *lanes = Arc::new(new);
        Ok(())
    }

    pub(crate) fn route(&self, repository: &Repository) -> Option<String> {
        self.lane(repository).name.clone()
    }

    pub(crate) fn has_room_for_regular_work(&self, repository: &Repository) -> bool {
        self.lane(repository).pace.has_room_for_regular_work()
    }

    /// The lanes in force.
    pub(crate) fn lanes(&self) -> Arc<Lanes> {
        self.lanes.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn lane(&self, repository: &Repository) -> Arc<Lane> {
        self.yard.lane(&self.lanes(), repository)
    }

    /// The URL of an object of a repository: `/v2/<path>/<tail>`.
    pub(crate) fn url(&self, place: &Place, tail: &str) -> Result<Url, Error> {
        let repository = &place.repository;
        let scheme = match self.lane(repository).plain_http {
            true => "http",
            false => "https",
        };
        let text = format!(
            "{scheme}://{}/v2/{}/{tail}",
            repository.api_host(),
            repository.path()
        );
        Url::parse(&text).map_err(|error| Error::malformed(place, format!("{text} is not a URL: {error}")))
    }

    /// Asks, with the registry's turn, deadline, credentials and redirects. `Err(NotFound)` and only it stands
    /// for 404 and is given as `Ok(Err(absence))`, so that no caller mistakes another failure for it. Calls for the
    /// same thing at the same time, for the same identity, share one answer.
    pub(crate) async fn ask(
        &self,
        caller: &Caller,
        waits: Option<Arc<Waits>>,
        query: &Query<'_>,
    ) -> Result<Result<Success, Absence>, Error> {
        let flight = Flight {
            identity: caller.identity.clone(),
            repository: query.place.repository.clone(),
            method: query.method.clone(),
            url: query.url.clone(),
            accept: query.accept,
            limit: query.limit,
        };
        self.flights
            .share(
                &flight,
                Box::pin(self.ask_alone(caller, Waits::within(waits), query)),
            )
            .await
    }

    async fn ask_alone(
        &self,
        caller: &Caller,
        waits: Waits,
        query: &Query<'_>,
    ) -> Result<Result<Success, Absence>, Error> {
        let lane = self.lane(&query.place.repository);
        let _turn = lane.enter(&waits).await;
        let journey = Journey {
            session: Session {
                cloud: self.of_the_cloud(caller, &lane, &query.place.repository).await,
                wire: &self.wire,
                lane: &lane,
                caller,
                place: query.place,
                base: &query.url,
                waits: &waits,
            },
            query,
        };
        let answer = waits
            .deadline(self.timeout, self.authenticated(&journey))
            .await
            .ok_or_else(|| {
                let seconds = self.timeout.as_secs_f64();
                Error::unavailable(query.place, format!("no complete answer within {seconds} s"))
            })?;
        answer
            .and_then(|answer| judge(&journey, answer))
            .map_err(|error| unless_missing(journey.session.cloud.as_deref(), error))
    }

    /// What the registry's cloud gives the operator, where it has no other credentials for the repository.
    async fn of_the_cloud(&self, caller: &Caller, lane: &Lane, repository: &Repository) -> Option<Arc<Key>> {
        let mut others = lane.credentials.iter().chain([&caller.operators]);
        if others.any(|others| others.are_for(repository)) {
            return None;
        }
        self.clouds.key(repository).await
    }

    /// Tries the credentials that may be shown, one after the other for as long as the registry refuses. After a
    /// refusal only a success counts: that another credential meets an absence proves nothing for the first.
    async fn authenticated(&self, journey: &Journey<'_>) -> Result<Answer, Error> {
        let mut refusal: Option<Result<Answer, Error>> = None;
        for key in self.auth.attempts(&journey.session) {
            let outcome = self.attempt(journey, key.as_deref()).await;
            match (&outcome, &key) {
                (Ok(answer), Some(key)) if answer.reply.status == StatusCode::OK => {
                    self.auth.accept(&journey.session, key);
                    return outcome;
                }
                _ if is_refusal(&outcome) || refusal.is_some() => {
                    refusal.get_or_insert(outcome);
                }
                _ => return outcome,
            }
        }
        refusal.unwrap_or_else(|| {
            let why = "no way to ask was found";
            Err(Error::unavailable(journey.query.place, why))
        })
    }

    async fn attempt(&self, journey: &Journey<'_>, key: Option<&Key>) -> Result<Answer, Error> {
        let session = &journey.session;
        let brought = self.auth.beforehand(session, key).await?;
        let answer = self.follow(journey, brought.as_ref()).await?;
        if answer.reply.status != StatusCode::UNAUTHORIZED || !answer.at_registry {
            return Ok(answer);
        }
        let header = self
            .auth
            .answer(session, key, &answer.reply.headers, brought.as_ref())
            .await?;
        self.follow(journey, Some(&header)).await
    }

    /// Follows redirects. Authorization is sent only for as long as the origin is the registry's.
    async fn follow(
        &self,
        journey: &Journey<'_>,
        mut authorization: Option<&HeaderValue>,
    ) -> Result<Answer, Error> {
        let Journey { session, query } = journey;
        let mut url = query.url.clone();
        let mut at_registry = true;
        for _ in 0..=redirect::LIMIT {
            let call = Call {
                place: query.place,
                lane: session.lane,
                identity: session.caller.identity.clone(),
                operation: query.operation,
                method: query.method.clone(),
                own: url.origin() == query.url.origin(),
                url: url.clone(),
                accept: query.accept,
                authorization,
                limit: query.limit,
                waits: session.waits,
            };
            let reply = self.wire.send(call).await?;
            if !is_redirect(reply.status) {
                return Ok(Answer { reply, at_registry });
            }
            let location = reply.headers.get(LOCATION).map(HeaderValue::as_bytes);
            url = redirect::next_hop(&url, location)
                .map_err(|why| Error::unavailable(query.place, format!("{}: {why}", authority(&url))))?;
            if url.origin() != query.url.origin() {
                at_registry = false;
                authorization = None;
            }
        }
        let why = format!(
            "{} redirects more than {} times",
            query.place.repository.registry(),
            redirect::LIMIT
        );
        Err(Error::unavailable(query.place, why))
    }
}

fn is_refusal(outcome: &Result<Answer, Error>) -> bool {
    match outcome {
        Ok(answer) => matches!(
            answer.reply.status,
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN
        ),
        Err(error) => matches!(error, Error::Denied { .. }),
    }
}

/// What the status means. Only 404 is absence, whatever a body says. One from elsewhere, where the registry redirected to,
/// is the registry's word only where it is a registry that says what it does not have, as behind `registry.k8s.io`: a
/// storage that lost something, or a web server that knows no such path, says nothing of what the registry has.
fn judge(journey: &Journey<'_>, answer: Answer) -> Result<Result<Success, Absence>, Error> {
    let Journey { session, query } = journey;
    let Answer { reply, at_registry } = answer;
    let place = session.place;
    let status = reply.status.as_u16();
    match reply.status {
        StatusCode::OK => Ok(Ok(Success {
            headers: reply.headers,
            body: reply.body,
        })),
        StatusCode::NOT_FOUND => {
            let absence = Absence {
                codes: error_codes(&reply.body),
                is_hearsay: !at_registry && query.method == Method::HEAD,
            };
            if at_registry || absence.is_hearsay || absence.names_content() {
                return Ok(Err(absence));
            }
            let why = format!(
                "where the registry redirects to answers {}, which does not say that the registry does not have it",
                with_codes(status, &reply.body)
            );
            Err(Error::unavailable(place, why))
        }
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            let why = format!(
                "the registry answers {}: {}",
                with_codes(status, &reply.body),
                session.advice()
            );
            Err(Error::denied(place, Some(status), why))
        }
        _ => Err(Error::unavailable(
            place,
            format!("the registry answers {}", with_codes(status, &reply.body)),
        )),
    }
}

impl Absence {
    pub(crate) fn into_error(self, place: &Place) -> Error {
        Error::NotFound { at: place.clone() }
    }
}

/// The statuses whose `Location` is followed.
fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

fn with_codes(status: u16, body: &[u8]) -> String {
    match error_codes(body).as_slice() {
        [] => format!("HTTP {status}"),
        codes => format!("HTTP {status} ({})", codes.join(", ")),
    }
}

/// The codes of an error body (OCI distribution specification, "Error codes"). They only inform.
fn error_codes(body: &[u8]) -> Vec<String> {
    #[derive(Deserialize)]
    struct Body {
        errors: Vec<Entry>,
    }
    #[derive(Deserialize)]
    struct Entry {
        code: String,
    }
    let is_code = |code: &String| {
        (1..=40).contains(&code.len()) && code.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')
    };
    match serde_json::from_slice::<Body>(body) {
        Ok(body) => body
            .errors
            .into_iter()
            .map(|entry| entry.code)
            .filter(is_code)
            .take(4)
            .collect(),
        Err(_) => Vec::new(),
    }
}

/// The place of an object of a repository.
pub(crate) fn place(repository: &Repository, object: String) -> Place {
    Place {
        repository: repository.clone(),
        object,
    }
}
