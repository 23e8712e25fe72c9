//! A fleet as facts for the engine: what its watches would have told.

use std::sync::Arc;

use api::{
    ContainerType, Demand, ImagePolicySpec, Match, Mode, PublicKeySource, Requirement, SignatureRequirement,
    SigningKeySpec, Stage, WorkloadRef,
};
use engine::{Fact, KeyFacts, PodFacts, PodImage, PolicyFacts, TemplateFacts, Workload};
use jiff::Timestamp;

use crate::images;

/// Namespaces of every fleet.
const NAMESPACES: usize = 500;

/// One workload of the fleet; it runs the image of the same number.
pub(crate) struct FleetWorkload {
    number: usize,
    workload: Arc<Workload>,
    image: PodImage,
}

/// The workloads of a fleet, one for each image, interned as the inventory does it.
pub(crate) fn workloads(host: &str, images: usize) -> Vec<FleetWorkload> {
    let namespaces: Vec<Arc<str>> = (0..NAMESPACES).map(namespace).collect();
    let container: Arc<str> = "main".into();
    let workload = |number: usize| {
        let name = format!("app-{number}");
        let repository = format!("{host}/{}", images::path(number));
        let digest = images::digest(number);
        let namespace = namespaces[number % NAMESPACES].clone();
        let reference = WorkloadRef {
            api_version: "apps/v1".into(),
            kind: "Deployment".into(),
            uid: format!("00000000-0000-4000-8000-{number:012}"),
            name,
            ..WorkloadRef::default()
        };
        FleetWorkload {
            number,
            workload: Arc::new(Workload::new(namespace, reference, Timestamp::UNIX_EPOCH)),
            image: PodImage {
                container: container.clone(),
                container_type: ContainerType::Container,
                written: format!("{repository}:{}", images::TAG).into(),
                image_id: Some(format!("{repository}@{digest}").into()),
            },
        }
    };
    (0..images).map(workload).collect()
}

impl FleetWorkload {
    /// What it would start: the image, by its tag.
    pub(crate) fn template(&self) -> Fact {
        Fact::Template(TemplateFacts {
            workload: self.workload.clone(),
            images: vec![self.image.written.clone()],
            keychain: None,
        })
    }

    /// The pod of this workload with a number.
    pub(crate) fn pod(&self, pod: usize) -> Fact {
        let number = self.number;
        Fact::Pod(PodFacts {
            uid: format!("{pod:08}-0000-4000-9000-{number:012}").into(),
            name: format!("app-{number}-5d59d67564-{pod:05}").into(),
            workload: self.workload.clone(),
            images: vec![self.image.clone()],
            keychain: None,
        })
    }
}

/// What exists besides pods: namespaces, `keys` keys of which the first two signed every image, and `policies`
/// policies of which the first covers every image by both of them, and the others none.
pub(crate) fn surroundings(host: &str, signers: &[String], others: &[String], policies: usize) -> Vec<Fact> {
    let mut facts: Vec<Fact> = (0..NAMESPACES)
        .map(|number| Fact::Namespace {
            name: namespace(number),
            labels: [("team".to_owned(), format!("team-{}", number % 50))].into(),
        })
        .collect();
    facts.extend(
        ["release", "security"]
            .iter()
            .zip(signers)
            .map(|(ring, pem)| key(ring, ring, pem)),
    );
    facts.extend(
        others
            .iter()
            .enumerate()
            .map(|(number, pem)| key(&format!("other-{number:03}"), "other", pem)),
    );
    facts.push(policy(
        "fleet",
        &format!("{host}/fleet/**"),
        &["release", "security"],
    ));
    facts.extend((1..policies).map(|number| {
        policy(
            &format!("other-{number:03}"),
            &format!("{host}/other-{number}/**"),
            &["other"],
        )
    }));
    facts
}

fn namespace(number: usize) -> Arc<str> {
    format!("ns-{number:04}").into()
}

fn key(name: &str, ring: &str, pem: &str) -> Fact {
    staged(name, ring, pem, Stage::Active)
}

/// A key in a stage.
pub(crate) fn staged(name: &str, ring: &str, pem: &str, stage: Stage) -> Fact {
    key_fact(name, key_spec(ring, pem, stage))
}

/// A key of which a timestamp would count if there were one: another verifier, so that nothing computed before holds.
pub(crate) fn asking_for_time(name: &str, ring: &str, pem: &str) -> Fact {
    let spec = SigningKeySpec {
        timestamp: Some(Demand::Optional),
        trust_root: Some(api::PUBLIC_GOOD.to_owned()),
        ..key_spec(ring, pem, Stage::Active)
    };
    key_fact(name, spec)
}

fn key_fact(name: &str, spec: SigningKeySpec) -> Fact {
    Fact::Key(Box::new(KeyFacts {
        name: name.into(),
        generation: 1,
        spec: Ok(spec),
    }))
}

fn key_spec(ring: &str, pem: &str, stage: Stage) -> SigningKeySpec {
    SigningKeySpec {
        key_ring: ring.to_owned(),
        stage,
        public_key: Some(PublicKeySource { pem: pem.to_owned() }),
        keyless: None,
        trust_root: None,
        transparency_log: None,
        timestamp: None,
        not_before: None,
        not_after: None,
    }
}

/// A policy that asks for a signature by each of these rings.
pub(crate) fn policy(name: &str, images: &str, rings: &[&str]) -> Fact {
    let spec = ImagePolicySpec {
        description: None,
        remediation: None,
        mode: Mode::Enforce,
        match_: Match {
            images: vec![images.to_owned()],
            ..Match::default()
        },
        require: vec![Requirement {
            name: "signed".into(),
            signature: Some(SignatureRequirement {
                signed_by: rings.iter().map(|ring| (*ring).to_owned()).collect(),
                minimum: Some(u8::try_from(rings.len()).unwrap_or(u8::MAX).into()),
            }),
            ..Requirement::default()
        }],
        multi_arch: None,
        require_digest: None,
        bind_repository: None,
        recheck: None,
        warn_before: None,
        on_unknown: None,
        supersedes: None,
    };
    Fact::Policy(Box::new(PolicyFacts {
        name: name.into(),
        generation: 1,
        spec: Ok(spec),
        in_force: None,
    }))
}
