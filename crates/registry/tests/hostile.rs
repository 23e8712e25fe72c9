//! What a registry serves wrongly on purpose: mixed-up, looping, broken content (B11, B15, C3.11, F06).

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use assay_registry::{ErrorKind, Referrers};
use support::{FakeRegistry, Fault, MANIFEST, On, digest, manifest, repository};

#[tokio::test]
async fn b15_a_looping_link_is_no_complete_listing() {
    let fake = FakeRegistry::start().await.unwrap();
    let subject = fake.put_manifest("shop/web", Some("v1"), MANIFEST, manifest());
    fake.attach("shop/web", &subject, "application/vnd.example", "one");
    fake.inject(On::referrers(), Fault::LoopingLink);
    let client = support::client(&[&fake]);
    let listed = client.referrers(&repository(&fake), &digest(manifest())).await;
    let Ok(Referrers::Truncated { seen, error }) = listed else {
        panic!("{listed:?}")
    };
    assert_eq!((seen.len(), error.kind()), (1, ErrorKind::TooLarge));
    assert_eq!(fake.count(), 1);
}

/// Weakened: with the digest of the header in place of that of the bytes, the manifests are mixed up.
#[tokio::test]
async fn b11_f06_a_registry_that_alternates_manifests_never_mixes_them_up() {
    let fake = FakeRegistry::start().await.unwrap();
    fake.put_manifest("shop/web", Some("v1"), MANIFEST, manifest());
    let other = manifest().replace("\"size\":5", "\"size\":6");
    let alternating = vec![(MANIFEST.to_owned(), other.clone().into())];
    fake.inject(On::manifests(), Fault::Alternating(alternating));
    let client = support::client(&[&fake]);
    let (repository, asked) = (repository(&fake), digest(manifest()));
    let (mut right, mut wrong, mut tagged) = (0, 0, [0, 0]);
    for _ in 0..10_000 {
        match client.manifest(&repository, &asked).await {
            Ok(found) => {
                assert_eq!(
                    (found.digest, found.bytes.as_ref()),
                    (asked.clone(), manifest().as_bytes())
                );
                right += 1;
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::DigestMismatch);
                wrong += 1;
            }
        }
        if right % 10 == 0 {
            let found = client.tagged_manifest(&repository, "v1").await.unwrap().unwrap();
            assert_eq!(found.digest, digest(&found.bytes));
            tagged[usize::from(found.bytes == other)] += 1;
        }
    }
    assert!(right > 1000 && wrong > 1000, "{right} right, {wrong} wrong");
    assert!(tagged.iter().sum::<usize>() > 0);
}

#[tokio::test]
async fn c3_11_faults_of_the_content_are_told_apart() {
    for (fault, kind) in [
        (Fault::WrongContent, ErrorKind::DigestMismatch),
        (Fault::Truncated, ErrorKind::Unavailable),
        (Fault::Forbidden, ErrorKind::Denied),
        (Fault::Status(503), ErrorKind::Unavailable),
        (
            Fault::TooManyRequests { retry_after: None },
            ErrorKind::RateLimited,
        ),
        (Fault::Body("{}".into()), ErrorKind::DigestMismatch),
        (Fault::GzipBomb(1), ErrorKind::Malformed),
    ] {
        let fake = FakeRegistry::start().await.unwrap();
        fake.put_manifest("shop/web", Some("v1"), MANIFEST, manifest());
        fake.inject(On::any(), fault.clone());
        let client = support::client(&[&fake]);
        let error = client
            .manifest(&repository(&fake), &digest(manifest()))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), kind, "{fault:?}: {error}");
    }
}
