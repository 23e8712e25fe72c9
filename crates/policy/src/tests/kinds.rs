//! The kinds `attestation`, `provenance` and `trusted`, one field at a time: each field of a requirement, changed alone,
//! changes the answer. (`vulnerabilities`: `scans`.)

use api::{AttestationRequirement, ProvenanceRequirement, TrustedRequirement, Validation};

use super::attestations::{TYPE, review, reviewed};
use super::scans::with_vex;
use super::*;
use crate::{CompileError, slsa};

pub(super) const TODAY: &str = "2026-11-22T11:00:00Z";

pub(super) fn own() -> Digest {
    digest("own")
}

/// An image with these attestations under this one requirement; the ring `build` holds person 1's key.
pub(super) fn scene(items: Vec<Item>, requirement: Requirement) -> Scene {
    let mut scene = Scene::with(items);
    scene.own.attestations = Completeness::Complete;
    scene.spec.require = vec![requirement];
    scene
        .keys
        .rings
        .insert("build".into(), vec![key("build-1", person(1), Stage::Active)]);
    scene
}

pub(super) fn says(scene: &Scene, parts: &[&str]) {
    let message = scene.judge().message;
    assert!(message.chars().count() <= 512, "{message}");
    for part in parts {
        assert!(message.contains(part), "{part:?} is not in {message:?}");
    }
}

pub(super) fn field_of_error(requirement: Requirement) -> String {
    refusal(requirement).field
}

fn refusal(requirement: Requirement) -> CompileError {
    let spec = ImagePolicySpec {
        require: vec![requirement],
        ..asking(&["release"], 1)
    };
    CompiledPolicy::compile("p", &spec).unwrap_err()
}

// attestation

fn attested(change: impl FnOnce(&mut AttestationRequirement)) -> Scene {
    let mut requirement = reviewed(Some("24h"));
    change(requirement.attestation.as_mut().unwrap());
    scene(vec![review(person(0), &own(), Some(TODAY), true)], requirement)
}

fn expression(text: &str) -> Vec<Validation> {
    vec![Validation {
        expression: text.into(),
        message: None,
    }]
}

#[test]
fn b09_each_field_of_an_attestation_alone_turns_the_verdict() {
    let AttestationRequirement {
        predicate_type: _,
        signed_by: _,
        max_age: _,
        validations: _,
    } = AttestationRequirement::default();
    assert_eq!(attested(|_| ()).answer(), compliant());
    let turned = |change: &dyn Fn(&mut AttestationRequirement)| attested(change).answer();
    assert_eq!(
        turned(&|asked| asked.predicate_type = format!("{TYPE}x")),
        violating(Reason::AttestationMissing)
    );
    assert_eq!(
        turned(&|asked| asked.signed_by = vec!["build".into()]),
        violating(Reason::SignerNotTrusted)
    );
    assert_eq!(
        turned(&|asked| asked.max_age = Some("1h".into())),
        violating(Reason::AttestationExpired)
    );
    assert_eq!(
        turned(&|asked| asked.validations = expression("!predicate.approved")),
        violating(Reason::AttestationRejected)
    );
    assert_eq!(turned(&|asked| asked.max_age = None), compliant());
    assert_eq!(turned(&|asked| asked.validations.clear()), compliant());
}

/// B53, as a whole. Seen to fail with `Evaluation::Failed` taken for true in `AttestationRule::evaluate`.
#[test]
fn b53_a_validation_without_a_value_is_rejected_and_says_why() {
    for text in [
        "predicate.missing",
        "predicate.missing || false",
        "!predicate.missing",
        "predicate",
    ] {
        let scene = attested(|asked| asked.validations = expression(text));
        assert_eq!(scene.answer(), violating(Reason::AttestationRejected), "{text}");
        says(&scene, &["validations[0] is not true", "it has no value"]);
    }
}

#[test]
fn c4_04_expressions_see_the_statement_the_predicate_the_signer_and_the_image() {
    let hex = own().hex();
    for text in [
        format!("image.digest == 'sha256:{hex}' && image.repository == '{REPOSITORY}'"),
        format!("statement.subject[0].digest.sha256 == '{hex}'"),
        format!("statement.predicateType == '{TYPE}'"),
        "signer.keyRing == 'release' && signer.key == 'release-2026' && !has(signer.issuer)".into(),
        format!("signer.fingerprint == '{}'", person(0).fingerprint()),
        "predicate.approved && timestamp(predicate.timestamp) > timestamp('2026-11-22T00:00:00Z')".into(),
    ] {
        assert_eq!(
            attested(|asked| asked.validations = expression(&text)).answer(),
            compliant(),
            "{text}"
        );
    }
    let other =
        attested(|asked| asked.validations = expression("image.repository == 'docker.io/library/nginx'"));
    assert_eq!(other.answer(), violating(Reason::AttestationRejected));
}

