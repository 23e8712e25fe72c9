//! Small builders: pods, policies, keys, really signed evidence, and passes as a registry would
//! have answered them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use api::{
    ContainerType, ImagePolicySpec, Match, Mode, NextStart, PublicKeySource, Reason, Requirement,
    SignatureRequirement, SigningKeySpec, Stage, Verdict, WorkloadRef,
};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use image::Digest;
use jiff::{SignedDuration, Timestamp};
use policy::Gap;
use serde_json::json;
use verify::Item;

use crate::core::Engine;
use crate::fact::{Fact, KeyFacts, PodFacts, PodImage, PolicyFacts, TemplateFacts, Workload, WorkloadKey};
use crate::lookup::{
    Ask, DigestPass, Evidence, Pass, Resolved, Seen, Shape, Shortfall, TagAnswer, Tagged, WaysSeen,
};
use crate::report::{PolicyAnswer, StartAnswer, WorkloadAnswer};
use crate::store::Store;
use crate::tally::Tally;

/// A signer with its own key.
pub(crate) struct Signer {
    pair: EcdsaKeyPair,
}

impl Signer {
    pub(crate) fn new() -> Signer {
        Signer {
            pair: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap(),
        }
    }

    /// SPKI of P-256 (RFC 5480): the algorithm, then the point.
    fn spki(&self) -> Vec<u8> {
        let prefix = [
            0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
            0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
        ];
        [&prefix, self.pair.public_key().as_ref()].concat()
    }

    pub(crate) fn pem(&self) -> String {
        format!(
            "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
            STANDARD.encode(self.spki())
        )
    }

    pub(crate) fn sign(&self, digest: &Digest) -> Held {
        let payload = format!(
            r#"{{"critical":{{"identity":{{"docker-reference":""}},"image":{{"docker-manifest-digest":"{digest}"}},"type":"cosign container image signature"}},"optional":null}}"#
        );
        let signature = self.pair.sign(&SystemRandom::new(), payload.as_bytes()).unwrap();
        let signature = STANDARD.encode(signature);
        Held::new(
            Item::from_simple_signing(payload.clone().into(), &signature),
            "application/vnd.dev.cosign.simplesigning.v1+json",
            payload.into(),
            json!({"dev.cosignproject.cosign/signature": signature}),
        )
    }

    /// The image signature of cosign 3.
    pub(crate) fn sign_as_bundle(&self, digest: &Digest) -> Bytes {
        self.state(digest, "https://sigstore.dev/cosign/sign/v1", &json!({}))
    }

    /// A bundle with an in-toto statement about the digest; it names the key as cosign does.
    pub(crate) fn state(
        &self,
        digest: &Digest,
        predicate_type: &str,
        predicate: &serde_json::Value,
    ) -> Bytes {
        let envelope = self.envelope(digest, predicate_type, predicate);
        let key = Digest::sha256(&self.spki());
        json!({
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": {"publicKey": {"hint": STANDARD.encode(key.bytes())}},
            "dsseEnvelope": envelope,
        })
        .to_string()
        .into()
    }

    /// A DSSE envelope (v1.0.2) with an in-toto statement (v1) about the digest.
    pub(crate) fn envelope(
        &self,
        digest: &Digest,
        predicate_type: &str,
        predicate: &serde_json::Value,
    ) -> serde_json::Value {
        let statement = json!({
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"name": "image", "digest": {"sha256": digest.hex()}}],
            "predicateType": predicate_type,
            "predicate": predicate,
        })
        .to_string();
        let payload_type = "application/vnd.in-toto+json";
        let signed = format!(
            "DSSEv1 {} {payload_type} {} {statement}",
            payload_type.len(),
            statement.len()
        );
        let signature = self.pair.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        json!({
            "payloadType": payload_type,
            "payload": STANDARD.encode(statement),
            "signatures": [{"sig": STANDARD.encode(signature)}],
        })
    }
}

