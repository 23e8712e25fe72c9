//! SigningKeys and policies to begin with, by what was found: every policy in mode DryRun. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::report::{Group, Signer, Survey};

const NAME: usize = 63;

/// A SigningKey for each identity, and a policy for each repository.
pub(super) fn objects(survey: &Survey) -> Vec<Value> {
    let mut rings: BTreeMap<Signer, String> = BTreeMap::new();
    let mut keys = Vec::new();
    let mut policies = Vec::new();
    for (repository, group) in &survey.repositories {
        let rings = match group.common_signers() {
            Some(signers) => signers
                .into_iter()
                .map(|signer| ring(signer, &mut rings, &mut keys))
                .collect(),
            // Nobody who signed all of it is known: whose signature it should carry is for a person to say.
            None => BTreeSet::from(["choose-a-key-ring".to_owned()]),
        };
        let repository = repository.to_string();
        let name = free(&repository, |name| {
            policies
                .iter()
                .any(|policy: &Value| policy["metadata"]["name"] == name)
        });
        policies.push(policy(&name, &repository, group, rings));
    }
    keys.into_iter().chain(policies).collect()
}

fn ring(signer: Signer, rings: &mut BTreeMap<Signer, String>, keys: &mut Vec<Value>) -> String {
    let (issuer, subject) = match &signer {
        Signer::Key { ring, .. } => return ring.clone(),
        Signer::Identity { issuer, subject } => (issuer.clone(), subject.clone()),
    };
    if let Some(ring) = rings.get(&signer) {
        return ring.clone();
    }
    let bare = subject
        .trim_start_matches("https://")
        .split('@')
        .next()
        .unwrap_or_default();
    let is_taken = |name: &str| rings.values().any(|ring| ring == name);
    let wanted = match name(bare) {
        wanted if is_taken(&wanted) => free(&format!("{bare} {issuer} {subject}"), is_taken),
        wanted => wanted,
    };
    keys.push(json!({
        "apiVersion": "assay.dev/v1alpha1",
        "kind": "SigningKey",
        "metadata": {"name": wanted},
        "spec": {"keyRing": wanted, "stage": "Active", "keyless": {"issuer": issuer, "subject": subject}},
    }));
    rings.insert(signer, wanted.clone());
    wanted
}

/// Two keys of one ring are one ring.
fn policy(name: &str, repository: &str, group: &Group, rings: BTreeSet<String>) -> Value {
    let rings: Vec<String> = rings.into_iter().take(16).collect();
    json!({
        "apiVersion": "assay.dev/v1alpha1",
        "kind": "ImagePolicy",
        "metadata": {"name": name},
        "spec": {
            "description": format!(
                "Suggested by a survey: {} images in {} workloads", group.images.len(), group.workloads.len()
            ),
            "mode": "DryRun",
            "match": {"images": [repository]},
            "require": [{"name": "signature", "signature": {"signedBy": rings}}],
        },
    })
}

/// A name that nothing else has: where two texts would have the same, the second one ends in its digest.
fn free(text: &str, is_taken: impl Fn(&str) -> bool) -> String {
    match name(text) {
        taken if is_taken(&taken) => hashed(text),
        free => free,
    }
}

/// A name that the API server takes. One that would be too long, or say too little, ends in the digest of what it stands
/// for.
fn name(text: &str) -> String {
    let plain = plain(text);
    match plain.len() <= NAME && plain.matches("--").count() == 0 {
        true => plain,
        false => hashed(text),
    }
}

/// Lower-case letters, digits and dashes.
fn plain(text: &str) -> String {
    let lower = text.to_lowercase();
    let letters = lower.chars().map(|letter| match letter {
        'a'..='z' | '0'..='9' => letter,
        _ => '-',
    });
    let plain: String = letters.collect();
    plain.trim_matches('-').to_owned()
}

