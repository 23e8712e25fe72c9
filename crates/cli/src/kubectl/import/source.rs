//! The object that is read. What a reader takes is taken out of it; what is left at the end was not carried over, and
//! is listed. So no field is passed over in silence.

use serde_json::{Map, Value, json};

/// What it does to a policy that something is not carried over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Effect {
    /// Nothing to what is judged.
    None,
    /// The policy asks for more, or of more images.
    Stricter,
    /// The policy asks for less, or of fewer images.
    Weaker,
}

impl Effect {
    pub(super) fn word(self) -> &'static str {
        match self {
            Effect::None => "none",
            Effect::Stricter => "stricter",
            Effect::Weaker => "WEAKER",
        }
    }
}

/// Something that was not carried over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Left {
    pub(super) policy: String,
    pub(super) field: String,
    pub(super) why: String,
    pub(super) effect: Effect,
}

impl Left {
    pub(super) fn as_json(&self) -> Value {
        json!({
            "policy": self.policy,
            "field": self.field,
            "why": self.why,
            "effect": self.effect.word().to_lowercase(),
        })
    }
}

/// An object, and what of it was not carried over.
pub(super) struct Source {
    pub(super) group: String,
    pub(super) kind: String,
    /// Its own name.
    pub(super) own_name: String,
    pub(super) namespace: Option<String>,
    /// `Kind/name`, for the list.
    pub(super) name: String,
    pub(super) spec: Map<String, Value>,
    pub(super) left: Vec<Left>,
}

impl Source {
    pub(super) fn of(document: Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let version = text(&document["apiVersion"]);
        let (kind, own_name) = (text(&document["kind"]), text(&document["metadata"]["name"]));
        Source {
            group: version
                .split_once('/')
                .map_or(String::new(), |(group, _)| group.to_owned()),
            name: format!("{kind}/{own_name}"),
            kind,
            own_name,
            namespace: document["metadata"]["namespace"].as_str().map(str::to_owned),
            spec: object(document["spec"].clone()),
            left: Vec::new(),
        }
    }

    /// Notes something that is not carried over.
    pub(super) fn leave(&mut self, field: &str, effect: Effect, why: impl Into<String>) {
        self.left.push(Left {
            policy: self.name.clone(),
            field: field.to_owned(),
            why: why.into(),
            effect,
        });
    }

    /// Notes that nothing came of the part of the source at this path.
    pub(super) fn leave_without_policy(&mut self, path: &str) {
        self.leave(
            path,
            Effect::Weaker,
            "no ImagePolicy was made: nothing to cover or to ask is left, or more than one can hold",
        );
    }

    /// Notes every field that nobody took.
    pub(super) fn leave_rest(&mut self, path: &str, rest: Map<String, Value>) {
        for (field, value) in rest {
            if is_nothing(&value) {
                continue;
            }
            self.leave(
                &format!("{path}.{field}"),
                Effect::Weaker,
                "this field is not known here, so what it asks for is not asked for",
            );
        }
    }

    /// Fields that do not change what is verified.
    pub(super) fn leave_out(
        &mut self,
        path: &str,
        from: &mut Map<String, Value>,
        fields: &[&str],
        why: &str,
    ) {
        for field in fields {
            if from.remove(*field).is_some_and(|value| !is_nothing(&value)) {
                self.leave(&format!("{path}.{field}"), Effect::None, why);
            }
        }
    }
}

/// The fields of an object; none of what is none.
pub(super) fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

/// Takes a field out.
pub(super) fn take(from: &mut Map<String, Value>, field: &str) -> Value {
    from.remove(field).unwrap_or_default()
}

/// Takes a list out.
pub(super) fn take_list(from: &mut Map<String, Value>, field: &str) -> Vec<Value> {
    match take(from, field) {
        Value::Array(entries) => entries,
        Value::Null => Vec::new(),
        one => vec![one],
    }
}

/// Takes a text out; None where there is none or an empty one.
pub(super) fn take_text(from: &mut Map<String, Value>, field: &str) -> Option<String> {
    match take(from, field) {
        Value::String(text) if !text.is_empty() => Some(text),
        _ => None,
    }
}

/// The texts of a list.
pub(super) fn take_texts(from: &mut Map<String, Value>, field: &str) -> Vec<String> {
    let entries = take_list(from, field).into_iter();
    entries
        .filter_map(|entry| entry.as_str().map(str::to_owned))
        .collect()
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(entries) => entries.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}
