//! Free ports on the loopback interface.
//!
//! Ports are taken from below the range that systems use for outgoing connections, so that a server that is
//! stopped and started again finds its port free. Two processes may still choose the same port at the same time:
//! who starts a server retries when it says that its address is in use.

use std::collections::BTreeSet;
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Mutex;

use crate::{Result, TestkitError};

const FIRST: u16 = 18_000;
const END: u16 = 32_000;
/// How often a server is started whose port was taken.
const ATTEMPTS: usize = 5;

static HANDED_OUT: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// A port on 127.0.0.1 that is free now and was never handed out before in this process.
pub fn free_port() -> Result<u16> {
    let mut handed_out = HANDED_OUT
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let span = END - FIRST;
    let start = (RandomState::new().hash_one(std::process::id()) % u64::from(span)) as u16;
    let free = (0..span)
        .map(|offset| FIRST + (start + offset) % span)
        .find(|port| !handed_out.contains(port) && TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .ok_or(TestkitError::NoFreePort { from: FIRST, to: END })?;
    handed_out.insert(free);
    Ok(free)
}

/// As many different free ports as asked for.
pub fn free_ports<const N: usize>() -> Result<[u16; N]> {
    let mut ports = [0; N];
    for port in &mut ports {
        *port = free_port()?;
    }
    Ok(ports)
}

/// Another process may take a port between its choice and its use: then the next attempt chooses another one.
pub(crate) async fn retry_on_taken_port<T, F>(mut start: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    let mut attempt = 1;
    loop {
        match start().await {
            Err(TestkitError::ServerEnded { log, .. })
                if attempt < ATTEMPTS && log.contains("address already in use") =>
            {
                attempt += 1;
            }
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_port_is_handed_out_twice() {
        let ports: BTreeSet<u16> = (0..50).map(|_| free_port().unwrap()).collect();
        assert_eq!(ports.len(), 50);
    }

    #[test]
    fn a_port_in_use_is_not_handed_out() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, free_port().unwrap())).unwrap();
        let taken_port = taken.local_addr().unwrap().port();
        assert!((0..50).all(|_| free_port().unwrap() != taken_port));
    }
}
