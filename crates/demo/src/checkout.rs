//! The chapter of what needs no key: an image that a workflow signed, and one whose scan grows too old to count.

use std::time::{Duration, Instant};

use api::ImageCompliance;
use kube::{Api, ResourceExt};
use testkit::predicates::{Finding, Scanner, vulnerabilities};
use testkit::{Cosign, CosignVersion, Format, Identity, Operator, Pushed, Sigstore, SigstoreOptions};

use crate::error::{DemoError, Result};
use crate::expect::Answer;
use crate::manifests::{CHECKOUT, Values, quoted};
use crate::narrator::seconds;
use crate::stage::Stage;
use crate::story::{Story, shown};

/// How long the operator may take for its answers about the new workloads.
const ANSWERS_LIMIT: Duration = Duration::from_secs(15);
/// How long the scan may count: `maxAge` of the policy, and some for a busy machine.
const END_LIMIT: Duration = Duration::from_secs(40);

const PAY: Answer = Answer {
    dry_run: Some("False"),
    ..Answer::new("checkout", "deployment-pay", "True", "AllVerified")
};
const SEARCH: Answer = Answer {
    dry_run: Some("False"),
    ..Answer::new("checkout", "deployment-search", "True", "AllVerified")
};

impl Story {
    /// Signs without keys, and watches a scan's end. `others` is what all other workloads say meanwhile.
    pub(crate) async fn checkout(&mut self, operator: &Operator, others: &[Answer]) -> Result<()> {
        self.narrator
            .chapter("No key at all: a workflow's identity; and a scan that grows old");
        let what = "Fulcio, a log, a timestamp authority; cosign signs and attests keyless";
        let values = self.narrator.during(what, sign_keyless(&self.stage)).await?;
        let path = CHECKOUT.write(&self.stage, &values)?;
        let output = self
            .kubectl(&["apply", "-f", &path.display().to_string()])
            .await?;
        self.narrator.say(&format!(
            "The servers that signed are gone again: a bundle and a TrustRoot are all that is needed.\n\
             $ kubectl apply -f {}   # {} objects",
            shown(&path),
            output.lines().count()
        ));
        let what = "both workloads have their answer";
        let expected: Vec<Answer> = others.iter().copied().chain([PAY, SEARCH]).collect();
        let answers = self.observer.answers(what, ANSWERS_LIMIT, operator, &expected);
        self.narrator.during(what, answers).await?;
        self.show("kubectl get trustroots").await?;
        self.show("kubectl -n checkout get imgc").await?;
        let due = self.end_of_the_scan().await?;
        let what = format!("the policy takes scans of 20 s at most; this one counts until {due}");
        let expired = SEARCH.turned("False", "AttestationExpired");
        let expected: Vec<Answer> = others.iter().copied().chain([PAY, expired]).collect();
        let began = Instant::now();
        let answers = self.observer.answers(&what, END_LIMIT, operator, &expected);
        self.narrator.during(&what, answers).await?;
        self.show("kubectl -n checkout get imgc").await?;
        let late = self.turned_late(due).await?;
        self.narrator.say(&format!(
            "Nothing happened but time: {} of it. The answer was written {late} s after the second it was due.",
            seconds(began.elapsed()),
        ));
        Ok(())
    }

    /// Until when the answer about the scanned workload holds by itself.
    async fn end_of_the_scan(&self) -> Result<k8s_openapi::jiff::Timestamp> {
        let search = self.search().await?;
        let answers = search.status.images.iter().flat_map(|image| &image.policies);
        let due = answers.filter_map(|answer| answer.valid_until.as_ref()).min();
        due.map(|time| time.0).ok_or_else(|| {
            DemoError::BrokenPromise("the answer about checkout/search names no validUntil".into())
        })
    }

    /// Whole seconds from the due time to the change of the condition.
    async fn turned_late(&self, due: k8s_openapi::jiff::Timestamp) -> Result<i64> {
        let search = self.search().await?;
        let mut conditions = search.status.conditions.iter();
        let compliant = conditions.find(|condition| condition.type_ == api::conditions::COMPLIANT);
        let turned = compliant.map(|condition| condition.last_transition_time.0);
        let late = turned.map(|turned| turned.as_second() - due.as_second());
        late.filter(|late| (0..=2).contains(late)).ok_or_else(|| {
            DemoError::BrokenPromise(format!(
                "checkout/search was due to turn at {due} and turned at {turned:?}"
            ))
        })
    }

    async fn search(&self) -> Result<ImageCompliance> {
        let client = self.stage.cluster.admin_client().await?;
        let all = Api::<ImageCompliance>::namespaced(client, "checkout")
            .list(&Default::default())
            .await
            .map_err(|error| {
                DemoError::BrokenPromise(format!("ImageCompliances cannot be listed: {error}"))
            })?;
        all.items
            .into_iter()
            .find(|found| found.name_any() == SEARCH.name)
            .ok_or_else(|| DemoError::BrokenPromise("checkout/search has no ImageCompliance".into()))
    }
}

/// Pushes two images, signs both as a workflow, attests a scan of one as a scanner; gives the values of the manifest.
async fn sign_keyless(stage: &Stage) -> Result<Values> {
    let folder = stage.folder().join("sigstore");
    let cosign = Cosign::new(CosignVersion::V3, &folder)?;
    let writer = stage.distribution.writer();
    let push = async |name: &str| -> Result<Pushed> {
        Ok(writer
            .push_image(&format!("checkout/{name}"), "1.0", name)
            .await?)
    };
    let (pay, search) = (push("pay").await?, push("search").await?);
    let sigstore = Sigstore::start(&folder, SigstoreOptions::default()).await?;
    let workflow = Identity::workflow("checkout/shop", "release.yaml", "refs/heads/main");
    let scanner = Identity::email("scanner@example.com");
    let signer = sigstore.keyless(&workflow);
    let further = [search.by_digest()];
    let further: Vec<&str> = further.iter().map(String::as_str).collect();
    cosign
        .sign_with(&pay.by_digest(), signer, Format::Bundle, &further)
        .await?;
    let low = Finding {
        id: "CVE-2026-0002",
        severity: "Low",
        package: "zlib",
        fixed_in: None,
    };
    let scan = vulnerabilities(Scanner::Trivy, k8s_openapi::jiff::Timestamp::now(), &[low]);
    let scanned_by = sigstore.keyless(&scanner);
    cosign
        .attest(&search.by_digest(), scanned_by, "vuln", &scan, Format::Bundle)
        .await?;
    Ok(vec![
        ("distribution", stage.distribution.host()),
        ("trusted-root", quoted(sigstore.trusted_root_json()?)),
        ("workflow-issuer", sigstore.issuer_of(&workflow)),
        ("workflow", workflow.subject()),
        ("scanner-issuer", sigstore.issuer_of(&scanner)),
        ("scanner", scanner.subject()),
        ("pay", pay.by_tag()),
        ("search", search.by_tag()),
    ])
}
