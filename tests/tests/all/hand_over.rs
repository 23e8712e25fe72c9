//! Two replicas: one writes, the other one follows it whatever becomes of it, and nothing is told twice.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use api::ImageCompliance;
use k8s_openapi::api::events::v1::Event;
use kube::api::ListParams;
use serde_json::json;
use testkit::{BulkSigner, Cluster, KeyPair, Outage, Pushed, eventually};

use crate::operator::{Operator, insecure, install};
use crate::own::own_cluster;
use crate::scene::{PATIENCE, Scene, condition, simple, summary};
use crate::servers::servers;

/// A leader that does not give its Lease back is followed within this time.
const FOLLOWED_WITHIN: Duration = Duration::from_secs(15);
/// An orderly end takes half of it at most; that this is so is tested elsewhere.
const ENDED_WITHIN: Duration = Duration::from_secs(60);
/// What a slow machine may take on top: for the edit that is to be told, the new leader's list, and its first write.
const SLACK: Duration = Duration::from_secs(20);

/// A user with the operator's rights under a name of its own, so that the audit log tells two replicas apart.
async fn replica(cluster: &Cluster, user: &str) -> PathBuf {
    let binding = [
        "create",
        "clusterrolebinding",
        user,
        "--clusterrole=assay-operator",
        &format!("--user={user}"),
    ];
    cluster.kubectl(&binding).await.unwrap();
    let role = cluster
        .kubectl(&[
            "-n",
            "assay-system",
            "get",
            "roles",
            "-o",
            "jsonpath={.items[0].metadata.name}",
        ])
        .await
        .unwrap();
    let arguments = [
        "-n",
        "assay-system",
        "create",
        "rolebinding",
        user,
        &format!("--role={role}"),
        &format!("--user={user}"),
    ];
    cluster.kubectl(&arguments).await.unwrap();
    cluster.kubeconfig_for_user(user, None).unwrap()
}

/// Who holds the operator's Lease; empty where nobody does.
async fn lease_holder(cluster: &Cluster) -> String {
    let holder = [
        "-n",
        "assay-system",
        "get",
        "lease",
        "assay-controller",
        "-o",
        "jsonpath={.spec.holderIdentity}",
    ];
    cluster.kubectl(&holder).await.unwrap()
}

/// The same kubeconfig by a way that can be cut.
async fn through_a_front(cluster: &Cluster, kubeconfig: &Path) -> (Outage, PathBuf) {
    let host = cluster.url().trim_start_matches("https://");
    let front = Outage::in_front_of(host).await.unwrap();
    let text = std::fs::read_to_string(kubeconfig).unwrap();
    let path = kubeconfig.with_extension("through-a-front.kubeconfig");
    std::fs::write(&path, text.replace(host, &front.host())).unwrap();
    (front, path)
}

/// Two replicas on a cluster of their own, each with a name in the audit log; what leads to the first one can be cut.
struct Pair {
    cluster: &'static Cluster,
    front: Outage,
    one: Operator,
    two: Operator,
    scene: Scene,
}

impl Pair {
    /// The first one leads.
    async fn start(name: &str, further: &[&str]) -> Self {
        let cluster = own_cluster(name).await;
        install(cluster).await;
        let mut arguments = insecure(&[
            servers().await.referrers.host(),
            servers().await.distribution.host(),
        ]);
        arguments.extend(further.iter().map(|&argument| argument.to_owned()));
        let (one, two) = (
            replica(cluster, "replica-one").await,
            replica(cluster, "replica-two").await,
        );
        let (front, one) = through_a_front(cluster, &one).await;
        let one = Operator::launch_as(cluster, "one", &one, &arguments);
        one.until_ready().await;
        one.until_metric("assay_leader", 1.0).await;
        let two = Operator::launch_as(cluster, "two", &two, &arguments);
        two.until_ready().await;
        assert_eq!(two.metric("assay_leader").await, Some(0.0));
        Self {
            cluster,
            front,
            one,
            two,
            scene: Scene::on(cluster, name).await,
        }
    }

