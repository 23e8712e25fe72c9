//! A stand-in for what no real registry can be made to do: it answers every request as a test says. It knows no
//! signatures and no verdicts.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// What is answered to one request.
pub(crate) struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    /// The body is repeated so many times.
    times: u64,
}

impl Answer {
    /// A status with a body that nobody needs.
    pub(crate) fn status(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: b"{}".to_vec(),
            times: 1,
        }
    }

    /// Content of a media type.
    pub(crate) fn content(media_type: &str, body: Vec<u8>) -> Self {
        Self::status(200).header("content-type", media_type).body(body)
    }

    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    fn body(mut self, body: Vec<u8>) -> Self {
        self.body = body;
        self
    }

    /// The body again and again.
    pub(crate) fn times(mut self, times: u64) -> Self {
        self.times = times;
        self
    }
}

type Answers = dyn Fn(&str) -> Answer + Send + Sync;

/// A registry of a sort on a port of the loopback interface, as long as the test's runtime runs.
pub(crate) struct StandIn {
    port: u16,
    requests: Arc<Mutex<Vec<String>>>,
    sent: Arc<AtomicU64>,
}

/// The node simulator asks too; what it does is not counted.
const NOT_COUNTED: &str = testkit::NODE_USER_AGENT;

impl StandIn {
    /// `answers` is asked with the path of each request.
    pub(crate) async fn start(answers: impl Fn(&str) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let sent = Arc::new(AtomicU64::new(0));
        let counters = (Arc::clone(&requests), Arc::clone(&sent));
        let answers: Arc<Answers> = Arc::new(answers);
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                let (answers, requests, sent) = (
                    Arc::clone(&answers),
                    Arc::clone(&counters.0),
                    Arc::clone(&counters.1),
                );
                // The client may close the connection before it has read everything.
                tokio::spawn(async move { drop(serve(connection, &*answers, &requests, &sent).await) });
            }
        });
        Self { port, requests, sent }
    }

    /// `127.0.0.1:<port>`.
    pub(crate) fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The paths that were asked for, in order.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    /// How many bytes of bodies were sent.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

/// One request a connection: the answer says that the connection closes.
async fn serve(
    connection: TcpStream,
    answers: &Answers,
    requests: &Mutex<Vec<String>>,
    sent: &AtomicU64,
) -> std::io::Result<()> {
    let mut connection = BufReader::new(connection);
    let mut request = String::new();
    connection.read_line(&mut request).await?;
    let mut counted = true;
    loop {
        let mut header = String::new();
        if connection.read_line(&mut header).await? <= 2 {
            break;
        }
        let by_node = header.to_lowercase().starts_with("user-agent:") && header.contains(NOT_COUNTED);
        counted &= !by_node;
    }
    let path = request.split(' ').nth(1).unwrap_or_default();
    if counted {
        requests.lock().unwrap().push(path.to_owned());
    }
    let answer = answers(path);
    let length = answer.body.len() as u64 * answer.times;
    let mut head = format!(
        "HTTP/1.1 {} X\r\nconnection: close\r\ncontent-length: {length}\r\n",
        answer.status
    );
    for (name, value) in &answer.headers {
        head += &format!("{name}: {value}\r\n");
    }
    connection.write_all(format!("{head}\r\n").as_bytes()).await?;
    if request.starts_with("HEAD ") {
        return connection.shutdown().await;
    }
    for _ in 0..answer.times {
        connection.write_all(&answer.body).await?;
        if counted {
            sent.fetch_add(answer.body.len() as u64, Ordering::Relaxed);
        }
    }
    connection.shutdown().await
}
