//! A private Sigstore in memory: a certificate authority with a certificate log, a Rekor v1 and a Rekor v2 log, a
//! timestamp authority. It writes what the real ones write, and on demand what they never would. All formats are
//! written here from their specifications, apart from the code under test.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::der::*;
use super::{IN_TOTO, Signer, pae, pem};

/// 2025-01-15T00:00:00Z: when everything in here happens.
pub const NOON: i64 = 1_736_899_200;
pub const MINUTE: i64 = 60;
pub const YEAR: i64 = 365 * 24 * 60 * MINUTE;

pub const ISSUER: &str = "https://accounts.example.com";
pub const SUBJECT: &str = "https://ci.example.com/shop/release@refs/heads/main";

const ECDSA_SHA256: &str = "1.2.840.10045.4.3.2";
const SHA256_OID: &str = "2.16.840.1.101.3.4.2.1";

pub fn sha256(bytes: &[u8]) -> Vec<u8> {
    digest(&SHA256, bytes).as_ref().to_vec()
}

/// The instance.
pub struct Sigstore {
    pub root: Authority,
    pub authority: Authority,
    pub certificate_log: Signer,
    pub rekor_1: Signer,
    pub rekor_2: Ed25519KeyPair,
    pub timestamps: Timestamps,
}

/// A certificate authority.
pub struct Authority {
    pub key: Signer,
    pub name: &'static str,
    pub certificate: Vec<u8>,
}

/// A timestamp authority: its own certificate, and its root's.
pub struct Timestamps {
    pub key: Signer,
    pub chain: Vec<Vec<u8>>,
}

/// What a certificate is to say.
#[derive(Clone)]
pub struct Leaf {
    /// (tag of the GeneralName, text)
    pub names: Vec<(u8, String)>,
    pub issuer_bare: Option<String>,
    pub issuer: Option<String>,
    pub not_before: i64,
    pub not_after: i64,
    pub more: Vec<(&'static str, Vec<u8>)>,
    pub with_sct: bool,
    pub usage: &'static str,
}

pub const EMAIL: u8 = 1;
pub const DNS: u8 = 2;
pub const URI: u8 = 6;
const CODE_SIGNING: &str = "1.3.6.1.5.5.7.3.3";
const TIME_STAMPING: &str = "1.3.6.1.5.5.7.3.8";

impl Default for Leaf {
    fn default() -> Self {
        Self {
            names: vec![(URI, SUBJECT.into())],
            issuer_bare: Some(ISSUER.into()),
            issuer: Some(ISSUER.into()),
            not_before: NOON - MINUTE,
            not_after: NOON + 9 * MINUTE,
            more: vec![("1.3.6.1.4.1.57264.1.12", utf8("https://ci.example.com/shop"))],
            with_sct: true,
            usage: CODE_SIGNING,
        }
    }
}

/// A signer with a certificate.
pub struct Certified {
    pub key: Signer,
    pub certificate: Vec<u8>,
}

fn time(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds)
        .unwrap()
        .strftime("%Y%m%d%H%M%SZ")
        .to_string()
}

pub fn rfc3339(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).unwrap().to_string()
}

fn algorithm(dotted: &str) -> Vec<u8> {
    sequence(&[oid(dotted)])
}

fn name(common: &str) -> Vec<u8> {
    sequence(&[set(&[sequence(&[oid("2.5.4.3"), utf8(common)])])])
}

fn extension(dotted: &str, critical: bool, value: &[u8]) -> Vec<u8> {
    let mut parts = vec![oid(dotted)];
    if critical {
        parts.push(boolean(true));
    }
    parts.push(octets(value));
    sequence(&parts)
}

fn basic_constraints(is_authority: bool) -> Vec<u8> {
    let content = if is_authority { vec![boolean(true)] } else { vec![] };
    extension("2.5.29.19", true, &sequence(&content))
}

fn usage(dotted: &str) -> Vec<u8> {
    extension("2.5.29.37", true, &sequence(&[oid(dotted)]))
}

