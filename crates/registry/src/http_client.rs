//! HTTP clients, one for the system's certificates and one for each bundle of a route. Names are resolved under
//! the guard, so that no connection is made to an address that it refuses.
//!
//! Proxies are taken from `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`, as curl reads them.

use std::sync::Arc;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::certificates::Certificates;
use crate::guard::Guard;
use crate::options::ClientOptions;

/// Makes HTTP clients of one kind.
pub(crate) struct Maker {
    user_agent: String,
    connect_timeout: Duration,
    idle: usize,
    guard: Guard,
}

impl Maker {
    pub(crate) fn new(options: &ClientOptions, guard: Guard) -> Self {
        Self {
            user_agent: options.user_agent.clone(),
            connect_timeout: options.limits.connect_timeout,
            idle: options.per_registry_concurrency,
            guard,
        }
    }

    /// A client that trusts the system's certificates, and those given as well.
    ///
    /// # Errors
    /// What the TLS library says.
    pub(crate) fn make(&self, certificates: Option<&Certificates>) -> Result<reqwest::Client, String> {
        let mut builder = reqwest::Client::builder()
            .user_agent(&self.user_agent)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .connect_timeout(self.connect_timeout)
            .pool_max_idle_per_host(self.idle)
            .dns_resolver(Arc::new(Guarded(self.guard.clone())));
        if let Some(certificates) = certificates {
            let parsed = certificates
                .parsed()
                .map_err(|error| crate::wire::root_cause(&error))?;
            builder = builder.tls_certs_merge(parsed);
        }
        builder.build().map_err(|error| crate::wire::root_cause(&error))
    }
}

struct Guarded(Guard);

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = self.0.clone();
        Box::pin(async move {
            let addresses = guard.resolve(name.as_str()).await?;
            let addresses: Addrs = Box::new(addresses.into_iter());
            Ok(addresses)
        })
    }
}
