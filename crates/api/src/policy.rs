//! ImagePolicy: which images must carry which evidence.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::reason::Reason;
use crate::requirement::Requirement;
use crate::{schema, schema_sources};

/// The annotation of an ImagePolicy by which somebody asks that everything that it covers be looked at now: a time in RFC
/// 3339.
pub const RECHECK_REQUESTED_AT: &str = "assay.dev/recheck-requested-at";

/// Which images must carry which evidence.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "assay.dev",
    version = "v1alpha1",
    kind = "ImagePolicy",
    plural = "imagepolicies",
    shortname = "ipol",
    category = "assay",
    status = "ImagePolicyStatus",
    derive = "PartialEq",
    doc = "Which running images must carry which evidence. Several policies on one image must all hold; an image that no policy matches is NotCovered.",
    validation = Rule::new("!has(self.spec.supersedes) || self.spec.supersedes != self.metadata.name")
        .message("spec.supersedes must name another policy"),
    printcolumn(name = "Mode", type_ = "string", json_path = ".spec.mode"),
    printcolumn(
        name = "Enforced",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Enforced\")].status"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(name = "Workloads", type_ = "integer", json_path = ".status.workloads"),
    printcolumn(name = "Compliant", type_ = "integer", json_path = ".status.compliant"),
    printcolumn(name = "Violating", type_ = "integer", json_path = ".status.violating"),
    printcolumn(name = "Unknown", type_ = "integer", json_path = ".status.unknown"),
    printcolumn(
        name = "Excepted",
        type_ = "integer",
        json_path = ".status.excepted",
        priority = "1"
    ),
    printcolumn(
        name = "Newly-Failing",
        type_ = "integer",
        json_path = ".status.comparison.newlyFailingTotal",
        priority = "1"
    ),
    printcolumn(
        name = "Newly-Passing",
        type_ = "integer",
        json_path = ".status.comparison.newlyPassingTotal",
        priority = "1"
    ),
    printcolumn(
        name = "Newly-Unknown",
        type_ = "integer",
        json_path = ".status.comparison.newlyUnknownTotal",
        priority = "1"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct ImagePolicySpec {
    /// What the policy is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub description: Option<String>,
    /// What the owner of a violating workload should do; it ends every message about a violation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub remediation: Option<String>,
    /// DryRun counts apart and blocks nothing; Warn and Enforce count into `Compliant`.
    #[serde(default)]
    #[schemars(schema_with = "schema::mode_defaulting_to_dry_run")]
    pub mode: Mode,
    /// Which images of which namespaces; all given parts must match.
    #[serde(rename = "match")]
    pub match_: Match,
    /// What must hold: every entry, each of exactly one kind.
    #[schemars(length(min = 1, max = 32), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub require: Vec<Requirement>,
    /// How indexes (multi-arch images) and their platform manifests vouch for each other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub multi_arch: Option<MultiArch>,
    /// The workload must name the image by digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub require_digest: Option<bool>,
    /// Accept only signatures whose payload names this repository (tag format only; bundles name none).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bind_repository: Option<bool>,
    /// When the registry is asked again. Keys, policies and deadlines act at once whatever this says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recheck: Option<Recheck>,
    /// How long before a verdict gets worse by itself this is told, by an Event and a metric; 72h if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::duration")]
    pub warn_before: Option<String>,
    /// What an admission check in mode Enforce would do where a registry does not answer or limits requests: Deny or Admit; Deny if not given. Admit covers RegistryUnavailable and RateLimited only, and makes nothing Compliant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::not_null::<OnUnknown>")]
    pub on_unknown: Option<OnUnknown>,
    /// The policy that this one is to take the place of, by name: the status says which results would fail or pass then. Nothing else follows from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema_sources::object_name")]
    pub supersedes: Option<String>,
}

/// What a policy does about what it finds.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum Mode {
    /// Judge and show apart; count into nothing.
    #[default]
    DryRun,
    /// Judge and count; a webhook warns.
    Warn,
    /// Judge and count; a webhook refuses.
    Enforce,
    /// A mode of a newer version.
    #[serde(other)]
    #[schemars(skip)]
    Other,
}

impl Mode {
    /// As it is written in the object.
    pub fn as_str(self) -> &'static str {
        match self {
            Mode::DryRun => "DryRun",
            Mode::Warn => "Warn",
            Mode::Enforce => "Enforce",
            Mode::Other => "Other",
        }
    }
}

/// What an admission check in mode Enforce would do where a registry does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnUnknown {
    /// Refuse.
    Deny,
    /// Let it start: what only a registry keeps from being told, and nothing else.
    Admit,
    /// A value of a newer version.
    #[serde(other)]
    #[schemars(skip)]
    Other,
}

