//! One server process: started under a supervisor or detached, its log in a file, its end noticed.
//!
//! Supervised, it ends with this process, in whatever way this one ends. Detached, it stays until
//! [`crate::down`] is called for its folder.

use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::future::Future;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::detached::PidFile;
use crate::order::Order;
use crate::{Result, TestkitError, tools};

/// How long a server lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Lifetime {
    /// Until this process ends, in whatever way.
    #[default]
    Supervised,
    /// Until [`crate::down`]: pid files lie in `pids/` of the server's folder.
    Detached,
}

/// What to run.
#[derive(Debug, Clone)]
pub struct ServerSpec {
    name: String,
    program: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    folder: PathBuf,
    grace: Duration,
    lifetime: Lifetime,
}

impl ServerSpec {
    /// A program with its name in messages, and the folder that it runs in and that gets `<name>.log`.
    pub fn new(name: impl Into<String>, program: impl Into<PathBuf>, folder: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            program: program.into(),
            arguments: Vec::new(),
            environment: Vec::new(),
            folder: folder.into(),
            grace: Duration::from_secs(2),
            lifetime: Lifetime::Supervised,
        }
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<S: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Sets a variable of its environment.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// How long it may take to end after SIGTERM before it is killed; 2 s unless told.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Whether it ends with this process (the default) or stays.
    #[must_use]
    pub fn lifetime(mut self, lifetime: Lifetime) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// The file that gets its standard output and error.
    pub fn log_file(&self) -> PathBuf {
        self.folder.join(format!("{}.log", self.name))
    }
}

/// A server process. Dropped, a supervised one is ended and waited for; a detached one stays.
#[derive(Debug)]
pub struct Server {
    spec: ServerSpec,
    process: Mutex<Option<Process>>,
}

#[derive(Debug)]
struct Process {
    pid: u32,
    /// The supervisor, or the detached server itself.
    child: Child,
    orders: Option<ChildStdin>,
    ended: Arc<Ended>,
}

/// The exit status, once there is one.
#[derive(Debug, Default)]
struct Ended {
    status: Mutex<Option<String>>,
    changed: Condvar,
}

impl Server {
    /// Starts the program; it need not be ready yet.
    pub fn start(spec: ServerSpec) -> Result<Self> {
        let server = Self {
            spec,
            process: Mutex::new(None),
        };
        server.start_again()?;
        Ok(server)
    }

    /// Starts the same program with the same arguments again, for example after [`Server::kill`].
    /// The log is continued.
    pub fn start_again(&self) -> Result<()> {
        let mut process = self.lock();
        if let Some(running) = process.as_ref().filter(|process| process.ended.get().is_none()) {
            return Err(TestkitError::Invalid(format!(
                "{} runs already as process {}",
                self.spec.name, running.pid
            )));
        }
        *process = Some(match self.spec.lifetime {
            Lifetime::Supervised => Process::supervised(&self.spec)?,
            Lifetime::Detached => Process::detached(&self.spec)?,
        });
        Ok(())
    }

    /// The server's name in messages.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// The file with everything that it printed.
    pub fn log_file(&self) -> PathBuf {
        self.spec.log_file()
    }

    /// Its process id, and that of its process group; of the last run if it has ended.
    pub fn pid(&self) -> Option<u32> {
        self.lock().as_ref().map(|process| process.pid)
    }

    /// `None` while it runs, else how it ended: `exit code 1`, `signal 9`.
    pub fn ended(&self) -> Option<String> {
        match self.lock().as_mut() {
            Some(process) => process.ended_now(),
            None => Some("not started".to_owned()),
        }
    }

    /// Ends it as an administrator would (SIGTERM, then SIGKILL after the grace period) and tells how it ended.
    pub fn stop(&self) -> Result<String> {
        self.order(Order::Stop, Some(self.spec.grace + Duration::from_secs(10)))
    }

    /// Kills it at once (SIGKILL) and tells how it ended.
    pub fn kill(&self) -> Result<String> {
        self.order(Order::Kill, Some(Duration::from_secs(10)))
    }

