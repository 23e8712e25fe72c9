//! What a fleet is measured with: its API server, its registry, the keys and policies, and the operator.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use api::{ImagePolicy, SigningKey};
use futures::{StreamExt, TryStreamExt, stream};
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use testkit::{
    Audit, Cluster, ClusterOptions, Lifetime, OPERATOR_ACCOUNT, OPERATOR_NAMESPACE, Operator, OperatorSpec,
};

use super::spec::{FleetSpec, REGISTRY, registry_host};
use super::{Pace, generate};
use crate::Failed;
use crate::process::Process;
use crate::stand_in::{self, StandIn};

/// The operator's user, as audit logs name it.
const USER: &str = "system:serviceaccount:assay-system:assay";
/// Keys and policies besides those that the fleet rests on: 100 and 200 in all.
const OTHER_KEYS: usize = 98;
const OTHER_POLICIES: usize = 199;
/// The key that the fleet rests on and that is edited.
pub(super) const KEY: &str = "release";
/// The policy that covers the fleet.
const POLICY: &str = "fleet";
/// The operator is ready by then, on any machine.
const READY_WITHIN: Duration = Duration::from_secs(900);

/// A fleet that is up.
pub(super) struct Scene {
    /// Gone when this is dropped.
    folder: tempfile::TempDir,
    pub(super) cluster: Cluster,
    pub(super) client: Client,
    pub(super) registry: StandIn,
    kubeconfig: PathBuf,
    pub(super) spec: FleetSpec,
}

impl Scene {
    /// Starts everything but the operator. Every image is looked up once in this interval.
    pub(super) async fn start(spec: FleetSpec, interval: Duration) -> Result<Scene, Failed> {
        let kept = generate::kept(spec).await?;
        let failed = |why: &dyn std::fmt::Display| Failed::new("start a fleet", why);
        let folder = tempfile::tempdir().map_err(|error| failed(&error))?;
        let data = folder.path().join("etcd");
        generate::copy(&kept, &data)?;
        let options = ClusterOptions {
            controller_manager: false,
            audit: Audit::Writes,
            etcd_data: Some(data),
            ..ClusterOptions::default()
        };
        let cluster = Cluster::start(folder.path().join("cluster"), options)
            .await
            .map_err(|error| failed(&error))?;
        cluster.install_kinds().await.map_err(|error| failed(&error))?;
        cluster
            .kubectl(&["apply", "-k", "config/rbac"])
            .await
            .map_err(|error| failed(&error))?;
        let kubeconfig = cluster
            .kubeconfig_for_service_account(OPERATOR_NAMESPACE, OPERATOR_ACCOUNT)
            .await
            .map_err(|error| failed(&error))?;
        let (address, port) = REGISTRY;
        let registry = StandIn::start_at(spec.workloads, address, port).await?;
        let scene = Scene {
            client: cluster.admin_client().await.map_err(|error| failed(&error))?,
            folder,
            cluster,
            registry,
            kubeconfig,
            spec,
        };
        scene.trust(interval).await?;
        Ok(scene)
    }

    /// Keys and policies: two keys and one policy that every image rests on, and many that concern none.
    async fn trust(&self, interval: Duration) -> Result<(), Failed> {
        let mut keys: Vec<Value> = [KEY, "security"]
            .iter()
            .zip(&self.registry.keys)
            .map(|(ring, pem)| key(ring, ring, pem))
            .collect();
        for number in 0..OTHER_KEYS {
            keys.push(key(
                &format!("other-{number:03}"),
                "other",
                &stand_in::another_key()?,
            ));
        }
        let host = registry_host();
        let mut policies = vec![policy(
            POLICY,
            &format!("{host}/fleet/**"),
            &[KEY, "security"],
            interval,
        )];
        policies.extend((0..OTHER_POLICIES).map(|number| {
            let name = format!("other-{number:03}");
            let images = format!("{host}/other-{number}/**");
            policy(&name, &images, &["other"], interval)
        }));
        create_all::<SigningKey>(&self.client, keys).await?;
        create_all::<ImagePolicy>(&self.client, policies).await
    }

    /// Starts the operator on the data folder that it had before, if there was one.
    pub(super) fn operator(&self, pace: Pace, further: &[String]) -> Result<Running, Failed> {
        let mut arguments = vec!["--insecure-registry".to_owned(), registry_host()];
        if pace == Pace::Raised {
            arguments.extend([
                "--writes-per-second=2000".to_owned(),
                "--writes-burst=20000".to_owned(),
            ]);
        }
        arguments.extend_from_slice(further);
        let failed = |why: &dyn std::fmt::Display| Failed::new("start the operator", why);
        let operator = Operator::start(OperatorSpec {
            program: testkit::workspace_binary("assay-cli", "assay").map_err(|error| failed(&error))?,
            folder: self.folder.path().join("operator"),
            kubeconfig: self.kubeconfig.clone(),
            arguments,
            lifetime: Lifetime::Supervised,
        });
        let operator = operator.map_err(|error| failed(&error))?;
        let pid = operator
            .server
            .pid()
            .ok_or_else(|| failed(&"it has no process"))?;
        Ok(Running {
            operator,
            process: Process::of(pid),
        })
    }