/// Which images of which namespaces a policy covers; all given parts must match.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Match {
    /// Globs on the normalised repository of the pod's spec: `*` stops at `/`, `**` crosses it. A tag or a digest never matters.
    #[schemars(schema_with = "schema::repository_globs_required")]
    pub images: Vec<String>,
    /// Repositories that the policy leaves out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::repository_globs")]
    pub exclude_images: Vec<String>,
    /// Names or globs of namespaces; empty means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::namespace_globs")]
    pub namespaces: Vec<String>,
    /// Names or globs of namespaces that the policy leaves out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::namespace_globs")]
    pub exclude_namespaces: Vec<String>,
    /// Namespaces by their labels. Whoever may label namespaces may choose; leaving coverage that way is reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::label_selector")]
    pub namespace_selector: Option<LabelSelector>,
}

/// How indexes and their platform manifests vouch for each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MultiArch {
    /// IndexOrPlatform: a signature of the index that was named, or of the manifest that runs. Platform: of the manifest that runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::not_null::<RunsAs>")]
    pub accept: Option<RunsAs>,
    /// Let attestations of an index count for a platform manifest that it lists; false if not given. What is said of an index is seldom said of each manifest in it: a scan looks at one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accept_index_attestations: Option<bool>,
}

/// Whose signature counts for a platform manifest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RunsAs {
    /// The index that lists it, or its own.
    #[default]
    IndexOrPlatform,
    /// Its own only.
    Platform,
    /// A value of a newer version.
    #[serde(other)]
    #[schemars(skip)]
    Other,
}

/// When the registry is asked again.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!(has(self.interval) && has(self.schedule))")
        .message("spec.recheck takes interval or schedule, not both"),
    validation = Rule::new("!has(self.timeZone) || has(self.schedule)")
        .message("spec.recheck.timeZone belongs to schedule: set spec.recheck.schedule or leave timeZone out")
)]
pub struct Recheck {
    /// Every image once in this time; 6h if neither this nor a schedule is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::duration")]
    pub interval: Option<String>,
    /// A cron expression of five fields: minute, hour, day of month, month, day of week.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::cron")]
    pub schedule: Option<String>,
    /// The IANA time zone of the schedule; UTC if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::time_zone")]
    pub time_zone: Option<String>,
    /// How long a Compliant verdict is kept while it cannot be refreshed; 72h if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::duration")]
    pub max_staleness: Option<String>,
}

/// What the operator says of a policy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImagePolicyStatus {
    /// The generation of the spec this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The last version of the spec that could be evaluated; it is the one that decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_force: Option<InForce>,
    /// Running images (digests) that the policy covers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images: Option<i64>,
    /// Top-level workloads that the policy covers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workloads: Option<i64>,
    /// Workloads of which every covered image is Compliant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compliant: Option<i64>,
    /// Those of them of which an image is passed without evidence, by a requirement of kind trusted; absent where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trusted: Option<i64>,
    /// Workloads with a Violating image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub violating: Option<i64>,
    /// Workloads with an Unknown image and no Violating one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unknown: Option<i64>,
    /// Workloads with an image that passes only by an ImageException, and no Violating or Unknown one; absent where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub excepted: Option<i64>,
    /// Up to 20 violations, in order of namespace, workload and digest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub violations: Vec<PolicyViolation>,
    /// All violations (workload and digest).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub violations_total: Option<i64>,
    /// The next time at which a verdict of this policy changes by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_deadline: Option<Time>,
    /// ImageCompliances of the whole cluster that were still to be written then; left out where there were none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending_status_writes: Option<i64>,
    /// What is different from the policy that this one supersedes; absent where it names none or one that does not exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comparison: Option<Comparison>,
    /// Ready, Enforced, and Compared where it supersedes a policy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// What is different from another policy, over all images that either covers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Comparison {
    /// The other policy.
    pub policy: String,
    /// Results that violate this policy and do not violate the other one.
    pub newly_failing_total: i64,
    /// Results that violate the other policy and are known not to violate this one.
    pub newly_passing_total: i64,
    /// Results that cannot be told by this policy, and can be told by the other one or are none of its.
    #[serde(default)]
    pub newly_unknown_total: i64,
    /// Results that cannot be told by this policy.
    pub unknown: i64,
    /// The first 20 that fail newly, in order of namespace, workload and image, with this policy's reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub newly_failing: Vec<PolicyViolation>,
    /// The first 20 that pass newly, in the same order, with this policy's reason: AllVerified, NotCovered, or what else makes them pass.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub newly_passing: Vec<PolicyViolation>,
    /// The first 20 that are newly unknown, in the same order, with this policy's reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub newly_unknown: Vec<PolicyViolation>,
}

/// The version of a policy that decides.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InForce {
    /// Its `metadata.generation`.
    pub generation: i64,
    /// Its spec.
    #[schemars(schema_with = "schema::any_object")]
    pub spec: ImagePolicySpec,
}

/// One violation of a policy.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicyViolation {
    /// The namespace of the workload.
    pub namespace: String,
    /// Its kind and name, as `Deployment/web`.
    pub workload: String,
    /// The image as the workload names it.
    pub image: String,
    /// The digest that runs; empty where it cannot be told.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub digest: String,
    /// Why.
    pub reason: Reason,
}
