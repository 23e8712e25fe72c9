//! How many requests a look-up costs, asserted on the registry's own log.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use image::Digest;
use registry::{Client, ClientOptions};
use testkit::FakeRegistry;

use super::site::*;
use crate::tests::attestations::SCAN;
use crate::tests::world::Signer;

/// Cold: the subject once, one per way of discovery, two per item of evidence, one per candidate for an index.
/// Weakened once: with the index served again after its tag was resolved, it is asked for twice.
#[tokio::test]
async fn a_first_look_up_asks_for_nothing_twice() {
    let fake = FakeRegistry::start().await.unwrap();
    let mut site = Site::new(&[&fake]);
    let (index, child) = multi_arch(&fake, "web");
    let referrer = sign_by_bundle(&fake, "web", &site.signer, &index);
    let signature = sign_by_tag(&fake, "web", &site.signer, &child);
    site.world.tell(runs(&fake, "web", "web", &child));
    fake.forget();
    site.look_up().await;
    assert_eq!(site.verdict("web"), HOLDS);
    let (child_text, index_text) = (child.to_string(), index.to_string());
    let (child_tag, index_tag) = (child.tag_prefix(), index.tag_prefix());
    let expected = list(&[
        // The subject, and its ways of discovery; the signature tag is the manifest of its item.
        ("GET manifests", &child_text),
        ("GET referrers", &child_text),
        ("GET manifests", &child_tag),
        ("GET manifests", &evidence_tag(&child, "sig")),
        ("GET blobs", &signature.layer),
        // The candidate for an index, and its ways.
        ("GET manifests", "1"),
        ("GET referrers", &index_text),
        ("GET manifests", &index_tag),
        ("GET manifests", &evidence_tag(&index, "sig")),
        // Its item.
        ("GET manifests", &referrer.manifest),
        ("GET blobs", &referrer.layer),
    ]);
    assert_eq!(asked(&fake), expected);
}

/// Warm: one per way of discovery, and no body as long as no digest set changed.
/// Weakened once: with the subject served in every pass, one more each.
#[tokio::test]
async fn a_check_of_what_holds_costs_one_request_for_each_way() {
    let fake = FakeRegistry::start().await.unwrap();
    let mut site = Site::new(&[&fake]);
    let digest = image(&fake, "web");
    sign_by_tag(&fake, "web", &site.signer, &digest);
    sign_by_bundle(&fake, "web", &site.signer, &digest);
    site.world.tell(runs(&fake, "web", "web", &digest));
    site.look_up().await;
    let ways = |digest: &Digest| {
        list(&[
            ("GET referrers", &digest.to_string()),
            ("GET manifests", &digest.tag_prefix()),
            ("HEAD manifests", &evidence_tag(digest, "sig")),
        ])
    };
    for _ in 0..3 {
        fake.forget();
        site.next_check().await;
        assert_eq!(asked(&fake), ways(&digest));
        assert_eq!(site.verdict("web"), HOLDS);
    }
    fake.forget();
    let referrer = sign_by_bundle(&fake, "web", &Signer::new(), &digest);
    site.next_check().await;
    let mut expected = ways(&digest);
    expected.extend(list(&[
        ("GET manifests", &digest.to_string()),
        ("GET manifests", &referrer.manifest),
        ("GET blobs", &referrer.layer),
    ]));
    expected.sort();
    assert_eq!(asked(&fake), expected, "only what is new is read");
}

/// A scan that was made on the day, signed as cosign signs attestations.
fn scan(site: &Site, of: &Digest, day: &str) -> String {
    let envelope = site.signer.envelope(of, SCAN, &scan_of(day, true));
    envelope.to_string()
}

/// Cold, where attestations are asked for: cosign's tag for them is one more way of the image and of its index; it is
/// the manifest of its items, of which each is a layer.
/// Weakened once: with what a tag names not kept, its manifest is asked for twice.
#[tokio::test]
async fn a_first_look_up_for_attestations_asks_for_their_tag_as_well() {
    let fake = FakeRegistry::start().await.unwrap();
    let mut site = Site::new(&[&fake]);
    site.ask_for_scans();
    let (index, child) = multi_arch(&fake, "web");
    let scans = ["2027-01-13", "2027-01-14"].map(|day| scan(&site, &child, day));
    let scans = put_attestations(&fake, "web", &child, &scans);
    site.world.tell(runs(&fake, "web", "web", &child));
    fake.forget();
    site.look_up().await;
    assert_eq!(site.verdict("web"), HOLDS, "{}", site.message("web"));
    let mut expected = list(&[
        ("GET manifests", &child.to_string()),
        ("GET manifests", "1"),
        ("GET blobs", &scans[0].layer),
        ("GET blobs", &scans[1].layer),
    ]);
    for digest in [&child, &index] {
        expected.extend(ways_of_attestations(digest, "GET"));
    }
    expected.sort();
    assert_eq!(asked(&fake), expected);
}

