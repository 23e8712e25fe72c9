//! Manifests, tags and blobs: what was fetched is what was asked for, and only a 404 is absence.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use assay_registry::{Document, Error, ErrorKind, Referrers, TagHint};
use support::{
    FakeRegistry, INDEX, MANIFEST, client, digest, index, manifest, oci_error, reply, repository, scripted,
};

#[tokio::test]
async fn a_manifest_is_fetched_by_digest_and_taken_apart() {
    let fake = scripted(|_, _| reply(200, &[("content-type", MANIFEST)], manifest())).await;
    let asked = digest(manifest());
    let found = client(&[&fake])
        .manifest(&repository(&fake), &asked)
        .await
        .unwrap();
    assert_eq!(
        (found.digest, found.media_type.as_str()),
        (asked.clone(), MANIFEST)
    );
    assert_eq!(found.bytes, manifest());
    let Document::Image {
        config,
        layers,
        subject: None,
        ..
    } = found.document
    else {
        panic!("{:?}", found.document)
    };
    assert_eq!((config.digest, config.size), (digest("{}"), 2));
    assert_eq!(layers[0].digest, digest("layer"));
    let seen = &fake.seen()[0];
    assert_eq!(seen.target, format!("/v2/shop/web/manifests/{asked}"));
    assert!(seen.headers["accept"].to_str().unwrap().contains(INDEX));
    assert!(seen.headers["user-agent"].to_str().unwrap().starts_with("assay/"));
    assert!(!seen.headers.contains_key("accept-encoding"));
}

#[tokio::test]
async fn c3_11_content_with_another_hash_is_refused_whatever_the_header_says() {
    let fake = scripted(|seen, _| {
        let asked = seen.path().rsplit('/').next().unwrap().to_owned();
        reply(
            200,
            &[("content-type", MANIFEST), ("docker-content-digest", &asked)],
            manifest(),
        )
    })
    .await;
    let client = client(&[&fake]);
    let asked = digest("something else");
    let error = client.manifest(&repository(&fake), &asked).await.unwrap_err();
    let Error::DigestMismatch { expected, found, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!((&**expected, &**found), (&asked, &digest(manifest())));
    assert!(error.to_string().contains(&fake.host()), "{error}");
    let error = client
        .blob(&repository(&fake), &asked, 1 << 20)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DigestMismatch);
}

#[tokio::test]
async fn b11_a_tag_has_the_digest_of_the_bytes_received_not_of_the_header() {
    let lie = digest("lie").to_string();
    let fake = scripted(move |_, _| {
        reply(
            200,
            &[("content-type", MANIFEST), ("docker-content-digest", &lie)],
            manifest(),
        )
    })
    .await;
    let found = client(&[&fake])
        .tagged_manifest(&repository(&fake), "v1")
        .await
        .unwrap()
        .unwrap();
    assert_eq!(found.digest, digest(manifest()));
    assert_eq!(fake.seen()[0].path(), "/v2/shop/web/manifests/v1");
}

#[tokio::test]
async fn sha512_digests_are_checked_too() {
    let fake = scripted(|_, _| reply(200, &[], manifest())).await;
    let client = client(&[&fake]);
    let right = image::Digest::sha512(manifest().as_bytes());
    assert_eq!(
        client.manifest(&repository(&fake), &right).await.unwrap().digest,
        right
    );
    let wrong = client
        .manifest(&repository(&fake), &image::Digest::sha512(b""))
        .await
        .unwrap_err();
    assert_eq!(wrong.kind(), ErrorKind::DigestMismatch);
}

#[tokio::test]
async fn only_404_is_absence() {
    for (status, code, kind) in [
        (403, "DENIED", ErrorKind::Denied),
        (403, "MANIFEST_UNKNOWN", ErrorKind::Denied),
        (401, "UNAUTHORIZED", ErrorKind::Denied),
        (429, "TOOMANYREQUESTS", ErrorKind::RateLimited),
        (400, "MANIFEST_UNKNOWN", ErrorKind::Unavailable),
        (405, "UNSUPPORTED", ErrorKind::Unavailable),
        (410, "MANIFEST_UNKNOWN", ErrorKind::Unavailable),
        (204, "NONE", ErrorKind::Unavailable),
        (304, "NONE", ErrorKind::Unavailable),
        (500, "UNKNOWN", ErrorKind::Unavailable),
        (503, "UNAVAILABLE", ErrorKind::Unavailable),
    ] {
        let fake = scripted(move |_, _| oci_error(status, code)).await;
        let repository = repository(&fake);
        let kinds = [
            client(&[&fake])
                .tagged_manifest(&repository, "v1")
                .await
                .map(|_| ())
                .unwrap_err(),
            client(&[&fake])
                .head_tag(&repository, "v1")
                .await
                .map(|_| ())
                .unwrap_err(),
            client(&[&fake])
                .manifest(&repository, &digest(""))
                .await
                .map(|_| ())
                .unwrap_err(),
            client(&[&fake])
                .referrers(&repository, &digest(""))
                .await
                .map(|_| ())
                .unwrap_err(),
            client(&[&fake])
                .blob(&repository, &digest(""), 10)
                .await
                .map(|_| ())
                .unwrap_err(),
        ];
        for error in kinds {
            assert_eq!(error.kind(), kind, "HTTP {status}: {error}");
            assert_eq!(error.place().repository, repository);
        }
    }
    let fake = scripted(|_, _| oci_error(404, "MANIFEST_UNKNOWN")).await;
    let (client, repository) = (client(&[&fake]), repository(&fake));
    assert_eq!(client.tagged_manifest(&repository, "v1").await, Ok(None));
    assert_eq!(client.head_tag(&repository, "v1").await, Ok(None));
    let missing = client.manifest(&repository, &digest("")).await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    let missing = client.blob(&repository, &digest(""), 10).await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
}

