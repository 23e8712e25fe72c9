//! Mirrors, pull-through caches and evidence repositories: where something is found, and what proves an absence.

use api::{Reason, Verdict};
use image::Digest;
use registry::{Mirror, Prefix, Route, Routes};
use testkit::{FakeRegistry, Fault, On};

use super::site::*;
use crate::tests::attestations::SCAN;

fn unknown(reason: Reason) -> Option<(Verdict, Reason)> {
    Some((Verdict::Unknown, reason))
}

/// The registry `origin` is mirrored by `mirror`.
struct Mirrored {
    origin: FakeRegistry,
    mirror: FakeRegistry,
    site: Site,
}

async fn mirrored(authoritative: bool) -> Mirrored {
    let origin = FakeRegistry::start().await.unwrap();
    let mirror = FakeRegistry::start().await.unwrap();
    let site = Site::new(&[&origin, &mirror]);
    let mut routes = Routes::default();
    let route = Route {
        mirrors: vec![Mirror {
            prefix: prefix(&mirror),
            authoritative,
        }],
        plain_http: true,
        ..Route::new("mirrored", prefix(&origin))
    };
    routes.insert(route).unwrap();
    site.client.set_routes(routes).unwrap();
    Mirrored { origin, mirror, site }
}

fn prefix(fake: &FakeRegistry) -> Prefix {
    fake.host().parse().unwrap()
}

impl Mirrored {
    async fn answer(&mut self, digest: &Digest) -> Option<(Verdict, Reason)> {
        self.site
            .world
            .tell(runs_pinned(&self.origin, "web", "web", digest, digest));
        self.site.look_up().await;
        self.site.verdict("web")
    }
}

/// A digest that is served only by a mirror verifies there.
/// Weakened once: with only the origin asked, it is Unknown/ImageNotFound.
#[tokio::test]
async fn a_digest_that_only_a_mirror_serves_verifies_there() {
    for authoritative in [true, false] {
        let mut place = mirrored(authoritative).await;
        let digest = image(&place.mirror, "web");
        sign_by_tag(&place.mirror, "web", &place.site.signer, &digest);
        assert_eq!(
            place.answer(&digest).await,
            HOLDS,
            "authoritative: {authoritative}"
        );
    }
}

/// `assay check` finds what a tag names where the look-up finds the image.
#[tokio::test]
async fn an_image_that_is_examined_by_tag_is_found_at_the_mirror() {
    let place = mirrored(false).await;
    let digest = image(&place.mirror, "web");
    sign_by_tag(&place.mirror, "web", &place.site.signer, &digest);
    let mut policy = crate::tests::world::policy("prod", "**", &["release"]);
    policy.spec.as_mut().unwrap().match_.images = vec!["**/shop/**".into()];
    let key = crate::fact::KeyFacts {
        name: "release-2026".into(),
        generation: 1,
        spec: Ok(crate::tests::world::key_spec(
            "release",
            &place.site.signer,
            api::Stage::Active,
        )),
    };
    let question = crate::Question {
        image: format!("{}/shop/web:1", place.origin.host()),
        namespace: "default".into(),
        labels: Default::default(),
        policies: vec![policy],
        keys: vec![key],
        revocations: Vec::new(),
        exceptions: Vec::new(),
        workload: None,
        trust_roots: Default::default(),
    };
    let examined = crate::examine(place.site.client.clone(), &question)
        .await
        .unwrap();
    assert_eq!(
        (examined.verdict, examined.digest),
        (Verdict::Compliant, Some(digest))
    );
}

