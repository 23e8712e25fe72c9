//! The kind `vulnerabilities`, one field at a time: limits, exceptions, VEX.

use api::{AllowedVulnerability, MaxSeverity, VulnerabilitiesRequirement};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::kinds::{TODAY, field_of_error, own, says, scene};
use super::*;

const SCAN: &str = "https://cosign.sigstore.dev/attestation/vuln/v1";
const VEX: &str = "https://openvex.dev/ns/v0.2.0";

/// A Trivy report: (id, severity, has a fix).
fn report(time: &str, findings: &[(&str, &str, bool)]) -> Value {
    let finding = |(id, severity, fixed): &(&str, &str, bool)| {
        json!({
            "VulnerabilityID": id, "PkgName": "openssl", "InstalledVersion": "3.0.1", "Severity": severity,
            "FixedVersion": if *fixed { "3.0.2" } else { "" },
            "PkgIdentifier": {"PURL": "pkg:deb/debian/openssl@3.0.1"},
        })
    };
    let findings: Vec<Value> = findings.iter().map(finding).collect();
    json!({
        "scanner": {"uri": "pkg:github/aquasecurity/trivy", "result": {
            "SchemaVersion": 2,
            "Results": [{"Target": "debian", "Class": "os-pkgs", "Vulnerabilities": findings}],
        }},
        "metadata": {"scanStartedOn": time, "scanFinishedOn": time},
    })
}

fn scan(time: &str, findings: &[(&str, &str, bool)]) -> Item {
    person(0).attest(&own(), SCAN, &report(time, findings))
}

fn scanned(items: Vec<Item>, change: impl FnOnce(&mut VulnerabilitiesRequirement)) -> Scene {
    let mut asked = VulnerabilitiesRequirement {
        signed_by: vec!["release".into()],
        max_age: "24h".into(),
        max_fixable: Some(MaxSeverity::Medium),
        max_unfixable: Some(MaxSeverity::High),
        ..VulnerabilitiesRequirement::default()
    };
    change(&mut asked);
    let requirement = Requirement {
        name: "scan".into(),
        vulnerabilities: Some(asked),
        ..Requirement::default()
    };
    scene(items, requirement)
}

fn allowed(id: &str, expires: &str) -> AllowedVulnerability {
    AllowedVulnerability {
        id: id.into(),
        reason: "accepted".into(),
        expires: Time(at(expires)),
    }
}

#[test]
fn b09_c4_03_each_field_of_vulnerabilities_alone_turns_the_verdict() {
    let VulnerabilitiesRequirement {
        signed_by: _,
        max_age: _,
        max_fixable: _,
        max_unfixable: _,
        allow: _, // b09_c4_03_an_allowed_vulnerability_is_accepted_until_it_expires
        block: _,
        vex: _, // c4_12_a_vex_statement_counts_by_a_ring_that_is_trusted_for_it
    } = VulnerabilitiesRequirement::default();
    let items = || {
        vec![scan(
            TODAY,
            &[("CVE-1", "MEDIUM", true), ("CVE-2", "HIGH", false)],
        )]
    };
    assert_eq!(scanned(items(), |_| ()).answer(), compliant());
    let turned = |change: &dyn Fn(&mut VulnerabilitiesRequirement)| scanned(items(), change).answer();
    let found = violating(Reason::VulnerabilityFound);
    assert_eq!(
        turned(&|asked| asked.signed_by = vec!["build".into()]),
        violating(Reason::SignerNotTrusted)
    );
    assert_eq!(
        turned(&|asked| asked.max_age = "1h".into()),
        violating(Reason::AttestationExpired)
    );
    assert_eq!(turned(&|asked| asked.max_fixable = Some(MaxSeverity::Low)), found);
    assert_eq!(
        turned(&|asked| asked.max_unfixable = Some(MaxSeverity::Medium)),
        found
    );
    assert_eq!(
        turned(&|asked| asked.max_fixable = None),
        found,
        "what is not said is not accepted"
    );
    assert_eq!(turned(&|asked| asked.max_unfixable = None), found);
    assert_eq!(turned(&|asked| asked.block = vec!["cve-1".into()]), found);
}