/// Where the registry redirects to, a storage that lost something or a web server that knows no such path answers 404 as
/// well; only another registry says what is missing. Fails on a build that takes every 404 for the registry's.
#[tokio::test]
async fn a_404_from_where_a_redirect_leads_is_an_absence_only_where_it_says_what_is_missing() {
    let redirecting = async |other: &FakeRegistry| {
        let target = format!("http://{}/elsewhere", other.host());
        scripted(move |_, _| reply(307, &[("location", &target)], "")).await
    };
    let storage = scripted(|_, _| reply(404, &[], "<Error><Code>NoSuchKey</Code></Error>")).await;
    let fake = redirecting(&storage).await;
    let (asking, from) = (client(&[&fake, &storage]), repository(&fake));
    for error in [
        asking.tagged_manifest(&from, "v1").await.map(|_| ()).unwrap_err(),
        asking.manifest(&from, &digest("")).await.map(|_| ()).unwrap_err(),
        asking
            .referrers(&from, &digest(""))
            .await
            .map(|_| ())
            .unwrap_err(),
        asking.blob(&from, &digest(""), 10).await.map(|_| ()).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    }
    // A HEAD has no body that would tell: the GET does.
    assert_eq!(asking.head_tag(&from, "v1").await, Ok(Some(TagHint::NoDigest)));
    let registry = scripted(|_, _| oci_error(404, "MANIFEST_UNKNOWN")).await;
    let fake = redirecting(&registry).await;
    let (asking, from) = (client(&[&fake, &registry]), repository(&fake));
    assert_eq!(asking.tagged_manifest(&from, "v1").await, Ok(None));
    let missing = asking.manifest(&from, &digest("")).await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    assert_eq!(
        asking.referrers(&from, &digest("")).await,
        Ok(Referrers::Unsupported)
    );
}

#[tokio::test]
async fn a_denial_names_the_codes_and_what_to_do_but_quotes_no_message() {
    let fake = scripted(|_, _| oci_error(403, "DENIED")).await;
    let error = client(&[&fake])
        .manifest(&repository(&fake), &digest(""))
        .await
        .unwrap_err();
    assert!(matches!(
        error,
        Error::Denied {
            status: Some(403),
            ..
        }
    ));
    let text = error.to_string();
    for part in [
        "HTTP 403 (DENIED)",
        "docker config",
        &repository(&fake).to_string(),
    ] {
        assert!(text.contains(part), "{text}");
    }
}

#[tokio::test]
async fn a_head_gives_a_hint_and_fetches_nothing() {
    let claimed = digest("claimed");
    let text = claimed.to_string();
    let fake = scripted(move |seen, _| match seen.path().rsplit('/').next().unwrap() {
        "good" => reply(200, &[("docker-content-digest", &text)], ""),
        "odd" => reply(200, &[("docker-content-digest", "sha256:../..")], ""),
        _ => reply(200, &[], ""),
    })
    .await;
    let (client, repository) = (client(&[&fake]), repository(&fake));
    assert_eq!(
        client.head_tag(&repository, "good").await,
        Ok(Some(TagHint::Digest(claimed)))
    );
    assert_eq!(
        client.head_tag(&repository, "odd").await,
        Ok(Some(TagHint::NoDigest))
    );
    assert_eq!(
        client.head_tag(&repository, "none").await,
        Ok(Some(TagHint::NoDigest))
    );
    assert!(fake.seen().iter().all(|seen| seen.method == "HEAD"));
}

#[tokio::test]
async fn b18_a_tag_that_is_none_is_refused_before_anything_is_sent() {
    let fake = scripted(|_, _| reply(200, &[], manifest())).await;
    let (client, repository) = (client(&[&fake]), repository(&fake));
    for tag in ["", "../../x", "a/b", "a?b", "a b", &"a".repeat(129)] {
        let error = client.tagged_manifest(&repository, tag).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed, "{error}");
        assert!(client.head_tag(&repository, tag).await.is_err());
    }
    assert_eq!(fake.count(), 0);
}

