//! With whose credentials a subject is looked up: the operator's, and besides them those of the pods that it is looked
//! up for.

use std::sync::Arc;

use api::Reason;
use image::Repository;
use policy::Gap;
use registry::{Client, Waits};

use super::Shortfall;
use crate::keychain::{Keychain, PullCredentials, PullSecrets};

/// Registry clients by keychain.
#[derive(Clone)]
pub(crate) struct Clients {
    operator: Client,
    pull_secrets: Option<Arc<dyn PullSecrets>>,
}

/// The client for one pass.
pub(super) struct Chosen {
    pub(super) client: Client,
    /// What could not be read on the way.
    troubles: Vec<String>,
    /// Some of it may be read in a moment.
    incomplete: bool,
}

impl Chosen {
    /// What a refusal by the registry is called.
    fn denial(&self) -> Reason {
        denial(self.incomplete)
    }
}

impl Clients {
    pub(crate) fn new(operator: Client, pull_secrets: Option<Arc<dyn PullSecrets>>) -> Self {
        Clients {
            operator,
            pull_secrets,
        }
    }

    /// The same clients for one look-up, of which it is counted how long it waits for its turn.
    pub(super) fn counting_waits(&self, waits: &Arc<Waits>) -> Self {
        Clients {
            operator: self.operator.counting_waits(waits.clone()),
            pull_secrets: self.pull_secrets.clone(),
        }
    }

    /// Whether what can wait may be asked for at a repository; see [`Client::has_room_for_regular_work`].
    pub(crate) fn has_room_for_regular_work(&self, repository: &Repository) -> bool {
        self.operator.has_room_for_regular_work(repository)
    }

    /// The RegistryConfig that says how a repository is asked.
    pub(crate) fn route(&self, repository: &Repository) -> Option<String> {
        self.operator.route(repository)
    }

    /// The client that a repository is asked with, on behalf of this keychain.
    ///
    /// # Errors
    /// There are no credentials that could change the registry's answer to the operator: nothing is asked then.
    pub(super) async fn of(
        &self,
        repository: &Repository,
        keychain: Option<&Keychain>,
    ) -> Result<Chosen, Shortfall> {
        let Some(keychain) = keychain else {
            return Ok(Chosen {
                client: self.operator.clone(),
                troubles: Vec::new(),
                incomplete: false,
            });
        };
        let found = match &self.pull_secrets {
            Some(pull_secrets) => pull_secrets.read(keychain).await,
            None => PullCredentials::default(),
        };
        let repositories: Vec<Repository> = self
            .operator
            .sources(repository)
            .into_iter()
            .flat_map(|source| [source.repository, source.evidence])
            .collect();
        if !repositories.iter().any(|one| found.credentials.are_for(one)) {
            return Err(none_for(repository, keychain, &found));
        }
        Ok(Chosen {
            client: self
                .operator
                .on_behalf_of(&keychain.to_string(), found.credentials),
            troubles: found.troubles,
            incomplete: found.incomplete,
        })
    }

    /// Ends what was asked with the chosen client: where it was refused, what could not be read on the way is said.
    pub(super) fn ended<'a>(
        &self,
        keychain: Option<&Keychain>,
        chosen: &Chosen,
        gaps: impl IntoIterator<Item = &'a mut Shortfall>,
    ) {
        let Some(keychain) = keychain else {
            return;
        };
        let mut denied = false;
        for shortfall in gaps {
            if shortfall.gap.reason == Reason::RegistryDenied {
                denied = true;
                shortfall.gap.reason = chosen.denial();
                if !chosen.troubles.is_empty() {
                    let detail = format!("{}; {}", chosen.troubles.join("; "), shortfall.gap.detail);
                    shortfall.gap.detail = detail.into();
                }
            }
        }
        if denied && let Some(pull_secrets) = &self.pull_secrets {
            pull_secrets.refused(keychain);
        }
    }
}

/// An outage of the API server is an outage and no denial.
fn denial(incomplete: bool) -> Reason {
    match incomplete {
        true => Reason::RegistryUnavailable,
        false => Reason::RegistryDenied,
    }
}

fn none_for(repository: &Repository, keychain: &Keychain, found: &PullCredentials) -> Shortfall {
    let registry = repository.registry();
    let why = match found.troubles.as_slice() {
        [] => found
            .credentials
            .hint(registry)
            .unwrap_or_else(|| format!("there are no pull secrets in namespace {}", keychain.namespace)),
        troubles => troubles.join("; "),
    };
    Shortfall {
        gap: Gap {
            reason: denial(found.incomplete),
            detail: format!(
                "{registry} refuses the operator's own credentials, and the workload's cannot be used: {why}"
            )
            .into(),
        },
        retry_after: None,
    }
}
