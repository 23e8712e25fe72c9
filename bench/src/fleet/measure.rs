//! One fleet from its first start to a revoked key.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use api::ImageCompliance;
use futures::StreamExt;
use kube::api::{Api, ListParams, WatchEvent, WatchParams};

use super::Pace;
use super::scene::{Running, Scene, Writes};
use super::spec::FleetSpec;
use crate::Failed;
use crate::figures::{Figures, FleetSize};
use crate::stand_in::Counts;

/// How often it is looked whether something is done.
const OFTEN: Duration = Duration::from_secs(1);
/// The same where the look costs the operator something.
const SELDOM: Duration = Duration::from_secs(5);
/// An operator that has nothing to do uses less between two looks, and that so often.
const IDLE: Duration = Duration::from_millis(60);
const QUIET: usize = 4;
/// What the registry counts once for each look at an image.
const LOOK: &str = "referrers";
/// Whatever is waited for takes less on any machine.
const LIMIT: Duration = Duration::from_secs(1800);
/// Images are looked up so rarely that nothing of it is seen, where something else is measured.
const RARELY: Duration = Duration::from_secs(24 * 3600);
/// Mere counts are written by then.
const COUNTS_WITHIN: Duration = Duration::from_secs(36);

/// Measures everything about a fleet of this size.
pub(crate) async fn run(spec: FleetSpec, pace: Pace, figures: &mut Figures) -> Result<(), Failed> {
    let scene = Scene::start(spec, RARELY).await?;
    let mut notes = Notes {
        figures,
        size: spec.size(),
    };
    let (api_server, etcd) = (scene.cluster.api_server(), scene.cluster.etcd());

    let operator = scene.operator(pace, &[])?;
    started(&scene, &operator, "cold", &mut notes).await?;
    operator.end()?;

    let relist = Duration::from_secs(45 + spec.pods as u64 / 1000);
    let relist = format!("--relist-interval={}s", relist.as_secs());
    let operator = scene.operator(pace, &[relist])?;
    started(&scene, &operator, "warm", &mut notes).await?;
    relisted(&operator, &mut notes).await?;
    scanned(&scene, &operator, &mut notes).await?;
    let resident = |server: &testkit::Server| server.resident_bytes().unwrap_or(0) as f64 / 1e6;
    notes.note("api_server.resident", resident(api_server), "MB")?;
    notes.note("etcd.resident", resident(etcd), "MB")?;
    operator.end()?;

    let operator = scene.operator(pace, &[])?;
    scene.set_interval(RARELY).await?;
    operator.until_ready().await?;
    settled(&scene, &operator).await?;
    tokio::time::sleep(COUNTS_WITHIN).await;
    edited(&scene, &operator, &mut notes).await?;
    revoked(&scene, &operator, &mut notes).await?;
    operator.end()
}

/// Keeps figures of one fleet.
struct Notes<'a> {
    figures: &'a mut Figures,
    size: FleetSize,
}

impl Notes<'_> {
    fn note(&mut self, name: &str, value: f64, unit: &str) -> Result<(), Failed> {
        self.figures
            .note(&format!("fleet.{name}"), value, unit, self.size)
    }

    fn memory(&mut self, name: &str, operator: &Running) -> Result<(), Failed> {
        let megabytes = |bytes: Option<u64>| bytes.unwrap_or_default() as f64 / 1e6;
        self.note(
            &format!("{name}.resident"),
            megabytes(operator.process.resident()),
            "MB",
        )?;
        self.note(&format!("{name}.peak"), megabytes(operator.process.peak()), "MB")
    }
}

