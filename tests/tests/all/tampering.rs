//! Signatures and attestations by real cosign and a private Sigstore, changed by one byte in each of their parts: none
//! of them counts any more.
//! Among them are parts that prove nothing, as the same is said elsewhere: what the manifest says of the layer, the
//! certificate in a timestamp, the root beside a proof.

use futures::StreamExt as _;
use serde_json::{Value, json};
use testkit::{Cosign, CosignVersion, Format, Identity, KeyPair, Registry, Signer};

use crate::bench::{Bench, FORMATS, REVIEW, people, reviewed, trusted};
use crate::manifests::{policy, with};
use crate::tampered::{Evidence, Kind, Part, Spot};

/// How many cosigns and checks run at the same time.
const AT_ONCE: usize = 4;

/// How many changed copies of one kind there are: 2 bytes of 4 parts of each of 8 by a key; by an identity in the tag
/// format of 10 parts of each of 2 by cosign 2 and of 9 of each of 2 by cosign 3, of 10 of each of the 2 bundles of
/// cosign 3, and of 12 of each of the 2 of cosign 2, which carry a promise and a proof of Rekor v1.
const CHANGED: usize = 228;

/// Who signs, and the SigningKey that trusts them.
#[derive(Clone, Copy)]
struct By<'a> {
    name: &'static str,
    signer: Signer<'a>,
    trust: &'a Value,
}

/// One way to make and to store evidence.
struct Case<'a> {
    kind: Kind,
    registry: &'a Registry,
    cosign: &'a Cosign,
    format: Format,
    by: By<'a>,
}

impl Case<'_> {
    fn name(&self) -> String {
        let (kind, version, format) = (self.kind, self.cosign.version(), self.format);
        let registry = self.registry.kind();
        format!("{kind:?}/{registry:?}/{version:?}/{format:?}/{}", self.by.name).to_lowercase()
    }

    /// The parts that this evidence must have.
    fn parts(&self) -> Vec<Part> {
        let is_keyless = !matches!(self.by.signer, Signer::Key(_));
        let mut parts = vec![Part::Payload, Part::Signature];
        if is_keyless {
            parts.extend([Part::Certificate, Part::LogEntry]);
            parts.extend(match (self.format, self.cosign.version()) {
                (Format::Tag, _) => vec![Part::LogPromise, Part::LogTime],
                (Format::Bundle, CosignVersion::V2) => {
                    vec![
                        Part::LogPromise,
                        Part::LogTime,
                        Part::LogProof,
                        Part::LogRoot,
                        Part::LogCheckpoint,
                    ]
                }
                (Format::Bundle, CosignVersion::V3) => {
                    vec![Part::LogProof, Part::LogRoot, Part::LogCheckpoint]
                }
            });
            parts.push(Part::Timestamp);
            // The others ask the authority to leave its certificate out.
            if (self.format, self.cosign.version()) == (Format::Tag, CosignVersion::V2) {
                parts.push(Part::TimestampCertificate);
            }
        }
        parts.extend([Part::MediaType, Part::Size]);
        parts
    }

    /// Gives how many changed copies were refused.
    async fn run(&self, bench: &Bench, policy: &Value) -> usize {
        let name = self.name();
        let origin = bench
            .push(self.registry, &format!("tampering/{name}/origin"), &name)
            .await;
        let (reference, since) = (origin.by_digest(), self.registry.log_position().unwrap());
        match self.kind {
            Kind::Signature => self.cosign.sign(&reference, self.by.signer, self.format).await,
            Kind::Attestation => {
                let predicate = json!({"approvals": ["ann", "bob"]});
                self.cosign
                    .attest(&reference, self.by.signer, REVIEW, &predicate, self.format)
                    .await
            }
        }
        .unwrap();
        let trust = [self.by.trust, policy];
        assert!(bench.accepts(&origin, &trust).await, "{name}");
        let evidence = Evidence::of(self.registry, since, &origin, self.kind, self.format).await;
        let copied = async |repository: &str, evidence: &Evidence| {
            let repository = format!("tampering/{name}/{repository}");
            let image = bench.push(self.registry, &repository, &name).await;
            assert_eq!(image.digest, origin.digest);
            evidence.attach(self.registry, &image).await;
            bench.accepts(&image, &trust).await
        };
        assert!(copied("unchanged", &evidence).await, "{name}");
        let mut refused = 0;
        for part in self.parts() {
            for spot in Spot::ALL {
                let place = format!("{part:?}/{spot:?}").to_lowercase();
                let changed = evidence.changed(part, spot);
                let changed = changed.unwrap_or_else(|| panic!("{name}: no {place}"));
                let is_accepted = copied(&place, &changed).await;
                assert!(!is_accepted, "{name}: {place} changed, and it counts");
                refused += 1;
            }
        }
        refused
    }
}

