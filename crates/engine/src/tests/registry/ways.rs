//! Evidence that comes and goes, in each way of discovery.

use image::Digest;
use testkit::{FakeRegistry, Fault, On};

use super::site::*;
use crate::tests::attestations::SCAN;
use crate::tests::world::Signer;

#[derive(Clone, Copy, Debug)]
enum Way {
    Referrers,
    FallbackTag,
    SignatureTag,
}

const WAYS: [Way; 3] = [Way::Referrers, Way::FallbackTag, Way::SignatureTag];

async fn registry(way: Way) -> FakeRegistry {
    let fake = FakeRegistry::start().await.unwrap();
    fake.set_referrers_api(matches!(way, Way::Referrers));
    fake
}

/// Signs the image in this way; what to delete to take the signature away.
fn sign(fake: &FakeRegistry, way: Way, signer: &Signer, digest: &Digest) -> Vec<String> {
    match way {
        Way::Referrers => vec![sign_by_bundle(fake, "web", signer, digest).manifest],
        Way::FallbackTag => vec![
            sign_by_bundle(fake, "web", signer, digest).manifest,
            digest.tag_prefix(),
        ],
        Way::SignatureTag => {
            sign_by_tag(fake, "web", signer, digest);
            vec![evidence_tag(digest, "sig")]
        }
    }
}

#[tokio::test]
async fn a_signature_that_is_added_or_deleted_in_any_way_is_noticed_by_the_next_check() {
    for way in WAYS {
        let fake = registry(way).await;
        let mut site = Site::new(&[&fake]);
        let digest = image(&fake, "web");
        site.world.tell(runs(&fake, "web", "web", &digest));
        site.look_up().await;
        assert_eq!(site.verdict("web"), UNSIGNED, "{way:?}");
        let places = sign(&fake, way, &site.signer, &digest);
        site.next_check().await;
        assert_eq!(site.verdict("web"), HOLDS, "{way:?}: added");
        for place in places {
            assert!(fake.delete("shop/web", &place));
        }
        site.next_check().await;
        assert_eq!(site.verdict("web"), UNSIGNED, "{way:?}: deleted");
        sign(&fake, way, &site.signer, &digest);
        site.next_check().await;
        assert_eq!(site.verdict("web"), HOLDS, "{way:?}: added again");
    }
}

/// B47: a bad attestation in cosign's tag counts beside a good one that refers to the image; the tag is one request.
/// Weakened once: with the tag not asked, the good one decides.
#[tokio::test]
async fn b47_an_attestation_in_the_tag_counts_beside_those_that_refer_to_the_image() {
    let fake = FakeRegistry::start().await.unwrap();
    let mut site = Site::new(&[&fake]);
    let mut facts = crate::tests::attestations::scanned();
    facts.spec.as_mut().unwrap().match_.images = vec!["**/shop/**".into()];
    site.world.tell(crate::fact::Fact::Policy(Box::new(facts)));
    let digest = image(&fake, "web");
    let scan = |ok: bool, made: &str| (SCAN, serde_json::json!({"ok": ok, "timestamp": made}));
    let (kind, good) = scan(true, "2027-01-14T00:00:00Z");
    let bundle = site.signer.state(&digest, kind, &good);
    fake.attach("shop/web", &digest.to_string(), BUNDLE, bundle);
    site.world.tell(runs(&fake, "web", "web", &digest));
    fake.forget();
    site.look_up().await;
    assert_eq!(site.verdict("web"), HOLDS);
    assert_eq!(fake.asked(&evidence_tag(&digest, "att")), 1);
    let (kind, bad) = scan(false, "2027-01-15T00:00:00Z");
    let envelope: bytes::Bytes = site.signer.envelope(&digest, kind, &bad).to_string().into();
    let annotations = serde_json::json!({"dev.cosignproject.cosign/signature": "", "predicateType": kind});
    let media_type = "application/vnd.dsse.envelope.v1+json";
    let item = verify::Item::from_cosign_layer(media_type, &Default::default(), envelope.clone());
    let held = crate::tests::world::Held::new(item, media_type, envelope, annotations);
    put_tag(&fake, "shop/web", &evidence_tag(&digest, "att"), &held);
    fake.forget();
    site.next_check().await;
    assert_eq!(
        site.verdict("web"),
        Some((api::Verdict::Violating, api::Reason::AttestationRejected)),
        "{}",
        site.message("web")
    );
    site.next_check().await;
    assert!(fake.delete("shop/web", &evidence_tag(&digest, "att")));
    site.next_check().await;
    assert_eq!(
        site.verdict("web"),
        Some((api::Verdict::Violating, api::Reason::AttestationRejected)),
        "it was seen"
    );
}

