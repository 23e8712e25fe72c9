//! Amazon: credentials of the role that the pod has, and with them a password for ECR (`GetAuthorizationToken`). The
//! role is that of the service account (IRSA), that of the container (ECS, EKS Pod Identity), or that of the machine
//! (IMDSv2), the first that the environment names.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use jiff::Timestamp;
use serde::Deserialize;
use url::{Host, Url};

use super::hosts::{Ecr, is_region};
use super::http::{Ask, Http, form};
use super::sigv4::Signer;
use super::{Given, Surroundings, Trouble};

const IMDS: &str = "http://169.254.169.254/latest";
const ECS: &str = "http://169.254.170.2";
const JSON: &str = "application/x-amz-json-1.1";
const TARGET: &str = "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken";

/// Credentials of a role.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Role {
    access_key_id: String,
    secret_access_key: String,
    token: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    authorization_data: Vec<Authorization>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Authorization {
    authorization_token: String,
    /// Seconds of the Unix epoch.
    expires_at: f64,
}

pub(super) async fn ask(http: &Http, surroundings: &Surroundings, registry: &Ecr) -> Result<Given, Trouble> {
    let role = role(http, surroundings, registry).await?;
    let host = registry.service();
    let body = serde_json::json!({"registryIds": [registry.account]}).to_string();
    let time = Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
    let headers = [
        ("content-type", JSON),
        ("host", host.as_str()),
        ("x-amz-date", time.as_str()),
        ("x-amz-security-token", role.token.as_str()),
        ("x-amz-target", TARGET),
    ];
    let signer = Signer {
        key_id: &role.access_key_id,
        secret: &role.secret_access_key,
        region: &registry.region,
        service: "ecr",
        time: &time,
    };
    let authorization = signer.authorization("POST", "/", "", &headers, &body);
    let mut headers: Vec<(&str, String)> = headers
        .iter()
        .filter(|(name, _)| *name != "host")
        .map(|(name, value)| (*name, (*value).to_owned()))
        .collect();
    headers.push(("authorization", authorization));
    let answer: Answer = http
        .json(Ask {
            method: Method::POST,
            url: surroundings.url(&format!("https://{host}/")),
            headers,
            body: Some(body),
            whom: &host,
            near: false,
        })
        .await?;
    let given = answer
        .authorization_data
        .into_iter()
        .next()
        .ok_or_else(|| format!("{host} answers without a token"))?;
    let pair = STANDARD
        .decode(&given.authorization_token)
        .ok()
        .and_then(|pair| String::from_utf8(pair).ok());
    let (user, password) = pair
        .as_deref()
        .and_then(|pair| pair.split_once(':'))
        .ok_or_else(|| format!("{host} answers with a token that is none"))?;
    Ok(Given {
        user: user.to_owned(),
        password: password.to_owned(),
        lifetime: left(given.expires_at),
    })
}

/// How long it is until a time; nothing where that is past or no time.
fn left(until: f64) -> Duration {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |now| now.as_secs_f64());
    Duration::try_from_secs_f64(until - now).unwrap_or(Duration::ZERO)
}

async fn role(http: &Http, surroundings: &Surroundings, registry: &Ecr) -> Result<Role, Trouble> {
    if let Some(token) = surroundings.file("AWS_WEB_IDENTITY_TOKEN_FILE") {
        return of_service_account(http, surroundings, registry, &token?).await;
    }
    match container_url(surroundings)? {
        Some(url) => of_container(http, surroundings, &url).await,
        None => of_machine(http, surroundings).await,
    }
}

