//! What processes have used so far, as Linux counts it.

use std::path::PathBuf;
use std::time::Duration;

/// Ticks of the clock in a second: the kernel's `USER_HZ`, 100 on every platform that the tools run on.
const TICKS: u64 = 100;
/// What `/proc` counts memory in.
const KIB: u64 = 1024;

/// This process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Own;

impl Own {
    /// CPU time, see [`Process::cpu`].
    pub(crate) fn cpu(self) -> Option<Duration> {
        Process::own().cpu()
    }

    /// Bytes in memory now.
    pub(crate) fn resident(self) -> Option<u64> {
        Process::own().resident()
    }

    /// The most bytes in memory since the start, or since [`Own::forget_peak`].
    pub(crate) fn peak(self) -> Option<u64> {
        Process::own().peak()
    }

    /// Lets the peak begin anew.
    pub(crate) fn forget_peak(self) -> std::io::Result<()> {
        std::fs::write("/proc/self/clear_refs", "5")
    }
}

/// Any process.
#[derive(Clone, Debug)]
pub(crate) struct Process(PathBuf);

impl Process {
    fn own() -> Process {
        Process("/proc/self".into())
    }

    /// The one of this number.
    pub(crate) fn of(pid: u32) -> Process {
        Process(format!("/proc/{pid}").into())
    }

    /// CPU time of all its threads, user and system, in steps of 10 ms; None where it is gone.
    pub(crate) fn cpu(&self) -> Option<Duration> {
        let stat = std::fs::read_to_string(self.0.join("stat")).ok()?;
        // The name of the program, in brackets, may hold blanks; utime and stime are the 14th and 15th field.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks: u64 = [fields.get(11)?, fields.get(12)?]
            .iter()
            .filter_map(|field| field.parse::<u64>().ok())
            .sum();
        Some(Duration::from_millis(ticks * 1000 / TICKS))
    }

    /// Bytes in memory now.
    pub(crate) fn resident(&self) -> Option<u64> {
        self.memory("VmRSS:")
    }

    /// The most bytes in memory since the start.
    pub(crate) fn peak(&self) -> Option<u64> {
        self.memory("VmHWM:")
    }

    fn memory(&self, field: &str) -> Option<u64> {
        let status = std::fs::read_to_string(self.0.join("status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix(field))?;
        let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
        Some(kib * KIB)
    }
}
