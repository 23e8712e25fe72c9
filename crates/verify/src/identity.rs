//! Which Fulcio identities a verifier accepts. A pattern must match the whole text; what a certificate says of
//! itself is read elsewhere.

use regex::{Regex, RegexBuilder};
use regex_syntax::ast::{self, Ast, Visitor};

use crate::claim::Identity;

/// Longer than any issuer or workflow in use.
const MAX_PATTERN_BYTES: usize = 2048;
/// What a compiled pattern may take in memory.
const MAX_COMPILED_BYTES: usize = 1024 * 1024;

/// The identities that are accepted: the issuer and the subject must both match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityMatcher {
    issuer: Pattern,
    subject: Pattern,
}

impl IdentityMatcher {
    /// Accepts the certificates of this issuer for this subject.
    #[must_use]
    pub fn new(issuer: Pattern, subject: Pattern) -> Self {
        Self { issuer, subject }
    }

    /// Whether this identity is accepted.
    #[must_use]
    pub fn matches(&self, identity: &Identity) -> bool {
        self.issuer.matches(&identity.issuer) && self.subject.matches(&identity.subject)
    }

    /// The pattern of the OIDC issuer.
    #[must_use]
    pub fn issuer(&self) -> &Pattern {
        &self.issuer
    }

    /// The pattern of the subject alternative name.
    #[must_use]
    pub fn subject(&self) -> &Pattern {
        &self.subject
    }
}

/// A text, or a regular expression (RE2 syntax) that must match a whole text.
#[derive(Debug, Clone)]
pub struct Pattern(Kind);

#[derive(Debug, Clone)]
enum Kind {
    Exact(String),
    Regex { written: String, anchored: Regex },
}

/// Why a text is no pattern for an issuer or a subject.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PatternError {
    /// Nothing is given.
    #[error("it is empty; give the issuer or the subject in full, or a regular expression for it")]
    Empty,
    /// The text is longer than any issuer or subject.
    #[error("it is {found} bytes long; at most {MAX_PATTERN_BYTES} are accepted")]
    TooLong {
        /// Bytes given.
        found: usize,
    },
    /// Not a regular expression.
    #[error("{written:?} is no regular expression in RE2 syntax: {why}")]
    Invalid {
        /// The expression.
        written: String,
        /// What is wrong with it.
        why: String,
    },
    /// Flags such as `(?m)` change what the anchors around the expression mean, or what its letters match.
    #[error(
        "{written:?} sets flags inside the expression; remove them: the whole text is matched, letter by letter"
    )]
    Flags {
        /// The expression.
        written: String,
    },
    /// An expression that nothing has to fulfil.
    #[error("{written:?} matches the empty text, so it asks for nothing; name what must be there")]
    MatchesNothing {
        /// The expression.
        written: String,
    },
}

impl Pattern {
    /// Exactly this text.
    ///
    /// # Errors
    /// [`PatternError`] if it is empty or too long.
    pub fn exact(text: &str) -> Result<Self, PatternError> {
        check_length(text)?;
        Ok(Self(Kind::Exact(text.to_owned())))
    }

    /// Any text that this regular expression (RE2 syntax, no flags) matches from its beginning to its end.
    ///
    /// # Errors
    /// [`PatternError`] if it does not compile alone, sets flags, or matches the empty text.
    pub fn regex(written: &str) -> Result<Self, PatternError> {
        check_length(written)?;
        let invalid = |why: String| PatternError::Invalid {
            written: written.to_owned(),
            why,
        };
        let tree = ast::parse::Parser::new()
            .parse(written)
            .map_err(|error| invalid(error.kind().to_string()))?;
        if sets_flags(&tree) {
            return Err(PatternError::Flags {
                written: written.to_owned(),
            });
        }
        // Alone first: `a)|(.*` is an expression only inside the group that anchors it.
        compile(written).map_err(|error| invalid(one_line(&error)))?;
        let anchored = compile(&format!(r"\A(?:{written})\z")).map_err(|error| invalid(one_line(&error)))?;
        if anchored.is_match("") {
            return Err(PatternError::MatchesNothing {
                written: written.to_owned(),
            });
        }
        Ok(Self(Kind::Regex {
            written: written.to_owned(),
            anchored,
        }))
    }

    /// Whether the whole text matches.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        match &self.0 {
            Kind::Exact(expected) => expected == text,
            Kind::Regex { anchored, .. } => anchored.is_match(text),
        }
    }

    /// The kind and the text, as they enter a fingerprint.
    pub(crate) fn canonical(&self) -> [&str; 2] {
        match &self.0 {
            Kind::Exact(text) => ["exact", text],
            Kind::Regex { written, .. } => ["regex", written],
        }
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.canonical() == other.canonical()
    }
}

impl Eq for Pattern {}

