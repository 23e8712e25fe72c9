//! The same questions to the fake registry and to real ones: what holds for one registry holds for each.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use assay_registry::{Client, ClientOptions, Document, ErrorKind, Referrers, TagHint};
use image::{Digest, Repository};
use support::{FakeRegistry, MANIFEST, digest, index, manifest};
use testkit::{Registry, RegistryWriter};

/// A registry of any make.
struct Subject {
    name: &'static str,
    host: String,
    has_referrers: bool,
    client: Client,
    _fake: Option<FakeRegistry>,
    _real: Option<(Registry, tempfile::TempDir)>,
}

impl Subject {
    fn new(
        name: &'static str,
        host: String,
        has_referrers: bool,
        fake: Option<FakeRegistry>,
        real: Option<(Registry, tempfile::TempDir)>,
    ) -> Self {
        let client = Client::new(ClientOptions {
            plain_http: BTreeSet::from([host.clone()]),
            ..ClientOptions::default()
        });
        Self {
            name,
            host,
            has_referrers,
            client: client.unwrap(),
            _fake: fake,
            _real: real,
        }
    }

    fn repository(&self, path: &str) -> Repository {
        format!("{}/{path}", self.host).parse().unwrap()
    }

    fn writer(&self) -> RegistryWriter {
        RegistryWriter::new(self.host.clone())
    }
}

/// A fake one with and one without the referrers API, CNCF distribution, and a real one with that API.
async fn all() -> Vec<Subject> {
    let with = FakeRegistry::start().await.unwrap();
    let without = FakeRegistry::start().await.unwrap();
    without.set_referrers_api(false);
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let distribution = Registry::distribution(folders[0].path()).await.unwrap();
    let referrers = Registry::referrers(folders[1].path()).await.unwrap();
    let [first, second] = folders;
    vec![
        Subject::new("fake", with.host(), true, Some(with), None),
        Subject::new(
            "fake without referrers",
            without.host(),
            false,
            Some(without),
            None,
        ),
        Subject::new(
            "distribution",
            distribution.host(),
            false,
            None,
            Some((distribution, first)),
        ),
        Subject::new(
            "referrers",
            referrers.host(),
            true,
            None,
            Some((referrers, second)),
        ),
    ]
}

fn parsed(digest: &str) -> Digest {
    digest.parse().unwrap()
}

#[tokio::test]
async fn what_was_pushed_is_served_by_digest_and_by_tag() {
    for registry in all().await {
        let pushed = registry
            .writer()
            .push_image("shop/web", "1.0", "seed")
            .await
            .unwrap();
        let (client, repository) = (&registry.client, registry.repository("shop/web"));
        let asked = parsed(&pushed.digest);
        let by_digest = client.manifest(&repository, &asked).await.unwrap();
        assert_eq!(
            (by_digest.digest.clone(), by_digest.media_type.as_str()),
            (asked.clone(), MANIFEST)
        );
        let by_tag = client.tagged_manifest(&repository, "1.0").await.unwrap().unwrap();
        assert_eq!(by_tag, by_digest, "{}", registry.name);
        let hint = client.head_tag(&repository, "1.0").await.unwrap();
        assert_eq!(hint, Some(TagHint::Digest(asked)), "{}", registry.name);
        let Document::Image { config, .. } = by_digest.document else {
            panic!("{}", registry.name)
        };
        let blob = client
            .blob(&repository, &config.digest, config.size)
            .await
            .unwrap();
        assert_eq!(blob.len() as u64, config.size, "{}", registry.name);
    }
}

#[tokio::test]
async fn what_is_not_there_is_absent_and_nothing_else() {
    for registry in all().await {
        registry
            .writer()
            .push_image("shop/web", "1.0", "seed")
            .await
            .unwrap();
        for path in ["shop/web", "shop/other"] {
            let (client, repository) = (&registry.client, registry.repository(path));
            let (at, missing) = (format!("{} {path}", registry.name), digest("missing"));
            assert_eq!(client.tagged_manifest(&repository, "2.0").await, Ok(None), "{at}");
            assert_eq!(client.head_tag(&repository, "2.0").await, Ok(None), "{at}");
            let error = client.manifest(&repository, &missing).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotFound, "{at}");
            let error = client.blob(&repository, &missing, 10).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotFound, "{at}");
        }
    }
}

#[tokio::test]
async fn a_deleted_manifest_is_absent_again() {
    for registry in all().await {
        let writer = registry.writer();
        let pushed = writer.push_image("shop/web", "1.0", "seed").await.unwrap();
        writer.delete_manifest("shop/web", &pushed.digest).await.unwrap();
        let (client, repository) = (&registry.client, registry.repository("shop/web"));
        let error = client
            .manifest(&repository, &parsed(&pushed.digest))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{}", registry.name);
    }
}

