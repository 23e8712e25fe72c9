//! Keys, policies, trust roots with their ConfigMaps, and registry configurations in YAML files. What is not understood
//! to the last field is refused: a field that is accepted and then ignored would be a hole.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use api::{
    ConfigMapRef, ImageException, ImagePolicy, KeyRevocation, RegistryConfig, SigningKey, TrustRoot,
    TufSource,
};
use engine::{ExceptionFacts, KeyFacts, PolicyFacts, RevocationFacts};
use jiff::Timestamp;
use registry::Routes;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ManifestError {
    #[error("{file}: {source}; name a readable file with -f", file = file.display())]
    Read { file: PathBuf, source: std::io::Error },
    #[error("{file}: not YAML: {source}", file = file.display())]
    Yaml {
        file: PathBuf,
        source: serde_norway::Error,
    },
    #[error("{file}: {object}: {source}", file = file.display())]
    Object {
        file: PathBuf,
        object: String,
        source: serde_json::Error,
    },
    #[error("{file}: {object}: unknown field {field}; see `kubectl explain` or docs/reference.md for the fields there are", file = file.display())]
    UnknownField {
        file: PathBuf,
        object: String,
        field: String,
    },
    #[error(
        "{file}: {object}: apiVersion {version:?}, kind {kind:?} is no SigningKey, KeyRevocation, ImagePolicy, \
         ImageException, TrustRoot or RegistryConfig of assay.dev/v1alpha1, and no ConfigMap of v1; leave it out of the files given with -f",
        file = file.display()
    )]
    Kind {
        file: PathBuf,
        object: String,
        version: String,
        kind: String,
    },
    #[error("{file}: a {kind} without metadata.name", file = file.display())]
    Unnamed { file: PathBuf, kind: String },
    #[error("{file}: List: items: found {found}, expected a list of objects; write them under items", file = file.display())]
    Items { file: PathBuf, found: &'static str },
    #[error("{file}: {object} is there twice; names must differ", file = file.display())]
    Duplicate { file: PathBuf, object: String },
    #[error("{file}: {object}: {why}", file = file.display())]
    Unusable {
        file: PathBuf,
        object: String,
        why: String,
    },
}

/// What the files hold.
#[derive(Debug, Default)]
pub(crate) struct Manifests {
    pub(crate) keys: Vec<KeyFacts>,
    pub(crate) revocations: Vec<RevocationFacts>,
    pub(crate) policies: Vec<PolicyFacts>,
    pub(crate) exceptions: Vec<ExceptionFacts>,
    pub(crate) trust_roots: BTreeMap<Arc<str>, Arc<verify::TrustRoot>>,
    /// The repositories that publish the other trust roots.
    pub(crate) published: BTreeMap<Arc<str>, TufSource>,
    pub(crate) routes: Routes,
    /// RegistryConfigs whose credentials are in a cluster, out of reach.
    pub(crate) without_credentials: Vec<String>,
    config_maps: BTreeMap<String, ConfigMap>,
    from_config_maps: Vec<FromConfigMap>,
}

/// A ConfigMap, and the file that it is in.
#[derive(Debug)]
struct ConfigMap {
    file: PathBuf,
    data: BTreeMap<String, String>,
    is_used: bool,
}

/// A trust root whose document is in a ConfigMap, and the file that it is in.
#[derive(Debug)]
struct FromConfigMap {
    file: PathBuf,
    name: String,
    reference: ConfigMapRef,
}

/// One document of a file.
struct Entry<'a> {
    file: &'a Path,
    kind: String,
    name: String,
    document: Value,
}

impl Manifests {
    /// Reads every document of every file.
    pub(crate) fn read(files: &[PathBuf]) -> Result<Manifests, ManifestError> {
        let mut manifests = Manifests::default();
        for (file, document) in documents(files)? {
            manifests.add(&file, document)?;
        }
        manifests.read_config_maps()?;
        Ok(manifests)
    }