fn to_be_signed(
    (subject, issuer): (&str, &str),
    (not_before, not_after): (i64, i64),
    spki: &[u8],
    extensions: &[Vec<u8>],
) -> Vec<u8> {
    sequence(&[
        context(0, &integer(2)),
        integer(7),
        algorithm(ECDSA_SHA256),
        name(issuer),
        sequence(&[generalized_or_utc(not_before), generalized_or_utc(not_after)]),
        name(subject),
        spki.to_vec(),
        context(3, &sequence(extensions)),
    ])
}

/// RFC 5280 section 4.1.2.5: UTCTime until 2049.
fn generalized_or_utc(seconds: i64) -> Vec<u8> {
    let text = time(seconds);
    if text.as_str() < "2050" {
        tlv(23, &text.as_bytes()[2..])
    } else {
        generalized_time(&text)
    }
}

fn signed(tbs: Vec<u8>, by: &Signer) -> Vec<u8> {
    let signature = by.sign(&tbs);
    sequence(&[tbs, algorithm(ECDSA_SHA256), bits(&signature)])
}

impl Authority {
    pub fn new(
        name: &'static str,
        valid: (i64, i64),
        is_authority: bool,
        issuer: Option<&Authority>,
    ) -> Self {
        let key = Signer::p256();
        let (issuer_name, issuer_key) = issuer.map_or((name, &key), |issuer| (issuer.name, &issuer.key));
        let tbs = to_be_signed(
            (name, issuer_name),
            valid,
            &key.spki(),
            &[basic_constraints(is_authority)],
        );
        let certificate = signed(tbs, issuer_key);
        Self {
            key,
            name,
            certificate,
        }
    }
}

impl Default for Sigstore {
    fn default() -> Self {
        Self::new()
    }
}

impl Sigstore {
    pub fn new() -> Self {
        let valid = (NOON - YEAR, NOON + 10 * YEAR);
        let root = Authority::new("root", valid, true, None);
        let authority = Authority::new("issuing", valid, true, Some(&root));
        Self {
            root,
            authority,
            certificate_log: Signer::p256(),
            rekor_1: Signer::p256(),
            rekor_2: Ed25519KeyPair::generate().unwrap(),
            timestamps: Timestamps::new(valid),
        }
    }

