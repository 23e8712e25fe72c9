//! One delivery: signed, posted, and tried again while the receiver has trouble.

use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;

use super::NotifyOptions;
use super::cloud_event::{CloudEvent, MEDIA_TYPE};
use super::signature::{SecretError, Secrets};
use crate::jitter::spread;

/// How long a receiver may take for one answer.
const ANSWER: Duration = Duration::from_secs(10);
/// The longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// How often one notification is tried.
const ATTEMPTS: u32 = 5;
/// The pause after the first failure; each further one is twice as long.
const PAUSE: Duration = Duration::from_secs(1);

/// Why notifications cannot be sent at all.
#[derive(Debug, thiserror::Error)]
pub enum ReceiverError {
    /// The URL cannot be used.
    #[error(
        "--notify-url: found {found:?}, expected an http or https URL such as https://hooks.example.com/assay"
    )]
    Url {
        /// What was given.
        found: String,
    },
    /// The secret cannot be used.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// No HTTP client can be made.
    #[error("no HTTP client for notifications can be made: {0}")]
    Client(#[from] reqwest::Error),
}

/// What became of a notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Delivered,
    /// There was no room for it.
    Dropped,
    /// The receiver did not take it in all attempts, or refuses it.
    Failed,
}

impl Outcome {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Outcome::Delivered => "delivered",
            Outcome::Dropped => "dropped",
            Outcome::Failed => "failed",
        }
    }
}

/// Why one attempt failed, and whether another one may do better.
struct Trouble {
    what: String,
    passes: bool,
}

/// Who is notified.
pub(super) struct Receiver {
    client: reqwest::Client,
    url: reqwest::Url,
    secret_file: PathBuf,
    source: String,
    pub(super) pause: Duration,
}

impl Receiver {
    /// Reads the URL and the secret, so that what is wrong with them is said at the start.
    pub(super) fn new(options: &NotifyOptions) -> Result<Self, ReceiverError> {
        let refused = || ReceiverError::Url {
            found: options.url.clone(),
        };
        let url: reqwest::Url = options.url.parse().map_err(|_| refused())?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err(refused());
        }
        Secrets::read(&options.secret_file)?;
        let client = reqwest::Client::builder()
            .user_agent(concat!("assay/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .connect_timeout(CONNECT)
            .timeout(ANSWER)
            .build()?;
        Ok(Receiver {
            client,
            url,
            secret_file: options.secret_file.clone(),
            source: options.source.clone(),
            pause: PAUSE,
        })
    }

    /// Sends one notification, again while the receiver has trouble.
    pub(super) async fn deliver(&self, event: &CloudEvent) -> Outcome {
        let body = event.body(&self.source);
        let mut pause = self.pause;
        for attempt in 1..=ATTEMPTS {
            let Err(trouble) = self.post(&event.id, body.clone()).await else {
                return Outcome::Delivered;
            };
            tracing::warn!(
                id = event.id,
                attempt,
                trouble = trouble.what,
                "a notification was not taken"
            );
            if !trouble.passes {
                return Outcome::Failed;
            }
            if attempt < ATTEMPTS {
                tokio::time::sleep(spread(pause)).await;
                pause *= 2;
            }
        }
        Outcome::Failed
    }

    async fn post(&self, id: &str, body: Vec<u8>) -> Result<(), Trouble> {
        let passing = |what: String| Trouble { what, passes: true };
        let secrets = Secrets::read(&self.secret_file).map_err(|error| passing(error.to_string()))?;
        let now = Timestamp::now().as_second();
        let signature = secrets.sign(id, now, &body);
        let request = self
            .client
            .post(self.url.clone())
            .header("content-type", MEDIA_TYPE)
            .header("webhook-id", id)
            .header("webhook-timestamp", now)
            .header("webhook-signature", signature)
            .body(body);
        // The URL may hold a secret of the receiver's: it is not logged.
        let answer = request.send().await;
        let status = answer
            .map_err(|error| passing(error.without_url().to_string()))?
            .status();
        match status {
            taken if taken.is_success() => Ok(()),
            status => Err(Trouble {
                what: format!("the receiver answers {status}"),
                passes: status.is_server_error() || matches!(status.as_u16(), 408 | 429),
            }),
        }
    }
}
