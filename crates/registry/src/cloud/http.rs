//! Requests to metadata and token services: no redirects, small answers, short waits. No answer's text is ever quoted.

use std::time::Duration;

use http::{Method, StatusCode};
use serde::de::DeserializeOwned;

use super::Trouble;

/// The longest wait for one answer.
const DEADLINE: Duration = Duration::from_secs(5);
/// Bytes accepted of an answer.
const LIMIT: usize = 256 << 10;

/// Sends requests.
pub(super) struct Http {
    /// For addresses of the machine itself: no proxy.
    near: reqwest::Client,
    /// For services of the cloud.
    far: reqwest::Client,
}

/// One request.
pub(super) struct Ask<'a> {
    pub(super) method: Method,
    pub(super) url: String,
    pub(super) headers: Vec<(&'a str, String)>,
    pub(super) body: Option<String>,
    /// What is asked, for messages.
    pub(super) whom: &'a str,
    /// It is asked at an address of the machine or the link.
    pub(super) near: bool,
}

impl Http {
    /// # Errors
    /// What the TLS library says.
    pub(super) fn new(user_agent: &str) -> Result<Self, String> {
        let builder = || {
            reqwest::Client::builder()
                .user_agent(user_agent)
                .redirect(reqwest::redirect::Policy::none())
                .retry(reqwest::retry::never())
                .connect_timeout(Duration::from_secs(2))
                .timeout(DEADLINE)
        };
        let made = |built: Result<reqwest::Client, reqwest::Error>| {
            built.map_err(|error| crate::wire::root_cause(&error))
        };
        Ok(Self {
            near: made(builder().no_proxy().build())?,
            far: made(builder().build())?,
        })
    }

    /// The body of a 200, as text.
    ///
    /// # Errors
    /// Who failed and how; nothing of what was sent or answered.
    pub(super) async fn text(&self, ask: Ask<'_>) -> Result<String, Trouble> {
        let whom = ask.whom;
        let client = if ask.near { &self.near } else { &self.far };
        let mut request = client.request(ask.method, &ask.url);
        for (name, value) in ask.headers {
            let mut value = http::HeaderValue::from_str(&value)
                .map_err(|_| format!("what {whom} needs cannot be sent in the header {name}"))?;
            value.set_sensitive(true);
            request = request.header(name, value);
        }
        if let Some(body) = ask.body {
            request = request.body(body);
        }
        let failed = |error: reqwest::Error| {
            Trouble::that_passes(format!(
                "{whom} gives no answer: {}",
                crate::wire::root_cause(&error)
            ))
        };
        let mut response = request.send().await.map_err(failed)?;
        let status = response.status();
        if status != StatusCode::OK {
            let why = format!("{whom} answers HTTP {}", status.as_u16());
            return Err(match says_later(status) {
                true => Trouble::that_passes(why),
                false => why.into(),
            });
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > LIMIT {
                return Err(format!("{whom} answers with more than {LIMIT} bytes").into());
            }
            body.extend_from_slice(&chunk);
        }
        String::from_utf8(body).map_err(|_| format!("{whom} answers with what is no text").into())
    }

    /// The body of a 200, as JSON.
    ///
    /// # Errors
    /// As [`Http::text`].
    pub(super) async fn json<T: DeserializeOwned>(&self, ask: Ask<'_>) -> Result<T, Trouble> {
        let whom = ask.whom.to_owned();
        let text = self.text(ask).await?;
        serde_json::from_str(&text).map_err(|error| {
            format!(
                "{whom} answers with what does not parse at line {} column {}",
                error.line(),
                error.column()
            )
            .into()
        })
    }
}

/// The service is there and cannot answer for the moment, or does not want to be asked so often.
fn says_later(status: StatusCode) -> bool {
    status.is_server_error()
        || matches!(
            status,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT
        )
}

/// A form (WHATWG URL, `application/x-www-form-urlencoded`).
pub(super) fn form(fields: &[(&str, &str)]) -> String {
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    form.extend_pairs(fields);
    form.finish()
}
