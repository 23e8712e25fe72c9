//! One test for each group of commands.

use serde_json::{Value, json};

use crate::recorded::Recorded;
use crate::{golden, run};

/// The status of a preview, as an operator writes it.
pub(crate) fn preview(failing: &[Value], passing: &[Value], unknown: &[Value], digest: &str) -> Value {
    json!({
        "observedGeneration": 1,
        "newlyFailingTotal": failing.len(),
        "newlyPassingTotal": passing.len(),
        "newlyUnknownTotal": unknown.len(),
        "newlyFailing": failing,
        "newlyPassing": passing,
        "newlyUnknown": unknown,
        "unchanged": 410 + unknown.len(),
        "unknown": unknown.len(),
        "resultsDigest": digest,
        "conditions": [{
            "type": "Complete", "status": "True", "reason": "Computed", "message": "", "observedGeneration": 1,
            "lastTransitionTime": "2026-11-22T12:00:00Z",
        }],
    })
}

pub(crate) fn result(namespace: &str, workload: &str, image: &str, digest: char, reason: &str) -> Value {
    json!({
        "namespace": namespace, "workload": workload, "image": format!("registry.example.com/{image}"),
        "digest": format!("sha256:{}", String::from(digest).repeat(64)), "policy": "prod-signed", "reason": reason,
    })
}

fn failing() -> Vec<Value> {
    vec![
        result("bank", "CronJob/report", "shop/web:1.3", '4', "KeyDisabled"),
        result("shop", "Deployment/web", "mesh/proxy", '2', "KeyDisabled"),
    ]
}

/// Every command's help is what docs and completion rest on.
#[test]
fn help_says_what_there_is() {
    let cluster = Recorded::start();
    let commands: Vec<Vec<&str>> = [
        "",
        "status",
        "explain",
        "watch",
        "forecast",
        "diff",
        "key",
        "key impact",
        "key stage",
        "key revoke",
        "key images",
        "key freeze",
        "rotate",
        "policy",
        "policy promote",
        "recheck",
        "survey",
        "import",
        "completion",
    ]
    .iter()
    .map(|command| command.split_whitespace().chain(["--help"]).collect())
    .collect();
    let commands: Vec<&[&str]> = commands.iter().map(Vec::as_slice).collect();
    for ran in golden("help", &cluster, &commands) {
        assert_eq!(ran.code, 0);
    }
}

#[test]
fn status_shows_the_worst_first_and_a_tenant_what_they_may_see() {
    let cluster = Recorded::start();
    let ran = golden(
        "status",
        &cluster,
        &[
            &["status"],
            &["status", "-A"],
            &["status", "-n", "bank", "-o", "wide"],
            &["status", "-A", "-o", "json"],
            &["status", "-n", "empty"],
        ],
    );
    assert_eq!(
        ran.iter().map(|ran| ran.code).collect::<Vec<_>>(),
        [1, 1, 1, 1, 1]
    );
    cluster.forbid(&[
        "imagepolicies",
        "signingkeys",
        "keyrevocations",
        "trustroots",
        "registryconfigs",
    ]);
    let ran = golden(
        "status-of-a-tenant",
        &cluster,
        &[
            &["status"],
            &["status", "-n", "bank"],
            &["status", "-n", "bank", "-o", "yaml"],
        ],
    );
    assert_eq!(ran.iter().map(|ran| ran.code).collect::<Vec<_>>(), [1, 0, 0]);
    cluster.forbid(&["imagecompliances"]);
    golden("status-forbidden", &cluster, &[&["status"], &["status", "-A"]]);
}

#[test]
fn explain_says_why_and_what_to_do() {
    let cluster = Recorded::start();
    let ran = golden(
        "explain",
        &cluster,
        &[
            &["explain", "deployment/web"],
            &["explain", "cronjob/report", "-n", "bank"],
            &["explain", "registry.example.com/shop/web", "-A"],
            &["explain", "web", "-o", "json"],
            &["explain", "nothing"],
        ],
    );
    assert_eq!(
        ran.iter().map(|ran| ran.code).collect::<Vec<_>>(),
        [1, 0, 1, 1, 2]
    );
    // C5.14: what a tenant is told rests on nothing that they may not read.
    cluster.forbid(&["imagepolicies", "signingkeys"]);
    let ran = golden("explain-of-a-tenant", &cluster, &[&["explain", "web"]]);
    let words: Vec<&str> = ran[0].stdout.split_whitespace().collect();
    assert!(
        words
            .join(" ")
            .contains("Have the image signed with a key in use")
    );
}

