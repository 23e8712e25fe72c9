//! The engine with its real look-ups over HTTP: registries of the test's own process, every request counted.

mod requests;
mod site;
mod sources;
mod tenants;
mod trouble;
mod ways;
