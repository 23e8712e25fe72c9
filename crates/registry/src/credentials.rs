//! Static credentials from a file in the format of Docker's `config.json`.
//!
//! Only `auths` are used. `credHelpers` and `credsStore` name programs; they are never executed, only mentioned
//! when a registry refuses. No value of the file appears in a message or a log line.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use http::HeaderValue;
use image::{Repository, normalise_registry};
use serde::Deserialize;

use crate::options::ClientOptionsError;

/// The largest file that is read.
const FILE_LIMIT: u64 = 1 << 20;
const HELPER: &str = "the docker config names a credential helper for it, which is never executed: write the \
                      credentials under `auths`";
const IDENTITY_TOKEN: &str = "the docker config holds an identity token for it, which is not supported: write user \
                              name and password";

/// The credentials for one registry, or for the repositories under one prefix of it.
#[derive(Clone)]
pub(crate) enum Credential {
    /// A value for `Authorization: Basic`, at the registry or at its token server.
    Basic(HeaderValue),
    /// A value for `Authorization: Bearer`, at the registry.
    Bearer(HeaderValue),
    /// Something is configured that cannot be used; why, and what to do.
    Unusable(&'static str),
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Basic(_) => "Basic",
            Self::Bearer(_) => "Bearer",
            Self::Unusable(_) => "Unusable",
        })
    }
}

#[derive(Debug)]
struct Entry {
    registry: String,
    /// Path components; empty for the whole registry.
    path: String,
    credential: Credential,
}

