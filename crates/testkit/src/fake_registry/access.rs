//! Whom the fake registry serves: everybody, who knows a password, or who holds a token of its token server.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::SeenRequest;
use super::api::Answer;

/// Whom a fake registry serves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Access {
    /// Everybody.
    #[default]
    Open,
    /// Who sends one of these pairs of user name and password.
    Basic(Vec<(String, String)>),
    /// Who holds a token from `/token`, which it gives to one of these pairs; to everybody if there is none. A
    /// token is good for the one repository that it was asked for.
    Token(Vec<(String, String)>),
}

impl Access {
    /// One user with a password.
    pub fn password(user: &str, password: &str) -> Self {
        Self::Basic(vec![(user.to_owned(), password.to_owned())])
    }

    /// A token server that gives tokens to one user.
    pub fn token_for(user: &str, password: &str) -> Self {
        Self::Token(vec![(user.to_owned(), password.to_owned())])
    }
}

/// Judges requests; issues tokens `token-<number>-<scope>`.
#[derive(Default)]
pub(super) struct Gatekeeper {
    pub(super) access: Access,
    issued: usize,
    /// Tokens with a lower number are refused.
    valid_from: usize,
}

impl Gatekeeper {
    pub(super) fn revoke(&mut self) {
        self.valid_from = self.issued;
    }

    /// Nothing, if the request may pass; else the answer to it.
    pub(super) fn admit(&mut self, seen: &SeenRequest, host: &str) -> Result<(), Answer> {
        match &self.access {
            Access::Open => Ok(()),
            Access::Basic(users) if knows_password(users, seen) => Ok(()),
            Access::Basic(_) => {
                Err(Answer::error(401, "UNAUTHORIZED").with("www-authenticate", "Basic realm=\"fake\""))
            }
            Access::Token(users) if seen.path() == "/token" => {
                if !users.is_empty() && !knows_password(users, seen) {
                    return Err(Answer::error(401, "UNAUTHORIZED"));
                }
                Err(self.issue(seen))
            }
            Access::Token(_) => self.check_token(seen, host),
        }
    }

    fn issue(&mut self, seen: &SeenRequest) -> Answer {
        let number = self.issued;
        self.issued += 1;
        let (_, query) = seen.target.split_once('?').unwrap_or_default();
        let scopes: Vec<String> = url::form_urlencoded::parse(query.as_bytes())
            .filter(|(name, _)| name == "scope")
            .map(|(_, scope)| scope.into_owned())
            .collect();
        let token = format!("token-{number}-{}", STANDARD.encode(scopes.join(" ")));
        Answer::json(&json!({"token": token, "expires_in": 300}))
    }

    fn check_token(&self, seen: &SeenRequest, host: &str) -> Result<(), Answer> {
        let repository = repository_of(seen.path());
        let held = seen.authorization().and_then(held_scope);
        let fits = held.is_some_and(|(number, scope)| {
            number >= self.valid_from
                && repository.is_none_or(|name| {
                    let wanted = format!("repository:{name}:");
                    scope.split(' ').any(|scope| scope.starts_with(&wanted))
                })
        });
        if fits {
            return Ok(());
        }
        let scope = repository.map_or_else(
            || "registry:catalog:*".to_owned(),
            |name| format!("repository:{name}:pull"),
        );
        let challenge = format!("Bearer realm=\"http://{host}/token\",service=\"fake\",scope=\"{scope}\"");
        Err(Answer::error(401, "UNAUTHORIZED").with("www-authenticate", &challenge))
    }
}

/// The number and the scopes of a token that this registry issued.
fn held_scope(authorization: &str) -> Option<(usize, String)> {
    let (number, scope) = authorization.strip_prefix("Bearer token-")?.split_once('-')?;
    let scope = STANDARD.decode(scope).ok()?;
    Some((number.parse().ok()?, String::from_utf8(scope).ok()?))
}

fn knows_password(users: &[(String, String)], seen: &SeenRequest) -> bool {
    users.iter().any(|(user, password)| {
        let expected = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
        seen.authorization() == Some(&expected)
    })
}

/// The repository that a path of the API is about.
pub(super) fn repository_of(path: &str) -> Option<&str> {
    let rest = path.strip_prefix("/v2/")?;
    ["/manifests/", "/blobs/", "/referrers/", "/tags/"]
        .iter()
        .find_map(|part| rest.find(part).map(|at| &rest[..at]))
}