/// Evidence as a registry holds it: a manifest with one layer, and the item in it.
#[derive(Clone)]
pub(crate) struct Held {
    pub(crate) item: Arc<Item>,
    pub(crate) manifest: Bytes,
    pub(crate) layer: Bytes,
}

impl Held {
    pub(crate) fn new(item: Item, media_type: &str, layer: Bytes, annotations: serde_json::Value) -> Held {
        let layer_digest = Digest::sha256(&layer);
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest("config"), "size": 6},
            "layers": [{"mediaType": media_type, "digest": layer_digest, "size": layer.len(), "annotations": annotations}],
        });
        Held {
            item: Arc::new(item),
            manifest: manifest.to_string().into(),
            layer,
        }
    }

    pub(crate) fn bundle(bundle: &'static [u8]) -> Held {
        let media_type = "application/vnd.dev.sigstore.bundle.v0.3+json";
        Held::new(Item::from_bundle(bundle), media_type, bundle.into(), json!({}))
    }

    pub(crate) fn digest(&self) -> Digest {
        Digest::sha256(&self.manifest)
    }

    fn evidence(&self) -> Evidence {
        Evidence {
            item: self.item.clone(),
            manifest: self.digest(),
        }
    }
}

/// The referrers API lists these, and no tag is there.
fn answered(listed: BTreeSet<Digest>, attestations: bool) -> WaysSeen {
    WaysSeen {
        referrers: Some(listed.into_iter().collect()),
        fallback: Some(Tagged::Absent),
        signatures: Some(Tagged::Absent),
        attestations: attestations.then_some(Tagged::Absent),
    }
}

/// The sums that totals are read from are what they are when everything is counted from scratch: at the end of every test.
///
/// Fails where a change forgets to say whose share it changes: weakened once in `Engine::workload_changed`.
impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() || !self.engine.synced {
            return;
        }
        self.engine.count_changes(self.now);
        let counted = self.engine.tally.sums();
        assert_eq!(counted, counted_from_scratch(&self.engine, self.now).sums());
        self.engine.assert_tags_are_counted();
    }
}

/// What every workload and every subject adds now.
pub(crate) fn counted_from_scratch(engine: &Engine, now: Timestamp) -> Tally {
    let (mut workloads, mut subjects) = engine.tally.known();
    workloads.extend(engine.index.workloads().cloned());
    workloads.extend(engine.templates.workloads().cloned());
    subjects.extend(engine.subjects.keys().cloned());
    let mut tally = Tally::default();
    for workload in workloads {
        let share = engine.share_of(&workload, now);
        tally.set_workload(workload, share);
    }
    for subject in subjects {
        let vouching = engine.vouching_of(&subject);
        tally.set_subject(subject, vouching);
    }
    tally
}

/// An engine with a time of its own and a registry that answers as told.
pub(crate) struct World {
    pub(crate) engine: Engine,
    pub(crate) now: Timestamp,
    /// What the registry holds, by digest.
    pub(crate) signatures: BTreeMap<Digest, Vec<Held>>,
    /// The indexes that it holds, each with what it lists.
    pub(crate) indexes: BTreeMap<Digest, BTreeSet<Digest>>,
    pub(crate) down: bool,
    /// Digests about which no way of discovery answers.
    pub(crate) mute: BTreeSet<Digest>,
    /// The registry lists what it holds but serves no body.
    pub(crate) bodiless: bool,
    /// A tag or an index that may list what runs cannot be read.
    pub(crate) index_down: bool,
    /// Every digest that was asked for.
    pub(crate) asked: Vec<Digest>,
    /// What tags name, as `repository:tag`.
    pub(crate) tags: BTreeMap<String, Digest>,
    /// Every tag that was asked for.
    pub(crate) asked_tags: Vec<String>,
}

impl World {
    pub(crate) fn new() -> World {
        World::with_store(None)
    }

