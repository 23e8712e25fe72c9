//! Policies, keys and what they rest on that cannot be used as they are written; of those that may be read.

use api::conditions::{EXPIRING, READY};
use api::{ImagePolicy, KeyRevocation, RegistryConfig, SigningKey, TrustRoot};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Resource;
use kube::core::ClusterResourceScope;
use serde::Serialize;

use crate::cluster::{ClusterError, Kind, Session, plural};
use crate::table::{Cell, Column, Style, Table, Tone};

/// What is wrong, and what could not be looked at.
#[derive(Clone, Debug, Default)]
pub(super) struct Troubles {
    pub(super) found: Vec<Trouble>,
    /// Kinds by their plural names.
    pub(super) not_readable: Vec<String>,
}

/// An object that cannot be used as it is written, or that ends soon.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Trouble {
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) reason: String,
    pub(super) message: String,
}

/// What is wrong with the objects that may be read.
pub(super) async fn of(session: &Session) -> Result<Troubles, ClusterError> {
    let mut troubles = Troubles::default();
    troubles
        .look::<ImagePolicy>(session, |policy| {
            policy.status.as_ref().map(|status| &*status.conditions)
        })
        .await?;
    troubles
        .look::<SigningKey>(session, |key| {
            key.status.as_ref().map(|status| &*status.conditions)
        })
        .await?;
    troubles
        .look::<KeyRevocation>(session, |revocation| {
            revocation.status.as_ref().map(|status| &*status.conditions)
        })
        .await?;
    troubles
        .look::<TrustRoot>(session, |root| {
            root.status.as_ref().map(|status| &*status.conditions)
        })
        .await?;
    troubles
        .look::<RegistryConfig>(session, |config| {
            config.status.as_ref().map(|status| &*status.conditions)
        })
        .await?;
    Ok(troubles)
}

impl Troubles {
    async fn look<K>(
        &mut self,
        session: &Session,
        conditions: impl Fn(&K) -> Option<&[Condition]>,
    ) -> Result<(), ClusterError>
    where
        K: Kind + Resource<Scope = ClusterResourceScope>,
    {
        let objects = match session.all::<K>().await {
            Ok(objects) => objects,
            Err(error) if error.is_forbidden() => {
                self.not_readable.push(plural::<K>());
                return Ok(());
            }
            // An older install may lack a kind.
            Err(ClusterError::NotInstalled(_)) => return Ok(()),
            Err(error) => return Err(error),
        };
        for object in &objects {
            let name = object.meta().name.clone().unwrap_or_default();
            let found = conditions(object).unwrap_or_default();
            self.found.extend(
                found
                    .iter()
                    .filter(|condition| is_wrong(condition))
                    .map(|condition| Trouble {
                        kind: K::kind(&()).into_owned(),
                        name: name.clone(),
                        reason: condition.reason.clone(),
                        message: condition.message.clone(),
                    }),
            );
        }
        Ok(())
    }

    pub(super) fn table(&self, style: Style) -> String {
        let mut table = Table::new([
            Column::Name("OBJECT"),
            Column::Whole("REASON"),
            Column::Name("MESSAGE"),
        ]);
        for trouble in &self.found {
            table.row([
                format!("{}/{}", trouble.kind, trouble.name).into(),
                Cell::toned(trouble.reason.as_str(), Tone::Bad),
                trouble.message.as_str().into(),
            ]);
        }
        table.text(style)
    }
}

fn is_wrong(condition: &Condition) -> bool {
    (condition.type_ == READY && condition.status != "True")
        || (condition.type_ == EXPIRING && condition.status == "True")
}