    /// The Deployment of this number.
    fn name(number: usize) -> String {
        format!("web-{number}")
    }

    /// What is said of each workload.
    async fn says(&self) -> BTreeMap<String, ImageCompliance> {
        let all = self.scene.namespace.api::<ImageCompliance>();
        let list = all.list(&ListParams::default()).await.unwrap().items;
        let named = |object: ImageCompliance| (object.metadata.name.clone().unwrap(), object);
        list.into_iter().map(named).collect()
    }

    /// Waits until so many say this.
    async fn until_say(&self, count: usize, says: &str, within: Duration) {
        self.until_so_many_say(count..=count, says, within).await;
    }

    async fn until_so_many_say(&self, count: RangeInclusive<usize>, says: &str, within: Duration) {
        let look = async || {
            let all = self.says().await;
            let saying = all.values().filter(|object| condition(object) == says).count();
            match count.contains(&saying) {
                true => Ok(()),
                false => Err(format!("{saying} of {}", all.len())),
            }
        };
        eventually(&format!("{count:?} times {says}"), within, look)
            .await
            .unwrap();
    }

    /// How often an Event with this reason is about each of the first workloads.
    async fn told(&self, count: usize, reason: &str) -> Vec<usize> {
        let events = self.scene.events(self.scene.name()).await;
        let told: Vec<String> = events.iter().map(summary).collect();
        let about = |number| format!("Deployment/{} {reason}", Self::name(number));
        (0..count)
            .map(|number| told.iter().filter(|told| **told == about(number)).count())
            .collect()
    }

    /// Waits until each of the first workloads had so many Events with this reason. An Event follows its status; a leader
    /// that is killed between the two takes the Event with it.
    async fn until_told(&self, count: usize, reason: &str, times: usize) {
        let look = async || {
            let told = self.told(count, reason).await;
            match told.iter().position(|&told| told != times) {
                None => Ok(()),
                Some(other) => Err(format!("{told:?}; {other}: {:#?}", self.story_of(other).await)),
            }
        };
        let what = format!("{reason} to be told {times} times of each");
        eventually(&what, PATIENCE, look).await.unwrap();
    }

    /// All Events about a workload, each with its time and its note.
    async fn story_of(&self, number: usize) -> Vec<String> {
        let about = format!("Deployment/{} ", Self::name(number));
        let events = self.scene.events(self.scene.name()).await.into_iter();
        let of_it = events.filter(|event| summary(event).starts_with(&about));
        let told = |event: Event| {
            let (at, note) = (event.event_time.clone(), event.note.clone());
            let at = at.map(|at| at.0.to_string()).unwrap_or_default();
            format!("{at} {}: {}", summary(&event), note.unwrap_or_default())
        };
        let writes = self.writes().into_iter();
        let written = writes.filter(|write| write.name == format!("deployment-{}", Self::name(number)));
        let written = written.map(|write| format!("{write:?}"));
        of_it.map(told).chain(written).collect()
    }

    async fn stage(&self, stage: &str) {
        let patch = json!({"spec": {"stage": stage}});
        let key = self.scene.unique("release");
        self.scene.patch("signingkey", &key, &patch).await;
    }

    /// The first replica gives its Lease back and ends; the other one leads.
    async fn end_in_order(&self, leader: &Operator, follower: &Operator) {
        let before = lease_holder(self.cluster).await;
        let started = Instant::now();
        leader.server.terminate().unwrap();
        let end = leader.server.wait_for_end(ENDED_WITHIN).unwrap();
        let after = lease_holder(self.cluster).await;
        println!("ended {:?} after SIGTERM: {end}", started.elapsed());
        assert_eq!(end, "exit code 0", "{}", leader.server.log_tail());
        assert!(!before.is_empty());
        assert_ne!(
            after, before,
            "the Lease was not given back: it is left to run out"
        );
        follower.until_metric("assay_leader", 1.0).await;
        println!("the other replica leads {:?} after SIGTERM", started.elapsed());
    }

