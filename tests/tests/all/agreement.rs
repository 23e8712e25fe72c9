//! A matrix of images, signed by real cosign and tampered with, of which `assay check` and `cosign verify` say the same,
//! asked for one format at a time; the differences are those of [`Difference`].

use futures::StreamExt as _;
use serde_json::{Value, json};
use testkit::{Cosign, CosignVersion, Format, Identity, KeyAlgorithm, KeyPair, Pushed, Registry, Signer};

use crate::bench::{Bench, FORMATS, REVIEW, people, trusted};
use crate::manifests::{policy, with};
use crate::tampered::{Evidence, Kind, Part, Spot};

/// How many cosigns and checks run at the same time.
const AT_ONCE: usize = 4;

/// What both accept: each of 8 ways to store what 5 of the 7 signers signed, and, as the log tells the time there, the
/// 12 under a tag with a changed timestamp.
const ACCEPTED: usize = 52;

/// Where the two do not say the same; docs/check.md explains each to users.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Difference {
    /// Cosign takes an attestation in a bundle for a signature.
    Attestation,
    /// Cosign 3 accepts a bundle although the log entry in it was changed, where the log is a Rekor v2.
    LogEntry,
    /// Cosign signs with Ed25519ph under an Ed25519 key, and does not verify what it signed.
    Ed25519ph,
    /// Cosign signs over SHA-384 under a P-384 key, and verifies over SHA-256 unless told otherwise.
    P384,
}

impl Difference {
    /// Whether cosign accepts, and whether Assay does.
    fn verdicts(self) -> (bool, bool) {
        match self {
            Self::Attestation | Self::LogEntry => (true, false),
            Self::Ed25519ph | Self::P384 => (false, true),
        }
    }
}

/// Who signs, whom a policy trusts instead, and the SigningKeys of both.
struct Party<'a> {
    name: &'static str,
    signer: Signer<'a>,
    trust: Value,
    other: Signer<'a>,
    other_trust: Value,
    difference: Option<Difference>,
}

/// What was done to an image or to its signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tampering {
    Nothing,
    NeverSigned,
    /// It carries the signature of another image.
    Moved,
    /// It carries an attestation and no signature.
    Attested,
    Changed(Part),
}

/// What one image was found to be under one policy.
#[derive(Debug)]
struct Answer {
    question: String,
    cosign: bool,
    assay: bool,
    difference: Option<Difference>,
}

impl Answer {
    fn is_as_expected(&self) -> bool {
        let said = (self.cosign, self.assay);
        match self.difference {
            // The changed byte may lie in base64 text and end it; such an entry cosign cannot read.
            Some(Difference::LogEntry) => !self.assay,
            Some(difference) => said == difference.verdicts(),
            None => said.0 == said.1,
        }
    }
}

/// One way to sign and to store.
struct Group<'a> {
    registry: &'a Registry,
    cosign: &'a Cosign,
    format: Format,
    party: &'a Party<'a>,
}

impl Group<'_> {
    fn name(&self) -> String {
        let (registry, version, format) = (self.registry.kind(), self.cosign.version(), self.format);
        format!("{registry:?}/{version:?}/{format:?}/{}", self.party.name).to_lowercase()
    }

    fn changed_parts(&self) -> Vec<Part> {
        let mut parts = vec![Part::Payload, Part::Signature];
        match self.party.signer {
            Signer::Key(_) => {}
            Signer::LoggedKey(..) => parts.extend([Part::LogEntry, Part::Timestamp]),
            Signer::Identity(..) => parts.extend([Part::Certificate, Part::LogEntry, Part::Timestamp]),
        }
        parts
    }

    /// Asks both about each image; gives how many images there were, too.
    async fn run(&self, bench: &Bench) -> (usize, Vec<Answer>) {
        let parts = self.changed_parts();
        let origin = self.push(bench, "origin", "nothing").await;
        let mut signed = vec![origin.clone()];
        for part in &parts {
            signed.push(self.push(bench, "origin", &format!("{part:?}")).await);
        }
        let since = self.registry.log_position().unwrap();
        let references: Vec<String> = signed.iter().map(Pushed::by_digest).collect();
        let further: Vec<&str> = references[1..].iter().map(String::as_str).collect();
        let signing = self
            .cosign
            .sign_with(&references[0], self.party.signer, self.format, &further);
        signing.await.unwrap();
        let evidence = async |image: &Pushed| {
            Evidence::of(self.registry, since, image, Kind::Signature, self.format).await
        };

        let mut images = vec![(Tampering::Nothing, origin.clone())];
        let unsigned = self.push(bench, "never", "never").await;
        images.push((Tampering::NeverSigned, unsigned));
        let moved = self.push(bench, "moved", "moved").await;
        evidence(&origin).await.attach(self.registry, &moved).await;
        images.push((Tampering::Moved, moved));
        for (part, image) in parts.into_iter().zip(&signed[1..]) {
            let changed = evidence(image).await.changed(part, Spot::Middle).unwrap();
            let seed = format!("{part:?}");
            let copy = self.push(bench, &seed.to_lowercase(), &seed).await;
            changed.attach(self.registry, &copy).await;
            images.push((Tampering::Changed(part), copy));
        }
        if matches!(self.party.name, "p-256" | "person") {
            images.push((Tampering::Attested, self.attested(bench).await));
        }
        let mut answers = Vec::new();
        for (tampering, image) in &images {
            answers.push(self.ask(bench, *tampering, image, true).await);
        }
        answers.push(self.ask(bench, Tampering::Nothing, &origin, false).await);
        (images.len(), answers)
    }

    async fn push(&self, bench: &Bench, repository: &str, seed: &str) -> Pushed {
        let name = self.name();
        let repository = format!("agreement/{name}/{repository}");
        bench
            .push(self.registry, &repository, &format!("{name} {seed}"))
            .await
    }

    async fn attested(&self, bench: &Bench) -> Pushed {
        let image = self.push(bench, "attested", "attested").await;
        let predicate = json!({"approvals": ["ann"]});
        self.cosign
            .attest(
                &image.by_digest(),
                self.party.signer,
                REVIEW,
                &predicate,
                self.format,
            )
            .await
            .unwrap();
        image
    }

    /// By a policy that trusts the signer, or another one.
    async fn ask(&self, bench: &Bench, tampering: Tampering, image: &Pushed, own: bool) -> Answer {
        let party = self.party;
        let (signer, trust) = match own {
            true => (party.signer, &party.trust),
            false => (party.other, &party.other_trust),
        };
        // Under a tag the log tells cosign the time, in a bundle the timestamp authority does.
        let dated = match (self.format, signer) {
            (Format::Bundle, Signer::LoggedKey(..) | Signer::Identity(..)) => "Required",
            (Format::Tag, Signer::Identity(..)) => "Optional",
            _ => "Ignore",
        };
        let trust = with(trust.clone(), json!({"spec": {"timestamp": dated}}));
        let by_cosign = self
            .cosign
            .verify_output(&image.by_digest(), signer, Some(self.format))
            .await
            .unwrap();
        Answer {
            question: format!("{} {tampering:?} own={own}", self.name()),
            cosign: by_cosign.succeeded(),
            assay: bench
                .accepts(image, &[&trust, &policy("signed", "**", "release")])
                .await,
            difference: match (tampering, self.format) {
                (Tampering::Attested, Format::Bundle) => Some(Difference::Attestation),
                (Tampering::Changed(Part::LogEntry), Format::Bundle)
                    if self.cosign.version() == CosignVersion::V3 =>
                {
                    Some(Difference::LogEntry)
                }
                (Tampering::Nothing, _) if own => party.difference,
                _ => None,
            },
        }
    }
}

