//! A stand-in for an outage: a forwarder on loopback that stands in front of a server and can be told to refuse
//! connections or to swallow them, while the server itself keeps its content.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};

use crate::ports::free_port;
use crate::{Result, TestkitError, background};

/// What the forwarder does with connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Forward,
    Refuse,
    Swallow,
}

/// A forwarder in front of one server. Use [`Outage::host`] in image references instead of the server's own host.
#[derive(Debug)]
pub struct Outage {
    port: u16,
    mode: watch::Sender<Mode>,
    held: Arc<AtomicUsize>,
}

/// What stands behind a forwarder, and what it does.
#[derive(Clone)]
struct Front {
    target: SocketAddr,
    modes: watch::Receiver<Mode>,
    held: Arc<AtomicUsize>,
}

impl Outage {
    /// Starts to forward to `host` (`127.0.0.1:<port>`).
    pub async fn in_front_of(host: &str) -> Result<Self> {
        let invalid = |error| TestkitError::Invalid(format!("{host} is no address of a server: {error}"));
        let target: SocketAddr = host.parse().map_err(invalid)?;
        let port = free_port()?;
        let (mode, modes) = watch::channel(Mode::Forward);
        let (ready, is_ready) = oneshot::channel();
        let held = Arc::new(AtomicUsize::new(0));
        let front = Front {
            target,
            modes,
            held: held.clone(),
        };
        background::runtime()?.spawn(serve(port, front, ready));
        let gone = |_| TestkitError::Invalid(format!("cannot listen on port {port} of 127.0.0.1"));
        is_ready.await.map_err(gone)?;
        Ok(Self { port, mode, held })
    }

    /// The host part of image references: `127.0.0.1:<port>`.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Connections are refused, from a moment after this call; those that are open by then are closed.
    pub fn refuse(&self) {
        self.mode.send_replace(Mode::Refuse);
    }

    /// From now on connections are accepted and never answered, the open ones too.
    pub fn swallow(&self) {
        self.mode.send_replace(Mode::Swallow);
    }

    /// How many connections are held without an answer now.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// The outage is over.
    pub fn restore(&self) {
        self.mode.send_replace(Mode::Forward);
    }
}

/// Runs until the [`Outage`] is dropped.
async fn serve(port: u16, mut front: Front, ready: oneshot::Sender<()>) {
    let mut ready = Some(ready);
    loop {
        let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await else {
            return;
        };
        // Only the first time somebody waits for this.
        ready.take().map(|ready| ready.send(()));
        accept_until_refusing(&listener, &mut front).await;
        drop(listener);
        if front.modes.wait_for(|mode| *mode != Mode::Refuse).await.is_err() {
            return;
        }
    }
}

async fn accept_until_refusing(listener: &TcpListener, front: &mut Front) {
    let each = front.clone();
    let refusing = front.modes.wait_for(|mode| *mode == Mode::Refuse);
    tokio::pin!(refusing);
    loop {
        tokio::select! {
            _ = &mut refusing => return,
            accepted = listener.accept() => if let Ok((connection, _)) = accepted {
                tokio::spawn(handle(connection, each.clone()));
            },
        }
    }
}

/// Forwards one connection while the mode is Forward; holds it while the mode is Swallow; then closes it.
async fn handle(mut connection: TcpStream, mut front: Front) {
    let modes = &mut front.modes;
    let mode = *modes.borrow_and_update();
    if mode == Mode::Forward {
        let mut server = match TcpStream::connect(front.target).await {
            Ok(server) => server,
            Err(_) => return,
        };
        tokio::select! {
            _ = copy_bidirectional(&mut connection, &mut server) => return,
            _ = modes.wait_for(|mode| *mode != Mode::Forward) => {}
        }
    }
    // The sender's end counts as the end of the outage: the connection closes.
    front.held.fetch_add(1, Ordering::Relaxed);
    drop(modes.wait_for(|mode| *mode != Mode::Swallow).await);
    front.held.fetch_sub(1, Ordering::Relaxed);
}
