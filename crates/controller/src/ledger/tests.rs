use super::*;
use serde_json::json;

fn object(version: &str, verdict: &str) -> ImageCompliance {
    serde_json::from_value(json!({
        "metadata": {"namespace": "shop", "name": "deployment-web", "uid": "c", "resourceVersion": version},
        "status": {
            "verdict": verdict,
            "workload": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": "d"},
        },
    }))
    .unwrap()
}

fn place() -> Place {
    Place {
        namespace: "shop".into(),
        name: "deployment-web".into(),
    }
}

fn wrote(ledger: &Ledger, object: &ImageCompliance) -> After {
    After::Is(ledger.stored(object), Box::new(Said::of(&object.status)))
}

fn writing() -> Ledger {
    let ledger = Ledger::default();
    ledger.seen(&object("1", "Compliant"));
    ledger.set_writes(true);
    ledger
}

#[test]
fn ones_own_write_is_no_foreign_edit_whichever_comes_first() {
    let ledger = writing();
    let own = object("2", "Violating");
    ledger.begin(&place());
    assert!(!ledger.seen(&own));
    assert_eq!(ledger.end(&place(), wrote(&ledger, &own)), Meanwhile::Untouched);
    assert!(!ledger.seen(&own));
    ledger.begin(&place());
    assert_eq!(
        ledger.end(&place(), wrote(&ledger, &object("3", "Compliant"))),
        Meanwhile::Untouched
    );
    assert!(!ledger.seen(&object("3", "Compliant")));
}

#[test]
fn one_write_at_a_time_goes_to_a_place() {
    let ledger = writing();
    assert!(ledger.begin(&place()).is_some());
    assert!(ledger.begin(&place()).is_none());
    assert_eq!(ledger.end(&place(), After::Nothing), Meanwhile::Untouched);
    assert!(ledger.begin(&place()).is_some());
}

#[test]
fn an_old_event_that_comes_late_is_no_foreign_edit() {
    let ledger = writing();
    ledger.begin(&place());
    ledger.seen(&object("2", "Unknown"));
    assert_eq!(
        ledger.end(&place(), wrote(&ledger, &object("3", "Violating"))),
        Meanwhile::Untouched
    );
    assert!(!ledger.seen(&object("2", "Unknown")));
}

/// F15.
#[test]
fn f15_what_a_store_that_was_set_back_holds_is_put_right() {
    let old = object("1", "Compliant");
    let said = || {
        let ledger = writing();
        ledger.begin(&place());
        let own = object("9", "Violating");
        assert_eq!(ledger.end(&place(), wrote(&ledger, &own)), Meanwhile::Untouched);
        ledger
    };
    assert!(
        !said().listed(&old, &"8".into(), false),
        "that list is older than the write"
    );
    assert!(said().listed(&old, &"9".into(), false), "this one is not");
    assert!(
        said().listed(&old, &"5".into(), true),
        "it is known that the store was set back"
    );
    assert!(!said().listed(&object("9", "Violating"), &"9".into(), false));
}

#[test]
fn a_foreign_edit_must_be_put_right_and_changes_nothing_that_was_said() {
    let ledger = writing();
    assert!(ledger.seen(&object("2", "Violating")));
    let before = ledger.begin(&place()).unwrap().0;
    assert_eq!(before.stored.unwrap().resource_version, "2".into());
    assert_eq!(before.said.verdict, Some(api::Verdict::Compliant));
}

#[test]
fn a_foreign_edit_during_a_write_is_not_lost() {
    let ledger = writing();
    ledger.begin(&place());
    let own = object("2", "Unknown");
    ledger.seen(&object("3", "Violating"));
    assert_eq!(
        ledger.end(&place(), wrote(&ledger, &own)),
        Meanwhile::ChangedByOthers
    );
}

#[test]
fn an_edit_of_what_the_operator_does_not_write_is_only_followed() {
    let ledger = writing();
    let mut labelled = object("2", "Compliant");
    labelled.metadata.labels = Some([("a".to_owned(), "b".to_owned())].into());
    assert!(!ledger.seen(&labelled));
    assert_eq!(
        ledger.begin(&place()).unwrap().0.stored.unwrap().resource_version,
        "2".into()
    );
}

