//! A client of etcd's JSON gateway, for a fleet that would take a quarter of an hour through the API server.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::Failed;

/// A busy etcd answers that it has no time: so often it is asked again.
const ATTEMPTS: u32 = 12;
/// The pause after the first failure; each further one is twice as long, up to the longest.
const PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// One etcd.
pub(crate) struct Etcd {
    url: String,
    http: reqwest::Client,
}

#[derive(Deserialize)]
struct Range {
    #[serde(default)]
    kvs: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    value: String,
}

impl Etcd {
    pub(crate) fn at(url: &str) -> Etcd {
        Etcd {
            url: url.to_owned(),
            http: reqwest::Client::new(),
        }
    }

    /// The value of a key.
    pub(crate) async fn get(&self, key: &str) -> Result<Vec<u8>, Failed> {
        let failed = |why: &dyn std::fmt::Display| Failed::new(format!("read {key} from etcd"), why);
        let answer = self.ask("range", &json!({"key": STANDARD.encode(key)})).await?;
        let range: Range = serde_json::from_str(&answer).map_err(|error| failed(&error))?;
        let entry = range.kvs.first().ok_or_else(|| failed(&"it is not there"))?;
        STANDARD.decode(&entry.value).map_err(|error| failed(&error))
    }

    /// Writes a key, each with a revision of its own as the API server does it.
    pub(crate) async fn put(&self, key: &str, value: &[u8]) -> Result<(), Failed> {
        let entry = json!({"key": STANDARD.encode(key), "value": STANDARD.encode(value)});
        self.ask("put", &entry).await.map(drop)
    }

    pub(crate) async fn delete(&self, key: &str) -> Result<(), Failed> {
        self.ask("deleterange", &json!({"key": STANDARD.encode(key)}))
            .await
            .map(drop)
    }

    /// Everything that is asked may be asked again: it leaves the same behind.
    async fn ask(&self, operation: &str, body: &Value) -> Result<String, Failed> {
        let mut pause = PAUSE;
        for _ in 1..ATTEMPTS {
            if let Ok(answer) = self.ask_once(operation, body).await {
                return Ok(answer);
            }
            tokio::time::sleep(pause).await;
            pause = (2 * pause).min(LONGEST_PAUSE);
        }
        self.ask_once(operation, body).await
    }

    async fn ask_once(&self, operation: &str, body: &Value) -> Result<String, Failed> {
        let failed = |why: &dyn std::fmt::Display| Failed::new(format!("ask etcd for {operation}"), why);
        let answer = self
            .http
            .post(format!("{}/v3/kv/{operation}", self.url))
            .body(body.to_string())
            .send()
            .await
            .map_err(|error| failed(&error))?;
        let status = answer.status();
        let text = answer.text().await.map_err(|error| failed(&error))?;
        match status.is_success() {
            true => Ok(text),
            false => Err(failed(&format!("{status}: {text}"))),
        }
    }
}
