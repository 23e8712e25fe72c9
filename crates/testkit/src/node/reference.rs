//! Image references as a kubelet parses them; written for the simulator alone, so that it can prove the operator
//! wrong. Grammar: distribution's `reference` package, normalised for Docker Hub.

/// A parsed reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reference {
    /// The registry's host: `127.0.0.1:5000`, `docker.io`.
    pub(super) host: String,
    /// The repository within the registry: `shop/web`, `library/nginx`.
    pub(super) path: String,
    pub(super) tag: Option<String>,
    pub(super) digest: Option<String>,
}

impl Reference {
    /// Reads a reference; the error says what is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let invalid = |what: &str| format!("couldn't parse image name {text:?}: {what}");
        if text.len() == 64
            && text
                .bytes()
                .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
        {
            return Err(invalid("it looks like an image id"));
        }
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) if is_digest(digest) => (name, Some(digest.to_owned())),
            Some(_) => return Err(invalid("invalid digest")),
            None => (text, None),
        };
        let last_slash = name.rfind('/').map_or(0, |at| at + 1);
        let (name, tag) = match name[last_slash..].find(':').map(|at| at + last_slash) {
            Some(colon) if is_tag(&name[colon + 1..]) => (&name[..colon], Some(name[colon + 1..].to_owned())),
            Some(_) => return Err(invalid("invalid tag")),
            None => (name, None),
        };
        let (host, path) = match name.split_once('/') {
            Some((first, rest)) if names_host(first) => (first, rest.to_owned()),
            Some(_) => ("docker.io", name.to_owned()),
            None => ("docker.io", format!("library/{name}")),
        };
        let host = if host == "index.docker.io" {
            "docker.io"
        } else {
            host
        };
        if !is_host(host) {
            return Err(invalid("invalid host"));
        }
        if path.len() > 255 || !path.split('/').all(is_path_component) {
            return Err(invalid(
                "invalid reference format: a repository is lower case letters, digits and separators",
            ));
        }
        Ok(Self {
            host: host.to_owned(),
            path,
            tag,
            digest,
        })
    }

    /// `host/path`.
    pub(super) fn repository(&self) -> String {
        format!("{}/{}", self.host, self.path)
    }

    /// What to ask the registry for: the digest before the tag, `latest` without both.
    pub(super) fn target(&self) -> &str {
        self.digest.as_deref().or(self.tag.as_deref()).unwrap_or("latest")
    }
}

fn names_host(component: &str) -> bool {
    component.contains(['.', ':'])
        || component == "localhost"
        || component.bytes().any(|byte| byte.is_ascii_uppercase())
}

fn is_host(host: &str) -> bool {
    let (name, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, port)) => {
            return address.parse::<std::net::Ipv6Addr>().is_ok() && (port.is_empty() || is_port(port));
        }
        None => host
            .split_once(':')
            .map_or((host, None), |(name, port)| (name, Some(port))),
    };
    let label = |label: &str| {
        let bytes = label.as_bytes();
        !bytes.is_empty()
            && bytes
                .iter()
                .all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
            && bytes.first() != Some(&b'-')
            && bytes.last() != Some(&b'-')
    };
    name.split('.').all(label) && port.is_none_or(|port| is_port(&format!(":{port}")))
}

fn is_port(text: &str) -> bool {
    text.strip_prefix(':')
        .is_some_and(|port| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Lower case letters and digits, with `.`, `_`, `__` or dashes between them.
fn is_path_component(component: &str) -> bool {
    let plain = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let separator =
        |run: &[u8]| matches!(run, [b'.'] | [b'_'] | [b'_', b'_']) || run.iter().all(|byte| *byte == b'-');
    let bytes = component.as_bytes();
    let run_is_valid = |run: &[u8]| run.first().is_some_and(plain) || separator(run);
    bytes.first().is_some_and(plain)
        && bytes.last().is_some_and(plain)
        && bytes.chunk_by(|a, b| plain(a) == plain(b)).all(run_is_valid)
}

fn is_tag(tag: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    tag.len() <= 128
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|byte| word(byte) || byte == b'.' || byte == b'-')
}

fn is_digest(digest: &str) -> bool {
    let hex = |text: &str| {
        text.bytes()
            .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    };
    match digest.split_once(':') {
        Some(("sha256", value)) => value.len() == 64 && hex(value),
        Some(("sha512", value)) => value.len() == 128 && hex(value),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> (String, Option<String>, Option<String>) {
        let reference = Reference::parse(text).unwrap();
        (reference.repository(), reference.tag, reference.digest)
    }

    #[test]
    fn a_reference_is_normalised_as_for_docker_hub() {
        assert_eq!(
            parsed("nginx"),
            ("docker.io/library/nginx".to_owned(), None, None)
        );
        assert_eq!(
            parsed("acme/web:1"),
            ("docker.io/acme/web".to_owned(), Some("1".to_owned()), None)
        );
        assert_eq!(parsed("localhost/web"), ("localhost/web".to_owned(), None, None));
    }

    #[test]
    fn port_tag_and_digest_are_told_apart() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let expected = (
            "127.0.0.1:5000/a/b".to_owned(),
            Some("1.0".to_owned()),
            Some(digest.clone()),
        );
        assert_eq!(parsed(&format!("127.0.0.1:5000/a/b:1.0@{digest}")), expected);
        assert_eq!(
            parsed("127.0.0.1:5000/a/b"),
            ("127.0.0.1:5000/a/b".to_owned(), None, None)
        );
    }

    #[test]
    fn what_a_kubelet_calls_an_invalid_image_name_is_refused() {
        for text in [
            "",
            "UPPER",
            "a b",
            "a//b",
            "a:",
            "a@sha256:12",
            "a__b___c",
            "-a",
            "a-",
            "host:x/a",
            &"a".repeat(64),
        ] {
            assert!(Reference::parse(text).is_err(), "{text:?}");
        }
    }
}
