//! Keyless signatures: whom a certificate names, and which certificates hold. Tried on a private Sigstore that is
//! written here; the numbers are those of the project's list of security cases.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use assay_verify::{
    ClaimKind, Demand, IdentityMatcher, Outcome, Pattern, Refusal, SubjectKind, TimeSource, Verifier, verify,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::asking::{ask, asking, at, matcher, refused, root, verified, verifier};
use common::der::utf8;
use common::private::{DNS, EMAIL, Enveloped, ISSUER, Leaf, MINUTE, NOON, SUBJECT, URI, World};
use common::{COSIGN_SIGN, Signer, item, other_subject, statement, subject};
use serde_json::{Value, json};

#[test]
fn a_signature_in_rekor_v1_proves_who_signed_and_when() {
    let world = World::new();
    let claim = verified(ask(&world, &world.logged()));
    assert_eq!(claim.kind, ClaimKind::ImageSignature);
    assert_eq!(claim.created_after, Some(at(NOON - MINUTE)));
    let times: Vec<_> = claim.times.iter().map(|time| (time.at, time.source)).collect();
    assert_eq!(times, [(at(NOON), TimeSource::TransparencyLog)]);
    let identity = claim.identity.unwrap();
    assert_eq!(
        (identity.issuer.as_str(), identity.subject.as_str()),
        (ISSUER, SUBJECT)
    );
    assert_eq!(identity.subject_kind, SubjectKind::Uri);
    assert_eq!(
        identity.extensions["sourceRepositoryURI"],
        "https://ci.example.com/shop"
    );
}

#[test]
fn a_signature_in_rekor_v2_takes_its_time_from_a_timestamp() {
    let world = World::new();
    let claim = verified(ask(&world, &world.logged_and_stamped()));
    let times: Vec<_> = claim.times.iter().map(|time| (time.at, time.source)).collect();
    assert_eq!(times, [(at(NOON), TimeSource::TimestampAuthority)]);
    let without = world.bundle(vec![world.entry_2()], &[]);
    assert!(matches!(refused(ask(&world, &without)), Refusal::LogInvalid { why } if why.contains("no time")));
}

#[test]
fn a_timestamp_alone_suffices_where_no_log_is_required() {
    let world = World::new();
    let bundle = world.bundle(vec![], &[world.stamp(NOON)]);
    let root = world.sigstore.trusted_root();
    for log in [Demand::Optional, Demand::Ignore] {
        verified(verify(
            &item(&bundle),
            &subject(),
            &asking(&root, log, Demand::Required),
        ));
    }
    assert_eq!(refused(ask(&world, &bundle)), Refusal::LogMissing);
    let nothing = world.bundle(vec![], &[]);
    let outcome = verify(
        &item(&nothing),
        &subject(),
        &asking(&root, Demand::Ignore, Demand::Required),
    );
    assert_eq!(refused(outcome), Refusal::TimestampMissing);
}

#[test]
fn an_attestation_is_claimed_with_its_predicate_type_and_no_signature() {
    let world = World::new();
    let predicate_type = "https://slsa.dev/provenance/v1";
    let signed = Enveloped::new(&statement(&subject(), predicate_type), &world.certified.key);
    let entry = world
        .sigstore
        .entry_1(&signed.body_1(&world.certified.pem()), NOON);
    let claim = verified(ask(
        &world,
        &signed.bundle(world.certified.holder(), vec![entry], &[]),
    ));
    assert_eq!(
        claim.kind,
        ClaimKind::Attestation {
            predicate_type: predicate_type.into()
        }
    );
}

#[test]
fn another_image_is_not_vouched_for() {
    let world = World::new();
    let outcome = verify(
        &item(&world.logged()),
        &other_subject(),
        &verifier(&world.sigstore.trusted_root()),
    );
    assert_eq!(
        refused(outcome),
        Refusal::SubjectMismatch {
            found: vec![subject()]
        }
    );
}