#[test]
fn a_keyless_signer_is_seen_with_its_certificate() {
    let mut scene = attested(|asked| {
        asked.validations = expression(
            "signer.issuer == 'https://issuer.example.com' && signer.subject.endsWith('@refs/heads/main') \
             && signer.extensions.sourceRepositoryURI == 'https://github.com/acme/shop'",
        );
    });
    assert_eq!(
        scene.answer(),
        violating(Reason::AttestationRejected),
        "a key has no issuer"
    );
    let identity = Arc::new(verify::Identity {
        issuer: "https://issuer.example.com".into(),
        subject: "https://github.com/acme/shop/.github/workflows/release.yml@refs/heads/main".into(),
        subject_kind: verify::SubjectKind::Uri,
        extensions: BTreeMap::from([(
            "sourceRepositoryURI".to_owned(),
            "https://github.com/acme/shop".to_owned(),
        )]),
    });
    for (_, outcome) in &mut scene.own.items[0].outcomes {
        if let verify::Outcome::Verified(claim) = outcome {
            claim.identity = Some(identity.clone());
        }
    }
    assert_eq!(scene.answer(), compliant());
}

#[test]
fn the_message_of_a_validation_reaches_the_owner_of_the_workload() {
    let bad = scene(
        vec![review(person(0), &own(), Some(TODAY), false)],
        reviewed(Some("24h")),
    );
    says(
        &bad,
        &[
            "Requirement reviewed",
            TYPE,
            "SigningKey release-2026",
            "nobody approved it",
            "wiki.example.com",
        ],
    );
}

#[test]
fn c5_21_an_attestation_that_cannot_be_asked_for_is_refused_by_its_field() {
    let with = |change: &dyn Fn(&mut AttestationRequirement)| {
        let mut requirement = reviewed(None);
        change(requirement.attestation.as_mut().unwrap());
        field_of_error(requirement)
    };
    let field = |name: &str| format!("spec.require[0].attestation.{name}");
    assert_eq!(
        with(&|asked| asked.predicate_type.clear()),
        field("predicateType")
    );
    let signature = "https://sigstore.dev/cosign/sign/v1";
    assert_eq!(
        with(&|asked| asked.predicate_type = signature.into()),
        field("predicateType")
    );
    assert_eq!(with(&|asked| asked.signed_by.clear()), field("signedBy"));
    assert_eq!(with(&|asked| asked.max_age = Some("7d".into())), field("maxAge"));
    assert_eq!(
        with(&|asked| asked.validations = expression("predicate.")),
        field("validations[0].expression")
    );
}

// provenance

fn provenance() -> Value {
    json!({
        "builder": {"id": "https://github.com/acme/builder@v1"},
        "invocation": {"configSource": {"uri": "git+https://github.com/acme/shop@refs/heads/main"}},
        "metadata": {"buildFinishedOn": TODAY},
    })
}

fn built(predicate: &Value, change: impl FnOnce(&mut ProvenanceRequirement)) -> Scene {
    let mut asked = ProvenanceRequirement {
        signed_by: vec!["release".into()],
        builder_id: Some("https://github.com/acme/builder@v1".into()),
        source_repository: Some("https://github.com/acme/shop".into()),
        source_ref: Some("refs/heads/main".into()),
        max_age: Some("24h".into()),
    };
    change(&mut asked);
    let requirement = Requirement {
        name: "built".into(),
        provenance: Some(asked),
        ..Requirement::default()
    };
    scene(vec![person(0).attest(&own(), slsa::V0_2, predicate)], requirement)
}

/// Weakened once: with every builder taken for the right one, its field turns nothing.
#[test]
fn b09_c4_02_each_field_of_provenance_alone_turns_the_verdict() {
    assert_eq!(built(&provenance(), |_| ()).answer(), compliant());
    let turned = |change: &dyn Fn(&mut ProvenanceRequirement)| built(&provenance(), change).answer();
    assert_eq!(
        turned(&|asked| asked.signed_by = vec!["build".into()]),
        violating(Reason::SignerNotTrusted)
    );
    assert_eq!(
        turned(&|asked| asked.builder_id = Some("https://github.com/acme/builder@v2".into())),
        violating(Reason::AttestationRejected)
    );
    assert_eq!(
        turned(&|asked| asked.source_repository = Some("https://github.com/acme/shop2".into())),
        violating(Reason::AttestationRejected)
    );
    assert_eq!(
        turned(&|asked| asked.source_ref = Some("refs/heads/mai".into())),
        violating(Reason::AttestationRejected)
    );
    assert_eq!(
        turned(&|asked| asked.max_age = Some("1h".into())),
        violating(Reason::AttestationExpired)
    );
}

