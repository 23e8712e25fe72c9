//! Google: an access token of the service account that the metadata server speaks for, which on GKE is the one that
//! Workload Identity gives the pod (Compute Engine metadata server, "Get an access token").

use std::time::Duration;

use http::Method;
use serde::Deserialize;

use super::http::{Ask, Http};
use super::{Given, Surroundings, Trouble};

const URL: &str =
    "http://metadata.google.internal/computeMetadata/v1/instance/service-accounts/default/token";
/// The user name that stands for an access token.
const USER: &str = "oauth2accesstoken";

#[derive(Deserialize)]
struct Answer {
    access_token: String,
    expires_in: u64,
}

pub(super) async fn ask(http: &Http, surroundings: &Surroundings) -> Result<Given, Trouble> {
    let answer: Answer = http
        .json(Ask {
            method: Method::GET,
            url: surroundings.url(URL),
            headers: vec![("metadata-flavor", "Google".to_owned())],
            body: None,
            whom: "the metadata server of Google Cloud",
            near: true,
        })
        .await?;
    Ok(Given {
        user: USER.to_owned(),
        password: answer.access_token,
        lifetime: Duration::from_secs(answer.expires_in),
    })
}