#[test]
fn only_the_identity_that_was_asked_for_counts() {
    let world = World::new();
    let bundle = item(&world.logged());
    let root = root(&world.sigstore.trusted_root());
    let ask = |issuer: &str, name: &str| {
        let matcher = IdentityMatcher::new(Pattern::regex(issuer).unwrap(), Pattern::regex(name).unwrap());
        let verifier = Verifier::keyless(matcher, Demand::Required, Demand::Ignore, root.clone()).unwrap();
        verify(&bundle, &subject(), &verifier)
    };
    verified(ask(
        r"https://accounts\.example\.com",
        "https://ci.example.com/shop/.+",
    ));
    for (issuer, name) in [
        (
            r"https://accounts\.example\.com",
            "https://ci.example.com/other/.+",
        ),
        (r"https://accounts\.example\.com", "https://ci.example.com/shop"),
        ("https://other.example.com", "https://ci.example.com/shop/.+"),
        ("accounts", "https://ci.example.com/shop/.+"),
    ] {
        assert!(
            matches!(refused(ask(issuer, name)), Refusal::IdentityMismatch { .. }),
            "{issuer} {name}"
        );
    }
}

/// CVE-2026-39984. Fails on a build that reads the identity of any certificate but the first.
#[test]
fn b07_a_forged_certificate_before_or_behind_the_real_one_is_refused() {
    let world = World::new();
    let stranger = Leaf {
        names: vec![(URI, "https://evil.example/x".into())],
        ..Leaf::default()
    };
    let mut forger = World::new().sigstore;
    forger.certificate_log = Signer::p256();
    let forged = forger.certify(&Leaf::default());
    let honest_stranger = world.sigstore.certify(&stranger);
    let chain = |certificates: &[&[u8]]| {
        let raw: Vec<Value> = certificates
            .iter()
            .map(|der| json!({"rawBytes": STANDARD.encode(der)}))
            .collect();
        json!({"x509CertificateChain": {"certificates": raw}})
    };
    // Signed by a stranger with a real certificate; a forged one with the trusted name is put before it.
    let signed = Enveloped::new(&statement(&subject(), COSIGN_SIGN), &honest_stranger.key);
    for holder in [
        chain(&[&forged.certificate, &honest_stranger.certificate]),
        chain(&[&honest_stranger.certificate, &forged.certificate]),
        chain(&[&honest_stranger.certificate, &world.certified.certificate]),
        chain(&[&world.certified.certificate, &honest_stranger.certificate]),
        chain(&[]),
    ] {
        let entry = world
            .sigstore
            .entry_1(&signed.body_1(&honest_stranger.pem()), NOON);
        let mut bundle = signed.bundle(holder, vec![entry], &[]);
        bundle["mediaType"] = json!("application/vnd.dev.sigstore.bundle+json;version=0.2");
        refused(ask(&world, &bundle));
    }
    // A real chain is accepted, and one with a root in it is not.
    let mut bundle = world
        .signed
        .bundle(chain(&[&world.certified.certificate]), vec![world.entry_1()], &[]);
    verified(ask(&world, &bundle));
    bundle = world.signed.bundle(
        chain(&[
            &world.certified.certificate,
            &world.sigstore.authority.certificate,
        ]),
        vec![world.entry_1()],
        &[],
    );
    verified(ask(&world, &bundle));
    let with_root = [&*world.certified.certificate, &world.sigstore.root.certificate];
    bundle = world.signed.bundle(chain(&with_root), vec![world.entry_1()], &[]);
    assert!(matches!(
        refused(ask(&world, &bundle)),
        Refusal::CertificateInvalid { .. }
    ));
}

