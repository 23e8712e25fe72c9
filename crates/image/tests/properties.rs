//! Properties over arbitrary text: nothing panics, the normal form is stable (B22, F22).

#![allow(clippy::unwrap_used, clippy::expect_used)]

use assay_image::{Digest, ImageId, NameGlob, Reference, Repository, RepositoryGlob, normalise_registry};
use proptest::prelude::*;

/// Texts that look enough like names to get past the first checks.
fn name_like() -> impl Strategy<Value = String> {
    "((LOCALHOST|[a-zA-Z0-9.-]{1,12}|\\[[0-9a-f:]{2,12}\\])(:[0-9]{1,6})?/)?[a-zA-Z0-9._-]{1,8}(/[a-z0-9._-]{1,6}){0,3}(:[a-zA-Z0-9._-]{0,6})?"
}

fn pattern_like() -> impl Strategy<Value = String> {
    "([a-z*.]{1,8}(:[0-9*]{1,4})?/)?[a-z*_-]{1,6}(/[a-z*]{1,4}){0,3}"
}

fn valid_repository() -> impl Strategy<Value = String> {
    "([a-z]{1,3}\\.[a-z]{1,3}(:5000)?/)?[ab]{1,4}(/[ab]{1,4}){0,3}"
}

/// The definition of a glob, written the slow and obvious way.
fn naive(pattern: &[u8], text: &[u8]) -> bool {
    match pattern {
        [] => text.is_empty(),
        [b'*', b'*', rest @ ..] => (0..=text.len()).any(|taken| naive(rest, &text[taken..])),
        [b'*', rest @ ..] => {
            let component = text.iter().position(|byte| *byte == b'/').unwrap_or(text.len());
            (0..=component).any(|taken| naive(rest, &text[taken..]))
        }
        [byte, rest @ ..] => text.first() == Some(byte) && naive(rest, &text[1..]),
    }
}

/// A pattern with the registry that it means.
fn with_registry(pattern: &str) -> String {
    let (first, rest) = pattern.split_once('/').unwrap_or((pattern, ""));
    let is_registry = first.contains(['.', ':']) || ["localhost", "*", "**"].contains(&first);
    match (is_registry, rest.is_empty()) {
        (true, _) => pattern.to_owned(),
        (false, true) => format!("docker.io/library/{pattern}"),
        (false, false) => format!("docker.io/{pattern}"),
    }
}

proptest! {
    #[test]
    fn no_text_makes_a_parser_panic(text in any::<String>()) {
        let _taken = (
            text.parse::<Digest>().is_ok(),
            text.parse::<Reference>().is_ok(),
            text.parse::<Repository>().is_ok(),
            text.parse::<RepositoryGlob>().is_ok(),
            text.parse::<NameGlob>().is_ok(),
            normalise_registry(&text).is_ok(),
            ImageId::parse(&text),
        );
    }

    #[test]
    fn b22_normalising_is_idempotent(text in name_like()) {
        if let Ok(reference) = text.parse::<Reference>() {
            let again: Reference = reference.to_string().parse().expect("the normal form parses");
            prop_assert_eq!(&again, &reference);
            let repository: Repository = reference.repository.to_string().parse().expect("the normal form parses");
            prop_assert_eq!(repository, reference.repository);
        }
    }

    #[test]
    fn b22_a_normal_repository_as_a_pattern_matches_itself(text in name_like()) {
        if let Ok(repository) = text.parse::<Repository>() {
            let written = repository.to_string();
            if written.len() <= 255 {
                let glob: RepositoryGlob = written.parse().expect("a repository is a pattern");
                prop_assert!(glob.matches(&repository));
            }
        }
    }

    #[test]
    fn b22_a_repository_url_keeps_host_and_path(text in name_like()) {
        if let Ok(repository) = text.parse::<Repository>() {
            prop_assert_eq!(format!("{}/{}", repository.registry(), repository.path()), repository.as_str());
            prop_assert!(!repository.path().split('/').any(|part| part.is_empty() || part == "." || part == ".."));
            prop_assert!(!repository.registry().ends_with(".:443"));
        }
    }

    #[test]
    fn b20_matching_is_as_defined(pattern in "[ab]{1,2}\\.[ab*]{1,3}(/[ab*]{1,5}){1,3}", repository in valid_repository()) {
        let repository: Repository = repository.parse().expect("valid by construction");
        if let Ok(glob) = pattern.parse::<RepositoryGlob>() {
            prop_assert_eq!(glob.matches(&repository), naive(pattern.as_bytes(), repository.as_str().as_bytes()));
        }
    }

    #[test]
    fn b20_a_pattern_without_a_registry_means_docker_hub(pattern in pattern_like(), repository in name_like()) {
        // The port 443 is left out of normal names.
        prop_assume!(!pattern.contains(":443/"));
        if let (Ok(glob), Ok(repository)) = (pattern.parse::<RepositoryGlob>(), repository.parse::<Repository>()) {
            let expected = naive(with_registry(&pattern).as_bytes(), repository.as_str().as_bytes());
            prop_assert_eq!(glob.matches(&repository), expected);
        }
    }
}
