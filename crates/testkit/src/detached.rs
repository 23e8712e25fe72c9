//! Servers that stay after the process that started them: their pid files, and [`down`].
//!
//! A pid file also holds the process's start time, so that a process that only happens to have the same number
//! is never touched.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use serde::{Deserialize, Serialize};

use crate::order::Order;
use crate::{Result, TestkitError};

/// `pids/<name>.json`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct PidFile {
    name: String,
    pid: u32,
    /// Clock ticks after boot, field 22 of `/proc/<pid>/stat`.
    started: u64,
}

impl PidFile {
    pub(crate) fn write(folder: &Path, name: &str, pid: u32) -> Result<()> {
        let path = path_of(folder, name);
        let started = start_time(pid).ok_or_else(|| {
            TestkitError::Invalid(format!("{name} (process {pid}) ended as soon as it was started"))
        })?;
        let file = Self {
            name: name.to_owned(),
            pid,
            started,
        };
        let text = serde_json::to_vec(&file).map_err(|error| TestkitError::Invalid(error.to_string()))?;
        std::fs::create_dir_all(folder.join("pids")).map_err(TestkitError::file("create", &path))?;
        std::fs::write(&path, text).map_err(TestkitError::file("write", &path))
    }

    pub(crate) fn read(folder: &Path, name: &str) -> Result<Option<Self>> {
        let path = path_of(folder, name);
        match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| {
                TestkitError::Invalid(format!("{} is no pid file: {error}", path.display()))
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(TestkitError::file("read", &path)(error)),
        }
    }

    /// The process that this file means, if it still runs.
    fn group(&self) -> Option<Pid> {
        let same = start_time(self.pid) == Some(self.started);
        same.then(|| i32::try_from(self.pid).ok().and_then(Pid::from_raw))
            .flatten()
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = self.group() {
            // The only failure there is: it has ended in between.
            kill_process_group(group, signal).unwrap_or_default();
        }
    }

    /// Carries out an order as the supervisor would; [`Order::Stop`] waits for the end.
    pub(crate) fn order(&self, order: Order, grace: Duration) {
        match order.signal() {
            Some(signal) => self.signal(signal),
            None => {
                self.signal(Signal::TERM);
                self.signal(Signal::CONT);
                self.wait_for_end(grace);
                self.signal(Signal::KILL);
            }
        }
    }

    fn wait_for_end(&self, limit: Duration) {
        let deadline = Instant::now() + limit;
        while self.group().is_some() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Ends every detached server that was started with this folder, and removes their pid files.
/// Gives the names of those that were still running.
pub fn down(folder: &Path) -> Result<Vec<String>> {
    let pids = folder.join("pids");
    let entries = match std::fs::read_dir(&pids) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(TestkitError::file("read", &pids)(error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(TestkitError::file("read", &pids))?.path();
        let name = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if let Some(file) = PidFile::read(folder, &name)? {
            files.push(file);
        }
    }
    let running: Vec<&PidFile> = files.iter().filter(|file| file.group().is_some()).collect();
    running
        .iter()
        .for_each(|file| file.order(Order::Terminate, Duration::ZERO));
    running
        .iter()
        .for_each(|file| file.order(Order::Resume, Duration::ZERO));
    running
        .iter()
        .for_each(|file| file.wait_for_end(Duration::from_secs(5)));
    running.iter().for_each(|file| file.signal(Signal::KILL));
    running
        .iter()
        .for_each(|file| file.wait_for_end(Duration::from_secs(60)));
    if let Some(survivor) = running.iter().find(|file| file.group().is_some()) {
        return Err(TestkitError::Invalid(format!(
            "{} (process {}) runs on after SIGKILL: look at it with ps",
            survivor.name, survivor.pid
        )));
    }
    let names = running.iter().map(|file| file.name.clone()).collect();
    std::fs::remove_dir_all(&pids).map_err(TestkitError::file("remove", &pids))?;
    Ok(names)
}

fn path_of(folder: &Path, name: &str) -> PathBuf {
    folder.join("pids").join(format!("{name}.json"))
}

/// When a process started; `None` when there is none, or only its exit status is left.
fn start_time(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command's name stands in parentheses and may hold anything, also parentheses and spaces.
    let fields: Vec<&str> = stat.get(stat.rfind(')')? + 1..)?.split_whitespace().collect();
    if matches!(fields.first(), Some(&"Z" | &"X")) {
        return None;
    }
    fields.get(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_only_has_the_same_number_is_not_touched() {
        let own = std::process::id();
        let file = PidFile {
            name: "other".to_owned(),
            pid: own,
            started: start_time(own).unwrap() + 1,
        };
        assert!(file.group().is_none());
    }

    #[test]
    fn a_folder_without_servers_is_down_already() {
        let folder = tempfile::tempdir().unwrap();
        assert!(down(folder.path()).unwrap().is_empty());
    }
}