fn check_length(text: &str) -> Result<(), PatternError> {
    match text.len() {
        0 => Err(PatternError::Empty),
        found if found > MAX_PATTERN_BYTES => Err(PatternError::TooLong { found }),
        _ => Ok(()),
    }
}

fn compile(expression: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(expression)
        .size_limit(MAX_COMPILED_BYTES)
        .dfa_size_limit(MAX_COMPILED_BYTES)
        .build()
}

fn one_line(error: &regex::Error) -> String {
    error.to_string().replace('\n', " ")
}

fn sets_flags(tree: &Ast) -> bool {
    matches!(ast::visit(tree, FlagFinder), Err(FlagsFound))
}

struct FlagFinder;
struct FlagsFound;

impl Visitor for FlagFinder {
    type Output = ();
    type Err = FlagsFound;

    fn finish(self) -> Result<(), FlagsFound> {
        Ok(())
    }

    fn visit_pre(&mut self, node: &Ast) -> Result<(), FlagsFound> {
        let flagged = match node {
            Ast::Flags(_) => true,
            Ast::Group(group) => group.flags().is_some_and(|flags| !flags.items.is_empty()),
            _ => false,
        };
        if flagged { Err(FlagsFound) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn regex(text: &str) -> Pattern {
        Pattern::regex(text).unwrap()
    }

    #[test]
    fn an_exact_pattern_is_no_expression() {
        let pattern = Pattern::exact("https://example.com/a.b").unwrap();
        assert!(pattern.matches("https://example.com/a.b"));
        assert!(!pattern.matches("https://example.com/aXb"));
        assert!(!pattern.matches("https://example.com/a.b/"));
        assert_eq!(Pattern::exact(""), Err(PatternError::Empty));
    }

    /// B52. Weakened by parsing and compiling only the anchored form, the first expression accepts everything.
    #[test]
    fn b52_an_expression_that_breaks_out_of_its_anchors_is_refused() {
        for written in [
            "a)|(.*",
            "a)(",
            "(",
            "a|b)",
            "[",
            "a\\",
            "(?:",
            "*",
            "a{2000000000}",
        ] {
            assert!(
                matches!(Pattern::regex(written), Err(PatternError::Invalid { .. })),
                "{written}"
            );
        }
    }

    /// B52. Without the check `(?m)^a$` would match one line of a text, were it not for `\A` and `\z`; `(?i)` and
    /// `(?x)` change what the letters mean.
    #[test]
    fn b52_flags_inside_an_expression_are_refused() {
        for written in [
            "(?m)^a$",
            "(?i)a",
            "a(?s).b",
            "(?x)a # b",
            "(?i:a)",
            "a(?-u:b)",
            "(?R)a",
        ] {
            assert!(
                matches!(Pattern::regex(written), Err(PatternError::Flags { .. })),
                "{written}"
            );
        }
        for harmless in ["(?:a|b)", "(?P<name>a)", r"\(\?m\)a", "[(?m)]a"] {
            assert!(Pattern::regex(harmless).is_ok(), "{harmless}");
        }
    }

    /// B52. Weakened by leaving the check out, `.*` is a policy that trusts everybody.
    #[test]
    fn b52_an_expression_that_matches_the_empty_text_is_refused() {
        for written in [".*", "", "a?", "(a|)", "^$", "a*", "()", "a||b"] {
            assert!(
                matches!(
                    Pattern::regex(written),
                    Err(PatternError::MatchesNothing { .. } | PatternError::Empty)
                ),
                "{written}"
            );
        }
    }

    /// B52. Weakened by leaving `\A` and `\z` out, each of these matches.
    #[test]
    fn b52_an_expression_matches_the_whole_text_or_nothing() {
        let pattern = regex("https://github.com/acme/.+");
        assert!(pattern.matches("https://github.com/acme/shop"));
        for text in [
            "https://evil.example/https://github.com/acme/shop",
            "xhttps://github.com/acme/shop",
            "https://github.com/acme/shop\n",
            "\nhttps://github.com/acme/shop",
            "https://github.com/acme/shop\nhttps://evil.example",
            "https://github.com/acme/",
        ] {
            assert!(!pattern.matches(text), "{text:?}");
        }
        assert!(!regex("a|b").matches("ab"), "alternatives are anchored both");
        assert!(!regex("^a$").matches("a\n"));
    }

    #[test]
    fn a_pattern_has_bounds() {
        let long = "a".repeat(MAX_PATTERN_BYTES + 1);
        assert!(matches!(Pattern::exact(&long), Err(PatternError::TooLong { .. })));
        assert!(matches!(Pattern::regex(&long), Err(PatternError::TooLong { .. })));
        assert!(matches!(
            Pattern::regex("(a{1000}){1000}"),
            Err(PatternError::Invalid { .. })
        ));
    }
}
