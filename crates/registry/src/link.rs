//! The next page of a listing: `Link: <…>; rel="next"` (RFC 8288), kept on the host that was asked.

use url::Url;

/// A longer header is not read.
const HEADER_LIMIT: usize = 16 << 10;

/// The next page's URL, if a `Link` header names one.
///
/// Only path and query are taken from the header, and only where it names no other host: scheme, host and
/// port stay those of `asked`.
///
/// # Errors
/// What is wrong with the header: it does not parse, or leads to another host.
pub(crate) fn next_page(asked: &Url, header: &str) -> Result<Option<Url>, String> {
    if header.len() > HEADER_LIMIT {
        return Err(format!("the Link header is longer than {HEADER_LIMIT} bytes"));
    }
    let Some(target) = links(header)?
        .into_iter()
        .find_map(|(target, next)| next.then_some(target))
    else {
        return Ok(None);
    };
    let link = asked
        .join(target)
        .map_err(|error| format!("the Link header holds no URL: {error}"))?;
    if link.host() != asked.host() {
        let host = link.host_str().unwrap_or("no host");
        return Err(format!("the Link header leads to another host, {host}"));
    }
    let mut next = asked.clone();
    next.set_path(link.path());
    next.set_query(link.query());
    Ok(Some(next))
}

/// The targets of a `Link` header, each with whether its relation is `next`.
fn links(header: &str) -> Result<Vec<(&str, bool)>, String> {
    let mut links = Vec::new();
    let mut rest = header.trim_matches([' ', '\t', ',']);
    while !rest.is_empty() {
        let malformed = || "the Link header is not a list of <URL>; parameters".to_owned();
        let (target, after) = rest
            .strip_prefix('<')
            .and_then(|text| text.split_once('>'))
            .ok_or_else(malformed)?;
        let end = end_of_parameters(after);
        links.push((target, is_next(&after[..end])));
        rest = after[end..].trim_start_matches([' ', '\t', ',']);
    }
    Ok(links)
}

/// Where the parameters of a link end: at the first comma outside quotes.
fn end_of_parameters(text: &str) -> usize {
    let mut quoted = false;
    for (at, character) in text.char_indices() {
        match character {
            '"' => quoted = !quoted,
            ',' if !quoted => return at,
            _ => {}
        }
    }
    text.len()
}

fn is_next(parameters: &str) -> bool {
    parameters
        .split(';')
        .filter_map(|parameter| parameter.split_once('='))
        .any(|(name, value)| {
            name.trim().eq_ignore_ascii_case("rel")
                && value
                    .trim()
                    .trim_matches('"')
                    .split_ascii_whitespace()
                    .any(|rel| rel.eq_ignore_ascii_case("next"))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(header: &str) -> Result<Option<String>, String> {
        let asked = Url::parse("https://r.io/v2/a/referrers/sha256:00?n=1").unwrap();
        next_page(&asked, header).map(|url| url.map(String::from))
    }

    #[test]
    fn the_next_page_is_found_among_other_links() {
        let expected = Ok(Some("https://r.io/v2/a/referrers/sha256:00?last=x,y".to_owned()));
        for header in [
            "</v2/a/referrers/sha256:00?last=x,y>; rel=\"next\"",
            "<https://r.io/v2/a/referrers/sha256:00?last=x,y>; rel=next",
            "<?last=x,y>;title=\"a, b\"; REL=\"prev next\"",
            "</first>; rel=\"first\", </v2/a/referrers/sha256:00?last=x,y>; rel=\"next\"",
        ] {
            assert_eq!(next(header), expected, "{header}");
        }
        assert_eq!(next("</first>; rel=\"first\""), Ok(None));
        assert_eq!(next(""), Ok(None));
    }

    #[test]
    fn b17_a_link_never_leads_to_another_host_scheme_or_port() {
        assert!(next("<https://evil.io/v2/x>; rel=\"next\"").is_err());
        assert!(next("<//evil.io/v2/x>; rel=\"next\"").is_err());
        assert_eq!(
            next("<http://r.io:81/v2/x>; rel=\"next\""),
            Ok(Some("https://r.io/v2/x".to_owned()))
        );
        assert_eq!(
            next("<https://user:pw@r.io/v2/x>; rel=\"next\""),
            Ok(Some("https://r.io/v2/x".to_owned()))
        );
    }

    #[test]
    fn f22_a_header_of_very_many_links_is_an_error() {
        assert!(next(&"</x>; rel=\"first\", ".repeat(10_000)).is_err());
    }

    #[test]
    fn a_broken_header_is_an_error_and_not_the_last_page() {
        for header in [
            "https://r.io/x; rel=next",
            "</x; rel=\"next\"",
            "<http://[>; rel=next",
        ] {
            assert!(next(header).is_err(), "{header}");
        }
    }
}
