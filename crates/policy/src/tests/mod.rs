//! Scenes for the tests: real keys, really signed evidence, really verified; nothing fakes an outcome.

mod attestation_properties;
mod attestations;
mod digests;
mod documents;
mod exceptions;
mod kinds;
mod mutations;
mod predicates;
mod properties;
mod reasons;
mod rings;
mod scans;
mod spared;
mod time;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};

use api::{
    ImagePolicySpec, Match, Mode, MultiArch, Reason, Requirement, RunsAs, SignatureRequirement, Stage,
    Verdict,
};
use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use image::{Digest, Repository};
use jiff::Timestamp;
use serde_json::{Value, json};
use verify::{Fingerprint, Item, PublicKey, Verifier, verify};

use crate::{
    CompiledException, CompiledPolicy, Completeness, DigestFacts, Gap, ImageFacts, ItemFacts, Judgement, Key,
    KeyRings, Knowledge, Nature, Running, evaluate, sole_trust,
};

pub(crate) const REPOSITORY: &str = "registry.example.com/shop/web";

/// Somebody with a key pair.
pub(crate) struct Person {
    pair: EcdsaKeyPair,
    public: PublicKey,
}

/// Five people; who is trusted is the scene's business.
pub(crate) static PEOPLE: LazyLock<[Person; 5]> = LazyLock::new(|| std::array::from_fn(|_| Person::new()));

pub(crate) fn person(at: usize) -> &'static Person {
    &PEOPLE[at]
}

impl Person {
    fn new() -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
        let der = AsDer::<PublicKeyX509Der<'_>>::as_der(pair.public_key()).unwrap();
        let pem = format!(
            "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
            STANDARD.encode(der.as_ref())
        );
        Self {
            public: PublicKey::from_pem(&pem).unwrap(),
            pair,
        }
    }

    pub(crate) fn fingerprint(&self) -> Fingerprint {
        self.public.fingerprint()
    }

    pub(crate) fn verifier(&self) -> Verifier {
        Verifier::by_key(self.public.clone())
    }

    fn sign(&self, message: &[u8]) -> String {
        STANDARD.encode(self.pair.sign(&SystemRandom::new(), message).unwrap())
    }

    /// A signature of the digest in the tag format, made for the repository.
    pub(crate) fn signs_for(&self, digest: &Digest, docker_reference: &str) -> Item {
        self.signs_payload(&format!(
            "{{\"critical\":{{\"identity\":{{\"docker-reference\":\"{docker_reference}\"}},\
             \"image\":{{\"docker-manifest-digest\":\"{digest}\"}},\
             \"type\":\"cosign container image signature\"}},\"optional\":null}}"
        ))
    }

    pub(crate) fn signs(&self, digest: &Digest) -> Item {
        self.signs_for(digest, REPOSITORY)
    }

    /// Any text, signed as if it were a payload of the tag format.
    pub(crate) fn signs_payload(&self, payload: &str) -> Item {
        let signature = self.sign(payload.as_bytes());
        Item::from_simple_signing(Bytes::from(payload.to_owned()), &signature)
    }

    /// A DSSE envelope over any text.
    pub(crate) fn envelope(&self, payload: &str) -> String {
        let payload_type = "application/vnd.in-toto+json";
        let signed = format!(
            "DSSEv1 {} {payload_type} {} {payload}",
            payload_type.len(),
            payload.len()
        );
        format!(
            "{{\"payload\":\"{}\",\"payloadType\":\"{payload_type}\",\"signatures\":[{{\"sig\":\"{}\"}}]}}",
            STANDARD.encode(payload),
            self.sign(signed.as_bytes())
        )
    }

    /// A bundle with any text as its statement.
    pub(crate) fn states(&self, payload: &str) -> Item {
        bundle(
            "application/vnd.dev.sigstore.bundle.v0.3+json",
            &format!("\"dsseEnvelope\":{}", self.envelope(payload)),
        )
    }

    /// A bundle with an attestation of the digest.
    pub(crate) fn attest(&self, digest: &Digest, predicate_type: &str, predicate: &Value) -> Item {
        self.states(&statement(digest, predicate_type, predicate))
    }

    pub(crate) fn signs_as_bundle(&self, digest: &Digest) -> Item {
        self.attest(digest, "https://sigstore.dev/cosign/sign/v1", &json!({}))
    }

    pub(crate) fn attests(&self, digest: &Digest) -> Item {
        self.attest(
            digest,
            "https://cosign.sigstore.dev/attestation/vuln/v1",
            &json!({}),
        )
    }

    pub(crate) fn signs_blob(&self) -> Item {
        let content = format!(
            "\"messageSignature\":{{\"messageDigest\":{{\"algorithm\":\"SHA2_256\",\"digest\":\"\"}},\"signature\":\"{}\"}}",
            self.sign(b"the bytes of a manifest")
        );
        bundle("application/vnd.dev.sigstore.bundle.v0.3+json", &content)
    }
}