    /// The trusted_root.json; tests change it.
    pub fn trusted_root(&self) -> Value {
        let valid = json!({"start": rfc3339(NOON - YEAR)});
        let log = |raw: &[u8], details: &str, id: &[u8]| {
            json!({
                "baseUrl": "https://log.example.com",
                "hashAlgorithm": "SHA2_256",
                "publicKey": {"rawBytes": STANDARD.encode(raw), "keyDetails": details, "validFor": valid},
                "logId": {"keyId": STANDARD.encode(id)},
            })
        };
        let chain = |certificates: &[&[u8]]| {
            let raw: Vec<Value> = certificates
                .iter()
                .map(|der| json!({"rawBytes": STANDARD.encode(der)}))
                .collect();
            json!({"certificates": raw})
        };
        let party = json!({"organization": "example.com", "commonName": "test"});
        json!({
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs": [
                log(&self.rekor_1.spki(), "PKIX_ECDSA_P256_SHA_256", &sha256(&self.rekor_1.spki())),
                log(&self.rekor_2_spki(), "PKIX_ED25519", &self.rekor_2_id()),
            ],
            "certificateAuthorities": [{
                "subject": party, "uri": "https://fulcio.example.com",
                "certChain": chain(&[&self.authority.certificate, &self.root.certificate]), "validFor": valid,
            }],
            "ctlogs": [
                log(&self.certificate_log.spki(), "PKIX_ECDSA_P256_SHA_256", &sha256(&self.certificate_log.spki())),
            ],
            "timestampAuthorities": [{
                "subject": party, "uri": "https://tsa.example.com",
                "certChain": chain(&[&self.timestamps.chain[0], &self.timestamps.chain[1]]), "validFor": valid,
            }],
        })
    }

    pub fn certify(&self, leaf: &Leaf) -> Certified {
        self.certify_under(leaf, &self.authority)
    }

    pub fn certify_under(&self, leaf: &Leaf, authority: &Authority) -> Certified {
        let key = Signer::p256();
        let names: Vec<Vec<u8>> = leaf
            .names
            .iter()
            .map(|(tag, text)| tlv(0x80 | tag, text.as_bytes()))
            .collect();
        let mut extensions = vec![usage(leaf.usage), extension("2.5.29.17", true, &sequence(&names))];
        if let Some(issuer) = &leaf.issuer_bare {
            extensions.push(extension("1.3.6.1.4.1.57264.1.1", false, issuer.as_bytes()));
        }
        if let Some(issuer) = &leaf.issuer {
            extensions.push(extension("1.3.6.1.4.1.57264.1.8", false, &utf8(issuer)));
        }
        for (dotted, value) in &leaf.more {
            extensions.push(extension(dotted, false, value));
        }
        let valid = (leaf.not_before, leaf.not_after);
        let names = ("", authority.name);
        let tbs = |extensions: &[Vec<u8>]| to_be_signed(names, valid, &key.spki(), extensions);
        if leaf.with_sct {
            let sct = self.sct(&tbs(&extensions), authority);
            extensions.push(extension("1.3.6.1.4.1.11129.2.4.2", false, &octets(&sct)));
        }
        let certificate = signed(tbs(&extensions), &authority.key);
        Certified { key, certificate }
    }

    /// RFC 6962 section 3.2 and 3.3: a list with one SCT over the precertificate.
    fn sct(&self, precertificate: &[u8], authority: &Authority) -> Vec<u8> {
        let milliseconds = u64::try_from(NOON * 1000).unwrap().to_be_bytes();
        let length = u32::try_from(precertificate.len()).unwrap().to_be_bytes();
        let message = [
            &[0, 0],
            milliseconds.as_slice(),
            &[0, 1],
            &sha256(&authority.key.spki()),
            &length[1..],
            precertificate,
            &[0, 0],
        ]
        .concat();
        let signature = self.certificate_log.sign(&message);
        let sct = [
            &[0],
            sha256(&self.certificate_log.spki()).as_slice(),
            &milliseconds,
            &[0, 0, 4, 3],
            &with_length(&signature),
        ]
        .concat();
        with_length(&with_length(&sct))
    }

    pub fn rekor_2_spki(&self) -> Vec<u8> {
        sequence(&[algorithm("1.3.101.112"), bits(self.rekor_2.public_key().as_ref())])
    }

    /// The key id of a signed note (C2SP signed-note): of the origin, the type Ed25519 and the key.
    pub fn rekor_2_id(&self) -> Vec<u8> {
        sha256(&[ORIGIN.as_bytes(), b"\n\x01", self.rekor_2.public_key().as_ref()].concat())
    }

    /// A Rekor v1 entry with promise and proof.
    pub fn entry_1(&self, body: &Value, integrated: i64) -> Value {
        let body_text = STANDARD.encode(body.to_string());
        let id = sha256(&self.rekor_1.spki());
        let promised = format!(
            r#"{{"body":"{body_text}","integratedTime":{integrated},"logID":"{}","logIndex":41}}"#,
            hex::encode(&id)
        );
        let mut entry = json!({
            "logIndex": "41",
            "logId": {"keyId": STANDARD.encode(&id)},
            "kindVersion": {"kind": body["kind"], "version": body["apiVersion"]},
            "integratedTime": integrated.to_string(),
            "inclusionPromise": {"signedEntryTimestamp": STANDARD.encode(self.rekor_1.sign(promised.as_bytes()))},
            "canonicalizedBody": body_text,
        });
        entry["inclusionProof"] = self.proof(body, &id, |note| self.rekor_1.sign(note));
        entry
    }

    /// A Rekor v2 entry, with a proof and no time.
    pub fn entry_2(&self, body: &Value) -> Value {
        let id = self.rekor_2_id();
        json!({
            "logIndex": "0",
            "logId": {"keyId": STANDARD.encode(&id)},
            "kindVersion": {"kind": body["kind"], "version": body["apiVersion"]},
            "canonicalizedBody": STANDARD.encode(body.to_string()),
            "inclusionProof": self.proof(body, &id, |note| self.rekor_2.sign(note).as_ref().to_vec()),
        })
    }

    /// The entry is the first of two leaves.
    pub fn proof(&self, body: &Value, id: &[u8], sign: impl Fn(&[u8]) -> Vec<u8>) -> Value {
        let leaf = sha256(&[&[0], body.to_string().as_bytes()].concat());
        let other = sha256(b"another leaf");
        let root = sha256(&[&[1], leaf.as_slice(), &other].concat());
        let note = format!("{ORIGIN}\n2\n{}\n", STANDARD.encode(&root));
        let signature = STANDARD.encode([&id[..4], &sign(note.as_bytes())].concat());
        json!({
            "logIndex": "0",
            "treeSize": "2",
            "rootHash": STANDARD.encode(&root),
            "hashes": [STANDARD.encode(&other)],
            "checkpoint": {"envelope": format!("{note}\n\u{2014} {ORIGIN} {signature}\n")},
        })
    }
}

