//! Credentials, and which of them may be shown to which repository's registry.
//!
//! Keys are matched as the kubelet matches pull secrets: by host, whose labels may be globs, by port, and by the
//! beginning of the path; all that match are candidates, those with the longer key first.

use std::fmt;
use std::sync::Arc;

use http::HeaderValue;
use image::{Digest, Repository, normalise_registry};

use crate::docker_config::{self, Config};
use crate::error::shown;

/// More candidates than this are not tried for one repository.
const CANDIDATES: usize = 4;

/// One credential.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Credential {
    /// A value for `Authorization: Basic`, at the registry or at its token server.
    Basic(HeaderValue),
    /// A value for `Authorization: Bearer`, at the registry.
    Bearer(HeaderValue),
    /// Something is written that cannot be used; why, and what to do.
    Unusable(String),
    /// There may be one, and it cannot be had for the moment: why.
    Unavailable(String),
}

impl Credential {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Basic(value) | Self::Bearer(value) => value.as_bytes(),
            Self::Unusable(why) | Self::Unavailable(why) => why.as_bytes(),
        }
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Basic(_) => "Basic",
            Self::Bearer(_) => "Bearer",
            Self::Unusable(_) => "Unusable",
            Self::Unavailable(_) => "Unavailable",
        })
    }
}

/// A credential with what it is for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Key {
    pattern: Pattern,
    /// What holds it: `Secret shop/pull`.
    pub(crate) holder: Arc<str>,
    pub(crate) credential: Credential,
    /// Tells this credential from every other: what was fetched with one is never used for another.
    pub(crate) id: Digest,
}

impl Key {
    fn new(pattern: Pattern, holder: Arc<str>, credential: Credential) -> Self {
        let id = Digest::sha256(&[holder.as_bytes(), b"\0", credential.bytes()].concat());
        Self {
            pattern,
            holder,
            credential,
            id,
        }
    }

    /// What a cloud gave for a registry of its own.
    pub(crate) fn of_a_cloud(cloud: &str, user: &str, password: &str) -> Self {
        let holder: Arc<str> = format!("the operator's identity at {cloud}").into();
        let credential = basic(user, password).map_or_else(
            || Credential::Unusable(format!("{cloud} gave credentials that cannot be sent")),
            Credential::Basic,
        );
        Self::new(Pattern::Everything, holder, credential)
    }

    /// A cloud gives nothing, and why.
    pub(crate) fn unusable(cloud: &str, why: String) -> Self {
        let holder: Arc<str> = format!("the operator's identity at {cloud}").into();
        Self::new(Pattern::Everything, holder, Credential::Unusable(why))
    }

    /// A cloud could not be asked, and why.
    pub(crate) fn unavailable(cloud: &str, why: String) -> Self {
        let holder: Arc<str> = format!("the operator's identity at {cloud}").into();
        Self::new(Pattern::Everything, holder, Credential::Unavailable(why))
    }

    /// It can be sent.
    pub(crate) const fn is_usable(&self) -> bool {
        matches!(self.credential, Credential::Basic(_) | Credential::Bearer(_))
    }
}

/// Credentials for registries, from one or several holders. Cloning is cheap; a debug print shows no secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Credentials {
    /// As the kubelet sorts them: by key, backwards; equal keys in the order of their holders.
    keys: Vec<Arc<Key>>,
    holders: Vec<Arc<str>>,
    /// Holders that name a program which keeps the credentials, and the program.
    stores: Vec<(Arc<str>, String)>,
}

/// Why credentials cannot be read. The message names who holds them and quotes no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{holder} is not valid: {why}")]
pub struct CredentialsError {
    /// What holds them.
    pub holder: String,
    /// What is wrong, and where.
    pub why: String,
}

