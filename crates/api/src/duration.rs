//! Durations as users write them: `6h`, `1h30m`, `500ms`.

use std::time::Duration;

/// Why a text is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{found:?} is not a duration: expected one to four of <number><h|m|s|ms>, together above zero, such as \"6h\" or \"1h30m\""
)]
pub struct DurationError {
    found: String,
}

/// Reads a duration of the form `^([0-9]{1,5}(h|m|s|ms)){1,4}$` that is longer than zero.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    let refuse = || DurationError {
        found: text.to_owned(),
    };
    let mut rest = text;
    let mut total = Duration::ZERO;
    let mut parts = 0;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at(digits);
        if !(1..=5).contains(&digits) || parts == 4 {
            return Err(refuse());
        }
        let number: u64 = number.parse().map_err(|_| refuse())?;
        let (unit, tail) = read_unit(tail).ok_or_else(refuse)?;
        total += Duration::from_millis(number * unit);
        rest = tail;
        parts += 1;
    }
    if total.is_zero() { Err(refuse()) } else { Ok(total) }
}

/// The length of the leading unit in milliseconds, and what follows it.
fn read_unit(text: &str) -> Option<(u64, &str)> {
    [("ms", 1), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)]
        .into_iter()
        .find_map(|(unit, millis)| text.strip_prefix(unit).map(|tail| (millis, tail)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_add_up_their_parts() {
        assert_eq!(parse_duration("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
    }

    #[test]
    fn zero_empty_signed_and_unitless_texts_are_refused() {
        for text in ["", "0s", "-1h", "5", "h", "1d", "1h1h1h1h1h", "123456s", "1 h"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
