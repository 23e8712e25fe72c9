//! Kubeconfig files: for a client certificate and for a token.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kube::config::{KubeConfigOptions, Kubeconfig};

use super::pki::Identity;
use crate::{Result, TestkitError};

/// How a kubeconfig authenticates.
pub(super) enum Credential<'a> {
    Certificate(&'a Identity),
    Token(&'a str),
}

/// The text of a kubeconfig with one cluster, one user and one context.
pub(super) fn text(server: &str, authority: &str, credential: &Credential<'_>) -> String {
    let user = match credential {
        Credential::Certificate(identity) => serde_json::json!({
            "client-certificate-data": STANDARD.encode(&identity.certificate),
            "client-key-data": STANDARD.encode(&identity.key),
        }),
        Credential::Token(token) => serde_json::json!({ "token": token }),
    };
    let config = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "testkit", "cluster": {
            "server": server,
            "certificate-authority-data": STANDARD.encode(authority),
        }}],
        "users": [{"name": "user", "user": user}],
        "contexts": [{"name": "testkit", "context": {"cluster": "testkit", "user": "user"}}],
        "current-context": "testkit",
    });
    // JSON is YAML, which every reader of a kubeconfig accepts.
    format!("{config:#}\n")
}

/// A client for a kubeconfig file, bound to the tokio runtime of the caller.
///
/// # Errors
/// When the file cannot be read or is no kubeconfig.
pub async fn client_for(kubeconfig: &Path) -> Result<kube::Client> {
    crate::init();
    let invalid =
        |error: &dyn std::fmt::Display| TestkitError::Invalid(format!("{}: {error}", kubeconfig.display()));
    let file = Kubeconfig::read_from(kubeconfig).map_err(|error| invalid(&error))?;
    let config = kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await;
    let config = config.map_err(|error| invalid(&error))?;
    kube::Client::try_from(config).map_err(|error| invalid(&error))
}
