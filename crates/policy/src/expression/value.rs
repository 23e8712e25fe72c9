//! The values of an evaluation: borrowed from the statement where they can be, shared where they were made.

use std::cmp::Ordering;
use std::rc::Rc;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value as Json};

/// A value. A clone costs nothing.
#[derive(Clone, Debug)]
pub(crate) enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Double(f64),
    Text(Text<'a>),
    Time(Timestamp),
    Span(SignedDuration),
    List(List<'a>),
    Map(&'a Map<String, Json>),
}

/// A text.
#[derive(Clone, Debug)]
pub(crate) enum Text<'a> {
    Found(&'a str),
    Made(Rc<str>),
}

/// A list.
#[derive(Clone, Debug)]
pub(crate) enum List<'a> {
    Found(&'a [Json]),
    Made(Rc<[Value<'a>]>),
}

impl Text<'_> {
    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::Found(text) => text,
            Self::Made(text) => text,
        }
    }
}

impl<'a> List<'a> {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Found(items) => items.len(),
            Self::Made(items) => items.len(),
        }
    }

    /// The item at this place; `Err` for a number that has no place among the values.
    pub(crate) fn get(&self, at: usize) -> Option<Result<Value<'a>, String>> {
        match self {
            Self::Found(items) => items.get(at).map(Value::of_json),
            Self::Made(items) => items.get(at).cloned().map(Ok),
        }
    }
}

impl<'a> Value<'a> {
    /// Whole numbers are integers, others are doubles.
    pub(crate) fn of_json(json: &'a Json) -> Result<Self, String> {
        Ok(match json {
            Json::Null => Self::Null,
            Json::Bool(value) => Self::Bool(*value),
            Json::String(text) => Self::Text(Text::Found(text)),
            Json::Array(items) => Self::List(List::Found(items)),
            Json::Object(fields) => Self::Map(fields),
            Json::Number(number) => match (number.as_i64(), number.is_f64(), number.as_f64()) {
                (Some(whole), _, _) => Self::Int(whole),
                (None, true, Some(double)) => Self::Double(double),
                _ => return Err(format!("the number {number} does not fit into 64 bits")),
            },
        })
    }

    pub(crate) fn made(text: &str) -> Self {
        Self::Text(Text::Made(text.into()))
    }

    /// As it is named to people.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Int(_) | Self::Double(_) => "a number",
            Self::Text(_) => "a string",
            Self::Time(_) => "a timestamp",
            Self::Span(_) => "a duration",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
        }
    }

    /// How much of it a comparison may have to look at, its items not counted.
    pub(crate) fn width(&self) -> usize {
        match self {
            Self::Text(text) => text.as_str().len() / 8 + 1,
            _ => 1,
        }
    }

    /// The order of two values of one kind; None where there is none.
    pub(crate) fn order(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Bool(one), Self::Bool(other)) => Some(one.cmp(other)),
            (Self::Text(one), Self::Text(other)) => Some(one.as_str().cmp(other.as_str())),
            (Self::Time(one), Self::Time(other)) => Some(one.cmp(other)),
            (Self::Span(one), Self::Span(other)) => Some(one.cmp(other)),
            (Self::Int(one), Self::Int(other)) => Some(one.cmp(other)),
            (Self::Double(one), Self::Double(other)) => one.partial_cmp(other),
            (Self::Int(one), Self::Double(other)) => order_mixed(*one, *other),
            (Self::Double(one), Self::Int(other)) => order_mixed(*other, *one).map(Ordering::reverse),
            _ => None,
        }
    }
}

/// Exact: a whole number beyond 2^53 is not rounded to meet a double.
fn order_mixed(whole: i64, double: f64) -> Option<Ordering> {
    const BEYOND: f64 = 9_223_372_036_854_775_808.0;
    if double.is_nan() {
        return None;
    }
    if double >= BEYOND {
        return Some(Ordering::Less);
    }
    if double < -BEYOND {
        return Some(Ordering::Greater);
    }
    let floor = double.floor();
    // In range: checked above.
    let floored = floor as i64;
    Some(whole.cmp(&floored).then(if double > floor {
        Ordering::Less
    } else {
        Ordering::Equal
    }))
}

/// A time as RFC 3339 writes it.
pub(crate) fn time(text: &str) -> Result<Timestamp, String> {
    text.parse()
        .map_err(|_| format!("{} is no time (RFC 3339)", shown(text)))
}

/// A duration such as `72h` or `1h30m`.
pub(crate) fn span(text: &str) -> Result<SignedDuration, String> {
    let duration = api::parse_duration(text).map_err(|error| error.to_string())?;
    SignedDuration::try_from(duration).map_err(|_| format!("{} is too long", shown(text)))
}

/// A text from outside, short enough for a message.
pub(crate) fn shown(text: &str) -> String {
    const LONGEST: usize = 60;
    let short: String = text.chars().take(LONGEST).collect();
    if short.len() < text.len() {
        format!("{:?}…", short)
    } else {
        format!("{short:?}")
    }
}