    fn add(&mut self, file: &Path, document: Value) -> Result<(), ManifestError> {
        let version = text(&document["apiVersion"]);
        let entry = Entry {
            file,
            kind: text(&document["kind"]),
            name: text(&document["metadata"]["name"]),
            document,
        };
        let add = match (version.as_str(), entry.kind.as_str()) {
            ("assay.dev/v1alpha1", "SigningKey") => Self::add_key,
            ("assay.dev/v1alpha1", "KeyRevocation") => Self::add_revocation,
            ("assay.dev/v1alpha1", "ImagePolicy") => Self::add_policy,
            ("assay.dev/v1alpha1", "ImageException") => Self::add_exception,
            ("assay.dev/v1alpha1", "TrustRoot") => Self::add_trust_root,
            ("assay.dev/v1alpha1", "RegistryConfig") => Self::add_registry,
            ("v1", "ConfigMap") => Self::add_config_map,
            _ => {
                return Err(ManifestError::Kind {
                    file: file.to_owned(),
                    object: entry.object(),
                    version,
                    kind: entry.kind,
                });
            }
        };
        if entry.name.is_empty() {
            return Err(ManifestError::Unnamed {
                file: file.to_owned(),
                kind: entry.kind,
            });
        }
        add(self, entry)
    }

    fn add_key(&mut self, entry: Entry<'_>) -> Result<(), ManifestError> {
        entry.is_new(self.keys.iter().all(|known| *known.name != *entry.name))?;
        let key: SigningKey = entry.strict()?;
        self.keys.push(KeyFacts {
            name: entry.name.into(),
            generation: 1,
            spec: Ok(key.spec),
        });
        Ok(())
    }

    fn add_revocation(&mut self, entry: Entry<'_>) -> Result<(), ManifestError> {
        entry.is_new(self.revocations.iter().all(|known| *known.name != *entry.name))?;
        let revocation: KeyRevocation = entry.strict()?;
        if entry.name != revocation.spec.fingerprint {
            let why = format!(
                "metadata.name must be spec.fingerprint: found {}, expected {}",
                entry.name, revocation.spec.fingerprint
            );
            return Err(entry.unusable(why));
        }
        // One that is in no cluster yet is judged as if it were made now.
        let created = revocation.metadata.creation_timestamp.map(|time| time.0);
        self.revocations.push(RevocationFacts {
            name: entry.name.into(),
            generation: 1,
            created: Some(created.unwrap_or_else(Timestamp::now)),
            spec: Ok(revocation.spec),
        });
        Ok(())
    }

    fn add_policy(&mut self, entry: Entry<'_>) -> Result<(), ManifestError> {
        entry.is_new(self.policies.iter().all(|known| *known.name != *entry.name))?;
        let policy: ImagePolicy = entry.strict()?;
        self.policies.push(PolicyFacts {
            name: entry.name.into(),
            generation: 1,
            spec: Ok(policy.spec),
            in_force: None,
        });
        Ok(())
    }

    fn add_exception(&mut self, entry: Entry<'_>) -> Result<(), ManifestError> {
        entry.is_new(self.exceptions.iter().all(|known| *known.name != *entry.name))?;
        let exception: ImageException = entry.strict()?;
        // One that is in no cluster yet is judged as if it were made now.
        let created = exception.metadata.creation_timestamp.map(|time| time.0);
        let created = created.unwrap_or_else(Timestamp::now);
        policy::CompiledException::compile(&entry.name, &exception.spec, Some(created))
            .map_err(|error| entry.unusable(format!("{}: {}", error.field, error.problem)))?;
        self.exceptions.push(ExceptionFacts {
            name: entry.name.into(),
            generation: 1,
            created: Some(created),
            spec: Ok(exception.spec),
        });
        Ok(())
    }

    fn add_trust_root(&mut self, entry: Entry<'_>) -> Result<(), ManifestError> {
        entry.is_new(!self.trust_roots.contains_key(entry.name.as_str()))?;
        let is_elsewhere = self.published.contains_key(entry.name.as_str())
            || self.from_config_maps.iter().any(|root| root.name == entry.name);
        entry.is_new(!is_elsewhere)?;
        let root: TrustRoot = entry.strict()?;
        if let Some(read) = controller::trust_root_in(&entry.name, &root.spec) {
            let root = read.map_err(|why| entry.unusable(why))?;
            self.trust_roots.insert(entry.name.into(), Arc::new(root));
            return Ok(());
        }
        match (root.spec.config_map_ref, root.spec.tuf) {
            (Some(reference), None) => self.from_config_maps.push(FromConfigMap {
                file: entry.file.to_owned(),
                name: entry.name,
                reference,
            }),
            (None, Some(source)) => {
                self.published.insert(entry.name.into(), source);
            }
            _ => {
                let why =
                    "exactly one source is needed: spec.inline, spec.configMapRef, spec.tuf or spec.builtIn";
                return Err(entry.unusable(why.to_owned()));
            }
        }
        Ok(())
    }

