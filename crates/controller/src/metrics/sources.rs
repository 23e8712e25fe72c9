//! What is known of TrustRoots and RegistryConfigs, as metrics.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use super::totals::Page;

/// TrustRoots and RegistryConfigs by name.
#[derive(Debug, Default)]
pub(super) struct Sources {
    /// None where there is no trust root; else when the first of its authorities in use ends, if ever.
    pub(super) trust_roots: BTreeMap<Arc<str>, Option<Option<Timestamp>>>,
    /// Whether the configuration is in use.
    pub(super) registries: BTreeMap<Arc<str>, bool>,
}

#[derive(Debug)]
pub(super) struct SourcesCollector(pub(super) Arc<Mutex<Sources>>);

impl Collector for SourcesCollector {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let sources = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut page = Page::new(encoder);
        let roots = || sources.trust_roots.iter();
        let label = |name: &Arc<str>| [("trust_root", name.to_string())];
        let ready = roots().map(|(name, root)| (label(name), i64::from(root.is_some())));
        page.gauges("trust_root_ready", "1 where the trust root can be used", ready)?;
        let ends = roots().filter_map(|(name, root)| Some((label(name), root.flatten()?.as_second())));
        page.gauges(
            "trust_root_end_timestamp_seconds",
            "When the first authority or log in use of the trust root ends",
            ends,
        )?;
        let registries = sources.registries.iter();
        let registries = registries.map(|(name, ready)| ([("config", name.to_string())], i64::from(*ready)));
        page.gauges(
            "registry_config_ready",
            "1 where the configuration of registries is in use as it is written",
            registries,
        )
    }
}
