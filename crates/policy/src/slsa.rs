//! SLSA provenance, v0.2 (<https://slsa.dev/spec/v0.2/provenance>) and v1 (<https://slsa.dev/spec/v1.0/provenance>): who
//! built, from which source. What is asked of it is in `provenance`.
//!
//! | | v0.2 | v1 |
//! |---|---|---|
//! | builder | `builder.id` | `runDetails.builder.id` |
//! | source | `invocation.configSource.uri` | in `buildDefinition.externalParameters`: `workflow`, `source`, `configSource`, `buildConfigSource`, `sourceToBuild`, `repository` |
//!
//! Materials and resolved dependencies are not looked at: whatever a build downloads is among them.

use serde_json::Value;

pub(crate) const V0_2: &str = "https://slsa.dev/provenance/v0.2";
pub(crate) const V1: &str = "https://slsa.dev/provenance/v1";
/// The predicate types of provenance.
pub(crate) const PREDICATE_TYPES: &[&str] = &[V0_2, V1];
/// Where provenance keeps its time.
pub(crate) const TIMES: &[&str] = &[
    "metadata.buildFinishedOn",
    "metadata.buildStartedOn",
    "runDetails.metadata.finishedOn",
    "runDetails.metadata.startedOn",
];

const V1_SOURCES: [&str; 6] = [
    "workflow",
    "source",
    "configSource",
    "buildConfigSource",
    "sourceToBuild",
    "repository",
];

/// What provenance says of a build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Provenance {
    pub(crate) builder: String,
    /// Every source that the build names as its own.
    pub(crate) sources: Vec<Source>,
}

/// A source of a build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Source {
    /// In the form that [`repository`] gives.
    pub(crate) repository: String,
    /// A git reference, such as `refs/heads/main`.
    pub(crate) reference: Option<String>,
}

/// Reads provenance of one of the [`PREDICATE_TYPES`].
///
/// # Errors
/// Why it is none, as a clause.
pub(crate) fn read(predicate_type: &str, predicate: &Value) -> Result<Provenance, String> {
    let (builder, sources) = match predicate_type {
        V0_2 => (predicate.pointer("/builder/id"), sources_v0_2(predicate)?),
        V1 => (
            predicate.pointer("/runDetails/builder/id"),
            sources_v1(predicate)?,
        ),
        other => return Err(format!("{other} is no type of SLSA provenance")),
    };
    let builder = builder
        .and_then(Value::as_str)
        .filter(|id| !id.is_empty())
        .ok_or("the provenance names no builder")?;
    Ok(Provenance {
        builder: builder.to_owned(),
        sources,
    })
}

fn sources_v0_2(predicate: &Value) -> Result<Vec<Source>, String> {
    source(predicate.pointer("/invocation/configSource")).map(Vec::from_iter)
}

fn sources_v1(predicate: &Value) -> Result<Vec<Source>, String> {
    let mut sources = Vec::new();
    for name in V1_SOURCES {
        let path = format!("/buildDefinition/externalParameters/{name}");
        sources.extend(source(predicate.pointer(&path))?);
    }
    Ok(sources)
}

/// A source is a URI, or an object with a `uri` or a `repository`, and maybe a `ref`. An object with neither, or with
/// an empty one, names no source: a build from a local folder writes that.
fn source(value: Option<&Value>) -> Result<Option<Source>, String> {
    let odd = || Err("the provenance names a source in a form that is not known".to_owned());
    let (uri, reference) = match value {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(uri)) => (Some(uri.as_str()), None),
        Some(Value::Object(fields)) => {
            let text = |name: &str| match fields.get(name) {
                None | Some(Value::Null) => Ok(None),
                Some(Value::String(text)) => Ok(Some(text.as_str()).filter(|text| !text.is_empty())),
                Some(_) => Err("the provenance names a source in a form that is not known".to_owned()),
            };
            let uri = match (text("uri")?, text("repository")?) {
                (Some(_), Some(_)) => return odd(),
                (uri, repository) => uri.or(repository),
            };
            (uri, text("ref")?)
        }
        Some(_) => return odd(),
    };
    let Some(uri) = uri.filter(|uri| !uri.is_empty()) else {
        return Ok(None);
    };
    let (location, in_uri) = split_reference(uri);
    match (in_uri, reference) {
        (Some(one), Some(other)) if one != other => {
            Err("the provenance names two references of one source".into())
        }
        (one, other) => Ok(Some(Source {
            repository: repository(location),
            reference: one.or(other).map(str::to_owned),
        })),
    }
}

