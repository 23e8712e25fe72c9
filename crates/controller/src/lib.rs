//! Watches in; statuses, events and metrics out; leadership.
//!
//! The only crate that talks to the API server. It decides nothing about images: facts go to the
//! engine, and what the engine answers is written wherever users look. [`run`] is the whole of it.

mod clients;
mod compliances;
mod dated;
mod ending;
mod events;
mod exceptions;
mod forecasts;
mod health;
mod http;
mod inventory;
mod jitter;
mod keys;
mod lease;
mod ledger;
mod loops;
mod metrics;
mod names;
mod namespaces;
mod notify;
mod object_sink;
mod objects;
mod options;
mod policies;
mod pull_secrets;
mod revocations;
mod run;
mod said;
#[cfg(test)]
mod testing;
mod transitions;
mod unanswered;
mod upkeep;
mod versions;
mod watch;
mod write;

pub use clients::Clients;
pub use ending::ENGINE as ENGINE_ENDS_WITHIN;
pub use inventory::registered::{WorkloadTemplate, WorkloadTemplateError};
pub use loops::LoopError;
pub use metrics::{Metrics, MetricsRegistryObserver};
pub use notify::{NotifyOptions, ReceiverError};
pub use options::{ControllerOptions, RegistryCredentials, own_identity, own_namespace};
pub use pull_secrets::PullSecretReader;
pub use run::{ControllerError, run};
pub use upkeep::registries::route_of;
pub use upkeep::trust_roots::{config_map_key, published_trust_root, trust_root_in};
