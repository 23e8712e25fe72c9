//! The engine driven directly: facts and passes in, answers out; no network, no clock.

mod attestations;
mod costs;
mod deadlines;
mod disk;
mod edits;
mod ended;
mod exceptions;
mod fairness;
mod forecast;
mod gone;
mod impact;
mod incremental;
mod memory;
mod naming;
mod outages;
mod pending;
mod registry;
mod requested;
mod revocations;
mod staleness;
mod starts;
mod supersedes;
mod trust_roots;
mod trusted;
mod vetoes;
mod world;
