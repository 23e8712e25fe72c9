//! Doors to the parsers that are not public, for the fuzz targets alone. Not part of the crate's interface.

use std::time::{Duration, SystemTime};

use image::Repository;
use url::Url;

use crate::Credentials;
use crate::challenge::{challenges, pinned_realm};
use crate::document::parse_page;
use crate::link::next_page;
use crate::redirect::next_hop;
use crate::throttle;

fn base() -> Result<Url, String> {
    Url::parse("https://r.io:5000/v2/a/referrers/x").map_err(|error| error.to_string())
}

/// How many challenges a header holds, and whether it may be a realm.
pub fn challenge(header: &str) -> (usize, Result<(), String>) {
    let realm = base().and_then(|base| pinned_realm(header, "r.io:5000", &base, None));
    (challenges(header).len(), realm.map(drop))
}

/// The page after `https://r.io:5000/…`.
pub fn link(header: &str) -> Result<Option<String>, String> {
    Ok(next_page(&base()?, header)?.map(String::from))
}

/// The hop after `https://r.io:5000/…`.
pub fn redirect(location: &[u8]) -> Result<String, String> {
    Ok(next_hop(&base()?, Some(location))?.into())
}

/// The time of a `Retry-After`.
pub fn retry_after(header: &str) -> Option<Duration> {
    throttle::retry_after(header, SystemTime::UNIX_EPOCH)
}

/// How many referrers a page lists.
pub fn referrers(page: &[u8]) -> Result<usize, String> {
    parse_page(page)
        .map(|page| page.len())
        .map_err(|error| error.to_string())
}

/// A token server's answer.
pub fn token(answer: &[u8]) -> Result<(), &'static str> {
    crate::token::parse(answer, std::time::Instant::now()).map(drop)
}

/// How many of the credentials may be shown for a repository.
pub fn candidates(credentials: &Credentials, repository: &str) -> usize {
    repository
        .parse::<Repository>()
        .map_or(0, |repository| credentials.candidates(&repository).len())
}
