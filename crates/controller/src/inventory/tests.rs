use super::*;
use serde_json::{Value, json};

const DEPLOYMENT: &BuiltIn = &climb::BUILT_IN[0];
const REPLICA_SET: &BuiltIn = &climb::BUILT_IN[1];

fn controller(api_version: &str, kind: &str, name: &str, uid: &str) -> Value {
    json!([{"apiVersion": api_version, "kind": kind, "name": name, "uid": uid, "controller": true}])
}

fn metadata(name: &str, uid: &str, owners: Value) -> Value {
    json!({"name": name, "namespace": "shop", "uid": uid, "ownerReferences": owners})
}

fn pod(name: &str, image_id: &str, owners: Value) -> SlimPod {
    serde_json::from_value(json!({
        "metadata": metadata(name, &format!("uid-{name}"), owners),
        "spec": {"containers": [{"name": "web", "image": "r/web:1"}]},
        "status": {"phase": "Running", "containerStatuses": [{"name": "web", "imageID": image_id}]},
    }))
    .unwrap()
}

fn owner(name: &str, uid: &str, owners: Value) -> SlimOwner {
    serde_json::from_value(json!({"metadata": metadata(name, uid, owners)})).unwrap()
}

/// What was told, as `pod → Kind/name` or `pod gone`.
fn told(effects: &Effects) -> Vec<String> {
    let shown = |fact: &Fact| match fact {
        Fact::Pod(pod) => {
            let WorkloadRef { kind, name, .. } = &pod.workload.reference;
            format!("{} → {kind}/{name}", pod.name)
        }
        Fact::PodGone(uid) => format!("{uid} gone"),
        other => format!("{other:?}"),
    };
    effects.facts.iter().map(shown).collect()
}

fn of_replica_set() -> Value {
    controller("apps/v1", "ReplicaSet", "web-1", "rs")
}

fn of_deployment() -> Value {
    controller("apps/v1", "Deployment", "web", "d")
}

struct Stage {
    inventory: Inventory,
    now: Instant,
}

impl Stage {
    fn empty() -> Self {
        Stage {
            inventory: Inventory::default(),
            now: Instant::now(),
        }
    }

    fn with_a_deployment() -> Self {
        let mut stage = Stage::empty();
        stage.owner(DEPLOYMENT, "web", "d", Value::Null);
        stage.owner(REPLICA_SET, "web-1", "rs", of_deployment());
        stage
    }

    fn owner(&mut self, kind: &'static BuiltIn, name: &str, uid: &str, owners: Value) -> Vec<String> {
        told(
            &self
                .inventory
                .owner(kind, &owner(name, uid, owners).metadata, self.now),
        )
    }

    fn pod(&mut self, pod: &SlimPod) -> Vec<String> {
        told(&self.inventory.pod(pod, self.now).unwrap())
    }

    /// A pod of which the API server knows no owner.
    fn pod_of_nobody(&mut self, pod: &SlimPod) -> Vec<String> {
        let mut effects = self.inventory.pod(pod, self.now).unwrap();
        for question in std::mem::take(&mut effects.questions) {
            effects.add(
                self.inventory
                    .answered(&question, lookup::Found::Nothing, self.now),
            );
        }
        told(&effects)
    }

    fn after(&mut self, pause: Duration) -> Vec<String> {
        self.now += pause;
        told(&self.inventory.release_waiting(self.now))
    }
}

#[test]
fn a_pod_is_told_with_its_top_level_workload_and_only_when_something_changed() {
    let mut stage = Stage::with_a_deployment();
    assert_eq!(stage.pod(&pod("a", "", of_replica_set())), ["a → Deployment/web"]);
    assert!(stage.pod(&pod("a", "", of_replica_set())).is_empty());
    assert_eq!(
        stage.pod(&pod("a", "r/web@sha256:01", of_replica_set())),
        ["a → Deployment/web"]
    );
}

#[test]
fn a_new_generation_of_a_workload_is_no_news_for_its_pods() {
    let mut stage = Stage::with_a_deployment();
    stage.pod(&pod("a", "", of_replica_set()));
    let mut newer = owner("web", "d", Value::Null);
    newer.metadata.generation = Some(9);
    assert!(told(&stage.inventory.owner(DEPLOYMENT, &newer.metadata, stage.now)).is_empty());
    let effects = stage
        .inventory
        .pod(&pod("b", "", of_replica_set()), stage.now)
        .unwrap();
    let Some(Fact::Pod(b)) = effects.facts.first() else {
        panic!("b is told")
    };
    assert_eq!(b.workload.reference.observed_generation, Some(9));
}