    /// What the replicas wrote, in turn; writes to Leases apart.
    fn writes(&self) -> Vec<testkit::ApiRequest> {
        let mut requests = self.cluster.api_requests().unwrap();
        requests.retain(|request| {
            request.is_write() && request.user.starts_with("replica-") && request.resource != "leases"
        });
        requests
    }

    /// How often something was said of a workload. Counts of policies and keys may follow later.
    fn said(&self) -> usize {
        let writes = self.writes().into_iter();
        writes
            .filter(|write| write.resource == "imagecompliances")
            .count()
    }

    /// Who wrote, one after the other.
    fn writers(&self) -> Vec<String> {
        let mut writers: Vec<String> = self.writes().into_iter().map(|write| write.user).collect();
        writers.dedup();
        writers
    }
}

/// Workloads of one image that one key signed.
const FEW: usize = 5;

async fn few_signed(pair: &Pair, repository: &str) {
    let scene = &pair.scene;
    let release = scene.signer("release", "release", "Active").await;
    let image = scene
        .signed_image(&servers().await.referrers, repository, &release)
        .await;
    let mut objects = vec![scene.policy("signed", "release", json!({}))];
    objects.extend((0..FEW).map(|number| simple(&Pair::name(number), &image.by_tag())));
    scene.create(&objects).await;
    pair.until_say(FEW, "True/AllVerified", PATIENCE).await;
}

/// C2.11.
#[tokio::test]
async fn c2_11_two_replicas_never_both_write_and_one_takes_over_from_the_other() {
    let pair = Pair::start("replicas", &[]).await;
    let Pair { one, two, .. } = &pair;
    few_signed(&pair, "replicas/web").await;

    // An orderly end hands the Lease over at once.
    pair.end_in_order(one, two).await;
    pair.stage("Disabled").await;
    pair.until_say(FEW, "False/KeyDisabled", PATIENCE).await;
    pair.until_told(FEW, "BecameNonCompliant", 1).await;

    // A killed one is followed when its Lease has run out.
    one.server.start_again().unwrap();
    one.until_ready().await;
    two.server.kill().unwrap();
    pair.stage("Active").await;
    pair.until_say(FEW, "True/AllVerified", PATIENCE).await;
    assert_eq!(one.metric("assay_leader").await, Some(1.0));

    assert!(pair.said() >= 2 * FEW);
    assert_eq!(pair.writers(), ["replica-one", "replica-two", "replica-one"]);
}

/// How long the leader is cut off.
const CUT_OFF: Duration = Duration::from_secs(60);

