//! The trust root (sigstore_trustroot.proto, `trusted_root.json`): the certificate authorities, logs and timestamp
//! authorities that are believed, each for a time. How it came here (inline, a ConfigMap, TUF) is the engine's affair.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::Digest;
use jiff::Timestamp;
use serde_json::{Map, Value};
use sigstore_verify::trust_root::{
    SIGSTORE_PRODUCTION_TRUSTED_ROOT, SIGSTORE_STAGING_TRUSTED_ROOT, TrustedRoot, TsaAuthority,
};

use crate::certificate::{Certificate, Window};
use crate::strict_json::{self, Room, field, string};

/// The public-good root takes about 10 KiB.
const MAX_BYTES: usize = 2 * 1024 * 1024;
const MEDIA_TYPE_FAMILY: &str = "application/vnd.dev.sigstore.trustedroot";
const AUTHORITIES: &str = "certificateAuthorities";
const TIMESTAMP_AUTHORITIES: &str = "timestampAuthorities";
const LOGS: &str = "tlogs";
const CERTIFICATE_LOGS: &str = "ctlogs";

/// The built-in roots' names.
const PUBLIC_GOOD: &str = "public-good";
const STAGING: &str = "staging";

/// What certificates, log entries and timestamps are checked against.
#[derive(Clone)]
pub struct TrustRoot {
    name: String,
    digest: Digest,
    client: TrustedRoot,
    pub(crate) authorities: Vec<Authority>,
    pub(crate) timestamp_authorities: Vec<Authority>,
    pub(crate) logs: Vec<Log>,
    pub(crate) certificate_logs: Vec<Log>,
}

/// A certificate authority or timestamp authority: its chain, the issuing certificate first.
#[derive(Debug, Clone)]
pub(crate) struct Authority {
    chain: Vec<Certificate>,
    valid: Window,
}

/// A log and its key.
#[derive(Debug, Clone)]
pub(crate) struct Log {
    pub(crate) id: Vec<u8>,
    pub(crate) valid: Window,
}

/// Why a text is no trust root. Each message names the field, what was found and what is expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TrustRootError {
    /// The text is longer than any trust root.
    #[error("the trust root has {found} bytes; at most {MAX_BYTES} are read")]
    TooLong {
        /// Bytes given.
        found: usize,
    },
    /// The text does not have the shape of a trusted_root.json.
    #[error(
        "{why}; expected a trusted_root.json as `cosign trusted-root create` or a Sigstore TUF repository gives it"
    )]
    Malformed {
        /// What is wrong with it.
        why: String,
    },
    /// It trusts nobody.
    #[error(
        "the trust root names no certificate authority, no log and no timestamp authority, so nothing could verify"
    )]
    Empty,
}

impl From<String> for TrustRootError {
    fn from(why: String) -> Self {
        Self::Malformed { why }
    }
}

impl TrustRoot {
    /// Reads a `trusted_root.json`.
    ///
    /// # Errors
    /// [`TrustRootError`] if any part of it cannot be read: a part left out would be a different trust root.
    pub fn from_json(text: &[u8]) -> Result<Self, TrustRootError> {
        if text.len() > MAX_BYTES {
            return Err(TrustRootError::TooLong { found: text.len() });
        }
        let json = strict_json::parse(text, Room::Large).map_err(|error| error.to_string())?;
        let root = json
            .as_object()
            .ok_or_else(|| "the trust root is not a JSON object".to_owned())?;
        check_media_type(root)?;
        let read = Self {
            name: String::new(),
            digest: Digest::sha256(text),
            authorities: each(root, AUTHORITIES, Authority::issuing)?,
            timestamp_authorities: each(root, TIMESTAMP_AUTHORITIES, Authority::timestamping)?,
            logs: each(root, LOGS, Log::read)?,
            certificate_logs: each(root, CERTIFICATE_LOGS, Log::read)?,
            client: client_root(text)?,
        };
        if read.authorities.is_empty() && read.logs.is_empty() && read.timestamp_authorities.is_empty() {
            return Err(TrustRootError::Empty);
        }
        Ok(read)
    }

    /// The same root under a name, which enters the fingerprints of keyless signers.
    #[must_use]
    pub fn named(self, name: &str) -> Self {
        Self {
            name: name.to_owned(),
            ..self
        }
    }

