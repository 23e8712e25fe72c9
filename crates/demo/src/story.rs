//! The story, chapter by chapter. Every claim is checked before it is told.

use std::path::Path;
use std::time::{Duration, Instant};

use api::ContainerType::{Container, Ephemeral, Init, Sidecar};
use testkit::{LogPosition, NODE_USER_AGENT};

use crate::error::{DemoError, Result};
use crate::expect::{Answer, Count, Trust};
use crate::gallery::{Gallery, Signers};
use crate::manifests::{self, TRUST, WORKLOADS};
use crate::narrator::{Fit, Narrator, seconds};
use crate::observer::{News, Observer, REPORTER};
use crate::stage::{NODES, Operator, Stage};

/// How long the pods may take to run.
const PODS_LIMIT: Duration = Duration::from_secs(60);
/// How long the operator may take for its first answers.
const FIRST_LIMIT: Duration = Duration::from_secs(60);
/// How long a revocation may take to be known everywhere.
const FLIP_LIMIT: Duration = Duration::from_secs(10);
/// How long a new signature may stay unseen: failing images are looked at again after 30 s.
const HEAL_LIMIT: Duration = Duration::from_secs(60);
/// How long counts may lag behind answers: each object's are written once in 30 s.
const COUNTS_LIMIT: Duration = Duration::from_secs(40);
const EVENTS_LIMIT: Duration = Duration::from_secs(10);

/// Pods of `manifests/workloads.yaml`, the run of the CronJob included.
const PODS: usize = 13;

/// What rests on the key release-2026 alone.
const DEPENDENTS: [Answer; 5] = [
    Answer {
        containers: &[Container, Init, Sidecar],
        ..Answer::new("shop", "deployment-web", "True", "AllVerified")
    },
    Answer::new("shop", "statefulset-db", "True", "AllVerified"),
    Answer::new("shop", "daemonset-agent", "True", "AllVerified"),
    Answer::new("shop", "cronjob-report", "True", "AllVerified"),
    Answer {
        may_be_missing: true,
        ..Answer::new("shop", "pod-toolbox", "True", "AllVerified")
    },
];

/// What the key's loss leaves as it is.
const OTHERS: [Answer; 5] = [
    Answer::new("shop", "deployment-cart", "False", "SignatureMissing"),
    Answer::new("shop", "pod-coupons", "False", "SignerNotTrusted"),
    Answer {
        dry_run: Some("True"),
        ..Answer::new("payments", "deployment-api", "True", "AllVerified")
    },
    Answer {
        dry_run: Some("False"),
        containers: &[Container, Ephemeral],
        ..Answer::new("payments", "deployment-worker", "False", "SignatureMissing")
    },
    Answer {
        dry_run: Some("False"),
        ..Answer::new("legacy", "deployment-billing", "Unknown", "DryRunOnly")
    },
];

const BAD: &str = "BecameNonCompliant";
const GOOD: &str = "BecameCompliant";

const FIRST_NEWS: [News; 6] = [
    (BAD, "Deployment", "cart"),
    (BAD, "Pod", "coupons"),
    (BAD, "Deployment", "worker"),
    (BAD, "Deployment", "billing"),
    (BAD, "ImagePolicy", "shop-signed"),
    (BAD, "ImagePolicy", "all-signed"),
];

const NEWS_OF_THE_FLIP: [News; 6] = [
    (BAD, "Deployment", "web"),
    (BAD, "StatefulSet", "db"),
    (BAD, "DaemonSet", "agent"),
    (BAD, "CronJob", "report"),
    (BAD, "Pod", "toolbox"),
    ("KeyStageChanged", "SigningKey", "release-2026"),
];

const NEWS_OF_THE_HEAL: [News; 5] = [
    (GOOD, "Deployment", "web"),
    (GOOD, "StatefulSet", "db"),
    (GOOD, "DaemonSet", "agent"),
    (GOOD, "CronJob", "report"),
    (GOOD, "Pod", "toolbox"),
];

/// Tells the whole story and leaves everything up.
pub async fn tell(folder: &Path) -> Result<()> {
    let mut narrator = Narrator::new();
    narrator.chapter("A cluster and two registries on this machine");
    let signing = folder.join("signing");
    let what = "etcd, API server, controller manager, two registries, two simulated nodes";
    let stage = narrator.during(what, Stage::start(folder)).await?;
    let observer = Observer::new(stage.cluster.admin_client().await?);
    let mut story = Story {
        narrator,
        stage,
        observer,
    };
    story.install().await?;
    let (gallery, signers) = story.sign(&signing).await?;
    story.run_workloads(&gallery, &signers).await?;
    let operator = story.first_answers().await?;
    story.what_a_user_sees(&operator).await?;
    story.revoke(&operator, &gallery).await?;
    story.heal(&operator, &gallery, &signers).await?;
    story.leave(&operator);
    Ok(())
}

struct Story {
    narrator: Narrator,
    stage: Stage,
    observer: Observer,
}