    pub(crate) fn with_store(folder: Option<&Path>) -> World {
        World::on(Arc::new(Store::open(folder).unwrap()))
    }

    /// A process that finds this on disk.
    pub(crate) fn on(store: Arc<Store>) -> World {
        World {
            engine: Engine::new(store),
            now: Timestamp::from_second(1_800_000_000).unwrap(),
            signatures: BTreeMap::new(),
            indexes: BTreeMap::new(),
            down: false,
            mute: BTreeSet::new(),
            bodiless: false,
            index_down: false,
            asked: Vec::new(),
            tags: BTreeMap::new(),
            asked_tags: Vec::new(),
        }
    }

    pub(crate) fn tell(&mut self, fact: Fact) {
        self.engine.apply(fact, self.now);
    }

    /// Lets time pass, and does what is due at its end.
    pub(crate) fn pass_time(&mut self, seconds: i64) {
        self.now = self.now.checked_add(SignedDuration::from_secs(seconds)).unwrap();
        self.engine.wake(self.now);
    }

    /// Runs every look-up that is due now; answers how many.
    pub(crate) fn look_up(&mut self) -> usize {
        let asks = self.engine.due_lookups(self.now, usize::MAX);
        for ask in &asks {
            self.asked.push(ask.subject.digest.clone());
            self.end(ask);
        }
        asks.len()
    }

    /// Asks for every tag that is due now; answers how many.
    pub(crate) fn resolve(&mut self) -> usize {
        let asks = self.engine.due_tags(self.now, usize::MAX);
        for ask in &asks {
            let name = format!("{}:{}", ask.tag.repository, ask.tag.tag);
            let answer = match self.tags.get(&name) {
                _ if self.down => TagAnswer::Failed(Shortfall::unavailable("the registry is down")),
                Some(digest) => TagAnswer::Names(digest.clone()),
                None => TagAnswer::Absent(Gap {
                    reason: Reason::DigestUnresolved,
                    detail: format!("{name} is not there").into(),
                }),
            };
            self.asked_tags.push(name);
            let tag = ask.tag.clone();
            self.engine.absorb_tag(
                Resolved {
                    tag,
                    answer,
                    took: Duration::ZERO,
                },
                self.now,
            );
        }
        asks.len()
    }

    /// Looks up and asks until nothing more is due within a second.
    pub(crate) fn settle(&mut self) {
        while self.look_up() + self.resolve() > 0 {}
        self.pass_time(1);
        while self.look_up() + self.resolve() > 0 {}
    }

    /// Ends a look-up that was begun.
    pub(crate) fn end(&mut self, ask: &Ask) {
        let pass = self.answer(ask);
        self.engine.absorb_pass(pass, self.now);
    }

    fn answer(&self, ask: &Ask) -> Pass {
        if self.down {
            return Pass::failed(ask, Shortfall::unavailable("the registry is down"));
        }
        let own = self.part(ask, ask.subject.digest.clone());
        let candidates = ask.pinned.iter().chain(ask.tags.values().flatten());
        let lists = |index: &&Digest| {
            let children = self.indexes.get(*index);
            children.is_some_and(|children| children.contains(&ask.subject.digest))
        };
        let mut proven = ask.proven.clone();
        proven.extend(candidates.filter(lists).cloned());
        Pass {
            subject: ask.subject.clone(),
            asked_indexes: ask.wants_indexes,
            asked_children: ask.wants_children,
            asked_attestations: ask.wants_attestations,
            asked_origins: ask.origins(),
            own,
            relatives: proven.iter().map(|index| self.part(ask, index.clone())).collect(),
            proven,
            children: Vec::new(),
            index_gap: self
                .index_down
                .then(|| Shortfall::unavailable("the index is not served").gap),
            resolved: Vec::new(),
            retry_after: None,
            took: Duration::ZERO,
        }
    }

