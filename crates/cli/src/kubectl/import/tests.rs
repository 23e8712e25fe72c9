//! What comes out of policies of other tools, and what is listed as left.

use api::{ImagePolicy, SigningKey};
use serde::Deserialize;

use super::*;

const KEY_A: &str =
    "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEAAAA\n-----END PUBLIC KEY-----\n";

/// Reads documents; gives the objects as the API server would take them, and the list.
fn imported(text: &str) -> (Vec<SigningKey>, Vec<ImagePolicy>, Vec<Left>) {
    let (mut made, mut left) = (Made::default(), Vec::new());
    for document in serde_norway::Deserializer::from_str(text) {
        let mut source = Source::of(Value::deserialize(document).unwrap());
        convert(&mut source, &mut made).unwrap();
        left.extend(source.left);
    }
    let (mut keys, mut policies) = (Vec::new(), Vec::new());
    for object in made.objects() {
        let file = std::path::Path::new("made");
        match object["kind"].as_str() {
            Some("SigningKey") => keys.push(crate::manifests::strict(file, "key", object).unwrap()),
            _ => policies.push(crate::manifests::strict::<ImagePolicy>(file, "policy", object).unwrap()),
        }
    }
    for policy in &policies {
        assert_eq!(
            policy.spec.mode,
            api::Mode::DryRun,
            "what is imported acts on nothing"
        );
        policy::CompiledPolicy::compile("imported", &policy.spec).unwrap();
    }
    (keys, policies, left)
}

fn weaker(left: &[Left]) -> Vec<&str> {
    let weaker = left.iter().filter(|one| one.effect == Effect::Weaker);
    weaker.map(|one| one.field.as_str()).collect()
}

fn asked(policy: &ImagePolicy) -> Vec<(Vec<String>, Option<i32>)> {
    let signatures = policy
        .spec
        .require
        .iter()
        .filter_map(|entry| entry.signature.clone());
    signatures
        .map(|signature| (signature.signed_by, signature.minimum))
        .collect()
}

fn policy_controller(authorities: &str) -> String {
    format!(
        "apiVersion: policy.sigstore.dev/v1beta1\nkind: ClusterImagePolicy\nmetadata: {{name: acme}}\nspec:\n  images: [{{glob: 'ghcr.io/acme/**'}}]\n  authorities:\n{authorities}"
    )
}

fn pem(indent: usize) -> String {
    let pad = " ".repeat(indent);
    KEY_A.lines().map(|line| format!("{pad}{line}\n")).collect()
}

#[test]
fn one_of_several_authorities_suffices_as_before() {
    let text = policy_controller(&format!(
        "  - name: release\n    key:\n      data: |\n{}  - name: build\n    keyless:\n      url: https://fulcio.sigstore.dev\n      identities:\n      - {{issuer: 'https://token.actions.githubusercontent.com', subjectRegExp: '^https://github.com/acme/.*$'}}\n",
        pem(8)
    ));
    let (keys, policies, left) = imported(&text);
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(
        asked(&policies[0]),
        [(vec!["acme-build".to_owned(), "acme-release".to_owned()], None)]
    );
    let keyless = keys.iter().find_map(|key| key.spec.keyless.clone()).unwrap();
    assert_eq!(
        keyless.subject_regex.as_deref(),
        Some("https://github.com/acme/.*")
    );
    assert_eq!(
        keys[0].spec.effective_transparency_log(),
        api::Demand::Ignore,
        "a key without ctlog"
    );
}

#[test]
fn what_policy_controller_asks_beyond_signatures_is_asked_or_listed_as_weaker() {
    let text = policy_controller(&format!(
        "  - name: scan\n    key:\n      data: |\n{}    ctlog: {{url: 'https://rekor.sigstore.dev'}}\n    attestations:\n    - {{name: vulnerabilities, predicateType: vuln, policy: {{type: cue, data: 'x'}}}}\n",
        pem(8)
    ));
    let (keys, policies, left) = imported(&text);
    assert_eq!(
        weaker(&left),
        ["spec.authorities[scan].attestations[vulnerabilities].policy"]
    );
    let asked = policies[0].spec.require[0].attestation.clone().unwrap();
    assert_eq!(
        asked.predicate_type,
        "https://cosign.sigstore.dev/attestation/vuln/v1"
    );
    assert_eq!(keys[0].spec.effective_transparency_log(), api::Demand::Required);
}

#[test]
fn a_field_that_is_not_known_is_never_passed_over() {
    let text = policy_controller(&format!(
        "  - name: release\n    quorum: 2\n    key:\n      data: |\n{}",
        pem(8)
    ));
    let (_, _, left) = imported(&text);
    assert_eq!(weaker(&left), ["spec.authorities[release].quorum"]);
}

#[test]
fn a_signer_that_is_elsewhere_makes_nothing_weaker() {
    let text = policy_controller("  - name: release\n    key: {kms: 'awskms:///alias/x'}\n");
    let (keys, policies, left) = imported(&text);
    assert!(keys.is_empty() && policies.is_empty());
    assert!(left.iter().any(|one| one.field.ends_with("key.kms")), "{left:?}");
    assert!(
        !weaker(&left).is_empty(),
        "no policy at all is weaker, and is told"
    );
}

fn kyverno(rule: &str) -> String {
    format!(
        "apiVersion: kyverno.io/v1\nkind: ClusterPolicy\nmetadata: {{name: check}}\nspec:\n  validationFailureAction: Enforce\n  rules:\n  - name: images\n    match: {{any: [{{resources: {{kinds: [Pod], namespaces: [prod]}}}}]}}\n{rule}"
    )
}