#[test]
fn diff_lists_what_a_change_would_do() {
    let cluster = Recorded::start();
    let file = cluster.folder().join("keys.yaml");
    let key = json!({
        "apiVersion": "assay.dev/v1alpha1", "kind": "SigningKey", "metadata": {"name": "release-2025"},
        "spec": {"keyRing": "release", "stage": "Disabled", "publicKey": {"pem": "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"}},
    });
    std::fs::write(&file, key.to_string()).unwrap();
    let unknown = [result(
        "shop",
        "Deployment/cart",
        "shop/cart:2",
        '7',
        "KeyMissing",
    )];
    let passing = [result(
        "test",
        "Deployment/web",
        "shop/web:1.5",
        '8',
        "AllVerified",
    )];
    cluster.answer_previews([preview(&failing(), &passing, &unknown, "sha256:aa")]);
    let delete: &[&str] = &["diff", "-f", "keys.yaml", "--delete", "ipol/prod-scanned"];
    let ran = golden(
        "diff",
        &cluster,
        &[
            delete,
            &["diff", "-f", "keys.yaml", "-o", "json"],
            &["diff", "-f", "keys.yaml", "-o", "wide"],
        ],
    );
    assert_eq!(ran[0].code, 1);
    let object: Value = serde_json::from_str(&ran[1].stdout).unwrap();
    let fields: Vec<&String> = object["newlyFailing"][0].as_object().unwrap().keys().collect();
    assert_eq!(
        fields,
        ["digest", "image", "namespace", "policy", "reason", "workload"]
    );
    cluster.answer_previews([preview(&[], &[], &[], "sha256:bb")]);
    let ran = golden("diff-clean", &cluster, &[&["diff", "-f", "keys.yaml"]]);
    assert_eq!(ran[0].code, 0);
    let mut refused = preview(&[], &[], &[], "sha256:bb");
    refused["conditions"][0]["status"] = "False".into();
    refused["conditions"][0]["message"] = "SigningKey release-2025: spec.publicKey.pem: not a key".into();
    cluster.answer_previews([refused]);
    std::fs::write(
        cluster.folder().join("pod.yaml"),
        "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\n",
    )
    .unwrap();
    golden(
        "diff-bad",
        &cluster,
        &[
            &["diff", "-f", "keys.yaml"],
            &["diff", "-f", "pod.yaml"],
            &["diff", "-f", "missing.yaml"],
            &["diff", "--delete", "pod/p"],
            &["diff"],
        ],
    );
    assert!(cluster.writes().is_empty(), "nothing is applied");
}

#[test]
fn a_key_goes_to_another_stage_only_as_it_was_shown() {
    let cluster = Recorded::start();
    let clean = preview(&[], &[], &[], "sha256:cc");
    let breaks = preview(&failing(), &[], &[], "sha256:aa");
    cluster.answer_previews([breaks.clone()]);
    let ran = golden(
        "key-stage-refused",
        &cluster,
        &[
            &["key", "impact", "release-2025", "--stage", "Disabled"],
            &["key", "stage", "release-2025", "Disabled"],
            &["key", "stage", "release-2025", "Disabled", "--yes"],
            &[
                "key",
                "stage",
                "release-2025",
                "Disabled",
                "--yes",
                "--expect-failing",
                "1",
            ],
            &["key", "stage", "release-2025", "Disabled", "--dry-run"],
            &["key", "stage", "release-2025", "Retiring", "--yes"],
            &["key", "stage", "release-2024", "Retiring", "--yes"],
            &["key", "stage", "release-2025", "Gone"],
        ],
    );
    assert_eq!(
        ran.iter().map(|ran| ran.code).collect::<Vec<_>>(),
        [1, 1, 1, 1, 0, 0, 2, 2]
    );
    assert!(
        cluster.writes().is_empty(),
        "nothing is changed: {:?}",
        cluster.writes()
    );

    // What would change is another thing when the change is to be made.
    cluster.answer_previews([clean.clone(), breaks.clone()]);
    let moved = run(&cluster, &["key", "stage", "release-2025", "Disabled", "--yes"]);
    assert_eq!(moved.code, 1);
    assert!(
        moved.text.contains("not what was shown any more"),
        "{}",
        moved.text
    );
    assert!(cluster.writes().is_empty());

    cluster.answer_previews([breaks]);
    let agreed = [
        "key",
        "stage",
        "release-2025",
        "disabled",
        "--yes",
        "--expect-failing",
        "2",
    ];
    let ran = golden("key-stage", &cluster, &[&agreed]);
    assert_eq!(ran[0].code, 0);
    let expected = json!({"metadata": {"resourceVersion": "31"}, "spec": {"stage": "Disabled"}});
    assert_eq!(
        cluster.writes(),
        [("PATCH signingkeys/release-2025".to_owned(), expected)]
    );
}

