//! References and repositories: one normal form (B22, C3.15), everything else refused with a reason.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use assay_image::{Reference, ReferenceError, Repository, is_tag, normalise_registry};

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn repository(text: &str) -> String {
    text.parse::<Repository>()
        .unwrap_or_else(|error| panic!("{text}: {error}"))
        .to_string()
}

fn reference(text: &str) -> Reference {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// Weakened once: without the other names of Docker Hub, they are other repositories.
#[test]
fn b22_every_spelling_of_a_repository_is_one_repository() {
    let spellings = [
        (
            "docker.io/library/nginx",
            vec![
                "nginx",
                "library/nginx",
                "docker.io/nginx",
                "docker.io/library/nginx",
                "index.docker.io/nginx",
                "index.docker.io/library/nginx",
                "registry-1.docker.io/library/nginx",
                "Docker.IO/nginx",
                "docker.io:443/nginx",
                "docker.io./nginx",
                "INDEX.docker.io.:443/library/nginx",
            ],
        ),
        ("docker.io/acme/web", vec!["acme/web", "docker.io/acme/web"]),
        (
            "registry.example.com/shop/web",
            vec![
                "registry.example.com/shop/web",
                "REGISTRY.Example.com/shop/web",
                "registry.example.com:443/shop/web",
                "registry.example.com./shop/web",
                "registry.example.com.:0443/shop/web",
            ],
        ),
        (
            "registry.example.com:5000/web",
            vec!["registry.example.com:5000/web", "registry.example.com:05000/web"],
        ),
        (
            "localhost/web",
            vec!["localhost/web", "LOCALHOST:443/web", "localhost./web"],
        ),
        ("localhost:5000/web", vec!["localhost:5000/web"]),
        ("registry:443/web", vec!["registry:443/web", "registry.:443/web"]),
        (
            "[::1]:5000/web",
            vec!["[::1]:5000/web", "[0:0:0:0:0:0:0:1]:5000/web"],
        ),
        (
            "127.0.0.1:5000/a/b_c/d__e/f---g/h.i",
            vec!["127.0.0.1:5000/a/b_c/d__e/f---g/h.i"],
        ),
    ];
    for (normal, texts) in spellings {
        for text in texts {
            assert_eq!(repository(text), normal, "{text}");
        }
        assert_eq!(repository(normal), normal);
    }
}

#[test]
fn a_repository_gives_its_parts_and_where_to_ask() {
    let hub: Repository = "nginx".parse().unwrap();
    assert_eq!(
        (hub.registry(), hub.path(), hub.api_host()),
        ("docker.io", "library/nginx", "registry-1.docker.io")
    );
    let own: Repository = "registry.example.com:5000/shop/web".parse().unwrap();
    assert_eq!(own.registry(), "registry.example.com:5000");
    assert_eq!(own.path(), "shop/web");
    assert_eq!(own.api_host(), "registry.example.com:5000");
}

#[test]
fn c3_15_tag_and_digest_may_stand_alone_together_or_not_at_all() {
    let neither = reference("registry.example.com:5000/shop/web");
    assert_eq!(
        (neither.clone().tag(), neither.digest.clone(), neither.is_pinned()),
        (Some("latest"), None, false)
    );
    let tagged = reference("nginx:1.29-alpine");
    assert_eq!((tagged.tag(), tagged.is_pinned()), (Some("1.29-alpine"), false));
    let pinned = reference(&format!("nginx@{DIGEST}"));
    assert_eq!(
        (pinned.clone().tag(), pinned.digest),
        (None, Some(DIGEST.parse().unwrap()))
    );
    let both = reference(&format!("localhost:5000/web:v1@{DIGEST}"));
    assert_eq!((both.tag(), both.is_pinned()), (Some("v1"), true));
    assert_eq!(both.to_string(), format!("localhost:5000/web:v1@{DIGEST}"));
    let long = format!("sha512:{}", "ab".repeat(64));
    assert!(reference(&format!("web@{long}")).is_pinned());
}

#[test]
fn c3_15_upper_case_in_the_repository_is_refused_with_that_reason() {
    for text in ["Nginx", "acme/Web", "registry.example.com/Shop/web", "Acme/web"] {
        let error = text.parse::<Reference>().unwrap_err();
        assert!(
            matches!(error, ReferenceError::UpperCase { .. }),
            "{text}: {error}"
        );
        assert!(error.to_string().contains("lower case"), "{error}");
    }
    assert_eq!(reference("nginx:UPPER").tag(), Some("UPPER"));
}

#[test]
fn b22_hosts_that_could_pass_for_others_are_refused() {
    let hosts = [
        "xn--exmple-cua.com",
        "a.xn--b.com",
        "exämple.com",
        "exаmple.com",
        "registry..com",
        ".example.com",
        "-a.com",
        "a-.com",
        "a_b.com",
        "example.com:0",
        "example.com:65536",
        "example.com:",
        "example.com:5000:1",
        "example.com:+443",
        "[::1",
        "[::1]x:5000",
        "[fe80::1%25eth0]:5000",
        "0x7f.1",
        "127.1:5000",
        "010.0.0.1",
        "256.1.1.1",
        "1.2.3.4.5",
        "example.com..",
        "user:pw",
        "foo.",
    ];
    for host in hosts {
        let text = format!("{host}/web");
        assert!(text.parse::<Repository>().is_err(), "{text} was taken");
        assert!(text.parse::<Reference>().is_err(), "{text} was taken");
    }
    let label = format!("{}.com/web", "a".repeat(64));
    assert!(label.parse::<Repository>().is_err());
    let host = format!("{}/web", vec!["a".repeat(50); 6].join("."));
    assert!(host.parse::<Repository>().is_err());
}

#[test]
fn what_is_not_of_the_grammar_is_refused() {
    let long_path = format!("r.io/{}", "a".repeat(256));
    let cases = [
        "",
        " ",
        "nginx ",
        " nginx",
        "nginx\n",
        "/nginx",
        "nginx/",
        "a//b",
        "r.io/",
        "r.io//a",
        "a/../b",
        "a/./b",
        "r.io/a..b",
        "r.io/a___b",
        "r.io/_a",
        "r.io/a_",
        "r.io/a-",
        "r.io/-a",
        "r.io/a._b",
        "nginx:",
        "nginx:-a",
        "nginx:.a",
        "nginx:a b",
        "nginx:a:b",
        "nginx@",
        "nginx@latest",
        "nginx@sha256:abc",
        "@sha256:abc",
        ":tag",
        "https://r.io/a",
        "docker-pullable://r.io/a",
        "r.io/a?b",
        "r.io/a#b",
        "r.io/a%2f",
        "r.io/é",
        "a/b:5000/c",
        "r.io/a\0b",
        "<none>",
        long_path.as_str(),
    ];
    for case in cases {
        assert!(
            case.parse::<Reference>().is_err(),
            "{case:?} was taken for a reference"
        );
    }
    assert!(format!("nginx@{DIGEST}@{DIGEST}").parse::<Reference>().is_err());
    assert!(format!("nginx:{}", "a".repeat(129)).parse::<Reference>().is_err());
}

#[test]
fn ids_of_local_images_are_not_names() {
    let hex = &DIGEST["sha256:".len()..];
    for text in [hex, DIGEST] {
        let error = text.parse::<Reference>().unwrap_err();
        assert!(matches!(error, ReferenceError::LocalId { .. }), "{error}");
    }
}

#[test]
fn a_repository_takes_neither_tag_nor_digest() {
    let pinned = format!("r.io/a@{DIGEST}");
    for text in ["r.io/a:1", "nginx:1", "localhost:5000", pinned.as_str()] {
        let error = text.parse::<Repository>().unwrap_err();
        assert!(
            matches!(error, ReferenceError::NotARepository { .. }),
            "{text}: {error}"
        );
    }
}

#[test]
fn tags_follow_the_distribution_grammar() {
    for tag in [
        "latest",
        "v1.2.3",
        "_x",
        "A-b_c.D",
        "sha256-abc.sig",
        &"a".repeat(128),
    ] {
        assert!(is_tag(tag), "{tag}");
    }
    for tag in ["", ".a", "-a", "a/b", "a:b", "a b", "é", "../a", &"a".repeat(129)] {
        assert!(!is_tag(tag), "{tag}");
    }
}

#[test]
fn registries_normalise_alone_as_in_a_reference() {
    assert_eq!(
        normalise_registry("Registry.Example.com:443").unwrap(),
        "registry.example.com"
    );
    assert_eq!(normalise_registry("index.docker.io").unwrap(), "docker.io");
    assert_eq!(normalise_registry("127.0.0.1:5000").unwrap(), "127.0.0.1:5000");
    for wrong in ["", "registry", "http://r.io", "r.io/path", "r.io:http"] {
        assert!(normalise_registry(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn names_are_strings_in_json() {
    let repository: Repository = serde_json::from_str("\"nginx\"").unwrap();
    assert_eq!(
        serde_json::to_string(&repository).unwrap(),
        "\"docker.io/library/nginx\""
    );
    let reference: Reference = serde_json::from_str("\"nginx:1\"").unwrap();
    assert_eq!(
        serde_json::to_string(&reference).unwrap(),
        "\"docker.io/library/nginx:1\""
    );
    assert!(serde_json::from_str::<Repository>("\"Nginx\"").is_err());
}

#[test]
fn messages_stay_short_whatever_was_written() {
    for text in [
        "A".repeat(100_000),
        "é".repeat(700),
        format!("nginx:{}", "-".repeat(900)),
    ] {
        let message = text.parse::<Reference>().unwrap_err().to_string();
        assert!(message.len() < 600, "{} bytes", message.len());
    }
}