/// The table of severities and limits. Seen to fail with `<` in place of `<=` in `is_within`.
#[test]
fn c4_03_the_limits_are_inclusive_and_what_is_not_rated_is_the_worst() {
    use MaxSeverity::{Critical, High, Low, Medium, None};
    let limits = [None, Low, Medium, High, Critical];
    for (severity, accepted_from) in [
        ("NEGLIGIBLE", Low),
        ("LOW", Low),
        ("MEDIUM", Medium),
        ("HIGH", High),
        ("CRITICAL", Critical),
        ("UNKNOWN", Critical),
        ("Odd", Critical),
    ] {
        for limit in limits {
            for fixable in [true, false] {
                let scene = scanned(vec![scan(TODAY, &[("CVE-1", severity, fixable)])], |asked| {
                    asked.max_fixable = Some(if fixable { limit } else { Critical });
                    asked.max_unfixable = Some(if fixable { Critical } else { limit });
                });
                let accepted = scene.answer() == compliant();
                assert_eq!(accepted, limit >= accepted_from, "{severity} {limit:?} {fixable}");
            }
        }
    }
    let clean = scanned(vec![scan(TODAY, &[])], |asked| asked.max_fixable = Some(None));
    assert_eq!(clean.answer(), compliant());
}

#[test]
fn b09_c4_03_an_allowed_vulnerability_is_accepted_until_it_expires() {
    let with = |change: &dyn Fn(&mut VulnerabilitiesRequirement)| {
        scanned(vec![scan(TODAY, &[("CVE-1", "CRITICAL", true)])], change)
    };
    assert_eq!(with(&|_| ()).answer(), violating(Reason::VulnerabilityFound));
    let scene = with(&|asked| asked.allow = vec![allowed("CVE-1", "2026-11-22T18:00:00Z")]);
    assert_eq!(scene.answer(), compliant());
    assert_eq!(scene.judge().valid_until, Some(at("2026-11-22T18:00:00Z")));
    let then = scene.judge_at(at("2026-11-22T18:00:00Z"));
    assert_eq!((then.verdict, then.reason), violating(Reason::VulnerabilityFound));
    for other in [
        allowed("CVE-11", "2027-01-01T00:00:00Z"),
        allowed("CVE-1", "2026-11-22T12:00:00Z"),
    ] {
        assert_eq!(
            with(&|asked| asked.allow = vec![other.clone()]).answer(),
            violating(Reason::VulnerabilityFound)
        );
    }
}

#[test]
fn c4_08_no_scan_is_unknown_and_says_so() {
    let scene = scanned(vec![person(0).signs(&own())], |_| ());
    assert_eq!(scene.answer(), unknown(Reason::ScanMissing));
    says(
        &scene,
        &[
            "a scan for vulnerabilities by key ring release, no older than 24h",
            "found no scan",
            "wiki.example.com",
        ],
    );
    let mut unproven = scene;
    unproven.own.attestations = Completeness::Incomplete(gap(Reason::RegistryUnavailable));
    assert_eq!(unproven.answer(), unknown(Reason::RegistryUnavailable));
}

/// Seen to fail with an empty list of findings for what `scan::read` refuses.
#[test]
fn a_scan_in_a_form_that_is_not_understood_is_never_a_pass() {
    for predicate in [
        json!({}),
        json!({"scanner": {"result": {}}, "metadata": {"scanFinishedOn": TODAY}}),
        json!({"scanner": {"result": {"SchemaVersion": 2, "Results": []}}, "metadata": {"scanFinishedOn": TODAY}}),
        json!({"scanner": {"result": {"runs": []}}, "metadata": {"scanFinishedOn": TODAY}}),
    ] {
        let newer = person(0).attest(&own(), SCAN, &predicate);
        let scene = scanned(vec![scan("2026-11-22T10:00:00Z", &[]), newer.clone()], |_| ());
        let alone = scanned(vec![newer], |_| ());
        if predicate.get("metadata").is_some() {
            assert_eq!(
                scene.answer(),
                violating(Reason::AttestationInvalid),
                "{predicate}"
            );
            assert_eq!(
                alone.answer(),
                violating(Reason::AttestationInvalid),
                "{predicate}"
            );
        } else {
            assert_eq!(
                alone.answer(),
                violating(Reason::AttestationUndated),
                "{predicate}"
            );
        }
    }
}

