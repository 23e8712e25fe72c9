//! The images of the demo, and who signed them.

use std::path::Path;

use testkit::{Cosign, CosignVersion, Format, KeyPair, Pushed, PushedIndex, RegistryWriter};

use crate::error::Result;
use crate::stage::Stage;

/// Everything that was pushed.
#[derive(Debug)]
pub struct Gallery {
    /// Signed by release-2026, tag format, in the registry without the referrers API.
    pub web: Pushed,
    /// Signed by release-2026, as a bundle.
    pub tools: Pushed,
    /// Signed by release-2026, as a bundle.
    pub db: Pushed,
    /// A multi-arch image whose index is signed by release-2026, as a bundle.
    pub agent: PushedIndex,
    /// Signed by both release keys, tag format.
    pub api: Pushed,
    /// Signed by a key that nobody trusts.
    pub coupons: Pushed,
    /// Signed by nobody.
    pub cart: Pushed,
    /// Signed by nobody.
    pub billing: Pushed,
    /// Signed by nobody; what somebody debugs with.
    pub shell: Pushed,
}

impl Gallery {
    /// Pushes all images to both registries.
    pub async fn push(stage: &Stage) -> Result<Self> {
        let (plain, referrers) = (stage.distribution.writer(), stage.referrers.writer());
        let push = async |writer: &RegistryWriter, repository: &str, tag: &str| {
            writer.push_image(repository, tag, repository).await
        };
        Ok(Self {
            web: push(&plain, "shop/web", "1.4").await?,
            tools: push(&referrers, "shop/tools", "3.0").await?,
            db: push(&referrers, "shop/db", "17.2").await?,
            agent: referrers
                .push_index("shop/agent", "2.1", "shop/agent", true)
                .await?,
            api: push(&plain, "payments/api", "7.1").await?,
            coupons: push(&plain, "shop/coupons", "0.9").await?,
            cart: push(&plain, "shop/cart", "2.0").await?,
            billing: push(&plain, "legacy/billing", "5.5").await?,
            shell: push(&plain, "tools/shell", "1.0").await?,
        })
    }

    /// What rests on the key release-2026 alone: in the tag format, then as bundles.
    fn sole_trust(&self) -> [(&Pushed, Format); 4] {
        [
            (&self.web, Format::Tag),
            (&self.tools, Format::Bundle),
            (&self.db, Format::Bundle),
            (&self.agent.index, Format::Bundle),
        ]
    }

    /// The repositories whose images rest on the key release-2026 alone, as their registry calls them.
    pub fn sole_trust_repositories(&self) -> Vec<&str> {
        self.sole_trust()
            .into_iter()
            .filter_map(|(pushed, _)| Some(pushed.repository.split_once('/')?.1))
            .collect()
    }
}

/// Real cosign with three keys: two versions of the release key, and a stranger's.
#[derive(Debug)]
pub struct Signers {
    cosign2: Cosign,
    cosign3: Cosign,
    /// The key in use.
    pub release_2026: KeyPair,
    /// The next one of the same ring.
    pub release_2027: KeyPair,
    stranger: KeyPair,
}

impl Signers {
    /// Makes the keys with `cosign generate-key-pair`.
    pub async fn create(folder: &Path) -> Result<Self> {
        let cosign3 = Cosign::new(CosignVersion::V3, folder)?;
        let (release_2026, release_2027, stranger) = futures::try_join!(
            cosign3.generate_key_pair("release-2026"),
            cosign3.generate_key_pair("release-2027"),
            cosign3.generate_key_pair("stranger"),
        )?;
        let cosign2 = Cosign::new(CosignVersion::V2, folder)?;
        Ok(Self {
            cosign2,
            cosign3,
            release_2026,
            release_2027,
            stranger,
        })
    }

    /// Signs what is to be signed when the story begins.
    pub async fn sign(&self, gallery: &Gallery) -> Result<()> {
        let twice = async {
            // Both go under one tag, so one after the other.
            self.sign_one(&gallery.api, &self.release_2026, Format::Tag)
                .await?;
            self.sign_one(&gallery.api, &self.release_2027, Format::Tag).await
        };
        futures::try_join!(
            self.sign_sole_trust(gallery, &self.release_2026),
            self.sign_one(&gallery.coupons, &self.stranger, Format::Tag),
            twice,
        )?;
        Ok(())
    }

    /// Signs again, with the ring's next key, what rested on the lost one alone.
    pub async fn sign_again(&self, gallery: &Gallery) -> Result<()> {
        self.sign_sole_trust(gallery, &self.release_2027).await
    }

    async fn sign_sole_trust(&self, gallery: &Gallery, key: &KeyPair) -> Result<()> {
        let images = gallery.sole_trust();
        futures::future::try_join_all(images.map(|(image, format)| self.sign_one(image, key, format)))
            .await?;
        Ok(())
    }

    /// Cosign 2 writes the tag format, cosign 3 bundles: what each does by itself.
    async fn sign_one(&self, image: &Pushed, key: &KeyPair, format: Format) -> Result<()> {
        let cosign = match format {
            Format::Tag => &self.cosign2,
            Format::Bundle => &self.cosign3,
        };
        Ok(cosign.sign(&image.by_digest(), key, format).await?)
    }
}