/// B42: "not mirrored" is not "not signed". Weakened once: with any source that has the image taken for
/// authoritative, the second case is Violating.
#[tokio::test]
async fn b42_only_what_an_authoritative_source_lacks_is_unsigned() {
    let mut place = mirrored(true).await;
    let digest = image(&place.mirror, "web");
    assert_eq!(
        place.answer(&digest).await,
        UNSIGNED,
        "the mirror is authoritative"
    );
    assert_eq!(place.origin.count(), 0, "and nobody else is asked");

    let mut place = mirrored(false).await;
    let digest = image(&place.mirror, "web");
    assert_eq!(place.answer(&digest).await, unknown(Reason::ImageNotFound));
    let message = place.site.message("web");
    assert!(message.contains("not authoritative"), "{message}");

    let mut place = mirrored(false).await;
    let digest = image(&place.mirror, "web");
    image(&place.origin, "web");
    assert_eq!(
        place.answer(&digest).await,
        UNSIGNED,
        "the origin has it, and no signature"
    );

    let mut place = mirrored(false).await;
    let digest = image(&place.mirror, "web");
    image(&place.origin, "web");
    sign_by_tag(&place.origin, "web", &place.site.signer, &digest);
    assert_eq!(place.answer(&digest).await, HOLDS, "signatures were not mirrored");

    let mut place = mirrored(true).await;
    let digest = image(&place.origin, "web");
    assert_eq!(
        place.answer(&digest).await,
        UNSIGNED,
        "not mirrored, and not signed at its origin"
    );

    let mut place = mirrored(false).await;
    assert_eq!(
        place.answer(&Digest::sha256(b"nowhere")).await,
        unknown(Reason::ImageNotFound)
    );
    let message = place.site.message("web");
    assert!(message.contains("mirrored"), "{message}");
}

#[tokio::test]
async fn b42_a_mirror_that_fails_leaves_an_absence_unproven_and_a_signature_proven() {
    let mut place = mirrored(false).await;
    let digest = image(&place.origin, "web");
    place.mirror.inject(On::any(), Fault::Status(503));
    assert_eq!(place.answer(&digest).await, unknown(Reason::RegistryUnavailable));
    sign_by_tag(&place.origin, "web", &place.site.signer, &digest);
    place.site.world.pass_time(30);
    place.site.look_up().await;
    assert_eq!(place.site.verdict("web"), HOLDS);
}

#[tokio::test]
async fn a_signature_that_is_deleted_where_it_was_found_is_missed_although_the_mirror_is_unchanged() {
    let mut place = mirrored(false).await;
    let digest = image(&place.mirror, "web");
    image(&place.origin, "web");
    sign_by_tag(&place.mirror, "web", &crate::tests::world::Signer::new(), &digest);
    sign_by_tag(&place.origin, "web", &place.site.signer, &digest);
    assert_eq!(place.answer(&digest).await, HOLDS);
    place.site.next_check().await;
    assert_eq!(place.site.verdict("web"), HOLDS);
    assert!(place.origin.delete("shop/web", &evidence_tag(&digest, "sig")));
    place.site.next_check().await;
    assert_eq!(
        place.site.verdict("web"),
        Some((Verdict::Violating, Reason::SignerNotTrusted))
    );
}

/// B47. Fails on a build that ends a look at the mirror which still has what holds: the workload stays
/// Compliant.
#[tokio::test]
async fn b47_a_mirror_that_lags_behind_hides_no_newer_bad_attestation() {
    let mut place = mirrored(false).await;
    place.site.ask_for_scans();
    let digest = image(&place.mirror, "web");
    image(&place.origin, "web");
    let attach = |place: &Mirrored, at: &FakeRegistry, scan: &serde_json::Value| {
        let bundle = place.site.signer.state(&digest, SCAN, scan);
        at.attach("shop/web", &digest.to_string(), BUNDLE, bundle);
    };
    attach(&place, &place.mirror, &scan_of("2027-01-14", true));
    assert_eq!(place.answer(&digest).await, HOLDS);
    attach(&place, &place.origin, &scan_of("2027-01-15", false));
    place.site.next_check().await;
    assert_eq!(
        place.site.verdict("web"),
        Some((Verdict::Violating, Reason::AttestationRejected))
    );
}

