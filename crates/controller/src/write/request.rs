//! Single requests to the API server, each only while this replica leads, and what their failures mean.

use std::sync::Arc;
use std::time::Duration;

use api::ImageCompliance;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions};
use kube::core::ClusterResourceScope;
use kube::core::request::Request;
use kube::{Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::jitter::chance;
use crate::lease::{Leadership, REQUEST_DEADLINE};
use crate::ledger::{Place, Stored};
use crate::metrics::{Metrics, WriteOutcome};

/// Waited where the API server asks for patience without saying how much, or for less.
const PATIENCE: Duration = Duration::from_secs(1);
/// The longest wait, however much patience the API server asks for: it may have been restarted since.
const LONGEST_PATIENCE: Duration = Duration::from_secs(30);
/// How soon a write comes again that met trouble.
const AFTER_TROUBLE: Duration = Duration::from_secs(2);
/// How often a write that met a change of somebody else is tried.
pub(super) const ATTEMPTS: u32 = 5;

/// Why a request did not do what it should.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    /// The object changed, exists already, or is gone: read it anew.
    #[error("the object is not as it was: {0}")]
    NotAsItWas(String),
    /// The namespace is gone or going: nothing can be written there.
    #[error("the namespace is gone or going")]
    NamespaceGone,
    /// The API server asks to wait.
    #[error("the API server asks to wait {0:?}")]
    Throttled(Duration),
    /// This operator lacks a right that `config/rbac` gives it.
    #[error("the API server forbids it: {0}; give the operator its rights: kubectl apply -k config/rbac")]
    Forbidden(String),
    /// The API server will never accept this object.
    #[error("the API server does not accept the object: {0}")]
    Invalid(String),
    /// Another replica leads.
    #[error("this replica does not lead")]
    NotLeading,
    /// The API server is not there, or has no time for anybody.
    #[error("the API server cannot be reached: {0}")]
    Away(String),
    /// Anything else that may pass by itself.
    #[error("the API server does not answer as it should: {0}")]
    Trouble(String),
}

impl Refused {
    /// How soon to try again, where it passes by itself.
    pub(crate) fn passes_within(&self) -> Option<Duration> {
        match self {
            Refused::Throttled(pause) => Some(*pause),
            Refused::NotAsItWas(_) | Refused::Away(_) | Refused::Trouble(_) => Some(AFTER_TROUBLE),
            Refused::NamespaceGone | Refused::Forbidden(_) | Refused::Invalid(_) | Refused::NotLeading => {
                None
            }
        }
    }

    /// Whether the API server may have done all the same what it was asked for.
    pub(crate) fn may_be_done(&self) -> bool {
        matches!(self, Refused::Away(_) | Refused::Trouble(_))
    }
}

/// Sends requests.
#[derive(Clone)]
pub(crate) struct Requests {
    pub(crate) client: Client,
    pub(crate) leadership: Leadership,
    pub(crate) metrics: Arc<Metrics>,
}

impl Requests {
    /// Creates the object, or replaces the one that is stored.
    pub(crate) async fn put(
        &self,
        place: &Place,
        stored: Option<&Stored>,
        status: api::ImageComplianceStatus,
        owners: &[OwnerReference],
    ) -> Result<ImageCompliance, Refused> {
        let object = ImageCompliance {
            metadata: ObjectMeta {
                namespace: Some(place.namespace.to_string()),
                name: Some(place.name.to_string()),
                uid: stored.map(|stored| stored.uid.to_string()),
                resource_version: stored.map(|stored| stored.resource_version.as_str().to_owned()),
                owner_references: Some(owners.to_vec()),
                ..ObjectMeta::default()
            },
            status,
        };
        let body = object.to_object().and_then(|object| serde_json::to_vec(&object));
        let body = body.map_err(|error| Refused::Invalid(error.to_string()))?;
        let resource = Request::new(ImageCompliance::url_path(&(), Some(&place.namespace)));
        let request = match stored {
            None => resource.create(&params(), body),
            Some(_) => resource.replace(&place.name, &params(), body),
        };
        let request = request.map_err(|error| Refused::Invalid(error.to_string()))?;
        let answer = self.guarded(self.client.request(request)).await;
        self.counted(ImageCompliance::KIND, WriteOutcome::Written, answer)
    }

