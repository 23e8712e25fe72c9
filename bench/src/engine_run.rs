//! The engine alone: facts in, updates out, as the controller does it, without a Kubernetes API server.

use std::path::Path;
use std::time::{Duration, Instant};

use api::Stage;
use engine::{EngineOptions, Fact, Handle, Target, Totals, Update};

use crate::Failed;
use crate::figures::{Figures, FleetSize};
use crate::fleet_facts::{self, FleetWorkload};
use crate::process::Own;
use crate::stand_in::{self, StandIn};

/// Nothing new for so long: everything that was to be done is done.
const QUIET: Duration = Duration::from_millis(1500);
/// The engine hands its first totals over by then.
const FIRST_TOTALS: Duration = Duration::from_millis(3500);
/// Keys and policies besides those that the fleet rests on, as `SCALE` of the architecture has them.
const OTHER_KEYS: usize = 98;
const POLICIES: usize = 200;

/// What one process measures.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum Part {
    /// Every image is looked up once; the evidence stays on disk.
    Cold,
    /// The same images from disk, and what edits cost.
    Warm,
}

/// Measures the engine at the largest fleet, at half its pods, and at a quarter of its images; each in a process of its
/// own, so that none inherits memory from another.
pub(crate) async fn run(results: &Path, pods: usize, images: usize) -> Result<(), Failed> {
    let registry = StandIn::start(images, 0).await?;
    let folder = tempfile::tempdir().map_err(|error| Failed::new("make a folder", error))?;
    let parts = [
        ("cold", images, images),
        ("warm", pods, images),
        ("warm", pods / 2, images),
        ("warm", pods, images / 4),
    ];
    let program = std::env::current_exe().map_err(|error| Failed::new("find this program", error))?;
    for (part, pods, images) in parts {
        let status = tokio::process::Command::new(&program)
            .args(["--results".as_ref(), results])
            .args(["engine-part", part, "--folder"])
            .arg(folder.path())
            .args(["--pods", &pods.to_string(), "--images", &images.to_string()])
            .args(["--port", &registry.port().to_string()])
            .kill_on_drop(true)
            .status()
            .await
            .map_err(|error| Failed::new("start a part", error))?;
        if !status.success() {
            return Err(Failed::new(format!("measure the {part} part"), status));
        }
    }
    Ok(())
}

/// Measures one part in this process.
pub(crate) async fn run_part(
    results: &Path,
    part: Part,
    folder: &Path,
    port: u16,
    (pods, images): (usize, usize),
) -> Result<(), Failed> {
    let mut figures = Figures::open(results)?;
    let registry = StandIn::at(port).await?;
    let others: Vec<String> = (0..OTHER_KEYS)
        .map(|_| stand_in::another_key())
        .collect::<Result<_, _>>()?;
    let fleet = Fleet {
        registry: &registry,
        folder,
        others: &others,
        workloads: fleet_facts::workloads(&registry.host(), images),
    };
    match part {
        Part::Cold => fleet.cold(&mut figures, images).await,
        Part::Warm => fleet.warm(&mut figures, pods, images).await,
    }
}

struct Fleet<'a> {
    registry: &'a StandIn,
    folder: &'a Path,
    others: &'a [String],
    workloads: Vec<FleetWorkload>,
}

/// What something cost.
struct Cost {
    cpu: Duration,
    requests: u64,
}

/// How long is counted.
#[derive(Clone, Copy, Debug)]
enum Until {
    /// Nothing is left to be said.
    Quiet,
    /// So many look-ups ended, and nothing is left to be said.
    Lookups(usize),
    /// So many workloads were handed over. What fails now is looked up half a minute later, which is another cost.
    Workloads(usize),
}