impl Story {
    /// Kinds and rights, as an administrator installs them.
    async fn install(&mut self) -> Result<()> {
        self.narrator.chapter("Assay's kinds and the operator's rights");
        for kustomization in ["config/crd", "config/rbac"] {
            let output = self.kubectl(&["apply", "-k", kustomization]).await?;
            let objects = output.lines().count();
            self.narrator.say(&format!(
                "$ kubectl apply -k {kustomization}   # {objects} objects"
            ));
        }
        let wait = [
            "wait",
            "--for=condition=Established",
            "crd",
            "--all",
            "--timeout=30s",
        ];
        self.kubectl(&wait).await.map(drop)
    }

    async fn sign(&mut self, folder: &Path) -> Result<(Gallery, Signers)> {
        self.narrator
            .chapter("Images, pushed and signed with real cosign");
        let signing = async {
            let gallery = Gallery::push(&self.stage).await?;
            let signers = Signers::create(folder).await?;
            signers.sign(&gallery).await?;
            Ok::<_, DemoError>((gallery, signers))
        };
        let (gallery, signers) = self
            .narrator
            .during("9 images, 3 keys, 7 signatures", signing)
            .await?;
        self.narrator.say(
            "By release-2026: shop/web in cosign's tag format (cosign 2); shop/db, shop/tools and the multi-arch index \
             shop/agent as Sigstore bundles (cosign 3). payments/api by release-2026 and release-2027. \
             shop/coupons by a stranger. shop/cart, legacy/billing and tools/shell by nobody.",
        );
        Ok((gallery, signers))
    }

    async fn run_workloads(&mut self, gallery: &Gallery, signers: &Signers) -> Result<()> {
        self.narrator.chapter("Workloads, keys and policies");
        let values = manifests::values(&self.stage, gallery, signers)?;
        let workloads = WORKLOADS.write(&self.stage, &values)?;
        let trust = TRUST.write(&self.stage, &values)?;
        for path in [&trust, &workloads] {
            let output = self
                .kubectl(&["apply", "-f", &path.display().to_string()])
                .await?;
            let objects = output.lines().count();
            self.narrator.say(&format!(
                "$ kubectl apply -f {}   # {objects} objects",
                shown(path)
            ));
        }
        self.do_it("kubectl -n shop create job report-now --from=cronjob/report")
            .await?;
        self.narrator
            .during("13 pods start", self.observer.pods_run(PODS, PODS_LIMIT))
            .await?;
        let pods = ["-n", "payments", "get", "pods", "-l", "app=worker", "-o", "name"];
        let pod = self.kubectl(&pods).await?.trim().to_owned();
        let shell = gallery.shell.by_tag();
        self.do_it(&format!(
            "kubectl -n payments debug {pod} --image={shell} -c shell -q"
        ))
        .await
    }

    async fn first_answers(&mut self) -> Result<Operator> {
        self.narrator
            .chapter("The operator starts, with its default intervals and its own rights only");
        let operator = self
            .narrator
            .during("assay controller is ready", self.stage.start_operator())
            .await?;
        let what = "every workload has its answer";
        let expected: Vec<Answer> = DEPENDENTS.into_iter().chain(OTHERS).collect();
        let answers = self.observer.answers(what, FIRST_LIMIT, &operator, &expected);
        self.narrator.during(what, answers).await?;
        Ok(operator)
    }

    async fn what_a_user_sees(&mut self, operator: &Operator) -> Result<()> {
        self.narrator.chapter("What a user sees");
        let policies = [
            Count {
                policy: "shop-signed",
                workloads: (9, 6, 3, 0),
            },
            Count {
                policy: "all-signed",
                workloads: (3, 1, 2, 0),
            },
        ];
        let keys = [
            Trust {
                key: "release-2026",
                sole_trust: 5,
            },
            Trust {
                key: "release-2027",
                sole_trust: 0,
            },
        ];
        self.observer
            .counts(COUNTS_LIMIT, operator, &policies, &keys)
            .await?;
        self.observer.events(EVENTS_LIMIT, operator, &FIRST_NEWS).await?;
        self.show("kubectl get imagepolicies", Fit::Fold).await?;
        self.show("kubectl get signingkeys", Fit::Fold).await?;
        self.show("kubectl get imagecompliances -A", Fit::Fold).await?;
        self.show("kubectl -n shop describe imgc deployment-cart", Fit::Fold)
            .await?;
        let selector = format!("--field-selector reportingComponent={REPORTER}");
        self.show(&format!("kubectl get events -A {selector}"), Fit::Cut)
            .await
    }

