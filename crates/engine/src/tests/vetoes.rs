//! Revoked keyless SigningKeys, with signatures of a real cosign under certificates of a private Sigstore.

use std::sync::Arc;

use api::{Keyless, Reason, SigningKeySpec, Stage, Verdict};
use image::Digest;
use serde_json::Value;

use super::world::*;
use crate::fact::Fact;

const ROOT: &str = include_str!("../../../verify/tests/fixtures/keyless/full/trusted_root.json");
const DIGEST: &str = include_str!("../../../verify/tests/fixtures/keyless/full/digest");
const IDENTITIES: &str = include_str!("../../../verify/tests/fixtures/keyless/full/identities.json");
const SIGNATURE: &[u8] =
    include_bytes!("../../../verify/tests/fixtures/keyless/full/cosign3-person.bundle.json");

const HOLDS: Option<(Verdict, Reason)> = Some((Verdict::Compliant, Reason::AllVerified));
const REVOKED: Option<(Verdict, Reason)> = Some((Verdict::Violating, Reason::KeyRevoked));

/// The subject and the issuer of the one who signed.
fn person() -> [String; 2] {
    let all: Value = serde_json::from_str(IDENTITIES).unwrap();
    ["subject", "issuer"].map(|name| all["person"][name].as_str().unwrap().to_owned())
}

/// Who is named exactly.
fn exactly(stage: Stage, ring: &str, root: &str) -> SigningKeySpec {
    let [subject, issuer] = person();
    keyless_spec(
        stage,
        ring,
        root,
        Keyless {
            subject: Some(subject),
            issuer: Some(issuer),
            ..Keyless::default()
        },
    )
}

/// Everyone whose subject this expression matches, of any issuer.
fn anyone_like(stage: Stage, subject_regex: &str) -> SigningKeySpec {
    keyless_spec(
        stage,
        "revoked",
        "own",
        Keyless {
            subject_regex: Some(subject_regex.to_owned()),
            issuer_regex: Some(".+".to_owned()),
            ..Keyless::default()
        },
    )
}

fn keyless_spec(stage: Stage, ring: &str, root: &str, keyless: Keyless) -> SigningKeySpec {
    SigningKeySpec {
        public_key: None,
        keyless: Some(keyless),
        trust_root: Some(root.to_owned()),
        ..key_spec(ring, &Signer::new(), stage)
    }
}

/// An image that is signed by the person, whom the ring `release` trusts.
fn world() -> World {
    let mut world = World::new();
    let digest: Digest = DIGEST.trim().parse().unwrap();
    world
        .signatures
        .insert(digest.clone(), vec![Held::bundle(SIGNATURE)]);
    world.tell(Fact::TrustRoot {
        name: "own".into(),
        root: Ok(Arc::new(verify::TrustRoot::from_json(ROOT.as_bytes()).unwrap())),
    });
    world.tell(key_fact("release-2026", exactly(Stage::Active, "release", "own")));
    world.tell(policy_fact("prod", "shop/**", &["release"]));
    world.tell(pod_of("web", "r.example/shop/web:1", &digest));
    world.tell(Fact::Synced);
    world.look_up();
    assert_eq!(world.verdict("web", "prod"), HOLDS);
    world
}

/// B44. Weakened once: with vetoes left out of what `regroup` compares, the verdict stays as it was.
#[test]
fn b44_a_revoked_matcher_vetoes_an_identity_that_an_active_one_matches_at_once_and_without_a_request() {
    for regex in [r".*@example\.com", ".+"] {
        let mut world = world();
        let stages = [Stage::Active, Stage::Staged, Stage::Disabled];
        for stage in stages {
            world.tell(key_fact("leavers", anyone_like(stage, regex)));
            assert_eq!(world.verdict("web", "prod"), HOLDS, "{stage:?}");
        }
        world.tell(key_fact("leavers", anyone_like(Stage::Revoked, regex)));
        assert_eq!(world.verdict("web", "prod"), REVOKED, "{regex}");
        let message = world.result("web", "prod").unwrap().message.to_string();
        assert!(message.contains("leavers"), "{message}");
        assert_eq!(world.look_up(), 0, "the evidence is held");
        world.tell(key_fact("leavers", anyone_like(Stage::Revoked, r".*@other\.com")));
        assert_eq!(world.verdict("web", "prod"), HOLDS, "it means somebody else");
    }
}

/// B44: a duplicate under another trust root is another fingerprint, and the same identity. Weakened once: with the
/// matcher taken from what can verify, a trust root that is missing lifts the veto.
#[test]
fn b44_a_revoked_identity_is_revoked_under_every_trust_root_and_without_one() {
    for root in ["own", "another", api::PUBLIC_GOOD] {
        let mut world = world();
        world.tell(key_fact("revoked", exactly(Stage::Revoked, "revoked", root)));
        assert_eq!(world.verdict("web", "prod"), REVOKED, "{root}");
    }
}