impl Fleet<'_> {
    /// Every image is looked up once; the evidence stays in the folder.
    async fn cold(&self, figures: &mut Figures, images: usize) -> Result<(), Failed> {
        let size = FleetSize {
            pods: images,
            workloads: images,
            images,
        };
        let run = Run::start(self).await?;
        run.tell_all(self, images, images).await?;
        let began = Instant::now();
        let cost = run
            .cost(async { run.tell(Fact::Synced).await }, Until::Lookups(images))
            .await?;
        figures.note("engine.cold.requests", cost.requests as f64, "requests", size)?;
        figures.note(
            "engine.cold.requests_per_image",
            cost.requests as f64 / images as f64,
            "requests",
            size,
        )?;
        figures.note("engine.cold.wall", began.elapsed().as_secs_f64(), "s", size)?;
        figures.note("engine.cold.cpu", cost.cpu.as_secs_f64(), "s CPU", size)?;
        run.end().await
    }

    /// The same images from disk, and what edits cost.
    async fn warm(&self, figures: &mut Figures, pods: usize, images: usize) -> Result<(), Failed> {
        let size = FleetSize {
            pods,
            workloads: images,
            images,
        };
        let run = Run::start(self).await?;
        let mut note =
            |name: &str, value: f64, unit: &str| figures.note(&format!("engine.{name}"), value, unit, size);
        let before = Own.resident().unwrap_or_default();
        let told = run
            .cost(async { run.tell_all(self, pods, images).await }, Until::Quiet)
            .await?;
        note("told.cpu", told.cpu.as_secs_f64(), "s CPU")?;
        let rows = Own.resident().unwrap_or_default().saturating_sub(before);
        note("bytes_per_pod", rows as f64 / pods as f64, "B")?;
        let evaluated = run.cpu_until_judged(Fact::Synced).await?;
        note("first_from_disk.cpu", evaluated.as_secs_f64(), "s CPU")?;
        let verifications = run.totals().await?.verifications;
        // The first totals are gathered for three seconds.
        let totals = async {
            tokio::time::sleep(FIRST_TOTALS).await;
            Ok(())
        };
        let first = run.cost(totals, Until::Quiet).await?;
        note("first_from_disk.fan_out_cpu", first.cpu.as_secs_f64(), "s CPU")?;
        note("first_from_disk.requests", first.requests as f64, "requests")?;
        note(
            "first_from_disk.verifications",
            verifications as f64,
            "verifications",
        )?;
        let [release, _] = self.registry.keys.as_slice() else {
            return Err(Failed::new("read the signers", "there are not two"));
        };
        let totals = run.cpu_of(async { run.totals().await.map(drop) }).await?;
        note("metrics.cpu", totals.as_secs_f64(), "s CPU")?;
        let (other, host) = (&self.others[0], self.registry.host());
        let quiet = [
            (
                "key_edit",
                fleet_facts::staged("release", "release", release, Stage::Retiring),
            ),
            (
                "other_key",
                fleet_facts::staged("other-000", "other", other, Stage::Disabled),
            ),
            (
                "other_policy",
                fleet_facts::policy("other-001", &format!("{host}/other-1/**"), &["security"]),
            ),
            (
                "claims_dropped",
                fleet_facts::asking_for_time("release", "release", release),
            ),
            (
                "claims_back",
                fleet_facts::staged("release", "release", release, Stage::Active),
            ),
        ];
        for (name, fact) in quiet {
            let evaluated = run.cpu_until_judged(fact).await?;
            note(&format!("{name}.cpu"), evaluated.as_secs_f64(), "s CPU")?;
            let rest = run.cost(async { Ok(()) }, Until::Quiet).await?;
            note(&format!("{name}.totals_cpu"), rest.cpu.as_secs_f64(), "s CPU")?;
        }
        note(
            "verifications",
            run.totals().await?.verifications as f64,
            "verifications",
        )?;
        let previewed = [
            (
                "preview_key",
                fleet_facts::staged("release", "release", release, Stage::Revoked),
            ),
            (
                "preview_policy",
                fleet_facts::policy("fleet", &format!("{host}/fleet/**"), &["security"]),
            ),
            // It is asked about every signature.
            (
                "preview_new_key",
                fleet_facts::staged("release-next", "release", &self.others[1], Stage::Active),
            ),
        ];
        for (name, fact) in previewed {
            let began = Instant::now();
            let took = run.cpu_of(run.preview(fact)).await?;
            note(&format!("{name}.cpu"), took.as_secs_f64(), "s CPU")?;
            note(&format!("{name}.wall"), began.elapsed().as_secs_f64(), "s")?;
        }
        let requests = self.registry.requests().await? - run.began;
        note("edits.requests", requests as f64, "requests")?;
        note("resident", Own.resident().unwrap_or_default() as f64 / 1e6, "MB")?;
        note("peak", Own.peak().unwrap_or_default() as f64 / 1e6, "MB")?;
        let flipping = [
            (
                "policy_edit",
                fleet_facts::policy("fleet", &format!("{host}/fleet/**"), &["security"]),
            ),
            (
                "policy_back",
                fleet_facts::policy("fleet", &format!("{host}/fleet/**"), &["release", "security"]),
            ),
            (
                "key_disabled",
                fleet_facts::staged("release", "release", release, Stage::Disabled),
            ),
        ];
        for (name, fact) in flipping {
            let evaluated = run.cpu_until_judged(fact).await?;
            note(&format!("{name}.cpu"), evaluated.as_secs_f64(), "s CPU")?;
            // The first one was handed over.
            let rest = run.cost(async { Ok(()) }, Until::Workloads(images - 1)).await?;
            note(&format!("{name}.fan_out_cpu"), rest.cpu.as_secs_f64(), "s CPU")?;
        }
        run.end().await
    }
}

/// An engine that runs.
struct Run<'a> {
    engine: Handle,
    task: tokio::task::JoinHandle<()>,
    registry: &'a StandIn,
    began: u64,
}

