//! Stand-ins of the metadata and token services on loopback: the real ones are out of reach of tests. What is asked, with
//! which headers, and what is made of the answers.

use std::collections::BTreeMap;

use ::http::StatusCode;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::credentials::Credential;

const ECR: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/shop/web";
const GAR: &str = "europe-west1-docker.pkg.dev/project/shop/web";
const ACR: &str = "myregistry.azurecr.io/shop/web";

/// A request: `METHOD host/path?query`, its headers, its body.
#[derive(Clone, Debug)]
struct Asked {
    what: String,
    headers: BTreeMap<String, String>,
    body: String,
}

impl Asked {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

type Log = Arc<Mutex<Vec<Asked>>>;
type Answers = fn(&Asked) -> (u16, String);

/// Clouds that ask a stand-in of every service, with these variables.
async fn clouds(variables: &[(&'static str, &str)], answers: Answers) -> (Clouds, Log) {
    let log = Log::default();
    let seen = log.clone();
    let answer = move |request: Request| {
        let seen = seen.clone();
        async move { answered(request, &seen, answers).await }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        axum::serve(listener, Router::new().fallback(answer))
            .await
            .unwrap();
    });
    let variables: BTreeMap<&str, String> = variables
        .iter()
        .map(|(name, value)| (*name, (*value).to_owned()))
        .collect();
    let mut clouds = Clouds::new(&[Cloud::Ecr, Cloud::Gar, Cloud::Acr].into(), "test").unwrap();
    clouds.surroundings = Surroundings {
        variable: Arc::new(move |name| variables.get(name).cloned()),
        stand_in: Some(format!("http://{address}")),
    };
    (clouds, log)
}

async fn answered(request: Request, log: &Log, answers: Answers) -> Response {
    let (head, body) = request.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    let target = head.uri.path_and_query().unwrap().as_str();
    let headers = head.headers.iter();
    let asked = Asked {
        what: format!("{} {}", head.method, target.trim_start_matches('/')),
        headers: headers
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
            .collect(),
        body: String::from_utf8(body.to_vec()).unwrap(),
    };
    log.lock().unwrap().push(asked.clone());
    let (status, text) = answers(&asked);
    let status = StatusCode::from_u16(status).unwrap();
    if status.is_redirection() {
        let response = Response::builder().status(status).header("location", text);
        return response.body(Body::empty()).unwrap();
    }
    (status, text).into_response()
}

async fn pair(clouds: &Clouds, repository: &str) -> Result<String, String> {
    let key = clouds.key(&repository.parse().unwrap()).await.unwrap();
    match &key.credential {
        Credential::Basic(header) => {
            let text = header.to_str().unwrap().strip_prefix("Basic ").unwrap();
            Ok(String::from_utf8(STANDARD.decode(text).unwrap()).unwrap())
        }
        Credential::Unusable(why) | Credential::Unavailable(why) => Err(why.clone()),
        Credential::Bearer(_) => panic!("no cloud gives one"),
    }
}

fn whats(log: &Log) -> Vec<String> {
    log.lock()
        .unwrap()
        .iter()
        .map(|asked| asked.what.clone())
        .collect()
}

fn ecr_answer() -> String {
    let token = STANDARD.encode("AWS:secret-of-ecr");
    format!(
        r#"{{"authorizationData":[{{"authorizationToken":"{token}","expiresAt":99999999999.5,"proxyEndpoint":"x"}}]}}"#
    )
}

fn role_answer() -> String {
    r#"{"Code":"Success","AccessKeyId":"AKID","SecretAccessKey":"hidden","Token":"session","Expiration":"2030-01-01T00:00:00Z"}"#.to_owned()
}

#[tokio::test]
async fn ecr_by_the_role_of_the_service_account_is_asked_once_for_all_repositories() {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "the-pods-token\n").unwrap();
    let variables = [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", token.to_str().unwrap()),
        ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/assay"),
        ("AWS_REGION", "eu-central-1"),
    ];
    let (clouds, log) = clouds(&variables, |asked| match asked.what.as_str() {
        "POST sts.eu-central-1.amazonaws.com/" => (
            200,
            "<R><Credentials><AccessKeyId>AKID</AccessKeyId><SecretAccessKey>hid/d+en=</SecretAccessKey>\
             <SessionToken>session</SessionToken></Credentials></R>"
                .to_owned(),
        ),
        "POST api.ecr.eu-west-1.amazonaws.com/" => (200, ecr_answer()),
        _ => (404, String::new()),
    })
    .await;
    assert_eq!(pair(&clouds, ECR).await.as_deref(), Ok("AWS:secret-of-ecr"));
    let other = ECR.replace("web", "other");
    assert_eq!(pair(&clouds, &other).await.as_deref(), Ok("AWS:secret-of-ecr"));
    let asked = log.lock().unwrap().clone();
    assert_eq!(asked.len(), 2, "{asked:?}");
    assert!(
        asked[0].body.contains("WebIdentityToken=the-pods-token&")
            || asked[0].body.ends_with("WebIdentityToken=the-pods-token")
    );
    assert!(
        asked[0]
            .body
            .contains("RoleArn=arn%3Aaws%3Aiam%3A%3A123456789012%3Arole%2Fassay")
    );
    let signed = asked[1].header("authorization");
    assert!(
        signed.starts_with("AWS4-HMAC-SHA256 Credential=AKID/"),
        "{signed}"
    );
    assert!(signed.contains("/eu-west-1/ecr/aws4_request, SignedHeaders=content-type;host;x-amz-date;x-amz-security-token;x-amz-target, "));
    assert_eq!(asked[1].header("x-amz-security-token"), "session");
    assert_eq!(asked[1].body, r#"{"registryIds":["123456789012"]}"#);
}

#[tokio::test]
async fn ecr_by_the_credentials_of_the_container() {
    for (variable, value, what) in [
        (
            "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
            "/v2/id",
            "GET 169.254.170.2/v2/id",
        ),
        (
            "AWS_CONTAINER_CREDENTIALS_FULL_URI",
            "http://169.254.170.23/v1/credentials",
            "GET 169.254.170.23/v1/credentials",
        ),
    ] {
        let variables = [(variable, value), ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "pass")];
        let (clouds, log) = clouds(&variables, |asked| match asked.header("authorization") {
            "pass" => (200, role_answer()),
            _ => (200, ecr_answer()),
        })
        .await;
        assert_eq!(pair(&clouds, ECR).await.as_deref(), Ok("AWS:secret-of-ecr"));
        assert_eq!(whats(&log)[0], what);
    }
    let elsewhere = [("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://evil.example.com/")];
    let (clouds, log) = clouds(&elsewhere, |_| (200, role_answer())).await;
    let why = pair(&clouds, ECR).await.unwrap_err();
    assert!(
        why.contains("neither https nor an address of the container"),
        "{why}"
    );
    assert!(whats(&log).is_empty());
}

#[tokio::test]
async fn ecr_by_the_role_of_the_machine_with_a_session_of_imdsv2() {
    let (clouds, log) = clouds(&[], |asked| {
        let path = "169.254.169.254/latest/meta-data/iam/security-credentials/";
        match asked.what.as_str() {
            "PUT 169.254.169.254/latest/api/token"
                if !asked.header("x-aws-ec2-metadata-token-ttl-seconds").is_empty() =>
            {
                (200, "a-session".to_owned())
            }
            "POST api.ecr.eu-west-1.amazonaws.com/" => (200, ecr_answer()),
            _ if asked.header("x-aws-ec2-metadata-token") != "a-session" => (401, String::new()),
            what if what == format!("GET {path}") => (200, "node-role\n".to_owned()),
            what if what == format!("GET {path}node-role") => (200, role_answer()),
            _ => (404, String::new()),
        }
    })
    .await;
    assert_eq!(pair(&clouds, ECR).await.as_deref(), Ok("AWS:secret-of-ecr"));
    assert_eq!(log.lock().unwrap().len(), 4);
}

#[tokio::test]
async fn gar_by_the_metadata_server_until_shortly_before_the_end() {
    let (clouds, log) = clouds(&[], |asked| match asked.header("metadata-flavor") {
        "Google" => (
            200,
            r#"{"access_token":"ya29.x","expires_in":10,"token_type":"Bearer"}"#.to_owned(),
        ),
        _ => (403, String::new()),
    })
    .await;
    assert_eq!(
        pair(&clouds, GAR).await.as_deref(),
        Ok("oauth2accesstoken:ya29.x")
    );
    assert_eq!(
        pair(&clouds, "gcr.io/project/web").await.as_deref(),
        Ok("oauth2accesstoken:ya29.x")
    );
    let what = "GET metadata.google.internal/computeMetadata/v1/instance/service-accounts/default/token";
    assert_eq!(whats(&log), [what]);
    let asked_again = async {
        while log.lock().unwrap().len() < 2 {
            tokio::time::sleep(Duration::from_millis(50)).await;
            pair(&clouds, GAR).await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(60), asked_again)
        .await
        .unwrap();
}

#[tokio::test]
async fn acr_by_the_workloads_identity_or_the_machines_exchanged_at_the_registry() {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "the-pods-token").unwrap();
    let federated = [
        ("AZURE_FEDERATED_TOKEN_FILE", token.to_str().unwrap()),
        ("AZURE_CLIENT_ID", "client"),
        ("AZURE_TENANT_ID", "tenant"),
    ];
    for (variables, what) in [
        (
            &federated[..],
            "POST login.microsoftonline.com/tenant/oauth2/v2.0/token",
        ),
        (
            &[][..],
            "GET 169.254.169.254/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https%3A%2F%2Fmanagement.azure.com%2F",
        ),
    ] {
        let (clouds, log) = clouds(variables, |asked| match asked.what.as_str() {
            "POST myregistry.azurecr.io/oauth2/exchange" => {
                (200, r#"{"refresh_token":"refresh"}"#.to_owned())
            }
            _ => (200, r#"{"access_token":"access"}"#.to_owned()),
        })
        .await;
        let expected = "00000000-0000-0000-0000-000000000000:refresh";
        assert_eq!(pair(&clouds, ACR).await.as_deref(), Ok(expected));
        let asked = log.lock().unwrap().clone();
        assert_eq!(asked[0].what, what);
        assert_eq!(
            asked[1].body,
            "grant_type=access_token&service=myregistry.azurecr.io&access_token=access"
        );
        assert_eq!(asked.len(), 2);
    }
}

#[tokio::test]
async fn a_failure_says_what_to_do_holds_no_secret_and_is_not_repeated_at_once() {
    let (clouds, log) = clouds(&[], |asked| match asked.what.as_str() {
        "POST myregistry.azurecr.io/oauth2/exchange" => (403, "{\"secret\":\"leaked\"}".to_owned()),
        what if what.starts_with("GET 169.254.169.254/metadata") => {
            (200, r#"{"access_token":"hidden"}"#.to_owned())
        }
        _ => (302, "http://evil.example.com/".to_owned()),
    })
    .await;
    let why = pair(&clouds, ACR).await.unwrap_err();
    assert!(why.contains("myregistry.azurecr.io answers HTTP 403"), "{why}");
    assert!(
        why.contains("service account") && why.contains("RegistryConfig"),
        "{why}"
    );
    assert!(!why.contains("hidden") && !why.contains("leaked"), "{why}");
    let count = log.lock().unwrap().len();
    pair(&clouds, ACR).await.unwrap_err();
    assert_eq!(log.lock().unwrap().len(), count);
    let why = pair(&clouds, GAR).await.unwrap_err();
    assert!(
        why.contains("answers HTTP 302"),
        "a redirect is not followed: {why}"
    );
}

/// A refusal that a cloud's own trouble may have caused is an outage and no denial: it turns nobody to the pull secrets of
/// pods, and asks nobody to mend rights. Weakened once: with every trouble taken for a refusal, all are denied.
#[tokio::test]
async fn what_passes_is_told_from_what_somebody_must_mend() {
    let answers: [(Answers, bool); 5] = [
        (|_| (503, String::new()), true),
        (|_| (429, String::new()), true),
        (|_| (403, String::new()), false),
        (|_| (404, String::new()), false),
        (|_| (200, "no JSON".to_owned()), false),
    ];
    for (answer, passes) in answers {
        let (clouds, _) = clouds(&[], answer).await;
        for repository in [ECR, GAR, ACR] {
            let key = clouds.key(&repository.parse().unwrap()).await.unwrap();
            let is_unavailable = matches!(key.credential, Credential::Unavailable(_));
            assert_eq!(is_unavailable, passes, "{repository}: {:?}", answer(&nothing()));
            assert!(!key.is_usable());
        }
    }
    let (mut nobody, _) = clouds(&[], |_| (200, String::new())).await;
    nobody.surroundings.stand_in = Some("http://127.0.0.1:1".to_owned());
    let key = nobody.key(&GAR.parse().unwrap()).await.unwrap();
    assert!(matches!(key.credential, Credential::Unavailable(_)));
}

fn nothing() -> Asked {
    Asked {
        what: String::new(),
        headers: BTreeMap::new(),
        body: String::new(),
    }
}

#[tokio::test]
async fn registries_of_no_cloud_and_clouds_that_are_not_used_are_not_asked_for() {
    let (mut clouds, log) = clouds(&[], |_| (200, role_answer())).await;
    clouds.used = [Cloud::Gar].into();
    for repository in [ECR, ACR, "docker.io/library/web", "gcr.io.evil.com/web"] {
        assert!(
            clouds.key(&repository.parse().unwrap()).await.is_none(),
            "{repository}"
        );
    }
    assert!(whats(&log).is_empty());
}

#[test]
fn a_credential_is_used_until_shortly_before_its_end() {
    for (lifetime, kept) in [
        (0, 0),
        (100, 50),
        (600, 300),
        (3600, 3300),
        (999_999, 12 * 3600 - 300),
    ] {
        assert_eq!(kept_for(Duration::from_secs(lifetime)).as_secs(), kept);
    }
}