#[test]
fn a_foreign_deletion_must_be_put_right() {
    let ledger = writing();
    assert!(!ledger.gone(&place(), Some("another")));
    assert!(ledger.gone(&place(), Some("c")));
    let before = ledger.begin(&place()).unwrap().0;
    assert_eq!(before.stored, None);
    assert!(
        before.said.workload.is_some(),
        "what was said is known all the same"
    );
    assert_eq!(
        ledger.end(&place(), wrote(&ledger, &object("5", "Compliant"))),
        Meanwhile::Untouched
    );
    ledger.begin(&place());
    ledger.gone(&place(), Some("c"));
    assert_eq!(ledger.end(&place(), After::Nothing), Meanwhile::ChangedByOthers);
}

#[test]
fn ones_own_deletion_is_the_end() {
    let ledger = writing();
    ledger.begin(&place());
    ledger.gone(&place(), Some("c"));
    assert_eq!(ledger.end(&place(), After::Gone), Meanwhile::Untouched);
    assert!(ledger.objects().is_empty());
}

#[test]
fn a_replica_that_does_not_write_follows_what_the_other_says() {
    let ledger = Ledger::default();
    assert!(!ledger.seen(&object("1", "Compliant")));
    assert!(!ledger.seen(&object("2", "Violating")));
    assert_eq!(
        ledger.begin(&place()).unwrap().0.said.verdict,
        Some(api::Verdict::Violating)
    );
    assert_eq!(ledger.end(&place(), After::Nothing), Meanwhile::Untouched);
    assert!(!ledger.gone(&place(), Some("c")));
    assert!(ledger.objects().is_empty());
}

#[test]
fn a_new_generation_of_the_workload_alone_is_no_change() {
    let ledger = Ledger::default();
    let mut newer = object("1", "Compliant");
    newer.status.workload.as_mut().unwrap().observed_generation = Some(7);
    let content_hash = |object: &ImageCompliance| ledger.content_hash(&object.status, &[]);
    assert_eq!(content_hash(&newer), content_hash(&object("1", "Compliant")));
    assert_ne!(content_hash(&newer), content_hash(&object("1", "Violating")));
}

/// A write about the place that had no answer; the object is what it said.
fn unanswered(ledger: &Ledger, object: &ImageCompliance) {
    ledger.begin(&place());
    let telling = Telling {
        said: Said::of(&object.status),
        transitions: Vec::new(),
        forecasts: Vec::new(),
    };
    ledger.had_no_answer(&place(), ledger.stored(object).content_hash, telling);
    let _ = ledger.end(&place(), After::Nothing);
}

/// What is told when a write begins, and the verdict that was said before it.
fn begun(ledger: &Ledger) -> (Option<Said>, Option<api::Verdict>) {
    let (before, heard) = ledger.begin(&place()).unwrap();
    let _ = ledger.end(&place(), After::Nothing);
    (heard.map(|telling| telling.said), before.said.verdict)
}

/// Weakened once: with `follow` taking every object for what was told, nothing is told.
#[test]
fn what_was_written_without_an_answer_is_told_once_when_it_shows() {
    for writes in [true, false] {
        let ledger = Ledger::default();
        ledger.set_writes(true);
        let (first, second) = (object("2", "Violating"), object("3", "Unknown"));
        unanswered(&ledger, &first);
        unanswered(&ledger, &second);
        assert_eq!(begun(&ledger), (None, None), "neither shows yet");
        // The Lease may lapse before one shows.
        ledger.set_writes(writes);
        ledger.seen(&first);
        assert_eq!(ledger.key_at(&place()).unwrap().name.as_ref(), "web");
        let violating = Some(api::Verdict::Violating);
        assert_eq!(begun(&ledger), (Some(Said::of(&first.status)), violating));
        assert_eq!(begun(&ledger), (None, violating));
    }
}

#[test]
fn what_another_replica_says_takes_the_place_of_what_had_no_answer() {
    let ledger = writing();
    unanswered(&ledger, &object("2", "Violating"));
    ledger.set_writes(false);
    ledger.seen(&object("3", "Unknown"));
    ledger.seen(&object("4", "Violating"));
    assert_eq!(begun(&ledger), (None, Some(api::Verdict::Violating)));
}