impl Credentials {
    /// Reads the content of a docker `config.json`, which is that of a Secret of type
    /// kubernetes.io/dockerconfigjson. `holder` names it in messages: `Secret shop/pull`. Programs that it names
    /// are never executed.
    ///
    /// # Errors
    /// [`CredentialsError`].
    pub fn from_docker_config(holder: &str, json: &[u8]) -> Result<Self, CredentialsError> {
        Self::from_config(holder, docker_config::parse(holder, json))
    }

    /// Reads the older form, that of a Secret of type kubernetes.io/dockercfg.
    ///
    /// # Errors
    /// [`CredentialsError`].
    pub fn from_dockercfg(holder: &str, json: &[u8]) -> Result<Self, CredentialsError> {
        Self::from_config(holder, docker_config::parse_old(holder, json))
    }

    /// A user name and password for every repository that they are asked for: for a [`crate::Route`], which says
    /// which ones.
    ///
    /// # Errors
    /// [`CredentialsError`] if they cannot be sent: the user name has a colon, for example.
    pub fn from_password(holder: &str, user: &str, password: &str) -> Result<Self, CredentialsError> {
        let wrong = |why: &str| CredentialsError {
            holder: holder.to_owned(),
            why: why.to_owned(),
        };
        if user.is_empty() || user.contains(':') {
            return Err(wrong("the user name is empty or has a colon"));
        }
        let value = basic(user, password).ok_or_else(|| wrong("they cannot be sent"))?;
        let mut credentials = Self::none(holder);
        credentials.add(Pattern::Everything, Credential::Basic(value));
        Ok(credentials)
    }

    /// No credentials, held by a named holder: a Secret that is empty.
    pub fn none(holder: &str) -> Self {
        Self {
            keys: Vec::new(),
            holders: vec![holder.into()],
            stores: Vec::new(),
        }
    }

    /// The credentials of several holders, in order, as a pod names several pull secrets.
    pub fn united(all: impl IntoIterator<Item = Self>) -> Self {
        let mut united = Self::default();
        for credentials in all {
            united.keys.extend(credentials.keys);
            united.holders.extend(credentials.holders);
            united.stores.extend(credentials.stores);
        }
        united.sort();
        united
    }

    fn from_config(holder: &str, config: Result<Config, String>) -> Result<Self, CredentialsError> {
        let config = config.map_err(|why| CredentialsError {
            holder: holder.to_owned(),
            why,
        })?;
        let mut credentials = Self::none(holder);
        for (key, credential) in config.entries {
            match Pattern::read(&key) {
                Some(pattern) => credentials.add(pattern, credential),
                None => tracing::warn!(
                    holder,
                    key = shown(&key),
                    "a key that no image name can match is not used"
                ),
            }
        }
        if let Some(store) = config.store {
            credentials.stores.push((holder.into(), store));
        }
        credentials.sort();
        Ok(credentials)
    }

    fn add(&mut self, pattern: Pattern, credential: Credential) {
        let holder = self.holders.first().cloned().unwrap_or_else(|| "".into());
        self.keys.push(Arc::new(Key::new(pattern, holder, credential)));
    }

    fn sort(&mut self) {
        self.keys
            .sort_by(|one, other| other.pattern.text().cmp(one.pattern.text()));
    }

    /// The candidates for a repository, in the order in which they are tried; those that cannot be used as well.
    pub(crate) fn candidates(&self, repository: &Repository) -> Vec<Arc<Key>> {
        let matching = self.keys.iter().filter(|key| key.pattern.matches(repository));
        matching.take(CANDIDATES).cloned().collect()
    }

    /// What tells these credentials from others.
    pub(crate) fn id(&self) -> Digest {
        let ids: Vec<u8> = self
            .keys
            .iter()
            .flat_map(|key| key.id.to_string().into_bytes())
            .collect();
        Digest::sha256(&ids)
    }

    /// Whether any of them is written for the repository and can be used.
    pub fn are_for(&self, repository: &Repository) -> bool {
        self.candidates(repository).iter().any(|key| key.is_usable())
    }

