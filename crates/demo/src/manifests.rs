//! The manifests that the demo applies, with its images and keys filled in.

use std::path::PathBuf;

use crate::error::{DemoError, Result};
use crate::gallery::{Gallery, Signers};
use crate::stage::Stage;

/// A manifest of the folder `manifests`.
#[derive(Debug, Clone, Copy)]
pub struct Manifest {
    /// Its file name.
    pub name: &'static str,
    template: &'static str,
}

/// Namespaces and everything that runs in them.
pub const WORKLOADS: Manifest = Manifest {
    name: "workloads.yaml",
    template: include_str!("../manifests/workloads.yaml"),
};
/// Keys and policies.
pub const TRUST: Manifest = Manifest {
    name: "trust.yaml",
    template: include_str!("../manifests/trust.yaml"),
};

/// What needs no key: a trust root, identities, and the workloads that rest on them.
pub const CHECKOUT: Manifest = Manifest {
    name: "checkout.yaml",
    template: include_str!("../manifests/checkout.yaml"),
};

/// What stands for a placeholder `{{name}}`.
pub type Values = Vec<(&'static str, String)>;

/// A text as a JSON string, which YAML takes as it is.
pub fn quoted(text: String) -> String {
    serde_json::Value::String(text).to_string()
}

/// The values of this run.
pub fn values(stage: &Stage, gallery: &Gallery, signers: &Signers) -> Result<Values> {
    Ok(vec![
        ("distribution", stage.distribution.host()),
        ("referrers", stage.referrers.host()),
        ("web", gallery.web.by_tag()),
        ("tools", gallery.tools.by_tag()),
        ("db", gallery.db.by_tag()),
        ("agent", gallery.agent.index.by_tag()),
        ("api", gallery.api.by_tag()),
        ("coupons", gallery.coupons.by_tag()),
        ("cart", gallery.cart.by_tag()),
        ("billing", gallery.billing.by_tag()),
        ("release-2026", quoted(signers.release_2026.public_pem()?)),
        ("release-2027", quoted(signers.release_2027.public_pem()?)),
    ])
}

impl Manifest {
    /// Fills the placeholders and writes the manifest into the demo's folder, where a user may read it.
    pub fn write(self, stage: &Stage, values: &Values) -> Result<PathBuf> {
        let text = self.fill(values)?;
        let folder = stage.folder().join("manifests");
        std::fs::create_dir_all(&folder).map_err(DemoError::file("create", &folder))?;
        let path = folder.join(self.name);
        std::fs::write(&path, text).map_err(DemoError::file("write", &path))?;
        Ok(path)
    }

    fn fill(self, values: &Values) -> Result<String> {
        let mut text = self.template.to_owned();
        for (name, value) in values {
            text = text.replace(&format!("{{{{{name}}}}}"), value);
        }
        match text.split_once("{{").and_then(|(_, rest)| rest.split_once("}}")) {
            Some((name, _)) if !name.contains('\n') => Err(DemoError::Placeholder {
                manifest: self.name,
                placeholder: format!("{{{{{name}}}}}"),
            }),
            _ => Ok(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some_values() -> Values {
        let images = ["web", "tools", "db", "agent", "api", "coupons", "cart", "billing"];
        let mut values: Values = images
            .map(|name| (name, format!("127.0.0.1:5000/shop/{name}:1")))
            .into();
        values.extend(["distribution", "referrers"].map(|name| (name, "127.0.0.1:5000".to_owned())));
        values.extend(["release-2026", "release-2027"].map(|name| (name, "\"-----BEGIN\\n\"".to_owned())));
        values.extend(["pay", "search"].map(|name| (name, format!("127.0.0.1:5000/checkout/{name}:1"))));
        values.extend(["workflow", "scanner"].map(|name| (name, "someone".to_owned())));
        values
            .extend(["workflow-issuer", "scanner-issuer"].map(|name| (name, "http://127.0.0.1".to_owned())));
        values.push(("trusted-root", quoted("{}\n".to_owned())));
        values
    }

    #[test]
    fn filled_manifests_are_yaml_without_placeholders() {
        for manifest in [WORKLOADS, TRUST, CHECKOUT] {
            let text = manifest.fill(&some_values()).unwrap();
            for document in text.split("\n---\n") {
                let object: serde_json::Value = serde_norway::from_str(document).unwrap();
                assert!(object["metadata"]["name"].is_string(), "{document}");
            }
        }
    }

    #[test]
    fn a_placeholder_that_nothing_fills_is_named() {
        let mut values = some_values();
        values.retain(|(name, _)| *name != "coupons");
        let error = WORKLOADS.fill(&values).unwrap_err().to_string();
        assert!(
            error.contains("{{coupons}}") && error.contains("workloads.yaml"),
            "{error}"
        );
    }
}
