//! A key is replaced step by step, by hand and from Git, while workloads come and go.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::{Format, KeyPair, Pushed, eventually};

use super::git::{Git, MANAGER};
use super::load::{CHURN, Load};
use super::witness::{Truth, Witness};
use super::{Names, code, names, predicted, run, told};
use crate::scene::{PATIENCE, Scene, condition_in, simple};
use crate::servers::servers;

/// F08: within this time whatever rests on a key that does not count any more is called so.
const AT_MOST: Duration = Duration::from_secs(60);
/// What would follow a step wrongly had this time to show.
const AFTERMATH: Duration = Duration::from_secs(5);
const STEADY: usize = 6;

/// F08, C5.01, C5.02, C5.04: stage, sign, activate, retire, disable, revoke. Fails on a build in which a Retiring key
/// does not count.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f08_a_rotation_by_hand_calls_no_good_workload_bad_and_breaks_what_was_predicted() {
    let scene = Rotating::begin("rotation", false).await;
    scene.rotate().await;
}

/// F08: the same where a controller keeps applying what Git holds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f08_a_rotation_in_git_calls_no_good_workload_bad_and_is_never_put_back() {
    let scene = Rotating::begin("rotation-git", true).await;
    scene.rotate().await;
}

/// The cluster of one rotation. `forgotten` is a workload of which the image is not signed anew in time, `nightly` a
/// CronJob of the same image, `bare` one that nobody signed.
struct Rotating {
    scene: Scene,
    git: Option<Git>,
    old: KeyPair,
    new: KeyPair,
    images: Vec<Pushed>,
    forgotten: Pushed,
    witness: Witness,
    load: Load,
}

impl Rotating {
    async fn begin(test: &str, in_git: bool) -> Self {
        let (scene, _) = Scene::shared(test).await;
        let registry = &servers().await.distribution;
        let old = scene.cosign.generate_key_pair("old").await.unwrap();
        let new = scene.cosign.generate_key_pair("new").await.unwrap();
        let mut images = Vec::new();
        for number in 0..4 {
            let repository = format!("{test}/{}/{number}", scene.name());
            images.push(scene.signed_image(registry, &repository, &old).await);
        }
        let repository = format!("{test}/{}", scene.name());
        let forgotten = scene
            .signed_image(registry, &format!("{repository}/forgotten"), &old)
            .await;
        let bare = scene.image(registry, &format!("{repository}/bare")).await;

        let key = scene.signing_key("old", "release", "Active", &old);
        let policy = scene.policy(
            "signed",
            "release",
            json!({"spec": {"recheck": {"interval": "4s"}}}),
        );
        let git = match in_git {
            true => Some(Git::with(&scene, &[("old", key), ("policy", policy)]).await),
            false => {
                scene.create(&[key, policy]).await;
                None
            }
        };
        let mut workloads: Vec<Value> = (0..STEADY)
            .map(|number| simple(&steady(number), &images[number % images.len()].by_tag()))
            .collect();
        workloads.push(simple("forgotten", &forgotten.by_tag()));
        workloads.push(simple("bare", &bare.by_tag()));
        workloads.push(nightly(&forgotten.by_tag()));
        scene.create(&workloads).await;
        for name in (0..STEADY).map(steady).chain(["forgotten".to_owned()]) {
            scene
                .says(&format!("deployment-{name}"), "True/AllVerified")
                .await;
        }
        scene.says("deployment-bare", "False/SignatureMissing").await;
        let resting = i64::try_from(STEADY).unwrap() + 1;
        scene
            .key_status("old", |status| status["soleTrust"]["workloads"] == resting)
            .await;
        let truth = Truth {
            bad: names(["bare"]),
            resting,
            ..Truth::default()
        };
        let witness = Witness::of(&scene, &scene.unique("old"), truth).await;
        let load = Load::start(&scene, &images, &steady(0));
        Self {
            scene,
            git,
            old,
            new,
            images,
            forgotten,
            witness,
            load,
        }
    }

    async fn rotate(self) {
        self.stage_and_sign().await;
        self.activate_and_retire().await;
        self.disable_too_early().await;
        self.disable_and_revoke().await;
        self.a_thief_comes_too_late().await;
        self.end().await;
    }

