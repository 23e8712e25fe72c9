//! Writes the answer about one workload: what to do is decided at once and purely, the requests follow.

use std::time::Duration;

use api::Mode;
use engine::{EndedImage, WorkloadAnswer, WorkloadKey, WorkloadReport};
use jiff::Timestamp;

use super::news::{self, About};
use super::render::{self, Rendered};
use super::request::{Attempts, Refused};
use super::{Requeue, Writer, now};
use crate::forecasts::{self, Forecast};
use crate::inventory::lookup::Found;
use crate::ledger::{After, Before, Place, Stored, Telling};
use crate::notify::CloudEvent;
use crate::said::Said;
use crate::transitions::{self, Transition};
use crate::versions::Meanwhile;

/// How soon it is tried again to find out whether a workload exists.
const ASK_AGAIN: Duration = Duration::from_secs(30);

/// What is to be done about a workload.
#[derive(Debug)]
pub(crate) enum Work {
    /// Say this.
    Say(Box<WorkloadReport>),
    /// Somebody deleted the object: say this again, if the workload still exists.
    SayAgain(Box<WorkloadReport>),
    /// Nothing runs: say so if the workload still exists, else forget it.
    Rest,
    /// No policy covers it: delete the object.
    Leave,
}

/// What to do about an answer.
#[derive(Debug)]
pub(crate) enum Decision {
    /// Nothing now; something after a while, perhaps.
    Nothing(Option<Duration>),
    /// This.
    Do(Work),
}

/// Decides what an answer asks for. Pure; `content_hash` hashes what the API server would hold.
pub(crate) fn decide(
    answer: WorkloadAnswer,
    before: &Before,
    minimum_age: Duration,
    now: Timestamp,
    content_hash: impl Fn(&Rendered) -> u64,
) -> Decision {
    let known = before.stored.is_some() || before.said.workload.is_some();
    match answer {
        WorkloadAnswer::Undecided => Decision::Nothing(None),
        WorkloadAnswer::NotCovered if known => Decision::Do(Work::Leave),
        WorkloadAnswer::NothingRuns if known => Decision::Do(Work::Rest),
        WorkloadAnswer::NotCovered | WorkloadAnswer::NothingRuns => Decision::Nothing(None),
        WorkloadAnswer::Covered(report) => decide_covered(report, before, minimum_age, now, content_hash),
    }
}

fn decide_covered(
    report: Box<WorkloadReport>,
    before: &Before,
    minimum_age: Duration,
    now: Timestamp,
    content_hash: impl Fn(&Rendered) -> u64,
) -> Decision {
    match &before.stored {
        Some(stored) if stored.content_hash == content_hash(&render::covered(&report, &before.said, now)) => {
            Decision::Nothing(None)
        }
        Some(_) => Decision::Do(Work::Say(report)),
        None => match too_young(&report, minimum_age, now) {
            Some(pause) => Decision::Nothing(Some(pause)),
            None if before.said.workload.is_some() => Decision::Do(Work::SayAgain(report)),
            None => Decision::Do(Work::Say(report)),
        },
    }
}

/// How long a Job or a bare Pod without a violation is not yet worth an object.
fn too_young(report: &WorkloadReport, minimum_age: Duration, now: Timestamp) -> Option<Duration> {
    let reference = &report.workload.reference;
    let is_fleeting = matches!(
        (reference.api_version.as_str(), reference.kind.as_str()),
        ("v1", "Pod") | ("batch/v1", "Job")
    );
    if !is_fleeting || render::has_violation(report) {
        return None;
    }
    let age = Duration::try_from(now.duration_since(report.workload.created)).unwrap_or_default();
    minimum_age.checked_sub(age).filter(|left| !left.is_zero())
}

impl Writer {
    /// Carries out what was decided about a workload, and says how it ended.
    pub(crate) async fn do_work(
        &self,
        key: &WorkloadKey,
        place: &Place,
        before: Before,
        work: Work,
    ) -> Requeue {
        let result = match work {
            Work::Say(report) => self.say(place, before, Content::Report(&report)).await,
            Work::SayAgain(report) => match self.exists(key, &report.workload.reference.uid).await {
                Existence::Yes => self.say(place, before, Content::Report(&report)).await,
                // What was said is kept, so that the pods' last moments do not make it new.
                Existence::No => Ok(After::Nothing),
                Existence::CannotTell => return self.ended(place, After::Nothing, Some(ASK_AGAIN)),
            },
            Work::Rest => match self.exists(key, before.said.uid()).await {
                Existence::Yes => self.say(place, before, Content::NothingRuns).await,
                Existence::No => self.remove(place, before.stored).await,
                Existence::CannotTell => return self.ended(place, After::Nothing, Some(ASK_AGAIN)),
            },
            Work::Leave => self.leave(place, before).await,
        };
        match result {
            Ok(after) => self.ended(place, after, None),
            Err(refused) => {
                let again = self.again_after(&refused, || format!("{}/{}", place.namespace, place.name));
                self.ended(place, After::Nothing, again)
            }
        }
    }