fn hashed(text: &str) -> String {
    let hash: String = image::Digest::sha256(text.as_bytes())
        .hex()
        .chars()
        .take(10)
        .collect();
    let head: String = plain(text).chars().take(NAME - 11).collect();
    format!("{}-{hash}", head.trim_matches('-'))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use api::{ContainerType, WorkloadRef};
    use engine::{PodFacts, PodImage, Workload};

    use super::super::report::Signed;
    use super::*;

    fn pod(name: &str, image: &str, digest: char) -> PodFacts {
        let repository = image.split(':').next().unwrap_or_default();
        let reference = WorkloadRef {
            kind: "Deployment".into(),
            name: name.into(),
            ..WorkloadRef::default()
        };
        PodFacts {
            uid: name.into(),
            name: name.into(),
            workload: Arc::new(Workload::new(
                "shop".into(),
                reference,
                jiff::Timestamp::UNIX_EPOCH,
            )),
            images: vec![PodImage {
                container: "main".into(),
                container_type: ContainerType::Container,
                written: image.into(),
                image_id: Some(format!("{repository}@sha256:{}", String::from(digest).repeat(64)).into()),
            }],
            keychain: None,
        }
    }

    fn identity(subject: &str) -> Signer {
        Signer::Identity {
            issuer: "https://token.actions.githubusercontent.com".to_owned(),
            subject: subject.to_owned(),
        }
    }

    #[test]
    fn only_who_signed_everything_is_suggested_and_every_policy_is_a_dry_run() {
        let pods = [
            pod("a", "r.example.com/shop/web:1", 'a'),
            pod("b", "r.example.com/shop/web:2", 'b'),
            pod("c", "r.example.com/shop/cart:1", 'c'),
        ];
        let mut survey = Survey::of(&pods);
        let (release, other) = (
            identity("https://github.com/acme/shop/.github/workflows/release.yml@refs/heads/main"),
            identity("somebody@example.com"),
        );
        let mut images = survey
            .repositories
            .values_mut()
            .flat_map(|group| group.images.values_mut());
        images.next().unwrap().signed = Signed::Nobody;
        images.next().unwrap().signed = Signed::By([release.clone(), other].into());
        images.next().unwrap().signed = Signed::By([release].into());
        drop(images);
        assert!(survey.has_doubts());
        let objects = objects(&survey);
        let names: Vec<String> = objects
            .iter()
            .map(|object| {
                format!(
                    "{} {}",
                    object["kind"].as_str().unwrap(),
                    object["metadata"]["name"].as_str().unwrap()
                )
            })
            .collect();
        assert_eq!(objects.len(), 3, "{names:?}");
        assert_eq!(
            names[1..],
            [
                "ImagePolicy r-example-com-shop-cart",
                "ImagePolicy r-example-com-shop-web"
            ]
        );
        let asked = |at: usize| objects[at]["spec"]["require"][0]["signature"]["signedBy"].clone();
        assert_eq!(asked(1), json!(["choose-a-key-ring"]));
        assert_eq!(asked(2), json!([objects[0]["spec"]["keyRing"]]));
        for policy in &objects[1..] {
            let spec: api::ImagePolicySpec = serde_json::from_value(policy["spec"].clone()).unwrap();
            assert_eq!(spec.mode, api::Mode::DryRun);
            policy::CompiledPolicy::compile("suggested", &spec).unwrap();
        }
    }

    /// In the middle of a rotation. Seen to fail with a list in place of the set: the API server refuses it.
    #[test]
    fn two_keys_of_one_ring_are_suggested_as_one() {
        let mut survey = Survey::of(&[pod("a", "r.example.com/shop/web:1", 'a')]);
        let key = |name: &str| Signer::Key {
            name: name.to_owned(),
            ring: "release".to_owned(),
        };
        let groups = survey.repositories.values_mut();
        for image in groups.flat_map(|group| group.images.values_mut()) {
            image.signed = Signed::By([key("release-2026"), key("release-2027")].into());
        }
        let objects = objects(&survey);
        let asked = &objects[0]["spec"]["require"][0]["signature"]["signedBy"];
        assert_eq!((objects.len(), asked), (1, &json!(["release"])));
    }

    /// Applied together, the second one would take the place of the first.
    #[test]
    fn two_repositories_and_two_identities_have_two_names() {
        let pods = [
            pod("a", "r.example.com/shop-web:1", 'a'),
            pod("b", "r.example.com/shop/web:1", 'b'),
            pod("c", "r.example.com/shop.web:1", 'c'),
        ];
        let mut survey = Survey::of(&pods);
        let subjects = [
            "https://x.example/a-b",
            "https://x.example/a/b",
            "https://x.example/a.b",
        ];
        let images = survey
            .repositories
            .values_mut()
            .flat_map(|group| group.images.values_mut());
        for (image, subject) in images.zip(subjects) {
            image.signed = Signed::By([identity(subject)].into());
        }
        let objects = objects(&survey);
        let names = |kind: &str| -> std::collections::BTreeSet<String> {
            let of_kind = objects.iter().filter(|object| object["kind"] == kind);
            of_kind
                .map(|object| object["metadata"]["name"].as_str().unwrap().to_owned())
                .collect()
        };
        let policies = names("ImagePolicy");
        assert_eq!(policies.len(), 3, "{policies:?}");
        assert!(policies.contains("r-example-com-shop-web"), "{policies:?}");
        let keys = names("SigningKey");
        assert_eq!(keys.len(), 3, "{keys:?}");
    }

    #[test]
    fn pods_of_one_image_are_one_image() {
        let pods = [
            pod("a", "r.example.com/shop/web:1", 'a'),
            pod("b", "r.example.com/shop/web:1", 'a'),
        ];
        let survey = Survey::of(&pods);
        let shown = survey.as_json();
        assert_eq!(shown["repositories"][0]["images"].as_array().unwrap().len(), 1);
        assert_eq!(shown["repositories"][0]["pods"], 2);
    }
}
