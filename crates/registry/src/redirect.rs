//! Where a redirect may lead.

use url::Url;

/// How many redirects one call follows.
pub(crate) const LIMIT: usize = 5;

/// A longer URL is not followed.
const LONGEST: usize = 16 << 10;

/// The next hop.
///
/// # Errors
/// Why it is not followed: no URL, another scheme than http and https, from https to http, or credentials in
/// the URL.
pub(crate) fn next_hop(current: &Url, location: Option<&[u8]>) -> Result<Url, String> {
    let location = location.ok_or("it redirects without a Location header")?;
    if location.len() > LONGEST {
        return Err(format!("it redirects to a URL of more than {LONGEST} bytes"));
    }
    let location = std::str::from_utf8(location).map_err(|_| "it redirects to something that is not text")?;
    let next = current
        .join(location)
        .map_err(|error| format!("it redirects to something that is not a URL: {error}"))?;
    let host = next.host_str().unwrap_or("");
    match (current.scheme(), next.scheme()) {
        ("https", "http") => Err(format!("it redirects from https to plain http on {host}")),
        (_, "http" | "https") if host.is_empty() => Err("it redirects to a URL without a host".to_owned()),
        (_, "http" | "https") if !next.username().is_empty() || next.password().is_some() => {
            Err(format!("it redirects to a URL with credentials on {host}"))
        }
        (_, "http" | "https") => Ok(next),
        (_, scheme) => Err(format!("it redirects to the scheme {scheme}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hop(current: &str, location: &str) -> Result<String, String> {
        next_hop(&Url::parse(current).unwrap(), Some(location.as_bytes())).map(String::from)
    }

    #[test]
    fn b17_a_redirect_never_leaves_https() {
        assert!(hop("https://r.io/v2/a", "http://r.io/v2/a").is_err());
        assert!(hop("https://r.io/v2/a", "http://other.io/").is_err());
        assert_eq!(
            hop("https://r.io/v2/a", "https://other.io/b"),
            Ok("https://other.io/b".to_owned())
        );
        assert_eq!(
            hop("https://r.io/v2/a", "//other.io/b"),
            Ok("https://other.io/b".to_owned())
        );
        assert_eq!(
            hop("https://r.io/v2/a", "/b?c"),
            Ok("https://r.io/b?c".to_owned())
        );
        assert_eq!(
            hop("http://r.io/v2/a", "http://other.io/b"),
            Ok("http://other.io/b".to_owned())
        );
    }

    #[test]
    fn b19_a_redirect_leads_to_no_other_scheme_and_carries_no_credentials() {
        for location in [
            "file:///etc/passwd",
            "ftp://r.io/a",
            "https://user:pw@r.io/a",
            "https://user@r.io/",
            "http://[",
            "data:,x",
        ] {
            assert!(hop("http://r.io/v2/a", location).is_err(), "{location}");
        }
        assert!(next_hop(&Url::parse("https://r.io/").unwrap(), None).is_err());
        assert!(hop("https://r.io/v2/a", &"/a".repeat(10_000)).is_err());
        assert!(next_hop(&Url::parse("https://r.io/").unwrap(), Some(b"\xff")).is_err());
    }
}
