//! JSON in which every reader finds the same thing: no duplicate keys, no keys that differ in case alone,
//! bounded depth and size in memory, nothing after the value. Signed documents are read through this module only, since a second
//! reading of one signed text is how a signature for one image becomes a signature for another. What the
//! fields mean is the callers' concern.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Deeper than any statement in use, shallow enough for any stack.
const MAX_DEPTH: usize = 64;

/// What a value takes in memory beside its text: `[[0],[0],…]` takes forty times its length, `{"":0}` more.
const VALUE_BYTES: usize = 32;
const FILLED_LIST_BYTES: usize = 128;
const FILLED_OBJECT_BYTES: usize = 640;

/// What a document may take in memory beside its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    /// Bundles, envelopes, payloads of signatures: a few hundred values.
    Small,
    /// Statements: a bill of materials of 3 MiB.
    Large,
}

impl Room {
    fn bytes(self) -> usize {
        match self {
            Self::Small => 1024 * 1024,
            Self::Large => 32 * 1024 * 1024,
        }
    }
}

/// Why a text is not strict JSON.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum JsonError {
    #[error("not valid JSON: {0}")]
    Malformed(String),
    #[error("JSON nested deeper than {limit} levels")]
    TooDeep { limit: usize },
    #[error("JSON of so many values that it takes more than {limit} bytes of memory")]
    TooMany { limit: usize },
}

/// Reads exactly one JSON value.
pub(crate) fn parse(text: &[u8], room: Room) -> Result<Value, JsonError> {
    let too_deep = Cell::new(false);
    let left = Cell::new(Some(room.bytes()));
    let mut reader = serde_json::Deserializer::from_slice(text);
    let value = Strict {
        depth: 0,
        too_deep: &too_deep,
        left: &left,
    }
    .deserialize(&mut reader);
    match value.and_then(|value| reader.end().map(|()| value)) {
        Ok(value) => Ok(value),
        Err(_) if too_deep.get() => Err(JsonError::TooDeep { limit: MAX_DEPTH }),
        Err(_) if left.get().is_none() => Err(JsonError::TooMany { limit: room.bytes() }),
        Err(error) => Err(JsonError::Malformed(error.to_string())),
    }
}

/// An object that has only fields named here; `what` is its name in messages.
pub(crate) fn object<'a>(
    value: &'a Value,
    what: &str,
    allowed: &[&str],
) -> Result<&'a Map<String, Value>, String> {
    let fields = value
        .as_object()
        .ok_or_else(|| format!("{what} is not a JSON object"))?;
    match fields.keys().find(|key| !allowed.contains(&key.as_str())) {
        Some(unknown) => Err(format!(
            "{what} has an unknown field {unknown:?}; known are {}",
            allowed.join(", ")
        )),
        None => Ok(fields),
    }
}

/// A field that must be there.
pub(crate) fn field<'a>(fields: &'a Map<String, Value>, what: &str, name: &str) -> Result<&'a Value, String> {
    fields
        .get(name)
        .ok_or_else(|| format!("{what} lacks the field {name:?}"))
}

/// A field that must be there and be a string.
pub(crate) fn string<'a>(fields: &'a Map<String, Value>, what: &str, name: &str) -> Result<&'a str, String> {
    field(fields, what, name)?
        .as_str()
        .ok_or_else(|| format!("{what}.{name} is not a string"))
}

#[derive(Clone, Copy)]
struct Strict<'a> {
    depth: usize,
    too_deep: &'a Cell<bool>,
    /// The memory that is left; None when there was too little.
    left: &'a Cell<Option<usize>>,
}

