//! The CustomResourceDefinitions as they are installed, generated from the types.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use kube::core::schema::StructuralSchemaRewriter;
use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

use crate::{
    GROUP, ImageCompliance, ImageException, ImagePolicy, KeyRevocation, PolicyPreview, RegistryConfig,
    SigningKey, TrustRoot, VERSION,
};

/// Why the definitions could not be generated: a fault of the build, never of the input.
#[derive(Debug, thiserror::Error)]
pub enum CrdError {
    /// A type does not make a valid definition.
    #[error("the definition of {kind} cannot be generated from its type: {source}")]
    Definition {
        /// The kind.
        kind: &'static str,
        /// What JSON says.
        source: serde_json::Error,
    },
    /// A definition does not print as YAML.
    #[error("a definition does not print as YAML: {0}")]
    Print(#[from] serde_norway::Error),
}

/// Every definition with the file name it is kept under in `crds/`, in order of installation.
pub fn definitions() -> Result<Vec<(&'static str, CustomResourceDefinition)>, CrdError> {
    Ok(vec![
        (
            "signingkeys.yaml",
            without_nullable("SigningKey", &SigningKey::crd())?,
        ),
        (
            "keyrevocations.yaml",
            without_nullable("KeyRevocation", &KeyRevocation::crd())?,
        ),
        (
            "imagepolicies.yaml",
            without_nullable("ImagePolicy", &ImagePolicy::crd())?,
        ),
        (
            "imageexceptions.yaml",
            without_nullable("ImageException", &ImageException::crd())?,
        ),
        (
            "policypreviews.yaml",
            without_nullable("PolicyPreview", &PolicyPreview::crd())?,
        ),
        (
            "imagecompliances.yaml",
            without_nullable(ImageCompliance::KIND, &image_compliance()?)?,
        ),
        (
            "trustroots.yaml",
            without_nullable("TrustRoot", &TrustRoot::crd())?,
        ),
        (
            "registryconfigs.yaml",
            without_nullable("RegistryConfig", &RegistryConfig::crd())?,
        ),
    ])
}

/// `null` is no value of any field: the API server takes it for an absent field, and what is mandatory is refused.
fn without_nullable(
    kind: &'static str,
    definition: &CustomResourceDefinition,
) -> Result<CustomResourceDefinition, CrdError> {
    let failed = |source| CrdError::Definition { kind, source };
    let mut document = serde_json::to_value(definition).map_err(failed)?;
    remove_nullable(&mut document);
    serde_json::from_value(document).map_err(failed)
}

fn remove_nullable(node: &mut Value) {
    match node {
        Value::Object(fields) => {
            fields.retain(|name, value| name != "nullable" || !value.is_boolean());
            fields.values_mut().for_each(remove_nullable);
        }
        Value::Array(items) => items.iter_mut().for_each(remove_nullable),
        _ => {}
    }
}

/// One definition as YAML.
pub fn to_yaml(definition: &CustomResourceDefinition) -> Result<String, CrdError> {
    Ok(serde_norway::to_string(definition)?)
}

/// ImageCompliance has no spec and no status subresource, which the derive macro cannot say.
fn image_compliance() -> Result<CustomResourceDefinition, CrdError> {
    let failed = |source| CrdError::Definition {
        kind: ImageCompliance::KIND,
        source,
    };
    let schema = SchemaSettings::openapi3()
        .with(|settings| settings.inline_subschemas = true)
        .with_transform(StructuralSchemaRewriter)
        .into_generator()
        .into_root_schema_for::<ImageCompliance>();
    let mut schema = serde_json::to_value(schema).map_err(failed)?;
    if let Some(root) = schema.as_object_mut() {
        root.remove("$schema");
        root.remove("title");
        root.insert("description".into(), json!(
            "The answer about the images of one top-level workload. Written by Assay only; there is nothing to set."
        ));
        root.insert("required".into(), json!(["status"]));
        // What the type gives a reader in place of a missing status is nothing that the API server should write.
        if let Some(status) = root["properties"]["status"].as_object_mut() {
            status.remove("default");
        }
    }
    serde_json::from_value(json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{}.{GROUP}", ImageCompliance::PLURAL)},
        "spec": {
            "group": GROUP,
            "names": {
                "kind": ImageCompliance::KIND,
                "plural": ImageCompliance::PLURAL,
                "singular": "imagecompliance",
                "shortNames": ["imgc"],
                "categories": ["assay"],
            },
            "scope": "Namespaced",
            "versions": [{
                "name": VERSION,
                "served": true,
                "storage": true,
                "schema": {"openAPIV3Schema": schema},
                "selectableFields": [{"jsonPath": ".status.verdict"}],
                "additionalPrinterColumns": columns(),
            }],
        },
    }))
    .map_err(failed)
}

fn columns() -> Value {
    json!([
        {"name": "Compliant", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Compliant\")].status"},
        {"name": "Dry-Run", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"DryRunCompliant\")].status"},
        {"name": "Reason", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Compliant\")].reason"},
        {"name": "Images", "type": "integer", "jsonPath": ".status.imageCount"},
        {"name": "Next-Start", "type": "string", "jsonPath": ".status.nextStart.decision"},
        {"name": "Message", "type": "string", "priority": 1, "jsonPath": ".status.conditions[?(@.type==\"Compliant\")].message"},
        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    ])
}
