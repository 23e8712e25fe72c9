//! Who signs without a key of their own: a person with an email address, or a workflow of a build service.

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::issuer::IssuerKind;

/// An identity that the issuer vouches for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// A person; the certificate names the email address.
    Email(String),
    /// A workflow; the certificate names a URI and says more in its fields.
    Workflow(Workflow),
}

/// A workflow run as GitHub describes it in its tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workflow {
    /// `owner/name`.
    pub repository: String,
    /// The file's name in `.github/workflows`.
    pub file: String,
    /// `refs/heads/main`, `refs/tags/v1`.
    pub git_ref: String,
    /// What started it: `push`, `release`.
    pub event: String,
}

impl Identity {
    /// A person.
    pub fn email(address: impl Into<String>) -> Self {
        Self::Email(address.into())
    }

    /// A workflow that a push started: `shop/web`, `release.yaml`, `refs/heads/main`.
    pub fn workflow(repository: &str, file: &str, git_ref: &str) -> Self {
        Self::Workflow(Workflow {
            repository: repository.to_owned(),
            file: file.to_owned(),
            git_ref: git_ref.to_owned(),
            event: "push".to_owned(),
        })
    }

    /// What the certificate's subject alternative name says.
    pub fn subject(&self) -> String {
        match self {
            Self::Email(address) => address.clone(),
            Self::Workflow(workflow) => format!("https://github.com/{}", workflow.file_ref()),
        }
    }

    pub(super) fn issuer_kind(&self) -> IssuerKind {
        match self {
            Self::Email(_) => IssuerKind::People,
            Self::Workflow(_) => IssuerKind::Workflows,
        }
    }

    /// The token's claims, without those that every token has.
    pub(super) fn claims(&self) -> Map<String, Value> {
        let claims = match self {
            Self::Email(address) => json!({"sub": address, "email": address, "email_verified": true}),
            Self::Workflow(workflow) => workflow.claims(),
        };
        match claims {
            Value::Object(claims) => claims,
            _ => Map::new(),
        }
    }
}

impl Workflow {
    fn file_ref(&self) -> String {
        format!(
            "{}/.github/workflows/{}@{}",
            self.repository, self.file, self.git_ref
        )
    }

    /// Stands for the commit: as long as one, and the same for the same run.
    fn commit(&self) -> String {
        hex::encode(&Sha256::digest(self.file_ref())[..20])
    }

    fn claims(&self) -> Value {
        let owner = self.repository.split('/').next().unwrap_or_default();
        json!({
            "sub": format!("repo:{}:ref:{}", self.repository, self.git_ref),
            "repository": self.repository,
            "repository_id": "1001",
            "repository_owner": owner,
            "repository_owner_id": "2002",
            "repository_visibility": "private",
            "workflow": self.file.split('.').next().unwrap_or_default(),
            "workflow_ref": self.file_ref(),
            "workflow_sha": self.commit(),
            "job_workflow_ref": self.file_ref(),
            "job_workflow_sha": self.commit(),
            "ref": self.git_ref,
            "sha": self.commit(),
            "event_name": self.event,
            "runner_environment": "github-hosted",
            "run_id": "3003",
            "run_attempt": "1",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workflows_subject_is_the_uri_that_github_would_give_it() {
        let identity = Identity::workflow("shop/web", "release.yaml", "refs/heads/main");
        assert_eq!(
            identity.subject(),
            "https://github.com/shop/web/.github/workflows/release.yaml@refs/heads/main"
        );
        assert_eq!(identity.claims()["repository_owner"], "shop");
    }
}
