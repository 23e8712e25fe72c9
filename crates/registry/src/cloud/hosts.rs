//! Which registries are of which cloud, by name alone: a name that only looks like one of theirs is none.

use super::Cloud;

/// A registry of a cloud.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    Ecr(Ecr),
    Gar,
    /// The registry's host.
    Acr(String),
}

/// A registry of Amazon ECR: `<account>.dkr.ecr.<region>.amazonaws.com`, or `.com.cn`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ecr {
    pub(super) account: String,
    pub(super) region: String,
    /// `amazonaws.com` or `amazonaws.com.cn`.
    pub(super) domain: &'static str,
}

impl Place {
    /// The place of a registry as references name it; `None` where it is of no cloud. With a port it never is.
    pub(super) fn of(registry: &str) -> Option<Self> {
        if let Some(ecr) = Ecr::of(registry) {
            return Some(Self::Ecr(ecr));
        }
        if is_google(registry) {
            return Some(Self::Gar);
        }
        is_azure(registry).then(|| Self::Acr(registry.to_owned()))
    }

    pub(super) const fn cloud(&self) -> Cloud {
        match self {
            Self::Ecr(_) => Cloud::Ecr,
            Self::Gar => Cloud::Gar,
            Self::Acr(_) => Cloud::Acr,
        }
    }

    /// What names all registries that one credential is for.
    pub(super) fn shared_by(&self) -> String {
        match self {
            Self::Ecr(ecr) => format!("ecr {} {} {}", ecr.account, ecr.region, ecr.domain),
            Self::Gar => "gar".to_owned(),
            Self::Acr(registry) => format!("acr {registry}"),
        }
    }
}

impl Ecr {
    fn of(registry: &str) -> Option<Self> {
        let (rest, domain) = match registry.strip_suffix(".amazonaws.com.cn") {
            Some(rest) => (rest, "amazonaws.com.cn"),
            None => (registry.strip_suffix(".amazonaws.com")?, "amazonaws.com"),
        };
        let (account, region) = rest.split_once(".dkr.ecr.")?;
        let is_account = account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit());
        (is_account && is_region(region)).then(|| Self {
            account: account.to_owned(),
            region: region.to_owned(),
            domain,
        })
    }
}

/// `us-east-1`, `us-gov-west-1`: words of small letters, and a number at the end.
pub(super) fn is_region(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let Some((number, words)) = parts.split_last() else {
        return false;
    };
    let word =
        |word: &&str| (1..=12).contains(&word.len()) && word.bytes().all(|byte| byte.is_ascii_lowercase());
    (2..=3).contains(&words.len())
        && words.iter().all(word)
        && (1..=2).contains(&number.len())
        && number.bytes().all(|byte| byte.is_ascii_digit())
}

/// `gcr.io`, `eu.gcr.io`, `europe-west1-docker.pkg.dev`.
fn is_google(registry: &str) -> bool {
    if matches!(registry, "gcr.io" | "us.gcr.io" | "eu.gcr.io" | "asia.gcr.io") {
        return true;
    }
    registry.strip_suffix("-docker.pkg.dev").is_some_and(|location| {
        (2..=40).contains(&location.len())
            && location
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    })
}

/// `<name>.azurecr.io`, and the national clouds; the name is of 5 to 50 letters and digits.
fn is_azure(registry: &str) -> bool {
    let domains = [".azurecr.io", ".azurecr.cn", ".azurecr.us"];
    let name = domains.iter().find_map(|domain| registry.strip_suffix(domain));
    name.is_some_and(|name| {
        (5..=50).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Weakened names are refused one by one: each differs from a real one in one respect.
    #[test]
    fn b17_only_registries_of_the_cloud_itself_get_its_credentials() {
        for (registry, shared) in [
            (
                "123456789012.dkr.ecr.us-east-1.amazonaws.com",
                "ecr 123456789012 us-east-1 amazonaws.com",
            ),
            (
                "123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn",
                "ecr 123456789012 cn-north-1 amazonaws.com.cn",
            ),
            (
                "123456789012.dkr.ecr.us-gov-west-1.amazonaws.com",
                "ecr 123456789012 us-gov-west-1 amazonaws.com",
            ),
            ("gcr.io", "gar"),
            ("eu.gcr.io", "gar"),
            ("europe-west1-docker.pkg.dev", "gar"),
            ("us-docker.pkg.dev", "gar"),
            ("myregistry.azurecr.io", "acr myregistry.azurecr.io"),
        ] {
            assert_eq!(
                Place::of(registry).map(|place| place.shared_by()).as_deref(),
                Some(shared)
            );
        }
        for registry in [
            "123.dkr.ecr.us-east-1.amazonaws.com.evil.com",
            "123456789012.dkr.ecr.us-east-1.amazonaws.com.evil.com",
            "123.dkr.ecr.us-east-1.amazonaws.com",
            "1234567890123.dkr.ecr.us-east-1.amazonaws.com",
            "a23456789012.dkr.ecr.us-east-1.amazonaws.com",
            "123456789012.dkr.ecr.evil.com.amazonaws.com",
            "123456789012.dkr.ecr.us-east-1.amazonaws.com:444",
            "123456789012.dkr.ecr.us-east-1.amazonaws.org",
            "123456789012.dkr.ecr.us-east-1.evilamazonaws.com",
            "123456789012.dkr.ecr..amazonaws.com",
            "123456789012.dkr.ecr.us.amazonaws.com",
            "evil.123456789012.dkr.ecr.us-east-1.amazonaws.com",
            "bucket.s3.amazonaws.com",
            "public.ecr.aws",
            "gcr.io.evil.com",
            "evil.gcr.io",
            "gcr.io:5000",
            "docker.pkg.dev",
            "-docker.pkg.dev",
            "a.b-docker.pkg.dev",
            "us-docker.pkg.dev.evil.com",
            "us-python.pkg.dev",
            "azurecr.io",
            "my.registry.azurecr.io",
            "evil-registry.azurecr.io.evil.com",
            "myregistry.azurecr.io:8443",
            "abcd.azurecr.io",
            "localhost:5000",
            "docker.io",
        ] {
            assert_eq!(Place::of(registry), None, "{registry}");
        }
    }
}