    async fn stage_and_sign(&self) {
        self.step("new", "Staged", &Names::new()).await;
        for image in &self.images {
            self.sign(image).await;
        }
        // What the new key is worth is seen before it counts.
        let signed = self.images.len();
        self.scene
            .key_status("new", |status| status["images"] == signed)
            .await;
    }

    async fn activate_and_retire(&self) {
        self.witness.now(|truth| truth.resting = 1);
        self.step("new", "Active", &Names::new()).await;
        let status = self
            .scene
            .key_status("old", |status| {
                status["soleTrust"]["workloads"] == 1 && status["soleTrust"]["startOnly"] == 1
            })
            .await;
        assert_eq!(
            status["soleTrust"]["sample"][0]["workload"], "Deployment/forgotten",
            "{status:#}"
        );
        assert!(condition_in(&status, "SafeToDisable").starts_with("False/"));
        self.step("old", "Retiring", &Names::new()).await;
        self.would("deployment-forgotten", api::StartDecision::Warn).await;
        self.would("cronjob-nightly", api::StartDecision::Warn).await;
        self.would("deployment-steady-1", api::StartDecision::Admit).await;
    }

    /// What the status and the preview name falls, nothing else does, and it comes back.
    async fn disable_too_early(&self) {
        let predicted = names(["forgotten"]);
        self.witness.now(|truth| {
            truth.resting = 0;
            truth.falling.clone_from(&predicted);
        });
        let started = Instant::now();
        self.step("old", "Disabled", &predicted).await;
        let fallen = self.scene.says("deployment-forgotten", "False/KeyDisabled").await;
        self.witness.has_read(&fallen).await;
        self.would("cronjob-nightly", api::StartDecision::Deny).await;
        tokio::time::sleep(AFTERMATH).await;
        let (fell, first) = self.witness.fell();
        assert_eq!(fell, predicted, "predicted and actual");
        let took = first.unwrap().duration_since(started);
        println!("what rests on the key was called so {took:?} after the step was begun");
        assert!(took < AT_MOST, "{took:?}");

        self.step("old", "Retiring", &Names::new()).await;
        let healed = self.scene.says("deployment-forgotten", "True/AllVerified").await;
        self.witness.has_read(&healed).await;
        self.scene
            .key_status("old", |status| status["soleTrust"]["workloads"] == 1)
            .await;
        self.witness.now(|truth| {
            truth.falling.clear();
            truth.resting = 1;
        });
    }

    async fn disable_and_revoke(&self) {
        self.witness.now(|truth| truth.resting = 0);
        self.sign(&self.forgotten).await;
        let key = self.scene.unique("old");
        let wait = [
            "wait",
            "--for=condition=SafeToDisable",
            "signingkey",
            &key,
            "--timeout=90s",
        ];
        self.scene.kubectl(&wait).await;
        for stage in ["Disabled", "Revoked"] {
            self.step("old", stage, &Names::new()).await;
            tokio::time::sleep(AFTERMATH).await;
        }
        let status = self.scene.key_status("old", |_| true).await;
        let fingerprint = status["fingerprint"].as_str().unwrap();
        let revoked = async || {
            let get = [
                "get",
                "keyrevocation",
                fingerprint,
                "--ignore-not-found",
                "-o",
                "name",
            ];
            match self.scene.kubectl(&get).await.is_empty() {
                true => Err("there is none".to_owned()),
                false => Ok(()),
            }
        };
        eventually("the revocation to outlast the key", PATIENCE, revoked)
            .await
            .unwrap();
        assert_eq!(self.witness.fell().0, Names::new(), "predicted and actual");
    }

    /// F08: what only the retired key signed is told within a minute.
    async fn a_thief_comes_too_late(&self) {
        self.witness.now(|truth| truth.bad.extend(["thief".to_owned()]));
        let registry = &servers().await.distribution;
        let repository = format!("rotation/{}/thief", self.scene.name());
        let image = self.scene.signed_image(registry, &repository, &self.old).await;
        let started = Instant::now();
        self.scene.create(&[simple("thief", &image.by_tag())]).await;
        self.scene.says("deployment-thief", "False/KeyRevoked").await;
        assert!(started.elapsed() < AT_MOST, "{:?}", started.elapsed());
    }

