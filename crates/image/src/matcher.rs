//! The matching machine under both kinds of glob: anchored, on bytes, in time proportional to pattern × text.

/// A compiled pattern: a literal beginning, then tokens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Matcher {
    prefix: Box<str>,
    tokens: Box<[Token]>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Token {
    Literal(u8),
    /// Any sequence without `/`, also the empty one.
    WithinComponent,
    /// Any sequence.
    Anything,
}

impl Matcher {
    pub(crate) fn new(tokens: &[Token]) -> Self {
        let literal = |token: &Token| match token {
            Token::Literal(byte) => Some(char::from(*byte)),
            Token::WithinComponent | Token::Anything => None,
        };
        let prefix: String = tokens.iter().map_while(literal).collect();
        let tokens = tokens[prefix.len()..].into();
        Self {
            prefix: prefix.into(),
            tokens,
        }
    }

    pub(crate) fn is_match(&self, text: &str) -> bool {
        let Some(rest) = text.strip_prefix(&*self.prefix) else {
            return false;
        };
        match &*self.tokens {
            [] => rest.is_empty(),
            [Token::Anything] => true,
            [Token::WithinComponent] => !rest.contains('/'),
            tokens => simulate(tokens, rest.as_bytes()),
        }
    }
}

/// Runs the pattern as an automaton whose state `i` means "the tokens before `i` are used up".
fn simulate(tokens: &[Token], text: &[u8]) -> bool {
    let mut now = vec![false; tokens.len() + 1];
    let mut next = now.clone();
    now[0] = true;
    skip_empty_wildcards(tokens, &mut now);
    for byte in text {
        next.fill(false);
        for (at, token) in tokens.iter().enumerate().filter(|(at, _)| now[*at]) {
            match token {
                Token::Literal(literal) => next[at + 1] |= literal == byte,
                Token::WithinComponent => next[at] |= *byte != b'/',
                Token::Anything => next[at] = true,
            }
        }
        skip_empty_wildcards(tokens, &mut next);
        std::mem::swap(&mut now, &mut next);
    }
    now[tokens.len()]
}

fn skip_empty_wildcards(tokens: &[Token], states: &mut [bool]) {
    for (at, token) in tokens.iter().enumerate() {
        if states[at] && !matches!(token, Token::Literal(_)) {
            states[at + 1] = true;
        }
    }
}