    /// Writes of the operator so far: statuses and what else a user sees, and Events.
    pub(super) fn writes(&self) -> Result<Writes, Failed> {
        let all = self
            .cluster
            .writes_by(USER)
            .map_err(|error| Failed::new("read the audit log", error))?;
        let events = all.iter().filter(|write| write.resource == "events").count();
        let leases = all.iter().filter(|write| write.resource == "leases").count();
        Ok(Writes {
            statuses: all.len() - events - leases,
            events,
        })
    }

    /// From now on images are looked up in this interval.
    pub(super) async fn set_interval(&self, interval: Duration) -> Result<(), Failed> {
        let policies: Api<ImagePolicy> = Api::all(self.client.clone());
        let patch = Patch::Merge(json!({"spec": {"recheck": {"interval": seconds(interval)}}}));
        policies
            .patch(POLICY, &PatchParams::default(), &patch)
            .await
            .map(drop)
            .map_err(|error| Failed::new("edit a policy", error))
    }

    /// Puts the key that the fleet rests on into another stage.
    pub(super) async fn set_stage(&self, stage: &str) -> Result<(), Failed> {
        let keys: Api<SigningKey> = Api::all(self.client.clone());
        let patch = Patch::Merge(json!({"spec": {"stage": stage}}));
        keys.patch(KEY, &PatchParams::default(), &patch)
            .await
            .map(drop)
            .map_err(|error| Failed::new("edit a key", error))
    }
}

/// Writes to the API server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Writes {
    pub(super) statuses: usize,
    pub(super) events: usize,
}

/// An operator that runs.
pub(super) struct Running {
    pub(super) operator: Operator,
    pub(super) process: Process,
}

impl Running {
    pub(super) fn cpu(&self) -> Result<Duration, Failed> {
        self.process
            .cpu()
            .ok_or_else(|| Failed::new("read the operator's CPU time", self.operator.server.log_tail()))
    }

    /// Waits until everything that existed at the start is taken in.
    pub(super) async fn until_ready(&self) -> Result<(), Failed> {
        self.operator
            .until_ready(READY_WITHIN)
            .await
            .map_err(|error| Failed::new("wait for the operator", error))
    }

    /// Every metric by its name and labels, as it is printed. The operator counts its workloads for that.
    pub(super) async fn metrics(&self) -> Result<HashMap<String, f64>, Failed> {
        let (_, page) = self
            .operator
            .get("/metrics")
            .await
            .map_err(|error| Failed::new("read the operator's metrics", error))?;
        let lines = page.lines().filter_map(|line| line.rsplit_once(' '));
        Ok(lines
            .filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)))
            .collect())
    }

    pub(super) fn end(self) -> Result<(), Failed> {
        self.operator
            .server
            .stop()
            .map(drop)
            .map_err(|error| Failed::new("end the operator", error))
    }
}

fn key(name: &str, ring: &str, pem: &str) -> Value {
    json!({"apiVersion": "assay.dev/v1alpha1", "kind": "SigningKey", "metadata": {"name": name},
           "spec": {"keyRing": ring, "stage": "Active", "publicKey": {"pem": pem}}})
}

fn policy(name: &str, images: &str, rings: &[&str], interval: Duration) -> Value {
    json!({"apiVersion": "assay.dev/v1alpha1", "kind": "ImagePolicy", "metadata": {"name": name},
           "spec": {"mode": "Enforce", "match": {"images": [images]},
                    "require": [{"name": "signed", "signature": {"signedBy": rings, "minimum": rings.len()}}],
                    "recheck": {"interval": seconds(interval)}}})
}

/// As policies write a duration: at most five digits.
fn seconds(duration: Duration) -> String {
    format!("{}s", duration.as_secs())
}

async fn create_all<K>(client: &Client, objects: Vec<Value>) -> Result<(), Failed>
where
    K: Resource<DynamicType = ()> + Serialize + DeserializeOwned + Clone + std::fmt::Debug,
{
    let api: Api<K> = Api::all(client.clone());
    let failed = |why: &dyn std::fmt::Display| Failed::new("create keys and policies", why);
    stream::iter(objects)
        .map(|object| {
            let api = api.clone();
            async move {
                let object: K = serde_json::from_value(object).map_err(|error| failed(&error))?;
                api.create(&PostParams::default(), &object)
                    .await
                    .map(drop)
                    .map_err(|error| failed(&error))
            }
        })
        .buffer_unordered(8)
        .try_collect()
        .await
}