    async fn end(self) {
        let made = self.load.stop().await;
        let gone = async || {
            let all = self.scene.kubectl(&["get", "imgc", "-o", "name"]).await;
            let churn = all.lines().filter(|name| name.contains(CHURN)).count();
            match churn {
                0 => Ok(()),
                churn => Err(format!("{churn} are left")),
            }
        };
        eventually("the answers about the load to go", PATIENCE, gone)
            .await
            .unwrap();
        for number in 0..STEADY {
            let name = format!("deployment-{}", steady(number));
            // One of them was scaled a moment ago.
            self.scene.says(&name, "True/AllVerified").await;
        }
        let writes = self.witness.saw_no_lie();
        println!("{made} workloads came and went, {writes} writes were read");
        // On a slow machine many have gone before anything is written about them.
        assert!(
            made > 40 && writes > made / 2,
            "{made} workloads, {writes} writes"
        );
        let key = self.scene.unique("old");
        let get = ["get", "signingkey", &key, "-o", "jsonpath={.metadata.generation}"];
        // Active, Retiring, Disabled, Retiring, Disabled, Revoked: applied again and again, it is the same object.
        assert_eq!(self.scene.kubectl(&get).await, "6");
        if let Some(git) = &self.git {
            assert_eq!(git.refused(), Vec::<String>::new());
        }
    }

    /// Takes a step as it is taken there, after a look at what it would break.
    async fn step(&self, name: &str, stage: &str, breaks: &Names) {
        let pair = if name == "old" { &self.old } else { &self.new };
        let manifest = self.scene.signing_key(name, "release", stage, pair);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key.json");
        std::fs::write(&file, manifest.to_string()).unwrap();
        let diff = ["diff", "-f", file.to_str().unwrap()];
        let (failing, starting) = predicted(&self.scene, &diff).await;
        assert_eq!(failing, *breaks, "{name} to {stage}");
        // The CronJob starts what the forgotten workload runs.
        let of_forgotten = breaks.contains("forgotten").then(|| "CronJob/nightly".to_owned());
        assert_eq!(starting, Names::from_iter(of_forgotten), "{name} to {stage}");
        let key = self.scene.unique(name);
        let expected = (failing.len() + starting.len()).to_string();
        let take = [
            "key",
            "stage",
            &key,
            stage,
            "--yes",
            "--expect-failing",
            &expected,
            // What starts at this moment cannot be told yet.
            "--accept-unknown",
        ];
        match &self.git {
            _ if stage == "Staged" => match &self.git {
                Some(git) => git.commit(name, &manifest).await,
                None => self.scene.create(&[manifest]).await,
            },
            None => {
                let taken = run(&self.scene, &take).await;
                assert_eq!(code(&taken), 0, "{}", told(&taken));
            }
            Some(git) => {
                let printed = run(&self.scene, &take).await;
                let said = told(&printed);
                assert!(code(&printed) == 1 && said.contains(MANAGER), "{said}");
                git.commit(name, &serde_norway::from_slice(&printed.stdout).unwrap())
                    .await;
            }
        }
        self.scene
            .key_status(name, |status| status["effectiveStage"] == stage)
            .await;
    }

    async fn sign(&self, image: &Pushed) {
        self.scene
            .cosign
            .sign(&image.by_digest(), &self.new, Format::Tag)
            .await
            .unwrap();
    }

    /// Waits until the next start of a workload would be answered so.
    async fn would(&self, name: &str, decision: api::StartDecision) {
        let decides = |written: &api::ImageCompliance| {
            written.status.next_start.as_ref().map(|next| next.decision) == Some(decision)
        };
        let what = format!("{decision:?} for its next start");
        self.scene.until(name, &what, PATIENCE, decides).await;
    }
}

fn steady(number: usize) -> String {
    format!("steady-{number}")
}

fn nightly(image: &str) -> Value {
    let pod = json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": image}]}});
    json!({
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": "nightly"},
        "spec": {"schedule": "0 0 29 2 *", "jobTemplate": {"spec": {"template": pod}}},
    })
}
