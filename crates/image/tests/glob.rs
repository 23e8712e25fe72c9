//! Patterns: what they match, what they never match (B20, B21, B22), what is refused.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::{Duration, Instant};

use assay_image::{GlobError, NameGlob, Reference, Repository, RepositoryGlob};

fn matches(pattern: &str, repository: &str) -> bool {
    let glob: RepositoryGlob = pattern
        .parse()
        .unwrap_or_else(|error| panic!("{pattern}: {error}"));
    let repository: Repository = repository
        .parse()
        .unwrap_or_else(|error| panic!("{repository}: {error}"));
    glob.matches(&repository)
}

fn refused(pattern: &str) -> GlobError {
    match pattern.parse::<RepositoryGlob>() {
        Ok(_) => panic!("{pattern:?} was taken for a pattern"),
        Err(error) => error,
    }
}

/// Weakened once: with one star taken for two, it does.
#[test]
fn b20_a_star_never_crosses_a_slash() {
    assert!(matches("*.trusted.io/org/*", "x.trusted.io/org/app"));
    assert!(!matches("*.trusted.io/org/*", "evil.io/x.trusted.io/org/app"));
    assert!(!matches("*.trusted.io/org/*", "x.trusted.io/org/app/deeper"));
    assert!(!matches("*.trusted.io/org/*", "x.trusted.io.evil.io/org/app"));
    assert!(!matches("*.trusted.io/org/*", "trusted.io/org/app"));
    assert!(!matches("*.trusted.io/org/*", "x.trusted.io:5000/org/app"));
    assert!(matches("trusted.io/shop/*", "trusted.io/shop/app"));
    assert!(!matches("trusted.io/shop/*", "trusted.io/shop/app/deeper"));
    assert!(!matches("trusted.io/*/app", "trusted.io/a/b/app"));
    assert!(!matches("*/app", "evil.io/trusted.io/app"));
    assert!(matches("*/app", "registry.example.com:5000/app"));
}

#[test]
fn b20_patterns_are_anchored_at_both_ends() {
    assert!(!matches("trusted.io/org/app", "trusted.io/org/app-evil"));
    assert!(!matches("trusted.io/org/app", "trusted.io/org/app/evil"));
    assert!(!matches("trusted.io/org/*", "nottrusted.io/org/app"));
    assert!(!matches("trusted.io/org/**", "evil.io/trusted.io/org/app"));
    assert!(!matches("gcr.io/team/**", "gcr.io/team-evil/app"));
    assert!(!matches("trusted.io/org", "trusted.io:5000/org"));
}

#[test]
fn two_stars_cross_slashes() {
    assert!(matches(
        "registry.example.com/shop/**",
        "registry.example.com/shop/web"
    ));
    assert!(matches(
        "registry.example.com/shop/**",
        "registry.example.com/shop/a/b/c"
    ));
    assert!(!matches(
        "registry.example.com/shop/**",
        "registry.example.com/shop"
    ));
    assert!(matches(
        "registry.example.com/**/web",
        "registry.example.com/a/b/web"
    ));
    assert!(!matches(
        "registry.example.com/**/web",
        "registry.example.com/a/b/web2"
    ));
    assert!(matches(
        "registry.example.com/shop**",
        "registry.example.com/shop-a/b"
    ));
    assert!(matches("**", "nginx"));
    assert!(matches("**", "registry.example.com/a/b/c"));
    assert!(matches("**/web", "registry.example.com/a/b/web"));
    assert!(matches("docker.io/**", "acme/web"));
    assert!(!matches("docker.io/**", "registry.example.com/docker.io/web"));
}

#[test]
fn stars_stand_anywhere_in_a_component_and_match_nothing_too() {
    assert!(matches("r.io/a*", "r.io/a"));
    assert!(matches("r.io/*-api", "r.io/shop-api"));
    assert!(!matches("r.io/*-api", "r.io/api"));
    assert!(matches("r.io/a*b*c", "r.io/abbbc"));
    assert!(matches("r.io/a*b*c", "r.io/aXbXc".to_lowercase().as_str()));
    assert!(!matches("r.io/a*b*c", "r.io/abcd"));
    assert!(matches("r.io/*a*/**b", "r.io/xay/c/d/eb"));
    assert!(!matches("r.io/*a*/**b", "r.io/x/ay/c/d/eb"));
    assert!(matches("r.io:*/web", "r.io:5000/web"));
}

/// Weakened once: without the check for a colon in the path, a pattern over tags is read.
#[test]
fn b21_neither_tag_nor_digest_selects_a_policy() {
    let digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let written: Reference = format!("registry.example.com/app:exempt-1@{digest}")
        .parse()
        .unwrap();
    let exempt: RepositoryGlob = "registry.example.com/*exempt*".parse().unwrap();
    assert!(!exempt.matches(&written.repository));
    for pattern in [
        "registry.example.com/app:exempt-*",
        "app:exempt-*",
        "registry.example.com/app:*",
        "**/app:v1",
    ] {
        assert!(matches!(refused(pattern), GlobError::Tag { .. }), "{pattern}");
    }
    assert!(matches!(
        refused("registry.example.com/app@sha256:*"),
        GlobError::Digest { .. }
    ));
    assert!(matches!(
        refused(&format!("app@{digest}")),
        GlobError::Digest { .. }
    ));
}

