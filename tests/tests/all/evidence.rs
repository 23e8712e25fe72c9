//! Signatures and attestations by keys and by identities, made by both versions of cosign with a private Sigstore, in
//! each format and on registries with and without the referrers API, as `assay check` judges them.

use serde_json::{Value, json};
use testkit::predicates::{Build, Finding, Scanner, openvex, vulnerabilities};
use testkit::{Format, Identity, Pushed, Signer};

use crate::bench::{Bench, FORMATS, REVIEW, keyless, people, requiring, reviewed, trusted};
use crate::manifests::{key, policy, with};

fn minutes_ago(minutes: i64) -> jiff::Timestamp {
    jiff::Timestamp::now() - jiff::SignedDuration::from_mins(minutes)
}

/// Weakened once: with every identity accepted in `accepted_identity`, the other identity passes; with what the trust
/// root refuses taken for a signature without times in `keyless`, the signature passes under the public-good root.
#[tokio::test]
async fn c4_04_b09_a_keyless_signature_counts_for_its_identity_and_trust_root_in_each_format() {
    let bench = Bench::new("keyless").await;
    let policy = policy("signed", "**", "release");
    for registry in bench.registries() {
        for cosign in bench.cosigns() {
            for format in FORMATS {
                for identity in people() {
                    let seed = format!("{:?} {format:?} {}", cosign.version(), identity.subject());
                    let image = bench.push(registry, "keyless/web", &seed).await;
                    cosign
                        .sign(&image.by_digest(), bench.sigstore.keyless(&identity), format)
                        .await
                        .unwrap();
                    let own = bench.identity(&identity);
                    bench
                        .says(&image, &[&own, &policy], "Compliant", "AllVerified")
                        .await;
                    let other = bench.identity(&Identity::email("mallory@example.com"));
                    bench
                        .says(&image, &[&other, &policy], "Violating", "SignerNotTrusted")
                        .await;
                }
            }
        }
    }
    let [alice, workflow] = people();
    let image = bench
        .push(bench.registries()[0], "keyless/matchers", "matchers")
        .await;
    bench
        .desk
        .cosign3
        .sign(
            &image.by_digest(),
            bench.sigstore.keyless(&workflow),
            Format::Bundle,
        )
        .await
        .unwrap();
    let issuer = bench.sigstore.issuer_of(&workflow);
    for (matchers, verdict, reason) in [
        (
            json!({"issuer": issuer, "subjectRegex": r"https://github\.com/shop/web/.*"}),
            "Compliant",
            "AllVerified",
        ),
        // Anchored: a part of the subject is not the subject.
        (
            json!({"issuer": issuer, "subjectRegex": r"github\.com/shop"}),
            "Violating",
            "SignerNotTrusted",
        ),
        (
            json!({"issuerRegex": "https?://.*", "subject": workflow.subject()}),
            "Compliant",
            "AllVerified",
        ),
        (
            json!({"issuer": bench.sigstore.issuer_of(&alice), "subject": workflow.subject()}),
            "Violating",
            "SignerNotTrusted",
        ),
    ] {
        bench
            .says(
                &image,
                &[&keyless("release-ci", matchers), &policy],
                verdict,
                reason,
            )
            .await;
    }
    let elsewhere = with(
        bench.identity(&workflow),
        json!({"spec": {"trustRoot": "public-good"}}),
    );
    bench
        .says(&image, &[&elsewhere, &policy], "Violating", "SignerNotTrusted")
        .await;
}

