//! The `assay` binary on real servers: a real API server, real registries, images signed by real cosign.
//!
//! One cluster and both registries serve the whole run; each test has a namespace and names of its own, and tests
//! run in parallel. A test that breaks a server starts its own.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on fails"
)]

mod agreement;
mod bench;
mod binary;
mod changes;
mod check;
mod check_run;
mod check_trouble;
mod check_ways;
mod config;
mod crds;
mod crds_bad_keys;
mod crds_bad_policies;
mod crds_bad_sources;
mod deadlines;
mod docs;
mod evidence;
mod exceptions;
mod forecast;
mod hand_over;
mod hostile;
mod indexes;
mod interrupted;
mod kubectl_assay;
mod manifests;
mod operations;
mod operator;
mod outage;
mod own;
mod owners;
mod previews;
mod pull_secrets;
mod requests;
mod restart;
mod revocations;
mod scale;
mod scene;
mod security_cases;
mod servers;
mod sources;
mod stand_in;
mod starts;
mod suggested;
mod tampered;
mod tampering;
mod verdicts;
mod walkthroughs;
