//! Tests of the assay binary on real servers.
