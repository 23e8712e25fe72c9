//! One image judged once, without a cluster: the same look-up and the same evaluation as for what
//! runs, asked by a person or a pipeline.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::{ContainerType, ImagePolicySpec, Reason, Verdict, WorkloadRef};
use image::{Digest, Reference, ReferenceError};
use jiff::Timestamp;
use verify::TrustRoot;

use crate::core::Engine;
use crate::fact::{
    ExceptionFacts, Fact, KeyFacts, PodFacts, PodImage, PolicyFacts, RevocationFacts, Workload,
};
use crate::index::ImageOf;
use crate::lookup::{Bodies, Clients, look_up};
use crate::report::PolicyAnswer;
use crate::store::{Store, StoreError};

/// What is examined, and by what.
#[derive(Clone, Debug)]
pub struct Question {
    /// The image as a pod's spec would write it.
    pub image: String,
    /// The namespace it would run in.
    pub namespace: String,
    /// The workload that it would belong to; None for a pod of its own.
    pub workload: Option<WorkloadRef>,
    /// The labels of that namespace.
    pub labels: BTreeMap<String, String>,
    /// The policies.
    pub policies: Vec<PolicyFacts>,
    /// The keys.
    pub keys: Vec<KeyFacts>,
    /// The revocations.
    pub revocations: Vec<RevocationFacts>,
    /// The exceptions.
    pub exceptions: Vec<ExceptionFacts>,
    /// The trust roots, by name.
    pub trust_roots: BTreeMap<Arc<str>, Arc<TrustRoot>>,
}

/// The answer.
#[derive(Clone, Debug)]
pub struct Examination {
    /// The image as asked.
    pub image: String,
    /// The digest that was judged; None where it could not be found out.
    pub digest: Option<Digest>,
    /// The worst verdict of the covering policies; NotCovered where there is none.
    pub verdict: Verdict,
    /// One answer for each covering policy, in order of name.
    pub policies: Vec<PolicyExamination>,
}

/// The answer of one policy, and of each of its requirements taken alone.
#[derive(Clone, Debug)]
pub struct PolicyExamination {
    /// The answer.
    pub answer: PolicyAnswer,
    /// Each requirement by itself, in the policy's order.
    pub requirements: Vec<RequirementExamination>,
}

/// The answer of one requirement taken alone.
#[derive(Clone, Debug)]
pub struct RequirementExamination {
    /// Its name.
    pub name: Arc<str>,
    /// The answer.
    pub answer: PolicyAnswer,
    /// The SigningKeys that made it hold, by name.
    pub signed_by: Vec<Arc<str>>,
}

/// Why an image cannot be examined at all.
#[derive(Debug, thiserror::Error)]
pub enum ExamineError {
    /// The image is not a reference.
    #[error("{image:?} is not an image reference: {source}")]
    Image {
        /// What was asked.
        image: String,
        /// What is wrong with it.
        source: ReferenceError,
    },
    /// No room for evidence.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Judges one image.
pub async fn examine(client: registry::Client, question: &Question) -> Result<Examination, ExamineError> {
    let reference: Reference = question.image.parse().map_err(|source| ExamineError::Image {
        image: question.image.clone(),
        source,
    })?;
    let store = Arc::new(Store::open(None)?);
    let mut engine = Engine::new(store.clone());
    let now = Timestamp::now();
    let parts = question.tell(&mut engine, now);
    let key = question.workload().key;
    if !engine
        .policies_for(&key)
        .iter()
        .any(|policy| policy.covers_image(&reference.repository))
    {
        // What no policy covers is not asked about at any registry.
        let (image, digest) = (question.image.clone(), reference.digest);
        return Ok(Examination {
            image,
            digest,
            verdict: Verdict::NotCovered,
            policies: Vec::new(),
        });
    }
    let resolved = resolve(&client, &reference).await;
    engine.apply(Fact::Pod(question.pod(&reference, &resolved)), now);
    engine.apply(Fact::Synced, now);
    let (clients, bodies) = (Clients::new(client, None), Bodies::new(store));
    let asks: Vec<_> = std::iter::from_fn(|| engine.next_lookup(now, &|_| true)).collect();
    for ask in asks {
        let pass = look_up(clients.clone(), bodies.clone(), ask).await;
        engine.absorb_pass(pass, Timestamp::now());
    }
    let image = engine.index.images(&key, Timestamp::MAX).into_keys().next();
    let policies = match &image {
        Some(image) => answers(&engine, &key, image, &resolved, &parts),
        None => Vec::new(),
    };
    let worst = policies
        .iter()
        .map(|policy| policy.answer.verdict)
        .max_by_key(|verdict| crate::judge::badness(*verdict));
    Ok(Examination {
        image: question.image.clone(),
        digest: resolved.ok(),
        verdict: worst.unwrap_or(Verdict::NotCovered),
        policies,
    })
}

/// The digest to judge: the one written, else what the tag names now, at the first source that has it. Resolved once.
async fn resolve(client: &registry::Client, reference: &Reference) -> Result<Digest, String> {
    if let Some(digest) = &reference.digest {
        return Ok(digest.clone());
    }
    let tag = reference.tag().unwrap_or("latest");
    let mut failed = None;
    for source in client.sources(&reference.repository) {
        match client.tagged_manifest(&source.repository, tag).await {
            Ok(Some(manifest)) => return Ok(manifest.digest),
            Ok(None) => {}
            Err(error) => failed = failed.or(Some(error.to_string())),
        }
    }
    Err(failed.unwrap_or_else(|| format!("{} does not have the tag {tag}", reference.repository)))
}

/// For each policy its requirements: the name of a policy that holds this one alone, and its own name.
type Parts = BTreeMap<Arc<str>, Vec<(Arc<str>, Arc<str>)>>;

fn answers(
    engine: &Engine,
    key: &crate::fact::WorkloadKey,
    image: &ImageOf,
    resolved: &Result<Digest, String>,
    parts: &Parts,
) -> Vec<PolicyExamination> {
    let policies = engine.policies_for(key);
    let mut all = engine
        .answers(key, &policies, image, Timestamp::now())
        .unwrap_or_default();
    for answer in &mut all {
        engine.add_provenance(answer, key, image);
    }
    let of = |name: &Arc<str>| {
        all.iter()
            .find(|answer| answer.policy == *name)
            .map(|answer| explained(answer, resolved))
    };
    parts
        .iter()
        .filter_map(|(name, parts)| {
            let requirements = parts.iter().filter_map(|(part, requirement)| {
                let answer = of(part)?;
                let signed_by = match answer.verdict {
                    Verdict::Compliant => engine.keys.names_of(&answer.signers),
                    _ => Vec::new(),
                };
                Some(RequirementExamination {
                    name: requirement.clone(),
                    answer,
                    signed_by,
                })
            });
            Some(PolicyExamination {
                answer: of(name)?,
                requirements: requirements.collect(),
            })
        })
        .collect()
}

/// An image whose digest cannot be found out is not "not started": say what the registry said.
fn explained(answer: &PolicyAnswer, resolved: &Result<Digest, String>) -> PolicyAnswer {
    match resolved {
        Err(why) if answer.reason == Reason::Pending => PolicyAnswer {
            reason: Reason::DigestUnresolved,
            message: crate::judge::shortened(&format!(
                "The digest behind the image's tag cannot be found out: {why}. Name the image by digest, or make the registry reachable."
            ))
            .into(),
            ..answer.clone()
        },
        _ => answer.clone(),
    }
}

impl Question {
    fn workload(&self) -> Workload {
        let examined = || WorkloadRef {
            api_version: "v1".into(),
            kind: "Pod".into(),
            name: "examined".into(),
            ..WorkloadRef::default()
        };
        Workload::new(
            self.namespace.as_str().into(),
            self.workload.clone().unwrap_or_else(examined),
            Timestamp::UNIX_EPOCH,
        )
    }