pub(crate) fn statement(digest: &Digest, predicate_type: &str, predicate: &Value) -> String {
    json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": REPOSITORY, "digest": {"sha256": digest.hex()}}],
        "predicateType": predicate_type,
        "predicate": predicate,
    })
    .to_string()
}

fn bundle(media_type: &str, content: &str) -> Item {
    let material = "\"verificationMaterial\":{\"publicKey\":{\"hint\":\"\"}}";
    Item::from_bundle(format!("{{\"mediaType\":\"{media_type}\",{material},{content}}}").as_bytes())
}

/// Not even a signature.
pub(crate) fn malformed() -> Item {
    Item::from_simple_signing(Bytes::from_static(b"{}"), "this is not base64")
}

/// Too large to be read.
pub(crate) fn oversized() -> Item {
    Item::from_simple_signing(Bytes::from(vec![b' '; 2 * 1024 * 1024]), "AAAA")
}

/// A bundle of a version that comes after this program.
pub(crate) fn of_the_future() -> Item {
    bundle(
        "application/vnd.dev.sigstore.bundle.v9.0+json",
        "\"messageSignature\":{}",
    )
}

/// A payload nested too deeply to be read.
pub(crate) fn bottomless() -> String {
    format!("{}{}", "[".repeat(300), "]".repeat(300))
}

pub(crate) fn digest(of: &str) -> Digest {
    Digest::sha256(of.as_bytes())
}

pub(crate) fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// The evidence with what each of the people's keys makes of it.
pub(crate) fn known(digest: &Digest, nature: Nature, items: Vec<Item>) -> Knowledge {
    let mut items: Vec<ItemFacts> = items.into_iter().map(|item| checked(digest, item)).collect();
    items.sort_by(|one, other| one.item.id().cmp(other.item.id()));
    Knowledge {
        digest: digest.clone(),
        nature,
        items,
        completeness: Completeness::Complete,
        attestations: Completeness::NeverAsked,
        forgotten: BTreeMap::new(),
    }
}

pub(crate) fn checked(digest: &Digest, item: Item) -> ItemFacts {
    let ask = |person: &Person| {
        (
            person.verifier().id(),
            verify(&item, digest, &Verifier::by_key(person.public.clone())),
        )
    };
    let outcomes = PEOPLE.iter().map(ask).collect();
    ItemFacts {
        item: Arc::new(item),
        outcomes,
        is_gone: false,
    }
}

pub(crate) fn gap(reason: Reason) -> Gap {
    Gap {
        reason,
        detail: "GET /v2/shop/web/manifests: 503 Service Unavailable".into(),
    }
}

pub(crate) fn key(name: &str, person: &Person, stage: Stage) -> Key {
    Key {
        name: name.into(),
        fingerprint: Some(person.fingerprint()),
        verifier: Some(person.verifier().id()),
        stage,
        not_before: None,
        not_after: None,
        spared: None,
    }
}

pub(crate) fn rings(rings: &[(&str, Vec<Key>)]) -> KeyRings {
    KeyRings {
        rings: rings
            .iter()
            .map(|(name, keys)| (Arc::from(*name), keys.clone()))
            .collect(),
        vetoes: Vec::new(),
    }
}

/// A policy that asks for this many of these rings.
pub(crate) fn asking(signed_by: &[&str], minimum: i32) -> ImagePolicySpec {
    ImagePolicySpec {
        description: None,
        remediation: Some("See https://wiki.example.com/signing.".into()),
        mode: Mode::Enforce,
        match_: Match {
            images: vec!["registry.example.com/**".into()],
            ..Match::default()
        },
        require: vec![requirement("release-signature", signed_by, minimum)],
        multi_arch: None,
        require_digest: None,
        bind_repository: None,
        recheck: None,
        warn_before: None,
        on_unknown: None,
        supersedes: None,
    }
}

pub(crate) fn requirement(name: &str, signed_by: &[&str], minimum: i32) -> Requirement {
    let signed_by = signed_by.iter().map(|ring| (*ring).to_owned()).collect();
    Requirement {
        name: name.into(),
        signature: Some(SignatureRequirement {
            signed_by,
            minimum: Some(minimum),
        }),
        ..Requirement::default()
    }
}