/// B44: a KeyRevocation means the signer although its trust root went missing. Weakened once: with the fingerprint
/// taken from what can verify, the veto ends with the root.
#[test]
fn b44_a_keyless_signer_stays_revoked_by_its_fingerprint_when_its_trust_root_goes() {
    let mut world = world();
    world.tell(key_fact("wide", {
        let [subject, issuer] = person();
        let keyless = Keyless {
            subject: Some(subject),
            issuer_regex: Some(regex_escaped(&issuer)),
            ..Keyless::default()
        };
        keyless_spec(Stage::Active, "release", "own", keyless)
    }));
    let root = Fact::TrustRoot {
        name: "corp".into(),
        root: Ok(Arc::new(verify::TrustRoot::from_json(ROOT.as_bytes()).unwrap())),
    };
    world.tell(root);
    world.tell(key_fact("leaver", exactly(Stage::Active, "others", "corp")));
    let fingerprint = |world: &mut World| world.engine.key_report("leaver", world.now).unwrap().identity;
    let fingerprint = fingerprint(&mut world).unwrap().fingerprint;
    world.tell(Fact::Revocation(Box::new(crate::fact::RevocationFacts {
        name: fingerprint.as_str().into(),
        generation: 1,
        created: Some(world.now),
        spec: Ok(api::KeyRevocationSpec {
            fingerprint,
            reason: api::RevocationReason::KeyCompromise,
            effective_from: None,
            earlier_signatures: None,
            honour_digests: Vec::new(),
            note: None,
        }),
    })));
    assert_eq!(world.verdict("web", "prod"), REVOKED);
    world.tell(Fact::TrustRootGone("corp".into()));
    assert_eq!(world.verdict("web", "prod"), REVOKED);
}

/// B44: what makes a revocation outlast its SigningKey is wanted although nobody can verify by that key now. Weakened
/// once: with the fingerprint taken from what can verify, none is made.
#[test]
fn b44_a_revoked_key_whose_trust_root_is_missing_lacks_a_revocation_of_the_same_signer() {
    let signer = Signer::new();
    let by_key = |stage| SigningKeySpec {
        trust_root: Some("missing".to_owned()),
        transparency_log: Some(api::Demand::Required),
        ..key_spec("others", &signer, stage)
    };
    for (name, spec) in [
        ("keyless", exactly(Stage::Revoked, "others", "missing")),
        ("key", by_key(Stage::Revoked)),
    ] {
        let mut world = world();
        world.tell(key_fact(name, spec));
        let report = world.engine.key_report(name, world.now).unwrap();
        assert!(report.identity.is_err(), "{name}: nobody can verify by it");
        let wanted = report.revocation_missing.expect("it is Revoked");
        world.tell(Fact::TrustRoot {
            name: "missing".into(),
            root: Ok(Arc::new(verify::TrustRoot::from_json(ROOT.as_bytes()).unwrap())),
        });
        let report = world.engine.key_report(name, world.now).unwrap();
        assert_eq!(report.identity.unwrap().fingerprint, wanted, "{name}");
        assert_eq!(report.revocation_missing, Some(wanted));
    }
}

fn regex_escaped(text: &str) -> String {
    text.replace('.', r"\.")
}

/// Whom a Revoked SigningKey means must be known before anybody counts who may be meant.
#[test]
fn b44_a_revoked_matcher_that_cannot_be_read_leaves_every_identity_in_doubt() {
    let mut world = world();
    world.tell(key_fact("revoked", anyone_like(Stage::Revoked, "(")));
    assert_eq!(
        world.verdict("web", "prod"),
        Some((Verdict::Unknown, Reason::KeyMissing))
    );
    let message = world.result("web", "prod").unwrap().message.to_string();
    assert!(message.contains("SigningKey revoked"), "{message}");
}

/// B44: a public key needs no trust root to be known as Revoked. Weakened once: with the fingerprint taken from what can
/// verify, its duplicate counts.
#[test]
fn b44_a_revoked_public_key_is_revoked_although_its_trust_root_is_missing() {
    let (mut world, signer) = (World::new(), Signer::new());
    let image = digest("shop/web");
    world.signatures.insert(image.clone(), vec![signer.sign(&image)]);
    world.tell(key_fact(
        "release-2026",
        key_spec("release", &signer, Stage::Active),
    ));
    world.tell(policy_fact("prod", "shop/**", &["release"]));
    world.tell(pod("web", "shop/web"));
    world.tell(Fact::Synced);
    world.look_up();
    assert_eq!(world.verdict("web", "prod"), HOLDS);
    let twin = SigningKeySpec {
        trust_root: Some("missing".to_owned()),
        timestamp: Some(api::Demand::Optional),
        ..key_spec("twins", &signer, Stage::Revoked)
    };
    world.tell(key_fact("twin", twin));
    assert_eq!(world.verdict("web", "prod"), REVOKED);
}

/// C5.02: what a veto leaves is what rests on the others. Weakened once: with the vetoes forgotten while it is asked what
/// would be without a key, nothing rests on it.
#[test]
fn an_image_rests_on_the_one_signer_of_two_that_is_not_vetoed() {
    let mut world = world();
    let (digest, signer): (Digest, _) = (DIGEST.trim().parse().unwrap(), Signer::new());
    let both = vec![Held::bundle(SIGNATURE), signer.sign(&digest)];
    world.signatures.insert(digest, both);
    world.tell(key_fact("leavers", anyone_like(Stage::Revoked, ".+")));
    world.tell(key_fact(
        "release-2027",
        key_spec("release", &signer, Stage::Active),
    ));
    world.pass_time(30);
    world.look_up();
    assert_eq!(world.verdict("web", "prod"), HOLDS);
    let mut resting = |key: &str| {
        world
            .engine
            .key_report(key, world.now)
            .unwrap()
            .sole_trust
            .workloads
    };
    assert_eq!((resting("release-2027"), resting("release-2026")), (1, 0));
}