#[test]
fn a_pod_waits_a_moment_for_an_owner_that_was_not_seen_yet() {
    let mut stage = Stage::empty();
    assert!(stage.pod(&pod("a", "", of_replica_set())).is_empty());
    assert!(!stage.inventory.holds_nobody());
    assert!(
        stage
            .owner(REPLICA_SET, "web-1", "rs", of_deployment())
            .is_empty()
    );
    assert_eq!(
        stage.owner(DEPLOYMENT, "web", "d", Value::Null),
        ["a → Deployment/web"]
    );
    assert!(stage.inventory.holds_nobody());
    assert!(stage.after(GRACE).is_empty());
}

/// C1.16.
#[test]
fn a_pod_whose_owner_never_shows_is_judged_as_itself_after_the_wait() {
    let mut stage = Stage::empty();
    assert!(
        stage
            .pod_of_nobody(&pod(
                "a",
                "",
                controller("apps/v1", "ReplicaSet", "forged", "none")
            ))
            .is_empty()
    );
    assert!(stage.after(OWNER_WAIT / 2).is_empty());
    assert_eq!(stage.after(OWNER_WAIT), ["a → Pod/a"]);
}

#[test]
fn a_pod_that_was_told_too_low_is_told_again_when_more_is_known() {
    let mut stage = Stage::empty();
    stage.pod_of_nobody(&pod("a", "", of_replica_set()));
    assert_eq!(stage.after(OWNER_WAIT), ["a → Pod/a"]);
    assert!(
        stage
            .owner(REPLICA_SET, "web-1", "rs", of_deployment())
            .is_empty()
    );
    assert_eq!(
        stage.owner(DEPLOYMENT, "web", "d", Value::Null),
        ["a → Deployment/web"]
    );
}

#[test]
fn a_change_of_a_waiting_pod_does_not_lengthen_its_wait() {
    let mut stage = Stage::empty();
    stage.pod_of_nobody(&pod("a", "", of_replica_set()));
    stage.now += OWNER_WAIT / 2;
    assert!(
        stage
            .pod_of_nobody(&pod("a", "r/web@sha256:01", of_replica_set()))
            .is_empty()
    );
    assert_eq!(stage.after(OWNER_WAIT / 2), ["a → Pod/a"]);
}

/// B27.
#[test]
fn a_pod_that_outlives_its_deleted_owner_is_judged_on_as_what_it_then_belongs_to() {
    let mut stage = Stage::with_a_deployment();
    stage.pod(&pod("a", "", of_replica_set()));
    let gone = stage
        .inventory
        .owner_deleted(DEPLOYMENT, &owner("web", "d", Value::Null).metadata, stage.now);
    assert!(told(&gone).is_empty(), "most deletions take their pods with them");
    assert!(stage.after(GRACE / 2).is_empty());
    assert_eq!(stage.after(GRACE), ["a → ReplicaSet/web-1"]);
}

#[test]
fn an_orphaned_replica_set_takes_its_pods_along_at_once() {
    let mut stage = Stage::with_a_deployment();
    stage.pod(&pod("a", "", of_replica_set()));
    assert_eq!(
        stage.owner(REPLICA_SET, "web-1", "rs", Value::Null),
        ["a → ReplicaSet/web-1"]
    );
}

#[test]
fn a_pod_whose_own_reference_changes_moves_at_once() {
    let mut stage = Stage::with_a_deployment();
    stage.pod(&pod("a", "", of_replica_set()));
    let orphan = stage.pod(&pod("a", "", Value::Null));
    assert_eq!(orphan.last().map(String::as_str), Some("a → Pod/a"));
}

#[test]
fn a_list_without_a_pod_says_that_it_is_gone() {
    let mut stage = Stage::empty();
    stage.pod(&pod("a", "", Value::Null));
    stage.pod(&pod("b", "", Value::Null));
    stage.inventory.pods_list_begins();
    assert!(stage.pod(&pod("b", "", Value::Null)).is_empty());
    assert_eq!(told(&stage.inventory.pods_list_ended()), ["uid-a gone"]);
}

#[test]
fn a_finished_pod_is_gone_and_one_that_was_never_told_is_not_mentioned() {
    let mut stage = Stage::empty();
    stage.pod(&pod("a", "", Value::Null));
    for (name, expected) in [("a", vec!["uid-a gone".to_owned()]), ("b", vec![])] {
        let finished: SlimPod = serde_json::from_value(json!({
            "metadata": metadata(name, &format!("uid-{name}"), Value::Null),
            "status": {"phase": "Failed"},
        }))
        .unwrap();
        assert_eq!(stage.pod(&finished), expected);
    }
}