/// One image under one policy, complete enough to be judged; tests change what they are about.
#[derive(Clone, Debug)]
pub(crate) struct Scene {
    pub(crate) spec: ImagePolicySpec,
    pub(crate) repository: Option<Repository>,
    pub(crate) pinned: bool,
    pub(crate) running: Option<bool>,
    pub(crate) own: Knowledge,
    pub(crate) indexes: Vec<Knowledge>,
    pub(crate) index_gap: Option<Gap>,
    pub(crate) children: Vec<Knowledge>,
    pub(crate) keys: KeyRings,
    pub(crate) exceptions: Vec<Arc<CompiledException>>,
    pub(crate) now: Timestamp,
}

impl Scene {
    /// A manifest with this evidence; the ring `release` holds person 0's key `release-2026`, which is in use.
    pub(crate) fn with(items: Vec<Item>) -> Self {
        Self {
            spec: asking(&["release"], 1),
            repository: Some(REPOSITORY.parse().unwrap()),
            pinned: true,
            running: Some(true),
            own: known(&digest("own"), Nature::Manifest, items),
            indexes: Vec::new(),
            index_gap: None,
            children: Vec::new(),
            keys: rings(&[("release", vec![key("release-2026", person(0), Stage::Active)])]),
            exceptions: Vec::new(),
            now: at("2026-11-22T12:00:00Z"),
        }
    }

    /// As `with`, signed by person 0.
    pub(crate) fn signed() -> Self {
        Self::with(vec![person(0).signs(&digest("own"))])
    }

    pub(crate) fn release_key(&mut self) -> &mut Key {
        &mut self.keys.rings.get_mut("release").unwrap()[0]
    }

    pub(crate) fn platform_only(mut self) -> Self {
        self.spec.multi_arch = Some(MultiArch {
            accept: Some(RunsAs::Platform),
            ..MultiArch::default()
        });
        self
    }

    pub(crate) fn policy(&self) -> CompiledPolicy {
        CompiledPolicy::compile("prod-signed", &self.spec).unwrap()
    }

    fn facts(&self) -> ImageFacts<'_> {
        let running = match self.running {
            None => Running::NotStarted,
            Some(false) => Running::Unresolved("the runtime names only the id of a local image"),
            Some(true) => Running::Digest(DigestFacts {
                own: &self.own,
                indexes: self.indexes.iter().collect(),
                index_gap: self.index_gap.as_ref(),
                children: self.children.iter().collect(),
            }),
        };
        ImageFacts {
            repository: self.repository.as_ref(),
            pinned: self.pinned,
            running,
            exceptions: &self.exceptions,
        }
    }

    pub(crate) fn judge(&self) -> Judgement {
        self.judge_at(self.now)
    }

    pub(crate) fn judge_at(&self, now: Timestamp) -> Judgement {
        evaluate(&self.policy(), &self.facts(), &self.keys, now)
    }

    /// Verdict and reason at each of these times.
    pub(crate) fn answers_at(&self, times: impl IntoIterator<Item = Timestamp>) -> Vec<(Verdict, Reason)> {
        let (policy, facts) = (self.policy(), self.facts());
        let judge = |now| crate::evaluate::judge(&policy, &facts, &self.keys, now);
        let answers = times.into_iter().map(judge);
        answers
            .map(|judgement| (judgement.verdict, judgement.reason))
            .collect()
    }

    pub(crate) fn rests_on(&self, person: &Person) -> bool {
        sole_trust(&self.policy(), &[self.facts()], &self.keys, self.now).contains(&person.fingerprint())
    }

    pub(crate) fn answer(&self) -> (Verdict, Reason) {
        let judgement = self.judge();
        (judgement.verdict, judgement.reason)
    }

    /// The answer as a whole system gives it for a pod in this namespace.
    pub(crate) fn answer_in(&self, namespace: &str, labels: &[(&str, &str)]) -> (Verdict, Reason) {
        let policy = self.policy();
        let labels: BTreeMap<String, String> = labels
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let covers_image = match &self.repository {
            Some(repository) => policy.covers_image(repository),
            None => true,
        };
        if policy.covers_namespace(namespace, &labels) && covers_image {
            self.answer()
        } else {
            (Verdict::NotCovered, Reason::NotCovered)
        }
    }
}

pub(crate) fn compliant() -> (Verdict, Reason) {
    (Verdict::Compliant, Reason::AllVerified)
}

pub(crate) fn violating(reason: Reason) -> (Verdict, Reason) {
    (Verdict::Violating, reason)
}

pub(crate) fn unknown(reason: Reason) -> (Verdict, Reason) {
    (Verdict::Unknown, reason)
}
