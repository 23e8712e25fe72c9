//! Writes what real cosign signs and attests with a private Sigstore, for the tests of crates/verify:
//! `cargo run -p assay-testkit --example keyless_fixtures -- FOLDER`, called by `hack/verify-fixtures.sh`.
//! The README.md of that folder says what each file is.

use std::path::{Path, PathBuf};

use assay_testkit::predicates::{Build, Finding, Scanner, vulnerabilities};
use assay_testkit::{
    Cosign, CosignVersion, Format, Identity, Pushed, Registry, Result, Signer, Sigstore, SigstoreOptions,
    TestkitError, digest_of,
};
use jiff::Timestamp;
use serde_json::{Value, json};

/// What the signatures in the tag format name, in place of the registry of this run.
const REFERENCE: &str = "registry.example.com/shop/web";

#[tokio::main]
async fn main() -> Result<()> {
    let folder = std::env::args().nth(1).map(PathBuf::from);
    let folder = folder.ok_or_else(|| TestkitError::Invalid("found no folder to write to".to_owned()))?;
    std::fs::create_dir_all(&folder).map_err(|source| failed(&folder, source))?;
    let scratch = tempfile::tempdir().map_err(|source| failed(&folder, source))?;
    for (name, options) in sigstores() {
        let place = Place::new(&folder, name, scratch.path(), options).await?;
        if name == "full" {
            place.everything().await?;
            continue;
        }
        place.bundle(CosignVersion::V3, "person", &person()).await?;
        place.tag(CosignVersion::V3, "person", &person()).await?;
        place.blob(CosignVersion::V3, "person", &person()).await?;
    }
    Ok(())
}