    fn add_config_map(&mut self, entry: Entry<'_>) -> Result<(), ManifestError> {
        entry.is_new(!self.config_maps.contains_key(&entry.name))?;
        let data = entry.document.get("data").cloned().unwrap_or_default();
        let data: Option<BTreeMap<String, String>> =
            serde_json::from_value(data).map_err(|source| ManifestError::Object {
                file: entry.file.to_owned(),
                object: entry.object(),
                source,
            })?;
        let map = ConfigMap {
            file: entry.file.to_owned(),
            data: data.unwrap_or_default(),
            is_used: false,
        };
        self.config_maps.insert(entry.name, map);
        Ok(())
    }

    /// Reads the trust roots whose documents are in ConfigMaps, wherever in the files each is.
    fn read_config_maps(&mut self) -> Result<(), ManifestError> {
        for root in std::mem::take(&mut self.from_config_maps) {
            let unusable = |why: String| ManifestError::Unusable {
                file: root.file.clone(),
                object: format!("TrustRoot/{}", root.name),
                why,
            };
            let (map, key) = (&root.reference.name, controller::config_map_key(&root.reference));
            let found = self.config_maps.get_mut(map).ok_or_else(|| {
                unusable(format!(
                    "spec.configMapRef names the ConfigMap {map}, which is not in the files: give it with -f as well"
                ))
            })?;
            found.is_used = true;
            let document = found
                .data
                .get(key)
                .ok_or_else(|| unusable(format!("the ConfigMap {map} has no entry {key} in its data")))?;
            let read = verify::TrustRoot::from_json(document.as_bytes());
            let read =
                read.map_err(|error| unusable(format!("the entry {key} of the ConfigMap {map}: {error}")))?;
            let name: Arc<str> = root.name.as_str().into();
            self.trust_roots.insert(name, Arc::new(read.named(&root.name)));
        }
        match self.config_maps.iter().find(|(_, map)| !map.is_used) {
            None => Ok(()),
            Some((name, map)) => Err(ManifestError::Unusable {
                file: map.file.clone(),
                object: format!("ConfigMap/{name}"),
                why: "no TrustRoot of the files reads it; leave it out".to_owned(),
            }),
        }
    }

    fn add_registry(&mut self, entry: Entry<'_>) -> Result<(), ManifestError> {
        entry.is_new(self.routes.iter().all(|known| known.name != entry.name))?;
        let config: RegistryConfig = entry.strict()?;
        let route = controller::route_of(&entry.name, &config.spec).map_err(|why| entry.unusable(why))?;
        let added = self.routes.insert(route);
        added.map_err(|conflict| entry.unusable(conflict.to_string()))?;
        if config.spec.credentials.is_some() {
            self.without_credentials.push(entry.name);
        }
        Ok(())
    }
}

impl Entry<'_> {
    fn object(&self) -> String {
        format!("{}/{}", self.kind, self.name)
    }

    fn is_new(&self, is_new: bool) -> Result<(), ManifestError> {
        if is_new {
            return Ok(());
        }
        Err(ManifestError::Duplicate {
            file: self.file.to_owned(),
            object: self.object(),
        })
    }

    fn unusable(&self, why: String) -> ManifestError {
        ManifestError::Unusable {
            file: self.file.to_owned(),
            object: self.object(),
            why,
        }
    }

    fn strict<T: DeserializeOwned>(&self) -> Result<T, ManifestError> {
        strict(self.file, &self.object(), self.document.clone())
    }
}

/// Every object of every file, those in Lists included, each with its file. `-` is the standard input.
pub(crate) fn documents(files: &[PathBuf]) -> Result<Vec<(PathBuf, Value)>, ManifestError> {
    let mut found = Vec::new();
    for file in files {
        let text = match file.to_str() {
            Some("-") => std::io::read_to_string(std::io::stdin()),
            _ => std::fs::read_to_string(file),
        };
        let text = text.map_err(|source| ManifestError::Read {
            file: file.clone(),
            source,
        })?;
        for document in serde_norway::Deserializer::from_str(&text) {
            let document = Value::deserialize(document).map_err(|source| ManifestError::Yaml {
                file: file.clone(),
                source,
            })?;
            unfold(file, document, &mut found)?;
        }
    }
    Ok(found)
}