/// F13. Weakened once: with a Lease of 40 s the other replica is too late; with `Leadership::leads` true for a replica
/// that led once, the one that was cut off says so for the whole minute and writes when it is back.
#[tokio::test]
async fn f13_a_leader_that_is_cut_off_for_a_minute_is_followed_in_time_and_writes_nothing_when_it_is_back() {
    let pair = Pair::start("cut-off", &[]).await;
    let Pair { one, two, scene, .. } = &pair;
    few_signed(&pair, "cut-off/web").await;

    pair.front.swallow();
    let cut = Instant::now();
    pair.stage("Disabled").await;
    let within = (FOLLOWED_WITHIN + SLACK).saturating_sub(cut.elapsed());
    pair.until_say(FEW, "False/KeyDisabled", within).await;
    println!(
        "the other replica has written all {:?} after the cut",
        cut.elapsed()
    );
    assert_eq!(
        one.metric("assay_leader").await,
        Some(0.0),
        "it must have stopped before"
    );
    pair.until_told(FEW, "BecameNonCompliant", 1).await;
    pair.stage("Active").await;
    pair.until_say(FEW, "True/AllVerified", PATIENCE).await;
    // The same news is told twice in one second by no replica.
    tokio::time::sleep(Duration::from_secs(2)).await;
    pair.stage("Disabled").await;
    pair.until_say(FEW, "False/KeyDisabled", PATIENCE).await;
    pair.until_told(FEW, "BecameNonCompliant", 2).await;
    let said = pair.said();

    tokio::time::sleep(CUT_OFF.saturating_sub(cut.elapsed())).await;
    assert_eq!(one.metric("assay_leader").await, Some(0.0));
    pair.front.restore();
    // It learns what it missed, and says nothing of it, neither beside the leader nor in its place.
    let learnt = format!(
        "assay_workloads{{namespace=\"{}\",policy=\"{}\",mode=\"Enforce\",verdict=\"Violating\"}}",
        scene.name(),
        scene.unique("signed")
    );
    one.until_metric(&learnt, FEW as f64).await;
    assert_eq!(two.metric("assay_leader").await, Some(1.0));
    pair.end_in_order(two, one).await;
    one.until_metric("assay_pending_updates", 0.0).await;
    assert_eq!(pair.said(), said, "what was true already was written again");
    pair.stage("Active").await;
    pair.until_say(FEW, "True/AllVerified", PATIENCE).await;
    pair.until_told(FEW, "BecameCompliant", 2).await;
    pair.until_told(FEW, "BecameNonCompliant", 2).await;
    assert_eq!(pair.writers(), ["replica-one", "replica-two", "replica-one"]);
}

/// So many images that looking at all of them takes a while.
const MANY: usize = 60;

/// As many Deployments, each of an image of its own that nobody signed, looked at again after this time.
async fn many_unsigned(pair: &Pair, interval: &str) -> (KeyPair, Vec<Pushed>) {
    let scene = &pair.scene;
    let release = scene.signer("release", "release", "Active").await;
    let writer = servers().await.distribution.writer();
    let mut images = Vec::new();
    for number in 0..MANY {
        let repository = format!("{}/{number}", scene.name());
        images.push(writer.push_image(&repository, "1", scene.name()).await.unwrap());
    }
    let recheck = json!({"spec": {"recheck": {"interval": interval}}});
    let mut objects = vec![scene.policy("signed", "release", recheck)];
    let workloads = images.iter().enumerate();
    objects.extend(workloads.map(|(number, image)| simple(&Pair::name(number), &image.by_digest())));
    scene.create(&objects).await;
    pair.until_say(MANY, "False/SignatureMissing", 2 * PATIENCE).await;
    pair.until_told(MANY, "BecameNonCompliant", 1).await;
    (release, images)
}

/// C2.11: the images are looked at again all the time, and are signed one after the other while leaders come and go.
/// Weakened once: with a ledger that does not follow what is said while this replica does not write, the new leader
/// takes a better verdict for the first one, and nobody tells it.
#[tokio::test]
async fn c2_11_a_hand_over_in_the_middle_of_looking_at_images_tells_nothing_twice() {
    let pair = Pair::start("mid-sweep", &[]).await;
    let Pair { one, two, .. } = &pair;
    let (release, images) = many_unsigned(&pair, "1s").await;
    let writer = servers().await.distribution.writer();

    let signer = BulkSigner::new(&release).unwrap();
    let sign = async |images: &[Pushed]| {
        for image in images {
            signer.sign(&writer, image).await.unwrap();
            tokio::time::sleep(Duration::from_millis(40)).await;
        }
    };
    let half = MANY / 2;
    let in_the_middle = async |hand_over: &dyn Fn()| {
        tokio::time::sleep(Duration::from_millis(600)).await;
        hand_over();
    };

    // An orderly end: what was written is told, what was not is told by the other one.
    let end = || one.server.terminate().unwrap();
    tokio::join!(sign(&images[..half]), in_the_middle(&end));
    two.until_metric("assay_leader", 1.0).await;
    pair.until_say(half, "True/AllVerified", 2 * PATIENCE).await;
    pair.until_told(half, "BecameCompliant", 1).await;
    one.server.wait_for_end(ENDED_WITHIN).unwrap();

    // A kill takes Events with it that follow a status that was written, and makes none double.
    one.server.start_again().unwrap();
    one.until_ready().await;
    let kill = || drop(two.server.kill().unwrap());
    tokio::join!(sign(&images[half..]), in_the_middle(&kill));
    one.until_metric("assay_leader", 1.0).await;
    pair.until_say(MANY, "True/AllVerified", 2 * PATIENCE).await;
    one.until_metric("assay_pending_updates", 0.0).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let told = pair.told(MANY, "BecameCompliant").await;
    assert!(told.iter().all(|&told| told <= 1), "told twice: {told:?}");
    let told: usize = told.iter().sum();
    println!("{told} of {MANY} became compliant with an Event");
    assert!(told >= MANY * 3 / 4, "only {told} of {MANY} were told at all");
    assert_eq!(pair.told(MANY, "BecameNonCompliant").await, vec![1; MANY]);
    assert_eq!(pair.writers(), ["replica-one", "replica-two", "replica-one"]);
}

