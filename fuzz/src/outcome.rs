//! What an input led to, as far as the engine cares: two inputs with different outcomes took different ways.

use std::collections::hash_map::DefaultHasher;
use std::fmt::Display;
use std::hash::{Hash, Hasher};

/// The outcome of one input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Outcome(pub(crate) u64);

/// Outcomes of several questions about one input.
#[derive(Default)]
pub(crate) struct Outcomes(DefaultHasher);

impl Outcomes {
    /// Adds an answer: that it was a success, or the words of the refusal without what quotes the input.
    pub(crate) fn note<T, E: Display>(&mut self, answer: &Result<T, E>) -> &mut Self {
        match answer {
            Ok(_) => 0_u8.hash(&mut self.0),
            Err(error) => words(&error.to_string()).for_each(|word| word.hash(&mut self.0)),
        }
        self
    }

    /// Adds a small number.
    pub(crate) fn count(&mut self, number: usize) -> &mut Self {
        number.min(8).hash(&mut self.0);
        self
    }

    pub(crate) fn done(&self) -> Outcome {
        Outcome(self.0.finish())
    }
}

/// The words that a message is made of, without quotations, numbers and digests.
fn words(message: &str) -> impl Iterator<Item = &str> {
    let unquoted = message.split('"').step_by(2);
    unquoted
        .flat_map(|part| part.split(' '))
        .filter(|word| word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b','))
        .take(24)
}