/// C1.15.
#[test]
fn a_pod_that_cannot_be_read_keeps_what_was_told_of_it() {
    let mut stage = Stage::empty();
    stage.pod(&pod("a", "", Value::Null));
    let broken: SlimPod = serde_json::from_value(json!({
        "metadata": metadata("a", "uid-a", Value::Null),
        "spec": {"containers": 7},
    }))
    .unwrap();
    stage.inventory.pods_list_begins();
    assert!(stage.inventory.pod(&broken, stage.now).is_err());
    assert!(told(&stage.inventory.pods_list_ended()).is_empty());
}

/// C1.17, B35.
#[test]
fn a_mirror_pod_counts_as_bare_whatever_controls_it() {
    let mut stage = Stage::with_a_deployment();
    let mut mirror = pod(
        "etcd",
        "r/etcd@sha256:01",
        controller("v1", "Node", "worker-1", "n"),
    );
    mirror.metadata.annotations = Some([(MIRROR_MARK.to_owned(), "x".to_owned())].into());
    let effects = stage.inventory.pod(&mirror, stage.now).unwrap();
    assert_eq!(told(&effects), ["etcd → Pod/etcd"]);
    let Some(Fact::Pod(facts)) = effects.facts.first() else {
        panic!("the pod is told")
    };
    assert_eq!(
        facts.workload.reference.managed_by.as_deref(),
        Some("Node/worker-1")
    );
    assert_eq!(facts.images[0].image_id.as_deref(), Some("r/etcd@sha256:01"));
}

fn found(uid: &str) -> lookup::Found {
    found_with(uid, Value::Null)
}

fn found_with(uid: &str, owners: Value) -> lookup::Found {
    lookup::Found::Metadata(Box::new(owner("c", uid, owners).metadata))
}

/// C1.08.
#[test]
fn a_custom_owner_is_asked_for_once_for_all_its_pods() {
    let mut stage = Stage::empty();
    let of_custom = || controller("x.io/v1beta1", "Cluster", "c", "1");
    let first = stage
        .inventory
        .pod(&pod("a", "", of_custom()), stage.now)
        .unwrap();
    assert_eq!(first.questions.len(), 1);
    let second = stage
        .inventory
        .pod(&pod("b", "", of_custom()), stage.now)
        .unwrap();
    assert!(second.questions.is_empty());
    let key = first.questions[0].clone();
    let mut answered = told(&stage.inventory.answered(&key, found("1"), stage.now));
    answered.sort();
    assert_eq!(answered, ["a → Cluster/c", "b → Cluster/c"]);
}

#[test]
fn a_custom_owner_that_cannot_be_read_is_only_named() {
    let mut stage = Stage::empty();
    let asked = stage
        .inventory
        .pod(
            &pod("a", "", controller("x.io/v1", "Cluster", "c", "1")),
            stage.now,
        )
        .unwrap();
    let key = asked.questions[0].clone();
    let effects = stage
        .inventory
        .answered(&key, lookup::Found::OutOfReach, stage.now);
    let Some(Fact::Pod(facts)) = effects.facts.first() else {
        panic!("the pod is told at once")
    };
    assert_eq!(facts.workload.reference.kind, "Pod");
    assert_eq!(
        facts.workload.reference.managed_by.as_deref(),
        Some("Cluster.x.io/c")
    );
}

#[test]
fn a_custom_owner_that_becomes_readable_takes_its_pods() {
    let mut stage = Stage::empty();
    let asked = stage
        .inventory
        .pod(
            &pod("a", "", controller("x.io/v1", "Cluster", "c", "1")),
            stage.now,
        )
        .unwrap();
    let key = asked.questions[0].clone();
    stage
        .inventory
        .answered(&key, lookup::Found::OutOfReach, stage.now);
    stage.now += Duration::from_secs(31);
    let again = stage.inventory.ask_again(stage.now).questions;
    assert_eq!(again.len(), 1);
    assert_eq!(
        told(&stage.inventory.answered(&again[0], found("1"), stage.now)),
        ["a → Cluster/c"]
    );
}

/// A Deployment, its ReplicaSet and the pods are known; nobody rests on the ReplicaSet.
fn with_a_replica_set_that_is_let_go_of() -> Stage {
    let mut stage = Stage::with_a_deployment();
    stage.inventory.pods_list_begins();
    assert!(told(&stage.inventory.pods_list_ended()).is_empty());
    stage
}