    /// The object as it is now.
    pub(crate) async fn get(&self, place: &Place) -> Result<Option<ImageCompliance>, Refused> {
        let api: kube::Api<ImageCompliance> = kube::Api::namespaced(self.client.clone(), &place.namespace);
        self.guarded(api.get_opt(&place.name)).await
    }

    /// Deletes exactly the object that is stored.
    pub(crate) async fn delete(&self, place: &Place, stored: &Stored) -> Result<(), Refused> {
        let preconditions = Preconditions {
            uid: Some(stored.uid.to_string()),
            resource_version: Some(stored.resource_version.as_str().to_owned()),
        };
        let parameters = DeleteParams {
            preconditions: Some(preconditions),
            ..DeleteParams::default()
        };
        let api: kube::Api<ImageCompliance> = kube::Api::namespaced(self.client.clone(), &place.namespace);
        let answer = self.guarded(api.delete(&place.name, &parameters)).await.map(drop);
        self.counted(ImageCompliance::KIND, WriteOutcome::Deleted, answer)
    }

    /// Replaces the status of a cluster-scoped object that has a status subresource.
    pub(crate) async fn put_status<K: Resource<DynamicType = ()>>(
        &self,
        kind: &'static str,
        name: &str,
        version: &str,
        status: Value,
    ) -> Result<DynamicObject, Refused> {
        let object = json!({
            "apiVersion": K::api_version(&()),
            "kind": K::kind(&()),
            "metadata": {"name": name, "resourceVersion": version},
            "status": status,
        });
        let body = serde_json::to_vec(&object).map_err(|error| Refused::Invalid(error.to_string()))?;
        let resource = Request::new(K::url_path(&(), None));
        let request = resource
            .replace_subresource("status", name, &params(), body)
            .map_err(|error| Refused::Invalid(error.to_string()))?;
        let answer = self.guarded(self.client.request(request)).await;
        self.counted(kind, WriteOutcome::Written, answer)
    }

    /// A cluster-scoped object as it is now.
    pub(crate) async fn get_object<K: Resource<DynamicType = ()>>(
        &self,
        name: &str,
    ) -> Result<Option<DynamicObject>, Refused> {
        let resource = kube::api::ApiResource::erase::<K>(&());
        let api: kube::Api<DynamicObject> = kube::Api::all_with(self.client.clone(), &resource);
        self.guarded(api.get_opt(name)).await
    }

