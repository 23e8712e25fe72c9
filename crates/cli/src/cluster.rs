//! How commands reach a cluster: the flags that kubectl has too, a client with the rights of whoever asks, lists in
//! pages, and errors that say what to do. Nothing here knows what the objects mean.

use std::fmt::Debug;
use std::path::PathBuf;
use std::time::Duration;

use api::ImageCompliance;
use clap::Args;
use kube::api::{Api, ListParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config, Resource};
use serde::de::DeserializeOwned;

/// Objects in one page.
const PAGE: u32 = 500;
/// A list that changed under the reader so often is given up.
const ATTEMPTS: u32 = 3;
/// The longest wait for one page.
const DEADLINE: Duration = Duration::from_secs(60);

// No doc comment: it would take the place of the text of the command that holds these.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct ClusterArguments {
    /// The namespace to look at; that of the context if not given
    #[arg(
        short,
        long,
        value_name = "NAME",
        conflicts_with = "all_namespaces",
        global = true
    )]
    pub(crate) namespace: Option<String>,
    /// Look at all namespaces
    #[arg(short = 'A', long, global = true)]
    pub(crate) all_namespaces: bool,
    /// The context of the kubeconfig
    #[arg(long, value_name = "NAME", global = true)]
    pub(crate) context: Option<String>,
    /// The kubeconfig; that of KUBECONFIG or ~/.kube/config if not given
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) kubeconfig: Option<PathBuf>,
}

/// A cluster, and the namespace that was asked for.
#[derive(Clone)]
pub(crate) struct Session {
    pub(crate) client: Client,
    /// None for all.
    pub(crate) namespace: Option<String>,
}

/// Why nothing was read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClusterError {
    #[error("-n and -A cannot be used with each other: found --namespace {0} and --all-namespaces")]
    TwoPlaces(String),
    #[error("--kubeconfig {file}: {source}; give a file that kubectl accepts")]
    Kubeconfig {
        file: String,
        source: Box<kube::config::KubeconfigError>,
    },
    #[error(
        "no cluster can be reached: {0}; give --kubeconfig and --context, or set KUBECONFIG to a file that kubectl accepts"
    )]
    NoCluster(String),
    #[error("you may not {verb} {what}{place}: {message}; {advice}")]
    Forbidden {
        verb: &'static str,
        what: String,
        place: String,
        message: String,
        advice: &'static str,
    },
    #[error("the cluster has no kind {0}: install Assay's definitions, or choose another --context")]
    NotInstalled(String),
    #[error(
        "the API server does not take the credentials of the kubeconfig: {0}; log in again, or choose another --context"
    )]
    Unauthorized(String),
    #[error("there is no {kind} {name}; `kubectl get {plural}` lists those that there are")]
    NotFound {
        kind: String,
        plural: String,
        name: String,
    },
    #[error("{what} changed meanwhile: {message}; look at it again, and then repeat the command")]
    Changed { what: String, message: String },
    #[error("the API server does not accept {what}: {message}")]
    Invalid { what: String, message: String },
    #[error(
        "the API server did not answer about {what}{place}: {problem}; try again, or choose another --context"
    )]
    Trouble {
        what: String,
        place: String,
        problem: String,
    },
}

impl ClusterError {
    /// The right is missing.
    pub(crate) fn is_forbidden(&self) -> bool {
        matches!(self, ClusterError::Forbidden { .. })
    }
}

/// A kind that is read.
pub(crate) trait Kind: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned {}
impl<K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned> Kind for K {}

impl Session {
    /// The cluster that the arguments name.
    pub(crate) async fn connect(arguments: &ClusterArguments) -> Result<Self, ClusterError> {
        if let (Some(name), true) = (&arguments.namespace, arguments.all_namespaces) {
            return Err(ClusterError::TwoPlaces(name.clone()));
        }
        let client = client(arguments).await?;
        let namespace = match (&arguments.namespace, arguments.all_namespaces) {
            (_, true) => None,
            (Some(name), false) => Some(name.clone()),
            (None, false) => Some(client.default_namespace().to_owned()),
        };
        Ok(Session { client, namespace })
    }

    /// The place for a sentence: `in the namespace shop`.
    pub(crate) fn place(&self) -> String {
        match &self.namespace {
            Some(name) => format!("in the namespace {name}"),
            None => "in any namespace".to_owned(),
        }
    }

    /// The API of a namespaced kind, where it was asked for.
    pub(crate) fn namespaced<K>(&self) -> Api<K>
    where
        K: Kind + Resource<Scope = kube::core::NamespaceResourceScope>,
    {
        match &self.namespace {
            Some(name) => Api::namespaced(self.client.clone(), name),
            None => Api::all(self.client.clone()),
        }
    }

    /// Every ImageCompliance where it was asked for.
    pub(crate) async fn compliances(&self) -> Result<Vec<ImageCompliance>, ClusterError> {
        let listed = list(&self.namespaced::<ImageCompliance>(), &ListParams::default()).await;
        listed.map_err(|error| self.explained::<ImageCompliance>("list", self.namespace.as_deref(), error))
    }

    /// Every object of a namespaced kind where it was asked for.
    pub(crate) async fn all_here<K>(&self, selection: &ListParams) -> Result<Vec<K>, ClusterError>
    where
        K: Kind + Resource<Scope = kube::core::NamespaceResourceScope>,
    {
        let listed = list(&self.namespaced::<K>(), selection).await;
        listed.map_err(|error| self.explained::<K>("list", self.namespace.as_deref(), error))
    }