#[test]
fn a_replica_set_without_pods_is_let_go_of_and_asked_for_when_a_pod_names_it() {
    let mut stage = with_a_replica_set_that_is_let_go_of();
    let asked = stage
        .inventory
        .pod(&pod("a", "", of_replica_set()), stage.now)
        .unwrap();
    assert!(told(&asked).is_empty(), "the pod waits for its owner");
    let of_deployment = found_with("rs", of_deployment());
    let answered = stage
        .inventory
        .answered(&asked.questions[0], of_deployment, stage.now);
    assert_eq!(told(&answered), ["a → Deployment/web"]);
}

#[test]
fn replica_sets_with_pods_or_without_a_controller_are_kept() {
    let mut stage = Stage::with_a_deployment();
    stage.owner(REPLICA_SET, "alone", "alone", Value::Null);
    stage.pod(&pod("a", "", of_replica_set()));
    stage.inventory.pods_list_begins();
    stage.pod(&pod("a", "", of_replica_set()));
    stage.inventory.pods_list_ended();
    assert_eq!(stage.pod(&pod("b", "", of_replica_set())), ["b → Deployment/web"]);
    let of_alone = controller("apps/v1", "ReplicaSet", "alone", "alone");
    assert_eq!(stage.pod(&pod("c", "", of_alone)), ["c → ReplicaSet/alone"]);
}

/// What a list holds and nobody needs is passed over; the watch tells of what is new before its pods come.
#[test]
fn a_replica_set_is_held_from_the_watch_and_not_from_a_list() {
    let mut stage = with_a_replica_set_that_is_let_go_of();
    let listed = owner("web-1", "rs", of_deployment());
    stage.inventory.owners_list_begins(REPLICA_SET);
    stage
        .inventory
        .owner_listed(REPLICA_SET, &listed.metadata, stage.now);
    stage.inventory.owners_list_ended(REPLICA_SET, stage.now);
    let asked = stage
        .inventory
        .pod(&pod("a", "", of_replica_set()), stage.now)
        .unwrap();
    assert_eq!(asked.questions.len(), 1);
    stage.owner(REPLICA_SET, "web-2", "rs2", of_deployment());
    let of_new = controller("apps/v1", "ReplicaSet", "web-2", "rs2");
    assert_eq!(stage.pod(&pod("b", "", of_new)), ["b → Deployment/web"]);
}

/// The watch told of it while a list was under way that began before.
#[test]
fn a_list_does_not_pass_over_a_replica_set_that_is_held() {
    let mut stage = with_a_replica_set_that_is_let_go_of();
    stage.owner(REPLICA_SET, "web-1", "rs", of_deployment());
    stage.inventory.owners_list_begins(REPLICA_SET);
    let listed = owner("web-1", "rs", of_deployment());
    stage
        .inventory
        .owner_listed(REPLICA_SET, &listed.metadata, stage.now);
    assert_eq!(stage.pod(&pod("a", "", of_replica_set())), ["a → Deployment/web"]);
    let ended = stage.inventory.owners_list_ended(REPLICA_SET, stage.now);
    assert!(ended.questions.is_empty() && ended.facts.is_empty(), "{ended:?}");
}

/// A ReplicaSet that was asked for is gone, as the watch says, or as a list does not hold it.
#[test]
fn a_replica_set_that_was_asked_for_and_is_gone_is_asked_for_again() {
    for by_a_list in [true, false] {
        for (answer, moved) in [
            (found_with("rs", of_deployment()), vec![]),
            (lookup::Found::OutOfReach, vec!["a → Pod/a".to_owned()]),
            (lookup::Found::Nothing, vec!["a → Pod/a".to_owned()]),
        ] {
            let mut stage = with_a_replica_set_that_is_let_go_of();
            let first = stage
                .inventory
                .pod(&pod("a", "", of_replica_set()), stage.now)
                .unwrap()
                .questions
                .remove(0);
            let inventory = &mut stage.inventory;
            inventory.answered(&first, found_with("rs", of_deployment()), stage.now);
            let gone = if by_a_list {
                inventory.owners_list_begins(REPLICA_SET);
                inventory.owners_list_ended(REPLICA_SET, stage.now)
            } else {
                let deleted = owner("web-1", "rs", of_deployment());
                inventory.owner_deleted(REPLICA_SET, &deleted.metadata, stage.now)
            };
            assert!(told(&gone).is_empty());
            let [again] = gone.questions.as_slice() else {
                panic!("it is asked for again: {gone:?}")
            };
            let answered = inventory.answered(again, answer.clone(), stage.now);
            assert!(told(&answered).is_empty(), "{answer:?}");
            assert_eq!(stage.after(GRACE), moved, "{answer:?}");
        }
    }
}