    /// Stops it in its tracks (SIGSTOP): it keeps its connections and memory and answers nothing.
    pub fn pause(&self) -> Result<()> {
        self.order(Order::Pause, None).map(drop)
    }

    /// Lets it go on after [`Server::pause`].
    pub fn resume(&self) -> Result<()> {
        self.order(Order::Resume, None).map(drop)
    }

    /// Sends SIGTERM without waiting for the end.
    pub fn terminate(&self) -> Result<()> {
        self.order(Order::Terminate, None).map(drop)
    }

    /// Waits until it ends by itself and tells how.
    pub fn wait_for_end(&self, limit: Duration) -> Result<String> {
        let deadline = Instant::now() + limit;
        loop {
            match self.ended() {
                Some(status) => return Ok(status),
                None if Instant::now() > deadline => {
                    return Err(TestkitError::TimedOut {
                        what: format!("{} to end", self.spec.name),
                        after: limit,
                        last: self.log_tail(),
                    });
                }
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    /// Calls `probe` until it gives true. Ends early, with the end of the server's log, when the server ends.
    pub async fn wait_until_ready<P, F>(&self, limit: Duration, mut probe: P) -> Result<()>
    where
        P: FnMut() -> F,
        F: Future<Output = Result<bool, String>>,
    {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.ended() {
                return Err(TestkitError::ServerEnded {
                    server: self.spec.name.clone(),
                    status,
                    log_file: self.log_file(),
                    log: self.log_tail(),
                });
            }
            let reason = match tokio::time::timeout(Duration::from_secs(5), probe()).await {
                Ok(Ok(true)) => return Ok(()),
                Ok(Ok(false)) => "not ready yet".to_owned(),
                Ok(Err(reason)) => reason,
                Err(_) => "no answer within 5 s".to_owned(),
            };
            if Instant::now() > deadline {
                return Err(TestkitError::NotReady {
                    server: self.spec.name.clone(),
                    after: limit,
                    reason,
                    log_file: self.log_file(),
                    log: self.log_tail(),
                });
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The last lines of its log.
    pub fn log_tail(&self) -> String {
        tail(&self.log_file(), 30)
    }

    /// Its resident memory in bytes, where the system tells (Linux).
    pub fn resident_bytes(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()?)).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.trim()
            .strip_suffix(" kB")?
            .trim()
            .parse::<u64>()
            .ok()
            .map(|kib| kib * 1024)
    }

    /// Lets go of the supervisor without waiting, so that several servers end at the same time.
    pub(crate) fn begin_stop(&self) {
        if let Some(process) = self.lock().as_mut() {
            process.orders = None;
        }
    }

    fn order(&self, order: Order, wait_for_end: Option<Duration>) -> Result<String> {
        let mut process = self.lock();
        let process = process
            .as_mut()
            .ok_or_else(|| TestkitError::Invalid(format!("{} was never started", self.spec.name)))?;
        if process.ended_now().is_none() {
            process.send(order, &self.spec)?;
        }
        match wait_for_end {
            Some(limit) => process.wait(limit, &self.spec.name),
            None => Ok(String::new()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.spec.lifetime == Lifetime::Detached {
            return;
        }
        if let Some(mut process) = self.lock().take() {
            process.orders = None;
            drop(process.child.wait());
        }
    }
}

impl Process {
    fn supervised(spec: &ServerSpec) -> Result<Self> {
        let mut command = Command::new(tools::supervisor_binary()?);
        command.arg("--grace-ms").arg(spec.grace.as_millis().to_string());
        prepare(&mut command, spec)?;
        let mut child = spawn(
            command
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .process_group(0),
        )?;
        let orders = child.stdin.take();
        let ended = Arc::new(Ended::default());
        let mut reports = child
            .stdout
            .take()
            .map(BufReader::new)
            .into_iter()
            .flat_map(BufRead::lines);
        let pid = match reports.next() {
            Some(Ok(line)) => line.strip_prefix("started ").and_then(|pid| pid.parse().ok()),
            _ => None,
        };
        let Some(pid) = pid else {
            drop(orders);
            drop(child.wait());
            return Err(TestkitError::ServerEnded {
                server: spec.name.clone(),
                status: "no start at all".to_owned(),
                log_file: spec.log_file(),
                log: tail(&spec.log_file(), 10),
            });
        };
        let announce = Arc::clone(&ended);
        std::thread::spawn(move || {
            let last = reports.map_while(std::io::Result::ok).last();
            let status = last.as_deref().and_then(|line| line.strip_prefix("ended "));
            announce.set(status.unwrap_or("its supervisor was killed"));
        });
        Ok(Self {
            pid,
            child,
            orders,
            ended,
        })
    }

    fn detached(spec: &ServerSpec) -> Result<Self> {
        let mut command = Command::new(tools::supervisor_binary()?);
        command.arg("--detach");
        let log = prepare(&mut command, spec)?;
        let child = spawn(command.stdin(Stdio::null()).stdout(log))?;
        let pid = child.id();
        PidFile::write(&spec.folder, &spec.name, pid)?;
        Ok(Self {
            pid,
            child,
            orders: None,
            ended: Arc::new(Ended::default()),
        })
    }

    fn send(&mut self, order: Order, spec: &ServerSpec) -> Result<()> {
        if let Some(orders) = &mut self.orders {
            return writeln!(orders, "{order}")
                .and_then(|()| orders.flush())
                .map_err(TestkitError::file("write", Path::new("the supervisor's pipe")));
        }
        let Some(pid_file) = PidFile::read(&spec.folder, &spec.name)? else {
            return Ok(());
        };
        pid_file.order(order, spec.grace);
        Ok(())
    }

    fn ended_now(&mut self) -> Option<String> {
        if self.orders.is_none()
            && let Ok(Some(status)) = self.child.try_wait()
        {
            self.ended.set(&status.to_string());
        }
        self.ended.get()
    }

    fn wait(&mut self, limit: Duration, name: &str) -> Result<String> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.ended_now() {
                return Ok(status);
            }
            if Instant::now() > deadline {
                return Err(TestkitError::TimedOut {
                    what: format!("{name} to end"),
                    after: limit,
                    last: format!("process {} runs", self.pid),
                });
            }
            self.ended.wait_a_moment();
        }
    }
}

impl Ended {
    fn get(&self) -> Option<String> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, status: &str) {
        let mut current = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        current.get_or_insert_with(|| status.to_owned());
        self.changed.notify_all();
    }

    fn wait_a_moment(&self) {
        let status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        if status.is_none() {
            drop(self.changed.wait_timeout(status, Duration::from_millis(20)));
        }
    }
}

/// Adds what both ways of starting share, and opens the log.
fn prepare(command: &mut Command, spec: &ServerSpec) -> Result<File> {
    std::fs::create_dir_all(&spec.folder).map_err(TestkitError::file("create", &spec.folder))?;
    let path = spec.log_file();
    let log = OpenOptions::new().create(true).append(true).open(&path);
    let log = log.map_err(TestkitError::file("open", &path))?;
    command
        .arg("--")
        .arg(&spec.program)
        .args(&spec.arguments)
        .envs(spec.environment.iter().map(|(name, value)| (name, value)))
        .current_dir(&spec.folder)
        .stderr(log.try_clone().map_err(TestkitError::file("open", &path))?);
    Ok(log)
}

fn spawn(command: &mut Command) -> Result<Child> {
    command.spawn().map_err(|source| TestkitError::Spawn {
        program: OsStr::to_string_lossy(command.get_program()).into_owned(),
        source,
    })
}

/// The last lines of a file, for messages; says so when it cannot be read.
pub(crate) fn tail(path: &Path, lines: usize) -> String {
    match std::fs::read(path) {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes);
            let all: Vec<&str> = text.lines().collect();
            all[all.len().saturating_sub(lines)..].join("\n")
        }
        Err(error) => format!("(cannot read {}: {error})", path.display()),
    }
}
