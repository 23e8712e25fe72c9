//! The OIDC issuers of a private Sigstore: discovery, keys and tokens (OpenID Connect Discovery 1.0).
//!
//! There are two, as Fulcio treats people and workflows differently: one gives certificates with an email address, the
//! other, of Fulcio's type `github-workflow`, certificates with a URI and a field for each claim.

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::identity::Identity;
use crate::Result;
use crate::http::json;
use crate::jwt::TokenSigner;

/// What Fulcio and cosign take a token to be meant for.
pub(super) const AUDIENCE: &str = "sigstore";
const LIFE_SECONDS: i64 = 3600;

/// Both issuers with their one key.
#[derive(Debug)]
pub(super) struct Issuers {
    base: String,
    signer: TokenSigner,
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
        Ok(Self {
            base: base.to_owned(),
            signer: TokenSigner::new()?,
        })
    }

    pub(super) fn url(&self, kind: IssuerKind) -> String {
        format!("{}{}", self.base, kind.path())
    }

    /// Discovery and keys of both.
    pub(super) fn router(&self) -> Result<Router> {
        let keys = self.signer.key_set()?;
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
        self.signer.token(claims)
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
}
