//! Next starts, exceptions, and policies that supersede others, over the objects of `starts.yaml`.

use serde_json::{Value, json};

use crate::commands::{preview, result};
use crate::recorded::Recorded;
use crate::{golden, run};

/// C5.06: what would be refused with its next start is shown where nothing that runs says so, and counts.
#[test]
fn c5_06_status_and_explain_show_next_starts_and_what_excepts() {
    let cluster = Recorded::start().with_starts();
    let ran = golden(
        "next-starts",
        &cluster,
        &[
            &["status", "-n", "bank"],
            &["status", "-n", "bank", "-o", "json"],
            &["explain", "cronjob/nightly", "-n", "bank"],
            &["explain", "cart", "-n", "bank"],
            &["explain", "mail", "-n", "bank"],
            &[
                "explain",
                "registry.example.com/bank/nightly",
                "-n",
                "bank",
                "-o",
                "json",
            ],
        ],
    );
    assert_eq!(
        ran.iter().map(|ran| ran.code).collect::<Vec<_>>(),
        [1, 1, 1, 1, 0, 1]
    );
    let status: Value = serde_json::from_str(&ran[1].stdout).unwrap();
    let starts = status["starts"].as_array().unwrap().iter();
    let starts: Vec<&Value> = starts.map(|start| &start["workload"]["name"]).collect();
    // What only rests on a Retiring key holds.
    assert_eq!(starts, ["nightly", "cart"]);
}

/// C5.08: exceptions are changes like others, and what a policy says beside the one that it supersedes is shown before a
/// step.
#[test]
fn c5_08_exceptions_and_policies_that_supersede_others_are_known() {
    let cluster = Recorded::start().with_starts();
    let excepted = result("bank", "Deployment/cart", "bank/cart:2", '7', "Excepted");
    let falls = result("bank", "Deployment/cart", "bank/cart:2", '7', "SignatureMissing");
    let next = json!({
        "apiVersion": "assay.dev/v1alpha1", "kind": "ImagePolicy", "metadata": {"name": "prod-next"},
        "spec": {
            "supersedes": "prod-signed", "match": {"images": ["registry.example.com/**"]},
            "require": [{"name": "release-signature", "signature": {"signedBy": ["release"]}}],
        },
    });
    let exception = json!({
        "apiVersion": "assay.dev/v1alpha1", "kind": "ImageException", "metadata": {"name": "vendor"},
        "spec": {
            "policies": ["prod-signed"], "images": ["registry.example.com/bank/**"], "namespaces": ["bank"],
            "expires": "2026-12-24T00:00:00Z", "reason": "late",
        },
    });
    for (name, object) in [("next.json", next), ("exception.json", exception)] {
        std::fs::write(cluster.folder().join(name), object.to_string()).unwrap();
    }
    let clean = preview(&[], &[], &[], "sha256:cc");
    cluster.answer_previews([
        preview(&[], &[excepted], &[], "sha256:aa"),
        preview(&[falls], &[], &[], "sha256:bb"),
        clean,
    ]);
    let ran = golden(
        "exceptions-and-supersedes",
        &cluster,
        &[
            &["diff", "-f", "exception.json"],
            &["diff", "--delete", "imgex/cart-hotfix"],
            &["diff", "-f", "next.json"],
            &["diff", "-f", "next.json", "-o", "json"],
            &[
                "policy",
                "promote",
                "prod-next",
                "--soak",
                "0s",
                "--to",
                "Enforce",
                "--accept-unclean",
                "--yes",
            ],
        ],
    );
    assert_eq!(
        ran.iter().map(|ran| ran.code).collect::<Vec<_>>(),
        [0, 1, 0, 0, 0]
    );
}

/// C5.04: what only a next start would meet is shown apart, and `--yes` alone does not agree to it.
#[test]
fn c5_04_a_step_that_only_next_starts_would_meet_is_not_taken_unseen() {
    let cluster = Recorded::start();
    let nightly = result("bank", "CronJob/nightly", "bank/nightly:7", '6', "KeyDisabled");
    let mut status = preview(&[], &[], &[], "sha256:dd");
    status["startOnly"] = json!({"newlyFailingTotal": 1, "newlyUnknownTotal": 0, "newlyFailing": [nightly]});
    cluster.answer_previews([status]);
    let stage = ["key", "stage", "release-2025", "Disabled", "--yes"];
    let expected = [&stage[..], &["--expect-failing", "1"]].concat();
    let ran = golden(
        "start-only",
        &cluster,
        &[
            &["key", "impact", "release-2025", "--stage", "Disabled"],
            &[
                "key",
                "impact",
                "release-2025",
                "--stage",
                "Disabled",
                "-o",
                "json",
            ],
            &stage,
            &expected,
            &["key", "freeze", "release-2025"],
        ],
    );
    assert_eq!(
        ran.iter().map(|ran| ran.code).collect::<Vec<_>>(),
        [1, 1, 1, 0, 0]
    );
}

/// The operator writes statuses while somebody takes a step: that is no other key. Another spec is one, and a key that was
/// made anew under the name. Fails on a build that does not compare the uid.
#[test]
fn a_status_that_is_written_meanwhile_does_not_refuse_a_step_and_another_spec_does() {
    for (generation, uid, code) in [(4, None, 0), (5, None, 2), (4, Some("another"), 2)] {
        let cluster = Recorded::start();
        cluster.answer_previews([preview(&[], &[], &[], "sha256:cc")]);
        let mut key = cluster.object("SigningKey", "release-2025");
        key["metadata"]["resourceVersion"] = "99".into();
        key["metadata"]["generation"] = generation.into();
        if let Some(uid) = uid {
            key["metadata"]["uid"] = uid.into();
        }
        cluster.set_meanwhile(key);
        let ran = run(&cluster, &["key", "stage", "release-2025", "Disabled", "--yes"]);
        assert_eq!(ran.code, code, "{}", ran.text);
        let writes = cluster.writes();
        let last = &writes.last().unwrap().1["metadata"]["resourceVersion"];
        assert_eq!(last, if code == 0 { "99" } else { "31" });
    }
}