#[test]
fn b47_the_newest_scan_decides_whatever_older_ones_say() {
    let clean = || scan("2026-11-22T09:00:00Z", &[]);
    let bad = |time| scan(time, &[("CVE-1", "CRITICAL", true)]);
    assert_eq!(
        scanned(vec![clean(), bad("2026-11-22T10:00:00Z")], |_| ()).answer(),
        violating(Reason::VulnerabilityFound)
    );
    assert_eq!(
        scanned(vec![clean(), bad("2026-11-22T08:00:00Z")], |_| ()).answer(),
        compliant()
    );
}

#[test]
fn the_worst_findings_are_named_and_that_there_are_more() {
    let findings = [
        ("CVE-1", "HIGH", true),
        ("CVE-2", "CRITICAL", false),
        ("CVE-3", "CRITICAL", true),
        ("CVE-4", "HIGH", true),
        ("CVE-5", "LOW", true),
    ];
    let scene = scanned(vec![scan(TODAY, &findings)], |_| ());
    says(
        &scene,
        &[
            "SigningKey release-2026, found CVE-3 (Critical, openssl 3.0.1, fixed in a later version), CVE-2 (Critical, \
             openssl 3.0.1, no fix), CVE-1",
            "and others",
        ],
    );
    assert!(!scene.judge().message.contains("CVE-5"));
}

fn vex(person: &Person, time: Option<&str>, status: &str) -> Item {
    let mut document = json!({
        "@context": VEX, "statements": [{
            "vulnerability": {"name": "CVE-1"}, "status": status, "justification": "vulnerable_code_not_present",
            "products": [{"@id": format!("pkg:oci/web@{}", own())}],
        }],
    });
    if let Some(time) = time {
        document["timestamp"] = time.into();
    }
    person.attest(&own(), VEX, &document)
}

pub(super) fn with_vex(documents: Vec<Item>, change: impl FnOnce(&mut VulnerabilitiesRequirement)) -> Scene {
    let mut items = vec![scan(TODAY, &[("CVE-1", "CRITICAL", true)])];
    items.extend(documents);
    scanned(items, |asked| {
        asked.vex = vec!["build".into()];
        change(asked);
    })
}

/// Seen to fail with the scanners' rings in place of those in `vex` in `VulnerabilitiesRule::authors`.
#[test]
fn b09_c4_12_a_vex_statement_counts_by_a_ring_that_is_trusted_for_it() {
    let document = |at| vec![vex(person(at), Some(TODAY), "not_affected")];
    let found = violating(Reason::VulnerabilityFound);
    let scene = with_vex(document(1), |_| ());
    assert_eq!(scene.answer(), compliant());
    let mut both = [person(0).fingerprint(), person(1).fingerprint()];
    both.sort();
    assert_eq!(scene.judge().relied_on, both);
    assert!(scene.rests_on(person(1)));
    assert_eq!(with_vex(document(1), |asked| asked.vex.clear()).answer(), found);
    assert_eq!(
        with_vex(document(0), |_| ()).answer(),
        found,
        "the scanner is no author of it"
    );
    assert_eq!(with_vex(document(4), |_| ()).answer(), found);
    let blocked = with_vex(document(1), |asked| asked.block = vec!["CVE-1".into()]);
    assert_eq!(blocked.answer(), found);
    let mut disabled = with_vex(document(1), |_| ());
    disabled.keys.rings.get_mut("build").unwrap()[0].stage = Stage::Disabled;
    assert_eq!(disabled.answer(), found);
}

