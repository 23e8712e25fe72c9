//! The OIDC issuers of a private Sigstore: discovery, keys and tokens (OpenID Connect Discovery 1.0, RFC 7517, RFC 7519).
//!
//! There are two, as Fulcio treats people and workflows differently: one gives certificates with an email address, the
//! other, of Fulcio's type `github-workflow`, certificates with a URI and a field for each claim.

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use jiff::Timestamp;
use rcgen::{KeyPair, PKCS_RSA_SHA256, PublicKeyData as _, RsaKeySize, SigningKey as _};
use serde_json::{Value, json};

use super::der::element;
use super::http::json;
use super::identity::Identity;
use crate::{Result, TestkitError};

/// What Fulcio and cosign take a token to be meant for.
pub(super) const AUDIENCE: &str = "sigstore";
const KEY_ID: &str = "testkit";
const LIFE_SECONDS: i64 = 3600;

/// Both issuers with their one key.
#[derive(Debug)]
pub(super) struct Issuers {
    base: String,
    key: KeyPair,
}

/// Which of the issuers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IssuerKind {
    People,
    Workflows,
}

impl IssuerKind {
    pub(super) const ALL: [Self; 2] = [Self::People, Self::Workflows];

    fn path(self) -> &'static str {
        match self {
            Self::People => "/oidc/people",
            Self::Workflows => "/oidc/workflows",
        }
    }

    /// The name that Fulcio's configuration has for its type.
    pub(super) fn fulcio_type(self) -> &'static str {
        match self {
            Self::People => "email",
            Self::Workflows => "github-workflow",
        }
    }
}

impl Issuers {
    /// Issuers below an address, with a new key.
    pub(super) fn new(base: &str) -> Result<Self> {
        let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048);
        Ok(Self {
            base: base.to_owned(),
            key: key.map_err(TestkitError::crypto("make the key of the OIDC issuer"))?,
        })
    }

    pub(super) fn url(&self, kind: IssuerKind) -> String {
        format!("{}{}", self.base, kind.path())
    }

    /// Discovery and keys of both.
    pub(super) fn router(&self) -> Result<Router> {
        let keys = self.keys()?;
        let mut router = Router::new();
        for kind in IssuerKind::ALL {
            let (path, discovery, keys) = (kind.path(), self.discovery(kind), keys.clone());
            router = router
                .route(
                    &format!("{path}/.well-known/openid-configuration"),
                    get(async move || json(StatusCode::OK, &discovery)),
                )
                .route(
                    &format!("{path}/keys"),
                    get(async move || json(StatusCode::OK, &keys)),
                );
        }
        Ok(router)
    }

    /// A token that says who someone is, valid for an hour.
    pub(super) fn token(&self, identity: &Identity) -> Result<String> {
        let now = Timestamp::now().as_second();
        let mut claims = identity.claims();
        claims.insert("iss".to_owned(), self.url(identity.issuer_kind()).into());
        claims.insert("aud".to_owned(), AUDIENCE.into());
        claims.insert("iat".to_owned(), (now - 5).into());
        claims.insert("exp".to_owned(), (now + LIFE_SECONDS).into());
        let header = json!({"alg": "RS256", "kid": KEY_ID, "typ": "JWT"});
        let signed = format!(
            "{}.{}",
            BASE64URL.encode(header.to_string()),
            BASE64URL.encode(Value::Object(claims).to_string())
        );
        let signature = self.key.sign(signed.as_bytes());
        let signature = signature.map_err(TestkitError::crypto("sign an identity token"))?;
        Ok(format!("{signed}.{}", BASE64URL.encode(signature)))
    }

    fn discovery(&self, kind: IssuerKind) -> Value {
        let issuer = self.url(kind);
        json!({
            "issuer": issuer,
            "authorization_endpoint": format!("{issuer}/authorize"),
            "token_endpoint": format!("{issuer}/token"),
            "jwks_uri": format!("{issuer}/keys"),
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
        })
    }

    /// An RSA public key is `SEQUENCE { modulus INTEGER, publicExponent INTEGER }` (RFC 8017, A.1.1).
    fn keys(&self) -> Result<Value> {
        let key = element(self.key.der_bytes())?;
        let number = |part: usize| -> Result<String> {
            let content = key.part(part)?.content;
            Ok(BASE64URL.encode(content.strip_prefix(&[0]).unwrap_or(content)))
        };
        Ok(json!({"keys": [{
            "kty": "RSA", "alg": "RS256", "use": "sig", "kid": KEY_ID, "n": number(0)?, "e": number(1)?,
        }]}))
    }
}
