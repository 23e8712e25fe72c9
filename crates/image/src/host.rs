//! The registry's host and port, normalised so that one registry has one name.
//!
//! The split between host and path follows what containerd and the kubelet do (the grammar of the `reference`
//! package of the distribution project); what that grammar leaves open, and would let one registry go by
//! several names, is normalised or refused here.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::error::{ReferenceError, shown};

/// The registry that a name without a host means.
pub(crate) const DEFAULT_REGISTRY: &str = "docker.io";
/// Where that registry answers the distribution API.
pub(crate) const DEFAULT_REGISTRY_API: &str = "registry-1.docker.io";

/// The normalised form of a registry's `host[:port]`: lower case, no `:443`, no trailing dot, the names of
/// Docker Hub united into `docker.io`.
///
/// # Errors
/// [`ReferenceError::Host`] if it is not a host, is not ASCII, is a punycode name, or is a single label without
/// a port (which in a reference would be read as part of the path).
pub fn normalise_registry(text: &str) -> Result<String, ReferenceError> {
    let invalid = |why| ReferenceError::Host {
        found: shown(text),
        why,
    };
    if !text.is_ascii() {
        return Err(invalid("it is not ASCII"));
    }
    let lower = text.to_ascii_lowercase();
    let (name, port) = split_port(&lower).map_err(invalid)?;
    let name = if name.starts_with('[') {
        ipv6(name)
    } else {
        domain(name)
    }
    .map_err(invalid)?;
    let united = if matches!(name.as_str(), "index.docker.io" | DEFAULT_REGISTRY_API) {
        DEFAULT_REGISTRY.to_owned()
    } else {
        name
    };
    join_port(united, port).map_err(invalid)
}

/// Whether the first component of a name is a registry rather than part of the path, as containerd decides it.
pub(crate) fn names_registry(first: &str) -> bool {
    first.contains(['.', ':']) || first.eq_ignore_ascii_case("localhost")
}

fn split_port(text: &str) -> Result<(&str, Option<u16>), &'static str> {
    let after_brackets = text.rfind(']').map_or(0, |end| end + 1);
    let Some(colon) = text[after_brackets..].find(':').map(|at| at + after_brackets) else {
        return Ok((text, None));
    };
    let (name, digits) = (&text[..colon], &text[colon + 1..]);
    if digits.is_empty() || digits.len() > 5 || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return Err("the port is not a number of one to five digits");
    }
    match digits.parse::<u16>() {
        Ok(0) | Err(_) => Err("the port lies outside 1 to 65535"),
        Ok(port) => Ok((name, Some(port))),
    }
}

fn ipv6(bracketed: &str) -> Result<String, &'static str> {
    bracketed
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .and_then(|address| address.parse::<Ipv6Addr>().ok())
        .map(|address| format!("[{address}]"))
        .ok_or("the part in brackets is not an IPv6 address")
}

fn domain(name: &str) -> Result<String, &'static str> {
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.is_empty() {
        return Err("the host is empty");
    }
    if name.len() > 253 {
        return Err("the host has more than 253 characters");
    }
    for label in name.split('.') {
        check_label(label)?;
    }
    let last = name.rsplit('.').next().unwrap_or(name);
    if reads_as_number(last) && name.parse::<Ipv4Addr>().is_err() {
        return Err("it ends like an IPv4 address and is not one");
    }
    Ok(name.to_owned())
}

fn check_label(label: &str) -> Result<(), &'static str> {
    if label.is_empty() || label.len() > 63 {
        return Err("a label between dots has 1 to 63 characters");
    }
    if label.starts_with("xn--") {
        return Err("internationalised (punycode) names are refused, because they can look like other names");
    }
    let valid = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if !label.bytes().all(valid) || label.starts_with('-') || label.ends_with('-') {
        return Err("a label between dots is letters, digits and inner hyphens");
    }
    Ok(())
}

/// Whether URL parsers take a host ending in this label for an IPv4 address (WHATWG URL, "ends in a number").
fn reads_as_number(label: &str) -> bool {
    label.bytes().all(|byte| byte.is_ascii_digit())
        || label
            .strip_prefix("0x")
            .is_some_and(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn join_port(name: String, port: Option<u16>) -> Result<String, &'static str> {
    let stands_alone = names_registry(&name);
    match port {
        None if stands_alone => Ok(name),
        None => Err("a host without a dot needs a port, or it is read as part of the path"),
        Some(443) if stands_alone => Ok(name),
        Some(port) => Ok(format!("{name}:{port}")),
    }
}
