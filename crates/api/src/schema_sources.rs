//! Schema parts with bounds and CEL rules of identities, trust roots and registries.

use schemars::{Schema, SchemaGenerator, json_schema};

use crate::Reason;
use crate::schema::{matches, set, text};

const OBJECT_NAME: &str = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$";
/// A kind, for a custom one with its group, and a name or a pattern of names.
const WORKLOAD: &str =
    r"^[A-Z][A-Za-z0-9]*([.][a-z0-9]([-a-z0-9.]*[a-z0-9])?)?/[a-z0-9*]([-a-z0-9.*]*[a-z0-9*])?$";
const SECRET_KEY: &str = r"^[-._a-zA-Z0-9]+$";
const ISSUER: &str = r"^https?://[^\\s]+$";
const SUBJECT: &str = r"^[^\\s]+$";
/// A registry with an optional port, then components of a path in lower case; no tag, no digest, no pattern.
const PREFIX: &str = r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]{1,5})?(/[a-z0-9]([a-z0-9._-]*[a-z0-9])?)*$";
const CERTIFICATES: &str =
    r"^\\s*(-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\\s]+-----END CERTIFICATE-----\\s*)+$";

/// The largest document in an object, in characters: an object may have 1.5 MiB in all.
const DOCUMENT: u32 = 262_144;

/// The name of an object: a DNS subdomain.
pub(crate) fn object_name(_: &mut SchemaGenerator) -> Schema {
    text(
        253,
        &matches(OBJECT_NAME),
        "must be the name of an object: lower-case letters, digits, dashes and dots, with a letter or digit at both ends",
    )
}

/// The policies of an exception.
pub(crate) fn excepted_policies(generator: &mut SchemaGenerator) -> Schema {
    set(1, 16, &object_name(generator))
}

/// The workloads of an exception.
pub(crate) fn excepted_workloads(_: &mut SchemaGenerator) -> Schema {
    let workload = text(
        316,
        &matches(WORKLOAD),
        "must be a kind and a name, such as Deployment/web, CronJob/backup-* or Rollout.argoproj.io/web",
    );
    set(1, 64, &workload)
}

/// The reasons of an exception.
pub(crate) fn excepted_reasons(_: &mut SchemaGenerator) -> Schema {
    let reasons: Vec<&str> = Reason::OF_VIOLATIONS
        .iter()
        .map(|reason| reason.as_str())
        .collect();
    set(
        1,
        Reason::OF_VIOLATIONS.len(),
        &json_schema!({"type": "string", "enum": reasons}),
    )
}

/// A whole object of another kind. Its fields are read by the operator, which says what is wrong with them.
pub(crate) fn previewed_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "x-kubernetes-embedded-resource": true,
        "x-kubernetes-preserve-unknown-fields": true,
        "x-kubernetes-validations": [{
            "rule": "self.apiVersion == 'assay.dev/v1alpha1' && self.kind in ['SigningKey', 'ImagePolicy', 'KeyRevocation', 'ImageException']",
            "message": "must be a SigningKey, an ImagePolicy, a KeyRevocation or an ImageException of assay.dev/v1alpha1",
        }],
    })
}

/// SHA-256 of a signer, in hex.
pub(crate) fn fingerprint(_: &mut SchemaGenerator) -> Schema {
    text(
        64,
        &matches("^[0-9a-f]{64}$"),
        "must be the fingerprint of a signer: 64 hex digits in lower case, as status.fingerprint of its SigningKey shows them",
    )
}

/// Digests of images. The rule that compares each of one list with all of another may cost the API server a million
/// steps, so there are fewer than a thousand.
pub(crate) fn honoured_digests(_: &mut SchemaGenerator) -> Schema {
    let digest = text(
        71,
        &matches("^sha256:[0-9a-f]{64}$"),
        "must be the digest of an image: sha256: and 64 hex digits in lower case",
    );
    json_schema!({
        "type": "array",
        "maxItems": 900,
        "items": digest,
        "x-kubernetes-list-type": "set",
    })
}

/// The name of an entry in a ConfigMap or a Secret.
pub(crate) fn data_key(_: &mut SchemaGenerator) -> Schema {
    text(
        253,
        &matches(SECRET_KEY),
        "must be the name of an entry in the ConfigMap's data, such as trusted_root.json",
    )
}

pub(crate) fn issuer(_: &mut SchemaGenerator) -> Schema {
    text(
        512,
        &matches(ISSUER),
        "must be the URL of an OIDC issuer, such as https://token.actions.githubusercontent.com",
    )
}

pub(crate) fn subject(_: &mut SchemaGenerator) -> Schema {
    text(
        512,
        &matches(SUBJECT),
        "must be an e-mail address or a URI without spaces, such as \
         https://github.com/acme/shop/.github/workflows/release.yml@refs/heads/main",
    )
}

/// A regular expression that stands for an identity. A text that is no regular expression fails the last rule.
pub(crate) fn identity_regex(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "minLength": 1,
        "maxLength": 512,
        "x-kubernetes-validations": [
            {
                "rule": r"!self.matches('\\(\\?[^:]')",
                "message": "must not hold (? other than (?:…): neither flags nor names of groups are accepted",
            },
            {
                "rule": "!''.matches(self)",
                "message": "must be a regular expression that does not match the empty text; the whole identity must match it",
            },
        ],
    })
}

/// A JSON document as text.
pub(crate) fn json_document(_: &mut SchemaGenerator) -> Schema {
    text(
        DOCUMENT,
        r"self.matches('^\\s*\\{')",
        "must be a JSON document, as the file holds it",
    )
}

pub(crate) fn http_url(_: &mut SchemaGenerator) -> Schema {
    text(
        2048,
        &matches(r"^https?://[^\\s?#]+$"),
        "must be a URL with http or https, without query and fragment, such as https://tuf-repo-cdn.sigstore.dev",
    )
}

pub(crate) fn repository_prefix(_: &mut SchemaGenerator) -> Schema {
    text(
        255,
        &matches(PREFIX),
        "must be a registry, or a registry and the beginning of a path, in lower case without tag, digest and pattern, \
         such as docker.io or registry.example.com/shop",
    )
}

pub(crate) fn certificates(_: &mut SchemaGenerator) -> Schema {
    text(
        DOCUMENT,
        &matches(CERTIFICATES),
        "must be one or several PEM blocks of type 'CERTIFICATE'",
    )
}

/// A count from one to a maximum.
fn count(maximum: u32) -> Schema {
    json_schema!({"type": "integer", "format": "int64", "minimum": 1, "maximum": maximum})
}

pub(crate) fn requests_per_second(_: &mut SchemaGenerator) -> Schema {
    count(1000)
}

pub(crate) fn concurrency(_: &mut SchemaGenerator) -> Schema {
    count(256)
}

pub(crate) fn daily_budget(_: &mut SchemaGenerator) -> Schema {
    count(100_000_000)
}