#[tokio::test]
async fn a_blob_is_returned_byte_for_byte() {
    let fake = scripted(|_, _| reply(200, &[("content-type", "application/octet-stream")], "payload")).await;
    let blob = client(&[&fake])
        .blob(&repository(&fake), &digest("payload"), 7)
        .await
        .unwrap();
    assert_eq!(blob, "payload");
    assert_eq!(
        fake.seen()[0].path(),
        format!("/v2/shop/web/blobs/{}", digest("payload"))
    );
}

/// The kind of error for a tag whose manifest has this type and body.
async fn refused(content_type: &'static str, body: String) -> String {
    let shown = body.clone();
    let fake = scripted(move |_, _| reply(200, &[("content-type", content_type)], body.clone())).await;
    match client(&[&fake]).tagged_manifest(&repository(&fake), "v1").await {
        Err(error @ Error::Malformed { .. }) => error.to_string(),
        other => panic!("{shown} gave {other:?}"),
    }
}

#[tokio::test]
async fn b13_a_document_that_is_both_index_and_manifest_is_refused() {
    let both = manifest().replacen('{', r#"{"manifests":[],"#, 1);
    for content_type in [MANIFEST, INDEX, "application/json"] {
        assert!(refused(content_type, both.clone()).await.contains("both"));
    }
    refused(MANIFEST, manifest().replacen('{', r#"{"manifests":null,"#, 1)).await;
    refused(MANIFEST, manifest().replacen('{', r#"{"Manifests":[],"#, 1)).await;
    refused(INDEX, index(&[]).replacen('{', r#"{"layers":[],"#, 1)).await;
}

#[tokio::test]
async fn b13_a_media_type_that_contradicts_the_document_is_refused() {
    refused(INDEX, manifest()).await;
    refused(MANIFEST, index(&["a"])).await;
    refused(MANIFEST, manifest().replace(MANIFEST, INDEX)).await;
    refused(INDEX, index(&[]).replace(INDEX, MANIFEST)).await;
    refused("application/vnd.docker.distribution.manifest.v2+json", manifest()).await;
    refused("application/json", manifest().replace(MANIFEST, INDEX)).await;
    refused("application/json", index(&[]).replace(INDEX, MANIFEST)).await;
    refused(
        "application/json",
        manifest().replace(MANIFEST, "application/vnd.example"),
    )
    .await;
}

#[tokio::test]
async fn what_is_no_manifest_is_refused() {
    let good = manifest();
    let bodies = [
        String::new(),
        "null".to_owned(),
        "<html>".to_owned(),
        "{}".to_owned(),
        good[..good.len() - 1].to_owned(),
        good.clone() + "x",
        good.replace("\"schemaVersion\":2", "\"schemaVersion\":1"),
        good.replace("sha256:", "sha256:../"),
        good.replace("sha256:", "md5:"),
        good.replace("\"size\":5", "\"size\":-5"),
        good.replace("\"size\":5", "\"size\":5,\"size\":6"),
        good.replace("\"layers\"", "\"layers\":[],\"layers\""),
        good.replace("\"config\"", "\"fsLayers\""),
        r#"{"schemaVersion":2,"manifests":null}"#.to_owned(),
        r#"{"schemaVersion":2,"config":null,"layers":[]}"#.to_owned(),
    ];
    for body in bodies {
        refused("application/json", body).await;
    }
}

#[tokio::test]
async fn documents_of_docker_and_without_a_media_type_are_read() {
    const DOCKER: &str = "application/vnd.docker.distribution.manifest.v2+json";
    let fake = scripted(|seen, _| match seen.path().rsplit('/').next().unwrap() {
        "docker" => reply(200, &[("content-type", DOCKER)], manifest().replace(MANIFEST, DOCKER)),
        "bare" => {
            let bare = index(&["a", "b"]).replace(&format!("\"mediaType\":\"{INDEX}\","), "");
            reply(200, &[("content-type", "text/plain; charset=utf-8")], bare)
        }
        _ => {
            let attested = index(&["a"]).replace(
                "\"size\":1",
                r#""size":1,"platform":{"architecture":"arm64","os":"linux","variant":"v8"},"annotations":{"Size":"x"}"#,
            );
            reply(200, &[("content-type", INDEX)], attested)
        }
    })
    .await;
    let (client, repository) = (client(&[&fake]), repository(&fake));
    let docker = client
        .tagged_manifest(&repository, "docker")
        .await
        .unwrap()
        .unwrap();
    assert_eq!(docker.media_type, DOCKER);
    let bare = client
        .tagged_manifest(&repository, "bare")
        .await
        .unwrap()
        .unwrap();
    assert_eq!(bare.media_type, INDEX);
    assert!(matches!(bare.document, Document::Index { children } if children.len() == 2));
    let platform = client
        .tagged_manifest(&repository, "platform")
        .await
        .unwrap()
        .unwrap();
    let Document::Index { children } = platform.document else {
        panic!("not an index")
    };
    assert!(children[0].platform.as_ref().unwrap().is_real());
    assert_eq!(children[0].annotations["Size"], "x");
}
