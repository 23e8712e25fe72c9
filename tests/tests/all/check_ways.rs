//! One way of discovery that does not answer, all others saying "nothing": no registry can be made to do that. What is
//! not known may be a signature, so the answer is Unknown and no violation.

use testkit::digest_of;

use crate::check_run::Desk;
use crate::manifests::{PEM, key, policy};
use crate::stand_in::{Answer, StandIn};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const IMAGE: &str = concat!(
    r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","#,
    r#""config":{"mediaType":"application/vnd.oci.image.config.v1+json","#,
    r#""digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},"layers":[]}"#
);

/// A registry that has the image, no signature of it, and trouble with one path.
async fn troubled(path: impl Fn(&str) -> bool + Send + Sync + 'static, trouble: u16) -> StandIn {
    let digest = digest_of(IMAGE.as_bytes());
    StandIn::start(move |asked| match asked {
        asked if path(asked) => Answer::status(trouble),
        asked if asked.ends_with(&format!("/manifests/{digest}")) => {
            Answer::content(MANIFEST, IMAGE.as_bytes().to_vec())
        }
        _ => Answer::status(404),
    })
    .await
}

async fn says(desk: &Desk, registry: &StandIn, verdict: &str, reason: &str) {
    let image = format!("{}/shop/web@{}", registry.host(), digest_of(IMAGE.as_bytes()));
    let manifests = [
        &key("release-1", "release", PEM),
        &policy("signed", "**", "release"),
    ];
    desk.check(&image, &manifests, &["--insecure-registry", &registry.host()])
        .await
        .says(verdict, reason);
}

/// Weakened once: with an error of the referrers API taken for an empty list, and with an error of a tag taken for its
/// absence, the cases of that way say Violating/SignatureMissing.
#[tokio::test]
async fn f07_b43_one_way_that_does_not_answer_is_unknown_although_the_others_find_nothing() {
    let desk = Desk::new("one-way");
    let digest = digest_of(IMAGE.as_bytes());
    let tag = digest.replace(':', "-");
    says(
        &desk,
        &troubled(|_| false, 500).await,
        "Violating",
        "SignatureMissing",
    )
    .await;
    let reasons = [
        (500, "RegistryUnavailable"),
        (503, "RegistryUnavailable"),
        (401, "RegistryDenied"),
        (403, "RegistryDenied"),
        (429, "RateLimited"),
    ];
    for (status, reason) in reasons {
        for way in [
            format!("/referrers/{digest}"),
            format!("/manifests/{tag}"),
            format!("/manifests/{tag}.sig"),
        ] {
            let registry = troubled(move |asked| asked.ends_with(&way), status).await;
            says(&desk, &registry, "Unknown", reason).await;
        }
    }
}
