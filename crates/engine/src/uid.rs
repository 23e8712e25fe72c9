//! The uid of an object in a few bytes: the API server makes it a UUID, whose text takes five times as much.

use std::fmt;
use std::sync::Arc;

/// The length of a UUID's text.
const TEXT: usize = 36;
/// Where the hyphens stand.
const HYPHENS: [usize; 4] = [8, 13, 18, 23];

/// The uid of an object. Two are the same where their texts are.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Uid(Form);

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Form {
    /// A UUID in the form that the API server writes.
    Uuid([u8; 16]),
    /// Anything else, as it is written.
    Text(Arc<str>),
}

impl From<&str> for Uid {
    fn from(text: &str) -> Self {
        Uid(uuid(text).map_or_else(|| Form::Text(text.into()), Form::Uuid))
    }
}

impl From<String> for Uid {
    fn from(text: String) -> Self {
        text.as_str().into()
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Form::Text(text) => out.write_str(text),
            Form::Uuid(bytes) => {
                for (at, byte) in bytes.iter().enumerate() {
                    if matches!(at, 4 | 6 | 8 | 10) {
                        out.write_str("-")?;
                    }
                    write!(out, "{byte:02x}")?;
                }
                Ok(())
            }
        }
    }
}

/// The bytes of a UUID in lower case with hyphens; None for every other text, so that the text can be had back.
fn uuid(text: &str) -> Option<[u8; 16]> {
    if text.len() != TEXT {
        return None;
    }
    let mut bytes = [0; 16];
    let mut digits = 0;
    for (at, letter) in text.bytes().enumerate() {
        if HYPHENS.contains(&at) {
            if letter != b'-' {
                return None;
            }
            continue;
        }
        let digit = match letter {
            b'0'..=b'9' => letter - b'0',
            b'a'..=b'f' => letter - b'a' + 10,
            _ => return None,
        };
        bytes[digits / 2] = bytes[digits / 2] << 4 | digit;
        digits += 1;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_comes_back_as_it_was() {
        for text in [
            "0f8fad5b-d9cb-469f-a165-70867728950e",
            "0F8FAD5B-D9CB-469F-A165-70867728950E",
            "0f8fad5bd9cb-469f-a165-70867728950e0",
            "0f8fad5b-d9cb-469f-a165-7086772895-e",
            "0f8fad5b-d9cb-469f-a165-70867728950g",
            "rs",
            "",
            "ü",
        ] {
            assert_eq!(Uid::from(text).to_string(), text);
        }
    }

    #[test]
    fn only_what_the_api_server_writes_is_made_small() {
        let small = |text: &str| matches!(Uid::from(text), Uid(Form::Uuid(_)));
        assert!(small("0f8fad5b-d9cb-469f-a165-70867728950e"));
        assert!(!small("0F8FAD5B-D9CB-469F-A165-70867728950E"));
        assert!(!small("rs"));
        assert_ne!(
            Uid::from("0f8fad5b-d9cb-469f-a165-70867728950e"),
            Uid::from("0F8FAD5B-D9CB-469F-A165-70867728950E"),
            "uids are texts"
        );
    }
}