/// Anybody can write the trusted name into a certificate: what is missing or wrong beside it is not told as the signer's.
/// Weakened once: with every refusal left as it is, the first is `LogMissing`, as of an honest signer.
#[test]
fn b07_of_a_forged_certificate_it_is_said_whatever_else_is_missing() {
    let (world, forger) = (World::new(), World::new());
    let certified = forger.sigstore.certify(&Leaf::default());
    let signed = Enveloped::new(&statement(&subject(), COSIGN_SIGN), &certified.key);
    let body = signed.body_1(&certified.pem());
    let mut broken = world.sigstore.entry_1(&body, NOON);
    broken["inclusionProof"]["rootHash"] = json!(STANDARD.encode([7; 32]));
    for (what, entries) in [
        ("no entry", vec![]),
        ("an entry of the log", vec![world.sigstore.entry_1(&body, NOON)]),
        (
            "an entry of another log",
            vec![forger.sigstore.entry_1(&body, NOON)],
        ),
        ("a broken entry", vec![broken]),
    ] {
        for stamps in [
            vec![],
            vec![forger.sigstore.timestamps.stamp(&signed.signature, NOON)],
        ] {
            let bundle = item(&signed.bundle(certified.holder(), entries.clone(), &stamps));
            for timestamp in [Demand::Optional, Demand::Required] {
                let by = asking(&world.sigstore.trusted_root(), Demand::Required, timestamp);
                let refusal = refused(verify(&bundle, &subject(), &by));
                assert!(
                    matches!(refusal, Refusal::CertificateInvalid { .. }) && !refusal.is_of_the_signer(),
                    "{what}: {refusal:?}"
                );
            }
        }
    }
}

/// B15: genuine timestamps and log entries are to be had by everybody, also over a signature under a certificate that
/// nobody issued. Fails on a build that looks at them before the certificate: they take seventeen times as long.
#[test]
fn b15_what_lies_beside_a_forged_certificate_is_not_looked_at() {
    let (world, forger) = (World::new(), World::new());
    let certified = forger.sigstore.certify(&Leaf::default());
    let signed = Enveloped::new(&statement(&subject(), COSIGN_SIGN), &certified.key);
    let stamps = vec![world.sigstore.timestamps.stamp(&signed.signature, NOON); 4];
    let entries = vec![world.sigstore.entry_1(&signed.body_1(&certified.pem()), NOON); 4];
    let by = verifier(&world.sigstore.trusted_root());
    let shortest = |bundle: &Value| {
        let bundle = item(bundle);
        let ask = || {
            let begin = std::time::Instant::now();
            let refusal = refused(verify(&bundle, &subject(), &by));
            assert!(
                matches!(refusal, Refusal::CertificateInvalid { .. }),
                "{refusal:?}"
            );
            begin.elapsed()
        };
        (0..20).map(|_| ask()).min().unwrap()
    };
    let alone = shortest(&signed.bundle(certified.holder(), Vec::new(), &[]));
    let beside = shortest(&signed.bundle(certified.holder(), entries, &stamps));
    assert!(beside < alone * 8, "{beside:?}, and {alone:?} without them");
}

/// B02, B07: garbage, or more than is read, under a certificate that anybody can write is nobody's. Weakened once: with
/// the certificate of what cannot be read left unexamined, a stranger's garbage is the trusted signer's.
#[test]
fn b07_what_cannot_be_read_under_a_forged_certificate_is_not_the_signers() {
    let (world, forger) = (World::new(), World::new());
    let deep = format!("{}{}", "[".repeat(100), "]".repeat(100));
    for payload in ["no JSON", deep.as_str()] {
        for (sigstore, is_genuine) in [(&world.sigstore, true), (&forger.sigstore, false)] {
            let certified = sigstore.certify(&Leaf::default());
            let signed = Enveloped::new(payload, &certified.key);
            let outcome = ask(&world, &signed.bundle(certified.holder(), vec![], &[]));
            match (outcome, is_genuine) {
                (Outcome::Refused(refusal), false) => {
                    assert!(
                        matches!(refusal, Refusal::CertificateInvalid { .. }),
                        "{refusal:?}"
                    );
                }
                (Outcome::Refused(Refusal::PayloadMalformed { .. }) | Outcome::CannotTell(_), true) => {}
                (outcome, _) => panic!("{payload}: {outcome:?}"),
            }
        }
    }
}

#[test]
fn a_certificate_of_another_authority_is_refused() {
    let (world, other) = (World::new(), World::new());
    let certified = other.sigstore.certify(&Leaf::default());
    let signed = Enveloped::new(&statement(&subject(), COSIGN_SIGN), &certified.key);
    let entry = world.sigstore.entry_1(&signed.body_1(&certified.pem()), NOON);
    let refusal = refused(ask(&world, &signed.bundle(certified.holder(), vec![entry], &[])));
    assert!(
        matches!(refusal, Refusal::CertificateInvalid { .. }),
        "{refusal:?}"
    );
}