/// How often the images of the next test are looked at.
const IN_ITS_OWN_TIME: Duration = Duration::from_secs(20);

impl Pair {
    /// Starts an ended replica so that it looks at all images half of the time later than the leader does.
    async fn follow_later(&self, follower: &Operator) {
        tokio::time::sleep(IN_ITS_OWN_TIME / 2).await;
        follower.server.start_again().unwrap();
        follower.until_ready().await;
        let looks = r#"assay_lookups_total{outcome="complete"}"#;
        let looked_at_all = async || match follower.metric(looks).await {
            looks if looks >= Some(MANY as f64) => Ok(()),
            looks => Err(format!("{looks:?} looks")),
        };
        eventually("the other replica to look", PATIENCE, looked_at_all)
            .await
            .unwrap();
    }

    /// Waits until half of many workloads say this.
    async fn until_half_say(&self, says: &str) {
        self.until_so_many_say(MANY / 2..=MANY, says, 2 * PATIENCE).await;
    }
}

/// C2.11: replicas look at images each in its own time, and a new leader looked before the images were signed, or before
/// the signatures were deleted. Weakened once: where a replica takes nothing in of what another one says, it takes the
/// better verdicts back, and calls good what has no signature any more.
#[tokio::test]
async fn c2_11_a_new_leader_takes_nothing_back_that_the_one_before_saw() {
    let pair = Pair::start("own-time", &[]).await;
    let Pair { one, two, .. } = &pair;
    let interval = format!("{}s", IN_ITS_OWN_TIME.as_secs());
    let (release, images) = many_unsigned(&pair, &interval).await;
    let (signer, writer) = (
        BulkSigner::new(&release).unwrap(),
        servers().await.distribution.writer(),
    );

    two.server.kill().unwrap();
    pair.follow_later(two).await;
    for image in &images {
        signer.sign(&writer, image).await.unwrap();
    }
    pair.until_half_say("True/AllVerified").await;
    pair.end_in_order(one, two).await;
    pair.until_say(MANY, "True/AllVerified", 2 * PATIENCE).await;
    pair.until_told(MANY, "BecameCompliant", 1).await;
    assert_eq!(pair.told(MANY, "BecameNonCompliant").await, vec![1; MANY]);

    pair.follow_later(one).await;
    for image in &images {
        let tag = image.signature_tag();
        writer.delete_manifest(image.path(), &tag).await.unwrap();
    }
    pair.until_half_say("False/SignatureMissing").await;
    pair.end_in_order(two, one).await;
    pair.until_say(MANY, "False/SignatureMissing", 2 * PATIENCE).await;
    pair.until_told(MANY, "BecameNonCompliant", 2).await;
    assert_eq!(pair.told(MANY, "BecameCompliant").await, vec![1; MANY]);
}