    /// Ends the write in the ledger; what somebody else did meanwhile is put right.
    pub(crate) fn ended(&self, place: &Place, after: After, again: Option<Duration>) -> Requeue {
        Requeue::after(self.ledger.end(place, after), again)
    }

    /// A write about this place begins; None where one is under way. What was written before it without an answer and
    /// shows now is told.
    pub(super) fn begin(&self, place: &Place) -> Option<Before> {
        let (before, heard) = self.ledger.begin(place)?;
        if let Some(heard) = heard {
            self.tell(place, &heard);
        }
        Some(before)
    }

    async fn say(&self, place: &Place, mut before: Before, content: Content<'_>) -> Result<After, Refused> {
        let mut attempts = Attempts::default();
        loop {
            let now = now();
            let rendered = content.rendered(&before.said, now);
            let content_hash = self.ledger.content_hash(&rendered.status, &rendered.owners);
            if let Some(stored) = before
                .stored
                .clone()
                .filter(|stored| stored.content_hash == content_hash)
            {
                return Ok(After::Is(stored, Box::new(rendered.said)));
            }
            let Rendered { status, owners, said } = rendered;
            let telling = Telling {
                transitions: content.transitions(&before.said, &said, now),
                forecasts: content.forecasts(&before.said),
                said,
            };
            let stored = before.stored.as_ref();
            match self.requests.put(place, stored, status, &owners).await {
                Ok(object) => {
                    let stored = self.ledger.stored(&object);
                    if stored.content_hash != content_hash {
                        tracing::warn!(namespace = %place.namespace, name = %place.name,
                            "the API server keeps an ImageCompliance otherwise than it was written");
                    }
                    self.tell(place, &telling);
                    return Ok(After::Is(stored, Box::new(telling.said)));
                }
                // Whatever stands between may have sent the write twice; then this is the answer to the second one.
                Err(Refused::NotAsItWas(_)) => {
                    self.ledger.had_no_answer(place, content_hash, telling);
                    attempts.overtaken().await?;
                    before = self.read_anew(place, before).await?;
                }
                Err(refused) => {
                    if refused.may_be_done() {
                        self.ledger.had_no_answer(place, content_hash, telling);
                    }
                    return Err(refused);
                }
            }
        }
    }

    async fn leave(&self, place: &Place, before: Before) -> Result<After, Refused> {
        let after = self.remove(place, before.stored).await?;
        let left = Telling {
            transitions: transitions::of_leaving(&before.said, now()),
            forecasts: Vec::new(),
            said: before.said,
        };
        self.tell(place, &left);
        Ok(after)
    }

    async fn remove(&self, place: &Place, mut stored: Option<Stored>) -> Result<After, Refused> {
        let mut attempts = Attempts::default();
        while let Some(current) = &stored {
            match self.requests.delete(place, current).await {
                Ok(()) | Err(Refused::NamespaceGone) => break,
                Err(Refused::NotAsItWas(_)) => {
                    attempts.overtaken().await?;
                    let found = self.requests.get(place).await?;
                    stored = found.map(|object| self.ledger.stored(&object));
                }
                Err(refused) => return Err(refused),
            }
        }
        Ok(After::Gone)
    }

    /// Deletes an object that belongs to no workload.
    pub(crate) async fn remove_stray(&self, place: &Place) {
        let Some(before) = self.begin(place) else {
            return;
        };
        let after = match self.remove(place, before.stored).await {
            Ok(after) => after,
            Err(refused) => {
                tracing::warn!(namespace = %place.namespace, name = %place.name, %refused,
                    "an orphaned ImageCompliance could not be deleted; it is tried again at the next sweep");
                After::Nothing
            }
        };
        if self.ledger.end(place, after) == Meanwhile::ChangedByOthers {
            self.ledger.report_stray();
        }
    }