/// An artifact of one layer that refers to `subject`; pushed with what it needs, its digest.
async fn attach(registry: &Subject, subject: &str, layer: &str) -> Digest {
    let writer = registry.writer();
    for blob in ["{}", layer] {
        writer.put_blob("shop/web", blob.as_bytes()).await.unwrap();
    }
    let config = support::descriptor("application/vnd.oci.empty.v1+json", "{}");
    let layer = support::descriptor("application/vnd.example.evidence", layer);
    let artifact = format!(
        r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","artifactType":"application/vnd.example.evidence","config":{config},"layers":[{layer}],"subject":{{"mediaType":"{MANIFEST}","digest":"{subject}","size":1}}}}"#
    );
    let pushed = writer
        .put_manifest("shop/web", None, MANIFEST, artifact.as_bytes())
        .await
        .unwrap();
    parsed(&pushed.digest)
}

#[tokio::test]
async fn f07_referrers_are_listed_by_the_api_or_said_to_be_unsupported() {
    for registry in all().await {
        let pushed = registry
            .writer()
            .push_image("shop/web", "1.0", "seed")
            .await
            .unwrap();
        let (client, repository) = (&registry.client, registry.repository("shop/web"));
        let subject = parsed(&pushed.digest);
        let empty = client.referrers(&repository, &subject).await.unwrap();
        let expected: BTreeSet<Digest> = [
            attach(&registry, &pushed.digest, "one").await,
            attach(&registry, &pushed.digest, "two").await,
        ]
        .into();
        let listed = client.referrers(&repository, &subject).await.unwrap();
        match (registry.has_referrers, empty, listed) {
            (true, Referrers::Listed(none), Referrers::Listed(two)) => {
                assert!(none.is_empty(), "{}", registry.name);
                let found: BTreeSet<Digest> = two.iter().map(|entry| entry.digest.clone()).collect();
                assert_eq!(found, expected, "{}", registry.name);
            }
            (false, Referrers::Unsupported, Referrers::Unsupported) => {}
            other => panic!("{}: {other:?}", registry.name),
        }
    }
}

#[tokio::test]
async fn an_index_and_a_fallback_tag_are_read_as_indexes() {
    for registry in all().await {
        let writer = registry.writer();
        let pushed = writer.push_image("shop/web", "1.0", "seed").await.unwrap();
        let attached = attach(&registry, &pushed.digest, "one").await;
        let bytes = writer
            .manifest("shop/web", &attached.to_string())
            .await
            .unwrap()
            .unwrap();
        let listing = index(&[std::str::from_utf8(&bytes).unwrap()]);
        let tag = parsed(&pushed.digest).tag_prefix();
        writer
            .put_manifest("shop/web", Some(&tag), support::INDEX, listing.as_bytes())
            .await
            .unwrap();
        let (client, repository) = (&registry.client, registry.repository("shop/web"));
        let found = client.tagged_manifest(&repository, &tag).await.unwrap().unwrap();
        let Document::Index { children } = found.document else {
            panic!("{}", registry.name)
        };
        assert_eq!(children[0].digest, attached, "{}", registry.name);
    }
}

#[tokio::test]
async fn the_fake_registry_keeps_a_fallback_tag_where_it_has_no_referrers_api() {
    let fake = FakeRegistry::start().await.unwrap();
    fake.set_referrers_api(false);
    let subject = fake.put_manifest("shop/web", Some("1.0"), MANIFEST, manifest());
    let one = fake.attach("shop/web", &subject, "application/vnd.example", "one");
    let two = fake.attach("shop/web", &subject, "application/vnd.example", "two");
    let client = support::client(&[&fake]);
    let tag = parsed(&subject).tag_prefix();
    let found = client
        .tagged_manifest(&support::repository(&fake), &tag)
        .await
        .unwrap()
        .unwrap();
    let Document::Index { children } = found.document else {
        panic!("no index")
    };
    let listed: BTreeSet<String> = children.iter().map(|child| child.digest.to_string()).collect();
    assert_eq!(listed, BTreeSet::from([one, two]));
}

/// What is added to the time of one test.
static MINUTES: AtomicU64 = AtomicU64::new(0);

fn later() -> Instant {
    Instant::now() + Duration::from_secs(MINUTES.load(Ordering::Relaxed) * 60)
}

/// F07: by the log of a distribution that has no such API. Weakened once: remembered for two hours, it is not asked again.
#[tokio::test]
async fn f07_that_a_real_registry_lacks_the_referrers_api_is_remembered_for_an_hour() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::distribution(folder.path()).await.unwrap();
    let client = Client::new(ClientOptions {
        plain_http: BTreeSet::from([registry.host()]),
        clock: later,
        ..ClientOptions::default()
    })
    .unwrap();
    let repository: Repository = format!("{}/shop/web", registry.host()).parse().unwrap();
    let image = registry
        .writer()
        .push_image("shop/web", "1", "seed")
        .await
        .unwrap();
    let since = registry.log_position().unwrap();
    for (minutes, asked) in [(0, 1), (0, 1), (59, 1), (60, 2), (119, 2), (120, 3)] {
        MINUTES.store(minutes, Ordering::Relaxed);
        let listed = client.referrers(&repository, &parsed(&image.digest)).await;
        assert_eq!(listed, Ok(Referrers::Unsupported), "after {minutes} minutes");
        let log = registry.access_log_since(since).unwrap();
        let referrers = log.iter().filter(|request| request.path.contains("/referrers/"));
        assert_eq!(referrers.count(), asked, "after {minutes} minutes");
    }
}