    /// Its name; empty if none was given.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// SHA-256 of the text it was read from.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest.clone()
    }

    /// When the root stops being of use: the first time at which one of its kinds (certificate authorities, logs,
    /// certificate logs, timestamp authorities) has no instance left that is still valid. None if never.
    #[must_use]
    pub fn expires(&self) -> Option<Timestamp> {
        let authorities = |all: &[Authority]| last_end(all.iter().filter_map(Authority::end_if_usable));
        let logs = |all: &[Log]| last_end(all.iter().map(|log| log.valid.end));
        [
            authorities(&self.authorities),
            authorities(&self.timestamp_authorities),
            logs(&self.logs),
            logs(&self.certificate_logs),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// The root of Sigstore's public-good instance, as it was when this version was built.
    ///
    /// # Errors
    /// [`TrustRootError`] if the built-in text cannot be read, which is an error in the build.
    pub fn public_good() -> Result<Self, TrustRootError> {
        Ok(Self::from_json(SIGSTORE_PRODUCTION_TRUSTED_ROOT.as_bytes())?.named(PUBLIC_GOOD))
    }

    /// The root of Sigstore's staging instance, as it was when this version was built.
    ///
    /// # Errors
    /// As [`TrustRoot::public_good`].
    pub fn staging() -> Result<Self, TrustRootError> {
        Ok(Self::from_json(SIGSTORE_STAGING_TRUSTED_ROOT.as_bytes())?.named(STAGING))
    }

    /// The root as Sigstore's client takes it, with only these of its parts. Certificate logs are all kept: the client
    /// holds their validity against the time in the SCT.
    pub(crate) fn reduced(&self, kept: &Kept) -> TrustedRoot {
        let mut root = self.client.clone();
        root.certificate_authorities = only(&self.client.certificate_authorities, &kept.authorities);
        root.timestamp_authorities = only(&self.client.timestamp_authorities, &kept.timestamp_authorities);
        root.tlogs = only(&self.client.tlogs, &kept.logs);
        root
    }

    /// The certificates of all certificate authorities, in DER.
    pub(crate) fn authority_certificates(&self) -> impl Iterator<Item = &[u8]> {
        let chains = self.client.certificate_authorities.iter();
        chains
            .flat_map(|authority| &authority.cert_chain.certificates)
            .map(|certificate| certificate.raw_bytes.as_bytes())
    }

    /// The certificates of one timestamp authority, in DER.
    pub(crate) fn timestamp_chain(&self, at: usize) -> Vec<&[u8]> {
        let authority = self.client.timestamp_authorities.get(at);
        let chain = authority.map(|authority| authority.cert_chain.certificates.as_slice());
        chain
            .unwrap_or(&[])
            .iter()
            .map(|certificate| certificate.raw_bytes.as_bytes())
            .collect()
    }

    /// One timestamp authority as Sigstore's client takes it.
    pub(crate) fn timestamp_authority(&self, at: usize) -> Option<TsaAuthority> {
        let authority = self.client.timestamp_authorities.get(at)?;
        let chain = &authority.cert_chain.certificates;
        let (leaf, root) = (chain.first()?, chain.last()?);
        let between = chain.get(1..chain.len().saturating_sub(1)).unwrap_or(&[]);
        Some(TsaAuthority::new(
            leaf.raw_bytes.clone(),
            between
                .iter()
                .map(|certificate| certificate.raw_bytes.clone())
                .collect(),
            root.raw_bytes.clone(),
            authority.valid_for,
        ))
    }
}

fn only<T: Clone>(all: &[T], kept: &[usize]) -> Vec<T> {
    all.iter()
        .enumerate()
        .filter(|(at, _)| kept.contains(at))
        .map(|(_, part)| part.clone())
        .collect()
}

/// The places of what is kept of a root, by kind.
#[derive(Debug, Clone, Default)]
pub(crate) struct Kept {
    pub(crate) authorities: Vec<usize>,
    pub(crate) timestamp_authorities: Vec<usize>,
    pub(crate) logs: Vec<usize>,
}

impl fmt::Debug for TrustRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TrustRoot({:?} {})", self.name, self.digest)
    }
}

impl Authority {
    fn issuing(value: &Value, what: &str) -> Result<Self, String> {
        Self::read(value, what, 0)
    }

    /// The first certificate of a timestamp authority signs timestamps, not certificates.
    fn timestamping(value: &Value, what: &str) -> Result<Self, String> {
        Self::read(value, what, 1)
    }