/// Weakened by taking the first of several names in `Certificate::subject`, by leaving `fits` out, by not comparing the
/// issuers or by allowing an extension twice, one of these verifies each time.
#[test]
fn b52_two_names_a_name_of_another_type_or_contradicting_issuers_are_refused() {
    let name = |tag, text: &str| (tag, text.to_owned());
    let trusted = || name(URI, SUBJECT);
    let leaves = [
        Leaf {
            names: vec![trusted(), name(URI, "https://evil.example/x")],
            ..Leaf::default()
        },
        Leaf {
            names: vec![trusted(), name(EMAIL, "a@evil.example")],
            ..Leaf::default()
        },
        Leaf {
            names: vec![name(EMAIL, "a@evil.example"), trusted()],
            ..Leaf::default()
        },
        Leaf {
            names: vec![name(DNS, SUBJECT)],
            ..Leaf::default()
        },
        Leaf {
            names: vec![name(EMAIL, SUBJECT)],
            ..Leaf::default()
        },
        Leaf {
            names: vec![name(DNS, "evil.example"), trusted()],
            ..Leaf::default()
        },
        Leaf {
            names: vec![],
            ..Leaf::default()
        },
        Leaf {
            issuer_bare: Some("https://evil.example".into()),
            ..Leaf::default()
        },
        Leaf {
            issuer: Some("https://evil.example".into()),
            ..Leaf::default()
        },
        Leaf {
            issuer: None,
            issuer_bare: None,
            ..Leaf::default()
        },
        Leaf {
            issuer: Some(String::new()),
            issuer_bare: None,
            ..Leaf::default()
        },
        Leaf {
            more: vec![("1.3.6.1.4.1.57264.1.8", utf8(ISSUER))],
            ..Leaf::default()
        },
        Leaf {
            more: vec![("2.5.29.17", vec![0x30, 0])],
            ..Leaf::default()
        },
    ];
    for leaf in leaves {
        let world = World::of(&leaf);
        let refusal = refused(ask(&world, &world.logged()));
        assert!(
            matches!(refusal, Refusal::CertificateInvalid { .. }),
            "{:?}: {refusal:?}",
            leaf.names
        );
    }
    for leaf in [
        Leaf {
            issuer: None,
            ..Leaf::default()
        },
        Leaf {
            issuer_bare: None,
            ..Leaf::default()
        },
    ] {
        let world = World::of(&leaf);
        verified(ask(&world, &world.logged()));
    }
}

#[test]
fn a_certificate_without_sct_or_for_another_use_is_refused() {
    let without = World::of(&Leaf {
        with_sct: false,
        ..Leaf::default()
    });
    let refusal = refused(ask(&without, &without.logged()));
    assert!(
        matches!(refusal, Refusal::CertificateInvalid { .. }),
        "{refusal:?}"
    );
    let mut no_logs = without.sigstore.trusted_root();
    no_logs["ctlogs"] = json!([]);
    verified(verify(&item(&without.logged()), &subject(), &verifier(&no_logs)));
    let mut other_log = World::new();
    let bundle = other_log.logged();
    other_log.sigstore.certificate_log = Signer::p256();
    refused(ask(&other_log, &bundle));
    let server = World::of(&Leaf {
        usage: "1.3.6.1.5.5.7.3.1",
        ..Leaf::default()
    });
    refused(ask(&server, &server.logged()));
}

#[test]
fn a_keyless_signer_needs_a_time_and_a_key_with_a_log_needs_a_root() {
    let root = root(&World::new().sigstore.trusted_root());
    for log in [Demand::Optional, Demand::Ignore] {
        for timestamp in [Demand::Optional, Demand::Ignore] {
            assert!(Verifier::keyless(matcher(), log, timestamp, root.clone()).is_err());
        }
    }
    let key = Signer::p256().public();
    assert!(Verifier::by_key_with(key.clone(), Demand::Optional, Demand::Ignore, None).is_err());
    assert!(Verifier::by_key_with(key.clone(), Demand::Ignore, Demand::Required, None).is_err());
    assert_eq!(
        Verifier::by_key_with(key.clone(), Demand::Ignore, Demand::Ignore, None).unwrap(),
        Verifier::by_key(key)
    );
}