/// One request for each way in which an attestation is found; `method`: of the tag that only they are found in.
fn ways_of_attestations(digest: &Digest, method: &str) -> Vec<String> {
    list(&[
        ("GET referrers", &digest.to_string()),
        ("GET manifests", &digest.tag_prefix()),
        ("GET manifests", &evidence_tag(digest, "sig")),
        (&format!("{method} manifests"), &evidence_tag(digest, "att")),
    ])
}

/// Warm, where attestations are asked for: of a tag that says the same nothing is read; of one that got another layer
/// only that. Weakened once: with every tag read again whatever it named before, the tag costs a body.
#[tokio::test]
async fn a_check_of_attestations_that_hold_costs_one_request_for_each_way() {
    let fake = FakeRegistry::start().await.unwrap();
    let mut site = Site::new(&[&fake]);
    site.ask_for_scans();
    let digest = image(&fake, "web");
    let first = scan(&site, &digest, "2027-01-14");
    put_attestations(&fake, "web", &digest, std::slice::from_ref(&first));
    site.world.tell(runs(&fake, "web", "web", &digest));
    site.look_up().await;
    for _ in 0..3 {
        fake.forget();
        site.next_check().await;
        assert_eq!(asked(&fake), ways_of_attestations(&digest, "HEAD"));
        assert_eq!(site.verdict("web"), HOLDS);
    }
    fake.forget();
    let second = scan(&site, &digest, "2027-01-15");
    let both = put_attestations(&fake, "web", &digest, &[first, second]);
    site.next_check().await;
    let mut expected = ways_of_attestations(&digest, "HEAD");
    expected.extend(list(&[
        ("GET manifests", &digest.to_string()),
        ("GET manifests", &evidence_tag(&digest, "att")),
        ("GET blobs", &both[1].layer),
    ]));
    expected.sort();
    assert_eq!(asked(&fake), expected, "only what is new is read");
}

/// "This registry has no referrers API" costs nothing again within the hour.
#[tokio::test]
async fn a_registry_without_referrers_api_is_not_asked_for_them_at_every_check() {
    let fake = FakeRegistry::start().await.unwrap();
    fake.set_referrers_api(false);
    let mut site = Site::new(&[&fake]);
    for name in ["web", "api"] {
        let digest = image(&fake, name);
        sign_by_bundle(&fake, name, &site.signer, &digest);
        site.world.tell(runs(&fake, name, name, &digest));
    }
    site.look_up().await;
    assert_eq!([site.verdict("web"), site.verdict("api")], [HOLDS, HOLDS]);
    assert_eq!(fake.asked("/referrers/"), 2, "once for each repository");
    site.next_check().await;
    assert_eq!(fake.asked("/referrers/"), 2);
}

/// What is added to the time of one test.
static MINUTES: AtomicU64 = AtomicU64::new(0);

fn later() -> Instant {
    Instant::now() + Duration::from_secs(MINUTES.load(Ordering::Relaxed) * 60)
}

/// "This registry has no referrers API" is remembered for at most an hour: then what is signed through the API that it
/// got meanwhile is noticed. Weakened once: remembered for two hours, the signature is missed.
#[tokio::test]
async fn a_referrers_api_that_a_registry_got_is_noticed_within_an_hour() {
    let fake = FakeRegistry::start().await.unwrap();
    fake.set_referrers_api(false);
    let mut site = Site::new(&[&fake]);
    site.client = Client::new(ClientOptions {
        plain_http: [fake.host()].into(),
        clock: later,
        ..ClientOptions::default()
    })
    .unwrap();
    let digest = image(&fake, "web");
    site.world.tell(runs(&fake, "web", "web", &digest));
    site.look_up().await;
    assert_eq!(site.verdict("web"), UNSIGNED);
    fake.set_referrers_api(true);
    sign_by_bundle(&fake, "web", &site.signer, &digest);
    MINUTES.store(59, Ordering::Relaxed);
    site.next_check().await;
    assert_eq!((fake.asked("/referrers/"), site.verdict("web")), (1, UNSIGNED));
    MINUTES.store(60, Ordering::Relaxed);
    site.next_check().await;
    assert_eq!((fake.asked("/referrers/"), site.verdict("web")), (2, HOLDS));
}

/// B42, C2.07. Weakened once: with the ways asked before the image, the registry is asked for signatures of nothing.
#[tokio::test]
async fn an_image_that_is_not_served_costs_one_request() {
    let fake = FakeRegistry::start().await.unwrap();
    let mut site = Site::new(&[&fake]);
    let digest = image(&fake, "web");
    sign_by_tag(&fake, "other", &site.signer, &digest);
    site.world
        .tell(runs_pinned(&fake, "other", "other", &digest, &digest));
    fake.forget();
    site.look_up().await;
    assert_eq!(asked(&fake), list(&[("GET manifests", &digest.to_string())]));
}