    /// Every object of a cluster-scoped kind.
    pub(crate) async fn all<K>(&self) -> Result<Vec<K>, ClusterError>
    where
        K: Kind + Resource<Scope = kube::core::ClusterResourceScope>,
    {
        let listed = list(&Api::<K>::all(self.client.clone()), &ListParams::default()).await;
        listed.map_err(|error| self.explained_here::<K>("list", None, error))
    }

    /// One object of a cluster-scoped kind.
    pub(crate) async fn one<K>(&self, name: &str) -> Result<K, ClusterError>
    where
        K: Kind + Resource<Scope = kube::core::ClusterResourceScope>,
    {
        let found = self.maybe::<K>(name).await?;
        found.ok_or_else(|| ClusterError::NotFound {
            kind: K::kind(&()).into_owned(),
            plural: plural::<K>(),
            name: name.to_owned(),
        })
    }

    /// One object of a cluster-scoped kind, if there is one.
    pub(crate) async fn maybe<K>(&self, name: &str) -> Result<Option<K>, ClusterError>
    where
        K: Kind + Resource<Scope = kube::core::ClusterResourceScope>,
    {
        let got = Api::<K>::all(self.client.clone()).get_opt(name).await;
        got.map_err(|error| self.explained_here::<K>("get", Some(name), error))
    }

    /// What a failure about a namespaced kind means.
    pub(crate) fn explained<K: Kind>(
        &self,
        verb: &'static str,
        namespace: Option<&str>,
        error: kube::Error,
    ) -> ClusterError {
        let (place, advice) = match namespace {
            Some(name) => (
                format!(" in the namespace {name}"),
                "ask for the role view there, or choose another --namespace",
            ),
            None => (
                " in all namespaces".to_owned(),
                "give --namespace, or ask for a role that reads all namespaces",
            ),
        };
        explained::<K>(verb, None, place, advice, error)
    }

    /// What a failure about a cluster-scoped kind means.
    pub(crate) fn explained_here<K: Kind>(
        &self,
        verb: &'static str,
        name: Option<&str>,
        error: kube::Error,
    ) -> ClusterError {
        let advice = match verb {
            "list" | "get" => "ask for the role assay-auditor, or whoever has it",
            _ => "ask for the role assay-key-admin or assay-policy-admin, or whoever has it",
        };
        explained::<K>(verb, name, String::new(), advice, error)
    }
}

/// `imagepolicies.assay.dev`, as kubectl takes it.
pub(crate) fn plural<K: Kind>() -> String {
    match &*K::group(&()) {
        "" => K::plural(&()).into_owned(),
        group => format!("{}.{group}", K::plural(&())),
    }
}

fn explained<K: Kind>(
    verb: &'static str,
    name: Option<&str>,
    place: String,
    advice: &'static str,
    error: kube::Error,
) -> ClusterError {
    let what = match name {
        Some(name) => format!("{}/{name}", K::kind(&())),
        None => plural::<K>(),
    };
    let (code, message) = match error {
        kube::Error::Api(status) => (status.code, status.message),
        error => {
            let problem = innermost(&error);
            return ClusterError::Trouble { what, place, problem };
        }
    };
    match code {
        401 => ClusterError::Unauthorized(message),
        403 => ClusterError::Forbidden {
            verb,
            what: plural::<K>(),
            place,
            message,
            advice,
        },
        404 if name.is_none() || verb == "create" => ClusterError::NotInstalled(K::kind(&()).into_owned()),
        409 => ClusterError::Changed { what, message },
        400 | 422 => ClusterError::Invalid { what, message },
        _ => ClusterError::Trouble {
            what,
            place,
            problem: message,
        },
    }
}

async fn client(arguments: &ClusterArguments) -> Result<Client, ClusterError> {
    let options = KubeConfigOptions {
        context: arguments.context.clone(),
        ..KubeConfigOptions::default()
    };
    let given = arguments.kubeconfig.as_ref().map(|file| {
        Kubeconfig::read_from(file).map_err(|source| ClusterError::Kubeconfig {
            file: file.display().to_string(),
            source: Box::new(source),
        })
    });
    let config = match (given.transpose()?, &arguments.context) {
        (Some(given), _) => Config::from_custom_kubeconfig(given, &options)
            .await
            .map_err(|error| error.to_string()),
        (None, Some(_)) => Config::from_kubeconfig(&options)
            .await
            .map_err(|error| error.to_string()),
        (None, None) => Config::infer().await.map_err(|error| error.to_string()),
    };
    let mut config = config.map_err(ClusterError::NoCluster)?;
    config.read_timeout = Some(DEADLINE);
    Client::try_from(config).map_err(|error| ClusterError::NoCluster(error.to_string()))
}

/// Every object, page by page; anew where the list changed too much to be read to its end.
pub(crate) async fn list<K: Kind>(api: &Api<K>, selection: &ListParams) -> Result<Vec<K>, kube::Error> {
    let mut attempt = 1;
    loop {
        match pages(api, selection).await {
            Err(kube::Error::Api(status)) if status.code == 410 && attempt < ATTEMPTS => attempt += 1,
            answer => return answer,
        }
    }
}

async fn pages<K: Kind>(api: &Api<K>, selection: &ListParams) -> Result<Vec<K>, kube::Error> {
    let mut found = Vec::new();
    let mut page = selection.clone().limit(PAGE);
    loop {
        let listed = api.list(&page).await?;
        found.extend(listed.items);
        match listed.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => return Ok(found),
        }
    }
}

/// The last cause says what a person can do something about.
pub(crate) fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
