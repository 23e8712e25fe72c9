//! The story, chapter by chapter. Every claim is checked before it is told.

use std::path::Path;
use std::time::{Duration, Instant};

use api::ContainerType::{Container, Ephemeral, Init, Sidecar};
use testkit::Operator;

use crate::error::{DemoError, Result};
use crate::expect::{Answer, Count, Trust};
use crate::gallery::{Gallery, Signers};
use crate::manifests::{self, TRUST, WORKLOADS};
use crate::narrator::{Narrator, cut, seconds};
use crate::observer::{News, Observer, REPORTER};
use crate::stage::Stage;

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

/// How the User-Agent of the operator's requests to registries begins.
const OPERATOR_AGENT: &str = "assay/";

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
    narrator.chapter("A cluster, two registries, Assay's kinds and the operator's rights");
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
    story.checkout(&operator, &healed()).await?;
    story.leave(&operator)
}

/// What the chapters share.
pub(crate) struct Story {
    pub(crate) narrator: Narrator,
    pub(crate) stage: Stage,
    pub(crate) observer: Observer,
}

/// What every workload says once the ring's next key has signed.
fn healed() -> Vec<Answer> {
    let healed = DEPENDENTS.map(|answer| answer.turned("True", "AllVerified"));
    healed.into_iter().chain(OTHERS).collect()
}

impl Story {
    /// Kinds and rights, as an administrator installs them.
    async fn install(&mut self) -> Result<()> {
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
        self.narrator.chapter(
            "Workloads, keys, policies; then the operator, with its defaults and its own rights only",
        );
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
            .during(
                &format!("{PODS} pods run"),
                self.observer.pods_run(PODS, PODS_LIMIT),
            )
            .await?;
        let pods = ["-n", "payments", "get", "pods", "-l", "app=worker", "-o", "name"];
        let pod = self.kubectl(&pods).await?.trim().to_owned();
        let shell = gallery.shell.by_tag();
        self.do_it(&format!("kubectl -n payments debug {pod} --image={shell} -q"))
            .await
    }

    async fn first_answers(&mut self) -> Result<Operator> {
        let operator = self
            .narrator
            .during("assay controller is ready", self.stage.start_operator())
            .await?;
        let what = "every workload has its answer";
        let expected: Vec<Answer> = DEPENDENTS.into_iter().chain(OTHERS).collect();
        let answers = self.observer.answers(what, FIRST_LIMIT, &operator, &expected);
        self.narrator.during(what, answers).await?;
        self.narrator
            .say("(shop/toolbox, a bare pod younger than 60 s, gets none unless it violates.)");
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
        let what = "policies and keys have counted (each at most once in 30 s)";
        let counts = self.observer.counts(COUNTS_LIMIT, operator, &policies, &keys);
        self.narrator.during(what, counts).await?;
        self.observer.events(EVENTS_LIMIT, operator, &FIRST_NEWS).await?;
        self.show("kubectl get imagepolicies").await?;
        self.show("kubectl get signingkeys").await?;
        self.show("kubectl get imagecompliances -A").await?;
        let describe = "kubectl -n shop describe imgc deployment-cart";
        let described = self.run_line(describe).await?;
        let command = format!("{describe} | sed -n '/^Status:/,/^  Verdict:/p'");
        self.narrator.show(&command, &answer_of(&described));
        let events = format!("kubectl get events -A --field-selector reportingComponent={REPORTER}");
        let told = self.run_line(&events).await?;
        let told: Vec<String> = told.lines().map(cut).collect();
        self.narrator
            .show(&format!("{events} | cut -c-100"), &told.join("\n"));
        Ok(())
    }