    async fn revoke(&mut self, operator: &Operator, gallery: &Gallery) -> Result<()> {
        self.narrator.chapter("The key release-2026 is lost, and revoked");
        let logs = self.log_positions()?;
        let began = Instant::now();
        let patch = r#"{"spec":{"stage":"Revoked"}}"#;
        let arguments = ["patch", "signingkey", "release-2026", "--type=merge", "-p", patch];
        self.narrator
            .say(&format!("$ kubectl {} '{patch}'", arguments[..5].join(" ")));
        self.kubectl(&arguments).await?;
        let flipped = DEPENDENTS.map(|answer| answer.turned("False", "KeyRevoked"));
        let what = "every workload that rests on the key says KeyRevoked, and no other changes";
        let expected: Vec<Answer> = flipped.into_iter().chain(OTHERS).collect();
        self.observer
            .answers(what, FLIP_LIMIT, operator, &expected)
            .await?;
        let took = began.elapsed();
        let requests = self.requests_since(&logs, gallery)?;
        self.narrator.say(&format!(
            "All {} workloads that rest on it say KeyRevoked {} after Enter, kubectl's own time included; \
             payments/api, which release-2027 signed as well, stays compliant. Requests to registries: {requests}.",
            DEPENDENTS.len(),
            seconds(took),
        ));
        if requests > 0 {
            let promise = "a revocation asks no registry about what was fetched before";
            return Err(DemoError::BrokenPromise(format!(
                "{promise}, but {requests} requests were logged"
            )));
        }
        self.show(
            "kubectl get imgc -A --field-selector status.verdict=Violating",
            Fit::Fold,
        )
        .await?;
        self.observer
            .events(EVENTS_LIMIT, operator, &NEWS_OF_THE_FLIP)
            .await
    }

    async fn heal(&mut self, operator: &Operator, gallery: &Gallery, signers: &Signers) -> Result<()> {
        self.narrator
            .chapter("The ring's next key, release-2027, signs the images again");
        let began = Instant::now();
        self.narrator
            .during("cosign signs 4 images", signers.sign_again(gallery))
            .await?;
        self.narrator
            .say("No policy is edited. Failing images are looked at again after 30 s, then 60 s, and so on.");
        let what = "every workload has healed";
        let healed = DEPENDENTS.map(|answer| answer.turned("True", "AllVerified"));
        let expected: Vec<Answer> = healed.into_iter().chain(OTHERS).collect();
        self.narrator
            .during(what, self.observer.answers(what, HEAL_LIMIT, operator, &expected))
            .await?;
        self.narrator.say(&format!(
            "Healed {} after the first signature was begun.",
            seconds(began.elapsed())
        ));
        self.observer
            .events(EVENTS_LIMIT, operator, &NEWS_OF_THE_HEAL)
            .await?;
        self.show("kubectl -n shop get imgc", Fit::Fold).await
    }

    /// Says what stays, and as the very last line how to reach it.
    fn leave(&mut self, operator: &Operator) {
        self.narrator.chapter(&format!(
            "Everything stays up ({} in all)",
            seconds(self.narrator.elapsed())
        ));
        let log = operator.server.log_file();
        self.narrator.say(&format!(
            "{NODES} nodes, 13 pods, the operator: metrics at http://{}/metrics, log in {}.\n\
             Manifests and keys: {}. Remove it all with `make demo-down`. Look around with:",
            operator.address,
            shown(&log),
            shown(self.stage.folder()),
        ));
        println!("export KUBECONFIG={}", quoted(self.stage.cluster.kubeconfig()));
    }

    async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        Ok(self.stage.cluster.kubectl(arguments).await?)
    }

    /// Runs a command line and tells that it did.
    async fn do_it(&self, line: &str) -> Result<()> {
        self.narrator.say(&format!("$ {line}"));
        self.run_line(line).await.map(drop)
    }

    /// Runs a command line and shows what it prints.
    async fn show(&self, line: &str, fit: Fit) -> Result<()> {
        let output = self.run_line(line).await?;
        self.narrator.show(line, &output, fit);
        Ok(())
    }

    /// Runs a line of words that need no quotes.
    async fn run_line(&self, line: &str) -> Result<String> {
        let arguments: Vec<&str> = line.split(' ').skip(1).collect();
        self.kubectl(&arguments).await
    }

    fn log_positions(&self) -> Result<[LogPosition; 2]> {
        Ok([
            self.stage.distribution.log_position()?,
            self.stage.referrers.log_position()?,
        ])
    }

    /// Requests about the images that rest on release-2026 alone. The nodes' are left out; and so are other
    /// repositories, whose unsigned images are looked at again in their own time.
    fn requests_since(&self, positions: &[LogPosition; 2], gallery: &Gallery) -> Result<usize> {
        let repositories = gallery.sole_trust_repositories();
        let mut count = 0;
        for (registry, position) in [&self.stage.distribution, &self.stage.referrers]
            .into_iter()
            .zip(positions)
        {
            let requests = registry.access_log_since(*position)?;
            let concerns = |path: &str| {
                repositories
                    .iter()
                    .any(|repository| path.starts_with(&format!("/v2/{repository}/")))
            };
            count += requests
                .iter()
                .filter(|request| request.user_agent != NODE_USER_AGENT && concerns(&request.path))
                .count();
        }
        Ok(count)
    }
}

/// A path as seen from the workspace.
fn shown(path: &Path) -> String {
    path.strip_prefix(testkit::workspace_root())
        .unwrap_or(path)
        .display()
        .to_string()
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "/._-+@%:,".contains(letter);
    if text.chars().all(plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_can_be_evaluated_whatever_the_folder_is_called() {
        assert_eq!(quoted(Path::new("/a/b.c")), "/a/b.c");
        assert_eq!(quoted(Path::new("/a b/it's")), r"'/a b/it'\''s'");
    }
}
