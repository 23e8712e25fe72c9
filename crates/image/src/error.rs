//! What can be wrong with an image name. One enum a module of the crate; all messages quote what was found,
//! shortened and escaped, because it comes from whoever may create a pod.

/// Why a text is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// There is no `algorithm:` in front.
    #[error("digest {found:?} names no algorithm: write it as sha256:<64 hex digits>")]
    NoAlgorithm {
        /// The text, shortened.
        found: String,
    },
    /// The algorithm is neither sha256 nor sha512.
    #[error("digest {found:?} uses an algorithm that is not supported: use sha256 or sha512")]
    UnsupportedAlgorithm {
        /// The text, shortened.
        found: String,
    },
    /// The part after the colon has the wrong length.
    #[error("digest {found:?} has {length} characters after the colon where {algorithm} has {expected}")]
    Length {
        /// The text, shortened.
        found: String,
        /// `sha256` or `sha512`.
        algorithm: &'static str,
        /// Characters found.
        length: usize,
        /// Characters expected.
        expected: usize,
    },
    /// The part after the colon is not lower-case hexadecimal.
    #[error("digest {found:?} holds a character that is not a lower-case hexadecimal digit")]
    NotHex {
        /// The text, shortened.
        found: String,
    },
}

/// Why a text is not an image reference or a repository.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// Nothing at all.
    #[error("the image reference is empty")]
    Empty,
    /// More characters than any valid reference has.
    #[error("the image reference {found:?} has {length} characters; {limit} are allowed")]
    TooLong {
        /// The text, shortened.
        found: String,
        /// Bytes found.
        length: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// It begins like a URL.
    #[error("the image reference {found:?} holds a scheme: leave {scheme:?} out")]
    Scheme {
        /// The text, shortened.
        found: String,
        /// What to leave out.
        scheme: String,
    },
    /// The registry's host is not one.
    #[error("the registry {found:?} is not a valid host: {why}")]
    Host {
        /// The host part, shortened.
        found: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// An upper-case letter in the repository.
    #[error("the repository {found:?} holds an upper-case letter: repositories are lower case")]
    UpperCase {
        /// The repository, shortened.
        found: String,
    },
    /// The path is not of the grammar of the OCI distribution specification.
    #[error(
        "the repository {found:?} is not valid at {component:?}: a component is lower-case letters and digits, \
         separated by one `.`, one or two `_`, or any number of `-`"
    )]
    Path {
        /// The repository, shortened.
        found: String,
        /// The component that is wrong, shortened.
        component: String,
    },
    /// An image id of a runtime where a name is wanted.
    #[error("{found:?} is the id of a local image, not a name that a registry knows")]
    LocalId {
        /// The text, shortened.
        found: String,
    },
    /// The tag is not of the grammar.
    #[error(
        "the tag {found:?} is not valid: up to 128 letters, digits, `_`, `.` and `-`, not beginning with `.` or `-`"
    )]
    Tag {
        /// The tag, shortened.
        found: String,
    },
    /// A tag or a digest where only a repository is wanted.
    #[error("{found:?} names a tag or a digest where a repository is wanted: leave it out")]
    NotARepository {
        /// The text, shortened.
        found: String,
    },
    /// The digest after the `@` is wrong.
    #[error("the image reference {found:?}: {source}")]
    Digest {
        /// The text, shortened.
        found: String,
        /// What is wrong with the digest.
        source: DigestError,
    },
}

/// Why a text is not a pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GlobError {
    /// Nothing at all.
    #[error("the pattern is empty: write `**` to mean every repository")]
    Empty,
    /// More than 255 characters.
    #[error("the pattern {found:?} has {length} characters; {limit} are allowed")]
    TooLong {
        /// The pattern, shortened.
        found: String,
        /// Bytes found.
        length: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// It begins like a URL.
    #[error("the pattern {found:?} holds a scheme: leave `https://` out")]
    Scheme {
        /// The pattern, shortened.
        found: String,
    },
    /// It names a tag.
    #[error(
        "the pattern {found:?} names a tag: patterns match repositories only, leave `:` and what follows out"
    )]
    Tag {
        /// The pattern, shortened.
        found: String,
    },
    /// It names a digest.
    #[error(
        "the pattern {found:?} names a digest: patterns match repositories only, leave `@` and what follows out"
    )]
    Digest {
        /// The pattern, shortened.
        found: String,
    },
    /// An upper-case letter.
    #[error("the pattern {found:?} holds an upper-case letter: repositories are compared in lower case")]
    UpperCase {
        /// The pattern, shortened.
        found: String,
    },
    /// A character that no repository holds and that is not a wildcard.
    #[error(
        "the pattern {found:?} holds {character:?}, which no name can hold: only `*` and `**` are wildcards"
    )]
    Character {
        /// The pattern, shortened.
        found: String,
        /// The first such character.
        character: char,
    },
    /// An empty component, or a literal component that no repository can have.
    #[error("the pattern {found:?} can match no repository: {component:?} is not a valid path component")]
    Component {
        /// The pattern, shortened.
        found: String,
        /// The component, shortened.
        component: String,
    },
    /// The host part is literal and not a host, or can match none.
    #[error("the pattern {found:?} names {host:?}, which is not a valid registry host: {why}")]
    Host {
        /// The pattern, shortened.
        found: String,
        /// Its first component.
        host: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// It can be read in two ways.
    #[error("the pattern {found:?} can be read in two ways: write {suggestions}")]
    Ambiguous {
        /// The pattern, shortened.
        found: String,
        /// The unambiguous ways to write it.
        suggestions: String,
    },
    /// Three or more stars in a row.
    #[error(
        "the pattern {found:?} holds `***`: use `*` within one path component and `**` across components"
    )]
    TooManyStars {
        /// The pattern, shortened.
        found: String,
    },
    /// `**` within the host.
    #[error(
        "the pattern {found:?} holds `**` within the registry's host, where it would also match paths of other \
         registries: use `*` there, or `**` as the whole first component"
    )]
    CrossingHost {
        /// The pattern, shortened.
        found: String,
    },
}

/// The text as messages may show it: at most 100 characters.
pub(crate) fn shown(text: &str) -> String {
    const LIMIT: usize = 100;
    if text.chars().nth(LIMIT).is_none() {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(LIMIT).collect();
    short.push('…');
    short
}
