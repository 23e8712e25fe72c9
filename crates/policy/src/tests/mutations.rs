//! B09: each field of a policy, changed alone, changes the answer. A field that did nothing would be a promise not kept.

use api::{ImagePolicySpec, Reason, Recheck};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::*;

const NAMESPACE: &str = "shop";
const LABELS: &[(&str, &str)] = &[("env", "prod")];

/// Compliant, and close to the edge in each respect: any of the mutations below turns it.
fn base() -> Scene {
    let mut scene = Scene {
        pinned: false,
        ..Scene::with(vec![])
    };
    scene.indexes = vec![known(
        &digest("index"),
        Nature::Index,
        vec![person(0).signs_for(&digest("index"), "registry.example.com/elsewhere")],
    )];
    scene.spec = asking(&["release", "build"], 1);
    scene
        .keys
        .rings
        .insert("build".into(), vec![key("build-1", person(1), Stage::Active)]);
    assert_eq!(scene.answer_in(NAMESPACE, LABELS), compliant());
    scene
}

fn mutated(mutate: impl FnOnce(&mut ImagePolicySpec)) -> (Verdict, Reason) {
    let mut scene = base();
    mutate(&mut scene.spec);
    scene.answer_in(NAMESPACE, LABELS)
}

fn signature(spec: &mut ImagePolicySpec) -> &mut SignatureRequirement {
    spec.require[0].signature.as_mut().unwrap()
}

/// The fields of the spec, so that a new one does not go without a test.
#[test]
fn b09_every_field_of_the_spec_is_accounted_for() {
    let ImagePolicySpec {
        description: _,    // for people
        remediation: _,    // every_message_about_a_violation_ends_with_the_remediation
        mode: _,           // b09_mode_and_recheck_reach_the_engine
        match_,            // b09_each_part_of_match_alone_takes_the_image_out
        require,           // b09_each_part_of_a_requirement_alone_turns_the_verdict
        multi_arch: _,     // b09_each_option_alone_turns_the_verdict, b51_an_attestation_of_the_index_…
        require_digest: _, // the same
        bind_repository: _,
        recheck: _,
        warn_before: _, // b09_mode_and_recheck_reach_the_engine
        on_unknown: _,  // c2_05_on_unknown_admits_what_only_an_outage_keeps_from_being_told
        supersedes: _,  // a_policy_does_not_supersede_itself
    } = base().spec;
    let Match {
        images: _,
        exclude_images: _,
        namespaces: _,
        exclude_namespaces: _,
        namespace_selector: _,
    } = match_;
    let Requirement {
        name: _,
        signature,
        attestation: _,     // kinds: b09_each_field_of_an_attestation_alone_turns_the_verdict
        provenance: _,      // the same, of provenance
        vulnerabilities: _, // scans: b09_c4_03_each_field_of_vulnerabilities_alone_…
        trusted: _,         // an_explicit_pass_is_compliant_and_says_so
    } = require.into_iter().next().unwrap();
    let SignatureRequirement {
        signed_by: _,
        minimum: _,
    } = signature.unwrap();
}

#[test]
fn b09_each_part_of_match_alone_takes_the_image_out() {
    let not_covered = (Verdict::NotCovered, Reason::NotCovered);
    let selector = LabelSelector {
        match_labels: Some(BTreeMap::from([("env".to_owned(), "test".to_owned())])),
        ..LabelSelector::default()
    };
    assert_eq!(
        mutated(|spec| spec.match_.images = vec!["registry.example.com/other/**".into()]),
        not_covered
    );
    assert_eq!(
        mutated(|spec| spec.match_.exclude_images = vec!["registry.example.com/shop/*".into()]),
        not_covered
    );
    assert_eq!(
        mutated(|spec| spec.match_.namespaces = vec!["shop-*".into()]),
        not_covered
    );
    assert_eq!(
        mutated(|spec| spec.match_.exclude_namespaces = vec!["sh*".into()]),
        not_covered
    );
    assert_eq!(
        mutated(|spec| spec.match_.namespace_selector = Some(selector)),
        not_covered
    );
}