    fn read(value: &Value, what: &str, leaves: usize) -> Result<Self, String> {
        let fields = map(value, what)?;
        let chain = map(field(fields, what, "certChain")?, &format!("{what}.certChain"))?;
        let chain =
            each(chain, "certificates", certificate).map_err(|why| format!("{what}.certChain: {why}"))?;
        if chain.is_empty() {
            return Err(format!("{what}.certChain has no certificate"));
        }
        for (at, issuer) in chain.iter().enumerate().skip(1) {
            if !chain[at - 1].was_issued_in_the_name_of(issuer) {
                return Err(format!(
                    "{what}.certChain: certificate {} was not issued by certificate {at}, which follows it",
                    at - 1
                ));
            }
        }
        Ok(Self {
            valid: window(fields, what)?,
            chain,
        })
        .map(|authority| authority.without_false_issuers(leaves))
    }

    /// A certificate that may not issue others makes the chain worthless: it is kept, and valid at no time, so that
    /// the rest of the root stays of use.
    fn without_false_issuers(mut self, leaves: usize) -> Self {
        if !self.chain.iter().skip(leaves).all(Certificate::is_authority) {
            self.chain.clear();
        }
        self
    }

    /// Whether everything in its chain is valid at this time.
    pub(crate) fn is_usable_at(&self, time: Timestamp) -> bool {
        !self.chain.is_empty()
            && self.valid.contains(time)
            && self
                .chain
                .iter()
                .all(|certificate| certificate.validity().contains(time))
    }

    /// Its end, which may never come; None if it was never of use.
    fn end_if_usable(&self) -> Option<Option<Timestamp>> {
        let ends = self.chain.iter().map(|certificate| certificate.validity().end);
        (!self.chain.is_empty()).then(|| ends.chain([self.valid.end]).flatten().min())
    }
}

impl Log {
    fn read(value: &Value, what: &str) -> Result<Self, String> {
        let fields = map(value, what)?;
        let id = map(field(fields, what, "logId")?, &format!("{what}.logId"))?;
        let id = string(id, &format!("{what}.logId"), "keyId")?;
        let key = map(field(fields, what, "publicKey")?, &format!("{what}.publicKey"))?;
        Ok(Self {
            id: STANDARD
                .decode(id)
                .map_err(|error| format!("{what}.logId.keyId is not base64: {error}"))?,
            valid: window(key, &format!("{what}.publicKey"))?,
        })
    }
}

fn client_root(text: &[u8]) -> Result<TrustedRoot, String> {
    let text = std::str::from_utf8(text).map_err(|error| format!("the trust root is not UTF-8: {error}"))?;
    TrustedRoot::from_json(text).map_err(|error| format!("the trust root cannot be read: {error}"))
}

fn check_media_type(root: &Map<String, Value>) -> Result<(), String> {
    match string(root, "the trust root", "mediaType")? {
        media_type if media_type.starts_with(MEDIA_TYPE_FAMILY) => Ok(()),
        other => Err(format!("mediaType is {other:?}, not {MEDIA_TYPE_FAMILY}…")),
    }
}

fn certificate(value: &Value, what: &str) -> Result<Certificate, String> {
    let der = STANDARD
        .decode(string(map(value, what)?, what, "rawBytes")?)
        .map_err(|error| format!("{what}.rawBytes is not base64: {error}"))?;
    Certificate::from_der(&der).map_err(|why| format!("{what}: {why}"))
}

/// A log or an authority without a start is one that somebody forgot to limit.
fn window(fields: &Map<String, Value>, what: &str) -> Result<Window, String> {
    let name = format!("{what}.validFor");
    let valid = map(field(fields, what, "validFor")?, &name)?;
    let time = |text: &str, end: &str| {
        text.parse::<Timestamp>()
            .map_err(|error| format!("{name}.{end} is no time: {error}"))
    };
    let end = match valid.get("end") {
        None | Some(Value::Null) => None,
        Some(_) => Some(time(string(valid, &name, "end")?, "end")?),
    };
    Ok(Window {
        start: time(string(valid, &name, "start")?, "start")?,
        end,
    })
}

/// Every entry of a list that may be absent.
fn each<T>(
    fields: &Map<String, Value>,
    name: &str,
    read: impl Fn(&Value, &str) -> Result<T, String>,
) -> Result<Vec<T>, String> {
    match fields.get(name) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(all)) => all
            .iter()
            .enumerate()
            .map(|(at, entry)| read(entry, &format!("{name}[{at}]")))
            .collect(),
        Some(_) => Err(format!("{name} is not a list")),
    }
}

fn map<'a>(value: &'a Value, what: &str) -> Result<&'a Map<String, Value>, String> {
    value
        .as_object()
        .ok_or_else(|| format!("{what} is not a JSON object"))
}

/// The last of the ends; None if one of them never comes, or there are none.
fn last_end(ends: impl Iterator<Item = Option<Timestamp>>) -> Option<Timestamp> {
    ends.collect::<Option<Vec<_>>>()?.into_iter().max()
}
