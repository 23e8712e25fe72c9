//! The engine with its real look-ups over HTTP: registries of the test's own process, every request counted.

mod beside;
mod layers;
mod platforms;
mod requests;
mod site;
mod sources;
mod tags;
mod tenants;
mod trouble;
mod ways;
