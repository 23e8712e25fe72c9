//! What the operator costs on a real API server: `make measure`, or
//! `cargo run -p assay-testkit --example measure -- [WORKLOADS] [PODS_PER_WORKLOAD]`.
//!
//! Every workload is a Deployment with an image of its own, signed by one key. Prints, for the first
//! scan, an unchanged second scan and the revocation of the key: seconds, registry requests (from the
//! registry's own log), API writes (from the API server's audit log) and the operator's memory.
//! The images are signed by the test kit's bulk signer, a stand-in for cosign at this size.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use api::{ImageCompliance, Reason};
use assay_testkit::{
    Audit, BulkSigner, Cluster, ClusterOptions, Cosign, CosignVersion, Lifetime, NodeOptions, NodeSimulator,
    OPERATOR_NAMESPACE, Operator, OperatorSpec, Registry, Result, eventually, run_folder, workspace_binary,
};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams};
use serde_json::{Value, json};

/// The user that the operator calls itself, so that its writes can be told from others'.
const OPERATOR: &str = "assay-operator";
/// The policy's interval, and so the length of a second scan.
const INTERVAL: Duration = Duration::from_secs(60);
/// The reason that every ImageCompliance gives in the end.
const HOLDS: Reason = Reason::AllVerified;

#[tokio::main]
async fn main() -> Result<()> {
    let mut numbers = std::env::args()
        .skip(1)
        .filter_map(|argument| argument.parse::<usize>().ok());
    let (workloads, pods) = (numbers.next().unwrap_or(200), numbers.next().unwrap_or(10));
    let fleet = Fleet::start(workloads, pods).await?;
    println!(
        "{workloads} workloads, {} pods, {workloads} images, one signature each",
        workloads * pods
    );
    println!(
        "{:<26}{:>10}{:>12}{:>12}{:>12}{:>10}",
        "", "seconds", "requests", "statuses", "events", "RSS MiB"
    );
    let operator = fleet.start_operator()?;
    fleet.first_scan(&operator).await?;
    fleet.second_scan(&operator).await?;
    fleet.revocation(&operator).await
}

struct Fleet {
    workloads: usize,
    registry: Registry,
    cluster: Cluster,
    _nodes: NodeSimulator,
    answers: Api<ImageCompliance>,
    folder: std::path::PathBuf,
}

/// Where the counting stands.
struct Mark {
    began: Instant,
    log: assay_testkit::LogPosition,
    writes: usize,
}

impl Fleet {
    async fn start(workloads: usize, pods: usize) -> Result<Fleet> {
        let folder = run_folder()?;
        let registry = Registry::distribution(folder.join("registry")).await?;
        let options = ClusterOptions {
            audit: Audit::Writes,
            ..ClusterOptions::default()
        };
        let cluster = Cluster::start(folder.join("cluster"), options).await?;
        let nodes = NodeSimulator::start(
            &cluster,
            NodeOptions {
                nodes: 10,
                ..NodeOptions::default()
            },
        )
        .await?;
        cluster.install_kinds().await?;
        cluster
            .kubectl(&["create", "namespace", OPERATOR_NAMESPACE])
            .await?;
        let cosign = Cosign::new(CosignVersion::V3, folder.join("home"))?;
        let key = cosign.generate_key_pair("release-2026").await?;
        let signer = BulkSigner::new(&key)?;
        futures::stream::iter(0..workloads)
            .map(|number| deploy(&cluster, &registry, &signer, number, pods))
            .buffer_unordered(16)
            .try_collect::<Vec<_>>()
            .await?;
        cluster
            .apply(&trust(&registry, &key.public_pem()?).to_string())
            .await?;
        let client = cluster.admin_client().await?;
        all_run(Api::namespaced(client.clone(), "default"), workloads * pods).await?;
        Ok(Fleet {
            workloads,
            registry,
            _nodes: nodes,
            answers: Api::namespaced(client, "default"),
            cluster,
            folder,
        })
    }

    fn start_operator(&self) -> Result<Operator> {
        let kubeconfig = self
            .cluster
            .kubeconfig_for_user(OPERATOR, Some("system:masters"))?;
        Operator::start(OperatorSpec {
            program: workspace_binary("assay-cli", "assay")?,
            folder: self.folder.join("operator"),
            kubeconfig,
            arguments: vec!["--insecure-registry".to_owned(), self.registry.host()],
            lifetime: Lifetime::Supervised,
        })
    }

    async fn first_scan(&self, operator: &Operator) -> Result<()> {
        let mark = self.mark()?;
        self.all_say(HOLDS, Duration::from_secs(120)).await?;
        // Totals of policies and keys follow within their own pace.
        tokio::time::sleep(Duration::from_secs(5)).await;
        self.report(
            "first scan",
            mark.began.elapsed() - Duration::from_secs(5),
            &mark,
            operator,
        )
    }

    async fn second_scan(&self, operator: &Operator) -> Result<()> {
        // Totals are written at most every 30 s: let what the first scan left be over.
        tokio::time::sleep(Duration::from_secs(35)).await;
        let mark = self.mark()?;
        tokio::time::sleep(INTERVAL).await;
        self.report("unchanged second scan", mark.began.elapsed(), &mark, operator)
    }

