//! What a test of evidence needs: both cosigns, both registries, a private Sigstore, and the objects that trust it.

use serde_json::{Value, json};
use testkit::{Cosign, Format, Identity, KeyPair, Pushed, Registry, Sigstore};

use crate::check_run::{Checked, Desk};
use crate::manifests::{key, policy, with};

pub(crate) const FORMATS: [Format; 2] = [Format::Tag, Format::Bundle];
pub(crate) const REVIEW: &str = "https://example.com/review/v1";

/// Everything that a test of evidence needs.
pub(crate) struct Bench {
    pub(crate) desk: Desk,
    pub(crate) sigstore: &'static Sigstore,
    pub(crate) root: Value,
}

impl Bench {
    pub(crate) async fn new(test: &str) -> Self {
        let desk = Desk::new(test);
        let sigstore = desk.shared.sigstore().await.unwrap();
        let root = trust_root("private", &sigstore.trusted_root_json().unwrap());
        Self { desk, sigstore, root }
    }

    pub(crate) fn registries(&self) -> [&'static Registry; 2] {
        [&self.desk.shared.distribution, &self.desk.shared.referrers]
    }

    pub(crate) fn cosigns(&self) -> [&Cosign; 2] {
        [&self.desk.cosign2, &self.desk.cosign3]
    }

    pub(crate) async fn push(&self, registry: &Registry, repository: &str, seed: &str) -> Pushed {
        registry.writer().push_image(repository, "1", seed).await.unwrap()
    }

    /// A SigningKey of ring `release` for an identity that the private Sigstore's issuers vouch for.
    pub(crate) fn identity(&self, identity: &Identity) -> Value {
        keyless(
            "release-ci",
            json!({"issuer": self.sigstore.issuer_of(identity), "subject": identity.subject()}),
        )
    }

    pub(crate) async fn says(&self, image: &Pushed, trust: &[&Value], verdict: &str, reason: &str) {
        self.says_of(&image.by_digest(), trust, verdict, reason).await;
    }

    pub(crate) async fn says_of(&self, image: &str, trust: &[&Value], verdict: &str, reason: &str) {
        self.checked(image, trust).await.says(verdict, reason);
    }

    /// Whether `assay check` calls the image Compliant; fails unless the image was judged at all.
    pub(crate) async fn accepts(&self, image: &Pushed, trust: &[&Value]) -> bool {
        let checked = self.checked(&image.by_digest(), trust).await;
        match (checked.answer["verdict"].as_str(), checked.code) {
            (Some("Compliant"), 0) => true,
            (Some("Violating"), 1) | (Some("Unknown"), 2) => false,
            _ => panic!("{}: {checked:?}", image.by_digest()),
        }
    }

    async fn checked(&self, image: &str, trust: &[&Value]) -> Checked {
        let mut manifests = trust.to_vec();
        manifests.push(&self.root);
        self.desk.check(image, &manifests, &[]).await
    }
}

pub(crate) fn trust_root(name: &str, json: &str) -> Value {
    json!({
        "apiVersion": "assay.dev/v1alpha1",
        "kind": "TrustRoot",
        "metadata": {"name": name},
        "spec": {"inline": json},
    })
}

pub(crate) fn keyless(name: &str, matchers: Value) -> Value {
    json!({
        "apiVersion": "assay.dev/v1alpha1",
        "kind": "SigningKey",
        "metadata": {"name": name},
        "spec": {"keyRing": "release", "stage": "Active", "trustRoot": "private", "keyless": matchers},
    })
}

/// A policy whose one requirement is this.
pub(crate) fn requiring(requirement: Value) -> Value {
    with(
        policy("required", "**", "release"),
        json!({"spec": {"require": [with(json!({"name": "wanted"}), requirement)]}}),
    )
}

pub(crate) fn reviewed(further: Value) -> Value {
    let attestation = json!({"predicateType": REVIEW, "signedBy": ["release"]});
    requiring(json!({"attestation": with(attestation, further)}))
}

pub(crate) fn people() -> [Identity; 2] {
    [
        Identity::email("alice@example.com"),
        Identity::workflow("shop/web", "release.yaml", "refs/heads/main"),
    ]
}

pub(crate) fn trusted(pair: &KeyPair) -> Value {
    key("release-1", "release", &pair.public_pem().unwrap())
}
