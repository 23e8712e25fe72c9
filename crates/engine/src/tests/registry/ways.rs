//! Evidence that comes and goes, in each way of discovery.

use image::Digest;
use testkit::{FakeRegistry, Fault, On};

use super::site::*;
use crate::tests::attestations::SCAN;
use crate::tests::world::{Signer, key_fact, key_spec};

#[derive(Clone, Copy, Debug)]
enum Way {
    Referrers,
    FallbackTag,
    SignatureTag,
    AttestationTag,
}

const UNATTESTED: Option<(api::Verdict, api::Reason)> =
    Some((api::Verdict::Violating, api::Reason::AttestationMissing));

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
        Way::AttestationTag => unreachable!("no signature of an image is looked for there"),
    }
}

/// Attests a scan of the image in this way; what to delete to take it away.
fn attest(fake: &FakeRegistry, way: Way, signer: &Signer, digest: &Digest) -> Vec<String> {
    let scan = scan_of("2027-01-14", true);
    let attach = || {
        let bundle = signer.state(digest, SCAN, &scan);
        fake.attach("shop/web", &digest.to_string(), BUNDLE, bundle)
    };
    match way {
        Way::Referrers => vec![attach()],
        Way::FallbackTag => vec![attach(), digest.tag_prefix()],
        Way::AttestationTag => {
            let envelope = signer.envelope(digest, SCAN, &scan).to_string();
            put_attestations(fake, "web", digest, &[envelope]);
            vec![evidence_tag(digest, "att")]
        }
        Way::SignatureTag => unreachable!("no attestation is looked for there"),
    }
}

