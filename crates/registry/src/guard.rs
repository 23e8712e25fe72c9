//! Where no request may go: internal addresses, unless they are allowed (B19).
//!
//! The controller looks up what tenants write, so an image name must not make it knock on doors inside. A name is
//! judged by the addresses that it resolves to, at the moment of connecting (see `http_client`); an address that is
//! written as such is judged before. That covers registries, redirects, token servers and pages alike, because
//! each request passes here.
//!
//! - **Allowed** by options: names, addresses and networks, for any request.
//! - **Configured**: hosts that an administrator named (plain http, token servers, routes with their mirrors), each with
//!   its port. They may live on private addresses; but only a request for that registry itself may go there, so that no
//!   other registry can redirect to it, and at that port alone. Link-local and metadata addresses stay refused.
//! - **Proxies**: a request that goes through a proxy is resolved by the proxy, which is then the guard. Addresses
//!   that are written as such are still judged here.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock};

use hyper_util::client::proxy::matcher::Matcher;
use url::{Host, Url};

use crate::addresses::{Internal, Network, internal};
use crate::options::{ClientOptions, ClientOptionsError};

/// Judges destinations. Clones share what is configured.
#[derive(Clone)]
pub(crate) struct Guard(Arc<Rules>);

struct Rules {
    /// Whether anything is refused at all.
    strict: bool,
    allowed_names: BTreeSet<String>,
    allowed_networks: Vec<Network>,
    configured: RwLock<BTreeSet<Configured>>,
    proxies: Matcher,
    proxy_hosts: BTreeSet<String>,
}

/// A host that an administrator named.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Configured {
    /// Without brackets.
    host: String,
    /// `None` stands for the scheme's own.
    port: Option<u16>,
}

impl Configured {
    /// Of `host` or `host:port`.
    fn read(authority: &str) -> Self {
        let port = authority.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
        Self {
            host: bare(authority),
            port,
        }
    }

    fn is_at_port_of(&self, url: &Url) -> bool {
        match self.port {
            Some(port) => url.port_or_known_default() == Some(port),
            None => url.port().is_none(),
        }
    }
}

/// An address that is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{host} is at the internal address {address}, which is refused: name the registry in a RegistryConfig, or allow \
     the address with --allow-internal"
)]
pub(crate) struct Refused {
    host: String,
    address: IpAddr,
}

/// Why there are no addresses to connect to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ResolveError {
    /// All of them are refused.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The name does not resolve.
    #[error("{host} cannot be resolved: {source}")]
    Unresolved { host: String, source: std::io::Error },
}

impl Guard {
    pub(crate) fn new(options: &ClientOptions) -> Result<Self, ClientOptionsError> {
        let proxies = Matcher::from_env();
        let proxy_hosts = ["http://registry.invalid", "https://registry.invalid"]
            .into_iter()
            .filter_map(|destination| proxies.intercept(&destination.parse().ok()?))
            .filter_map(|proxy| proxy.uri().host().map(bare))
            .collect();
        let mut allowed_names = BTreeSet::new();
        let mut allowed_networks = Vec::new();
        for entry in &options.allowed_internal_addresses {
            match entry.parse::<Network>() {
                Ok(network) => allowed_networks.push(network),
                Err(_) if is_host_name(entry) => {
                    allowed_names.insert(entry.to_ascii_lowercase());
                }
                Err(why) => {
                    return Err(ClientOptionsError::Allowed {
                        found: entry.clone(),
                        why,
                    });
                }
            }
        }
        Ok(Self(Arc::new(Rules {
            strict: options.forbid_internal_addresses,
            allowed_names,
            allowed_networks,
            configured: RwLock::default(),
            proxies,
            proxy_hosts,
        })))
    }