#[test]
fn c4_02_what_the_provenance_names_instead_is_told() {
    let mut other = provenance();
    other["invocation"]["configSource"]["uri"] = "git+https://github.com/evil/shop@refs/heads/main".into();
    let scene = built(&other, |_| ());
    assert_eq!(scene.answer(), violating(Reason::AttestationRejected));
    says(
        &scene,
        &[
            "SLSA provenance by key ring release",
            "github.com/acme/shop",
            "names the source github.com/evil/shop",
        ],
    );
    for (pointer, says_what) in [("/invocation", "no source"), ("/builder", "cannot be understood")] {
        let mut without = provenance();
        without.as_object_mut().unwrap().remove(&pointer[1..]);
        says(&built(&without, |_| ()), &[says_what]);
    }
    let mut no_reference = provenance();
    no_reference["invocation"]["configSource"]["uri"] = "git+https://github.com/acme/shop".into();
    says(&built(&no_reference, |_| ()), &["no source reference"]);
}

#[test]
fn c5_21_provenance_that_asks_for_nothing_is_refused() {
    let refused = |builder: Option<&str>, repository: Option<&str>, reference: Option<&str>| {
        field_of_error(Requirement {
            name: "built".into(),
            provenance: Some(ProvenanceRequirement {
                signed_by: vec!["release".into()],
                builder_id: builder.map(str::to_owned),
                source_repository: repository.map(str::to_owned),
                source_ref: reference.map(str::to_owned),
                max_age: None,
            }),
            ..Requirement::default()
        })
    };
    assert_eq!(refused(None, None, None), "spec.require[0].provenance");
    assert_eq!(
        refused(Some("b"), None, Some("refs/heads/main")),
        "spec.require[0].provenance.sourceRef"
    );
    assert_eq!(
        refused(Some(" "), None, None),
        "spec.require[0].provenance.builderId"
    );
}

// trusted, and all kinds together

fn trusted(reason: &str) -> Requirement {
    Requirement {
        name: "vendor".into(),
        trusted: Some(TrustedRequirement {
            reason: reason.into(),
        }),
        ..Requirement::default()
    }
}

#[test]
fn an_explicit_pass_is_compliant_and_says_so() {
    let mut scene = scene(vec![], trusted("delivered by the vendor"));
    let judgement = scene.judge();
    assert_eq!(
        (judgement.verdict, judgement.reason),
        (Verdict::Compliant, Reason::Trusted)
    );
    assert_eq!(judgement.requirement.as_deref(), Some("vendor"));
    assert_eq!(
        (judgement.relied_on.as_slice(), judgement.valid_until),
        ([].as_slice(), None)
    );
    scene.spec.require.push(requirement("signed", &["release"], 1));
    assert_eq!(
        scene.answer(),
        violating(Reason::SignatureMissing),
        "it passes itself and nothing else"
    );
    scene.running = Some(false);
    assert_eq!(scene.answer(), unknown(Reason::DigestUnresolved));
    assert_eq!(field_of_error(trusted("")), "spec.require[0].trusted.reason");
}

#[test]
fn c5_21_two_kinds_in_one_entry_are_refused() {
    let mut two = reviewed(None);
    two.trusted = Some(TrustedRequirement { reason: "x".into() });
    let error = refusal(two);
    assert_eq!(error.field, "spec.require[0]");
    assert!(error.to_string().contains("several kinds"), "{error}");
}

#[test]
fn attestations_are_wanted_only_where_a_requirement_reads_them() {
    let wants = |requirement: Requirement| scene(vec![], requirement).policy().wants_attestations();
    assert!(!wants(requirement("signed", &["release"], 1)));
    assert!(!wants(trusted("x")));
    assert!(wants(reviewed(None)));
    let rings = with_vex(vec![], |_| ()).policy();
    assert_eq!(
        rings.rings().map(AsRef::as_ref).collect::<Vec<&str>>(),
        ["build", "release"],
        "the rings of VEX authors are asked too"
    );
}
