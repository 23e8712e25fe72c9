//! The supervisor: a small process that stands between a test process and one server.
//!
//! It starts the server in a process group of its own and reads commands from its standard input, a pipe whose
//! other end only the test process holds. When that pipe ends, because the test process ended in whatever way
//! (a panic, `kill -9`), it ends the whole group: SIGTERM, a grace period, SIGKILL. This is the binary's whole
//! program; [`crate::Server`] is its other side.
//!
//! ```text
//! assay-testkit-supervisor --grace-ms 2000 -- PROGRAM ARGS…   supervise; standard error is the server's log
//! assay-testkit-supervisor --detach -- PROGRAM ARGS…          become PROGRAM in a session of its own
//! ```
//! On standard input: `stop`, or `signal TERM|KILL|STOP|CONT`. On standard output: `started PID`, then
//! at the end `ended STATUS`.

use std::ffi::OsString;
use std::io::{BufRead, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitIdOptions, kill_process_group, waitid};

use crate::order::Order;

/// The supervisor's binary.
pub const SUPERVISOR_BINARY: &str = "assay-testkit-supervisor";

/// Runs the supervisor as described above; the binary's `main` is this call.
pub fn supervisor_main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    match parse(arguments).and_then(|mode| match mode {
        Mode::Detach(command) => Err(detach(command)),
        Mode::Supervise(command, grace) => supervise(command, grace),
    }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{SUPERVISOR_BINARY}: {message}");
            ExitCode::FAILURE
        }
    }
}

enum Mode {
    Detach(Command),
    Supervise(Command, Duration),
}

fn parse(mut arguments: impl Iterator<Item = OsString>) -> Result<Mode, String> {
    let (mut detach, mut grace) = (false, Duration::from_secs(2));
    loop {
        let argument = arguments.next().ok_or("found no `--` before the program")?;
        match argument.to_str() {
            Some("--") => break,
            Some("--detach") => detach = true,
            Some("--grace-ms") => {
                let value = arguments
                    .next()
                    .and_then(|value| value.to_str().and_then(|v| v.parse().ok()));
                grace = Duration::from_millis(value.ok_or("--grace-ms needs a number")?);
            }
            _ => return Err(format!("unknown argument {argument:?}")),
        }
    }
    let mut command = Command::new(arguments.next().ok_or("found no program after `--`")?);
    command.args(arguments);
    Ok(if detach {
        Mode::Detach(command)
    } else {
        Mode::Supervise(command, grace)
    })
}

/// Becomes the program, in a session of its own so that no terminal and no shell ends it. Returns only an error.
fn detach(mut command: Command) -> String {
    if let Err(error) = rustix::process::setsid() {
        return format!("cannot start a session: {error}");
    }
    let error = command.exec();
    format!("cannot start {:?}: {error}", command.get_program())
}

enum Event {
    Order(Order),
    OwnerGone,
    ChildEnded,
}

fn supervise(mut command: Command, grace: Duration) -> Result<(), String> {
    let log = std::io::stderr();
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::from(clone_of(&log)?))
        .stderr(Stdio::from(clone_of(&log)?))
        .process_group(0)
        .spawn()
        .map_err(|error| format!("cannot start {:?}: {error}", command.get_program()))?;
    report(&format!("started {}", child.id()));
    let status = watch(child, grace)?;
    report(&format!("ended {}", describe(status)));
    Ok(())
}

fn clone_of(log: &std::io::Stderr) -> Result<std::os::fd::OwnedFd, String> {
    use std::os::fd::AsFd;
    log.as_fd()
        .try_clone_to_owned()
        .map_err(|error| format!("cannot pass on the log: {error}"))
}

/// Nobody may be left to read this; that is no reason to stop.
fn report(line: &str) {
    let mut stdout = std::io::stdout();
    let written = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
    drop(written);
}

fn watch(mut child: Child, grace: Duration) -> Result<ExitStatus, String> {
    let group = Pid::from_child(&child);
    let (sender, events) = channel();
    let from_owner = sender.clone();
    std::thread::spawn(move || forward_orders(&from_owner));
    std::thread::spawn(move || announce_end(group, &sender));
    loop {
        match events.recv() {
            Ok(Event::Order(order)) => match order.signal() {
                Some(signal) => send(group, signal),
                None => break end(group, &events, grace),
            },
            Ok(Event::OwnerGone) => break end(group, &events, grace),
            Ok(Event::ChildEnded) | Err(_) => break,
        }
    }
    // Whatever the server started itself and left behind; the group's number is ours until the child is reaped.
    send(group, Signal::KILL);
    child
        .wait()
        .map_err(|error| format!("cannot wait for the server: {error}"))
}

fn forward_orders(events: &Sender<Event>) {
    for line in std::io::stdin().lock().lines() {
        let Ok(line) = line else { break };
        match line.trim().parse() {
            Ok(order) if events.send(Event::Order(order)).is_err() => return,
            Ok(_) => {}
            Err(unknown) => eprintln!("{SUPERVISOR_BINARY}: {unknown}"),
        }
    }
    drop(events.send(Event::OwnerGone));
}

fn announce_end(child: Pid, events: &Sender<Event>) {
    while let Err(rustix::io::Errno::INTR) = waitid(
        rustix::process::WaitId::Pid(child),
        WaitIdOptions::EXITED | WaitIdOptions::NOWAIT,
    ) {}
    drop(events.send(Event::ChildEnded));
}

/// Asks the group to end and, after the grace period, makes it end. A paused group is woken first.
fn end(group: Pid, events: &Receiver<Event>, grace: Duration) {
    send(group, Signal::TERM);
    send(group, Signal::CONT);
    let deadline = Instant::now() + grace;
    loop {
        match events.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(Event::ChildEnded) | Err(RecvTimeoutError::Disconnected) => return,
            Ok(Event::Order(Order::Kill)) => return,
            Ok(Event::Order(_) | Event::OwnerGone) => {}
            Err(RecvTimeoutError::Timeout) => return,
        }
    }
}

fn send(group: Pid, signal: Signal) {
    match kill_process_group(group, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH | rustix::io::Errno::PERM) => {}
        Err(error) => eprintln!("{SUPERVISOR_BINARY}: cannot send {signal:?} to group {group:?}: {error}"),
    }
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => status.to_string(),
    }
}