/// B01. Weakened once: with every predicate type wanted in `AttestationRule::judge`, the review passes for the other type.
#[tokio::test]
async fn b01_b41_c4_01_an_attestation_counts_for_its_own_predicate_type_in_each_format() {
    let bench = Bench::new("attestations").await;
    let pair = bench.desk.cosign3.generate_key_pair("release").await.unwrap();
    let [alice, _] = people();
    let (by_key, by_identity) = (trusted(&pair), bench.identity(&alice));
    let approved = reviewed(json!({"validations": [{"expression": "predicate.approvals.size() >= 2"}]}));
    let other = requiring(
        json!({"attestation": {"predicateType": "https://example.com/other/v1", "signedBy": ["release"]}}),
    );
    let signed = policy("signed", "**", "release");
    let predicate = json!({"approvals": ["ann", "bob"]});
    for registry in bench.registries() {
        for cosign in bench.cosigns() {
            for format in FORMATS {
                let signers: [(Signer<'_>, &Value); 2] = [
                    (Signer::from(&pair), &by_key),
                    (bench.sigstore.keyless(&alice), &by_identity),
                ];
                for (at, (signer, trust)) in signers.into_iter().enumerate() {
                    let seed = format!("{:?} {format:?} {at}", cosign.version());
                    let image = bench.push(registry, "attested/web", &seed).await;
                    cosign
                        .attest(&image.by_digest(), signer, REVIEW, &predicate, format)
                        .await
                        .unwrap();
                    bench
                        .says(&image, &[trust, &approved], "Compliant", "AllVerified")
                        .await;
                    bench
                        .says(&image, &[trust, &other], "Violating", "AttestationMissing")
                        .await;
                    bench
                        .says(&image, &[trust, &signed], "Violating", "SignatureMissing")
                        .await;
                }
            }
        }
    }
}

/// B53, the CEL part. Weakened once: with an expression that fails passed over, `predicate.absent == 1` is Compliant.
#[tokio::test]
async fn b53_what_an_expression_says_of_an_attestation_decides_and_an_error_never_passes() {
    let bench = Bench::new("expressions").await;
    let pair = bench.desk.cosign3.generate_key_pair("release").await.unwrap();
    let image = bench.push(bench.registries()[0], "cel/web", "cel").await;
    let predicate = json!({"approvals": ["ann"], "level": 3});
    bench
        .desk
        .cosign3
        .attest(&image.by_digest(), &pair, REVIEW, &predicate, Format::Bundle)
        .await
        .unwrap();
    let key = trusted(&pair);
    for (expression, verdict, reason) in [
        ("predicate.level == 3", "Compliant", "AllVerified"),
        (
            "predicate.approvals.exists(name, name == 'ann')",
            "Compliant",
            "AllVerified",
        ),
        (
            "statement.predicateType == 'https://example.com/review/v1'",
            "Compliant",
            "AllVerified",
        ),
        (
            "predicate.approvals.size() >= 2",
            "Violating",
            "AttestationRejected",
        ),
        ("predicate.absent == 1", "Violating", "AttestationRejected"),
        ("predicate.level", "Violating", "AttestationRejected"),
    ] {
        let policy = reviewed(json!({"validations": [{"expression": expression}]}));
        let checked = bench.desk.check(&image.by_digest(), &[&key, &policy], &[]).await;
        assert_eq!(
            checked.answer["policies"][0]["reason"], reason,
            "{expression}: {checked:?}"
        );
        assert_eq!(checked.answer["verdict"], verdict, "{expression}: {checked:?}");
    }
}

/// B12, B40, C4.03; C4.08: no scan is no answer.
/// Weakened once: with `maxAge` not compared in `Found::dated`, the old scan passes.
#[tokio::test]
async fn b40_b12_c4_03_a_scan_is_as_old_as_it_says_whoever_signs_it_anew_and_its_findings_decide() {
    let bench = Bench::new("scans").await;
    let pair = bench.desk.cosign3.generate_key_pair("release").await.unwrap();
    let key = trusted(&pair);
    let high = Finding {
        id: "CVE-2026-0001",
        severity: "High",
        package: "openssl",
        fixed_in: Some("3.0.1"),
    };
    let low = Finding {
        id: "CVE-2026-0002",
        severity: "Low",
        package: "zlib",
        fixed_in: None,
    };
    let scanned = |further: Value| {
        let scan =
            json!({"signedBy": ["release"], "maxAge": "1h", "maxFixable": "Low", "maxUnfixable": "Medium"});
        requiring(json!({"vulnerabilities": with(scan, further)}))
    };
    let strict = scanned(json!({}));
    let allowing = scanned(
        json!({"allow": [{"id": "CVE-2026-0001", "reason": "not reachable", "expires": "2099-01-01T00:00:00Z"}]}),
    );
    let lapsed = scanned(
        json!({"allow": [{"id": "CVE-2026-0001", "reason": "not reachable", "expires": "2020-01-01T00:00:00Z"}]}),
    );
    let blocking = scanned(json!({"block": ["CVE-2026-0002"]}));
    for (registry, scanner) in bench
        .registries()
        .into_iter()
        .zip([Scanner::Trivy, Scanner::Grype])
    {
        let attested = async |name: &str, minutes: i64, findings: &[Finding<'_>]| {
            let image = bench
                .push(registry, "scans/web", &format!("{scanner:?} {name}"))
                .await;
            let predicate = vulnerabilities(scanner, minutes_ago(minutes), findings);
            bench
                .desk
                .cosign3
                .attest(&image.by_digest(), &pair, "vuln", &predicate, Format::Bundle)
                .await
                .unwrap();
            image
        };
        let unscanned = bench
            .push(registry, "scans/web", &format!("{scanner:?} none"))
            .await;
        bench
            .says(&unscanned, &[&key, &strict], "Unknown", "ScanMissing")
            .await;
        let clean = attested("clean", 5, &[]).await;
        bench
            .says(&clean, &[&key, &strict], "Compliant", "AllVerified")
            .await;
        let mild = attested("mild", 5, &[low]).await;
        bench
            .says(&mild, &[&key, &strict], "Compliant", "AllVerified")
            .await;
        bench
            .says(&mild, &[&key, &blocking], "Violating", "VulnerabilityFound")
            .await;
        let bad = attested("bad", 5, &[high, low]).await;
        bench
            .says(&bad, &[&key, &strict], "Violating", "VulnerabilityFound")
            .await;
        bench
            .says(&bad, &[&key, &allowing], "Compliant", "AllVerified")
            .await;
        bench
            .says(&bad, &[&key, &lapsed], "Violating", "VulnerabilityFound")
            .await;
        // Signed just now, scanned two hours ago.
        let old = attested("old", 120, &[]).await;
        bench
            .says(&old, &[&key, &strict], "Violating", "AttestationExpired")
            .await;
        // C4.06: the newest decides, whichever was attached last.
        let newest_bad = attested("order", 5, &[high]).await;
        let older_clean = vulnerabilities(scanner, minutes_ago(30), &[]);
        bench
            .desk
            .cosign3
            .attest(&newest_bad.by_digest(), &pair, "vuln", &older_clean, Format::Tag)
            .await
            .unwrap();
        bench
            .says(&newest_bad, &[&key, &strict], "Violating", "VulnerabilityFound")
            .await;
    }
}

/// C4.12. Weakened once: with `signedBy` in place of `vex` as the rings of documents, that of ring `release`
/// suppresses the finding.
#[tokio::test]
async fn c4_12_only_a_trusted_ring_says_that_an_image_is_not_affected() {
    let bench = Bench::new("vex").await;
    let pair = bench.desk.cosign3.generate_key_pair("release").await.unwrap();
    let judge = bench.desk.cosign3.generate_key_pair("security").await.unwrap();
    let stranger = bench.desk.cosign3.generate_key_pair("stranger").await.unwrap();
    let security = key("security-1", "security", &judge.public_pem().unwrap());
    let high = Finding {
        id: "CVE-2026-0001",
        severity: "High",
        package: "openssl",
        fixed_in: Some("3.0.1"),
    };
    let wanted = requiring(json!({"vulnerabilities": {
        "signedBy": ["release"], "maxAge": "1h", "maxFixable": "None", "maxUnfixable": "None", "vex": ["security"],
    }}));
    for (name, by, verdict, reason) in [
        ("stranger", &stranger, "Violating", "VulnerabilityFound"),
        ("release", &pair, "Violating", "VulnerabilityFound"),
        ("security", &judge, "Compliant", "AllVerified"),
    ] {
        let image = bench.push(bench.registries()[1], "vex/web", name).await;
        let scan = vulnerabilities(Scanner::Trivy, minutes_ago(5), &[high]);
        let document = openvex_of(&image);
        let cosign = &bench.desk.cosign3;
        cosign
            .attest(&image.by_digest(), &pair, "vuln", &scan, Format::Bundle)
            .await
            .unwrap();
        cosign
            .attest(&image.by_digest(), by, "openvex", &document, Format::Bundle)
            .await
            .unwrap();
        bench
            .says(&image, &[&trusted(&pair), &security, &wanted], verdict, reason)
            .await;
    }
}

fn openvex_of(image: &Pushed) -> Value {
    openvex(
        "security@example.com",
        minutes_ago(1),
        &image.by_digest(),
        "not_affected",
        &["CVE-2026-0001"],
    )
}

/// C4.02, C4.04.
#[tokio::test]
async fn c4_02_provenance_of_both_versions_names_builder_and_source() {
    let bench = Bench::new("provenance").await;
    let pair = bench.desk.cosign3.generate_key_pair("builders").await.unwrap();
    let key = trusted(&pair);
    let build = Build {
        builder: "https://ci.example.com/builder@v1",
        repository: "https://github.com/shop/web",
        git_ref: "refs/heads/main",
        commit: "0123456789abcdef0123456789abcdef01234567",
        finished: minutes_ago(10),
    };
    let wanted = |patch: Value| {
        let provenance = json!({
            "signedBy": ["release"],
            "builderId": "https://ci.example.com/builder@v1",
            "sourceRepository": "https://github.com/shop/web",
        });
        requiring(json!({"provenance": with(provenance, patch)}))
    };
    for (type_, predicate) in [
        ("slsaprovenance", build.slsa_v02()),
        ("slsaprovenance1", build.slsa_v1()),
    ] {
        let image = bench.push(bench.registries()[0], "provenance/web", type_).await;
        bench
            .desk
            .cosign3
            .attest(&image.by_digest(), &pair, type_, &predicate, Format::Bundle)
            .await
            .unwrap();
        for (patch, verdict, reason) in [
            (json!({}), "Compliant", "AllVerified"),
            (
                json!({"sourceRef": "refs/heads/main"}),
                "Compliant",
                "AllVerified",
            ),
            (json!({"maxAge": "1h"}), "Compliant", "AllVerified"),
            (json!({"maxAge": "5m"}), "Violating", "AttestationExpired"),
            (
                json!({"sourceRef": "refs/heads/dev"}),
                "Violating",
                "AttestationRejected",
            ),
            (
                json!({"builderId": "https://ci.example.com/builder"}),
                "Violating",
                "AttestationRejected",
            ),
            (
                json!({"sourceRepository": "https://github.com/shop/web-evil"}),
                "Violating",
                "AttestationRejected",
            ),
        ] {
            bench.says(&image, &[&key, &wanted(patch)], verdict, reason).await;
        }
    }
}

/// The explicit pass is said as such.
#[tokio::test]
async fn an_explicit_pass_is_trusted_and_says_so() {
    let bench = Bench::new("trusted").await;
    let image = bench.push(bench.registries()[0], "vendor/db", "vendor").await;
    let policy = requiring(json!({"trusted": {"reason": "signed by nobody, reviewed by hand"}}));
    bench.says(&image, &[&policy], "Compliant", "Trusted").await;
}