/// V20, B41. Weakened once: with `document.subjects` not compared in `verify`, it names the 56 answers about moved
/// signatures; with attestations alone for differences, the 22 answers of the others.
#[tokio::test]
async fn v20_b41_assay_and_cosign_agree_on_a_matrix_of_images_but_for_the_differences_that_are_listed() {
    let bench = Bench::new("agreement").await;
    let cosign = &bench.desk.cosign3;
    let stranger = cosign.generate_key_pair("stranger").await.unwrap();
    let mut pairs: Vec<KeyPair> = Vec::new();
    for algorithm in KeyAlgorithm::ALL {
        pairs.push(
            cosign
                .key_pair(&format!("{algorithm:?}"), algorithm)
                .await
                .unwrap(),
        );
    }
    let [person, workflow] = people();
    let mallory = Identity::email("mallory@example.com");
    let keys = [
        ("p-256", None),
        ("p-384", Some(Difference::P384)),
        ("ed25519", Some(Difference::Ed25519ph)),
        ("rsa", None),
    ];
    let mut parties: Vec<Party<'_>> = pairs
        .iter()
        .zip(keys)
        .map(|(pair, (name, difference))| Party {
            name,
            signer: pair.into(),
            trust: trusted(pair),
            other: (&stranger).into(),
            other_trust: trusted(&stranger),
            difference,
        })
        .collect();
    let logged = |pair: &KeyPair| {
        let demands = json!({"spec": {"transparencyLog": "Required", "trustRoot": "private"}});
        with(trusted(pair), demands)
    };
    parties.push(Party {
        name: "logged",
        signer: bench.sigstore.logged(&pairs[0]),
        trust: logged(&pairs[0]),
        other: bench.sigstore.logged(&stranger),
        other_trust: logged(&stranger),
        difference: None,
    });
    for (name, identity) in [("person", &person), ("workflow", &workflow)] {
        parties.push(Party {
            name,
            signer: bench.sigstore.keyless(identity),
            trust: bench.identity(identity),
            other: bench.sigstore.keyless(&mallory),
            other_trust: bench.identity(&mallory),
            difference: None,
        });
    }
    let mut groups = Vec::new();
    for registry in bench.registries() {
        for cosign in bench.cosigns() {
            for format in FORMATS {
                groups.extend(parties.iter().map(|party| Group {
                    registry,
                    cosign,
                    format,
                    party,
                }));
            }
        }
    }
    let results: Vec<(usize, Vec<Answer>)> = futures::stream::iter(&groups)
        .map(|group| group.run(&bench))
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    let images: usize = results.iter().map(|(images, _)| images).sum();
    let answers: Vec<Answer> = results.into_iter().flat_map(|(_, answers)| answers).collect();
    let unexplained: Vec<String> = answers
        .iter()
        .filter(|answer| !answer.is_as_expected())
        .map(|answer| {
            format!(
                "{}: cosign {}, Assay {}",
                answer.question, answer.cosign, answer.assay
            )
        })
        .collect();
    assert!(unexplained.is_empty(), "{unexplained:#?}");
    let shows = |answer: &Answer| answer.difference == Some(Difference::LogEntry) && answer.cosign;
    assert!(answers.iter().any(shows), "cosign reads log entries");
    let accepted = answers
        .iter()
        .filter(|answer| answer.cosign && answer.assay)
        .count();
    assert_eq!((images, answers.len(), accepted), (360, 416, ACCEPTED));
}