/// From the start of the process until everything is taken in, and until everything is judged and written.
async fn started(scene: &Scene, operator: &Running, name: &str, notes: &mut Notes<'_>) -> Result<(), Failed> {
    let began = Instant::now();
    let (requests, writes) = (scene.registry.requests().await?, scene.writes()?);
    operator.until_ready().await?;
    notes.note(
        &format!("{name}.synced.cpu"),
        operator.cpu()?.as_secs_f64(),
        "s CPU",
    )?;
    notes.note(&format!("{name}.synced.wall"), began.elapsed().as_secs_f64(), "s")?;
    notes.memory(&format!("{name}.synced"), operator)?;
    settled(scene, operator).await?;
    notes.note(
        &format!("{name}.settled.cpu"),
        operator.cpu()?.as_secs_f64(),
        "s CPU",
    )?;
    notes.note(
        &format!("{name}.settled.wall"),
        began.elapsed().as_secs_f64(),
        "s",
    )?;
    notes.memory(&format!("{name}.settled"), operator)?;
    let asked = scene.registry.requests().await? - requests;
    notes.note(&format!("{name}.requests"), asked as f64, "requests")?;
    let written = scene.writes()?.statuses - writes.statuses;
    notes.note(&format!("{name}.status_writes"), written as f64, "writes")
}

/// Everything was listed a second time: with that, the peak of memory.
async fn relisted(operator: &Running, notes: &mut Notes<'_>) -> Result<(), Failed> {
    let kinds = ["Pod", "ReplicaSet", "Deployment", "ImageCompliance", "Namespace"];
    until("everything to be listed twice", SELDOM, async || {
        let page = operator.metrics().await?;
        let lists = |kind: &str| {
            page.get(&format!("assay_watch_lists_total{{kind=\"{kind}\"}}"))
                .copied()
        };
        Ok(kinds
            .iter()
            .all(|kind| lists(kind).is_some_and(|lists| lists >= 2.0)))
    })
    .await?;
    notes.memory("relisted", operator)
}

/// Every image is looked at once more, and nothing has changed.
async fn scanned(scene: &Scene, operator: &Running, notes: &mut Notes<'_>) -> Result<(), Failed> {
    let images = scene.spec.workloads as u64;
    scene
        .set_interval(Duration::from_secs(20.max(images / 40)))
        .await?;
    // The edit itself is written, and so are counts.
    tokio::time::sleep(COUNTS_WITHIN).await;
    let (asked, writes, cpu) = (scene.registry.counts().await?, scene.writes()?, operator.cpu()?);
    let began = Instant::now();
    let looks = |counts: &Counts| counts.get(LOOK).copied().unwrap_or_default();
    until("every image to be looked at again", OFTEN, async || {
        Ok(looks(&scene.registry.counts().await?) >= looks(&asked) + images)
    })
    .await?;
    let now = scene.registry.counts().await?;
    let looked = (looks(&now) - looks(&asked)) as f64;
    let used = operator.cpu()?.saturating_sub(cpu);
    notes.note("scan.cpu", used.as_secs_f64(), "s CPU")?;
    notes.note("scan.wall", began.elapsed().as_secs_f64(), "s")?;
    for (operation, count) in &now {
        let before = asked.get(operation).copied().unwrap_or_default();
        let requests = (count - before) as f64 / looked;
        notes.note(
            &format!("scan.requests_per_image.{operation}"),
            requests,
            "requests",
        )?;
    }
    let written = scene.writes()?;
    notes.note(
        "scan.status_writes",
        (written.statuses - writes.statuses) as f64,
        "writes",
    )?;
    notes.note("scan.events", (written.events - writes.events) as f64, "writes")
}

/// A key is edited, and no verdict changes; with the totals that follow.
async fn edited(scene: &Scene, operator: &Running, notes: &mut Notes<'_>) -> Result<(), Failed> {
    let (requests, cpu) = (scene.registry.requests().await?, operator.cpu()?);
    scene.set_stage("Retiring").await?;
    settled(scene, operator).await?;
    let used = operator.cpu()?.saturating_sub(cpu);
    notes.note("key_edit.cpu", used.as_secs_f64(), "s CPU")?;
    let asked = scene.registry.requests().await? - requests;
    notes.note("key_edit.requests", asked as f64, "requests")
}