    /// What to do where no candidate was found; `None` where there is no holder at all.
    pub fn hint(&self, registry: &str) -> Option<String> {
        if let Some((holder, store)) = self.stores.first() {
            return Some(format!(
                "{holder} names the credential store {:?}, which is never executed: write the credentials under \
                 `auths`",
                shown(store)
            ));
        }
        if self.holders.is_empty() {
            return None;
        }
        Some(format!(
            "{} holds no credentials for {registry}: write them under `auths`",
            self.holders.join(", ")
        ))
    }
}

/// On whose behalf registries are asked. Nothing that was fetched for one identity is handed to another.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Identity {
    /// The operator, with its own credentials.
    Operator,
    /// Somebody else, by what they are called and the credentials that they have.
    Other(Digest),
}

impl Identity {
    /// A name for what is remembered of a host, another one for each identity.
    pub(crate) fn apart(&self, host: &str) -> String {
        match self {
            Self::Operator => host.to_owned(),
            Self::Other(id) => format!("{host} {id}"),
        }
    }
}

/// An identity with its name and credentials.
#[derive(Debug)]
pub(crate) struct Caller {
    pub(crate) identity: Identity,
    /// What the identity is called; empty for the operator.
    pub(crate) name: Arc<str>,
    /// The operator's own, which are tried first.
    pub(crate) operators: Credentials,
    /// Those of somebody else.
    pub(crate) credentials: Credentials,
}

impl Caller {
    pub(crate) fn operator(credentials: Credentials) -> Self {
        Self {
            identity: Identity::Operator,
            name: "".into(),
            operators: credentials,
            credentials: Credentials::default(),
        }
    }

    /// Somebody else, with what `operator` has as well.
    pub(crate) fn other(operator: &Self, name: &str, credentials: Credentials) -> Self {
        let id = format!("{name}\0{}", credentials.id());
        Self {
            identity: Identity::Other(Digest::sha256(id.as_bytes())),
            name: name.into(),
            operators: operator.operators.clone(),
            credentials,
        }
    }
}

/// The repositories that a key is for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Pattern {
    Everything,
    Keyed {
        /// As it is sorted.
        text: String,
        host: String,
        port: Option<String>,
        path: String,
    },
}

impl Pattern {
    /// Reads a key as the kubelet does: a scheme is dropped, `/v1/` and `/v2/` stand for no path. `None` for what no
    /// image name can match.
    fn read(key: &str) -> Option<Self> {
        let bare = key
            .strip_prefix("https://")
            .or_else(|| key.strip_prefix("http://"))
            .unwrap_or(key);
        let (authority, path) = bare.split_once('/').unwrap_or((bare, ""));
        let path = match path.strip_prefix("v1").or_else(|| path.strip_prefix("v2")) {
            Some("") => "",
            Some(rest) if rest.starts_with('/') => &rest[1..],
            _ => path,
        };
        let authority = if authority.contains(['*', '?']) {
            is_glob(authority).then(|| authority.to_ascii_lowercase())?
        } else {
            normalise_registry(authority).ok()?
        };
        let (host, port) = split_port(&authority);
        Some(Self::Keyed {
            text: format!("{authority}/{path}"),
            host: host.to_owned(),
            port: port.map(str::to_owned),
            path: path.to_owned(),
        })
    }

    fn text(&self) -> &str {
        match self {
            Self::Everything => "",
            Self::Keyed { text, .. } => text,
        }
    }

    fn matches(&self, repository: &Repository) -> bool {
        match self {
            Self::Everything => true,
            Self::Keyed { host, port, path, .. } => {
                let (registry, registry_port) = split_port(repository.registry());
                port.as_deref() == registry_port
                    && matches_labels(host, registry)
                    && repository.path().starts_with(path.as_str())
            }
        }
    }
}

fn is_glob(authority: &str) -> bool {
    authority
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"*?.-:".contains(&byte))
}

fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (authority, None),
    }
}