const ORIGIN: &str = "log.example.com";

fn with_length(content: &[u8]) -> Vec<u8> {
    [
        u16::try_from(content.len()).unwrap().to_be_bytes().as_slice(),
        content,
    ]
    .concat()
}

impl Timestamps {
    pub fn new(valid: (i64, i64)) -> Self {
        Self::under(valid, (NOON - YEAR, NOON + 20 * YEAR))
    }

    pub fn under(valid: (i64, i64), root_valid: (i64, i64)) -> Self {
        let root = Authority::new("tsa root", root_valid, true, None);
        let key = Signer::p256();
        let tbs = to_be_signed(("tsa", "tsa root"), valid, &key.spki(), &[usage(TIME_STAMPING)]);
        let chain = vec![signed(tbs, &root.key), root.certificate];
        Self { key, chain }
    }

    /// RFC 3161 section 2.4.2: a response with a token over these bytes.
    pub fn stamp(&self, over: &[u8], at: i64) -> Vec<u8> {
        self.stamp_carrying(over, at, &[])
    }

    /// The same with certificates in the token.
    pub fn stamp_carrying(&self, over: &[u8], at: i64, certificates: &[&[u8]]) -> Vec<u8> {
        let info = sequence(&[
            integer(1),
            oid("1.3.6.1.4.1.57264.2"),
            sequence(&[algorithm(SHA256_OID), octets(&sha256(over))]),
            integer(99),
            generalized_time(&time(at)),
        ]);
        let content_type = "1.2.840.113549.1.9.16.1.4";
        let attributes = [
            sequence(&[oid("1.2.840.113549.1.9.3"), set(&[oid(content_type)])]),
            sequence(&[oid("1.2.840.113549.1.9.4"), set(&[octets(&sha256(&info))])]),
        ];
        let signed_attributes = set(&attributes);
        let signature = self.key.sign(&signed_attributes);
        let mut implicit = signed_attributes;
        implicit[0] = 0xa0;
        let signer = sequence(&[
            integer(1),
            sequence(&[name("tsa root"), integer(7)]),
            algorithm(SHA256_OID),
            implicit,
            algorithm(ECDSA_SHA256),
            octets(&signature),
        ]);
        let carried = match certificates {
            [] => vec![],
            certificates => context(0, &certificates.concat()),
        };
        let data = sequence(&[
            integer(3),
            set(&[algorithm(SHA256_OID)]),
            sequence(&[oid(content_type), context(0, &octets(&info))]),
            carried,
            set(&[signer]),
        ]);
        let token = sequence(&[oid("1.2.840.113549.1.7.2"), context(0, &data)]);
        sequence(&[sequence(&[integer(0)]), token])
    }
}

/// A statement signed and put into a bundle, piece by piece.
pub struct Enveloped {
    pub payload: Vec<u8>,
    pub signature: Vec<u8>,
}

impl Enveloped {
    pub fn new(statement: &str, key: &Signer) -> Self {
        let payload = statement.as_bytes().to_vec();
        let signature = key.sign(&pae(IN_TOTO, &payload));
        Self { payload, signature }
    }

