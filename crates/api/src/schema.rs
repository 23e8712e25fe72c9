//! Schema parts with bounds and CEL rules that several fields share.

use schemars::{Schema, SchemaGenerator, json_schema};

const DURATION: &str = "^([0-9]{1,5}(h|m|s|ms)){1,4}$";
const KEY_RING: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";
const NAMESPACE_GLOB: &str = r"^[a-z0-9*]([-a-z0-9*]*[a-z0-9*])?$";
const REPOSITORY_GLOB: &str = r"^[a-z0-9*]([a-z0-9*._:/-]*[a-z0-9*])?$";

pub(crate) fn mode_defaulting_to_dry_run(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "enum": ["DryRun", "Warn", "Enforce"],
        "default": "DryRun",
    })
}

pub(crate) fn duration(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "maxLength": 32,
        "pattern": DURATION,
        "x-kubernetes-validations": [{
            "rule": "duration(self) > duration('0s')",
            "message": "must be longer than zero, such as 6h or 1h30m",
        }],
    })
}

pub(crate) fn cron(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "maxLength": 128,
        "x-kubernetes-validations": [{
            "rule": r"self.matches('^\\s*\\S+\\s+\\S+\\s+\\S+\\s+\\S+\\s+\\S+\\s*$')",
            "message": "must be a cron expression of five fields, such as '0 3 * * *'",
        }],
    })
}

pub(crate) fn repository_globs(_: &mut SchemaGenerator) -> Schema {
    globs(0, REPOSITORY_GLOB)
}

pub(crate) fn repository_globs_required(_: &mut SchemaGenerator) -> Schema {
    globs(1, REPOSITORY_GLOB)
}

pub(crate) fn namespace_globs(_: &mut SchemaGenerator) -> Schema {
    globs(0, NAMESPACE_GLOB)
}

fn globs(minimum: u32, pattern: &str) -> Schema {
    json_schema!({
        "type": "array",
        "minItems": minimum,
        "maxItems": 64,
        "items": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": pattern},
        "x-kubernetes-list-type": "set",
    })
}

pub(crate) fn key_rings(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "minItems": 1,
        "maxItems": 16,
        "items": {"type": "string", "minLength": 1, "maxLength": 63, "pattern": KEY_RING},
        "x-kubernetes-list-type": "set",
    })
}

pub(crate) fn label_selector(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "properties": {
            "matchLabels": {
                "type": "object",
                "maxProperties": 16,
                "additionalProperties": {"type": "string", "maxLength": 63},
            },
            "matchExpressions": {
                "type": "array",
                "maxItems": 16,
                "items": {
                    "type": "object",
                    "required": ["key", "operator"],
                    "properties": {
                        "key": {"type": "string", "maxLength": 317},
                        "operator": {"type": "string", "enum": ["In", "NotIn", "Exists", "DoesNotExist"]},
                        "values": {"type": "array", "maxItems": 64, "items": {"type": "string", "maxLength": 63}},
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