    /// As the real look-up does: an unchanged listing is not read again, bodies that are read are
    /// kept, and what was known stays where something cannot be read.
    fn part(&self, ask: &Ask, digest: Digest) -> DigestPass {
        let known = ask.known.get(&digest).cloned().unwrap_or_default();
        if self.mute.contains(&digest) {
            return DigestPass {
                digest,
                shape: known.shape,
                seen: Seen::new(),
                listed: BTreeMap::new(),
                items: known.items,
                refreshed: false,
                shortfall: Some(Shortfall::unavailable("no way of discovery answers")),
                attestations: None,
            };
        }
        let held = self.signatures.get(&digest).cloned().unwrap_or_default();
        let listed: BTreeSet<Digest> = held.iter().map(Held::digest).collect();
        let repository = ask.subject.repository.clone();
        let before = known.seen.get(&repository);
        let unchanged = before.is_some_and(|seen| seen.referrers.iter().flatten().eq(&listed));
        let mut items = match (unchanged, self.bodiless) {
            (true, _) => known.items.clone(),
            (false, true) => Vec::new(),
            (false, false) => {
                for evidence in &held {
                    let store = &self.engine.store;
                    store.keep_body(evidence.digest(), evidence.manifest.clone());
                    store.keep_body(Digest::sha256(&evidence.layer), evidence.layer.clone());
                }
                held.iter().map(Held::evidence).collect()
            }
        };
        items.sort_by(|one, other| one.item.id().cmp(other.item.id()));
        let again = |before: &Evidence| items.iter().any(|found| found.item.id() == before.item.id());
        let refreshed = !items.is_empty() && known.items.iter().all(again);
        let shortfall =
            (self.bodiless && !unchanged).then(|| Shortfall::unavailable("a listed item is not served"));
        DigestPass {
            digest: digest.clone(),
            shape: Some(self.shape(&digest)),
            listed: BTreeMap::from([(repository.clone(), !listed.is_empty())]),
            seen: match shortfall {
                Some(_) => Seen::new(),
                None => Seen::from([(repository, answered(listed, ask.wants_attestations))]),
            },
            items,
            refreshed,
            attestations: shortfall.clone().filter(|_| ask.wants_attestations),
            shortfall,
        }
    }

    fn shape(&self, digest: &Digest) -> Shape {
        match self.indexes.get(digest) {
            Some(children) => Shape::Index {
                runnable: children.iter().cloned().collect(),
            },
            None => Shape::Manifest {
                media_type: MANIFEST.into(),
                size: 7,
            },
        }
    }

    /// What the policy says of the only image of a workload.
    pub(crate) fn verdict(&self, name: &str, policy: &str) -> Option<(Verdict, Reason)> {
        self.result(name, policy)
            .map(|answer| (answer.verdict, answer.reason))
    }

    pub(crate) fn result(&self, name: &str, policy: &str) -> Option<PolicyAnswer> {
        match self.engine.answer(&key(name), self.now) {
            WorkloadAnswer::Covered(report) => report
                .images
                .iter()
                .flat_map(|image| &image.policies)
                .find(|answer| *answer.policy == *policy)
                .cloned(),
            _ => None,
        }
    }

    /// What would happen if the workload's template started.
    pub(crate) fn next_start(&self, name: &str) -> Option<NextStart> {
        match self.engine.answer(&key(name), self.now) {
            WorkloadAnswer::Covered(report) => match report.next_start {
                StartAnswer::Decided { next, .. } => Some(*next),
                StartAnswer::NotCovered | StartAnswer::Pending => None,
            },
            _ => None,
        }
    }

    /// The workloads that wait to be written.
    pub(crate) fn drain(&mut self) -> BTreeSet<String> {
        let mut changed = BTreeSet::new();
        while let Some(target) = self.engine.queue.pop(self.now) {
            if let crate::report::Target::Workload(key) = &target {
                changed.insert(key.name.to_string());
            }
            self.engine.queue.done(target, None);
        }
        changed
    }
}

