//! Writes the statuses of policies and keys: what a user waits for at once, mere counts not too often.

use std::time::{Duration, Instant};

use api::{ImagePolicy, ImagePolicyStatus, SigningKey, SigningKeyStatus};
use engine::{KeyReport, PolicyReport};
use jiff::Timestamp;
use kube::Resource;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::request::{Attempts, Refused};
use super::{Requeue, Writer, news, now, statuses};
use crate::events::Note;
use crate::notify::CloudEvent;
use crate::objects::{Objects, Row};

/// Mere counts of one object are not written more often.
const COUNTS_EVERY: Duration = Duration::from_secs(30);

/// A report that becomes the status of an object.
pub(crate) trait Report: Send + Sync {
    type Object: Resource<DynamicType = ()>;
    type Status: Clone + PartialEq + Default + Serialize + DeserializeOwned + Send + Sync;

    /// The kind, for metrics and logs.
    const KIND: &'static str;

    fn name(&self) -> &str;
    fn status(&self, before: &Self::Status, now: Timestamp) -> Self::Status;
    /// Whether two statuses differ in mere counts only.
    fn only_counts(old: &Self::Status, new: &Self::Status) -> bool;
    /// What the change tells on the object itself.
    fn news(&self, uid: &str, old: &Self::Status, new: &Self::Status) -> Option<Note>;
}

impl Report for PolicyReport {
    type Object = ImagePolicy;
    type Status = ImagePolicyStatus;
    const KIND: &'static str = "ImagePolicy";

    fn name(&self) -> &str {
        &self.name
    }
    fn status(&self, before: &ImagePolicyStatus, now: Timestamp) -> ImagePolicyStatus {
        statuses::policy(self, before, now)
    }
    fn only_counts(old: &ImagePolicyStatus, new: &ImagePolicyStatus) -> bool {
        statuses::policies_differ_in_counts_only(old, new)
    }
    fn news(&self, uid: &str, old: &ImagePolicyStatus, new: &ImagePolicyStatus) -> Option<Note> {
        let (old, new) = (
            old.in_force.as_ref()?.generation,
            new.in_force.as_ref()?.generation,
        );
        (old != new).then(|| news::policy_changed(&self.name, uid.to_owned(), old, new))
    }
}

impl Report for KeyReport {
    type Object = SigningKey;
    type Status = SigningKeyStatus;
    const KIND: &'static str = "SigningKey";

    fn name(&self) -> &str {
        &self.name
    }
    fn status(&self, before: &SigningKeyStatus, now: Timestamp) -> SigningKeyStatus {
        statuses::key(self, before, now)
    }
    fn only_counts(old: &SigningKeyStatus, new: &SigningKeyStatus) -> bool {
        statuses::keys_differ_in_counts_only(old, new)
    }
    fn news(&self, uid: &str, old: &SigningKeyStatus, new: &SigningKeyStatus) -> Option<Note> {
        let (old, new) = (old.effective_stage?, new.effective_stage?);
        let tell = || {
            news::key_stage_changed(
                &self.name,
                uid.to_owned(),
                old.as_str(),
                new.as_str(),
                self.generation,
            )
        };
        (old != new).then(tell)
    }
}

/// What to do about a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    Nothing,
    Later(Duration),
    Write,
}

/// Decides whether a status is worth a write now.
pub(crate) fn decide<R: Report>(
    report: &R,
    row: &Row<R::Status>,
    now: Timestamp,
    clock: Instant,
) -> Decision {
    let status = report.status(&row.status, now);
    if status == row.status {
        return Decision::Nothing;
    }
    if !R::only_counts(&row.status, &status) {
        return Decision::Write;
    }
    let rest = row
        .written
        .map(|written| COUNTS_EVERY.saturating_sub(clock.duration_since(written)));
    match rest {
        Some(rest) if !rest.is_zero() => Decision::Later(rest),
        _ => Decision::Write,
    }
}

impl Writer {
    /// Writes the status of the report's object.
    pub(crate) async fn write_status<R: Report>(
        &self,
        report: &R,
        objects: &Objects<R::Status>,
        row: Row<R::Status>,
    ) -> Requeue {
        match self.put_status(report, objects, row).await {
            Ok(row) => Requeue::after(objects.end(report.name(), row), None),
            Err(refused) => {
                let again = self.again_after(&refused, || format!("{}/{}", R::KIND, report.name()));
                Requeue::after(objects.end(report.name(), None), again)
            }
        }
    }

    /// The object as the API server holds it afterwards; None where it is gone.
    async fn put_status<R: Report>(
        &self,
        report: &R,
        objects: &Objects<R::Status>,
        mut row: Row<R::Status>,
    ) -> Result<Option<Row<R::Status>>, Refused> {
        let mut attempts = Attempts::default();
        loop {
            let status = report.status(&row.status, now());
            if status == row.status {
                return Ok(Some(row));
            }
            let value = serde_json::to_value(&status).map_err(|error| Refused::Invalid(error.to_string()))?;
            let put = self
                .requests
                .put_status::<R::Object>(R::KIND, report.name(), row.resource_version.as_str(), value)
                .await;
            let note = report.news(&row.uid, &row.status, &status);
            match put {
                Ok(object) => {
                    self.tell_of_object(note);
                    return Ok(Some(Row::of(&object).written_at(Instant::now())));
                }
                Err(Refused::NotAsItWas(_)) => {
                    attempts.overtaken().await?;
                    let Some(object) = self.requests.get_object::<R::Object>(report.name()).await? else {
                        return Ok(None);
                    };
                    // Whatever stands between may have sent the write twice; then this was the answer to the second one.
                    let mut unanswered = row.unanswered;
                    if let Some(note) = note {
                        unanswered.push(status, note);
                    }
                    row = Row::of(&object);
                    row.unanswered = unanswered;
                    self.tell_of_object(row.heard());
                }
                Err(refused) => {
                    if let Some(note) = note.filter(|_| refused.may_be_done()) {
                        objects.had_no_answer(report.name(), &row.uid, status, note);
                    }
                    return Err(refused);
                }
            }
        }
    }