#[test]
fn each_part_of_match_that_matches_keeps_the_image_covered() {
    let selector = LabelSelector {
        match_labels: Some(BTreeMap::from([("env".to_owned(), "prod".to_owned())])),
        ..LabelSelector::default()
    };
    assert_eq!(
        mutated(|spec| spec.match_.exclude_images = vec!["registry.example.com/other/*".into()]),
        compliant()
    );
    assert_eq!(
        mutated(|spec| spec.match_.namespaces = vec!["other".into(), "sh*".into()]),
        compliant()
    );
    assert_eq!(
        mutated(|spec| spec.match_.exclude_namespaces = vec!["other".into()]),
        compliant()
    );
    assert_eq!(
        mutated(|spec| spec.match_.namespace_selector = Some(selector)),
        compliant()
    );
}

#[test]
fn b09_each_part_of_a_requirement_alone_turns_the_verdict() {
    assert_eq!(
        mutated(|spec| signature(spec).signed_by = vec!["build".into()]),
        violating(Reason::SignerNotTrusted)
    );
    assert_eq!(
        mutated(|spec| signature(spec).minimum = Some(2)),
        violating(Reason::TooFewSigners)
    );
    assert_eq!(
        mutated(|spec| signature(spec).minimum = None),
        compliant(),
        "1 if not given"
    );
    assert_eq!(
        mutated(|spec| spec.require.push(requirement("built", &["build"], 1))),
        violating(Reason::SignerNotTrusted)
    );
}

#[test]
fn b09_each_option_alone_turns_the_verdict() {
    let platform = Some(MultiArch {
        accept: Some(RunsAs::Platform),
        ..MultiArch::default()
    });
    assert_eq!(
        mutated(|spec| spec.multi_arch = platform),
        violating(Reason::SignatureMissing)
    );
    assert_eq!(
        mutated(|spec| spec.multi_arch = Some(MultiArch::default())),
        compliant()
    );
    assert_eq!(
        mutated(|spec| spec.require_digest = Some(true)),
        violating(Reason::TagNotPinned)
    );
    assert_eq!(mutated(|spec| spec.require_digest = Some(false)), compliant());
    assert_eq!(
        mutated(|spec| spec.bind_repository = Some(true)),
        violating(Reason::SignatureInvalid)
    );
    assert_eq!(mutated(|spec| spec.bind_repository = Some(false)), compliant());
}

#[test]
fn b09_mode_and_recheck_reach_the_engine() {
    let compiled = |mutate: &dyn Fn(&mut ImagePolicySpec)| {
        let mut spec = base().spec;
        mutate(&mut spec);
        CompiledPolicy::compile("prod-signed", &spec).unwrap()
    };
    assert_eq!(compiled(&|spec| spec.mode = Mode::Warn).mode(), Mode::Warn);
    let recheck = |interval: &str, max_staleness: &str| {
        Some(Recheck {
            interval: Some(interval.into()),
            max_staleness: Some(max_staleness.into()),
            ..Recheck::default()
        })
    };
    let policy = compiled(&|spec| spec.recheck = recheck("1h", "2h"));
    assert_eq!(policy.recheck().interval_hint().as_secs(), 3600);
    assert_eq!(policy.max_staleness().as_secs(), 7200);
    assert_eq!(compiled(&|_| ()).max_staleness().as_secs(), 72 * 3600);
    let policy = compiled(&|spec| spec.warn_before = Some("90m".into()));
    assert_eq!(policy.warn_before().as_secs(), 5400);
}

#[test]
fn c5_17_a_policy_for_one_namespace_says_nothing_of_another() {
    let mut scene = Scene::with(vec![]);
    scene.spec.match_.namespaces = vec!["shop".into()];
    assert_eq!(scene.answer_in("shop", &[]), violating(Reason::SignatureMissing));
    assert_eq!(
        scene.answer_in("shop-2", &[]),
        (Verdict::NotCovered, Reason::NotCovered)
    );
}

#[test]
fn an_image_reference_that_cannot_be_read_is_covered_by_every_policy_of_its_namespace() {
    let scene = Scene {
        repository: None,
        ..Scene::signed()
    };
    assert_eq!(scene.answer_in("shop", &[]), unknown(Reason::DigestUnresolved));
}