/// The media type of a manifest (OCI image specification).
pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// The digest of an image that is made from its name.
pub(crate) fn digest(image: &str) -> Digest {
    Digest::sha256(image.as_bytes())
}

pub(crate) fn key(name: &str) -> WorkloadKey {
    workload(name).key
}

pub(crate) fn workload(name: &str) -> Workload {
    let namespace = name.split_once('/').map_or("shop", |(namespace, _)| namespace);
    let reference = WorkloadRef {
        api_version: "apps/v1".into(),
        kind: "Deployment".into(),
        name: name.to_owned(),
        uid: format!("uid-{name}"),
        ..WorkloadRef::default()
    };
    Workload::new(namespace.into(), reference, Timestamp::UNIX_EPOCH)
}

/// A running pod of a workload; the image is `r.example/<image>:1`.
pub(crate) fn pod(name: &str, image: &str) -> Fact {
    pod_of(name, &format!("r.example/{image}:1"), &digest(image))
}

/// A pod whose container has not started.
pub(crate) fn starting_pod(name: &str, image: &str) -> Fact {
    pod_with(name, &format!("r.example/{image}:1"), String::new())
}

/// A pod that runs this digest of an image that its spec writes so.
pub(crate) fn pod_of(name: &str, written: &str, digest: &Digest) -> Fact {
    let repository = written.parse::<image::Reference>().unwrap().repository;
    pod_with(name, written, format!("{repository}@{digest}"))
}

pub(crate) fn gone(name: &str) -> Fact {
    Fact::PodGone(format!("pod-{name}").into())
}

fn pod_with(name: &str, written: &str, image_id: String) -> Fact {
    Fact::Pod(PodFacts {
        uid: format!("pod-{name}").into(),
        name: format!("{name}-0").into(),
        workload: Arc::new(workload(name)),
        images: vec![PodImage {
            container: "main".into(),
            container_type: ContainerType::Container,
            written: written.into(),
            image_id: Some(image_id.into()),
        }],
        keychain: None,
    })
}

/// The template of a workload, with these images as written.
pub(crate) fn template(name: &str, images: &[&str]) -> Fact {
    Fact::Template(TemplateFacts {
        workload: Arc::new(workload(name)),
        images: images.iter().map(|image| (*image).into()).collect(),
        keychain: None,
    })
}

/// An Enforce policy over `r.example/<images>` that trusts some rings.
pub(crate) fn policy(name: &str, images: &str, rings: &[&str]) -> PolicyFacts {
    let spec = ImagePolicySpec {
        description: None,
        remediation: None,
        mode: Mode::Enforce,
        match_: Match {
            images: vec![format!("r.example/{images}")],
            ..Match::default()
        },
        require: vec![Requirement {
            name: "signed".into(),
            signature: Some(SignatureRequirement {
                signed_by: rings.iter().map(|ring| (*ring).to_owned()).collect(),
                minimum: None,
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
    PolicyFacts {
        name: name.into(),
        generation: 1,
        spec: Ok(spec),
        in_force: None,
    }
}

pub(crate) fn policy_fact(name: &str, images: &str, rings: &[&str]) -> Fact {
    Fact::Policy(Box::new(policy(name, images, rings)))
}

pub(crate) fn key_spec(ring: &str, signer: &Signer, stage: Stage) -> SigningKeySpec {
    SigningKeySpec {
        key_ring: ring.into(),
        stage,
        public_key: Some(PublicKeySource { pem: signer.pem() }),
        keyless: None,
        trust_root: None,
        transparency_log: None,
        timestamp: None,
        not_before: None,
        not_after: None,
    }
}

pub(crate) fn key_fact(name: &str, spec: SigningKeySpec) -> Fact {
    Fact::Key(Box::new(KeyFacts {
        name: name.into(),
        generation: 1,
        spec: Ok(spec),
    }))
}