/// IAM roles for service accounts (STS `AssumeRoleWithWebIdentity`).
async fn of_service_account(
    http: &Http,
    surroundings: &Surroundings,
    registry: &Ecr,
    token: &str,
) -> Result<Role, Trouble> {
    let role = surroundings
        .variable("AWS_ROLE_ARN")
        .ok_or("AWS_WEB_IDENTITY_TOKEN_FILE is set and AWS_ROLE_ARN is not")?;
    let region = surroundings
        .variable("AWS_REGION")
        .or_else(|| surroundings.variable("AWS_DEFAULT_REGION"))
        .filter(|region| is_region(region))
        .unwrap_or_else(|| registry.region.clone());
    let session = surroundings
        .variable("AWS_ROLE_SESSION_NAME")
        .unwrap_or_else(|| "assay".to_owned());
    let host = format!("sts.{region}.{}", registry.domain.of_services);
    let body = form(&[
        ("Action", "AssumeRoleWithWebIdentity"),
        ("Version", "2011-06-15"),
        ("RoleArn", &role),
        ("RoleSessionName", &session),
        ("WebIdentityToken", token),
    ]);
    let answer = http
        .text(Ask {
            method: Method::POST,
            url: surroundings.url(&format!("https://{host}/")),
            headers: vec![("content-type", "application/x-www-form-urlencoded".to_owned())],
            body: Some(body),
            whom: &host,
            near: false,
        })
        .await?;
    let field = |name: &str| {
        element(&answer, name).ok_or_else(|| format!("{host} answers without the element {name}"))
    };
    Ok(Role {
        access_key_id: field("AccessKeyId")?,
        secret_access_key: field("SecretAccessKey")?,
        token: field("SessionToken")?,
    })
}

/// The text of the first element of a name: keys and tokens hold nothing that XML would write otherwise.
fn element(xml: &str, name: &str) -> Option<String> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"<>&".contains(&byte);
    (!text.is_empty() && text.bytes().all(plain)).then(|| text.to_owned())
}

/// Where the container's credentials are: on the link or on this machine, or behind TLS.
fn container_url(surroundings: &Surroundings) -> Result<Option<String>, String> {
    if let Some(path) = surroundings.variable("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") {
        if !path.starts_with('/') {
            return Err("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI does not begin with a slash".to_owned());
        }
        return Ok(Some(format!("{ECS}{path}")));
    }
    let Some(text) = surroundings.variable("AWS_CONTAINER_CREDENTIALS_FULL_URI") else {
        return Ok(None);
    };
    let url = Url::parse(&text);
    let url = url.map_err(|error| format!("AWS_CONTAINER_CREDENTIALS_FULL_URI is not a URL: {error}"))?;
    let near = match url.host() {
        Some(Host::Ipv4(address)) => {
            address.is_loopback() || matches!(address.octets(), [169, 254, 170, 2 | 23])
        }
        Some(Host::Ipv6(address)) => {
            address.is_loopback() || address.segments() == [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23]
        }
        _ => false,
    };
    if url.scheme() == "https" || url.scheme() == "http" && near {
        return Ok(Some(text));
    }
    Err(
        "AWS_CONTAINER_CREDENTIALS_FULL_URI is neither https nor an address of the container's own agent"
            .to_owned(),
    )
}

async fn of_container(http: &Http, surroundings: &Surroundings, url: &str) -> Result<Role, Trouble> {
    let token = match surroundings.file("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE") {
        Some(token) => Some(token?),
        None => surroundings.variable("AWS_CONTAINER_AUTHORIZATION_TOKEN"),
    };
    http.json(Ask {
        method: Method::GET,
        url: surroundings.url(url),
        headers: token.map(|token| ("authorization", token)).into_iter().collect(),
        body: None,
        whom: "the agent of the container's credentials",
        near: true,
    })
    .await
}

/// Version 2 of the instance metadata service: a session first.
async fn of_machine(http: &Http, surroundings: &Surroundings) -> Result<Role, Trouble> {
    const WHOM: &str = "the metadata service of Amazon EC2";
    let session = http
        .text(Ask {
            method: Method::PUT,
            url: surroundings.url(&format!("{IMDS}/api/token")),
            headers: vec![("x-aws-ec2-metadata-token-ttl-seconds", "300".to_owned())],
            body: Some(String::new()),
            whom: WHOM,
            near: true,
        })
        .await?;
    let get = |path: String| Ask {
        method: Method::GET,
        url: surroundings.url(&format!("{IMDS}/meta-data/iam/security-credentials/{path}")),
        headers: vec![("x-aws-ec2-metadata-token", session.clone())],
        body: None,
        whom: WHOM,
        near: true,
    };
    let names = http.text(get(String::new())).await?;
    let name = names.lines().next().unwrap_or_default().trim();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"+=,.@_-".contains(&byte);
    if name.is_empty() || !name.bytes().all(plain) {
        return Err("the machine has no role".into());
    }
    http.json(get(name.to_owned())).await
}