    async fn revocation(&self, operator: &Operator) -> Result<()> {
        let mark = self.mark()?;
        let patch = r#"{"spec":{"stage":"Revoked"}}"#;
        self.cluster
            .kubectl(&["patch", "signingkey", "release-2026", "--type=merge", "-p", patch])
            .await?;
        let mut latencies = Vec::new();
        let mut seen = BTreeSet::new();
        eventually(
            "every ImageCompliance to say KeyRevoked",
            Duration::from_secs(60),
            async || {
                let list = self
                    .answers
                    .list(&ListParams::default())
                    .await
                    .map_err(|error| error.to_string())?;
                let now = mark.began.elapsed();
                for answer in list
                    .items
                    .iter()
                    .filter(|answer| says(answer, Reason::KeyRevoked))
                {
                    if seen.insert(answer.metadata.name.clone()) {
                        latencies.push(now);
                    }
                }
                if seen.len() >= self.workloads {
                    Ok(())
                } else {
                    Err(format!("{} of {}", seen.len(), self.workloads))
                }
            },
        )
        .await?;
        self.report("key revoked", mark.began.elapsed(), &mark, operator)?;
        latencies.sort();
        let at = |share: usize| {
            latencies
                .get((latencies.len() * share).div_ceil(100).saturating_sub(1))
                .copied()
                .unwrap_or_default()
        };
        println!(
            "from `kubectl patch` to KeyRevoked: p50 {:.2} s, p99 {:.2} s, last {:.2} s",
            at(50).as_secs_f64(),
            at(99).as_secs_f64(),
            at(100).as_secs_f64()
        );
        Ok(())
    }

    fn mark(&self) -> Result<Mark> {
        Ok(Mark {
            began: Instant::now(),
            log: self.registry.log_position()?,
            writes: self.cluster.writes_by(OPERATOR)?.len(),
        })
    }

    fn report(&self, what: &str, took: Duration, mark: &Mark, operator: &Operator) -> Result<()> {
        let requests = self.registry.access_log_since(mark.log)?;
        let asked = requests
            .iter()
            .filter(|request| request.user_agent.starts_with("assay/"))
            .count();
        let writes = self.cluster.writes_by(OPERATOR)?;
        let new = writes.get(mark.writes..).unwrap_or_default();
        let statuses = new
            .iter()
            .filter(|write| !matches!(write.resource.as_str(), "events" | "leases"))
            .count();
        let events = new.iter().filter(|write| write.resource == "events").count();
        let memory = operator.server.resident_bytes().unwrap_or(0) / (1024 * 1024);
        println!(
            "{what:<26}{:>10.1}{asked:>12}{statuses:>12}{events:>12}{memory:>10}",
            took.as_secs_f64()
        );
        Ok(())
    }

    async fn all_say(&self, reason: Reason, limit: Duration) -> Result<()> {
        eventually("every ImageCompliance to have its answer", limit, async || {
            let list = self
                .answers
                .list(&ListParams::default())
                .await
                .map_err(|error| error.to_string())?;
            let count = list.items.iter().filter(|answer| says(answer, reason)).count();
            if count >= self.workloads {
                Ok(())
            } else {
                Err(format!("{count} of {} say {reason}", self.workloads))
            }
        })
        .await
    }
}

fn says(answer: &ImageCompliance, reason: Reason) -> bool {
    answer
        .status
        .conditions
        .iter()
        .any(|condition| condition.type_ == "Compliant" && condition.reason == reason.as_str())
}

async fn deploy(
    cluster: &Cluster,
    registry: &Registry,
    signer: &BulkSigner,
    number: usize,
    replicas: usize,
) -> Result<()> {
    let writer = registry.writer();
    let image = writer
        .push_image(&format!("fleet/app-{number}"), "1", &number.to_string())
        .await?;
    signer.sign(&writer, &image).await?;
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": format!("app-{number}"), "namespace": "default"},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": number.to_string()}}, "template": {
            "metadata": {"labels": {"app": number.to_string()}},
            "spec": {"containers": [{"name": "app", "image": image.by_tag()}]}}},
    });
    cluster.apply(&deployment.to_string()).await.map(drop)
}

fn trust(registry: &Registry, pem: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "assay.dev/v1alpha1", "kind": "SigningKey", "metadata": {"name": "release-2026"},
         "spec": {"keyRing": "release", "stage": "Active", "publicKey": {"pem": pem}}},
        {"apiVersion": "assay.dev/v1alpha1", "kind": "ImagePolicy", "metadata": {"name": "fleet"},
         "spec": {"mode": "Enforce", "match": {"images": [format!("{}/fleet/**", registry.host())]},
                  "require": [{"name": "signed", "signature": {"signedBy": ["release"]}}],
                  "recheck": {"interval": format!("{}s", INTERVAL.as_secs())}}},
    ]})
}

async fn all_run(pods: Api<Pod>, expected: usize) -> Result<()> {
    let running = ListParams::default().fields("status.phase=Running");
    eventually("all pods to run", Duration::from_secs(300), async || {
        let list = pods
            .list_metadata(&running)
            .await
            .map_err(|error| error.to_string())?;
        if list.items.len() >= expected {
            Ok(())
        } else {
            Err(format!("{} run", list.items.len()))
        }
    })
    .await
}
