//! What a server is told to do: through its supervisor's pipe, or by whoever holds its pid file.

use std::fmt;
use std::str::FromStr;

use rustix::process::Signal;

/// An order; written as one line of text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// End: SIGTERM, then SIGKILL after the grace period.
    Stop,
    /// SIGTERM, and nothing more.
    Terminate,
    /// SIGKILL.
    Kill,
    /// SIGSTOP.
    Pause,
    /// SIGCONT.
    Resume,
}

impl Order {
    const ALL: [Order; 5] = [
        Order::Stop,
        Order::Terminate,
        Order::Kill,
        Order::Pause,
        Order::Resume,
    ];

    /// The one signal to send; None where there is more to do.
    pub(crate) fn signal(self) -> Option<Signal> {
        match self {
            Order::Stop => None,
            Order::Terminate => Some(Signal::TERM),
            Order::Kill => Some(Signal::KILL),
            Order::Pause => Some(Signal::STOP),
            Order::Resume => Some(Signal::CONT),
        }
    }
}

impl fmt::Display for Order {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Order::Stop => "stop",
            Order::Terminate => "signal TERM",
            Order::Kill => "signal KILL",
            Order::Pause => "signal STOP",
            Order::Resume => "signal CONT",
        })
    }
}

impl FromStr for Order {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let is_it = |order: &Order| order.to_string() == line;
        Self::ALL
            .into_iter()
            .find(is_it)
            .ok_or_else(|| format!("unknown order {line:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_read_as_it_is_written() {
        for order in Order::ALL {
            assert_eq!(order.to_string().parse(), Ok(order));
        }
        assert!("signal 9".parse::<Order>().unwrap_err().contains("signal 9"));
    }
}
