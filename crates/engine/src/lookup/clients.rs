//! With whose credentials a subject is looked up: the operator's, and besides them those of the pods that it is looked
//! up for.

use std::sync::Arc;

use api::Reason;
use image::Repository;
use policy::Gap;
use registry::Client;

use super::{Ask, Pass, Shortfall};
use crate::keychain::{Keychain, PullSecrets};

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
}

impl Clients {
    pub(crate) fn new(operator: Client, pull_secrets: Option<Arc<dyn PullSecrets>>) -> Self {
        Clients {
            operator,
            pull_secrets,
        }
    }

    /// The client that the subject is looked up with.
    ///
    /// # Errors
    /// There are no credentials that could change the registry's answer to the operator: nothing is asked then.
    pub(super) async fn of(&self, ask: &Ask) -> Result<Chosen, Shortfall> {
        let Some(keychain) = ask.subject.keychain.as_deref() else {
            return Ok(Chosen {
                client: self.operator.clone(),
                troubles: Vec::new(),
            });
        };
        let found = match &self.pull_secrets {
            Some(pull_secrets) => pull_secrets.read(keychain).await,
            None => crate::keychain::PullCredentials::default(),
        };
        let repositories: Vec<Repository> = self
            .operator
            .sources(&ask.subject.repository)
            .into_iter()
            .flat_map(|source| [source.repository, source.evidence])
            .collect();
        if !repositories.iter().any(|one| found.credentials.are_for(one)) {
            return Err(none_for(
                &ask.subject.repository,
                keychain,
                &found.credentials,
                &found.troubles,
            ));
        }
        Ok(Chosen {
            client: self
                .operator
                .with_more_credentials(&keychain.to_string(), found.credentials),
            troubles: found.troubles,
        })
    }

    /// Ends a pass that was made with the chosen client.
    pub(super) fn ended(&self, ask: &Ask, chosen: &Chosen, pass: &mut Pass) {
        let Some(keychain) = &ask.subject.keychain else {
            return;
        };
        let gaps = [&mut pass.own.shortfall, &mut pass.own.attestations];
        let mut denied = false;
        for shortfall in gaps.into_iter().flatten() {
            if shortfall.gap.reason == Reason::RegistryDenied {
                denied = true;
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

fn none_for(
    repository: &Repository,
    keychain: &Keychain,
    credentials: &registry::Credentials,
    troubles: &[String],
) -> Shortfall {
    let registry = repository.registry();
    let why = match troubles {
        [] => credentials
            .hint(registry)
            .unwrap_or_else(|| format!("there are no pull secrets in namespace {}", keychain.namespace)),
        troubles => troubles.join("; "),
    };
    Shortfall {
        gap: Gap {
            reason: Reason::RegistryDenied,
            detail: format!(
                "{registry} refuses the operator's own credentials, and the workload's cannot be used: {why}"
            )
            .into(),
        },
        retry_after: None,
    }
}