#[test]
fn what_git_manages_is_not_changed_and_the_manifest_is_printed() {
    let cluster = Recorded::start();
    cluster.answer_previews([preview(&[], &[], &[], "sha256:cc")]);
    let key: Value = json!({
        "apiVersion": "assay.dev/v1alpha1", "kind": "SigningKey",
        "metadata": {
            "name": "git", "resourceVersion": "41", "generation": 1,
            "managedFields": [{
                "manager": "argocd-controller", "operation": "Apply", "apiVersion": "assay.dev/v1alpha1",
                "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:stage": {}}},
            }],
        },
        "spec": {"keyRing": "git", "stage": "Active", "publicKey": {"pem": "p"}},
        "status": {"fingerprint": "7".repeat(64), "effectiveStage": "Active", "conditions": [{
            "type": "Ready", "status": "True", "reason": "KeyUsable", "message": "", "observedGeneration": 1,
            "lastTransitionTime": "2026-01-02T00:00:00Z",
        }]},
    });
    cluster.set(key);
    let ran = golden(
        "gitops",
        &cluster,
        &[&["key", "stage", "git", "Retiring", "--yes"], &["rotate", "git"]],
    );
    assert_eq!(ran[0].code, 1);
    assert!(cluster.writes().is_empty(), "{:?}", cluster.writes());
    // A revocation is not in Git.
    let revoke = [
        "key",
        "revoke",
        "git",
        "--reason",
        "KeyCompromise",
        "--note",
        "laptop lost",
        "--yes",
    ];
    let ran = golden("key-revoke", &cluster, &[&revoke, &revoke]);
    assert_eq!((ran[0].code, ran[1].code), (0, 0));
    let writes = cluster.writes();
    assert_eq!(writes.len(), 1, "the second time there is nothing to do");
    assert_eq!(writes[0].0, "POST keyrevocations");
    assert_eq!(writes[0].1["spec"]["reason"], "KeyCompromise");
}

#[test]
fn what_rests_on_a_key_is_listed_and_frozen_whole_or_not_at_all() {
    let cluster = Recorded::start();
    let kept = preview(&[], &[], &[], "sha256:cc");
    cluster.answer_previews([preview(&failing(), &[], &[], "sha256:aa")]);
    let ran = golden(
        "key-images",
        &cluster,
        &[
            &["key", "images", "release-2025"],
            &[
                "key",
                "images",
                "release-2025",
                "--first-seen-after",
                "2026-11-05T00:00:00Z",
                "-o",
                "json",
            ],
        ],
    );
    assert_eq!((ran[0].code, ran[1].code), (1, 1));
    let all = preview(&failing(), &[], &[], "sha256:aa");
    cluster.answer_previews([all.clone(), kept.clone()]);
    let ran = golden(
        "key-freeze",
        &cluster,
        &[&["key", "freeze", "release-2025", "--note", "see the ticket"]],
    );
    assert_eq!(ran[0].code, 0);

    // Two pages of two answers are no list, however often it is tried.
    let cut = |digest: &str| {
        let mut status = preview(&failing(), &[], &[], digest);
        status["newlyFailingTotal"] = 4.into();
        status
    };
    let pages = ["a", "b", "c", "d", "e", "f"].map(|digest| cut(&format!("sha256:{digest}")));
    cluster.answer_previews(pages);
    let cut_off = run(&cluster, &["key", "freeze", "release-2025"]);
    assert_eq!(
        (cut_off.code, cut_off.stdout.as_str()),
        (2, ""),
        "{}",
        cut_off.text
    );
    let unknown = [result("shop", "Deployment/cart", "shop/cart:2", '7', "Stale")];
    cluster.answer_previews([preview(&failing(), &[], &unknown, "sha256:aa")]);
    let doubtful = run(&cluster, &["key", "freeze", "release-2025"]);
    assert_eq!(
        (doubtful.code, doubtful.stdout.as_str()),
        (2, ""),
        "{}",
        doubtful.text
    );
    assert!(cluster.writes().is_empty());
}

