//! Listing referrers: every page, bounded, on one host; unsupported only on 404.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use assay_registry::{Client, Descriptor, Error, ErrorKind, Referrers};
use image::Digest;
use support::{
    FakeRegistry, INDEX, client, descriptor, digest, endless, index, oci_error, options, reply, repository,
    scripted,
};

fn page(contents: &[&str], next: Option<&str>) -> axum::http::Response<axum::body::Body> {
    let link = next
        .map(|next| format!("<{next}>; rel=\"next\""))
        .unwrap_or_default();
    reply(200, &[("content-type", INDEX), ("link", &link)], index(contents))
}

fn digests(entries: &[Descriptor]) -> Vec<Digest> {
    entries.iter().map(|entry| entry.digest.clone()).collect()
}

async fn list(fake: &FakeRegistry) -> Result<Referrers, Error> {
    client(&[fake])
        .referrers(&repository(fake), &digest("subject"))
        .await
}

#[tokio::test]
async fn all_pages_are_listed_each_digest_once() {
    let fake = scripted(|seen, _| match seen.target.split('?').nth(1) {
        None => page(&["a", "b"], Some("?n=2")),
        Some("n=2") => page(&["b", "c"], Some("/v2/shop/web/referrers/x?n=3")),
        _ => page(&["d"], None),
    })
    .await;
    let Referrers::Listed(entries) = list(&fake).await.unwrap() else {
        panic!("not listed")
    };
    assert_eq!(digests(&entries), ["a", "b", "c", "d"].map(digest));
    assert_eq!(
        fake.seen()[0].target,
        format!("/v2/shop/web/referrers/{}", digest("subject"))
    );
    assert_eq!(fake.count(), 3);
}