fn key_and_identity<'a>(
    bench: &'a Bench,
    pair: &'a KeyPair,
    person: &'a Identity,
    trust: &'a [Value; 2],
) -> [By<'a>; 2] {
    [
        By {
            name: "key",
            signer: Signer::from(pair),
            trust: &trust[0],
        },
        By {
            name: "keyless",
            signer: bench.sigstore.keyless(person),
            trust: &trust[1],
        },
    ]
}

/// All ways to make and store one kind; gives how many changed copies were refused.
async fn tamper(kind: Kind, policy: &Value) -> usize {
    let bench = Bench::new(&format!("tampering-{kind:?}").to_lowercase()).await;
    let pair = bench.desk.cosign3.generate_key_pair("release").await.unwrap();
    let [person, _] = people();
    // What does not verify gives no time, and is of no harm beside another time: so each must be there.
    let dated = json!({"spec": {"timestamp": "Required", "transparencyLog": "Required"}});
    let trust = [trusted(&pair), with(bench.identity(&person), dated)];
    // An entry that is alone in its log has no hashes on its path to the root.
    for cosign in bench.cosigns() {
        let first = bench
            .push(bench.registries()[0], "tampering/first", "first")
            .await;
        let signer = bench.sigstore.keyless(&person);
        cosign
            .sign(&first.by_digest(), signer, Format::Bundle)
            .await
            .unwrap();
    }
    let mut cases = Vec::new();
    for registry in bench.registries() {
        for cosign in bench.cosigns() {
            for format in FORMATS {
                for by in key_and_identity(&bench, &pair, &person, &trust) {
                    cases.push(Case {
                        kind,
                        registry,
                        cosign,
                        format,
                        by,
                    });
                }
            }
        }
    }
    futures::stream::iter(&cases)
        .map(|case| case.run(&bench, policy))
        .buffer_unordered(AT_ONCE)
        .fold(0, async |sum, refused| sum + refused)
        .await
}

/// V20. Weakened once: with the answer of `key.signed` left out of `by_key`, a changed signature by a key counts.
/// Weakened once, with a list in the place of the assertion: without `check_proof_repeats_checkpoint` and `check_carried`,
/// the sizes not compared and each layer of the family read as a bundle, the last byte of a bundle's media type, a larger
/// size, the root of Rekor v2 and the certificate in a timestamp may be changed, and nothing else.
#[tokio::test]
async fn v20_a_signature_with_one_byte_changed_in_any_part_does_not_count() {
    let refused = tamper(Kind::Signature, &policy("signed", "**", "release")).await;
    assert_eq!(refused, CHANGED);
}

/// V20. Weakened once: with the answer of `key.signed` left out of `by_key`, a changed payload by a key counts.
#[tokio::test]
async fn v20_an_attestation_with_one_byte_changed_in_any_part_does_not_count() {
    let refused = tamper(Kind::Attestation, &reviewed(json!({}))).await;
    assert_eq!(refused, CHANGED);
}