impl Strict<'_> {
    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth == MAX_DEPTH {
            self.too_deep.set(true);
            return Err(E::custom("nested too deeply"));
        }
        Ok(Self {
            depth: self.depth + 1,
            ..self
        })
    }

    fn take<E: serde::de::Error>(self, bytes: usize) -> Result<(), E> {
        self.left
            .set(self.left.get().and_then(|left| left.checked_sub(bytes)));
        match self.left.get() {
            Some(_) => Ok(()),
            None => Err(E::custom("too many values")),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        self.take(VALUE_BYTES)?;
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| E::custom("a number that is not finite"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut values = Vec::new();
        while let Some(value) = items.next_element_seed(inner)? {
            if values.is_empty() {
                self.take(FILLED_LIST_BYTES)?;
            }
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut fields = Map::new();
        let mut folded_keys = std::collections::HashSet::new();
        while let Some(key) = entries.next_key::<String>()? {
            if fields.is_empty() {
                self.take(FILLED_OBJECT_BYTES)?;
            }
            if fields.contains_key(&key) {
                return Err(A::Error::custom(format!(
                    "the key {key:?} occurs twice in one object"
                )));
            }
            if !folded_keys.insert(fold_case(&key)) {
                return Err(A::Error::custom(format!(
                    "the key {key:?} and another differ in case alone"
                )));
            }
            let value = entries.next_value_seed(inner)?;
            fields.insert(key, value);
        }
        Ok(Value::Object(fields))
    }
}

/// Upper case first: it also joins letters that readers with Unicode folding take for ASCII ones (U+017F,
/// U+212A).
fn fold_case(key: &str) -> String {
    key.to_uppercase().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(text: &[u8]) -> Result<Value, JsonError> {
        super::parse(text, Room::Small)
    }

    /// B16, F04: a text of a megabyte must not take forty in memory.
    /// Weakened once: with nothing taken in `take`, each is read.
    #[test]
    fn b16_a_document_of_very_many_values_is_not_read() {
        for (inner, room) in [
            ("0", Room::Small),
            ("[0]", Room::Small),
            (r#"{"":0}"#, Room::Small),
            (r#"{"":0}"#, Room::Large),
        ] {
            let text = format!("[{}]", vec![inner; 100_000].join(","));
            assert_eq!(
                super::parse(text.as_bytes(), room).err(),
                Some(JsonError::TooMany { limit: room.bytes() }),
                "{inner}"
            );
            let text = format!("[{}]", vec![inner; 1_000].join(","));
            assert!(super::parse(text.as_bytes(), room).is_ok(), "{inner}");
        }
        assert!(super::parse(format!("{:?}", "x".repeat(1 << 20)).as_bytes(), Room::Small).is_ok());
    }

    fn refusal(text: &str) -> String {
        parse(text.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn plain_json_keeps_its_meaning() {
        let text = r#"{"a":[1,-2,3.5,"x",null,true],"b":{"c":"\u00e4"}}"#;
        assert_eq!(
            parse(text.as_bytes()).unwrap(),
            json!({"a": [1, -2, 3.5, "x", null, true], "b": {"c": "ä"}})
        );
    }

    #[test]
    fn b53_duplicate_keys_are_refused_at_every_depth() {
        assert!(refusal(r#"{"a":1,"a":1}"#).contains("occurs twice"));
        assert!(
            refusal(r#"[{"b":{"a":1,"\u0061":2}}]"#).contains("occurs twice"),
            "also when written as an escape"
        );
    }

    #[test]
    fn b53_keys_that_differ_in_case_alone_are_refused() {
        assert!(refusal(r#"{"subject":1,"Subject":2}"#).contains("case alone"));
        assert!(refusal("{\"critical\":1,\"cr\u{130}tical\":1,\"CRITICAL\":2}").contains("case alone"));
        assert!(
            refusal("{\"subject\":1,\"\u{17f}ubject\":2}").contains("case alone"),
            "long s folds to s in Go"
        );
        assert!(
            refusal("{\"kind\":1,\"\u{212a}ind\":2}").contains("case alone"),
            "the Kelvin sign folds to k in Go"
        );
    }

    #[test]
    fn what_follows_the_value_is_refused() {
        for text in [
            "{} {}",
            "{}x",
            "",
            "{",
            "\u{feff}{}",
            "{\"a\":NaN}",
            "{'a':1}",
            "{\"a\":1,}",
            "\"\u{1}\"",
        ] {
            assert!(
                matches!(parse(text.as_bytes()), Err(JsonError::Malformed(_))),
                "{text:?}"
            );
        }
        assert!(
            matches!(parse(b"{\"a\":\"\xff\"}"), Err(JsonError::Malformed(_))),
            "invalid UTF-8"
        );
        assert!(parse(b" {} \n").is_ok());
    }

    #[test]
    fn depth_is_bounded_and_told_apart_from_a_syntax_error() {
        let nested = |depth: usize| [vec![b'['; depth], vec![b']'; depth]].concat();
        assert!(parse(&nested(MAX_DEPTH)).is_ok());
        assert_eq!(
            parse(&nested(MAX_DEPTH + 1)),
            Err(JsonError::TooDeep { limit: MAX_DEPTH })
        );
        assert_eq!(
            parse(&vec![b'['; 1_000_000]),
            Err(JsonError::TooDeep { limit: MAX_DEPTH })
        );
    }

    #[test]
    fn an_object_with_a_field_nobody_knows_is_refused() {
        let value = json!({"a": 1, "A": 2});
        assert!(
            object(&value, "critical", &["a"])
                .unwrap_err()
                .contains("unknown field \"A\"")
        );
        assert!(
            object(&json!([]), "critical", &[])
                .unwrap_err()
                .contains("not a JSON object")
        );
    }
}
