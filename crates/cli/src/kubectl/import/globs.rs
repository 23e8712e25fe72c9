//! Patterns of other tools into patterns of ours.

use image::RepositoryGlob;

/// What a pattern became, and what of it was lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Glob {
    /// None where nothing could be made of it.
    pub(super) pattern: Option<String>,
    /// It said something of tags or digests.
    pub(super) lost_tag: bool,
}

/// policy-controller: `*` stops at a slash, `**` crosses it, and the reference may be followed by a tag or digest.
pub(super) fn of_policy_controller(written: &str) -> Glob {
    let (repository, lost_tag) = without_tag(written);
    let repository = match repository.strip_prefix("index.docker.io/") {
        Some(rest) => format!("docker.io/{rest}"),
        None => repository,
    };
    usable(repository, lost_tag)
}

/// Kyverno: `*` crosses slashes, `?` is one letter.
pub(super) fn of_kyverno(written: &str) -> Glob {
    let (repository, lost_tag) = without_tag(written);
    let mut pattern = String::new();
    for letter in repository.chars() {
        match letter {
            '*' if pattern.ends_with("**") => {}
            '*' => pattern.push_str("**"),
            // One letter is less than any: the policy covers more.
            '?' if pattern.ends_with('*') => {}
            '?' => pattern.push('*'),
            letter => pattern.push(letter),
        }
    }
    usable(pattern, lost_tag)
}

/// The part before the tag or digest; a pattern of all tags loses nothing.
fn without_tag(written: &str) -> (String, bool) {
    let (name, digest) = match written.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (written, None),
    };
    let (repository, tag) = match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, Some(tag)),
        _ => (name, None),
    };
    let all = |part: Option<&str>| part.is_none_or(|part| matches!(part, "*" | "**" | "sha256:*"));
    (repository.to_owned(), !(all(tag) && all(digest)))
}

fn usable(pattern: String, lost_tag: bool) -> Glob {
    let pattern = pattern.to_lowercase();
    Glob {
        pattern: pattern.parse::<RepositoryGlob>().is_ok().then_some(pattern),
        lost_tag,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(glob: Glob) -> String {
        glob.pattern.unwrap_or_default()
    }

    #[test]
    fn a_star_of_kyverno_crosses_slashes_and_one_of_policy_controller_does_not() {
        assert_eq!(pattern(of_kyverno("ghcr.io/acme/*")), "ghcr.io/acme/**");
        assert_eq!(pattern(of_kyverno("ghcr.io/acme*")), "ghcr.io/acme**");
        assert_eq!(pattern(of_kyverno("*")), "**");
        assert_eq!(pattern(of_policy_controller("ghcr.io/acme/*")), "ghcr.io/acme/*");
        assert_eq!(pattern(of_policy_controller("**")), "**");
        assert_eq!(
            pattern(of_policy_controller("index.docker.io/library/*")),
            "docker.io/library/*"
        );
        for (glob, matches) in [("ghcr.io/acme**", true), ("ghcr.io/acme*", false)] {
            let glob: RepositoryGlob = glob.parse().unwrap();
            let deep: image::Reference = "ghcr.io/acme/shop/web".parse().unwrap();
            assert_eq!(glob.matches(&deep.repository), matches, "{glob:?}");
        }
    }

    #[test]
    fn a_tag_that_narrows_is_told_and_one_that_does_not_is_none() {
        assert!(!of_kyverno("ghcr.io/acme/web:*").lost_tag);
        assert!(!of_policy_controller("localhost:5000/web").lost_tag);
        assert!(of_kyverno("ghcr.io/acme/web:23.7.*").lost_tag);
        assert!(of_policy_controller("ghcr.io/acme/web@sha256:aa").lost_tag);
        assert_eq!(
            pattern(of_kyverno("localhost:5000/web:1.?")),
            "localhost:5000/web"
        );
    }
}