    /// Creates a cluster-scoped object.
    pub(crate) async fn create_object<K>(&self, kind: &'static str, object: &K) -> Result<(), Refused>
    where
        K: Resource<DynamicType = (), Scope = ClusterResourceScope>
            + Serialize
            + DeserializeOwned
            + Clone
            + std::fmt::Debug,
    {
        let api: kube::Api<K> = kube::Api::all(self.client.clone());
        let answer = self.guarded(api.create(&params(), object)).await.map(drop);
        self.counted(kind, WriteOutcome::Written, answer)
    }

    /// Changes fields of a cluster-scoped object; `patch` says of which version.
    pub(crate) async fn patch_object<K: Resource<DynamicType = ()>>(
        &self,
        kind: &'static str,
        name: &str,
        patch: &Value,
    ) -> Result<(), Refused> {
        let resource = kube::api::ApiResource::erase::<K>(&());
        let api: kube::Api<DynamicObject> = kube::Api::all_with(self.client.clone(), &resource);
        let parameters = PatchParams {
            field_manager: Some(api::FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let patch = Patch::Merge(patch);
        let request = api.patch(name, &parameters, &patch);
        let answer = self.guarded(request).await.map(drop);
        self.counted(kind, WriteOutcome::Written, answer)
    }

    /// Deletes a cluster-scoped object, and no other one of its name.
    pub(crate) async fn delete_object<K: Resource<DynamicType = ()>>(
        &self,
        kind: &'static str,
        name: &str,
        uid: &str,
    ) -> Result<(), Refused> {
        let resource = kube::api::ApiResource::erase::<K>(&());
        let api: kube::Api<DynamicObject> = kube::Api::all_with(self.client.clone(), &resource);
        let preconditions = Preconditions {
            uid: Some(uid.to_owned()),
            resource_version: None,
        };
        let parameters = DeleteParams {
            preconditions: Some(preconditions),
            ..DeleteParams::default()
        };
        let answer = self.guarded(api.delete(name, &parameters)).await.map(drop);
        self.counted(kind, WriteOutcome::Deleted, answer)
    }

    /// Creates an Event.
    pub(crate) async fn post_event(&self, namespace: &str, event: &Event) -> Result<(), Refused> {
        let api: kube::Api<Event> = kube::Api::namespaced(self.client.clone(), namespace);
        self.guarded(api.create(&PostParams::default(), event))
            .await
            .map(drop)
    }

    /// Runs a request while this replica leads and not longer than its leadership can be trusted.
    async fn guarded<T>(&self, request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, Refused> {
        if !self.leadership.leads() {
            return Err(Refused::NotLeading);
        }
        match tokio::time::timeout(REQUEST_DEADLINE, request).await {
            Ok(answer) => answer.map_err(|error| refusal(&error)),
            Err(_) => Err(Refused::Trouble("no answer in time".to_owned())),
        }
    }

    fn counted<T>(
        &self,
        kind: &'static str,
        done: WriteOutcome,
        answer: Result<T, Refused>,
    ) -> Result<T, Refused> {
        let outcome = match &answer {
            Ok(_) => done,
            Err(Refused::NotAsItWas(_)) => WriteOutcome::Conflict,
            Err(Refused::Throttled(_)) => WriteOutcome::Throttled,
            Err(Refused::NamespaceGone) => WriteOutcome::Dropped,
            Err(Refused::NotLeading) => return answer,
            Err(_) => WriteOutcome::Failed,
        };
        self.metrics.api_write(kind, outcome);
        answer
    }
}

fn params() -> PostParams {
    PostParams {
        field_manager: Some(api::FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    }
}

/// The attempts to write over an object that others change at the same time.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    failed: u32,
}

impl Attempts {
    /// Somebody else was faster. Returns when the object is to be read anew for the next attempt; an
    /// error where there were enough of them.
    pub(crate) async fn overtaken(&mut self) -> Result<(), Refused> {
        self.failed += 1;
        if self.failed >= ATTEMPTS {
            return Err(Refused::Trouble(
                "the object changes faster than it can be written".to_owned(),
            ));
        }
        tokio::time::sleep(pause_after(self.failed)).await;
        Ok(())
    }
}

/// Longer after each attempt, and never the same for two writers.
fn pause_after(failed: u32) -> Duration {
    Duration::from_millis(10 << failed.min(6)).mul_f64(0.5 + chance())
}

/// What a failed request means for a write.
fn refusal(error: &kube::Error) -> Refused {
    let status = match error {
        kube::Error::Api(status) => status,
        kube::Error::HyperError(_) | kube::Error::Service(_) => return Refused::Away(error.to_string()),
        _ => return Refused::Trouble(error.to_string()),
    };
    let details = status.details.as_ref();
    let is_about_namespaces = details.is_some_and(|details| details.kind == "namespaces");
    let namespace_ends = details.is_some_and(|details| {
        details
            .causes
            .iter()
            .any(|cause| cause.reason == "NamespaceTerminating")
    });
    match status.code {
        404 if is_about_namespaces => Refused::NamespaceGone,
        403 if namespace_ends => Refused::NamespaceGone,
        403 => Refused::Forbidden(status.message.clone()),
        404 | 409 | 410 => Refused::NotAsItWas(status.message.clone()),
        429 => {
            let seconds = details.map_or(0, |details| details.retry_after_seconds);
            Refused::Throttled(Duration::from_secs(seconds.into()).clamp(PATIENCE, LONGEST_PATIENCE))
        }
        400 | 413 | 422 => Refused::Invalid(status.message.clone()),
        code => {
            let answer = format!("{code} {}: {}", status.reason, status.message);
            match code {
                503 | 504 => Refused::Away(answer),
                _ => Refused::Trouble(answer),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: Value) -> Refused {
        refusal(&kube::Error::Api(serde_json::from_value(status).unwrap()))
    }

    #[test]
    fn a_conflict_an_existing_and_a_missing_object_are_read_anew() {
        for (code, reason) in [(409, "Conflict"), (409, "AlreadyExists"), (404, "NotFound")] {
            let refused = refused(json!({"code": code, "reason": reason, "message": "m"}));
            assert!(matches!(refused, Refused::NotAsItWas(_)), "{reason}");
        }
    }

    #[test]
    fn a_namespace_that_is_gone_or_going_is_told_from_a_missing_object_and_a_missing_permission() {
        let gone = json!({"code": 404, "reason": "NotFound", "details": {"kind": "namespaces", "name": "n"}});
        assert!(matches!(refused(gone), Refused::NamespaceGone));
        let going = json!({"code": 403, "reason": "Forbidden",
            "details": {"causes": [{"reason": "NamespaceTerminating", "message": "m"}]}});
        assert!(matches!(refused(going), Refused::NamespaceGone));
        let forbidden = json!({"code": 403, "reason": "Forbidden", "message": "no"});
        let refused = refused(forbidden);
        assert!(matches!(refused, Refused::Forbidden(_)));
        assert!(
            refused.to_string().contains("kubectl apply -k config/rbac"),
            "{refused}"
        );
    }

    #[test]
    fn the_api_server_says_how_long_to_wait() {
        let of = |details| refused(json!({"code": 429, "reason": "TooManyRequests", "details": details}));
        assert!(
            matches!(of(json!({"retryAfterSeconds": 7})), Refused::Throttled(pause) if pause.as_secs() == 7)
        );
        assert!(matches!(of(json!(null)), Refused::Throttled(pause) if pause == PATIENCE));
    }

    #[test]
    fn no_answer_makes_the_operator_wait_for_hours() {
        let details = json!({"retryAfterSeconds": i32::MAX});
        let refused = refused(json!({"code": 429, "reason": "TooManyRequests", "details": details}));
        assert!(
            matches!(refused, Refused::Throttled(pause) if pause == LONGEST_PATIENCE),
            "{refused}"
        );
    }

    #[tokio::test]
    async fn a_write_that_others_overtake_again_and_again_is_given_up() {
        let mut attempts = Attempts::default();
        for attempt in 1..ATTEMPTS {
            assert!(attempts.overtaken().await.is_ok(), "after attempt {attempt}");
        }
        assert!(matches!(attempts.overtaken().await, Err(Refused::Trouble(_))));
    }

    #[test]
    fn what_is_never_accepted_is_told_from_trouble_that_passes() {
        assert!(matches!(
            refused(json!({"code": 422, "reason": "Invalid"})),
            Refused::Invalid(_)
        ));
        assert!(matches!(refused(json!({"code": 503})), Refused::Away(_)));
        assert!(matches!(refused(json!({"code": 500})), Refused::Trouble(_)));
        assert!(matches!(refusal(&kube::Error::TlsRequired), Refused::Trouble(_)));
    }
}