    async fn revoke(&mut self, operator: &Operator, gallery: &Gallery) -> Result<()> {
        self.narrator.chapter("The key release-2026 is lost, and revoked");
        let before = self.operator_requests(gallery)?;
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
        let caused = self.operator_requests(gallery)? - before;
        self.narrator.say(&format!(
            "All {} workloads that rest on it say KeyRevoked {} after Enter, kubectl's own time included; \
             payments/api, which release-2027 signed as well, stays compliant. The first look at their images took \
             {before} requests to registries, the revocation {caused}.",
            DEPENDENTS.len(),
            seconds(took),
        ));
        if before == 0 || caused > 0 {
            return Err(DemoError::BrokenPromise(format!(
                "a first look asks registries and a revocation asks none, but their logs show {before} and {caused} requests"
            )));
        }
        self.show("kubectl -n shop get imgc --field-selector status.verdict=Violating")
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
        let what = "no policy is edited; failing images are looked at again 30 s after they failed";
        self.narrator
            .during(what, self.observer.answers(what, HEAL_LIMIT, operator, &healed()))
            .await?;
        self.narrator.say(&format!(
            "All {} say AllVerified again {} after cosign was started.",
            DEPENDENTS.len(),
            seconds(began.elapsed())
        ));
        self.observer
            .events(EVENTS_LIMIT, operator, &NEWS_OF_THE_HEAL)
            .await?;
        self.show("kubectl -n shop get imgc --field-selector status.verdict=Compliant")
            .await
    }

    /// Says what stays, and as the very last line how to reach it.
    fn leave(&mut self, operator: &Operator) -> Result<()> {
        self.narrator.chapter(&format!(
            "Everything stays up ({} in all)",
            seconds(self.narrator.elapsed())
        ));
        let (log, tools) = (operator.server.log_file(), self.stage.tools()?);
        self.narrator.say(&format!(
            "The operator serves http://{}/metrics and logs to {}. Manifests and keys are in {}, kubectl is in {}. \
             `make demo-down` removes it all. To look around:",
            operator.address,
            shown(&log),
            shown(self.stage.folder()),
            tools.display(),
        ));
        println!("export KUBECONFIG={}", quoted(self.stage.cluster.kubeconfig()));
        Ok(())
    }

    pub(crate) async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        Ok(self.stage.cluster.kubectl(arguments).await?)
    }

    /// Runs a command line and tells that it did.
    async fn do_it(&self, line: &str) -> Result<()> {
        self.narrator.say(&format!("$ {line}"));
        self.run_line(line).await.map(drop)
    }

    /// Runs a command line and shows what it prints.
    pub(crate) async fn show(&self, line: &str) -> Result<()> {
        let output = self.run_line(line).await?;
        self.narrator.show(line, &output);
        Ok(())
    }

    /// Runs a line of words that need no quotes.
    async fn run_line(&self, line: &str) -> Result<String> {
        let arguments: Vec<&str> = line.split(' ').skip(1).collect();
        self.kubectl(&arguments).await
    }

    /// How often registries were asked about the images that rest on release-2026 alone. Other repositories are left
    /// out: their unsigned images are looked at again in their own time.
    fn operator_requests(&self, gallery: &Gallery) -> Result<usize> {
        let repositories = gallery.sole_trust_repositories();
        let prefixes: Vec<String> = repositories.iter().map(|path| format!("/v2/{path}/")).collect();
        let concerns = |path: &str| prefixes.iter().any(|prefix| path.starts_with(prefix));
        let mut count = 0;
        for registry in [&self.stage.distribution, &self.stage.referrers] {
            let requests = registry.access_log()?;
            let ours = requests
                .iter()
                .filter(|request| request.user_agent.starts_with(OPERATOR_AGENT));
            count += ours.filter(|request| concerns(&request.path)).count();
        }
        Ok(count)
    }
}

/// The lines from `Status:` to the verdict, as the `sed` that is shown gives them.
fn answer_of(described: &str) -> String {
    let mut past_the_end = false;
    let lines = described.lines().skip_while(|line| !line.starts_with("Status:"));
    let lines = lines.take_while(|line| {
        let wanted = !past_the_end;
        past_the_end = line.starts_with("  Verdict:");
        wanted
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// A path as seen from the workspace.
pub(crate) fn shown(path: &Path) -> String {
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
    fn of_a_description_the_answer_is_shown() {
        let described =
            "Name:  web\nStatus:\n  Images:\n    Verdict:  Violating\n  Verdict:  Violating\n  Workload:\n";
        assert_eq!(
            answer_of(described),
            "Status:\n  Images:\n    Verdict:  Violating\n  Verdict:  Violating"
        );
    }

    #[test]
    fn the_last_line_can_be_evaluated_whatever_the_folder_is_called() {
        assert_eq!(quoted(Path::new("/a/b.c")), "/a/b.c");
        assert_eq!(quoted(Path::new("/a b/it's")), r"'/a b/it'\''s'");
    }
}
