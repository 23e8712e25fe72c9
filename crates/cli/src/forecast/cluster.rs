//! Reads ImageCompliances from a cluster, in pages, with the rights of whoever asks.

use std::path::PathBuf;
use std::time::Duration;

use api::ImageCompliance;
use kube::api::{Api, ListParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

/// Objects in one page.
const PAGE: u32 = 500;
/// A list that changed under the reader so often is given up.
const ATTEMPTS: u32 = 3;
/// The longest wait for one page.
const DEADLINE: Duration = Duration::from_secs(60);

/// Which cluster is asked, and what for.
#[derive(Clone, Debug)]
pub(super) struct Access {
    pub(super) kubeconfig: Option<PathBuf>,
    pub(super) context: Option<String>,
    pub(super) place: Where,
}

/// Where to look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Where {
    Namespace(String),
    NamespaceOfTheContext,
    Everywhere,
}

/// Why nothing was read.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    #[error("--kubeconfig {file}: {source}; give a file that kubectl accepts")]
    Kubeconfig {
        file: String,
        source: Box<kube::config::KubeconfigError>,
    },
    #[error(
        "no cluster can be reached: {0}; give --kubeconfig and --context, or set KUBECONFIG to a file that kubectl accepts"
    )]
    NoCluster(String),
    #[error("you may not list imagecompliances.assay.dev in {place}: {message}; {advice}")]
    Forbidden {
        place: String,
        message: String,
        advice: &'static str,
    },
    #[error(
        "the cluster has no kind ImageCompliance: install Assay's definitions, or choose another --context"
    )]
    NotInstalled,
    #[error(
        "the API server does not take the credentials of the kubeconfig: {0}; log in again, or choose another --context"
    )]
    Unauthorized(String),
    #[error(
        "the ImageCompliances of {place} cannot be read: {problem}; try again, or choose another --context"
    )]
    Trouble { place: String, problem: String },
}

impl Access {
    /// The namespace that was asked for (None for all), and every ImageCompliance in it.
    pub(super) async fn compliances(&self) -> Result<(Option<String>, Vec<ImageCompliance>), ReadError> {
        let client = self.client().await?;
        let namespace = match &self.place {
            Where::Namespace(name) => Some(name.clone()),
            Where::NamespaceOfTheContext => Some(client.default_namespace().to_owned()),
            Where::Everywhere => None,
        };
        let api = match &namespace {
            Some(name) => Api::namespaced(client, name),
            None => Api::all(client),
        };
        let mut attempt = 1;
        loop {
            match list(&api).await {
                Ok(found) => return Ok((namespace, found)),
                Err(kube::Error::Api(status)) if status.code == 410 && attempt < ATTEMPTS => attempt += 1,
                Err(error) => return Err(self.explained(namespace.as_deref(), error)),
            }
        }
    }

    async fn client(&self) -> Result<Client, ReadError> {
        let options = KubeConfigOptions {
            context: self.context.clone(),
            ..KubeConfigOptions::default()
        };
        let given = self.kubeconfig.as_ref().map(|file| {
            Kubeconfig::read_from(file).map_err(|source| ReadError::Kubeconfig {
                file: file.display().to_string(),
                source: Box::new(source),
            })
        });
        let config = match (given.transpose()?, &self.context) {
            (Some(given), _) => Config::from_custom_kubeconfig(given, &options)
                .await
                .map_err(|error| error.to_string()),
            (None, Some(_)) => Config::from_kubeconfig(&options)
                .await
                .map_err(|error| error.to_string()),
            (None, None) => Config::infer().await.map_err(|error| error.to_string()),
        };
        let mut config = config.map_err(ReadError::NoCluster)?;
        config.read_timeout = Some(DEADLINE);
        Client::try_from(config).map_err(|error| ReadError::NoCluster(error.to_string()))
    }

    fn explained(&self, namespace: Option<&str>, error: kube::Error) -> ReadError {
        let place = namespace.map_or("all namespaces".to_owned(), |name| {
            format!("the namespace {name}")
        });
        match error {
            kube::Error::Api(status) if status.code == 403 => ReadError::Forbidden {
                place,
                message: status.message,
                advice: match namespace {
                    Some(_) => "ask for the role view there, or choose another --namespace",
                    None => "give --namespace, or ask for a role that reads all namespaces",
                },
            },
            kube::Error::Api(status) if status.code == 404 => ReadError::NotInstalled,
            kube::Error::Api(status) if status.code == 401 => ReadError::Unauthorized(status.message),
            kube::Error::Api(status) => ReadError::Trouble {
                place,
                problem: status.message,
            },
            error => ReadError::Trouble {
                place,
                problem: innermost(&error),
            },
        }
    }
}

async fn list(api: &Api<ImageCompliance>) -> Result<Vec<ImageCompliance>, kube::Error> {
    let mut found = Vec::new();
    let mut page = ListParams::default().limit(PAGE);
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
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
