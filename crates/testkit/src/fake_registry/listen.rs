//! Connections of the fake registry: plain, or TLS with a certificate of an authority made on the spot.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::serve::Listener;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::failed;
use crate::{Result, TestkitError, background};

/// A server that stops when this is dropped.
pub(super) struct Listening {
    pub(super) address: SocketAddr,
    /// PEM.
    pub(super) authority: Option<String>,
    task: JoinHandle<()>,
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(super) async fn bind() -> Result<(std::net::TcpListener, SocketAddr)> {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed("listen"))?;
    listener.set_nonblocking(true).map_err(failed("listen"))?;
    let address = listener.local_addr().map_err(failed("listen"))?;
    Ok((listener, address))
}

/// Serves on the runtime that lives as long as the process, so that a registry may be shared by tests.
pub(super) fn serve(
    listener: std::net::TcpListener,
    address: SocketAddr,
    app: axum::Router,
    tls: bool,
) -> Result<Listening> {
    let runtime = background::runtime()?;
    let _entered = runtime.enter();
    let listener = TcpListener::from_std(listener).map_err(failed("listen"))?;
    let (authority, task) = if tls {
        let (authority, config) = server_config()?;
        let listener = TlsListener {
            plain: listener,
            acceptor: TlsAcceptor::from(config),
        };
        let task = runtime.spawn(async move { drop(axum::serve(listener, app).await) });
        (Some(authority), task)
    } else {
        let task = runtime.spawn(async move { drop(axum::serve(listener, app).await) });
        (None, task)
    };
    Ok(Listening {
        address,
        authority,
        task,
    })
}

struct TlsListener {
    plain: TcpListener,
    acceptor: TlsAcceptor,
}

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    /// One handshake after the other; one that fails is a connection that was not made.
    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, address) = Listener::accept(&mut self.plain).await;
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.plain.local_addr()
    }
}

/// The authority's certificate as PEM, and a server that shows one signed by it.
fn server_config() -> Result<(String, Arc<ServerConfig>)> {
    crate::init();
    let failed = || TestkitError::crypto("make the fake registry's certificate");
    let mut authority = CertificateParams::new(Vec::new()).map_err(failed())?;
    authority
        .distinguished_name
        .push(DnType::CommonName, "fake registry authority");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_key = KeyPair::generate().map_err(failed())?;
    let pem = authority.self_signed(&authority_key).map_err(failed())?.pem();
    let issuer = Issuer::new(authority, authority_key);
    let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
    let key = KeyPair::generate().map_err(failed())?;
    let certificate = CertificateParams::new(names)
        .and_then(|params| params.signed_by(&key, &issuer))
        .map_err(failed())?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .map_err(TestkitError::crypto("show the fake registry's certificate"))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok((pem, Arc::new(config)))
}
