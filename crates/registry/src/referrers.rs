//! Listing what refers to a manifest: the referrers API of the OCI distribution specification 1.1.
//!
//! The fallback tag of the same specification is an ordinary tag, see `Client::tagged_manifest`; which of the
//! listed are signatures is for the caller to find out, because the entries' claims are not hash-checked.

use std::collections::HashSet;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use http::Method;
use http::header::LINK;
use image::{Digest, Repository};
use url::Url;

use crate::client::Client;
use crate::document::{Descriptor, OCI_INDEX, parse_page};
use crate::error::{Error, Place};
use crate::link::next_page;
use crate::options::Limits;
use crate::transport::{Query, Success, place};

/// How long the absence of the API is remembered.
const ABSENCE_REMEMBERED: Duration = Duration::from_secs(3600);
/// Above this many repositories, memories that are over, then all, are dropped.
const REMEMBERED: usize = 65_536;

/// What a registry lists as referring to a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Referrers {
    /// All of them, each digest once.
    Listed(Vec<Descriptor>),
    /// There are more than the limits allow: those seen, and the [`Error::TooLarge`] that says which limit. What
    /// is among them may be used; that something is *not* among them means nothing.
    Truncated {
        /// The first entries.
        seen: Vec<Descriptor>,
        /// The limit.
        error: Error,
    },
    /// The registry does not have the API (404): it may use the fallback tag.
    Unsupported,
}

impl Client {
    /// Lists what refers to `digest`, all pages. That a repository's registry has no such API is remembered for
    /// an hour, for this repository only, because one registry's repositories may be served by different
    /// software.
    ///
    /// # Errors
    /// [`Error`]; never for a 404.
    pub async fn referrers(&self, repository: &Repository, digest: &Digest) -> Result<Referrers, Error> {
        if self.lacks_referrers(repository) {
            return Ok(Referrers::Unsupported);
        }
        let at = place(repository, format!("referrers of {digest}"));
        let limit = self.inner().limits.listing_timeout;
        tokio::time::timeout(limit, self.list(&at, digest))
            .await
            .unwrap_or_else(|_| {
                Err(Error::unavailable(
                    &at,
                    format!("the listing was not complete within {} s", limit.as_secs_f64()),
                ))
            })
    }

    async fn list(&self, at: &Place, digest: &Digest) -> Result<Referrers, Error> {
        let mut listing = Listing::new(&self.inner().limits);
        let mut url = self.transport().url(at, &format!("referrers/{digest}"))?;
        loop {
            if let Err((what, limit)) = listing.visit(&url) {
                return Ok(listing.truncated(at, what, limit));
            }
            let answer = match self.page(at, url.clone()).await? {
                Some(answer) => answer,
                None if listing.is_first_page() => return Ok(Referrers::Unsupported),
                None => {
                    return Err(Error::malformed(
                        at,
                        "a page that its Link header names does not exist",
                    ));
                }
            };
            if let Err((what, limit)) = listing.add(at, &answer)? {
                return Ok(listing.truncated(at, what, limit));
            }
            match next(at, &url, &answer)? {
                Some(next) => url = next,
                None => return Ok(Referrers::Listed(listing.entries)),
            }
        }
    }

    /// One page; `None` for a 404.
    async fn page(&self, at: &Place, url: Url) -> Result<Option<Success>, Error> {
        let limit = self.inner().limits.manifest_bytes;
        let query = Query {
            place: at,
            operation: "referrers",
            method: Method::GET,
            url,
            accept: Some(OCI_INDEX),
            limit,
        };
        match self.ask(&query).await? {
            Ok(answer) => Ok(Some(answer)),
            Err(absence) => {
                if !absence.names_content() {
                    self.remember_absence(&at.repository);
                }
                Ok(None)
            }
        }
    }

    fn lacks_referrers(&self, repository: &Repository) -> bool {
        let without = self
            .inner()
            .without_referrers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        without
            .get(&(self.caller(), repository.clone()))
            .is_some_and(|since| self.is_remembered(*since))
    }

    fn remember_absence(&self, repository: &Repository) {
        let mut without = self
            .inner()
            .without_referrers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if without.len() >= REMEMBERED {
            without.retain(|_, since| self.is_remembered(*since));
        }
        if without.len() >= REMEMBERED {
            without.clear();
        }
        without.insert((self.caller(), repository.clone()), (self.inner().clock)());
    }

    fn is_remembered(&self, since: Instant) -> bool {
        (self.inner().clock)().saturating_duration_since(since) < ABSENCE_REMEMBERED
    }
}

/// What was counted, and how much of it is allowed.
type Excess = (&'static str, u64);

/// A listing under way, with its limits.
struct Listing<'a> {
    limits: &'a Limits,
    entries: Vec<Descriptor>,
    digests: HashSet<Digest>,
    pages: HashSet<Url>,
    bytes: u64,
}

impl<'a> Listing<'a> {
    fn new(limits: &'a Limits) -> Self {
        Self {
            limits,
            entries: Vec::new(),
            digests: HashSet::new(),
            pages: HashSet::new(),
            bytes: 0,
        }
    }

    fn is_first_page(&self) -> bool {
        self.pages.len() == 1
    }

    fn visit(&mut self, page: &Url) -> Result<(), Excess> {
        if self.pages.len() >= self.limits.referrers_pages || !self.pages.insert(page.clone()) {
            return Err((
                "the number of pages, looping ones included,",
                self.limits.referrers_pages as u64,
            ));
        }
        Ok(())
    }

    /// Adds a page. The outer error is the page's fault, the inner one the listing's size.
    fn add(&mut self, at: &Place, answer: &Success) -> Result<Result<(), Excess>, Error> {
        self.bytes += answer.body.len() as u64;
        if self.bytes > self.limits.referrers_bytes {
            return Ok(Err((
                "the size of all pages in bytes",
                self.limits.referrers_bytes,
            )));
        }
        for entry in parse_page(&answer.body).map_err(|error| error.at(at))? {
            if self.digests.contains(&entry.digest) {
                continue;
            }
            if self.entries.len() >= self.limits.referrers {
                return Ok(Err(("the number of referrers", self.limits.referrers as u64)));
            }
            self.digests.insert(entry.digest.clone());
            self.entries.push(entry);
        }
        Ok(Ok(()))
    }

    fn truncated(self, at: &Place, what: &'static str, limit: u64) -> Referrers {
        Referrers::Truncated {
            seen: self.entries,
            error: Error::TooLarge {
                at: at.clone(),
                what,
                limit,
            },
        }
    }
}

fn next(at: &Place, asked: &Url, answer: &Success) -> Result<Option<Url>, Error> {
    for value in answer.headers.get_all(LINK) {
        let header = value
            .to_str()
            .map_err(|_| Error::malformed(at, "the Link header is not text"))?;
        if let Some(next) = next_page(asked, header).map_err(|why| Error::malformed(at, why))? {
            return Ok(Some(next));
        }
    }
    Ok(None)
}
