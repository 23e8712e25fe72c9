//! The operator as a process: `assay controller` under the rights that `config/rbac` gives it.

use std::path::Path;
use std::time::Duration;

use testkit::{Cluster, Lifetime, OPERATOR_ACCOUNT, OPERATOR_NAMESPACE, OperatorSpec, Outage, eventually};
use tokio::sync::OnceCell;

use crate::binary::assay;
use crate::scene::PATIENCE;
use crate::servers::servers;
use crate::stand_in::{Answer, StandIn};

/// The operator's user, as audit logs name it.
pub(crate) const USER: &str = "system:serviceaccount:assay-system:assay";
/// How the operator's requests to registries begin to name themselves.
pub(crate) const USER_AGENT: &str = "assay/";

/// One operator.
pub(crate) struct Operator(testkit::Operator);

impl std::ops::Deref for Operator {
    type Target = testkit::Operator;

    fn deref(&self) -> &testkit::Operator {
        &self.0
    }
}

impl Operator {
    /// Starts one on a cluster with [`install`]ed rights, and waits until it is ready. Its log and its data lie in a
    /// folder of its name.
    pub(crate) async fn start(cluster: &Cluster, name: &str, arguments: &[String]) -> Self {
        let operator = Self::launch(cluster, name, arguments).await;
        operator.until_ready().await;
        operator
    }

    /// Starts one without waiting.
    pub(crate) async fn launch(cluster: &Cluster, name: &str, arguments: &[String]) -> Self {
        let account = cluster
            .kubeconfig_for_service_account(OPERATOR_NAMESPACE, OPERATOR_ACCOUNT)
            .await;
        Self::launch_as(cluster, name, &account.unwrap(), arguments)
    }

    /// Starts one with the rights of a kubeconfig, without waiting.
    pub(crate) fn launch_as(cluster: &Cluster, name: &str, kubeconfig: &Path, arguments: &[String]) -> Self {
        let spec = OperatorSpec {
            program: assay(),
            folder: cluster.folder().join(name),
            kubeconfig: kubeconfig.to_owned(),
            arguments: arguments.to_vec(),
            lifetime: Lifetime::Supervised,
        };
        Self(testkit::Operator::start(spec).unwrap())
    }

    /// Waits until `/readyz` answers 200.
    pub(crate) async fn until_ready(&self) {
        self.0.until_ready(Duration::from_secs(90)).await.unwrap();
    }

    /// The value of a metric, by its name and labels as they are printed; None where it is not printed.
    pub(crate) async fn metric(&self, name: &str) -> Option<f64> {
        self.0.metric(name).await.unwrap()
    }

    /// Waits until a metric has a value.
    pub(crate) async fn until_metric(&self, name: &str, value: f64) {
        // An operator that begins or is busy may refuse a connection.
        let look = async || match self.0.metric(name).await {
            Ok(Some(found)) if (found - value).abs() < f64::EPSILON => Ok(()),
            other => Err(format!("{other:?}")),
        };
        eventually(&format!("{name} to be {value}"), PATIENCE, look)
            .await
            .unwrap();
    }

    /// Everything that it logged.
    pub(crate) fn log(&self) -> String {
        self.0.log().unwrap()
    }
}

/// Applies the definitions and the operator's rights, as `config/` has them.
pub(crate) async fn install(cluster: &Cluster) {
    cluster.install_kinds().await.unwrap();
    cluster.kubectl(&["apply", "-k", "config/rbac"]).await.unwrap();
}

/// `--insecure-registry` for each host.
pub(crate) fn insecure(hosts: &[String]) -> Vec<String> {
    hosts
        .iter()
        .flat_map(|host| ["--insecure-registry".to_owned(), host.clone()])
        .collect()
}

/// The one operator of the shared cluster, with the flags that a user gets, and what stands between it and registries.
pub(crate) struct SharedOperator {
    pub(crate) operator: Operator,
    /// Each in front of the registry with the referrers API; a test takes one for itself.
    fronts: std::sync::Mutex<Vec<Outage>>,
    pub(crate) strange: Strange,
}

impl SharedOperator {
    /// A way to the registry with the referrers API that this test alone may cut.
    pub(crate) fn front(&self) -> Outage {
        self.fronts.lock().unwrap().pop().expect("a larger FRONTS")
    }
}

/// What no real registry can be made to do.
pub(crate) struct Strange {
    /// Answers 403 to everything.
    pub(crate) denying: StandIn,
    /// Answers 429 to everything.
    pub(crate) busy: StandIn,
    /// Has manifests of 200 MB.
    pub(crate) huge: StandIn,
    /// Serves other bytes than those that were asked for.
    pub(crate) lying: StandIn,
}

/// A custom kind of which the shared operator judges templates, once somebody defines it.
pub(crate) const MACHINES: &str = "starts.example.com/v1/Machine=.spec.template.spec";
const FRONTS: usize = 4;
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

impl Strange {
    async fn start() -> Self {
        Self {
            denying: StandIn::start(|_| Answer::status(403)).await,
            busy: StandIn::start(|_| Answer::status(429).header("retry-after", "120")).await,
            huge: StandIn::start(|_| Answer::content(MANIFEST, vec![b' '; 1 << 20]).times(200)).await,
            lying: StandIn::start(|path| match path.contains("/manifests/sha256:") {
                true => Answer::content(MANIFEST, br#"{"schemaVersion":2}"#.to_vec()),
                false => Answer::status(404),
            })
            .await,
        }
    }
}

/// The shared operator; the first test that asks starts it.
pub(crate) async fn operator() -> &'static SharedOperator {
    static OPERATOR: OnceCell<SharedOperator> = OnceCell::const_new();
    let shared = servers().await;
    let start = || async {
        shared
            .cluster
            .kubectl(&["apply", "-k", "config/rbac"])
            .await
            .unwrap();
        let strange = on_a_runtime_of_its_own(Strange::start);
        let mut fronts = Vec::new();
        for _ in 0..FRONTS {
            fronts.push(Outage::in_front_of(&shared.referrers.host()).await.unwrap());
        }
        let mut hosts = vec![shared.distribution.host(), shared.referrers.host()];
        hosts.extend(fronts.iter().map(Outage::host));
        hosts.extend([&strange.denying, &strange.busy, &strange.huge, &strange.lying].map(StandIn::host));
        let mut arguments = insecure(&hosts);
        arguments.extend(["--workload-template".to_owned(), MACHINES.to_owned()]);
        SharedOperator {
            operator: Operator::start(&shared.cluster, "operator", &arguments).await,
            fronts: std::sync::Mutex::new(fronts),
            strange,
        }
    };
    OPERATOR.get_or_init(start).await
}

/// Carries out what must outlive the test that comes first, and its runtime.
fn on_a_runtime_of_its_own<T: Send + 'static, F: Future<Output = T>>(
    work: impl FnOnce() -> F + Send + 'static,
) -> T {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            sender.send(work().await).unwrap();
            std::future::pending::<()>().await;
        });
    });
    receiver.recv().unwrap()
}