/// Label by label, so that `*` never crosses a dot.
fn matches_labels(glob: &str, host: &str) -> bool {
    let (globs, labels): (Vec<&str>, Vec<&str>) = (glob.split('.').collect(), host.split('.').collect());
    globs.len() == labels.len()
        && globs
            .iter()
            .zip(labels)
            .all(|(glob, label)| matches_label(glob.as_bytes(), label.as_bytes()))
}

/// In time that grows with the product of the lengths only, because tenants write globs.
fn matches_label(glob: &[u8], label: &[u8]) -> bool {
    let (mut at, mut position) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while position < label.len() {
        match glob.get(at) {
            Some(b'*') => {
                star = Some((at, position));
                at += 1;
            }
            Some(byte) if *byte == b'?' || *byte == label[position] => {
                at += 1;
                position += 1;
            }
            _ => match star {
                Some((starred, taken)) => {
                    star = Some((starred, taken + 1));
                    at = starred + 1;
                    position = taken + 1;
                }
                None => return false,
            },
        }
    }
    glob[at..].iter().all(|byte| *byte == b'*')
}

/// A user name and password (RFC 7617).
fn basic(user: &str, password: &str) -> Option<HeaderValue> {
    use base64::Engine as _;
    let pair = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    header("Basic", &pair)
}