#[test]
fn c4_12_the_newest_vex_statement_decides_and_an_undated_one_suppresses_nothing() {
    let not = |time| vex(person(1), time, "not_affected");
    let affected = |time| vex(person(1), time, "affected");
    let found = violating(Reason::VulnerabilityFound);
    let (earlier, later) = (Some("2026-11-20T00:00:00Z"), Some("2026-11-21T00:00:00Z"));
    assert_eq!(
        with_vex(vec![not(earlier), affected(later)], |_| ()).answer(),
        found
    );
    assert_eq!(
        with_vex(vec![affected(earlier), not(later)], |_| ()).answer(),
        compliant()
    );
    assert_eq!(
        with_vex(vec![affected(later), not(later)], |_| ()).answer(),
        found
    );
    assert_eq!(with_vex(vec![not(None)], |_| ()).answer(), found);
    let ahead = with_vex(vec![not(Some("2026-11-22T13:00:00Z"))], |_| ());
    assert_eq!(ahead.answer(), found);
    assert_eq!(ahead.judge().valid_until, Some(at("2026-11-22T13:00:00Z")));
}

/// Of what says that the image is affected and names no time nobody knows whether it is the newest.
/// Fails on a build that passes over every statement without a time: the one that suppresses decides.
#[test]
fn c4_12_an_undated_statement_that_the_image_is_affected_leaves_no_other_one_to_suppress() {
    for status in ["affected", "under_investigation"] {
        let documents = |undated: Option<&str>| {
            vec![
                vex(person(1), Some("2026-11-21T00:00:00Z"), "not_affected"),
                vex(person(1), undated, status),
            ]
        };
        let found = violating(Reason::VulnerabilityFound);
        assert_eq!(with_vex(documents(None), |_| ()).answer(), found, "{status}");
        let before = with_vex(documents(Some("2026-11-20T00:00:00Z")), |_| ());
        assert_eq!(before.answer(), compliant(), "{status}");
    }
}

/// B47: a document that is deleted suppresses nothing any more, and what it said against the image goes on counting.
/// Fails on a build without the filter by `is_gone` in `suppressed`: the first two are Compliant.
#[test]
fn b47_a_vex_document_that_is_gone_suppresses_nothing_and_a_later_one_against_the_image_stays() {
    let not = |time| vex(person(1), Some(time), "not_affected");
    let affected = |time| vex(person(1), Some(time), "affected");
    let (earlier, later) = ("2026-11-20T00:00:00Z", "2026-11-21T00:00:00Z");
    let answer = |gone: Item, there: Vec<Item>| {
        let id = gone.id().clone();
        let mut scene = with_vex([vec![gone], there].concat(), |_| ());
        let items = scene.own.items.iter_mut();
        items.for_each(|facts| facts.is_gone = *facts.item.id() == id);
        scene.answer()
    };
    let found = violating(Reason::VulnerabilityFound);
    assert_eq!(answer(not(later), Vec::new()), found);
    assert_eq!(answer(not(later), vec![affected(earlier)]), found);
    assert_eq!(answer(affected(later), vec![not(earlier)]), found);
    assert_eq!(answer(affected(earlier), vec![not(later)]), compliant());
}