    pub(super) fn tell_of_object(&self, note: Option<Note>) {
        if let Some(note) = note {
            let time = now().to_string();
            self.notifications.tell(|| CloudEvent::of_object(&note, &time));
            self.events.tell(note);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Ledger;
    use crate::testing::{ApiServer, time, writer_and_events};
    use api::{SoleTrust, Stage};
    use axum::http::Method;
    use engine::KeyIdentity;
    use serde_json::json;
    use std::sync::Mutex;

    fn report() -> KeyReport {
        KeyReport {
            name: "release-1".into(),
            generation: 2,
            identity: Ok(KeyIdentity {
                fingerprint: "ab".into(),
                algorithm: "ECDSA-P256".into(),
            }),
            effective_stage: Some(Stage::Active),
            transparency_log: Some(api::Demand::Ignore),
            expires: None,
            images: 5,
            sole_trust: SoleTrust::default(),
            undecided: 0,
            revocation_missing: None,
            pending_status_writes: 0,
        }
    }

    fn row(status: SigningKeyStatus) -> Row<SigningKeyStatus> {
        let object = json!({
            "apiVersion": "assay.dev/v1alpha1", "kind": "SigningKey",
            "metadata": {"name": "release-1", "uid": "k", "generation": 2, "resourceVersion": "1"},
            "status": status,
        });
        Row::of(&serde_json::from_value(object).unwrap())
    }

    #[test]
    fn counts_wait_and_everything_else_does_not() {
        let clock = Instant::now();
        let written = row(report().status(&SigningKeyStatus::default(), time(0))).written_at(clock);
        let decide = |report: KeyReport, after| {
            super::decide(&report, &written, time(60), clock + Duration::from_secs(after))
        };
        assert_eq!(decide(report(), 5), Decision::Nothing);
        let counted = || KeyReport {
            images: 6,
            ..report()
        };
        assert_eq!(decide(counted(), 5), Decision::Later(Duration::from_secs(25)));
        assert_eq!(decide(counted(), 30), Decision::Write);
        let revoked = KeyReport {
            effective_stage: Some(Stage::Revoked),
            ..report()
        };
        assert_eq!(decide(revoked, 5), Decision::Write);
    }

    /// An answer that says nothing, and one to a write that came there twice. Weakened once: with a row that is
    /// read anew without what was written, nothing is told.
    #[tokio::test]
    async fn a_stage_that_was_written_without_an_answer_is_told_once_when_it_shows() {
        for (first, ends) in [(504, [true, false]), (409, [false, false])] {
            let shelf = Mutex::new(None);
            let server = ApiServer::start(move |asked| {
                let mut shelf = shelf.lock().unwrap();
                let refusal = |code: u16| (code, json!({"code": code, "reason": "R", "message": "m"}));
                match (&asked.method, &*shelf) {
                    (&Method::GET, Some(status)) => (
                        200,
                        json!({"apiVersion": "assay.dev/v1alpha1", "kind": "SigningKey", "status": status,
                            "metadata": {"name": "release-1", "uid": "k", "generation": 2, "resourceVersion": "2"}}),
                    ),
                    (&Method::PUT, None) => {
                        *shelf = Some(asked.body["status"].clone());
                        refusal(first)
                    }
                    (&Method::PUT, Some(_)) => refusal(409),
                    _ => (201, asked.body.clone()),
                }
            });
            let (writer, events) = writer_and_events(&server, Ledger::default());
            let before = row(report().status(&SigningKeyStatus::default(), time(0)));
            writer.keys.seen(&"release-1".into(), before);
            let revoked = KeyReport {
                effective_stage: Some(Stage::Revoked),
                ..report()
            };
            for again in ends {
                let Ok(row) = writer.plan_status(&revoked, &writer.keys) else {
                    assert!(!again, "{first}");
                    continue;
                };
                let ended = writer.write_status(&revoked, &writer.keys, *row).await;
                assert_eq!(ended.again.is_some(), again, "{first}");
            }
            drop(writer);
            events.run(std::future::pending()).await;
            let requests = server.requests().into_iter();
            let told: Vec<_> = requests.filter(|asked| asked.method == Method::POST).collect();
            assert_eq!(told.len(), 1, "{first}: {told:?}");
            assert_eq!(told[0].body["reason"], "KeyStageChanged");
        }
    }

    #[test]
    fn the_first_status_is_written_at_once() {
        let fresh = row(SigningKeyStatus::default());
        assert_eq!(
            decide(&report(), &fresh, time(0), Instant::now()),
            Decision::Write
        );
    }

    #[test]
    fn a_change_of_the_stage_that_counts_is_news_and_its_first_appearance_is_not() {
        let status = |stage| SigningKeyStatus {
            effective_stage: stage,
            ..SigningKeyStatus::default()
        };
        let news = |old, new| report().news("k", &status(old), &status(new));
        assert_eq!(news(None, Some(Stage::Active)), None);
        assert_eq!(news(Some(Stage::Active), Some(Stage::Active)), None);
        let note = news(Some(Stage::Active), Some(Stage::Revoked)).unwrap();
        assert_eq!((note.reason, note.warning), ("KeyStageChanged", true));
    }
}