    /// The object as it is now. Where its content is not what was written, answered or not, it was said by another
    /// process, and that is what the next answer is compared with.
    async fn read_anew(&self, place: &Place, before: Before) -> Result<Before, Refused> {
        let Some(object) = self.requests.get(place).await? else {
            return Ok(Before {
                stored: None,
                said: before.said,
            });
        };
        let stored = self.ledger.stored(&object);
        let is_ours = before
            .stored
            .as_ref()
            .is_some_and(|known| known.content_hash == stored.content_hash);
        let said = match self.ledger.heard(place, stored.content_hash) {
            Some(heard) => {
                self.tell(place, &heard);
                heard.said
            }
            None if is_ours => before.said,
            None => Said::of(&object.status),
        };
        Ok(Before {
            stored: Some(stored),
            said,
        })
    }

    /// Whether a workload exists under this uid.
    pub(crate) async fn exists(&self, key: &WorkloadKey, uid: &str) -> Existence {
        match self.lookup.find(&self.reads, key).await {
            Found::Metadata(found) if found.uid.as_deref() == Some(uid) => Existence::Yes,
            Found::Metadata(_) | Found::Nothing => Existence::No,
            Found::OutOfReach => Existence::CannotTell,
        }
    }

    /// Records what was known of images whose last pod ended, where that was not said of the workload before.
    pub(super) fn record_ended(&self, key: &WorkloadKey, ended: &[EndedImage]) {
        if ended.is_empty() {
            return;
        }
        let said = self.ledger.said(&Place::of(key));
        for ended in ended {
            let about = About {
                namespace: &key.namespace,
                workload: &ended.workload.reference,
            };
            for transition in transitions::of_ended(&said, &ended.image, now()) {
                news::record_ended(&about, &transition);
                self.requests.metrics.ended(
                    &key.namespace,
                    &transition.policy,
                    transition.mode,
                    transition.verdict,
                );
            }
        }
    }

    fn tell(&self, place: &Place, telling: &Telling) {
        let Some(workload) = &telling.said.workload else {
            return;
        };
        let about = About {
            namespace: &place.namespace,
            workload,
        };
        for transition in &telling.transitions {
            news::record(&about, transition);
            self.notify(transition.mode, transition.news, |news| {
                CloudEvent::of_transition(&about, transition, news.as_str())
            });
            news::tell(
                &self.events,
                &about,
                self.policies.uid(&transition.policy),
                transition,
            );
        }
        for forecast in &telling.forecasts {
            let policy_uid = self.policies.uid(&forecast.policy);
            news::foretell(&self.events, &about, policy_uid, forecast);
            self.notify(forecast.mode, Some(()), |()| {
                CloudEvent::of_forecast(&about, forecast, &now().to_string())
            });
        }
    }

    /// What a policy in dry run finds notifies nobody.
    fn notify<N>(&self, mode: Mode, news: Option<N>, event: impl FnOnce(N) -> CloudEvent) {
        if let Some(news) = news.filter(|_| mode != Mode::DryRun) {
            self.notifications.tell(|| event(news));
        }
    }
}

/// Whether a workload exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Existence {
    Yes,
    No,
    CannotTell,
}

/// What is said of a workload.
enum Content<'a> {
    Report(&'a WorkloadReport),
    NothingRuns,
}

