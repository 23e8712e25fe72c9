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

/// A registry of Amazon ECR: `<account>.dkr.ecr.<region>.amazonaws.com`, and as [`DOMAINS`] and FIPS 140 have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ecr {
    pub(super) account: String,
    pub(super) region: String,
    pub(super) domain: &'static Domain,
    /// Its modules are validated by FIPS 140, and so must those be that give its password.
    pub(super) is_fips: bool,
}

/// The names of Amazon's registries in one partition and by one kind of address.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Domain {
    /// What stands between the account and the region, without and with FIPS 140.
    registry: [&'static str; 2],
    /// The end of a registry's name.
    end: &'static str,
    /// What the ECR service is called, without and with FIPS 140.
    service: [&'static str; 2],
    /// The end of the service's name.
    service_end: &'static str,
    /// The end of the names of other services, for the token of a role.
    pub(super) of_services: &'static str,
}

const fn by_ipv4(end: &'static str) -> Domain {
    Domain {
        registry: [".dkr.ecr.", ".dkr.ecr-fips."],
        end,
        service: ["api.ecr", "ecr-fips"],
        service_end: end,
        of_services: end,
    }
}

const fn by_both(end: &'static str, service_end: &'static str, of_services: &'static str) -> Domain {
    Domain {
        registry: [".dkr-ecr.", ".dkr-ecr-fips."],
        end,
        service: ["ecr", "ecr-fips"],
        service_end,
        of_services,
    }
}

/// Amazon's own names and those of its Chinese partition, for IPv4 and for both kinds of addresses.
static DOMAINS: [Domain; 4] = [
    by_ipv4("amazonaws.com"),
    by_ipv4("amazonaws.com.cn"),
    by_both("on.aws", "api.aws", "amazonaws.com"),
    by_both(
        "on.amazonwebservices.com.cn",
        "api.amazonwebservices.com.cn",
        "amazonaws.com.cn",
    ),
];

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
            Self::Ecr(ecr) => format!("ecr {} {}", ecr.account, ecr.service()),
            Self::Gar => "gar".to_owned(),
            Self::Acr(registry) => format!("acr {registry}"),
        }
    }
}

impl Ecr {
    fn of(registry: &str) -> Option<Self> {
        DOMAINS.iter().find_map(|domain| {
            [false, true]
                .into_iter()
                .find_map(|is_fips| Self::in_domain(registry, domain, is_fips))
        })
    }

    fn in_domain(registry: &str, domain: &'static Domain, is_fips: bool) -> Option<Self> {
        let rest = registry.strip_suffix(domain.end)?.strip_suffix('.')?;
        let (account, region) = rest.split_once(domain.registry[usize::from(is_fips)])?;
        let is_account = account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit());
        (is_account && is_region(region)).then(|| Self {
            account: account.to_owned(),
            region: region.to_owned(),
            domain,
            is_fips,
        })
    }

    /// The host of the service that gives passwords for this registry.
    pub(super) fn service(&self) -> String {
        let Domain {
            service, service_end, ..
        } = self.domain;
        format!(
            "{}.{}.{service_end}",
            service[usize::from(self.is_fips)],
            self.region
        )
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
                "ecr 123456789012 api.ecr.us-east-1.amazonaws.com",
            ),
            (
                "123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn",
                "ecr 123456789012 api.ecr.cn-north-1.amazonaws.com.cn",
            ),
            (
                "123456789012.dkr.ecr.us-gov-west-1.amazonaws.com",
                "ecr 123456789012 api.ecr.us-gov-west-1.amazonaws.com",
            ),
            (
                "123456789012.dkr.ecr-fips.us-east-1.amazonaws.com",
                "ecr 123456789012 ecr-fips.us-east-1.amazonaws.com",
            ),
            (
                "123456789012.dkr-ecr.us-east-1.on.aws",
                "ecr 123456789012 ecr.us-east-1.api.aws",
            ),
            (
                "123456789012.dkr-ecr-fips.us-gov-west-1.on.aws",
                "ecr 123456789012 ecr-fips.us-gov-west-1.api.aws",
            ),
            (
                "123456789012.dkr-ecr.cn-north-1.on.amazonwebservices.com.cn",
                "ecr 123456789012 ecr.cn-north-1.api.amazonwebservices.com.cn",
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
            "123456789012.dkr-ecr.us-east-1.amazonaws.com",
            "123456789012.dkr.ecr.us-east-1.on.aws",
            "123456789012.dkr.ecr-other.us-east-1.amazonaws.com",
            "123456789012.dkr-ecr.us-east-1.on.aws.evil.com",
            "123456789012.dkr-ecr.us-east-1.evilon.aws",
            "123456789012.lambda-url.us-east-1.on.aws",
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
