//! The file format of Docker's `config.json`, as Secrets of type kubernetes.io/dockerconfigjson hold it, and its
//! older form without the outer level (`.dockercfg`).
//!
//! Only `auths` are used. `credHelpers` and `credsStore` name programs; they are never executed, only mentioned
//! when a registry refuses. No value of the file appears in a message.

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use serde::Deserialize;

use crate::credentials::{Credential, Credentials, header};
use crate::error::shown;
use crate::options::ClientOptionsError;

/// The largest file that is read.
const LIMIT: usize = 1 << 20;

/// What a file says, in the order of its keys.
#[derive(Debug, Default)]
pub(crate) struct Config {
    /// Keys of `auths`, and of `credHelpers` where `auths` has nothing for them.
    pub(crate) entries: Vec<(String, Credential)>,
    /// The name of the program that keeps all credentials.
    pub(crate) store: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
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

/// Reads a `config.json`. `holder` names what holds it, for the explanations of entries that cannot be used.
///
/// # Errors
/// What is wrong, and where; no value is quoted.
pub(crate) fn parse(holder: &str, text: &[u8]) -> Result<Config, String> {
    let wire: Wire = read(text)?;
    let mut entries = credentials(holder, wire.auths)?;
    for (key, helper) in wire.cred_helpers {
        if entries.iter().any(|(other, _)| *other == key) {
            continue;
        }
        let why = format!(
            "{holder} names the credential helper {:?} for it, which is never executed: write the credentials \
             under `auths`",
            shown(&helper)
        );
        entries.push((key, Credential::Unusable(why)));
    }
    Ok(Config {
        entries,
        store: wire.creds_store.filter(|store| !store.is_empty()),
    })
}

/// Reads a `.dockercfg`: what `auths` holds, without the rest.
///
/// # Errors
/// As [`parse`].
pub(crate) fn parse_old(holder: &str, text: &[u8]) -> Result<Config, String> {
    Ok(Config {
        entries: credentials(holder, read(text)?)?,
        store: None,
    })
}

/// The credentials in the operator's own file.
pub(crate) fn read_file(path: &Path) -> Result<Credentials, ClientOptionsError> {
    let failed = |source| ClientOptionsError::DockerConfigRead {
        path: path.to_owned(),
        source,
    };
    let invalid = |why| ClientOptionsError::DockerConfig {
        path: path.to_owned(),
        why,
    };
    if std::fs::metadata(path).map_err(failed)?.len() > LIMIT as u64 {
        return Err(invalid(format!("it is larger than {LIMIT} bytes")));
    }
    let json = std::fs::read(path).map_err(failed)?;
    Credentials::from_docker_config("the docker config", &json).map_err(|error| invalid(error.why))
}

fn read<'a, T: Deserialize<'a>>(text: &'a [u8]) -> Result<T, String> {
    if text.len() > LIMIT {
        return Err(format!("it is larger than {LIMIT} bytes"));
    }
    serde_json::from_slice(text).map_err(|error| {
        format!(
            "it does not parse at line {} column {}",
            error.line(),
            error.column()
        )
    })
}

fn credentials(holder: &str, auths: BTreeMap<String, Auth>) -> Result<Vec<(String, Credential)>, String> {
    let mut entries = Vec::new();
    for (key, auth) in auths {
        if let Some(credential) = credential(holder, &key, auth)? {
            entries.push((key, credential));
        }
    }
    Ok(entries)
}

fn credential(holder: &str, key: &str, auth: Auth) -> Result<Option<Credential>, String> {
    let present = |text: Option<String>| text.filter(|text| !text.is_empty());
    let wrong = |field: &str| format!("auths[{:?}].{field} is not valid", shown(key));
    if let Some(token) = present(auth.registrytoken) {
        let value = header("Bearer", &token).ok_or_else(|| wrong("registrytoken"))?;
        return Ok(Some(Credential::Bearer(value)));
    }
    if present(auth.identitytoken).is_some() {
        return Ok(Some(Credential::Unusable(format!(
            "{holder} holds an identity token for it, which is not supported: write user name and password"
        ))));
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

#[cfg(test)]
mod tests {
    use super::*;

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
            let why = parse("x", config.as_bytes()).unwrap_err();
            assert!(
                why.contains(field) && !why.contains("secret") && !why.contains("c2VjcmV0"),
                "{why}"
            );
        }
        assert!(parse("x", &vec![b' '; LIMIT + 1]).is_err());
    }

    #[test]
    fn the_older_form_is_the_inside_of_auths() {
        let config = parse_old("x", br#"{"a.io": {"auth": "YTpi"}, "b.io": {}}"#).unwrap();
        assert_eq!(config.entries.len(), 1);
        assert_eq!(config.entries[0].0, "a.io");
    }
}