/// A pull-through cache fetches what it is asked for: what it does not have may exist.
#[tokio::test]
async fn b42_the_404_of_a_pull_through_cache_proves_nothing() {
    let cache = FakeRegistry::start().await.unwrap();
    let mut site = Site::new(&[&cache]);
    let mut routes = Routes::default();
    let route = Route {
        pull_through_cache: true,
        plain_http: true,
        ..Route::new("cache", prefix(&cache))
    };
    routes.insert(route).unwrap();
    site.client.set_routes(routes).unwrap();
    let digest = image(&cache, "web");
    site.world.tell(runs(&cache, "web", "web", &digest));
    site.look_up().await;
    assert_eq!(site.verdict("web"), unknown(Reason::RegistryUnavailable));
    assert!(
        site.message("web").contains("pull-through cache"),
        "{}",
        site.message("web")
    );
    sign_by_tag(&cache, "web", &site.signer, &digest);
    site.world.pass_time(30);
    site.look_up().await;
    assert_eq!(site.verdict("web"), HOLDS);
}

/// As cosign's COSIGN_REPOSITORY.
#[tokio::test]
async fn evidence_is_found_in_the_evidence_repository_and_an_absence_there_counts() {
    let fake = FakeRegistry::start().await.unwrap();
    let mut site = Site::new(&[&fake]);
    let mut routes = Routes::default();
    let route = Route {
        evidence_repository: Some(format!("{}/signatures", fake.host()).parse().unwrap()),
        plain_http: true,
        ..Route::new("apart", prefix(&fake))
    };
    routes.insert(route).unwrap();
    site.client.set_routes(routes).unwrap();
    let digest = image(&fake, "web");
    sign_by_tag(&fake, "web", &site.signer, &digest);
    site.world.tell(runs(&fake, "web", "web", &digest));
    site.look_up().await;
    assert_eq!(
        site.verdict("web"),
        UNSIGNED,
        "nothing is looked for beside the image"
    );
    let signature = site.signer.sign(&digest);
    put_tag(&fake, "signatures", &evidence_tag(&digest, "sig"), &signature);
    site.world.pass_time(30);
    site.look_up().await;
    assert_eq!(site.verdict("web"), HOLDS);
}

/// B42, both orders: a digest that also runs from an empty repository turns nothing there or elsewhere.
#[tokio::test]
async fn b42_an_empty_repository_neither_spoils_nor_borrows() {
    for empty_first in [true, false] {
        let (home, evil) = (
            FakeRegistry::start().await.unwrap(),
            FakeRegistry::start().await.unwrap(),
        );
        let mut site = Site::new(&[&home, &evil]);
        let digest = image(&home, "web");
        sign_by_tag(&home, "web", &site.signer, &digest);
        let mut pods = vec![
            runs_pinned(&evil, "evil", "web", &digest, &digest),
            runs(&home, "web", "web", &digest),
        ];
        if !empty_first {
            pods.reverse();
        }
        for pod in pods {
            site.world.tell(pod);
            site.look_up().await;
        }
        assert_eq!(site.verdict("web"), HOLDS);
        assert_eq!(site.verdict("evil"), unknown(Reason::ImageNotFound));
    }
}

/// B42: an image that was deleted is Unknown in the end, whatever signature is left of it.
#[tokio::test]
async fn b42_a_deleted_image_decays_although_its_signature_is_left() {
    let fake = FakeRegistry::start().await.unwrap();
    let mut site = Site::new(&[&fake]);
    let digest = image(&fake, "web");
    sign_by_tag(&fake, "web", &site.signer, &digest);
    assert!(fake.delete("shop/web", &digest.to_string()));
    site.world
        .tell(runs_pinned(&fake, "web", "web", &digest, &digest));
    site.look_up().await;
    assert_eq!(site.verdict("web"), unknown(Reason::ImageNotFound));
}