/// Each with what it lacks.
fn sigstores() -> [(&'static str, SigstoreOptions); 7] {
    let all = SigstoreOptions::default();
    let rekor_v1 = SigstoreOptions { rekor: false, ..all };
    let without_log = SigstoreOptions {
        rekor_v1: false,
        ..rekor_v1
    };
    let timestamps = false;
    [
        ("full", all),
        ("unknown-root", all),
        ("without-sct", SigstoreOptions { ct_log: false, ..all }),
        ("rekor-v1", rekor_v1),
        (
            "rekor-v1-alone",
            SigstoreOptions {
                timestamps,
                ..rekor_v1
            },
        ),
        ("without-log", without_log),
        (
            "without-time",
            SigstoreOptions {
                timestamps,
                ..without_log
            },
        ),
    ]
}

fn person() -> Identity {
    Identity::email("alice@example.com")
}

fn workflow() -> Identity {
    Identity::workflow("shop/web", "release.yaml", "refs/heads/main")
}

/// One Sigstore, and the folder of what was signed with it.
struct Place {
    folder: PathBuf,
    sigstore: Sigstore,
    registry: Registry,
    cosigns: [Cosign; 2],
}

impl Place {
    async fn new(folder: &Path, name: &str, scratch: &Path, options: SigstoreOptions) -> Result<Self> {
        let (folder, scratch) = (folder.join(name), scratch.join(name));
        if folder.exists() {
            std::fs::remove_dir_all(&folder).map_err(|source| failed(&folder, source))?;
        }
        std::fs::create_dir_all(&folder).map_err(|source| failed(&folder, source))?;
        let place = Self {
            sigstore: Sigstore::start(scratch.join("sigstore"), options).await?,
            registry: Registry::distribution(scratch.join("registry")).await?,
            cosigns: [
                Cosign::new(CosignVersion::V2, scratch.join("cosign2"))?,
                Cosign::new(CosignVersion::V3, scratch.join("cosign3"))?,
            ],
            folder,
        };
        let trusted_root = place.sigstore.trusted_root_json()?;
        place.write("trusted_root.json", trusted_root.as_bytes())?;
        let issuers = json!({
            "person": {"subject": person().subject(), "issuer": place.sigstore.issuer_of(&person())},
            "workflow": {"subject": workflow().subject(), "issuer": place.sigstore.issuer_of(&workflow())},
        });
        place.write("identities.json", format!("{issuers:#}\n").as_bytes())?;
        place.write(
            "digest",
            format!("{}\n", place.image("digest").await?.digest).as_bytes(),
        )?;
        Ok(place)
    }

    async fn everything(&self) -> Result<()> {
        let scan = vulnerabilities(
            Scanner::Trivy,
            Timestamp::now(),
            &[Finding {
                id: "CVE-2026-0001",
                severity: "High",
                package: "openssl",
                fixed_in: Some("3.5.5"),
            }],
        );
        let build = Build {
            builder: "https://builders.example.com/release@v1",
            repository: "https://github.com/shop/web",
            git_ref: "refs/heads/main",
            commit: "0123456789abcdef0123456789abcdef01234567",
            finished: Timestamp::now(),
        };
        let review = json!({"approved": true});
        let predicates = [
            ("vuln", "vuln", &scan),
            ("slsa-v02", "slsaprovenance", &build.slsa_v02()),
            ("slsa-v1", "slsaprovenance1", &build.slsa_v1()),
            ("review", "https://example.com/review/v1", &review),
        ];
        for version in [CosignVersion::V2, CosignVersion::V3] {
            for (name, identity) in [("person", person()), ("workflow", workflow())] {
                self.bundle(version, name, &identity).await?;
                self.tag(version, name, &identity).await?;
                self.blob(version, name, &identity).await?;
                for (predicate_name, kind, predicate) in predicates {
                    let name = format!("{name}-{predicate_name}");
                    self.attestation(version, &name, &identity, kind, predicate)
                        .await?;
                }
            }
            self.logged_key(version).await?;
        }
        Ok(())
    }

    /// An image signature as a bundle.
    async fn bundle(&self, version: CosignVersion, name: &str, identity: &Identity) -> Result<()> {
        let name = format!("{}-{name}", label(version));
        let signer = self.sigstore.keyless(identity);
        self.sign_bundle(version, &name, signer).await
    }

    /// An image signature under a tag.
    async fn tag(&self, version: CosignVersion, name: &str, identity: &Identity) -> Result<()> {
        let name = format!("{}-{name}", label(version));
        self.sign_tag(version, &name, self.sigstore.keyless(identity))
            .await
    }

    /// A signature of the bytes of the file `digest`.
    async fn blob(&self, version: CosignVersion, name: &str, identity: &Identity) -> Result<()> {
        let content =
            std::fs::read(self.folder.join("digest")).map_err(|source| failed(&self.folder, source))?;
        let bundle = self
            .cosign(version)
            .sign_blob(&content, self.sigstore.keyless(identity))
            .await?;
        self.write(
            &format!("{}-{name}-blob.bundle.json", label(version)),
            bundle.as_bytes(),
        )
    }

    /// An attestation in both formats.
    async fn attestation(
        &self,
        version: CosignVersion,
        name: &str,
        identity: &Identity,
        kind: &str,
        predicate: &Value,
    ) -> Result<()> {
        let name = format!("{}-{name}", label(version));
        let signer = self.sigstore.keyless(identity);
        let image = self.image(&name).await?;
        let cosign = self.cosign(version);
        cosign
            .attest(&image.by_digest(), signer, kind, predicate, Format::Bundle)
            .await?;
        self.write(&format!("{name}.bundle.json"), &self.stored_bundle(&image).await?)?;
        cosign
            .attest(&image.by_digest(), signer, kind, predicate, Format::Tag)
            .await?;
        self.write_layer(&name, "att", &image).await
    }

    /// A key whose signatures are logged and timestamped, in both formats.
    async fn logged_key(&self, version: CosignVersion) -> Result<()> {
        let name = format!("{}-key", label(version));
        let key = self.cosign(version).generate_key_pair(&name).await?;
        self.write(&format!("{name}.pub"), key.public_pem()?.as_bytes())?;
        self.sign_bundle(version, &name, self.sigstore.logged(&key))
            .await?;
        self.sign_tag(version, &name, self.sigstore.logged(&key)).await
    }

    async fn sign_bundle(&self, version: CosignVersion, name: &str, signer: Signer<'_>) -> Result<()> {
        let image = self.image(name).await?;
        self.cosign(version)
            .sign(&image.by_digest(), signer, Format::Bundle)
            .await?;
        self.write(&format!("{name}.bundle.json"), &self.stored_bundle(&image).await?)
    }

    async fn sign_tag(&self, version: CosignVersion, name: &str, signer: Signer<'_>) -> Result<()> {
        let image = self.image(name).await?;
        let further = ["--sign-container-identity", REFERENCE];
        let cosign = self.cosign(version);
        cosign
            .sign_with(&image.by_digest(), signer, Format::Tag, &further)
            .await?;
        self.write_layer(name, "sig", &image).await
    }

    fn cosign(&self, version: CosignVersion) -> &Cosign {
        let [second, third] = &self.cosigns;
        if version == CosignVersion::V2 {
            second
        } else {
            third
        }
    }

    /// The same image each time, in a repository of its own.
    async fn image(&self, name: &str) -> Result<Pushed> {
        let writer = self.registry.writer();
        writer.push_image(&format!("shop/{name}"), "1", "fixture").await
    }

    /// The bundle that the fallback tag's index names last.
    async fn stored_bundle(&self, image: &Pushed) -> Result<Vec<u8>> {
        let index = self.stored(image, &image.digest.replace(':', "-")).await?;
        let listed = index["manifests"]
            .as_array()
            .and_then(|manifests| manifests.last());
        let referrer = text(listed.unwrap_or(&Value::Null), "digest")?;
        let layer = &self.stored(image, referrer).await?["layers"][0];
        self.registry
            .writer()
            .blob(path(image), text(layer, "digest")?)
            .await
    }

    /// The layer under the tag: its content, and its descriptor with the annotations.
    async fn write_layer(&self, name: &str, suffix: &str, image: &Pushed) -> Result<()> {
        let tag = format!("{}.{suffix}", image.digest.replace(':', "-"));
        let layer = &self.stored(image, &tag).await?["layers"][0];
        let content = self
            .registry
            .writer()
            .blob(path(image), text(layer, "digest")?)
            .await?;
        if digest_of(&content) != text(layer, "digest")? {
            return Err(TestkitError::Invalid(format!(
                "{tag} names another content than it has"
            )));
        }
        self.write(
            &format!("{name}.{suffix}.layer.json"),
            format!("{layer:#}\n").as_bytes(),
        )?;
        self.write(&format!("{name}.{suffix}.payload"), &content)
    }

    async fn stored(&self, image: &Pushed, reference: &str) -> Result<Value> {
        let manifest = self.registry.writer().manifest(path(image), reference).await?;
        let missing =
            || TestkitError::Invalid(format!("found nothing under {}:{reference}", image.repository));
        serde_json::from_slice(&manifest.ok_or_else(missing)?)
            .map_err(|error| TestkitError::Invalid(format!("{}:{reference}: {error}", image.repository)))
    }

    fn write(&self, file: &str, content: &[u8]) -> Result<()> {
        let path = self.folder.join(file);
        std::fs::write(&path, content).map_err(|source| failed(&path, source))
    }
}

fn label(version: CosignVersion) -> &'static str {
    match version {
        CosignVersion::V2 => "cosign2",
        CosignVersion::V3 => "cosign3",
    }
}

/// The repository without the registry.
fn path(image: &Pushed) -> &str {
    image
        .repository
        .split_once('/')
        .map_or("", |(_registry, path)| path)
}

fn text<'a>(value: &'a Value, key: &str) -> Result<&'a str> {
    let found = || TestkitError::Invalid(format!("found no {key} in {value}"));
    value[key].as_str().ok_or_else(found)
}

fn failed(path: &Path, source: std::io::Error) -> TestkitError {
    TestkitError::File {
        action: "write",
        path: path.to_owned(),
        source,
    }
}