/// B47: what was deleted and is not even remembered may be as new as this. Fails on a build that does not compare with
/// `Found::forgotten`.
#[test]
fn b47_what_is_no_newer_than_a_forgotten_attestation_neither_holds_nor_suppresses() {
    let by = |fingerprint: &str, mut scene: Scene, kind: &str, time: &str| {
        let forgotten = BTreeMap::from([(fingerprint.into(), at(time))]);
        scene.own.forgotten.insert(kind.into(), forgotten);
        scene.answer()
    };
    let [scanner, author] = [person(0), person(1)].map(|person| person.fingerprint().to_string());
    let forgetting = |scene: Scene, kind: &str, time: &str| match kind {
        VEX => by(&author, scene, kind, time),
        _ => by(&scanner, scene, kind, time),
    };
    let clean = || scanned(vec![scan("2026-11-22T09:00:00Z", &[])], |_| ());
    let excess = unknown(Reason::EvidenceTooLarge);
    assert_eq!(forgetting(clean(), SCAN, "2026-11-22T09:00:00Z"), excess);
    assert_eq!(forgetting(clean(), SCAN, "2026-11-22T08:59:59Z"), compliant());
    assert_eq!(by("", clean(), SCAN, TODAY), excess, "nobody knows whose");
    assert_eq!(
        by(&author, clean(), SCAN, TODAY),
        compliant(),
        "of another ring's key"
    );
    assert_eq!(
        forgetting(clean(), VEX, "2026-11-22T11:00:00Z"),
        compliant(),
        "of another type"
    );
    let suppressed = || {
        let not = vex(person(1), Some("2026-11-21T00:00:00Z"), "not_affected");
        with_vex(vec![not], |_| ())
    };
    let found = violating(Reason::VulnerabilityFound);
    assert_eq!(forgetting(suppressed(), VEX, "2026-11-21T00:00:00Z"), found);
    assert_eq!(forgetting(suppressed(), VEX, "2026-11-20T00:00:00Z"), compliant());
}

/// Fails on a build that suppresses by what it can read: the older document decides.
#[test]
fn c4_12_a_vex_document_whose_bytes_are_gone_may_be_the_newest() {
    let (earlier, later) = (Some("2026-11-22T10:00:00Z"), Some("2026-11-22T11:00:00Z"));
    let not = vex(person(1), earlier, "not_affected");
    assert_eq!(with_vex(vec![not.clone()], |_| ()).answer(), compliant());
    let gone = vex(person(1), later, "affected").kept_elsewhere(Arc::new(|| None));
    assert_eq!(
        with_vex(vec![not, gone], |_| ()).answer(),
        unknown(Reason::Pending)
    );
}

#[test]
fn a_vex_document_by_a_key_that_cannot_be_read_leaves_the_finding_open() {
    let mut scene = with_vex(vec![vex(person(4), Some(TODAY), "not_affected")], |_| ());
    assert_eq!(scene.answer(), violating(Reason::VulnerabilityFound));
    scene.keys.rings.get_mut("build").unwrap()[0].verifier = None;
    assert_eq!(scene.answer(), unknown(Reason::KeyMissing));
}

#[test]
fn c5_21_vulnerabilities_that_contradict_themselves_are_refused() {
    let with = |change: &dyn Fn(&mut VulnerabilitiesRequirement)| {
        let mut asked = VulnerabilitiesRequirement {
            signed_by: vec!["release".into()],
            max_age: "24h".into(),
            ..VulnerabilitiesRequirement::default()
        };
        change(&mut asked);
        field_of_error(Requirement {
            name: "scan".into(),
            vulnerabilities: Some(asked),
            ..Requirement::default()
        })
    };
    let field = |name: &str| format!("spec.require[0].vulnerabilities.{name}");
    assert_eq!(with(&|asked| asked.max_age.clear()), field("maxAge"));
    assert_eq!(
        with(&|asked| asked.max_fixable = Some(MaxSeverity::Other)),
        field("maxFixable")
    );
    assert_eq!(
        with(&|asked| asked.max_unfixable = Some(MaxSeverity::Other)),
        field("maxUnfixable")
    );
    assert_eq!(with(&|asked| asked.vex = vec![String::new()]), field("vex[0]"));
    let both = |asked: &mut VulnerabilitiesRequirement| {
        asked.block = vec!["CVE-1".into()];
        asked.allow = vec![allowed("cve-1", "2027-01-01T00:00:00Z")];
    };
    assert_eq!(with(&both), field("allow[0].id"));
}
