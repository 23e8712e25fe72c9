//! An expression after it was read: every name is resolved, every function known.

use jiff::{SignedDuration, Timestamp};
use regex::Regex;

/// One step of an expression.
#[derive(Debug)]
pub(crate) enum Node {
    Null,
    Bool(bool),
    Int(i64),
    Double(f64),
    Text(Box<str>),
    Time(Timestamp),
    Span(SignedDuration),
    List(Vec<Node>),
    Input(Input),
    /// A variable of a loop: its place among all that are in scope.
    Local(usize),
    Select {
        of: Box<Node>,
        field: Box<str>,
    },
    Has {
        of: Box<Node>,
        field: Box<str>,
    },
    Index {
        of: Box<Node>,
        at: Box<Node>,
    },
    Not(Box<Node>),
    Negate(Box<Node>),
    /// True where the operand is false for certain only; what the macros stop at.
    NotStrictlyFalse(Box<Node>),
    And(Box<Node>, Box<Node>),
    Or(Box<Node>, Box<Node>),
    If {
        condition: Box<Node>,
        then: Box<Node>,
        otherwise: Box<Node>,
    },
    Binary(Operator, Box<Node>, Box<Node>),
    Call(Function, Vec<Node>),
    Matches {
        text: Box<Node>,
        pattern: Regex,
    },
    Fold(Box<Fold>),
    Collect(Box<Collect>),
}

/// What an expression is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    Statement,
    Predicate,
    Signer,
    Image,
}

/// An operator of two operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    In,
}

/// A function, called as `f(x, y)` or as `x.f(y)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Function {
    Size,
    Contains,
    StartsWith,
    EndsWith,
    ToText,
    ToInt,
    ToDouble,
    ToTime,
    ToSpan,
}

/// A loop that carries one value: `all`, `exists`, `exists_one`.
#[derive(Debug)]
pub(crate) struct Fold {
    pub(crate) range: Node,
    pub(crate) start: Node,
    pub(crate) proceed: Node,
    pub(crate) step: Node,
    pub(crate) result: Node,
}

/// A loop that builds a list: `map`, `filter`.
#[derive(Debug)]
pub(crate) struct Collect {
    pub(crate) range: Node,
    pub(crate) when: Option<Node>,
    pub(crate) item: Node,
}

impl Function {
    /// The function of this name with this many arguments, the receiver counted.
    pub(crate) fn find(name: &str, arguments: usize) -> Option<Self> {
        Some(match (name, arguments) {
            ("size", 1) => Self::Size,
            ("contains", 2) => Self::Contains,
            ("startsWith", 2) => Self::StartsWith,
            ("endsWith", 2) => Self::EndsWith,
            ("string", 1) => Self::ToText,
            ("int", 1) => Self::ToInt,
            ("double", 1) => Self::ToDouble,
            ("timestamp", 1) => Self::ToTime,
            ("duration", 1) => Self::ToSpan,
            _ => return None,
        })
    }
}

/// The functions as they are named to people.
pub(crate) const FUNCTIONS: &str =
    "size, contains, startsWith, endsWith, matches, string, int, double, timestamp, duration";
