//! JSON that means the same to every reader.
//!
//! Some readers take the last of two equal keys, some the first, and some match keys without regard to case. A
//! document in which that makes a difference is refused: no object may hold a key twice, and no key may equal a
//! field of the OCI image specification except for case.

use std::cell::Cell;
use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// The fields of an index, a manifest, a descriptor and a platform, in the case-folded form.
const FIELDS: [&str; 19] = [
    "annotations",
    "architecture",
    "artifacttype",
    "config",
    "data",
    "digest",
    "features",
    "layers",
    "manifests",
    "mediatype",
    "os",
    "os.features",
    "os.version",
    "platform",
    "schemaversion",
    "size",
    "subject",
    "urls",
    "variant",
];
/// Those of them that are not all lower case.
const MIXED_CASE: [&str; 3] = ["artifactType", "mediaType", "schemaVersion"];

/// More values than this are not read: a small document of very many is large once it is read.
pub(crate) const VALUES: u32 = 65_536;

/// Why a document is not read.
#[derive(Debug)]
pub(crate) enum Unread {
    /// Not JSON, not an object, too deep, or ambiguous.
    Invalid(serde_json::Error),
    /// It holds more than [`VALUES`] values.
    TooMany,
}

/// The keys of the top-level object of an unambiguous document.
///
/// # Errors
/// [`Unread`].
pub(crate) fn unambiguous_keys(document: &[u8]) -> Result<HashSet<String>, Unread> {
    let left = Cell::new(VALUES);
    let walk = Walk {
        named_fields: true,
        left: &left,
    };
    let mut reader = serde_json::Deserializer::from_slice(document);
    let keys = walk.deserialize(&mut reader).and_then(|keys| {
        reader.end()?;
        keys.ok_or_else(|| serde_json::Error::custom("it is not a JSON object"))
    });
    keys.map_err(|error| match left.get() {
        0 => Unread::TooMany,
        _ => Unread::Invalid(error),
    })
}

/// Walks a value of any type; gives the keys if it is an object.
#[derive(Clone, Copy)]
struct Walk<'a> {
    /// Whether the keys of objects are fields, rather than free text as in annotations.
    named_fields: bool,
    /// How many more values may come.
    left: &'a Cell<u32>,
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = Option<HashSet<String>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        self.left.set(self.left.get().saturating_sub(1));
        if self.left.get() == 0 {
            return Err(D::Error::custom("it holds too many values"));
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = Option<HashSet<String>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut keys = HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            if self.named_fields && is_misspelt_field(&key) {
                return Err(A::Error::custom(format!(
                    "the key {key:?} equals a field except for case"
                )));
            }
            map.next_value_seed(Self {
                named_fields: self.named_fields && key != "annotations",
                left: self.left,
            })?;
            if keys.contains(&key) {
                return Err(A::Error::custom(format!(
                    "the key {key:?} occurs twice in one object"
                )));
            }
            keys.insert(key);
        }
        Ok(Some(keys))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        while items.next_element_seed(self)?.is_some() {}
        Ok(None)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
}

fn is_misspelt_field(key: &str) -> bool {
    let folded = key.to_uppercase().to_lowercase();
    let exact = FIELDS.contains(&key) && !MIXED_CASE.iter().any(|field| field.eq_ignore_ascii_case(key));
    FIELDS.contains(&folded.as_str()) && !exact && !MIXED_CASE.contains(&key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b16_a_document_of_very_many_values_is_not_read() {
        let list = |count: u32| format!("{{\"layers\":[{}0]}}", "0,".repeat(count as usize));
        assert!(unambiguous_keys(list(VALUES - 10).as_bytes()).is_ok());
        let refused = unambiguous_keys(list(VALUES).as_bytes());
        assert!(matches!(refused, Err(Unread::TooMany)), "{refused:?}");
    }

    #[test]
    fn a_plain_document_gives_its_keys() {
        let keys = unambiguous_keys(
            br#"{"mediaType":"a","layers":[{"size":1.5e3,"annotations":{"Size":"x"}}],"x":null}"#,
        );
        let mut keys: Vec<String> = keys.unwrap().into_iter().collect();
        keys.sort();
        assert_eq!(keys, ["layers", "mediaType", "x"]);
    }

    #[test]
    fn b53_a_key_that_occurs_twice_or_in_another_case_is_refused() {
        let documents: [&[u8]; 9] = [
            br#"{"layers":[],"layers":[]}"#,
            br#"{"a":{"b":[{"c":1,"c":1}]}}"#,
            br#"{"annotations":{"a":"1","a":"2"}}"#,
            br#"{"Layers":[]}"#,
            br#"{"mediatype":"x"}"#,
            br#"{"layers":[{"Digest":"x"}]}"#,
            "{\"layer\u{17f}\":[]}".as_bytes(),
            "{\"variant\":1,\"\u{212a}\":1,\"manife\u{17f}ts\":[]}".as_bytes(),
            br#"{"a":1,"\u0061":2}"#,
        ];
        for document in documents {
            assert!(
                unambiguous_keys(document).is_err(),
                "{}",
                String::from_utf8_lossy(document)
            );
        }
    }

    #[test]
    fn what_is_no_object_is_refused_however_deep() {
        for document in ["", "[]", "null", "1", "{", "{}x", "{\"a\":}"] {
            assert!(unambiguous_keys(document.as_bytes()).is_err(), "{document}");
        }
        let deep = "{\"a\":".repeat(100_000);
        assert!(unambiguous_keys(deep.as_bytes()).is_err());
        let deep = "[".repeat(100_000);
        assert!(unambiguous_keys(deep.as_bytes()).is_err());
    }
}