    /// Replaces what an administrator configured: `host` or `host:port`.
    pub(crate) fn configure<'a>(&self, authorities: impl Iterator<Item = &'a str>) {
        let configured = authorities.map(Configured::read).collect();
        *self.0.configured.write().unwrap_or_else(PoisonError::into_inner) = configured;
    }

    /// Judges a request before it is sent. `own` says that it goes to the registry that the call is for, or to the
    /// token server that an administrator named for it, rather than where that registry points to.
    ///
    /// # Errors
    /// [`Refused`]. What only resolving can tell is left to [`Guard::resolve`].
    pub(crate) async fn check(&self, url: &Url, own: bool) -> Result<(), ResolveError> {
        if !self.0.strict {
            return Ok(());
        }
        let own = own && self.is_at_a_configured_port(url);
        match url.host() {
            Some(Host::Ipv4(address)) => self.check_address(url, address.into(), own),
            Some(Host::Ipv6(address)) => self.check_address(url, address.into(), own),
            Some(Host::Domain(name)) => self.check_name(url, name, own).await,
            None => Ok(()),
        }
    }

    /// The addresses of a name that may be connected to.
    pub(crate) async fn resolve(&self, name: &str) -> Result<Vec<SocketAddr>, ResolveError> {
        let reach = if self.0.proxy_hosts.contains(name) {
            Reach::Anywhere
        } else {
            self.reach(name, true)
        };
        self.resolve_within(name, reach).await
    }

    fn check_address(&self, url: &Url, address: IpAddr, own: bool) -> Result<(), ResolveError> {
        let host = url.host_str().unwrap_or("");
        let reach = self.reach(&bare(host), own);
        if self.may_reach(address, reach) {
            return Ok(());
        }
        Err(Refused {
            host: crate::wire::authority(url),
            address,
        }
        .into())
    }

    /// A name is judged when it is resolved; except where resolving cannot tell whom the request is for, or is
    /// done by a proxy.
    async fn check_name(&self, url: &Url, name: &str, own: bool) -> Result<(), ResolveError> {
        let exempt = self.0.proxy_hosts.contains(name) || self.reach(name, true) != self.reach(name, own);
        if !exempt || self.is_proxied(url) {
            return Ok(());
        }
        match self.resolve_within(name, self.reach(name, own)).await {
            Err(ResolveError::Refused(refused)) => Err(Refused {
                host: crate::wire::authority(url),
                ..refused
            }
            .into()),
            other => other.map(drop),
        }
    }

    async fn resolve_within(&self, name: &str, reach: Reach) -> Result<Vec<SocketAddr>, ResolveError> {
        let found = tokio::net::lookup_host((name, 0));
        let found: Vec<SocketAddr> = found
            .await
            .map_err(|source| ResolveError::Unresolved {
                host: name.to_owned(),
                source,
            })?
            .collect();
        if !self.0.strict {
            return Ok(found);
        }
        let (open, refused): (Vec<_>, Vec<_>) = found
            .into_iter()
            .partition(|address| self.may_reach(address.ip(), reach));
        match refused.first() {
            Some(address) if open.is_empty() => Err(Refused {
                host: name.to_owned(),
                address: address.ip(),
            }
            .into()),
            _ => Ok(open),
        }
    }

    fn may_reach(&self, address: IpAddr, reach: Reach) -> bool {
        let allowed = self
            .0
            .allowed_networks
            .iter()
            .any(|network| network.contains(address));
        match (internal(address), reach) {
            _ if allowed => true,
            (None, _) | (_, Reach::Anywhere) => true,
            (Some(Internal::Private), Reach::Private) => true,
            _ => false,
        }
    }

    fn reach(&self, host: &str, own: bool) -> Reach {
        if self.0.allowed_names.contains(host) {
            return Reach::Anywhere;
        }
        if own && self.configured(host).next().is_some() {
            Reach::Private
        } else {
            Reach::Public
        }
    }

    fn is_at_a_configured_port(&self, url: &Url) -> bool {
        let host = bare(url.host_str().unwrap_or(""));
        self.configured(&host)
            .any(|configured| configured.is_at_port_of(url))
    }

    /// What an administrator named of a host.
    fn configured(&self, host: &str) -> impl Iterator<Item = Configured> {
        let configured = self.0.configured.read().unwrap_or_else(PoisonError::into_inner);
        let of_host = configured.iter().filter(|configured| configured.host == host);
        of_host.cloned().collect::<Vec<_>>().into_iter()
    }

    fn is_proxied(&self, url: &Url) -> bool {
        url.as_str()
            .parse()
            .is_ok_and(|uri| self.0.proxies.intercept(&uri).is_some())
    }
}

/// Which addresses a host may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    Public,
    Private,
    Anywhere,
}

/// The host of `host:port`, without brackets.
pub(crate) fn bare(host: &str) -> String {
    let host = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => host.split(':').next().unwrap_or(host),
    };
    host.to_ascii_lowercase()
}

fn is_host_name(text: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    text.len() <= 253 && text.bytes().any(|byte| byte.is_ascii_alphabetic()) && text.split('.').all(label)
}