impl Content<'_> {
    fn rendered(&self, before: &Said, now: Timestamp) -> Rendered {
        match self {
            Content::Report(report) => render::covered(report, before, now),
            Content::NothingRuns => render::nothing_running(before, now),
        }
    }

    fn transitions(&self, before: &Said, after: &Said, now: Timestamp) -> Vec<Transition> {
        match self {
            Content::Report(report) => transitions::of_report(before, after, report, now),
            Content::NothingRuns => Vec::new(),
        }
    }

    fn forecasts(&self, before: &Said) -> Vec<Forecast> {
        match self {
            Content::Report(report) => forecasts::of_report(before, report),
            Content::NothingRuns => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Ledger;
    use crate::testing::{ApiServer, answer, image, report, time, workload, writer_and_events};
    use api::{Reason, Verdict};
    use axum::http::Method;
    use serde_json::{Value, json};
    use std::sync::{Arc, Mutex};

    const MINUTE: Duration = Duration::from_secs(60);

    fn shown(decision: &Decision) -> String {
        match decision {
            Decision::Nothing(None) => "nothing".to_owned(),
            Decision::Nothing(Some(pause)) => format!("again after {} s", pause.as_secs()),
            Decision::Do(Work::Say(_)) => "say".to_owned(),
            Decision::Do(Work::SayAgain(_)) => "say again".to_owned(),
            Decision::Do(Work::Rest) => "rest".to_owned(),
            Decision::Do(Work::Leave) => "leave".to_owned(),
        }
    }

    fn content_hash(rendered: &Rendered) -> u64 {
        serde_json::to_vec(&rendered.status)
            .unwrap()
            .iter()
            .fold(7, |sum, byte| sum * 31 % 1_000_003 + u64::from(*byte))
    }

    fn covered(kind: &str, verdict: Verdict, reason: Reason) -> Box<WorkloadReport> {
        let images = vec![image("r/web", "sha256:01", vec![answer("prod", verdict, reason)])];
        Box::new(WorkloadReport {
            workload: workload(kind),
            ..report(images)
        })
    }

    fn stored(content_hash: u64) -> Stored {
        Stored {
            uid: "c".into(),
            resource_version: "1".into(),
            content_hash,
        }
    }

    fn written(report: &WorkloadReport) -> Before {
        let rendered = render::covered(report, &Said::default(), time(0));
        Before {
            stored: Some(stored(content_hash(&rendered))),
            said: rendered.said,
        }
    }

    fn decided(answer: WorkloadAnswer, before: &Before, now: i64) -> String {
        shown(&decide(answer, before, MINUTE, time(now), content_hash))
    }

    #[test]
    fn nothing_is_written_without_a_change() {
        let good = covered("Deployment", Verdict::Compliant, Reason::AllVerified);
        let bad = covered("Deployment", Verdict::Violating, Reason::KeyRevoked);
        let before = written(&good);
        assert_eq!(
            decided(WorkloadAnswer::Covered(good.clone()), &before, 9000),
            "nothing"
        );
        assert_eq!(decided(WorkloadAnswer::Covered(bad), &before, 9000), "say");
        assert_eq!(
            decided(WorkloadAnswer::Covered(good), &Before::default(), 0),
            "say"
        );
    }

    #[test]
    fn what_is_not_decided_yet_leaves_what_is_written() {
        let before = written(&covered("Deployment", Verdict::Violating, Reason::KeyRevoked));
        assert_eq!(decided(WorkloadAnswer::Undecided, &before, 0), "nothing");
    }

    #[test]
    fn a_workload_that_is_not_covered_has_no_object() {
        let before = written(&covered("Deployment", Verdict::Violating, Reason::KeyRevoked));
        assert_eq!(decided(WorkloadAnswer::NotCovered, &before, 0), "leave");
        assert_eq!(
            decided(WorkloadAnswer::NotCovered, &Before::default(), 0),
            "nothing"
        );
    }

    #[test]
    fn a_workload_of_which_nothing_runs_is_spoken_of_only_where_it_was_before() {
        let before = written(&covered("Deployment", Verdict::Compliant, Reason::AllVerified));
        assert_eq!(decided(WorkloadAnswer::NothingRuns, &before, 0), "rest");
        assert_eq!(
            decided(WorkloadAnswer::NothingRuns, &Before::default(), 0),
            "nothing"
        );
    }

    #[test]
    fn a_young_job_or_pod_gets_an_object_only_if_something_is_violating() {
        for kind in ["Job", "Pod"] {
            let of = |verdict, reason| WorkloadAnswer::Covered(covered(kind, verdict, reason));
            let good = || of(Verdict::Compliant, Reason::AllVerified);
            assert_eq!(decided(good(), &Before::default(), 20), "again after 40 s");
            assert_eq!(decided(good(), &Before::default(), 60), "say");
            assert_eq!(
                decided(of(Verdict::Unknown, Reason::Pending), &Before::default(), 20),
                "again after 40 s"
            );
            assert_eq!(
                decided(
                    of(Verdict::Violating, Reason::SignatureMissing),
                    &Before::default(),
                    0
                ),
                "say"
            );
            let before = written(&covered(kind, Verdict::Violating, Reason::SignatureMissing));
            assert_eq!(
                decided(good(), &before, 20),
                "say",
                "an object that exists is kept right"
            );
        }
        let young = WorkloadAnswer::Covered(covered("Deployment", Verdict::Compliant, Reason::AllVerified));
        assert_eq!(decided(young, &Before::default(), 0), "say");
    }

    /// B55.
    #[test]
    fn an_object_that_somebody_deleted_is_written_again_only_after_a_look_at_its_workload() {
        let report = covered("Deployment", Verdict::Compliant, Reason::AllVerified);
        let before = Before {
            stored: None,
            ..written(&report)
        };
        assert_eq!(decided(WorkloadAnswer::Covered(report), &before, 0), "say again");
    }

    #[test]
    fn a_foreign_edit_is_overwritten() {
        let report = covered("Deployment", Verdict::Compliant, Reason::AllVerified);
        let before = Before {
            stored: Some(stored(1)),
            ..written(&report)
        };
        assert_eq!(decided(WorkloadAnswer::Covered(report), &before, 0), "say");
    }

    /// An API server that keeps what is written, and answers the first write so.
    fn keeps_and_answers(first: u16) -> ApiServer {
        let shelf: Arc<Mutex<Option<Value>>> = Arc::default();
        ApiServer::start(move |asked| {
            let mut shelf = shelf.lock().unwrap();
            match (&asked.method, shelf.is_some()) {
                _ if asked.path.contains("/events") => (201, asked.body.clone()),
                (&Method::GET, _) => (200, shelf.clone().unwrap_or_default()),
                (&Method::POST, true) => (
                    409,
                    json!({"code": 409, "reason": "AlreadyExists", "message": "m"}),
                ),
                (_, known) => {
                    let mut object = asked.body.clone();
                    object["metadata"]["uid"] = json!("c");
                    object["metadata"]["resourceVersion"] = json!((asked.number + 1).to_string());
                    *shelf = Some(object.clone());
                    match known {
                        true => (200, object),
                        false => (first, json!({"code": first, "reason": "R", "message": "m"})),
                    }
                }
            }
        })
    }

    /// How the writer ends with an answer.
    async fn carried_out(writer: &Writer, report: Box<WorkloadReport>) -> Requeue {
        let key = WorkloadKey::of("shop".into(), &report.workload.reference);
        let place = Place::of(&key);
        let before = writer.begin(&place).unwrap();
        let hash = |rendered: &Rendered| writer.ledger.content_hash(&rendered.status, &rendered.owners);
        match decide(WorkloadAnswer::Covered(report), &before, MINUTE, now(), hash) {
            Decision::Do(work) => writer.do_work(&key, &place, before, work).await,
            Decision::Nothing(again) => writer.ended(&place, After::Nothing, again),
        }
    }

    /// How often each reason is told by Events when the writer has ended.
    async fn told(server: &ApiServer, writer: Writer, events: crate::events::EventTask) -> Vec<String> {
        drop(writer);
        events.run(std::future::pending()).await;
        let requests = server.requests().into_iter();
        let events = requests.filter(|asked| asked.path.contains("/events"));
        events
            .map(|event| event.body["reason"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Weakened once: where only what failed counts, the loop goes on as fast as before.
    #[tokio::test]
    async fn a_write_that_is_told_to_wait_slows_the_others_down() {
        let server = ApiServer::start(|_| (200, json!({})));
        let (writer, _events) = writer_and_events(&server, Ledger::default());
        let pause = Duration::from_secs(8);
        let again = writer
            .again_after(&Refused::Throttled(pause), String::new)
            .unwrap();
        assert!(again >= pause / 2, "{again:?}");
        assert_eq!(writer.failures.load(std::sync::atomic::Ordering::Relaxed), 1);
    }

    /// No answer in time, one that says nothing, and one to a write that came there twice. Weakened once: with
    /// `read_anew` taking the object for what another process said, nothing is told.
    #[tokio::test]
    async fn what_was_written_without_an_answer_is_told_once_when_it_shows() {
        for (first, ends) in [
            (ApiServer::NEVER, [true, false, false]),
            (504, [true, false, false]),
            (409, [false, false, false]),
        ] {
            let server = keeps_and_answers(first);
            let ledger = Ledger::default();
            ledger.set_writes(true);
            let (writer, events) = writer_and_events(&server, ledger);
            let bad = covered("Deployment", Verdict::Violating, Reason::KeyRevoked);
            for again in ends {
                let ended = carried_out(&writer, bad.clone()).await;
                assert_eq!(ended.again.is_some(), again, "{first}");
            }
            let puts = server.requests().into_iter();
            let puts = puts.filter(|asked| asked.method == Method::PUT).count();
            assert_eq!(puts, 0, "{first}: it is written already");
            assert_eq!(
                told(&server, writer, events).await,
                ["BecameNonCompliant"],
                "{first}"
            );
        }
    }

    /// What shows is told, although it is not true any more: somebody may have seen it.
    #[tokio::test]
    async fn what_was_written_without_an_answer_is_told_before_what_is_said_next() {
        let server = keeps_and_answers(504);
        let ledger = Ledger::default();
        ledger.set_writes(true);
        let (writer, events) = writer_and_events(&server, ledger);
        let bad = covered("Deployment", Verdict::Violating, Reason::KeyRevoked);
        let good = covered("Deployment", Verdict::Compliant, Reason::AllVerified);
        assert!(carried_out(&writer, bad).await.again.is_some());
        assert_eq!(carried_out(&writer, good).await.again, None);
        assert_eq!(
            told(&server, writer, events).await,
            ["BecameNonCompliant", "BecameCompliant"]
        );
    }
}
