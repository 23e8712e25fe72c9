//! Azure: a token of Microsoft Entra for the pod's workload identity, or of the machine's managed identity, exchanged
//! at the registry for a refresh token of its own, which stands for a password (Azure Container Registry, "AAD
//! integration", `/oauth2/exchange`).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Method;
use serde::Deserialize;

use super::http::{Ask, Http, form};
use super::{Given, Surroundings, Trouble};

const IMDS: &str = "http://169.254.169.254/metadata/identity/oauth2/token";
const RESOURCE: &str = "https://management.azure.com/";
/// The user name that stands for a refresh token.
const USER: &str = "00000000-0000-0000-0000-000000000000";
/// How long a refresh token is used that does not say when it ends.
const LIFETIME: Duration = Duration::from_secs(1800);
const FORM: &str = "application/x-www-form-urlencoded";

#[derive(Deserialize)]
struct Access {
    access_token: String,
}

#[derive(Deserialize)]
struct Exchanged {
    refresh_token: String,
}

#[derive(Deserialize)]
struct Claims {
    exp: u64,
}

pub(super) async fn ask(http: &Http, surroundings: &Surroundings, registry: &str) -> Result<Given, Trouble> {
    let access = match surroundings.file("AZURE_FEDERATED_TOKEN_FILE") {
        Some(assertion) => federated(http, surroundings, &assertion?).await?,
        None => managed(http, surroundings).await?,
    };
    let body = form(&[
        ("grant_type", "access_token"),
        ("service", registry),
        ("access_token", &access.access_token),
    ]);
    let exchanged: Exchanged = http
        .json(Ask {
            method: Method::POST,
            url: surroundings.url(&format!("https://{registry}/oauth2/exchange")),
            headers: vec![("content-type", FORM.to_owned())],
            body: Some(body),
            whom: registry,
            near: false,
        })
        .await?;
    Ok(Given {
        user: USER.to_owned(),
        lifetime: lifetime(&exchanged.refresh_token),
        password: exchanged.refresh_token,
    })
}

/// By the token that Kubernetes gives the pod (Entra, "client credentials with a federated credential").
async fn federated(http: &Http, surroundings: &Surroundings, assertion: &str) -> Result<Access, Trouble> {
    let needed = |name: &str| {
        surroundings.variable(name).ok_or_else(|| {
            format!("AZURE_FEDERATED_TOKEN_FILE is set and {name} is not: is the pod labelled azure.workload.identity/use?")
        })
    };
    let (client, tenant) = (needed("AZURE_CLIENT_ID")?, needed("AZURE_TENANT_ID")?);
    let authority = surroundings
        .variable("AZURE_AUTHORITY_HOST")
        .unwrap_or_else(|| "https://login.microsoftonline.com/".to_owned());
    if !authority.starts_with("https://") {
        return Err("AZURE_AUTHORITY_HOST does not begin with https://".into());
    }
    let scope = format!("{RESOURCE}.default");
    let body = form(&[
        ("grant_type", "client_credentials"),
        ("client_id", &client),
        ("scope", &scope),
        (
            "client_assertion_type",
            "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        ),
        ("client_assertion", assertion),
    ]);
    let url = format!("{}/{tenant}/oauth2/v2.0/token", authority.trim_end_matches('/'));
    http.json(Ask {
        method: Method::POST,
        url: surroundings.url(&url),
        headers: vec![("content-type", FORM.to_owned())],
        body: Some(body),
        whom: "Microsoft Entra",
        near: false,
    })
    .await
}

/// By the identity of the machine (Azure Instance Metadata Service).
async fn managed(http: &Http, surroundings: &Surroundings) -> Result<Access, Trouble> {
    let client = surroundings.variable("AZURE_CLIENT_ID");
    let mut query = vec![("api-version", "2018-02-01"), ("resource", RESOURCE)];
    query.extend(client.as_deref().map(|client| ("client_id", client)));
    http.json(Ask {
        method: Method::GET,
        url: surroundings.url(&format!("{IMDS}?{}", form(&query))),
        headers: vec![("metadata", "true".to_owned())],
        body: None,
        whom: "the metadata service of Azure",
        near: true,
    })
    .await
}

/// How long a token says that it lives (RFC 7519, `exp`). It only bounds how long the token is used.
fn lifetime(token: &str) -> Duration {
    let claims = token
        .split('.')
        .nth(1)
        .and_then(|part| URL_SAFE_NO_PAD.decode(part).ok())
        .and_then(|json| serde_json::from_slice::<Claims>(&json).ok());
    let Some(claims) = claims else { return LIFETIME };
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |now| now.as_secs());
    Duration::from_secs(claims.exp.saturating_sub(now))
}