/// An `Authorization` header that never shows in a debug print.
pub(crate) fn header(scheme: &str, value: &str) -> Option<HeaderValue> {
    let mut header = HeaderValue::from_str(&format!("{scheme} {value}")).ok()?;
    header.set_sensitive(true);
    Some(header)
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    fn shown_for(credentials: &Credentials, repository: &str) -> Vec<String> {
        let candidates = credentials.candidates(&repository.parse().unwrap());
        candidates
            .iter()
            .map(|key| String::from_utf8_lossy(key.credential.bytes()).into_owned())
            .collect()
    }

    fn config(json: &str) -> Credentials {
        Credentials::from_docker_config("Secret shop/pull", json.as_bytes()).unwrap()
    }

    fn basic(pair: &str) -> String {
        format!("Basic {}", STANDARD.encode(pair))
    }

    #[test]
    fn c3_12_keys_match_as_the_kubelet_matches_them_the_longest_first() {
        let credentials = config(
            r#"{"auths": {
            "https://index.docker.io/v1/": {"auth": "aHViOnB3"},
            "registry.example.com": {"username": "all", "password": "pw"},
            "http://registry.example.com/v2/shop": {"auth": "c2hvcDpwdw"},
            "*.corp.example": {"username": "glob", "password": "pw"},
            "reg-?.example": {"username": "one", "password": "pw"},
            "*.corp.example:5000/team": {"username": "port", "password": "pw"},
            "r.io:5000": {"registrytoken": "abc"},
            "empty.io": {}
        }}"#,
        );
        assert_eq!(shown_for(&credentials, "nginx"), [basic("hub:pw")]);
        assert_eq!(
            shown_for(&credentials, "registry.example.com/web"),
            [basic("all:pw")]
        );
        for path in ["shop/web", "shop", "shopping/web"] {
            let repository = format!("registry.example.com/{path}");
            let expected = [basic("shop:pw"), basic("all:pw")];
            assert_eq!(shown_for(&credentials, &repository), expected, "{path}");
        }
        assert_eq!(shown_for(&credentials, "a.corp.example/x"), [basic("glob:pw")]);
        assert_eq!(shown_for(&credentials, "reg-1.example/x"), [basic("one:pw")]);
        assert_eq!(
            shown_for(&credentials, "a.corp.example:5000/team/x"),
            [basic("port:pw")]
        );
        assert_eq!(shown_for(&credentials, "r.io:5000/a"), ["Bearer abc"]);
        for none in [
            "r.io/a",
            "empty.io/a",
            "example.com/a",
            "evil.registry.example.com/a",
            "a.b.corp.example/x",
            "corp.example/x",
            "a.corp.example:5001/x",
            "a.corp.example:5000/other",
            "a.corp.example.evil.io/x",
            "reg-12.example/x",
        ] {
            assert_eq!(shown_for(&credentials, none), [""; 0], "{none}");
        }
    }

    #[test]
    fn several_secrets_are_candidates_in_their_order() {
        let one = Credentials::from_docker_config("Secret a/one", br#"{"auths":{"r.io":{"auth":"YTox"}}}"#);
        let two = Credentials::from_docker_config(
            "Secret a/two",
            br#"{"auths":{"r.io":{"auth":"YToy"},"r.io/shop":{"auth":"YToz"}}}"#,
        );
        let united = Credentials::united([one.unwrap(), two.unwrap()]);
        assert_eq!(
            shown_for(&united, "r.io/shop/web"),
            [basic("a:3"), basic("a:1"), basic("a:2")]
        );
        let hint = united.hint("other.io").unwrap();
        assert!(hint.contains("Secret a/one, Secret a/two"), "{hint}");
    }

    #[test]
    fn helpers_are_named_and_never_run() {
        let credentials = config(
            r#"{"auths": {"a.io": {"auth": "YTpi"}, "c.io": {"identitytoken": "x"}},
            "credHelpers": {"a.io": "evil", "b.io": "ecr-login"}, "credsStore": "desktop"}"#,
        );
        assert_eq!(shown_for(&credentials, "a.io/x"), ["Basic YTpi"]);
        let why = shown_for(&credentials, "b.io/x").remove(0);
        for part in ["Secret shop/pull", "\"ecr-login\"", "never executed"] {
            assert!(why.contains(part), "{why}");
        }
        assert!(shown_for(&credentials, "c.io/x")[0].contains("identity token"));
        let hint = credentials.hint("d.io").unwrap();
        assert!(
            hint.contains("never executed") && hint.contains("\"desktop\""),
            "{hint}"
        );
    }

    #[test]
    fn a_password_of_a_route_is_for_all_that_the_route_covers() {
        let credentials = Credentials::from_password("Secret assay-system/hub", "user", "p:w").unwrap();
        assert_eq!(shown_for(&credentials, "r.io/a"), [basic("user:p:w")]);
        assert!(Credentials::from_password("x", "us:er", "pw").is_err());
        assert!(Credentials::from_password("x", "", "pw").is_err());
    }

    #[test]
    fn keys_that_no_image_name_can_match_are_left_out() {
        let credentials = config(
            r#"{"auths": {"registry": {"auth": "YTpi"}, "": {"auth": "YTpi"}, "[a-z].io": {"auth": "YTpi"}}}"#,
        );
        assert!(credentials.keys.is_empty());
    }

    #[test]
    fn another_password_or_another_holder_is_another_identity() {
        let text = |auth: &str| format!(r#"{{"auths":{{"r.io":{{"auth":"{auth}"}}}}}}"#);
        let read = |holder, auth| Credentials::from_docker_config(holder, text(auth).as_bytes()).unwrap();
        let one = read("Secret a/x", "YTox");
        assert_eq!(one.id(), read("Secret a/x", "YTox").id());
        assert_ne!(one.id(), read("Secret a/x", "YToy").id());
        assert_ne!(one.id(), read("Secret b/x", "YTox").id());
    }

    #[test]
    fn debug_prints_and_errors_hold_no_secret() {
        let printed = format!("{:?}", config(r#"{"auths": {"a.io": {"auth": "YTpi"}}}"#));
        assert!(!printed.contains("YTpi"), "{printed}");
        let error =
            Credentials::from_docker_config("Secret a/b", br#"{"auths": {"a.io": {"auth": "secret"}}}"#);
        let text = error.unwrap_err().to_string();
        assert!(
            text.contains("Secret a/b") && !text.contains("secret\""),
            "{text}"
        );
    }
}
