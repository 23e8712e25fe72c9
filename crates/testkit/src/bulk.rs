//! Signatures for fleets of hundreds of images, where real cosign (0.7 s each) is too slow.
//!
//! A stand-in for size: it writes the tag format in the shape that cosign writes, signed with a key that cosign made.
//! A test of the test kit holds it against `cosign verify`. What a signature means is tested with real cosign.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sigstore::crypto::SigningScheme;
use sigstore::crypto::signing_key::{SigStoreKeyPair, SigStoreSigner};

use crate::images::{Pushed, RegistryWriter, descriptor};
use crate::keys::{KEY_PASSWORD, KeyPair};
use crate::{Result, TestkitError};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";

/// Signs many images with one ECDSA P-256 key.
pub struct BulkSigner {
    signer: SigStoreSigner,
}

impl std::fmt::Debug for BulkSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BulkSigner").finish_non_exhaustive()
    }
}

impl BulkSigner {
    /// Reads the encrypted private key of a pair that [`crate::Cosign::generate_key_pair`] made.
    pub fn new(key: &KeyPair) -> Result<Self> {
        let encrypted =
            std::fs::read(&key.private_key).map_err(TestkitError::file("read", &key.private_key))?;
        let failed =
            || TestkitError::crypto(format!("read the ECDSA P-256 key {}", key.private_key.display()));
        let pair =
            SigStoreKeyPair::from_encrypted_pem(&encrypted, KEY_PASSWORD.as_bytes()).map_err(failed())?;
        let signer = pair
            .to_sigstore_signer(&SigningScheme::ECDSA_P256_SHA256_ASN1)
            .map_err(failed())?;
        Ok(Self { signer })
    }

    /// Adds a signature to an image under the tag `sha256-<hex>.sig`, beside those that are there.
    pub async fn sign(&self, writer: &RegistryWriter, image: &Pushed) -> Result<()> {
        let (repository, tag) = (image.path(), image.signature_tag());
        let payload = payload(&image.repository, &image.digest);
        let signature = self
            .signer
            .sign(&payload)
            .map_err(TestkitError::crypto("sign a payload"))?;
        let mut layer = descriptor(SIMPLE_SIGNING, &payload);
        layer["annotations"] = json!({SIGNATURE: STANDARD.encode(signature)});
        let mut layers = self.existing_layers(writer, repository, &tag).await?;
        layers.push(layer);
        let config = config(&layers);
        writer.put_blob(repository, &payload).await?;
        writer.put_blob(repository, config.as_bytes()).await?;
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": descriptor("application/vnd.oci.image.config.v1+json", config.as_bytes()),
            "layers": layers,
        });
        writer
            .put_manifest(repository, Some(&tag), MANIFEST, manifest.to_string().as_bytes())
            .await
            .map(drop)
    }

    async fn existing_layers(
        &self,
        writer: &RegistryWriter,
        repository: &str,
        tag: &str,
    ) -> Result<Vec<Value>> {
        let Some(bytes) = writer.manifest(repository, tag).await? else {
            return Ok(Vec::new());
        };
        let invalid = |error| TestkitError::Invalid(format!("{repository}:{tag} is no manifest: {error}"));
        let manifest: Value = serde_json::from_slice(&bytes).map_err(invalid)?;
        Ok(manifest["layers"].as_array().cloned().unwrap_or_default())
    }
}

/// The simple-signing document that cosign signs, byte for byte as Go writes it.
fn payload(repository: &str, digest: &str) -> Vec<u8> {
    format!(
        "{{\"critical\":{{\"identity\":{{\"docker-reference\":\"{repository}\"}},\"image\":{{\
         \"docker-manifest-digest\":\"{digest}\"}},\"type\":\"cosign container image signature\"}},\"optional\":null}}"
    )
    .into_bytes()
}

/// The configuration says which layers there are, as that of an image does.
fn config(layers: &[Value]) -> String {
    let digests: Vec<&Value> = layers.iter().map(|layer| &layer["digest"]).collect();
    json!({
        "architecture": "", "os": "", "created": "0001-01-01T00:00:00Z",
        "history": vec![json!({"created": "0001-01-01T00:00:00Z"}); layers.len()],
        "rootfs": {"type": "layers", "diff_ids": digests},
        "config": {},
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest_of;

    #[test]
    fn the_payload_is_json_that_names_repository_and_digest() {
        let value: Value = serde_json::from_slice(&payload("r.example/a", &digest_of(b"x"))).unwrap();
        assert_eq!(value["critical"]["identity"]["docker-reference"], "r.example/a");
        assert_eq!(
            value["critical"]["image"]["docker-manifest-digest"],
            digest_of(b"x")
        );
    }
}
