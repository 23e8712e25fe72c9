//! Spans of days and weeks, as people plan: `14d`, `2w`, `36h`, `1d12h`.

use std::fmt;
use std::str::FromStr;

use jiff::{SignedDuration, Timestamp};

/// The longest span: what is further away than a century says nothing.
const LONGEST: i64 = 100 * 366 * DAY;
const DAY: i64 = 24 * 3600;

/// A span of time, with the words it was given in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    seconds: i64,
    text: String,
}

/// Why a text is no span.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a time span: expected numbers with w, d, h, m or s, above zero and below a hundred years, such as 14d or 1d12h"
)]
pub(crate) struct NotASpan(String);

impl Span {
    /// How long it is.
    pub(crate) fn seconds(&self) -> u64 {
        self.seconds.unsigned_abs()
    }

    /// So long after a time; the end of time at the latest.
    pub(crate) fn after(&self, time: Timestamp) -> Timestamp {
        time.checked_add(SignedDuration::from_secs(self.seconds))
            .unwrap_or(Timestamp::MAX)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.text)
    }
}

impl FromStr for Span {
    type Err = NotASpan;

    fn from_str(text: &str) -> Result<Self, NotASpan> {
        let seconds = seconds(text).filter(|seconds| (1..=LONGEST).contains(seconds));
        let seconds = seconds.ok_or_else(|| NotASpan(text.to_owned()))?;
        Ok(Span {
            seconds,
            text: text.to_owned(),
        })
    }
}

fn seconds(text: &str) -> Option<i64> {
    let mut rest = text;
    let mut total: i64 = 0;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at(digits);
        let mut letters = tail.chars();
        let unit = match letters.next()? {
            'w' => 7 * DAY,
            'd' => DAY,
            'h' => 3600,
            'm' => 60,
            's' => 1,
            _ => return None,
        };
        total = number
            .parse::<i64>()
            .ok()?
            .checked_mul(unit)?
            .checked_add(total)?;
        rest = letters.as_str();
    }
    Some(total)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn days_and_weeks_add_up() {
        for (text, expected) in [
            ("14d", 14 * DAY),
            ("2w", 14 * DAY),
            ("1d12h", 36 * 3600),
            ("90m", 5400),
            ("5s", 5),
        ] {
            assert_eq!(text.parse::<Span>().unwrap().seconds, expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_span_is_refused_with_what_is_one() {
        for text in [
            "",
            "0d",
            "14",
            "d",
            "-1d",
            "1y",
            "1.5d",
            "1 d",
            "99999999999999999999d",
            "9999999d",
            "14d ",
        ] {
            let error = text.parse::<Span>().unwrap_err().to_string();
            assert!(
                error.contains(&format!("{text:?}")) && error.contains("14d"),
                "{error}"
            );
        }
    }
}