/// A wrong workload would be judged, and told of, for as long as the answer takes.
#[test]
fn a_new_pod_waits_longer_for_an_answer_than_for_a_watch_and_not_for_ever() {
    for answer_comes in [true, false] {
        let mut stage = with_a_replica_set_that_is_let_go_of();
        let question = stage
            .inventory
            .pod(&pod("a", "", of_replica_set()), stage.now)
            .unwrap()
            .questions
            .remove(0);
        for _ in 0..5 {
            assert!(stage.after(OWNER_WAIT).is_empty());
        }
        if answer_comes {
            let found = found_with("rs", of_deployment());
            let told_now = told(&stage.inventory.answered(&question, found, stage.now));
            assert_eq!(told_now, ["a → Deployment/web"]);
            assert!(stage.after(ANSWER_WAIT).is_empty());
        } else {
            let moment = Duration::from_millis(1);
            let left = ANSWER_WAIT - 5 * OWNER_WAIT;
            assert!(stage.after(left - moment).is_empty());
            assert_eq!(stage.after(moment), ["a → Pod/a"]);
        }
    }
}

/// Pods with owners that nobody may read come and go by the thousands where each has one of its own.
#[test]
fn an_owner_that_cannot_be_read_is_forgotten_with_the_last_pod_that_names_it() {
    let mut stage = Stage::empty();
    let a = pod("a", "", controller("x.io/v1", "Run", "r", "1"));
    let question = stage.inventory.pod(&a, stage.now).unwrap().questions.remove(0);
    let out_of_reach = lookup::Found::OutOfReach;
    stage.inventory.answered(&question, out_of_reach, stage.now);
    stage.inventory.pod_deleted(&a);
    for _ in 0..60 {
        stage.now += Duration::from_secs(1);
        assert!(stage.inventory.ask_again(stage.now).questions.is_empty());
    }
    let asked = stage.inventory.pod(&a, stage.now).unwrap();
    assert_eq!(asked.questions.len(), 1, "it was forgotten");
}

/// Whoever may edit an owner may make its pods wait and not wait as often as they like.
#[test]
fn nothing_is_left_of_a_wait_that_ended() {
    let mut stage = Stage::with_a_deployment();
    stage.pod(&pod("a", "", of_replica_set()));
    let deployment = owner("web", "d", Value::Null);
    for _ in 0..10 {
        let (inventory, metadata) = (&mut stage.inventory, &deployment.metadata);
        inventory.owner_deleted(DEPLOYMENT, metadata, stage.now);
        assert_eq!((inventory.waiting.len(), inventory.ends_of_waits.len()), (1, 1));
        inventory.owner(DEPLOYMENT, metadata, stage.now);
        assert_eq!((inventory.waiting.len(), inventory.ends_of_waits.len()), (0, 0));
        stage.now += Duration::from_secs(1);
    }
    stage
        .inventory
        .owner_deleted(DEPLOYMENT, &deployment.metadata, stage.now);
    stage.inventory.pod_deleted(&pod("a", "", of_replica_set()));
    assert!(stage.inventory.ends_of_waits.is_empty());
}

#[test]
fn a_wait_that_ended_shortens_none_that_comes_after_it() {
    let mut stage = Stage::with_a_deployment();
    stage.pod(&pod("a", "", of_replica_set()));
    let deployment = owner("web", "d", Value::Null);
    let (inventory, metadata) = (&mut stage.inventory, &deployment.metadata);
    inventory.owner_deleted(DEPLOYMENT, metadata, stage.now);
    inventory.owner(DEPLOYMENT, metadata, stage.now);
    stage.now += GRACE / 2;
    stage.inventory.owner_deleted(DEPLOYMENT, metadata, stage.now);
    assert!(stage.after(GRACE / 2).is_empty(), "the first wait is long over");
    assert_eq!(stage.after(GRACE / 2), ["a → ReplicaSet/web-1"]);
}

#[test]
fn the_roster_follows_the_pods() {
    let roster = Roster::default();
    let mut inventory = Inventory::new(roster.clone(), Keychains::default());
    let now = Instant::now();
    let a = pod("a", "", Value::Null);
    let effects = inventory.pod(&a, now).unwrap();
    let Some(Fact::Pod(facts)) = effects.facts.first() else {
        panic!("the pod is told")
    };
    let key = facts.workload.key.clone();
    assert!(roster.runs(&key));
    inventory.pod_deleted(&a);
    assert!(!roster.runs(&key));
}