/// All credentials; the index of an entry is its identity for as long as the client lives.
#[derive(Debug, Default)]
pub(crate) struct Credentials {
    entries: Vec<Entry>,
    uses_store: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ConfigFile {
    #[serde(default)]
    auths: BTreeMap<String, Auth>,
    #[serde(default)]
    cred_helpers: BTreeMap<String, String>,
    creds_store: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Auth {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
    registrytoken: Option<String>,
}

impl Credentials {
    pub(crate) fn read(path: &Path) -> Result<Self, ClientOptionsError> {
        let failed = |source| ClientOptionsError::DockerConfigRead {
            path: path.to_owned(),
            source,
        };
        let invalid = |why| ClientOptionsError::DockerConfig {
            path: path.to_owned(),
            why,
        };
        if std::fs::metadata(path).map_err(failed)?.len() > FILE_LIMIT {
            return Err(invalid(format!("it is larger than {FILE_LIMIT} bytes")));
        }
        Self::parse(&std::fs::read(path).map_err(failed)?).map_err(invalid)
    }

    fn parse(text: &[u8]) -> Result<Self, String> {
        let file: ConfigFile = serde_json::from_slice(text).map_err(|error| {
            format!(
                "it does not parse at line {} column {}",
                error.line(),
                error.column()
            )
        })?;
        let mut entries = Vec::new();
        for (key, auth) in file.auths {
            let Some((registry, path)) = place_of(&key) else {
                continue;
            };
            if let Some(credential) = credential(&key, auth)? {
                entries.push(Entry {
                    registry,
                    path,
                    credential,
                });
            }
        }
        for key in file.cred_helpers.into_keys() {
            let Some((registry, path)) = place_of(&key) else {
                continue;
            };
            if !entries
                .iter()
                .any(|entry| entry.registry == registry && entry.path == path)
            {
                entries.push(Entry {
                    registry,
                    path,
                    credential: Credential::Unusable(HELPER),
                });
            }
        }
        Ok(Self {
            entries,
            uses_store: file.creds_store.is_some_and(|store| !store.is_empty()),
        })
    }

    /// The credentials with the longest matching path, and their identity.
    pub(crate) fn for_repository(&self, repository: &Repository) -> Option<(usize, &Credential)> {
        let covers = |entry: &Entry| {
            entry.registry == repository.registry()
                && (entry.path.is_empty()
                    || repository
                        .path()
                        .strip_prefix(&entry.path)
                        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
        };
        let covering = self.entries.iter().enumerate().filter(|(_, entry)| covers(entry));
        covering
            .max_by_key(|(_, entry)| entry.path.len())
            .map(|(id, entry)| (id, &entry.credential))
    }

    /// What to do where no credentials were found.
    pub(crate) const fn hint(&self) -> &'static str {
        if self.uses_store {
            "the docker config names a credential store, which is never executed: write the credentials under `auths`"
        } else {
            "give the registry's credentials under `auths` of the docker config"
        }
    }
}

/// Registry and path of a key of `auths`; keys that no image name can match are left out with a warning.
fn place_of(key: &str) -> Option<(String, String)> {
    let bare = key
        .trim_start_matches("https://")
        .trim_start_matches("http://")
        .trim_end_matches('/');
    let (host, path) = bare.split_once('/').unwrap_or((bare, ""));
    let path = if matches!(path, "v1" | "v2") { "" } else { path };
    match normalise_registry(host) {
        Ok(registry) => Some((registry, path.to_owned())),
        Err(error) => {
            tracing::warn!(%error, "an entry of the docker config is not used");
            None
        }
    }
}

fn credential(key: &str, auth: Auth) -> Result<Option<Credential>, String> {
    let present = |text: Option<String>| text.filter(|text| !text.is_empty());
    let wrong = |field: &str| format!("auths[{key:?}].{field} is not valid");
    if let Some(token) = present(auth.registrytoken) {
        let value = header("Bearer", &token).ok_or_else(|| wrong("registrytoken"))?;
        return Ok(Some(Credential::Bearer(value)));
    }
    if present(auth.identitytoken).is_some() {
        return Ok(Some(Credential::Unusable(IDENTITY_TOKEN)));
    }
    let pair = match (present(auth.auth), present(auth.username), present(auth.password)) {
        (Some(encoded), _, _) => decode(&encoded).ok_or_else(|| wrong("auth"))?,
        (None, Some(user), Some(password)) => format!("{user}:{password}"),
        (None, None, None) => return Ok(None),
        (None, _, _) => return Err(wrong("username or password")),
    };
    let value = header("Basic", &STANDARD.encode(pair)).ok_or_else(|| wrong("auth"))?;
    Ok(Some(Credential::Basic(value)))
}

fn decode(encoded: &str) -> Option<String> {
    let encoded = encoded.trim();
    let bytes = STANDARD
        .decode(encoded)
        .or_else(|_| STANDARD_NO_PAD.decode(encoded))
        .ok()?;
    let pair = String::from_utf8(bytes).ok()?;
    let pair = pair.trim_end_matches('\0').to_owned();
    pair.contains(':').then_some(pair)
}

/// An `Authorization` header that never shows in a debug print.
pub(crate) fn header(scheme: &str, value: &str) -> Option<HeaderValue> {
    let mut header = HeaderValue::from_str(&format!("{scheme} {value}")).ok()?;
    header.set_sensitive(true);
    Some(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(credentials: &Credentials, repository: &str) -> Option<String> {
        match credentials.for_repository(&repository.parse().unwrap())?.1 {
            Credential::Basic(value) | Credential::Bearer(value) => Some(value.to_str().unwrap().to_owned()),
            Credential::Unusable(why) => Some((*why).to_owned()),
        }
    }

    #[test]
    fn static_credentials_are_found_by_registry_and_longest_path() {
        let config = br#"{"auths": {
            "https://index.docker.io/v1/": {"auth": "aHViOnB3"},
            "registry.example.com": {"username": "all", "password": "pw"},
            "registry.example.com/shop": {"auth": "c2hvcDpwdw"},
            "r.io:5000": {"registrytoken": "abc"},
            "empty.io": {}
        }}"#;
        let credentials = Credentials::parse(config).unwrap();
        let basic = |pair: &str| Some(format!("Basic {}", STANDARD.encode(pair)));
        assert_eq!(shown(&credentials, "nginx"), basic("hub:pw"));
        assert_eq!(shown(&credentials, "registry.example.com/web"), basic("all:pw"));
        assert_eq!(
            shown(&credentials, "registry.example.com/shop/web"),
            basic("shop:pw")
        );
        assert_eq!(shown(&credentials, "registry.example.com/shop"), basic("shop:pw"));
        assert_eq!(
            shown(&credentials, "registry.example.com/shop-evil/web"),
            basic("all:pw")
        );
        assert_eq!(shown(&credentials, "r.io:5000/a"), Some("Bearer abc".to_owned()));
        for none in [
            "r.io/a",
            "empty.io/a",
            "example.com/a",
            "evil.registry.example.com/a",
        ] {
            assert_eq!(shown(&credentials, none), None, "{none}");
        }
    }

    #[test]
    fn helpers_are_named_and_never_run() {
        let config = br#"{"auths": {"a.io": {"auth": "YTpi"}, "c.io": {"identitytoken": "x"}},
            "credHelpers": {"a.io": "evil", "b.io": "evil"}, "credsStore": "evil"}"#;
        let credentials = Credentials::parse(config).unwrap();
        assert_eq!(shown(&credentials, "a.io/x"), Some("Basic YTpi".to_owned()));
        assert_eq!(shown(&credentials, "b.io/x"), Some(HELPER.to_owned()));
        assert_eq!(shown(&credentials, "c.io/x"), Some(IDENTITY_TOKEN.to_owned()));
        assert!(credentials.hint().contains("never executed"));
    }

    #[test]
    fn a_broken_entry_is_refused_without_quoting_it() {
        for (config, field) in [
            (r#"{"auths": {"a.io": {"auth": "secret!"}}}"#, "auth"),
            (r#"{"auths": {"a.io": {"auth": "c2VjcmV0"}}}"#, "auth"),
            (r#"{"auths": {"a.io": {"username": "secret"}}}"#, "password"),
            (
                r#"{"auths": {"a.io": {"registrytoken": "secret\n"}}}"#,
                "registrytoken",
            ),
            (r#"{"auths": "secret"}"#, "line 1"),
        ] {
            let why = Credentials::parse(config.as_bytes()).unwrap_err();
            assert!(
                why.contains(field) && !why.contains("secret") && !why.contains("c2VjcmV0"),
                "{why}"
            );
        }
    }

    #[test]
    fn entries_that_no_image_name_can_match_are_left_out() {
        let credentials =
            Credentials::parse(br#"{"auths": {"*.io": {"auth": "YTpi"}, "registry": {"auth": "YTpi"}}}"#);
        assert!(credentials.unwrap().entries.is_empty());
    }

    #[test]
    fn debug_prints_hold_no_secret() {
        let credentials = Credentials::parse(br#"{"auths": {"a.io": {"auth": "YTpi"}}}"#).unwrap();
        let printed = format!("{credentials:?}");
        assert!(!printed.contains("YTpi"), "{printed}");
    }
}