#[tokio::test]
async fn what_an_entry_claims_is_kept() {
    let entry = descriptor("application/vnd.oci.image.manifest.v1+json", "a").replace(
        "\"size\":1",
        r#""size":1,"artifactType":"application/vnd.dev.sigstore.bundle.v0.3+json","annotations":{"k":"v"}"#,
    );
    let body = format!(r#"{{"schemaVersion":2,"manifests":[{entry}]}}"#);
    let fake = scripted(move |_, _| reply(200, &[("content-type", INDEX)], body.clone())).await;
    let Referrers::Listed(entries) = list(&fake).await.unwrap() else {
        panic!("not listed")
    };
    assert_eq!(
        entries[0].artifact_type.as_deref(),
        Some("application/vnd.dev.sigstore.bundle.v0.3+json")
    );
    assert_eq!(entries[0].annotations["k"], "v");
}

#[tokio::test]
async fn b15_a_looping_link_is_a_bounded_stop_and_never_a_complete_listing() {
    let fake = scripted(|_, _| page(&["a"], Some("?again"))).await;
    let Referrers::Truncated { seen, error } = list(&fake).await.unwrap() else {
        panic!("taken as complete")
    };
    assert_eq!(
        (digests(&seen), error.kind()),
        (vec![digest("a")], ErrorKind::TooLarge)
    );
    assert_eq!(fake.count(), 2);
    let endless = scripted(|seen, _| {
        let page_number: u32 = seen
            .target
            .split("n=")
            .nth(1)
            .map_or(0, |text| text.parse().unwrap());
        page(&[], Some(&format!("?n={}", page_number + 1)))
    })
    .await;
    assert!(matches!(list(&endless).await, Ok(Referrers::Truncated { .. })));
    assert_eq!(endless.count(), 64);
}

#[tokio::test]
async fn b15_a_hundred_thousand_referrers_stop_at_the_limit() {
    let fake = scripted(|seen, _| {
        let first: usize = seen
            .target
            .split("n=")
            .nth(1)
            .map_or(0, |text| text.parse().unwrap());
        let contents: Vec<String> = (first..first + 100).map(|number| number.to_string()).collect();
        let contents: Vec<&str> = contents.iter().map(String::as_str).collect();
        page(
            &contents,
            (first < 100_000)
                .then(|| format!("?n={}", first + 100))
                .as_deref(),
        )
    })
    .await;
    let Referrers::Truncated { seen, error } = list(&fake).await.unwrap() else {
        panic!("taken as complete")
    };
    assert_eq!(seen.len(), 1000);
    assert!(
        error.to_string().contains("referrers") && error.kind() == ErrorKind::TooLarge,
        "{error}"
    );
    assert_eq!(fake.count(), 11);
}

#[tokio::test]
async fn b15_large_pages_stop_at_the_limit_of_their_sum() {
    let fake = scripted(|seen, _| {
        let number: usize = seen
            .target
            .split("n=")
            .nth(1)
            .map_or(0, |text| text.parse().unwrap());
        let entry = descriptor("x", &number.to_string()).replacen(
            '{',
            &format!(r#"{{"annotations":{{"k":"{}"}},"#, "x".repeat(3 << 20)),
            1,
        );
        let body = format!(r#"{{"schemaVersion":2,"manifests":[{entry}]}}"#);
        reply(
            200,
            &[("link", &format!("<?n={}>; rel=\"next\"", number + 1))],
            body,
        )
    })
    .await;
    let Referrers::Truncated { seen, .. } = list(&fake).await.unwrap() else {
        panic!("taken as complete")
    };
    assert_eq!((seen.len(), fake.count()), (2, 3));
}

#[tokio::test]
async fn b17_a_link_to_another_host_is_refused_and_nothing_goes_there() {
    let other = scripted(|_, _| page(&["b"], None)).await;
    let elsewhere = format!(
        "http://localhost:{}/v2/shop/web/referrers/x",
        other.address().port()
    );
    let fake = scripted(move |_, _| page(&["a"], Some(&elsewhere))).await;
    let error = client(&[&fake, &other])
        .referrers(&repository(&fake), &digest("subject"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Malformed, "{error}");
    assert!(error.to_string().contains("localhost"), "{error}");
    assert_eq!(other.count(), 0);
}

#[tokio::test]
async fn f07_a_missing_api_is_unsupported_and_remembered_for_the_repository_alone() {
    let fake = scripted(|_, _| reply(404, &[], "404 page not found")).await;
    let client = client(&[&fake]);
    for _ in 0..3 {
        assert_eq!(
            client.referrers(&repository(&fake), &digest("subject")).await,
            Ok(Referrers::Unsupported)
        );
    }
    assert_eq!(fake.count(), 1);
    let other = format!("{}/other", fake.host()).parse().unwrap();
    assert_eq!(
        client.referrers(&other, &digest("subject")).await,
        Ok(Referrers::Unsupported)
    );
    assert_eq!(fake.count(), 2);
}

#[tokio::test]
async fn f07_a_404_about_a_name_or_a_manifest_is_not_remembered() {
    let upgraded = AtomicBool::new(false);
    let fake = scripted(move |_, _| match upgraded.swap(true, Ordering::SeqCst) {
        false => oci_error(404, "NAME_UNKNOWN"),
        true => page(&["a"], None),
    })
    .await;
    let client = client(&[&fake]);
    assert_eq!(
        client.referrers(&repository(&fake), &digest("subject")).await,
        Ok(Referrers::Unsupported)
    );
    assert!(matches!(
        client.referrers(&repository(&fake), &digest("subject")).await,
        Ok(Referrers::Listed(_))
    ));
}

#[tokio::test]
async fn f07_a_page_that_cannot_be_read_is_an_error_and_never_an_empty_listing() {
    for body in [
        "",
        "<html>no</html>",
        "{}",
        "null",
        "[]",
        r#"{"errors":[{"code":"UNAUTHORIZED"}]}"#,
        r#"{"schemaVersion":2,"manifests":[{}]}"#,
        r#"{"schemaVersion":2,"manifests":[],"manifests":[]}"#,
        r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","manifests":[]}"#,
    ] {
        let fake = scripted(move |_, _| reply(200, &[("content-type", INDEX)], body)).await;
        let error = list(&fake).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed, "{body}: {error}");
    }
}

#[tokio::test]
async fn f07_a_later_page_that_fails_fails_the_listing() {
    for (status, kind) in [
        (503, ErrorKind::Unavailable),
        (404, ErrorKind::Malformed),
        (403, ErrorKind::Denied),
    ] {
        let fake = scripted(move |seen, _| match seen.target.contains('?') {
            true => oci_error(status, "MANIFEST_UNKNOWN"),
            false => page(&["a"], Some("?n=2")),
        })
        .await;
        assert_eq!(list(&fake).await.unwrap_err().kind(), kind, "HTTP {status}");
    }
}

#[tokio::test]
async fn an_empty_listing_is_listed() {
    for body in [index(&[]), r#"{"schemaVersion":2,"manifests":null}"#.to_owned()] {
        let fake = scripted(move |_, _| reply(200, &[("content-type", INDEX)], body.clone())).await;
        assert_eq!(list(&fake).await, Ok(Referrers::Listed(Vec::new())));
    }
}

#[tokio::test]
async fn f04_a_listing_has_a_deadline_of_its_own() {
    let fake = scripted(|seen, _| {
        let number: u32 = seen
            .target
            .split("n=")
            .nth(1)
            .map_or(0, |text| text.parse().unwrap());
        let link = format!("<?n={}>; rel=\"next\"", number + 1);
        reply(200, &[("link", &link)], endless(1, Duration::from_millis(50)))
    })
    .await;
    let mut options = options(&[&fake]);
    options.limits.listing_timeout = Duration::from_millis(400);
    options.limits.request_timeout = Duration::from_secs(60);
    let begin = Instant::now();
    let error = Client::new(options)
        .unwrap()
        .referrers(&repository(&fake), &digest("s"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(begin.elapsed() < Duration::from_secs(30));
}

#[tokio::test]
async fn a_303_to_another_host_is_followed_without_credentials() {
    let other = scripted(|_, _| page(&["a"], None)).await;
    let target = format!("http://{}/elsewhere", other.host());
    let fake = scripted(move |_, _| reply(303, &[("location", &target)], "")).await;
    assert!(matches!(list(&fake).await, Ok(Referrers::Listed(entries)) if entries.len() == 1));
    assert_eq!(other.seen()[0].target, "/elsewhere");
}