    /// Tells the engine of the keys and of every policy both whole and by each requirement alone.
    fn tell(&self, engine: &mut Engine, now: Timestamp) -> Parts {
        let mut parts = Parts::new();
        engine.apply(
            Fact::Namespace {
                name: self.namespace.as_str().into(),
                labels: self.labels.clone(),
            },
            now,
        );
        for (name, root) in &self.trust_roots {
            let (name, root) = (name.clone(), Ok(root.clone()));
            engine.apply(Fact::TrustRoot { name, root }, now);
        }
        for key in &self.keys {
            engine.apply(Fact::Key(Box::new(key.clone())), now);
        }
        for revocation in &self.revocations {
            engine.apply(Fact::Revocation(Box::new(revocation.clone())), now);
        }
        for exception in &self.exceptions {
            engine.apply(Fact::Exception(Box::new(exception.clone())), now);
        }
        for policy in &self.policies {
            let alone = parts.entry(policy.name.clone()).or_default();
            engine.apply(Fact::Policy(Box::new(policy.clone())), now);
            for (requirement, part) in requirements_alone(policy) {
                alone.push((part.name.clone(), requirement));
                engine.apply(Fact::Policy(Box::new(part)), now);
            }
        }
        parts
    }

    /// A pod that runs the image.
    fn pod(&self, reference: &Reference, resolved: &Result<Digest, String>) -> PodFacts {
        let image_id = match resolved {
            Ok(digest) => format!("{}@{digest}", reference.repository),
            Err(_) => String::new(),
        };
        let image = PodImage {
            container: "examined".into(),
            container_type: ContainerType::Container,
            written: self.image.as_str().into(),
            image_id: Some(image_id.into()),
        };
        PodFacts {
            uid: "examined".into(),
            name: "examined".into(),
            workload: Arc::new(self.workload()),
            images: vec![image],
            keychain: None,
        }
    }
}

/// Each requirement's name, with a policy that holds it alone under a name that no object can have.
fn requirements_alone(policy: &PolicyFacts) -> Vec<(Arc<str>, PolicyFacts)> {
    let Ok(spec) = &policy.spec else { return Vec::new() };
    let alone = spec.require.iter().enumerate().map(|(position, requirement)| {
        let name: Arc<str> = format!("{}/{position}", policy.name).into();
        let spec = ImagePolicySpec {
            require: vec![requirement.clone()],
            require_digest: None,
            ..spec.clone()
        };
        let alone = PolicyFacts {
            name,
            spec: Ok(spec),
            in_force: None,
            generation: policy.generation,
        };
        (requirement.name.as_str().into(), alone)
    });
    alone.collect()
}
