//! X.509 certificates (RFC 5280) as far as Sigstore uses them: who a Fulcio certificate was issued to, how long a
//! certificate is valid, whether it may issue others. Whether one signed another is not checked here.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use spki::der::{Decode, Encode};
use x509_cert::Certificate as X509;
use x509_cert::der::oid::AssociatedOid;
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{BasicConstraints, SubjectAltName};

use crate::claim::{Identity, SubjectKind};

/// Fulcio's arc, and how it writes each extension: up to .6 as the bare text, later ones as a DER UTF8String.
const FULCIO: &str = "1.3.6.1.4.1.57264.1.";
const ISSUER_BARE: &str = "1.3.6.1.4.1.57264.1.1";
const ISSUER: &str = "1.3.6.1.4.1.57264.1.8";

/// The numbers below Fulcio's arc with the names of its list (fulcio, docs/oid-info.md).
const EXTENSIONS: [(&str, &str, Writing); 21] = [
    ("2", "githubWorkflowTrigger", Writing::Bare),
    ("3", "githubWorkflowSHA", Writing::Bare),
    ("4", "githubWorkflowName", Writing::Bare),
    ("5", "githubWorkflowRepository", Writing::Bare),
    ("6", "githubWorkflowRef", Writing::Bare),
    ("9", "buildSignerURI", Writing::Utf8String),
    ("10", "buildSignerDigest", Writing::Utf8String),
    ("11", "runnerEnvironment", Writing::Utf8String),
    ("12", "sourceRepositoryURI", Writing::Utf8String),
    ("13", "sourceRepositoryDigest", Writing::Utf8String),
    ("14", "sourceRepositoryRef", Writing::Utf8String),
    ("15", "sourceRepositoryIdentifier", Writing::Utf8String),
    ("16", "sourceRepositoryOwnerURI", Writing::Utf8String),
    ("17", "sourceRepositoryOwnerIdentifier", Writing::Utf8String),
    ("18", "buildConfigURI", Writing::Utf8String),
    ("19", "buildConfigDigest", Writing::Utf8String),
    ("20", "buildTrigger", Writing::Utf8String),
    ("21", "runInvocationURI", Writing::Utf8String),
    ("22", "sourceRepositoryVisibilityAtSigning", Writing::Utf8String),
    ("23", "deploymentEnvironment", Writing::Utf8String),
    ("24", "tokenSubject", Writing::Utf8String),
];

#[derive(Clone, Copy)]
enum Writing {
    Bare,
    Utf8String,
}

/// A certificate, taken apart.
#[derive(Debug, Clone)]
pub(crate) struct Certificate {
    x509: X509,
    validity: Window,
}

/// A closed interval of time; no end is for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) start: Timestamp,
    pub(crate) end: Option<Timestamp>,
}

impl Window {
    pub(crate) fn contains(&self, time: Timestamp) -> bool {
        self.start <= time && self.end.is_none_or(|end| time <= end)
    }
}

impl Certificate {
    /// Reads one certificate, in DER.
    pub(crate) fn from_der(der: &[u8]) -> Result<Self, String> {
        let x509 = X509::from_der(der).map_err(|error| format!("it is no X.509 certificate: {error}"))?;
        refuse_doubled_extensions(&x509)?;
        let validity = x509.tbs_certificate().validity();
        let validity = Window {
            start: timestamp(validity.not_before)?,
            end: Some(timestamp(validity.not_after)?),
        };
        Ok(Self { x509, validity })
    }

    pub(crate) fn validity(&self) -> Window {
        self.validity
    }

    /// Whether it may issue certificates.
    pub(crate) fn is_authority(&self) -> bool {
        self.decoded::<BasicConstraints>()
            .is_ok_and(|constraints| constraints.is_some_and(|constraints| constraints.ca))
    }

    /// Whether it names itself as its issuer, as root certificates do.
    pub(crate) fn is_self_issued(&self) -> bool {
        self.was_issued_in_the_name_of(self)
    }

    pub(crate) fn was_issued_in_the_name_of(&self, issuer: &Self) -> bool {
        self.x509.tbs_certificate().issuer() == issuer.x509.tbs_certificate().subject()
    }

    /// Its key, as a DER SubjectPublicKeyInfo.
    pub(crate) fn public_key_der(&self) -> Result<Vec<u8>, String> {
        self.x509
            .tbs_certificate()
            .subject_public_key_info()
            .to_der()
            .map_err(|error| format!("its public key cannot be written: {error}"))
    }