/// Takes in an object, or what a List holds.
fn unfold(file: &Path, document: Value, found: &mut Vec<(PathBuf, Value)>) -> Result<(), ManifestError> {
    if document.is_null() {
        return Ok(());
    }
    if document["kind"] == "List" && document["apiVersion"] == "v1" {
        let mut items = items_of(file, document)?.into_iter();
        return items.try_for_each(|item| unfold(file, item, found));
    }
    found.push((file.to_owned(), document));
    Ok(())
}

/// What a `v1` List holds. One without `items`, or with fields that no List has, is misspelt: read as an empty
/// one, it would let everything in it go unsaid.
fn items_of(file: &Path, document: Value) -> Result<Vec<Value>, ManifestError> {
    let fields = document.as_object().into_iter().flat_map(|fields| fields.keys());
    let is_of_a_list =
        |field: &&String| matches!(field.as_str(), "apiVersion" | "kind" | "metadata" | "items");
    if let Some(field) = fields.clone().find(|field| !is_of_a_list(field)) {
        return Err(ManifestError::UnknownField {
            file: file.to_owned(),
            object: "List".to_owned(),
            field: field.clone(),
        });
    }
    let found = match &document["items"] {
        Value::Array(items) => return Ok(items.clone()),
        Value::Null => "nothing",
        Value::Object(_) => "one object",
        Value::String(_) | Value::Number(_) | Value::Bool(_) => "a single value",
    };
    Err(ManifestError::Items {
        file: file.to_owned(),
        found,
    })
}

