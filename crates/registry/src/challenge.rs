//! What a 401 asks for: `WWW-Authenticate` (RFC 9110, section 11.6.1), and where its token may be asked.

use std::collections::BTreeSet;

use url::Url;

/// One challenge that this client can meet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Challenge {
    Basic,
    Bearer(Bearer),
}

impl Challenge {
    /// The challenge without what it says of the one repository it was raised for.
    pub(crate) fn for_any_repository(self) -> Self {
        match self {
            Self::Basic => Self::Basic,
            Self::Bearer(bearer) => Self::Bearer(Bearer {
                scope: None,
                ..bearer
            }),
        }
    }
}

/// A Bearer challenge of the distribution project's token authentication.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bearer {
    pub(crate) realm: String,
    pub(crate) service: Option<String>,
    pub(crate) scope: Option<String>,
}

/// A longer header is not read: the time that it takes grows with the square of its length.
const HEADER_LIMIT: usize = 8 << 10;

/// The challenges in one header. What cannot be read, or cannot be met, is left out: the worst that follows is
/// a denial.
pub(crate) fn challenges(header: &str) -> Vec<Challenge> {
    if header.len() > HEADER_LIMIT {
        return Vec::new();
    }
    let mut reader = Reader { rest: header };
    let mut found = Vec::new();
    while let Some(scheme) = reader.scheme() {
        let parameters = reader.parameters();
        match scheme.to_ascii_lowercase().as_str() {
            "basic" => found.push(Challenge::Basic),
            "bearer" => found.extend(bearer(parameters).map(Challenge::Bearer)),
            _ => {}
        }
    }
    found
}

fn bearer(parameters: Vec<(String, String)>) -> Option<Bearer> {
    let only = |name: &str| {
        let mut values = parameters
            .iter()
            .filter(|(key, _)| key == name)
            .map(|(_, value)| value.clone());
        let first = values.next();
        if values.next().is_some() { None } else { first }
    };
    Some(Bearer {
        realm: only("realm")?,
        service: only("service"),
        scope: only("scope"),
    })
}

struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    fn scheme(&mut self) -> Option<String> {
        self.rest = self.rest.trim_start_matches([' ', '\t', ',']);
        let scheme = self.token();
        (!scheme.is_empty()).then_some(scheme)
    }

    /// The parameters up to the next scheme; a `token68` in their place is skipped.
    fn parameters(&mut self) -> Vec<(String, String)> {
        let mut parameters = Vec::new();
        loop {
            let before = self.rest;
            self.rest = self.rest.trim_start_matches([' ', '\t', ',']);
            let name = self.token().to_ascii_lowercase();
            let Some(value) = self.value().filter(|_| !name.is_empty()) else {
                self.rest = if parameters.is_empty() {
                    after_comma(before)
                } else {
                    before
                };
                return parameters;
            };
            parameters.push((name, value));
        }
    }

    fn token(&mut self) -> String {
        let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        let end = self.rest.find(|c| !is_token(c)).unwrap_or(self.rest.len());
        let (token, rest) = self.rest.split_at(end);
        self.rest = rest;
        token.to_owned()
    }

    /// `= token` or `= "quoted"`.
    fn value(&mut self) -> Option<String> {
        let rest = self.rest.trim_start_matches([' ', '\t']).strip_prefix('=')?;
        self.rest = rest.trim_start_matches([' ', '\t']);
        if let Some(quoted) = self.rest.strip_prefix('"') {
            return self.quoted(quoted);
        }
        let token = self.token();
        (!token.is_empty()).then_some(token)
    }

    fn quoted(&mut self, text: &str) -> Option<String> {
        let mut value = String::new();
        let mut escaped = false;
        for (at, character) in text.char_indices() {
            match character {
                _ if escaped => {
                    value.push(character);
                    escaped = false;
                }
                '\\' => escaped = true,
                '"' => {
                    let consumed = self.rest.len() - text.len() + at + 1;
                    self.rest = &self.rest[consumed..];
                    return Some(value);
                }
                _ => value.push(character),
            }
        }
        None
    }
}

fn after_comma(text: &str) -> &str {
    text.find(',').map_or("", |comma| &text[comma..])
}

/// Token servers of public registries that live on another host than the registry.
const KNOWN_TOKEN_SERVERS: [(&str, &str); 3] = [
    ("docker.io", "auth.docker.io"),
    ("registry.gitlab.com", "gitlab.com"),
    ("registry.digitalocean.com", "api.digitalocean.com"),
];

