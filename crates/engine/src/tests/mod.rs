//! The engine driven directly: facts and passes in, answers out; no network, no clock.

mod attestations;
mod deadlines;
mod disk;
mod edits;
mod fairness;
mod forecast;
mod gone;
mod impact;
mod incremental;
mod memory;
mod naming;
mod outages;
mod registry;
mod revocations;
mod staleness;
mod trust_roots;
mod trusted;
mod vetoes;
mod world;
