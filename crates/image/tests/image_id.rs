//! Every shape of `imageID` that runtimes write (B32, C3.08).

#![allow(clippy::unwrap_used, clippy::expect_used)]

use assay_image::{Digest, ImageId};

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn digest() -> Digest {
    DIGEST.parse().unwrap()
}

fn pulled(repository: Option<&str>) -> ImageId {
    ImageId::Pulled {
        repository: repository.map(|text| text.parse().unwrap()),
        digest: digest(),
    }
}

#[test]
fn c3_08_what_was_pulled_gives_repository_and_digest() {
    let shapes = [
        format!("registry.example.com/shop/web@{DIGEST}"),
        format!("docker-pullable://registry.example.com/shop/web@{DIGEST}"),
        format!("registry.example.com/shop/web:v1@{DIGEST}"),
    ];
    for shape in shapes {
        assert_eq!(
            ImageId::parse(&shape),
            pulled(Some("registry.example.com/shop/web")),
            "{shape}"
        );
    }
    assert_eq!(
        ImageId::parse(&format!("docker.io/library/nginx@{DIGEST}")),
        pulled(Some("nginx"))
    );
}

#[test]
fn c3_08_the_digest_counts_even_where_the_repository_does_not_parse() {
    for shape in [
        format!("<none>@{DIGEST}"),
        format!("@{DIGEST}"),
        format!("docker-pullable://Bad/Name@{DIGEST}"),
    ] {
        assert_eq!(ImageId::parse(&shape), pulled(None), "{shape}");
    }
}

/// Weakened once: with a bare digest taken for what was pulled, it is.
#[test]
fn b32_a_config_digest_is_told_apart() {
    let bare = DIGEST.replace("sha256:", "");
    for shape in [DIGEST.to_owned(), format!("docker://{DIGEST}"), bare] {
        assert_eq!(
            ImageId::parse(&shape),
            ImageId::ConfigOnly { digest: digest() },
            "{shape}"
        );
    }
}

#[test]
fn b32_an_empty_id_means_not_started() {
    assert_eq!(ImageId::parse(""), ImageId::NotStarted);
}

#[test]
fn b32_anything_else_is_unreadable_and_never_a_digest() {
    let hex = DIGEST.replace("sha256:", "");
    let shapes = [
        " ".to_owned(),
        "nginx".to_owned(),
        "nginx:latest".to_owned(),
        "nginx@sha256:abc".to_owned(),
        format!("docker-pullable://{DIGEST}"),
        format!("docker://nginx@{DIGEST}"),
        format!("containerd://{hex}"),
        format!("nginx@{DIGEST} "),
        format!("nginx@{}", DIGEST.to_uppercase()),
        format!("nginx@{DIGEST}@latest"),
        "x".repeat(100_000),
    ];
    for shape in shapes {
        match ImageId::parse(&shape) {
            ImageId::Unreadable(text) => assert!(text.chars().count() <= 101),
            other => panic!("{shape} became {other:?}"),
        }
    }
}