    /// The body of a Rekor v1 `dsse` entry. `verifier` is a certificate or a key in PEM.
    pub fn body_1(&self, verifier: &str) -> Value {
        let hash = |bytes: &[u8]| json!({"algorithm": "sha256", "value": hex::encode(sha256(bytes))});
        json!({
            "apiVersion": "0.0.1", "kind": "dsse",
            "spec": {
                "envelopeHash": hash(b"unknown"),
                "payloadHash": hash(&self.payload),
                "signatures": [{"signature": STANDARD.encode(&self.signature), "verifier": STANDARD.encode(verifier)}],
            },
        })
    }

    /// The body of a Rekor v2 entry over the envelope.
    pub fn body_2(&self, verifier: Value) -> Value {
        let mut verifier = verifier;
        verifier["keyDetails"] = json!("PKIX_ECDSA_P256_SHA_256");
        json!({
            "apiVersion": "0.0.2", "kind": "hashedrekord",
            "spec": {"hashedRekordV002": {
                "data": {"algorithm": "SHA2_256", "digest": STANDARD.encode(sha256(&pae(IN_TOTO, &self.payload)))},
                "signature": {"content": STANDARD.encode(&self.signature), "verifier": verifier},
            }},
        })
    }

    pub fn bundle(&self, holder: Value, entries: Vec<Value>, timestamps: &[Vec<u8>]) -> Value {
        let mut material = holder;
        material["tlogEntries"] = json!(entries);
        let tokens: Vec<Value> = timestamps
            .iter()
            .map(|token| json!({"signedTimestamp": STANDARD.encode(token)}))
            .collect();
        material["timestampVerificationData"] = json!({"rfc3161Timestamps": tokens});
        json!({
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": material,
            "dsseEnvelope": {
                "payload": STANDARD.encode(&self.payload),
                "payloadType": IN_TOTO,
                "signatures": [{"sig": STANDARD.encode(&self.signature)}],
            },
        })
    }
}

impl Certified {
    pub fn holder(&self) -> Value {
        json!({"certificate": {"rawBytes": STANDARD.encode(&self.certificate)}})
    }

    pub fn pem(&self) -> String {
        pem("CERTIFICATE", &self.certificate)
    }

    pub fn verifier_2(&self) -> Value {
        json!({"x509Certificate": {"rawBytes": STANDARD.encode(&self.certificate)}})
    }
}

/// One keyless signature of one image with everything that can come with it.
pub struct World {
    pub sigstore: Sigstore,
    pub certified: Certified,
    pub signed: Enveloped,
}

impl World {
    pub fn new() -> Self {
        Self::of(&Leaf::default())
    }

    pub fn of(leaf: &Leaf) -> Self {
        let sigstore = Sigstore::new();
        let certified = sigstore.certify(leaf);
        let signed = Enveloped::new(
            &super::statement(&super::subject(), super::COSIGN_SIGN),
            &certified.key,
        );
        Self {
            sigstore,
            certified,
            signed,
        }
    }

    pub fn entry_1(&self) -> Value {
        self.sigstore
            .entry_1(&self.signed.body_1(&self.certified.pem()), NOON)
    }

    pub fn entry_2(&self) -> Value {
        self.sigstore
            .entry_2(&self.signed.body_2(self.certified.verifier_2()))
    }

    pub fn stamp(&self, at: i64) -> Vec<u8> {
        self.sigstore.timestamps.stamp(&self.signed.signature, at)
    }

    pub fn bundle(&self, entries: Vec<Value>, timestamps: &[Vec<u8>]) -> Value {
        self.signed.bundle(self.certified.holder(), entries, timestamps)
    }

    /// With an entry in Rekor v1.
    pub fn logged(&self) -> Value {
        self.bundle(vec![self.entry_1()], &[])
    }

    /// With an entry in Rekor v2 and a timestamp.
    pub fn logged_and_stamped(&self) -> Value {
        self.bundle(vec![self.entry_2()], &[self.stamp(NOON)])
    }
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}
