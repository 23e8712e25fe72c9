//! The watch of ImageCompliances: what an earlier process said, and what others do to the objects.

use std::sync::Arc;
use std::time::Duration;

use api::ImageCompliance;
use engine::{Fact, Handle, SaidElsewhere, Stopped, Target};
use kube::ResourceExt;
use kube::core::DeserializeGuard;
use kube::runtime::watcher::Event;

use crate::ledger::{Ledger, Place};
use crate::metrics::Metrics;
use crate::said;
use crate::versions::ResourceVersion;
use crate::watch::{Roll, Sink};

/// Keeps the ledger, and tells the engine of the violations that the first list holds.
pub(crate) struct ComplianceSink {
    engine: Handle,
    ledger: Ledger,
    metrics: Arc<Metrics>,
    roll: Roll<Place>,
    first_list: bool,
    list: Listing,
}

/// The list that is under way, or the next one.
#[derive(Debug, Default)]
struct Listing {
    /// Which version of the store it shows.
    at: ResourceVersion,
    set_back: bool,
}

/// Where an object was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    List,
    Watch,
}

impl ComplianceSink {
    pub(crate) fn new(engine: Handle, ledger: Ledger, metrics: Arc<Metrics>) -> Self {
        ComplianceSink {
            engine,
            ledger,
            metrics,
            roll: Roll::default(),
            first_list: true,
            list: Listing::default(),
        }
    }

    async fn seen(
        &mut self,
        object: DeserializeGuard<ImageCompliance>,
        source: Source,
    ) -> Result<(), Stopped> {
        let object = match object.0 {
            Ok(object) => object,
            Err(error) => {
                self.metrics.watch_error("ImageCompliance");
                let (namespace, name) = (error.metadata.namespace.clone(), error.metadata.name.clone());
                tracing::error!(namespace, name, %error, "an ImageCompliance cannot be read; it is written anew");
                ImageCompliance {
                    metadata: error.metadata,
                    status: api::ImageComplianceStatus::default(),
                }
            }
        };
        let (Some(namespace), name) = (object.namespace(), object.name_any()) else {
            return Ok(());
        };
        let place = Place {
            namespace: namespace.as_str().into(),
            name: name.into(),
        };
        self.roll.seen(place.clone());
        if self.first_list {
            for violation in said::violations(&namespace, &object.status) {
                self.engine.tell(Fact::Remembered(violation)).await?;
            }
        } else if let Some(said) = self.said_elsewhere(&place, &object) {
            self.engine.tell(Fact::SaidElsewhere(said)).await?;
        }
        let must_be_put_right = match source {
            Source::List => self.ledger.listed(&object, &self.list.at, self.list.set_back),
            Source::Watch => self.ledger.seen(&object),
        };
        if must_be_put_right {
            tracing::info!(%namespace, name = %place.name, "an ImageCompliance is not as it was last known; it is put right");
            self.put_right(&place).await?;
        }
        Ok(())
    }

    /// What another replica wrote, while this one does not write.
    fn said_elsewhere(&self, place: &Place, object: &ImageCompliance) -> Option<SaidElsewhere> {
        if self.ledger.writes() {
            return None;
        }
        let said = said::elsewhere(&place.namespace, &object.status);
        said.filter(|said| Place::of(&said.workload) == *place)
    }

    async fn gone(&mut self, place: Place, uid: Option<&str>) -> Result<(), Stopped> {
        self.roll.gone(&place);
        if self.ledger.gone(&place, uid) {
            self.put_right(&place).await?;
        }
        Ok(())
    }

    async fn put_right(&self, place: &Place) -> Result<(), Stopped> {
        match self.ledger.key_at(place).filter(|key| Place::of(key) == *place) {
            Some(key) => self.engine.wanted(Target::Workload(key), Duration::ZERO).await,
            None => {
                self.ledger.report_stray();
                Ok(())
            }
        }
    }
}

impl Sink<DeserializeGuard<ImageCompliance>> for ComplianceSink {
    async fn event(&mut self, event: Event<DeserializeGuard<ImageCompliance>>) -> Result<(), Stopped> {
        match event {
            Event::Init => self.roll.list_begins(),
            Event::InitDone => {
                for place in self.roll.list_ended() {
                    self.gone(place, None).await?;
                }
                self.first_list = false;
                self.list = Listing::default();
            }
            Event::InitApply(object) => self.seen(object, Source::List).await?,
            Event::Apply(object) => self.seen(object, Source::Watch).await?,
            Event::Delete(object) => {
                let uid = object.uid();
                if let (Some(namespace), name) = (object.namespace(), object.name_any()) {
                    let place = Place {
                        namespace: namespace.into(),
                        name: name.into(),
                    };
                    self.gone(place, uid.as_deref()).await?;
                }
            }
        }
        Ok(())
    }
    fn listing(&mut self, at: &str) {
        self.list.at = at.into();
    }

    fn set_back(&mut self) {
        self.list.set_back = true;
    }
}