/// The realm as a URL, if tokens for the registry may be asked there: on the registry's own host and port, or
/// on a token server allowed for it; over https unless the registry itself speaks plain http.
///
/// # Errors
/// Why not, naming the realm's host (B17).
pub(crate) fn pinned_realm(
    realm: &str,
    registry: &str,
    base: &Url,
    allowed: Option<&BTreeSet<String>>,
) -> Result<Url, String> {
    let url =
        Url::parse(realm).map_err(|_| "the registry names a token server that is not a URL".to_owned())?;
    let host = url.host_str().unwrap_or("");
    let server = url
        .port()
        .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    if url.scheme() != "https" && !(url.scheme() == "http" && base.scheme() == "http") {
        return Err(format!(
            "the registry names the token server {server} without https; no credentials were sent"
        ));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(format!(
            "the registry names the token server {server} with credentials in its URL"
        ));
    }
    let own = url.host() == base.host() && url.port_or_known_default() == base.port_or_known_default();
    let known = KNOWN_TOKEN_SERVERS.contains(&(registry, server.as_str()));
    if own || known || allowed.is_some_and(|servers| servers.contains(&server)) {
        return Ok(url);
    }
    Err(format!(
        "the registry names {server} as its token server, which is neither the registry itself nor allowed for \
         it; no credentials were sent"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Challenge {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Challenge::Bearer(Bearer {
            realm: realm.to_owned(),
            service: owned(service),
            scope: owned(scope),
        })
    }

    #[test]
    fn challenges_are_read_as_registries_write_them() {
        let docker = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/nginx:pull""#;
        assert_eq!(
            challenges(docker),
            [bearer(
                "https://auth.docker.io/token",
                Some("registry.docker.io"),
                Some("repository:library/nginx:pull")
            )]
        );
        assert_eq!(challenges("Basic realm=\"r\""), [Challenge::Basic]);
        assert_eq!(challenges("basic"), [Challenge::Basic]);
        assert_eq!(
            challenges("Negotiate abc==, Basic realm=\"a \\\"b, Bearer\", bearer realm = https"),
            [Challenge::Basic, bearer("https", None, None)]
        );
        assert_eq!(
            challenges("Basic, Bearer realm=\"x\""),
            [Challenge::Basic, bearer("x", None, None)]
        );
    }

    /// Found by fuzzing: 64 KB of quotes that do not end took half a second.
    #[test]
    fn f22_a_header_of_very_many_open_quotes_is_not_read() {
        let opened = "a=\"\\\"b,".repeat(100_000);
        let begin = std::time::Instant::now();
        assert_eq!(challenges(&opened), []);
        assert_eq!(challenges(&format!("Bearer realm=\"x\", {opened}")), []);
        assert!(begin.elapsed().as_millis() < 500, "{:?}", begin.elapsed());
        let longest = format!("Bearer realm=\"x\",{}", " ".repeat(HEADER_LIMIT - 17));
        assert_eq!(challenges(&longest), [bearer("x", None, None)]);
    }

    #[test]
    fn what_is_ambiguous_or_broken_is_no_challenge() {
        for header in [
            "",
            ",,,",
            "Bearer",
            "Bearer realm",
            "Bearer realm=",
            "Bearer realm=\"x",
            "Bearer service=\"x\"",
            "Bearer realm=\"a\",realm=\"b\"",
            "=x",
            "Digest realm=\"x\"",
            "\u{e9}",
        ] {
            assert_eq!(challenges(header), [], "{header}");
        }
    }

    fn pinned(realm: &str, registry: &str, base: &str) -> Result<Url, String> {
        let allowed = BTreeSet::from(["auth.example.com".to_owned(), "127.0.0.1:7000".to_owned()]);
        pinned_realm(realm, registry, &Url::parse(base).unwrap(), Some(&allowed))
    }

    #[test]
    fn b17_a_token_is_asked_only_where_the_registry_is_or_where_it_is_allowed() {
        let own = "https://r.example.com/v2/";
        for realm in [
            "https://r.example.com/token",
            "https://r.example.com:443/token?x=y",
            "https://auth.example.com/t",
        ] {
            assert!(pinned(realm, "r.example.com", own).is_ok(), "{realm}");
        }
        for realm in [
            "https://evil.io/token",
            "http://r.example.com/token",
            "https://r.example.com:444/token",
            "https://r.example.com.evil.io/",
            "https://user:pw@r.example.com/",
            "https://r.example.com@evil.io/",
            "https://auth.docker.io/token",
            "//r.example.com/t",
            "/token",
            "",
            "file:///etc/passwd",
            "http://auth.example.com/t",
        ] {
            assert!(pinned(realm, "r.example.com", own).is_err(), "{realm}");
        }
        let hub = "https://registry-1.docker.io/v2/";
        assert!(pinned("https://auth.docker.io/token", "docker.io", hub).is_ok());
        assert!(pinned("http://auth.docker.io/token", "docker.io", hub).is_err());
        let plain = "http://127.0.0.1:5000/v2/";
        assert!(pinned("http://127.0.0.1:5000/token", "127.0.0.1:5000", plain).is_ok());
        assert!(pinned("http://127.0.0.1:7000/token", "127.0.0.1:5000", plain).is_ok());
        assert!(pinned("http://127.0.0.1:6000/token", "127.0.0.1:5000", plain).is_err());
        assert!(pinned("http://169.254.169.254/latest", "127.0.0.1:5000", plain).is_err());
    }

    #[test]
    fn the_refusal_names_the_host() {
        let refusal = pinned(
            "https://evil.io:8443/token",
            "r.example.com",
            "https://r.example.com/",
        )
        .unwrap_err();
        assert!(refusal.contains("evil.io:8443"), "{refusal}");
    }
}
