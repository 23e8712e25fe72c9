//! How the API server is reached: one client for what is read, one for what is written.

use kube::{Client, Config};

/// Two clients of one API server. Cheap to clone.
#[derive(Clone)]
pub struct Clients {
    /// Sends a request again by itself where the API server is too busy for it (429, 503, 504).
    pub reads: Client,
    /// Sends everything once: a write that is sent again counts twice against the budget of writes, and may meet itself
    /// and be told that somebody else was faster. What is read for the sake of a write goes the same way.
    pub writes: Client,
}

impl Clients {
    /// Clients of the API server that the configuration names. Must be called in a tokio runtime.
    pub fn new(config: Config) -> Result<Self, kube::Error> {
        let mut once = config.clone();
        once.default_retry = false;
        Ok(Clients {
            reads: Client::try_from(config)?,
            writes: Client::try_from(once)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::Router;
    use http::StatusCode;

    /// An API server that is too busy for the first request; counts what it is asked.
    async fn busy_at_first() -> (Config, Arc<AtomicUsize>) {
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = asked.clone();
        let answer = move || {
            let before = counted.fetch_add(1, Ordering::Relaxed);
            async move {
                match before {
                    0 => (StatusCode::SERVICE_UNAVAILABLE, "busy"),
                    _ => (StatusCode::OK, "{}"),
                }
            }
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = axum::serve(listener, Router::new().fallback(answer));
        tokio::spawn(server.into_future());
        (Config::new(url.parse().unwrap()), asked)
    }

    async fn ask(client: &Client) -> Result<String, kube::Error> {
        client
            .request_text(http::Request::get("/version").body(Vec::new()).unwrap())
            .await
    }

    #[tokio::test]
    async fn what_is_read_is_asked_for_again_where_the_api_server_is_busy() {
        let (config, asked) = busy_at_first().await;
        assert_eq!(ask(&Clients::new(config).unwrap().reads).await.unwrap(), "{}");
        assert_eq!(asked.load(Ordering::Relaxed), 2);
    }

    /// Weakened once: with the client of what is read the write is sent twice.
    #[tokio::test]
    async fn what_is_written_is_sent_once() {
        let (config, asked) = busy_at_first().await;
        let refused = ask(&Clients::new(config).unwrap().writes).await.unwrap_err();
        assert!(
            matches!(&refused, kube::Error::Api(status) if status.code == 503),
            "{refused}"
        );
        assert_eq!(asked.load(Ordering::Relaxed), 1);
    }
}