#[tokio::test]
async fn a_signature_that_is_added_or_deleted_in_any_way_is_noticed_by_the_next_check() {
    for way in [Way::Referrers, Way::FallbackTag, Way::SignatureTag] {
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

/// Weakened once: with the attestation tag left out of what must be unchanged, what is added there is not read.
#[tokio::test]
async fn an_attestation_that_is_added_or_deleted_in_any_way_is_noticed_by_the_next_check() {
    for way in [Way::Referrers, Way::FallbackTag, Way::AttestationTag] {
        let fake = registry(way).await;
        let mut site = Site::new(&[&fake]);
        site.ask_for_scans();
        let digest = image(&fake, "web");
        site.world.tell(runs(&fake, "web", "web", &digest));
        site.look_up().await;
        assert_eq!(site.verdict("web"), UNATTESTED, "{way:?}");
        for _ in 0..2 {
            let places = attest(&fake, way, &site.signer, &digest);
            site.next_check().await;
            assert_eq!(site.verdict("web"), HOLDS, "{way:?}: added");
            for place in places {
                assert!(fake.delete("shop/web", &place));
            }
            site.next_check().await;
            assert_eq!(site.verdict("web"), UNATTESTED, "{way:?}: deleted");
        }
    }
}

/// B47: a bad attestation in cosign's tag counts beside a good one that refers to the image; the tag is one request.
/// Weakened once: with the tag not asked, the good one decides.
#[tokio::test]
async fn b47_an_attestation_in_the_tag_counts_beside_those_that_refer_to_the_image() {
    let fake = FakeRegistry::start().await.unwrap();
    let mut site = Site::new(&[&fake]);
    site.ask_for_scans();
    let digest = image(&fake, "web");
    let good = site.signer.state(&digest, SCAN, &scan_of("2027-01-14", true));
    fake.attach("shop/web", &digest.to_string(), BUNDLE, good);
    site.world.tell(runs(&fake, "web", "web", &digest));
    fake.forget();
    site.look_up().await;
    assert_eq!(site.verdict("web"), HOLDS);
    assert_eq!(fake.asked(&evidence_tag(&digest, "att")), 1);
    let bad = site.signer.envelope(&digest, SCAN, &scan_of("2027-01-15", false));
    put_attestations(&fake, "web", &digest, &[bad.to_string()]);
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
/// Fails on a build where a later failure takes the place of the excess: in an outage both hold.
#[tokio::test]
async fn b15_b47_a_bad_attestation_behind_more_junk_than_is_read_leaves_no_good_one_to_decide() {
    let fake = FakeRegistry::start().await.unwrap();
    let mut site = Site::new(&[&fake]);
    site.ask_for_scans();
    let images = ["web", "late"].map(|name| (name, image(&fake, name)));
    let attach = |site: &Site, predicate: serde_json::Value| {
        for (name, digest) in &images {
            let bundle = site.signer.state(digest, SCAN, &predicate);
            fake.attach(&format!("shop/{name}"), &digest.to_string(), BUNDLE, bundle);
        }
    };
    attach(&site, scan_of("2027-01-14", true));
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
    fake.inject(On::any(), Fault::Status(503));
    site.next_check().await;
    let verdicts = ["web", "late"].map(|name| site.verdict(name));
    assert_eq!(verdicts, [unknown, unknown], "an outage proves nothing either");
}

/// C2.06: what is too large to be held in memory is read again from what is kept, when a key comes that may have signed
/// it, and costs no request. Fails on a build that does not find it there: the workload is Unknown.
#[tokio::test]
async fn c2_06_a_large_attestation_is_not_asked_for_again_when_the_key_comes_that_signed_it() {
    let fake = FakeRegistry::start().await.unwrap();
    let mut site = Site::new(&[&fake]);
    site.ask_for_scans();
    let (digest, late) = (image(&fake, "web"), Signer::new());
    let mut scan = scan_of("2027-01-14", true);
    scan["packages"] = "x".repeat(1 << 20).into();
    let bundle = late.state(&digest, SCAN, &scan);
    fake.attach("shop/web", &digest.to_string(), BUNDLE, bundle);
    site.world.tell(runs(&fake, "web", "web", &digest));
    site.look_up().await;
    let stranger = Some((api::Verdict::Violating, api::Reason::SignerNotTrusted));
    assert_eq!(site.verdict("web"), stranger);
    fake.forget();
    let spec = key_spec("release", &late, api::Stage::Active);
    site.world.tell(key_fact("release-2027", spec));
    assert_eq!(site.verdict("web"), HOLDS, "{}", site.message("web"));
    site.next_check().await;
    assert_eq!(site.verdict("web"), HOLDS);
    assert_eq!(fake.asked("/blobs/"), 0);
}

/// Some registries resolve the fallback tag to the image itself: that lists nothing, and hides nothing.
/// Weakened once: without `without_itself`, the unsigned image is Unknown.
#[tokio::test]
async fn a_fallback_tag_that_names_the_image_itself_is_an_empty_one() {
    let fake = registry(Way::FallbackTag).await;
    let mut site = Site::new(&[&fake]);
    let digest = image(&fake, "web");
    assert_eq!(image_under(&fake, "web", &digest.tag_prefix()), digest);
    site.world.tell(runs(&fake, "web", "web", &digest));
    site.look_up().await;
    assert_eq!(site.verdict("web"), UNSIGNED, "{}", site.message("web"));
    sign_by_tag(&fake, "web", &site.signer, &digest);
    site.next_check().await;
    assert_eq!(site.verdict("web"), HOLDS);
}

/// An SBOM that refers to the image hides no signature in a tag, and a registry that lists a signature as something else
/// hides none either: what counts is the layer. Weakened once: with the tag asked only where nothing refers to the image,
/// the first is Violating; with referrers of another artifact type left out, the second.
#[tokio::test]
async fn an_unrelated_referrer_and_a_wrong_artifact_type_hide_no_signature() {
    let fake = registry(Way::Referrers).await;
    let mut site = Site::new(&[&fake]);
    let [tagged, listed] = ["tagged", "listed"].map(|name| image(&fake, name));
    for (name, digest) in [("tagged", &tagged), ("listed", &listed)] {
        let repository = format!("shop/{name}");
        fake.attach(&repository, &digest.to_string(), "application/spdx+json", "{}");
        site.world.tell(runs(&fake, name, name, digest));
    }
    sign_by_tag(&fake, "tagged", &site.signer, &tagged);
    let bundle = site.signer.sign_as_bundle(&listed);
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": crate::tests::world::MANIFEST,
        "artifactType": "application/vnd.example.something",
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": Digest::sha256(b"{}"), "size": 2},
        "layers": [{"mediaType": BUNDLE, "digest": Digest::sha256(&bundle), "size": bundle.len()}],
        "subject": {"mediaType": crate::tests::world::MANIFEST, "digest": listed, "size": 1},
    });
    fake.put_blob("shop/listed", bundle);
    let media_type = crate::tests::world::MANIFEST;
    fake.put_manifest("shop/listed", None, media_type, manifest.to_string());
    site.look_up().await;
    assert_eq!(site.verdict("tagged"), HOLDS, "{}", site.message("tagged"));
    assert_eq!(site.verdict("listed"), HOLDS, "{}", site.message("listed"));
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

/// Invariant 8, B15, C2.12: junk beside it spoils no signature, and what was not read is no absence.
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