#[test]
fn rotate_shows_where_it_stands_and_what_blocks_it() {
    let cluster = Recorded::start();
    let ran = golden(
        "rotate",
        &cluster,
        &[
            &["rotate", "release"],
            &["rotate", "release", "-o", "json"],
            &["rotate", "relese"],
        ],
    );
    assert_eq!(ran.iter().map(|ran| ran.code).collect::<Vec<_>>(), [1, 1, 2]);
    assert!(
        cluster.writes().is_empty() && cluster.previews().is_empty(),
        "it only reads"
    );
}

#[test]
fn a_signer_is_revoked_by_its_fingerprint_and_the_revocation_is_printed() {
    let cluster = Recorded::start();
    cluster.answer_previews([preview(&[], &[], &[], "sha256:cc")]);
    let fingerprint = "9".repeat(64);
    let ran = golden(
        "key-revoke-fingerprint",
        &cluster,
        &[
            &[
                "key",
                "revoke",
                "release-2025",
                "--reason",
                "Superseded",
                "--note",
                "see the ticket",
                "--print",
            ],
            &["key", "revoke", &fingerprint, "--reason", "hold", "--print"],
            &[
                "key",
                "revoke",
                &fingerprint,
                "--reason",
                "KeyCompromise",
                "--yes",
            ],
            &["key", "revoke", &fingerprint[1..], "--reason", "Hold", "--yes"],
        ],
    );
    assert_eq!(ran.iter().map(|ran| ran.code).collect::<Vec<_>>(), [0, 0, 0, 2]);
    let writes = cluster.writes();
    assert_eq!(writes.len(), 1, "what is printed is not written: {writes:?}");
    assert_eq!(writes[0].1["metadata"]["name"], fingerprint);
}

#[test]
fn bad_arguments_are_told_with_what_is_right() {
    let cluster = Recorded::start();
    let ran = golden(
        "bad-arguments",
        &cluster,
        &[
            &["status", "-n", "a", "-A"],
            &["status", "-o", "xml"],
            &["status", "--context", "none"],
            &["explain", "UPPER.example.com/X:1"],
            &["forecast", "--within", "soon"],
            &["key", "images", "release-2025", "--first-seen-after", "yesterday"],
            &["nothing"],
        ],
    );
    for ran in ran {
        assert_eq!(ran.code, 2, "{}", ran.text);
    }
}

/// `make install` puts both names on the path, within DESTDIR and PREFIX, and kubectl's completion beside them.
#[test]
fn installed_under_both_names_each_has_its_command_line() {
    let cluster = Recorded::start();
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let stage = cluster.folder().join("stage");
    let made = std::process::Command::new("make")
        .args(["-s", "install", "PREFIX=/usr"])
        .arg(format!("DESTDIR={}", stage.display()))
        .env("ASSAY_BINARY", env!("CARGO_BIN_EXE_assay"))
        .current_dir(root)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let says = |name: &str, arguments: &[&str]| {
        let program = stage.join("usr/bin").join(name);
        let output = std::process::Command::new(program)
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(says("assay", &["--help"]).contains("controller"));
    let plugin = says("kubectl-assay", &["--help"]);
    assert!(
        plugin.contains("kubectl assay") && plugin.contains("rotate"),
        "{plugin}"
    );
    assert_eq!(says("kubectl_complete-assay", &["sta"]), "status\n:4\n");
    let script = says("kubectl-assay", &["completion", "bash"]);
    assert!(script.contains("complete") && script.contains("kubectl-assay"));
}