/// Reads an object; a field that its type does not have is an error.
pub(crate) fn strict<T: DeserializeOwned>(
    file: &Path,
    object: &str,
    mut document: Value,
) -> Result<T, ManifestError> {
    if let Some(fields) = document.as_object_mut() {
        // Written by the API server, never by a person: nothing of it is used here.
        fields.remove("status");
    }
    let mut unknown = None;
    let value = serde_ignored::deserialize(&document, |path| {
        let path = path.to_string();
        if !path.starts_with("metadata.") && !matches!(path.as_str(), "apiVersion" | "kind") {
            unknown.get_or_insert(path);
        }
    })
    .map_err(|source| ManifestError::Object {
        file: file.to_owned(),
        object: object.to_owned(),
        source,
    })?;
    match unknown {
        Some(field) => Err(ManifestError::UnknownField {
            file: file.to_owned(),
            object: object.to_owned(),
            field,
        }),
        None => Ok(value),
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or("").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Manifests, ManifestError> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("manifests.yaml");
        std::fs::write(&file, text).unwrap();
        Manifests::read(&[file])
    }

    const POLICY: &str = "apiVersion: assay.dev/v1alpha1\nkind: ImagePolicy\nmetadata: {name: p}\nspec:\n  match: {images: ['**']}\n  require: [{name: r, signature: {signedBy: [a]}}]\n";

    #[test]
    fn several_documents_and_lists_are_read() {
        let list = format!(
            "{POLICY}---\n---\napiVersion: v1\nkind: List\nitems:\n- {}",
            POLICY.replace("name: p", "name: q").replace('\n', "\n  ")
        );
        assert_eq!(read(&list).unwrap().policies.len(), 2);
    }

    /// A list that is read as empty would judge by nothing of what it holds.
    #[test]
    fn a_list_without_items_or_with_misspelt_ones_is_refused() {
        let error = |text: &str| {
            read(&format!("apiVersion: v1\nkind: List\n{text}"))
                .unwrap_err()
                .to_string()
        };
        for (text, found) in [
            ("", "nothing"),
            ("items:\n", "nothing"),
            ("items: {a: b}\n", "one object"),
            ("items: 7\n", "a single value"),
        ] {
            let error = error(text);
            assert!(error.contains("items") && error.contains(found), "{error}");
        }
        let misspelt = error("item: []\nitems: []\n");
        assert!(misspelt.contains("List: unknown field item"), "{misspelt}");
        assert!(read("apiVersion: v1\nkind: List\nmetadata: {resourceVersion: ''}\nitems: []\n").is_ok());
    }

    #[test]
    fn an_unknown_field_is_refused_by_its_path() {
        let error = read(&POLICY.replace("signedBy: [a]", "signedBy: [a], treshold: 2"))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("ImagePolicy/p") && error.contains("treshold"),
            "{error}"
        );
    }

    #[test]
    fn another_kind_is_refused_and_not_skipped() {
        let error = read("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n")
            .unwrap_err()
            .to_string();
        assert!(error.contains("ConfigMap"), "{error}");
    }

    const ROOT: &str =
        "apiVersion: assay.dev/v1alpha1\nkind: TrustRoot\nmetadata: {name: own}\nspec: {builtIn: Staging}\n";
    const CONFIG: &str = "apiVersion: assay.dev/v1alpha1\nkind: RegistryConfig\nmetadata: {name: hub}\nspec: {prefix: docker.io, credentials: {secretName: s}}\n";

    #[test]
    fn trust_roots_and_registry_configurations_are_read() {
        let manifests = read(&format!("{ROOT}---\n{CONFIG}")).unwrap();
        assert_eq!(manifests.trust_roots["own"].name(), "own");
        assert_eq!(manifests.routes.iter().count(), 1);
        assert_eq!(manifests.without_credentials, ["hub"]);
        for twice in [ROOT, CONFIG] {
            let error = read(&format!("{twice}---\n{twice}")).unwrap_err();
            assert!(matches!(error, ManifestError::Duplicate { .. }), "{error}");
        }
        let second = CONFIG.replace("hub", "other");
        let error = read(&format!("{CONFIG}---\n{second}")).unwrap_err().to_string();
        assert!(error.contains("docker.io") && error.contains("hub"), "{error}");
    }

    #[test]
    fn a_trust_root_that_is_elsewhere_is_refused_and_not_left_out() {
        for elsewhere in ["configMapRef: {name: x}", "inline: '{}'", ""] {
            let error = read(&ROOT.replace("builtIn: Staging", elsewhere)).unwrap_err();
            assert!(
                matches!(error, ManifestError::Unusable { .. }),
                "{elsewhere}: {error}"
            );
        }
    }

    /// As `kubectl get configmap -o yaml` prints it, before or after the TrustRoot that names it.
    #[test]
    fn a_trust_root_is_read_from_its_config_map() {
        let document = include_str!("../../verify/tests/fixtures/keyless/full/trusted_root.json");
        let map = |key: &str| {
            let data = serde_json::json!({
                "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "data": {key: document},
            });
            data.to_string()
        };
        let default = ROOT.replace("builtIn: Staging", "configMapRef: {name: x}");
        let named = ROOT.replace("builtIn: Staging", "configMapRef: {name: x, key: mine}");
        for text in [
            format!("{default}---\n{}", map("trusted_root.json")),
            format!("{}\n---\n{named}", map("mine")),
        ] {
            let manifests = read(&text).unwrap();
            assert_eq!(manifests.trust_roots["own"].name(), "own");
            let whole = verify::TrustRoot::from_json(document.as_bytes()).unwrap();
            assert_eq!(manifests.trust_roots["own"].digest(), whole.digest());
        }
        let error = |text: &str| read(text).unwrap_err().to_string();
        let other = error(&format!("{named}---\n{}", map("other")));
        assert!(other.contains("no entry mine"), "{other}");
        let broken = error(&format!(
            "{default}---\n{}",
            map("trusted_root.json").replace("mediaType", "x")
        ));
        assert!(broken.contains("mediaType"), "{broken}");
        let unused = error(&format!("{ROOT}---\n{}", map("trusted_root.json")));
        assert!(
            unused.contains("ConfigMap/x") && unused.contains("leave it out"),
            "{unused}"
        );
        let twice = error(&format!("{default}---\n{ROOT}---\n{}", map("trusted_root.json")));
        assert!(twice.contains("twice"), "{twice}");
    }

    #[test]
    fn a_trust_root_that_is_published_is_named_with_its_repository() {
        let tuf = ROOT.replace("builtIn: Staging", "tuf: {url: 'https://x', initialRoot: '{}'}");
        let manifests = read(&tuf).unwrap();
        assert!(manifests.trust_roots.is_empty());
        assert_eq!(manifests.published["own"].url, "https://x");
        assert!(matches!(
            read(&format!("{tuf}---\n{ROOT}")),
            Err(ManifestError::Duplicate { .. })
        ));
    }

    #[test]
    fn one_name_twice_is_refused() {
        assert!(matches!(
            read(&format!("{POLICY}---\n{POLICY}")),
            Err(ManifestError::Duplicate { .. })
        ));
    }
}
