//! Bearer tokens: fetched once however many calls need one, kept until they expire.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::HeaderValue;
use image::{Digest, Repository};
use serde::Deserialize;

use crate::credentials::{self, Identity};
use crate::error::Error;

/// Above this many repositories, tokens that are expired, then all, are forgotten.
const REMEMBERED: usize = 4096;
/// How long a token is good for where the server does not say (distribution's token specification).
const DEFAULT_LIFETIME: u64 = 60;
/// The longest a token is kept.
const LONGEST_LIFETIME: u64 = 3600;

/// Whose token: one repository, asked for one identity with one credential (`None` for none). Never shared
/// further.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Owner {
    pub(crate) repository: Repository,
    pub(crate) identity: Identity,
    pub(crate) credential: Option<Digest>,
}

/// A token as a header, and when it is no longer to be used.
#[derive(Clone)]
pub(crate) struct Token {
    pub(crate) header: HeaderValue,
    pub(crate) until: Instant,
}

#[derive(Default)]
struct Slot {
    token: Option<Token>,
    failed: Option<(Instant, Error)>,
}

type SharedSlot = Arc<tokio::sync::Mutex<Slot>>;

#[derive(Default)]
pub(crate) struct Tokens {
    slots: Mutex<HashMap<Owner, SharedSlot>>,
}

impl Tokens {
    /// The kept token, or the one that `fetch` gets. Calls for one owner wait for each other; those that waited
    /// for a fetch share its failure, later ones try anew. A kept token equal to `rejected` is not used.
    pub(crate) async fn get(
        &self,
        owner: &Owner,
        rejected: Option<&HeaderValue>,
        fetch: impl Future<Output = Result<Token, Error>>,
    ) -> Result<HeaderValue, Error> {
        let asked = Instant::now();
        let slot = self.slot(owner);
        let mut slot = slot.lock().await;
        if let Some(token) = &slot.token
            && token.until > Instant::now()
            && Some(&token.header) != rejected
        {
            return Ok(token.header.clone());
        }
        if let Some((when, error)) = &slot.failed
            && *when >= asked
        {
            return Err(error.clone());
        }
        match fetch.await {
            Ok(token) => {
                let header = token.header.clone();
                *slot = Slot {
                    token: Some(token),
                    failed: None,
                };
                Ok(header)
            }
            Err(error) => {
                *slot = Slot {
                    token: None,
                    failed: Some((Instant::now(), error.clone())),
                };
                Err(error)
            }
        }
    }

    fn slot(&self, owner: &Owner) -> SharedSlot {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = slots.get(owner) {
            return slot.clone();
        }
        if slots.len() >= REMEMBERED {
            slots.retain(|_, slot| Arc::strong_count(slot) > 1 || is_fresh(slot));
        }
        if slots.len() >= REMEMBERED {
            slots.retain(|_, slot| Arc::strong_count(slot) > 1);
        }
        let slot = SharedSlot::default();
        slots.insert(owner.clone(), slot.clone());
        slot
    }
}

fn is_fresh(slot: &SharedSlot) -> bool {
    let now = Instant::now();
    slot.try_lock()
        .is_ok_and(|slot| slot.token.as_ref().is_some_and(|token| token.until > now))
}

#[derive(Deserialize)]
struct Answer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

/// Reads a token server's answer (distribution's token authentication specification, "Token response").
///
/// # Errors
/// What is wrong with it; the text of the answer is never quoted.
pub(crate) fn parse(body: &[u8], received: Instant) -> Result<Token, &'static str> {
    let answer: Answer =
        serde_json::from_slice(body).map_err(|_| "the token server's answer does not parse")?;
    let present = |text: Option<String>| text.filter(|text| !text.is_empty());
    let token = present(answer.token)
        .or_else(|| present(answer.access_token))
        .ok_or("the token server's answer holds no token")?;
    let header =
        credentials::header("Bearer", &token).ok_or("the token server's answer holds an unusable token")?;
    let lifetime = answer
        .expires_in
        .unwrap_or(DEFAULT_LIFETIME)
        .min(LONGEST_LIFETIME);
    let margin = (lifetime / 10).max(5).min(lifetime);
    Ok(Token {
        header,
        until: received + Duration::from_secs(lifetime - margin),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lifetime(body: &str) -> Result<u64, &'static str> {
        let now = Instant::now();
        parse(body.as_bytes(), now).map(|token| (token.until - now).as_secs())
    }

    #[test]
    fn a_token_is_kept_a_little_shorter_than_it_lives() {
        assert_eq!(lifetime(r#"{"token":"t","expires_in":300}"#), Ok(270));
        assert_eq!(lifetime(r#"{"access_token":"t"}"#), Ok(54));
        assert_eq!(lifetime(r#"{"token":"t","expires_in":0}"#), Ok(0));
        assert_eq!(lifetime(r#"{"token":"t","expires_in":999999999}"#), Ok(3240));
    }

    #[test]
    fn what_is_no_token_is_refused() {
        for body in [
            "",
            "{}",
            r#"{"token":""}"#,
            r#"{"token":"a\nb"}"#,
            r#"{"token":1}"#,
            r#"{"token":"t","expires_in":-1}"#,
        ] {
            assert!(lifetime(body).is_err(), "{body}");
        }
    }

    #[test]
    fn tokens_do_not_show_in_debug_prints() {
        let token = parse(br#"{"token":"secret"}"#, Instant::now()).unwrap_or_else(|why| panic!("{why}"));
        assert!(!format!("{:?}", token.header).contains("secret"));
    }
}
