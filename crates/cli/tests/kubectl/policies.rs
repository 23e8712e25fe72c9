//! What is done with policies, `policy promote` and `recheck`, and what they begin with, `survey` and `import`.

use serde_json::json;

use crate::commands::preview;
use crate::recorded::Recorded;
use crate::{golden, run};

#[test]
fn a_policy_is_promoted_after_its_soak() {
    let cluster = Recorded::start();
    cluster.answer_previews([preview(&[], &[], &[], "sha256:cc")]);
    let ran = golden(
        "policy-promote",
        &cluster,
        &[
            &["policy", "promote", "prod-signed"],
            &["policy", "promote", "prod-scanned", "--yes"],
            &["policy", "promote", "prod-scanned", "--soak", "0s", "--yes"],
            &[
                "policy",
                "promote",
                "prod-scanned",
                "--soak",
                "0s",
                "--accept-unclean",
                "--yes",
            ],
            &["policy", "promote", "prod-signed", "--to", "DryRun", "--yes"],
            &["policy", "promote", "prod-signed", "--soak", "soon"],
        ],
    );
    assert_eq!(
        ran.iter().map(|ran| ran.code).collect::<Vec<_>>(),
        [0, 1, 1, 0, 0, 2]
    );
    let writes: Vec<String> = cluster
        .writes()
        .into_iter()
        .map(|(what, body)| format!("{what} {}", body["spec"]))
        .collect();
    assert_eq!(
        writes,
        [
            r#"PATCH imagepolicies/prod-scanned {"mode":"Warn"}"#,
            r#"PATCH imagepolicies/prod-signed {"mode":"DryRun"}"#,
        ]
    );
}

/// C5.09: a policy that stood long enough, and finds what it is to block.
/// Fails on a build that asks only how long it stood.
#[test]
fn a_policy_that_was_not_clean_for_its_soak_is_not_promoted() {
    let cluster = Recorded::start();
    cluster.answer_previews([preview(&[], &[], &[], "sha256:cc")]);
    let mut policy = cluster.object("ImagePolicy", "prod-signed");
    policy["spec"]["mode"] = "Warn".into();
    cluster.set(policy);
    let unclean = ["policy", "promote", "prod-signed", "--yes"];
    let ran = golden("policy-unclean", &cluster, &[&unclean]);
    assert_eq!(ran[0].code, 1);
    cluster.forbid(&["imagecompliances"]);
    let ran = golden("policy-not-told", &cluster, &[&unclean]);
    assert_eq!(ran[0].code, 1);
    assert!(cluster.writes().is_empty(), "{:?}", cluster.writes());
    let accepted = run(&cluster, &[&unclean[..], &["--accept-unclean"]].concat());
    assert_eq!(accepted.code, 0, "{}", accepted.text);
}

#[test]
fn a_policy_that_git_manages_is_not_changed_and_the_manifest_is_printed() {
    let cluster = Recorded::start();
    cluster.answer_previews([preview(&[], &[], &[], "sha256:cc")]);
    let mut policy = cluster.object("ImagePolicy", "prod-signed");
    policy["metadata"]["name"] = "git".into();
    policy["metadata"]["labels"] = json!({"kustomize.toolkit.fluxcd.io/name": "policies", "team": "bank"});
    policy["spec"]["mode"] = "DryRun".into();
    cluster.set(policy);
    let ran = golden(
        "policy-gitops",
        &cluster,
        &[&["policy", "promote", "git", "--yes"]],
    );
    assert_eq!(ran[0].code, 1);
    assert!(ran[0].stdout.contains("mode: Warn"), "{}", ran[0].stdout);
    assert!(cluster.writes().is_empty(), "{:?}", cluster.writes());
}

