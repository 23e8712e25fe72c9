//! Schema parts with bounds and CEL rules that several fields share.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

const DURATION: &str = "^([0-9]{1,5}(h|m|s|ms)){1,4}$";
const NAME: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";
const NAMESPACE_GLOB: &str = "^[a-z0-9*]([-a-z0-9*]*[a-z0-9*])?$";
/// An optional registry with an optional port, then the components of the path: a colon elsewhere is that of a tag.
const REPOSITORY_GLOB: &str = "^([a-z0-9*]([a-z0-9*.-]*[a-z0-9*])?(:[0-9*]{1,5})?/)?\
     [a-z0-9*]([a-z0-9*._-]*[a-z0-9*])?(/[a-z0-9*]([a-z0-9*._-]*[a-z0-9*])?)*$";
const CRON: &str = r"^\\s*([0-9A-Za-z*,/?#-]+\\s+){4}[0-9A-Za-z*,/?#-]+\\s*$";
const TIME_ZONE: &str = "^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*$";

/// A text that one rule holds to its form. A rule and not a `pattern`: a pattern is refused with the pattern alone,
/// a rule says in words what is right.
pub(crate) fn text(maximum: u32, rule: &str, message: &str) -> Schema {
    json_schema!({
        "type": "string",
        "minLength": 1,
        "maxLength": maximum,
        "x-kubernetes-validations": [{"rule": rule, "message": message}],
    })
}

pub(crate) fn matches(pattern: &str) -> String {
    format!("self.matches('{pattern}')")
}

/// The name of a key ring, or of a requirement.
pub(crate) fn name(_: &mut SchemaGenerator) -> Schema {
    text(
        63,
        &matches(NAME),
        "must be lower-case letters, digits and dashes, with a letter or digit at both ends, such as release",
    )
}

pub(crate) fn time_zone(_: &mut SchemaGenerator) -> Schema {
    text(
        64,
        &matches(TIME_ZONE),
        "must be the name of an IANA time zone, such as Europe/Berlin",
    )
}

/// The schema of an optional enum: without it a null would be one of its values, and the text that is shown would be
/// the type's instead of the field's.
pub(crate) fn not_null<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = T::json_schema(generator);
    schema.remove("description");
    schema
}

pub(crate) fn mode_defaulting_to_dry_run(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "enum": ["DryRun", "Warn", "Enforce"],
        "default": "DryRun",
    })
}

pub(crate) fn duration(_: &mut SchemaGenerator) -> Schema {
    text(
        32,
        &format!("{} && duration(self) > duration('0s')", matches(DURATION)),
        "must be one to four numbers, each with h, m, s or ms, together longer than zero, such as 6h or 1h30m",
    )
}

pub(crate) fn cron(_: &mut SchemaGenerator) -> Schema {
    text(
        128,
        &matches(CRON),
        "must be a cron expression of five fields (minute, hour, day of month, month, day of week), such as '0 3 * * *'",
    )
}

pub(crate) fn repository_globs(_: &mut SchemaGenerator) -> Schema {
    set(0, 64, &repository_glob())
}

pub(crate) fn repository_globs_required(_: &mut SchemaGenerator) -> Schema {
    set(1, 64, &repository_glob())
}

fn repository_glob() -> Schema {
    text(
        255,
        &format!("{} && !self.contains('***')", matches(REPOSITORY_GLOB)),
        "must be a pattern of repositories in lower case, without tag and digest, such as registry.example.com/shop/** \
         (* stops at a slash, ** crosses it)",
    )
}

pub(crate) fn namespace_globs(_: &mut SchemaGenerator) -> Schema {
    set(0, 64, &namespace_glob())
}

pub(crate) fn namespace_globs_required(_: &mut SchemaGenerator) -> Schema {
    set(1, 64, &namespace_glob())
}

fn namespace_glob() -> Schema {
    text(
        255,
        &matches(NAMESPACE_GLOB),
        "must be the name of a namespace, or a pattern of names such as team-*",
    )
}

pub(crate) fn key_rings(generator: &mut SchemaGenerator) -> Schema {
    set(1, 16, &name(generator))
}

pub(crate) fn set(minimum: usize, maximum: usize, items: &Schema) -> Schema {
    json_schema!({
        "type": "array",
        "minItems": minimum,
        "maxItems": maximum,
        "items": items,
        "x-kubernetes-list-type": "set",
    })
}

pub(crate) fn label_selector(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "properties": {
            "matchLabels": {
                "description": "Labels that the namespace must have, with these values.",
                "type": "object",
                "maxProperties": 16,
                "additionalProperties": {"type": "string", "maxLength": 63},
            },
            "matchExpressions": {
                "description": "What must hold of the namespace's labels: every entry.",
                "type": "array",
                "maxItems": 16,
                "items": {
                    "type": "object",
                    "required": ["key", "operator"],
                    "properties": {
                        "key": {
                            "description": "The label's key.",
                            "type": "string",
                            "maxLength": 317,
                        },
                        "operator": {
                            "description": "How the label relates to the values; NotIn also holds where there is no such label.",
                            "type": "string",
                            "enum": ["In", "NotIn", "Exists", "DoesNotExist"],
                        },
                        "values": {
                            "description": "The values of In and NotIn; nothing for Exists and DoesNotExist.",
                            "type": "array",
                            "maxItems": 64,
                            "items": {"type": "string", "maxLength": 63},
                        },
                    },
                    "x-kubernetes-validations": [{
                        "rule": "self.operator in ['In', 'NotIn'] ? has(self.values) && self.values.size() > 0 : !has(self.values) || self.values.size() == 0",
                        "message": "In and NotIn need values; Exists and DoesNotExist take none",
                    }],
                },
            },
        },
    })
}

pub(crate) fn any_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "x-kubernetes-preserve-unknown-fields": true,
    })
}