impl<'a> Run<'a> {
    async fn start(fleet: &Fleet<'a>) -> Result<Run<'a>, Failed> {
        let options = registry::ClientOptions {
            plain_http: [fleet.registry.host()].into(),
            per_registry_concurrency: 32,
            ..registry::ClientOptions::default()
        };
        let client = registry::Client::new(options).map_err(|error| Failed::new("make a client", error))?;
        let options = EngineOptions {
            data_dir: Some(fleet.folder.to_owned()),
            concurrent_lookups: 64,
            ..EngineOptions::default()
        };
        let (engine, task) =
            engine::start(&options, client).map_err(|error| Failed::new("start the engine", error))?;
        Own.forget_peak()
            .map_err(|error| Failed::new("reset the peak of memory", error))?;
        Ok(Run {
            engine,
            task,
            registry: fleet.registry,
            began: fleet.registry.requests().await?,
        })
    }

    async fn end(self) -> Result<(), Failed> {
        drop(self.engine);
        self.task
            .await
            .map_err(|error| Failed::new("end the engine", error))?;
        // The file is released when its writing thread ends, soon after.
        tokio::time::sleep(Duration::from_millis(500)).await;
        Ok(())
    }

    async fn tell(&self, fact: Fact) -> Result<(), Failed> {
        self.engine
            .tell(fact)
            .await
            .map_err(|error| Failed::new("tell a fact", error))
    }

    async fn tell_all(&self, fleet: &Fleet<'_>, pods: usize, images: usize) -> Result<(), Failed> {
        for fact in
            fleet_facts::surroundings(&self.registry.host(), &self.registry.keys, fleet.others, POLICIES)
        {
            self.tell(fact).await?;
        }
        for workload in &fleet.workloads {
            self.tell(workload.template()).await?;
        }
        for pod in 0..pods {
            self.tell(fleet.workloads[pod % images].pod(pod)).await?;
        }
        Ok(())
    }

    async fn totals(&self) -> Result<Totals, Failed> {
        self.engine
            .totals()
            .await
            .map_err(|error| Failed::new("ask for totals", error))
    }

    /// Asks what one change would do.
    async fn preview(&self, fact: Fact) -> Result<(), Failed> {
        let report = self.engine.preview(vec![fact]).await;
        let report = report.map_err(|error| Failed::new("ask for a preview", error))?;
        match report {
            Some(report) if report.problems.is_empty() => Ok(()),
            Some(report) => Err(Failed::new("preview a change", report.problems.join("; "))),
            None => Err(Failed::new("preview a change", "not everything was told")),
        }
    }

    async fn next(&self) -> Result<Update, Failed> {
        self.engine
            .next_update()
            .await
            .map_err(|error| Failed::new("take an update", error))
    }

    async fn done(&self, target: Target) -> Result<(), Failed> {
        self.engine
            .done(target, None)
            .await
            .map_err(|error| Failed::new("end an update", error))
    }

    async fn cpu_of(&self, act: impl Future<Output = Result<(), Failed>>) -> Result<Duration, Failed> {
        let before = cpu()?;
        act.await?;
        Ok(cpu()?.saturating_sub(before))
    }

    /// CPU time until the engine judged everything that the fact touches: it hands an update over only then.
    async fn cpu_until_judged(&self, fact: Fact) -> Result<Duration, Failed> {
        let before = cpu()?;
        self.tell(fact).await?;
        let first = self.next().await?;
        let took = cpu()?.saturating_sub(before);
        self.done(first.target()).await?;
        Ok(took)
    }

    /// What it costs until nothing is left to be said, and so many look-ups ended.
    async fn cost(
        &self,
        act: impl Future<Output = Result<(), Failed>>,
        until: Until,
    ) -> Result<Cost, Failed> {
        let requests = self.registry.requests().await?;
        let before = cpu()?;
        act.await?;
        let mut workloads = 0;
        loop {
            match tokio::time::timeout(QUIET, self.next()).await {
                Ok(update) => {
                    let update = update?;
                    workloads += usize::from(matches!(update, Update::Workload(..)));
                    self.done(update.target()).await?;
                    if matches!(until, Until::Workloads(wanted) if workloads >= wanted) {
                        break;
                    }
                }
                Err(_) => {
                    // An engine that is at work does not answer; one that answers at once has nothing to say.
                    let asked = Instant::now();
                    let ended: u64 = self.totals().await?.lookups.values().sum();
                    let idle = asked.elapsed() < QUIET;
                    let looked = !matches!(until, Until::Lookups(lookups) if ended < lookups as u64);
                    if idle && looked {
                        break;
                    }
                }
            }
        }
        let took = cpu()?.saturating_sub(before);
        Ok(Cost {
            cpu: took,
            requests: self.registry.requests().await? - requests,
        })
    }
}

fn cpu() -> Result<Duration, Failed> {
    Own.cpu()
        .ok_or_else(|| Failed::new("read the CPU time", "there is no /proc"))
}