/// A key is revoked: from the request to each status, as a user's watch shows it.
async fn revoked(scene: &Scene, operator: &Running, notes: &mut Notes<'_>) -> Result<(), Failed> {
    let answers: Api<ImageCompliance> = Api::all(scene.client.clone());
    let failed = |why: &dyn std::fmt::Display| Failed::new("watch what a revocation changes", why);
    let list = answers
        .list(&ListParams::default().limit(1))
        .await
        .map_err(|error| failed(&error))?;
    let version = list.metadata.resource_version.unwrap_or_default();
    let events = answers
        .watch(&WatchParams::default(), &version)
        .await
        .map_err(|error| failed(&error))?;
    let mut events = std::pin::pin!(events);
    let (before, writes, cpu) = (scene.registry.counts().await?, scene.writes()?, operator.cpu()?);
    let began = Instant::now();
    scene.set_stage("Revoked").await?;
    let mut seen: BTreeMap<String, Duration> = BTreeMap::new();
    while seen.len() < scene.spec.workloads {
        let next = tokio::time::timeout(LIMIT, events.next()).await;
        let event = next.map_err(|_| failed(&format!("only {} statuses came", seen.len())))?;
        match event {
            Some(Ok(WatchEvent::Added(object) | WatchEvent::Modified(object))) if is_revoked(&object) => {
                let metadata = object.metadata;
                let name = format!(
                    "{}/{}",
                    metadata.namespace.unwrap_or_default(),
                    metadata.name.unwrap_or_default()
                );
                seen.entry(name).or_insert_with(|| began.elapsed());
            }
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(failed(&error)),
            None => return Err(failed(&format!("it ended after {} statuses", seen.len()))),
        }
    }
    let used = operator.cpu()?.saturating_sub(cpu);
    let asked: u64 = scene.registry.counts().await?.values().sum::<u64>() - before.values().sum::<u64>();
    let mut times: Vec<Duration> = seen.into_values().collect();
    times.sort();
    let at = |share: usize| times[(times.len() * share).div_ceil(100).saturating_sub(1)].as_secs_f64();
    notes.note("key_revoked.first", times[0].as_secs_f64(), "s")?;
    notes.note("key_revoked.p50", at(50), "s")?;
    notes.note("key_revoked.p99", at(99), "s")?;
    notes.note("key_revoked.last", at(100), "s")?;
    notes.note("key_revoked.cpu", used.as_secs_f64(), "s CPU")?;
    // What fails is looked at again after half a minute: where the last status takes longer, that is in here.
    notes.note("key_revoked.requests", asked as f64, "requests")?;
    let written = scene.writes()?;
    notes.note(
        "key_revoked.status_writes",
        (written.statuses - writes.statuses) as f64,
        "writes",
    )?;
    notes.memory("key_revoked", operator)
}

/// Both keys have to sign, so without one of them there are too few.
fn is_revoked(object: &ImageCompliance) -> bool {
    object
        .status
        .conditions
        .iter()
        .any(|condition| condition.type_ == "Compliant" && condition.status == "False")
}

/// Everything is looked at, judged and written: for some seconds the operator asks nothing, writes nothing and uses
/// next to no CPU time.
async fn settled(scene: &Scene, operator: &Running) -> Result<(), Failed> {
    let (mut quiet, mut before) = (0, (0, Writes::default(), Duration::ZERO));
    until("the operator to have nothing to do", OFTEN, async || {
        let now = (scene.registry.requests().await?, scene.writes()?, operator.cpu()?);
        let idle = now.2.saturating_sub(before.2) <= IDLE;
        quiet = if (now.0, now.1) == (before.0, before.1) && idle {
            quiet + 1
        } else {
            0
        };
        before = now;
        Ok(quiet >= QUIET)
    })
    .await
}

/// Waits for something.
async fn until(
    what: &str,
    pause: Duration,
    mut done: impl AsyncFnMut() -> Result<bool, Failed>,
) -> Result<(), Failed> {
    let began = Instant::now();
    while !done().await? {
        if began.elapsed() > LIMIT {
            return Err(Failed::new(
                "measure a fleet",
                format!("waited {LIMIT:?} for {what}"),
            ));
        }
        tokio::time::sleep(pause).await;
    }
    Ok(())
}
