//! CEL expressions over attestations: read once, evaluated within a bound.
//!
//! The grammar is that of the `cel` crate, whose parser reads the text. Its interpreter has no limit on what an
//! evaluation costs, and copies parts of its input at each step, so the evaluation is done here: over borrowed
//! values, each step paid from a fixed budget ([`BUDGET`]). `translate` turns the parsed text into [`node::Node`] and
//! refuses what is not supported, so that a policy never holds an expression that cannot be evaluated; `machine`
//! evaluates it.
//!
//! Supported: literals, lists, selection, `has`, indexes, `in`, arithmetic, comparison, logic, `? :`, the macros `all`,
//! `exists`, `exists_one`, `map` and `filter`, and the functions of [`node::Function`].

mod machine;
mod node;
#[cfg(test)]
mod tests;
mod translate;
mod value;

use std::sync::Arc;

use serde_json::Value;

use self::machine::Machine;
use self::node::Node;

/// The longest text, in characters.
pub(crate) const MAX_CHARS: usize = 4096;
/// How deep an expression may nest.
const MAX_DEPTH: usize = 64;
/// How deep `all`, `exists`, `exists_one`, `map` and `filter` may nest in one another.
const MAX_LOOPS: usize = 4;
/// How many steps one evaluation may take: a scan report of 10,000 findings is looked through several times.
const BUDGET: u64 = 1_000_000;
/// The parser descends some forty frames for each level of an expression.
const PARSER_STACK: usize = 32 * 1024 * 1024;

/// A CEL expression that can be evaluated.
#[derive(Clone, Debug)]
pub(crate) struct Expression {
    root: Arc<Node>,
}

/// What an expression speaks about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Inputs<'a> {
    /// The whole in-toto statement.
    pub(crate) statement: &'a Value,
    /// Its predicate.
    pub(crate) predicate: &'a Value,
    /// Who signed it.
    pub(crate) signer: &'a Value,
    /// The image that is judged.
    pub(crate) image: &'a Value,
}

/// What came of an evaluation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Evaluation {
    /// The expression is true.
    True,
    /// The expression is false.
    False,
    /// It has no value, or one that is not a boolean: never a pass. A clause for people.
    Failed(String),
}

impl Expression {
    /// Reads an expression.
    ///
    /// # Errors
    /// What is wrong with it, as a clause.
    pub(crate) fn compile(source: &str) -> Result<Self, String> {
        let length = source.chars().count();
        if length > MAX_CHARS {
            return Err(format!("it has {length} characters; {MAX_CHARS} are allowed"));
        }
        let text = source.to_owned();
        // On a thread of its own: the parser recurses far deeper than the stack of a worker holds, and what it does
        // with any text must not end the caller.
        let reader = std::thread::Builder::new()
            .name("expression".into())
            .stack_size(PARSER_STACK)
            .spawn(move || translate::read(&text))
            .map_err(|error| format!("it could not be read: {error}"))?;
        let root = reader
            .join()
            .map_err(|_| "the parser cannot read it".to_owned())??;
        Ok(Self { root: Arc::new(root) })
    }

    /// Evaluates it within the budget.
    pub(crate) fn evaluate(&self, inputs: &Inputs<'_>) -> Evaluation {
        Machine::new(*inputs, BUDGET).run(&self.root)
    }
}