#[test]
fn every_entry_of_kyverno_counts_unless_a_count_is_given() {
    let identities = "      - entries:\n        - keyless: {issuer: 'https://i', subject: 'a@x.example'}\n        - keyless: {issuer: 'https://i', subject: 'https://github.com/acme/*'}\n";
    let rule = |count: &str| {
        kyverno(&format!(
            "    verifyImages:\n    - imageReferences: ['ghcr.io/acme/*']\n      attestors:\n{identities}{count}"
        ))
    };
    let (keys, policies, left) = imported(&rule(""));
    assert!(weaker(&left).is_empty(), "{left:?}");
    assert_eq!(policies[0].spec.match_.images, ["ghcr.io/acme/**"]);
    assert_eq!(policies[0].spec.match_.namespaces, ["prod"]);
    assert_eq!(asked(&policies[0])[0].1, Some(2));
    let subject = keys[1].spec.keyless.clone().unwrap().subject_regex.unwrap();
    assert_eq!(subject, "https://github\\.com/acme/.*");
    let (_, policies, _) = imported(&rule("        count: 1\n"));
    assert_eq!(asked(&policies[0])[0].1, None);
}

/// A signer that cannot be read must not turn "all of them" into "the others".
#[test]
fn all_of_several_signers_of_which_one_cannot_be_read_is_weaker_and_told() {
    let rule = "    verifyImages:\n    - imageReferences: ['*']\n      attestors:\n      - entries:\n        - keyless: {issuer: 'https://i', subject: 'a@x.example'}\n        - certificates: {cert: x}\n";
    let (_, policies, left) = imported(&kyverno(rule));
    assert!(policies.is_empty());
    assert!(
        weaker(&left).contains(&"spec.rules[images].verifyImages.attestors[0]"),
        "{left:?}"
    );
}

/// What is left out only in part must not be left out whole.
#[test]
fn an_exclusion_is_carried_over_only_where_it_is_one_of_namespaces() {
    let rule = |exclude: &str| {
        kyverno(&format!(
            "    exclude: {{any: [{{resources: {exclude}}}]}}\n    verifyImages:\n    - imageReferences: ['*']\n      skipImageReferences: ['ghcr.io/acme/debug:1']\n      attestors:\n      - entries:\n        - keyless: {{issuer: 'https://i', subject: 'a@x.example'}}\n"
        ))
    };
    let (_, policies, left) = imported(&rule("{namespaces: [kube-system]}"));
    assert_eq!(policies[0].spec.match_.exclude_namespaces, ["kube-system"]);
    assert!(
        policies[0].spec.match_.exclude_images.is_empty(),
        "for one tag is not for all"
    );
    assert!(weaker(&left).is_empty(), "{left:?}");
    let (_, policies, _) = imported(&rule("{namespaces: [kube-system], names: [one]}"));
    assert!(policies[0].spec.match_.exclude_namespaces.is_empty());
}

#[test]
fn a_key_of_kyverno_is_looked_for_in_the_log_unless_it_says_no() {
    let rule = |rekor: &str| {
        kyverno(&format!(
            "    verifyImages:\n    - imageReferences: ['*']\n      attestors:\n      - entries:\n        - keys:\n            publicKeys: |\n{}{rekor}",
            pem(14)
        ))
    };
    let (keys, ..) = imported(&rule(""));
    assert_eq!(keys[0].spec.effective_transparency_log(), api::Demand::Required);
    let (keys, ..) = imported(&rule("            rekor: {ignoreTlog: true}\n"));
    assert_eq!(keys[0].spec.effective_transparency_log(), api::Demand::Ignore);
}

#[test]
fn expressions_are_understood_in_full_or_listed_as_weaker() {
    let text = |expression: &str| {
        format!(
            "apiVersion: policies.kyverno.io/v1\nkind: ImageValidatingPolicy\nmetadata: {{name: ivp}}\nspec:\n  matchImageReferences: [{{glob: 'ghcr.io/acme/*'}}]\n  attestors:\n  - name: release\n    cosign:\n      key:\n        data: |\n{}      ctlog: {{insecureIgnoreTlog: true}}\n  attestations: [{{name: sbom, intoto: {{type: 'https://spdx.dev/Document'}}}}]\n  validations:\n  - expression: >-\n      {expression}\n    message: signed\n",
            pem(10)
        )
    };
    let signed =
        "images.containers.map(image, verifyImageSignatures(image, [attestors.release])).all(e, e > 0)";
    let (keys, policies, left) = imported(&text(signed));
    assert!(weaker(&left).is_empty(), "{left:?}");
    assert_eq!(asked(&policies[0]), [(vec!["ivp-release".to_owned()], None)]);
    assert_eq!(keys.len(), 1);
    let attested = "images.containers.map(image, verifyAttestationSignatures(image, attestations.sbom, [attestors.release])).all(e, e > 0)";
    let (_, policies, _) = imported(&text(attested));
    assert!(policies[0].spec.require[0].attestation.is_some());
    for other in [
        format!("{signed} || true"),
        "images.containers.map(image, extractPayload(image, attestations.sbom).x == 1).all(e, e)".to_owned(),
        signed.replace("release", "other"),
        signed.replace("e > 0", "e >= 0"),
    ] {
        let (_, policies, left) = imported(&text(&other));
        assert!(
            policies.is_empty() && weaker(&left).contains(&"spec.validations[0]"),
            "{other}: {left:?}"
        );
    }
}
