//! The engine driven directly: facts and passes in, answers out; no network, no clock.

mod deadlines;
mod edits;
mod incremental;
mod memory;
mod outages;
mod world;