/// The API server keeps one time for all that a manager wrote, so a recheck under the name of whoever promotes would
/// begin a soak anew.
#[test]
fn all_policies_are_rechecked_under_a_name_of_its_own() {
    let cluster = Recorded::start();
    let ran = golden("recheck-all", &cluster, &[&["recheck", "--all"]]);
    assert_eq!(ran[0].code, 0);
    assert_eq!(cluster.writes().len(), 2);
    assert_eq!(
        cluster.managers(),
        ["kubectl-assay-recheck", "kubectl-assay-recheck"]
    );
}

#[test]
fn recheck_writes_one_annotation_and_only_on_policies_that_there_are() {
    let cluster = Recorded::start();
    let ran = golden(
        "recheck",
        &cluster,
        &[
            &["recheck", "prod-signed"],
            &["recheck", "prod-signed", "none"],
            &["recheck"],
        ],
    );
    assert_eq!(ran.iter().map(|ran| ran.code).collect::<Vec<_>>(), [0, 2, 2]);
    let writes = cluster.writes();
    assert_eq!(writes.len(), 1);
    let annotations = &writes[0].1["metadata"]["annotations"];
    assert!(
        annotations["assay.dev/recheck-requested-at"].as_str().is_some(),
        "{annotations}"
    );
}

#[test]
fn a_survey_shows_what_runs_and_suggests_what_to_begin_with() {
    let cluster = Recorded::start();
    let ran = golden(
        "survey",
        &cluster,
        &[
            &["survey"],
            &["survey", "-o", "json"],
            &["survey", "-o", "yaml"],
            &["survey", "-n", "empty"],
        ],
    );
    assert_eq!(ran.iter().map(|ran| ran.code).collect::<Vec<_>>(), [0, 0, 0, 0]);
    cluster.forbid(&["replicasets", "jobs"]);
    golden("survey-of-a-tenant", &cluster, &[&["survey"]]);
}

/// What the budget of requests leaves out is said, and how far it has come.
#[test]
fn a_survey_of_signers_keeps_its_budget_and_shows_its_progress() {
    let cluster = Recorded::start();
    for number in 0..30 {
        let image = format!("registry.example.com/many/app-{number}");
        let digest = format!("sha256:{number:064x}");
        cluster.set(json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": format!("app-{number}"), "namespace": "many", "uid": format!("many-{number}")},
            "spec": {"containers": [{"name": "app", "image": format!("{image}:1")}]},
            "status": {"phase": "Running", "containerStatuses": [
                {"name": "app", "image": "", "imageID": format!("{image}@{digest}"), "ready": true, "restartCount": 0},
            ]},
        }));
    }
    let ran = golden(
        "survey-signers",
        &cluster,
        &[
            &["survey", "-n", "many", "--signers", "--max-requests", "0"],
            &["survey", "--signers", "--max-requests", "0", "-o", "yaml"],
        ],
    );
    assert_eq!((ran[0].code, ran[1].code), (1, 1));
    assert!(
        ran[0].text.contains("25 of 30 images, 0 requests"),
        "{}",
        ran[0].text
    );
}

/// It needs no cluster, and what it cannot carry over is listed.
#[test]
fn policies_of_other_tools_are_imported_with_a_list_of_what_is_left() {
    let cluster = Recorded::start();
    for (name, text) in [
        (
            "policy-controller.yaml",
            include_str!("import/policy-controller.yaml"),
        ),
        ("kyverno.yaml", include_str!("import/kyverno.yaml")),
        ("validating.yaml", include_str!("import/validating.yaml")),
        ("pod.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\n"),
    ] {
        std::fs::write(cluster.folder().join(name), text).unwrap();
    }
    let ran = golden(
        "import",
        &cluster,
        &[
            &["import", "policy-controller.yaml"],
            &["import", "kyverno.yaml"],
            &["import", "validating.yaml", "-o", "json"],
            &["import", "pod.yaml"],
            &["import", "missing.yaml"],
        ],
    );
    assert_eq!(
        ran.iter().map(|ran| ran.code).collect::<Vec<_>>(),
        [1, 1, 1, 2, 2]
    );
}