/// `https://host/path@reference`, or `https://host/path#reference:folder` as BuildKit writes it.
fn split_reference(uri: &str) -> (&str, Option<&str>) {
    if let Some((location, fragment)) = uri.split_once('#') {
        let reference = fragment
            .split(':')
            .next()
            .filter(|reference| !reference.is_empty());
        return (location, reference);
    }
    let Some(authority) = uri.find("://").map(|at| at + 3) else {
        return (uri, None);
    };
    let path = uri
        .get(authority..)
        .and_then(|rest| rest.find('/'))
        .map(|at| authority + at);
    let at = path.and_then(|path| Some(path + uri.get(path..)?.find('@')?));
    match at.and_then(|at| Some((uri.get(..at)?, uri.get(at + 1..)?))) {
        Some((location, reference)) => (
            location,
            Some(reference).filter(|reference| !reference.is_empty()),
        ),
        None => (uri, None),
    }
}

/// One form for the ways to write one repository: without `git+`, `https://`, `.git` and a closing slash, the host in
/// lower case. Other schemes than https stay: they are other places.
pub(crate) fn repository(location: &str) -> String {
    let location = location.strip_prefix("git+").unwrap_or(location);
    let location = location.trim_end_matches('/');
    let location = location.strip_suffix(".git").unwrap_or(location);
    let (scheme, rest) = match location.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (String::new(), rest),
        Some((scheme, rest)) => (format!("{}://", scheme.to_ascii_lowercase()), rest),
        None => (String::new(), location),
    };
    match rest.split_once('/') {
        Some((host, path)) => format!("{scheme}{}/{path}", host.to_ascii_lowercase()),
        None => format!("{scheme}{rest}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(repository: &str, reference: Option<&str>) -> Source {
        Source {
            repository: repository.into(),
            reference: reference.map(str::to_owned),
        }
    }

    #[test]
    fn c4_02_v0_2_names_its_builder_and_its_configuration_as_source() {
        let predicate = json!({
            "builder": {"id": "https://github.com/acme/builder"},
            "invocation": {"configSource": {"uri": "git+https://github.com/Acme/shop@refs/heads/main", "digest": {"sha1": "00"}}},
            "materials": [{"uri": "git+https://github.com/else/where@refs/heads/main"}],
        });
        let provenance = read(V0_2, &predicate).unwrap();
        assert_eq!(provenance.builder, "https://github.com/acme/builder");
        assert_eq!(
            provenance.sources,
            [of("github.com/Acme/shop", Some("refs/heads/main"))]
        );
    }

    #[test]
    fn c4_02_v1_names_its_builder_and_the_source_among_its_external_parameters() {
        let with = |parameters: Value| {
            json!({
                "buildDefinition": {
                    "externalParameters": parameters,
                    "resolvedDependencies": [{"uri": "git+https://github.com/else/where@refs/heads/main"}],
                },
                "runDetails": {"builder": {"id": "https://github.com/actions/runner"}},
            })
        };
        let shop = || vec![of("github.com/acme/shop", Some("refs/tags/v1"))];
        let cases = [
            (
                json!({"workflow": {"repository": "https://github.com/acme/shop", "ref": "refs/tags/v1", "path": "x"}}),
                shop(),
            ),
            (
                json!({"source": "git+https://github.com/acme/shop@refs/tags/v1"}),
                shop(),
            ),
            (
                json!({"source": {"uri": "git+https://github.com/acme/shop.git@refs/tags/v1"}}),
                shop(),
            ),
            (
                json!({"configSource": {"uri": "https://github.com/acme/shop.git#refs/tags/v1:docker"}}),
                shop(),
            ),
            (
                json!({"buildConfigSource": {"repository": "https://github.com/acme/shop/", "ref": "refs/tags/v1"}}),
                shop(),
            ),
            (
                json!({"configSource": {"path": "Dockerfile"}, "request": {}}),
                vec![],
            ),
            (json!({}), vec![]),
        ];
        for (parameters, sources) in cases {
            let provenance = read(V1, &with(parameters.clone())).unwrap();
            assert_eq!(provenance.sources, sources, "{parameters}");
            assert_eq!(provenance.builder, "https://github.com/actions/runner");
        }
    }

    #[test]
    fn several_sources_are_all_named() {
        let predicate = json!({
            "buildDefinition": {"externalParameters": {
                "workflow": {"repository": "https://github.com/acme/shop", "ref": "refs/heads/main"},
                "source": {"uri": "https://github.com/evil/shop"},
            }},
            "runDetails": {"builder": {"id": "b"}},
        });
        let sources = read(V1, &predicate).unwrap().sources;
        assert_eq!(
            sources,
            [
                of("github.com/acme/shop", Some("refs/heads/main")),
                of("github.com/evil/shop", None)
            ]
        );
    }

    #[test]
    fn what_is_no_provenance_is_refused() {
        for (predicate_type, predicate) in [
            (V0_2, json!({})),
            (V0_2, json!({"builder": {"id": ""}})),
            (V0_2, json!({"builder": {"id": 7}})),
            (V0_2, json!({"runDetails": {"builder": {"id": "b"}}})),
            (V1, json!({"builder": {"id": "b"}})),
            (
                V0_2,
                json!({"builder": {"id": "b"}, "invocation": {"configSource": {"uri": 7}}}),
            ),
            (
                V0_2,
                json!({"builder": {"id": "b"}, "invocation": {"configSource": {"uri": "https://h/a@x", "ref": "y"}}}),
            ),
            (
                V1,
                json!({"runDetails": {"builder": {"id": "b"}}, "buildDefinition": {"externalParameters": {"source": [1]}}}),
            ),
            ("https://slsa.dev/provenance/v2", json!({"builder": {"id": "b"}})),
        ] {
            assert!(
                read(predicate_type, &predicate).is_err(),
                "{predicate_type} {predicate}"
            );
        }
    }

    #[test]
    fn one_repository_has_one_form_and_two_have_two() {
        for same in [
            "https://github.com/acme/shop",
            "git+https://github.com/acme/shop",
            "https://GitHub.com/acme/shop.git",
            "HTTPS://github.com/acme/shop/",
            "github.com/acme/shop",
        ] {
            assert_eq!(repository(same), "github.com/acme/shop", "{same}");
        }
        for other in [
            "http://github.com/acme/shop",
            "https://github.com/acme/Shop",
            "https://github.com.evil.example/acme/shop",
            "https://evil.example/github.com/acme/shop",
            "https://github.com@evil.example/acme/shop",
            "ssh://git@github.com/acme/shop",
        ] {
            assert_ne!(repository(other), "github.com/acme/shop", "{other}");
        }
    }

    #[test]
    fn a_name_before_the_host_is_not_a_reference() {
        assert_eq!(
            split_reference("https://user@host.example/a/b@refs/heads/x"),
            ("https://user@host.example/a/b", Some("refs/heads/x"))
        );
        assert_eq!(
            split_reference("git@host.example:a/b"),
            ("git@host.example:a/b", None)
        );
        assert_eq!(
            split_reference("https://host.example/a@"),
            ("https://host.example/a", None)
        );
        assert_eq!(
            split_reference("https://host.example/ä@ö"),
            ("https://host.example/ä", Some("ö"))
        );
    }
}