/// B15, B47, invariant 8: who may push, and has no key, hides a newer bad attestation behind junk that is a little
/// smaller, and wins nothing by it: neither where all was read before nor at first sight.
/// Weakened once: with an excess that does not end what was complete, `web` still holds; without `Found::excess`, both.
#[tokio::test]
async fn b15_b47_a_bad_attestation_behind_more_junk_than_is_read_leaves_no_good_one_to_decide() {
    let fake = FakeRegistry::start().await.unwrap();
    let mut site = Site::new(&[&fake]);
    let mut facts = crate::tests::attestations::scanned();
    facts.spec.as_mut().unwrap().match_.images = vec!["**/shop/**".into()];
    site.world.tell(crate::fact::Fact::Policy(Box::new(facts)));
    let images = ["web", "late"].map(|name| (name, image(&fake, name)));
    let attach = |site: &Site, predicate: serde_json::Value| {
        for (name, digest) in &images {
            let bundle = site.signer.state(digest, SCAN, &predicate);
            fake.attach(&format!("shop/{name}"), &digest.to_string(), BUNDLE, bundle);
        }
    };
    let good = serde_json::json!({"ok": true, "timestamp": "2027-01-14T00:00:00Z"});
    attach(&site, good);
    site.world.tell(runs(&fake, "web", "web", &images[0].1));
    site.look_up().await;
    assert_eq!(site.verdict("web"), HOLDS);
    for (name, digest) in &images {
        for at in 0..20 {
            let junk = format!("{at}{}", " ".repeat(1 << 20));
            fake.attach(&format!("shop/{name}"), &digest.to_string(), BUNDLE, junk);
        }
    }
    let large = "x".repeat(3 << 19);
    let bad = serde_json::json!({"ok": false, "timestamp": "2027-01-15T00:00:00Z", "notes": large});
    attach(&site, bad);
    site.next_check().await;
    site.world.tell(runs(&fake, "late", "late", &images[1].1));
    site.look_up().await;
    let unknown = Some((api::Verdict::Unknown, api::Reason::EvidenceTooLarge));
    assert_eq!((site.verdict("web"), site.verdict("late")), (unknown, unknown));
}

/// Only 404 is absence. Weakened once: with a failing way taken for an empty one, the image is Violating.
#[tokio::test]
async fn a_way_that_fails_is_no_absence() {
    for fault in [
        Fault::Status(503),
        Fault::Forbidden,
        Fault::TooManyRequests { retry_after: None },
        Fault::Truncated,
    ] {
        for path in ["/referrers/", ".sig", "/manifests/sha256-"] {
            let fake = FakeRegistry::start().await.unwrap();
            let mut site = Site::new(&[&fake]);
            let digest = image(&fake, "web");
            site.world.tell(runs(&fake, "web", "web", &digest));
            sign_by_tag(&fake, "web", &Signer::new(), &digest);
            fake.inject(On::any().path(path), fault.clone());
            site.look_up().await;
            let (verdict, _) = site.verdict("web").unwrap();
            assert_eq!(verdict, api::Verdict::Unknown, "{fault:?} of {path}");
        }
    }
}

/// F07. Weakened once: with the API's listing forgotten, its 404 is an absence and the image Violating.
#[tokio::test]
async fn f07_a_referrers_api_that_vanishes_is_no_absence() {
    let fake = FakeRegistry::start().await.unwrap();
    let mut site = Site::new(&[&fake]);
    let digest = image(&fake, "web");
    sign_by_bundle(&fake, "web", &Signer::new(), &digest);
    site.world.tell(runs(&fake, "web", "web", &digest));
    site.look_up().await;
    assert_eq!(site.verdict("web").unwrap().1, api::Reason::SignerNotTrusted);
    fake.set_referrers_api(false);
    site.world
        .engine
        .apply(crate::fact::Fact::PodGone("pod-web".into()), site.world.now);
    site.world.tell(runs(&fake, "api", "web", &digest));
    site.look_up().await;
    assert_eq!(
        site.verdict("api").unwrap().1,
        api::Reason::SignerNotTrusted,
        "{}",
        site.message("api")
    );
}

/// Invariant 8, B15: junk beside it spoils no signature, and what was not read is no absence.
/// Weakened once: with what does not fit the budget left out silently, the bare image is Violating.
#[tokio::test]
async fn b15_a_signature_among_many_large_items_counts_and_without_it_nothing_is_told() {
    let fake = FakeRegistry::start().await.unwrap();
    let mut site = Site::new(&[&fake]);
    let digest = image(&fake, "web");
    let bare = image(&fake, "bare");
    for name in ["web", "bare"] {
        let of = if name == "web" { &digest } else { &bare };
        for at in 0..30 {
            let junk = format!("{at}{}", " ".repeat(1024 * 1024));
            fake.attach(&format!("shop/{name}"), &of.to_string(), BUNDLE, junk);
        }
    }
    sign_by_bundle(&fake, "web", &site.signer, &digest);
    site.world.tell(runs(&fake, "web", "web", &digest));
    site.world.tell(runs(&fake, "bare", "bare", &bare));
    site.look_up().await;
    assert_eq!(site.verdict("web"), HOLDS);
    assert_eq!(
        site.verdict("bare"),
        Some((api::Verdict::Unknown, api::Reason::EvidenceTooLarge))
    );
}