#[test]
fn b22_a_pattern_is_normalised_like_a_reference() {
    for pattern in [
        "nginx",
        "library/nginx",
        "docker.io/nginx",
        "index.docker.io/library/nginx",
        "ngin*",
    ] {
        assert!(matches(pattern, "nginx"), "{pattern}");
        assert!(
            matches(pattern, "registry-1.docker.io/library/nginx"),
            "{pattern}"
        );
        assert!(
            !matches(pattern, "registry.example.com/library/nginx"),
            "{pattern}"
        );
        assert!(!matches(pattern, "acme/nginx"), "{pattern}");
    }
    assert!(matches("acme/*", "docker.io/acme/web"));
    assert!(!matches("acme/*", "acme.io/acme/web"));
    assert!(matches("docker.io/*", "nginx"));
    assert!(!matches("docker.io/*", "acme/web"));
    assert!(matches(
        "registry.example.com:443/web",
        "registry.example.com/web"
    ));
    assert!(matches("registry.example.com./web", "registry.example.com/web"));
    assert!(matches("localhost:5000/*", "localhost:5000/web"));
    assert!(matches("[::1]:5000/*", "[0::1]:5000/web"));
    assert!(!matches(
        "registry.example.com/*",
        "registry.example.com:5000/web"
    ));
}

#[test]
fn patterns_that_could_mislead_are_refused() {
    assert!(matches!(refused(""), GlobError::Empty));
    assert!(matches!(refused("*"), GlobError::Ambiguous { .. }));
    assert!(matches!(refused("acme*/app"), GlobError::Ambiguous { .. }));
    assert!(matches!(refused("**app"), GlobError::Ambiguous { .. }));
    assert!(matches!(
        refused("**.trusted.io/app"),
        GlobError::CrossingHost { .. }
    ));
    assert!(matches!(refused("r.io/***"), GlobError::TooManyStars { .. }));
    assert!(matches!(refused("R.io/app"), GlobError::UpperCase { .. }));
    assert!(matches!(refused("r.io/App"), GlobError::UpperCase { .. }));
    assert!(matches!(refused("https://r.io/app"), GlobError::Scheme { .. }));
    for pattern in [
        "r.io/a?",
        "r.io/{a,b}",
        "r.io/a b",
        "r.io/\u{e9}",
        "!r.io/a",
        "^r.io/a$",
        "r.io/a\\*",
        "(?i)a",
    ] {
        assert!(
            matches!(refused(pattern), GlobError::Character { .. }),
            "{pattern}"
        );
    }
    for pattern in [
        "r.io/",
        "r.io//a",
        "r.io/a/",
        "/a",
        "r.io/a..b",
        "r.io/-a",
        "r.io/[ab]",
        "r.io/[ab]*",
        "r.io/a/../b",
    ] {
        assert!(
            matches!(refused(pattern), GlobError::Component { .. }),
            "{pattern}"
        );
    }
    for pattern in [
        "*:443/a",
        "*.r.io:443/a",
        "*.r.io./a",
        "xn--a.io/a",
        "*.xn--a.io/a",
        "a_b.io/a",
        "1.2.3/a",
        "r./a",
    ] {
        assert!(matches!(refused(pattern), GlobError::Host { .. }), "{pattern}");
    }
    assert!(matches!(
        refused(&format!("r.io/{}", "a".repeat(251))),
        GlobError::TooLong { length: 256, .. }
    ));
    assert!(
        format!("r.io/{}", "a".repeat(250))
            .parse::<RepositoryGlob>()
            .is_ok()
    );
}

#[test]
fn matching_takes_no_exponential_time() {
    let pattern = format!("r.io/{}b", "*a".repeat(120));
    let glob: RepositoryGlob = pattern.parse().unwrap();
    let crossing: RepositoryGlob = format!("r.io/{}b", "**a".repeat(80)).parse().unwrap();
    let repository: Repository = format!("r.io/{}", "a".repeat(255)).parse().unwrap();
    let begin = Instant::now();
    for _ in 0..10 {
        assert!(!glob.matches(&repository));
        assert!(!crossing.matches(&repository));
    }
    assert!(begin.elapsed() < Duration::from_secs(5));
}

#[test]
fn names_of_namespaces_match_whole() {
    let name = |pattern: &str, text: &str| pattern.parse::<NameGlob>().unwrap().matches(text);
    assert!(name("shop", "shop"));
    assert!(!name("shop", "shop-2"));
    assert!(name("shop-*", "shop-eu-1"));
    assert!(!name("shop-*", "shop"));
    assert!(!name("shop-*", "my-shop-1"));
    assert!(name("*", "anything"));
    assert!(name("*-system", "kube-system"));
    assert!(name("a*b*c", "a-b-b-c"));
    for wrong in ["", "Shop", "a/b", "a.b", "a?", "a b", &"a".repeat(256)] {
        assert!(wrong.parse::<NameGlob>().is_err(), "{wrong:?}");
    }
}

#[test]
fn patterns_are_strings_in_json_and_come_back_as_written() {
    let glob: RepositoryGlob = serde_json::from_str("\"nginx\"").unwrap();
    assert_eq!(
        (glob.as_str(), serde_json::to_string(&glob).unwrap().as_str()),
        ("nginx", "\"nginx\"")
    );
    assert!(serde_json::from_str::<RepositoryGlob>("\"*\"").is_err());
    assert!(serde_json::from_str::<NameGlob>("\"A\"").is_err());
}
