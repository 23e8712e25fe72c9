//! Watches in; statuses, events and metrics out; leadership.
//!
//! The only crate that talks to the API server. It decides nothing about images: facts go to the
//! engine, and what the engine answers is written wherever users look. [`run`] is the whole of it.

mod health;
mod inventory;
mod metrics;
mod watch;

pub use metrics::{Metrics, MetricsRegistryObserver};
