//! SigningKeys and ImagePolicies as JSON.

use serde_json::{Value, json};

/// A P-256 key that signs nothing in these tests.
pub(crate) const PEM: &str = "-----BEGIN PUBLIC KEY-----\n\
    MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE9IHj5UUzWhLkb5hzZrws7lwFsDCN\n\
    EuZW+Sexi5vP7ubkUVbawO0AQERFY4KzMapk4qvglTA349LpeLYihKEKVA==\n\
    -----END PUBLIC KEY-----\n";

/// A SigningKey in stage Active.
pub(crate) fn key(name: &str, ring: &str, pem: &str) -> Value {
    json!({
        "apiVersion": "assay.dev/v1alpha1",
        "kind": "SigningKey",
        "metadata": {"name": name},
        "spec": {"keyRing": ring, "stage": "Active", "publicKey": {"pem": pem}},
    })
}

/// An Enforce policy that wants a signature by one ring on every image that the glob matches.
pub(crate) fn policy(name: &str, images: &str, ring: &str) -> Value {
    json!({
        "apiVersion": "assay.dev/v1alpha1",
        "kind": "ImagePolicy",
        "metadata": {"name": name},
        "spec": {
            "mode": "Enforce",
            "match": {"images": [images]},
            "require": [{"name": "signed", "signature": {"signedBy": [ring]}}],
        },
    })
}

/// The object with a part of it replaced, as a JSON merge patch does it: null removes.
pub(crate) fn with(mut object: Value, patch: Value) -> Value {
    merge(&mut object, patch);
    object
}

fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (name, value) in patch {
        if value.is_null() {
            target.as_object_mut().unwrap().remove(&name);
        } else {
            merge(&mut target[name.as_str()], value);
        }
    }
}