    /// Who it was issued to, after Fulcio's profile: exactly one subject alternative name, an email address or a URI
    /// that looks like one, and an issuer that both its extensions agree on.
    pub(crate) fn identity(&self) -> Result<Identity, String> {
        let (subject, subject_kind) = self.subject()?;
        Ok(Identity {
            issuer: self.issuer()?,
            subject,
            subject_kind,
            extensions: self.fulcio_extensions()?,
        })
    }

    fn subject(&self) -> Result<(String, SubjectKind), String> {
        let names = self
            .decoded::<SubjectAltName>()?
            .ok_or("it has no subject alternative name")?
            .0;
        let [name] = names.as_slice() else {
            return Err(format!(
                "it has {} subject alternative names; a Fulcio certificate has one",
                names.len()
            ));
        };
        let (text, kind) = match name {
            GeneralName::Rfc822Name(email) => (email.as_str(), SubjectKind::Email),
            GeneralName::UniformResourceIdentifier(uri) => (uri.as_str(), SubjectKind::Uri),
            _ => return Err("its subject alternative name is neither an email address nor a URI".into()),
        };
        // A pattern does not say which of the two it means, so none may look like the other one.
        if kind.fits(text) {
            Ok((text.to_owned(), kind))
        } else {
            Err(format!(
                "its subject alternative name {text:?} is not {}",
                kind.article()
            ))
        }
    }

    fn issuer(&self) -> Result<String, String> {
        let bare = self.text(ISSUER_BARE, Writing::Bare)?;
        let encoded = self.text(ISSUER, Writing::Utf8String)?;
        match (bare, encoded) {
            (Some(bare), Some(encoded)) if bare != encoded => Err(format!(
                "its two issuer extensions contradict each other: {bare:?} and {encoded:?}"
            )),
            (_, Some(issuer)) | (Some(issuer), None) if !issuer.is_empty() => Ok(issuer),
            _ => Err("it does not say which OIDC issuer vouched for its subject".into()),
        }
    }

    fn fulcio_extensions(&self) -> Result<BTreeMap<String, String>, String> {
        let mut found = BTreeMap::new();
        for (number, name, writing) in EXTENSIONS {
            if let Some(text) = self.text(&format!("{FULCIO}{number}"), writing)? {
                found.insert(name.to_owned(), text);
            }
        }
        Ok(found)
    }

    fn text(&self, oid: &str, writing: Writing) -> Result<Option<String>, String> {
        let Some(extension) = self
            .extensions()
            .find(|extension| extension.extn_id.to_string() == oid)
        else {
            return Ok(None);
        };
        let bytes = extension.extn_value.as_bytes();
        let text = match writing {
            Writing::Bare => std::str::from_utf8(bytes).map(str::to_owned).ok(),
            Writing::Utf8String => String::from_der(bytes).ok(),
        };
        text.map(Some)
            .ok_or_else(|| format!("its extension {oid} holds no text"))
    }

    fn extensions(&self) -> impl Iterator<Item = &Extension> {
        self.x509.tbs_certificate().extensions().into_iter().flatten()
    }

    fn decoded<'a, T: Decode<'a, Error = spki::der::Error> + AssociatedOid>(
        &'a self,
    ) -> Result<Option<T>, String> {
        self.x509
            .tbs_certificate()
            .get_extension::<T>()
            .map(|found| found.map(|(_, value)| value))
            .map_err(|error| format!("its extension {} cannot be read: {error}", T::OID))
    }
}

impl SubjectKind {
    /// An email address has an `@` and is no URI; a URI has a scheme.
    fn fits(self, text: &str) -> bool {
        let has_scheme = text.split_once(':').is_some_and(|(scheme, rest)| {
            !rest.is_empty()
                && scheme.starts_with(|first: char| first.is_ascii_alphabetic())
                && scheme
                    .chars()
                    .all(|letter| letter.is_ascii_alphanumeric() || "+-.".contains(letter))
        });
        match self {
            Self::Email => text.contains('@') && !has_scheme,
            Self::Uri => has_scheme,
        }
    }

    fn article(self) -> &'static str {
        match self {
            Self::Email => "an email address",
            Self::Uri => "a URI",
        }
    }
}

/// RFC 5280 section 4.2 allows no extension twice: two readers could choose differently.
fn refuse_doubled_extensions(x509: &X509) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    let extensions = x509.tbs_certificate().extensions().into_iter().flatten();
    for extension in extensions {
        if !seen.insert(extension.extn_id) {
            return Err(format!("it has the extension {} twice", extension.extn_id));
        }
    }
    Ok(())
}

fn timestamp(time: x509_cert::time::Time) -> Result<Timestamp, String> {
    let seconds = i64::try_from(time.to_unix_duration().as_secs())
        .map_err(|_| "its validity is out of range".to_owned())?;
    Timestamp::from_second(seconds).map_err(|error| format!("its validity is out of range: {error}"))
}
