//! When the registry is asked again: a fixed interval or a cron schedule in a time zone.
//! Spreading the work and retrying what failed is the engine's business; keys, policies and deadlines
//! act at once whatever the plan says.

use std::time::Duration;

use api::Recheck;
use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::Timestamp;

/// Where neither an interval nor a schedule is given.
pub const DEFAULT_INTERVAL: Duration = Duration::from_secs(6 * 3600);
/// Where no `maxStaleness` is given.
pub const DEFAULT_MAX_STALENESS: Duration = Duration::from_secs(72 * 3600);
/// Where no `warnBefore` is given.
pub const DEFAULT_WARN_BEFORE: Duration = Duration::from_secs(72 * 3600);

/// A day on which counting occurrences of a schedule starts: 2024-01-01T00:00:00Z, so that the first four
/// years hold a 29 February.
const REFERENCE_SECOND: i64 = 1_704_067_200;
/// How many occurrences are looked at to find the shortest gap of a schedule.
const OCCURRENCES_LOOKED_AT: usize = 64;
const CRON_FIELDS: usize = 5;

/// When the registry is asked again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecheckPlan {
    /// So long after the last time.
    Interval(Duration),
    /// At the times of a schedule.
    Cron(Box<Schedule>),
}

/// A cron expression of five fields in a time zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    cron: Cron,
    zone: Tz,
    shortest_gap: Duration,
}

/// Why a plan cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RecheckError {
    /// The field within `spec.recheck`.
    pub(crate) field: &'static str,
    /// What is there, quoted.
    pub(crate) found: String,
    /// What belongs there.
    pub(crate) expected: String,
}

impl RecheckPlan {
    /// Reads the plan; 6 hours where neither an interval nor a schedule is given.
    pub(crate) fn compile(recheck: &Recheck) -> Result<Self, RecheckError> {
        if recheck.time_zone.is_some() && recheck.schedule.is_none() {
            return Err(RecheckError {
                field: "timeZone",
                found: "a time zone without a schedule".into(),
                expected: "spec.recheck.schedule beside it, or no timeZone".into(),
            });
        }
        match (&recheck.interval, &recheck.schedule) {
            (None, None) => Ok(Self::Interval(DEFAULT_INTERVAL)),
            (Some(interval), None) => duration("interval", interval).map(Self::Interval),
            (None, Some(schedule)) => {
                let schedule = Schedule::compile(schedule, recheck.time_zone.as_deref())?;
                Ok(Self::Cron(Box::new(schedule)))
            }
            (Some(_), Some(_)) => Err(RecheckError {
                field: "schedule",
                found: "an interval and a schedule".into(),
                expected: "one of the two".into(),
            }),
        }
    }

    /// The first time strictly after `last` at which the registry is due to be asked again. A schedule without
    /// another occurrence falls back to the default interval: never is not an answer.
    pub fn next_after(&self, last: Timestamp) -> Timestamp {
        match self {
            Self::Interval(interval) => later(last, *interval),
            Self::Cron(schedule) => schedule
                .next_after(last)
                .unwrap_or_else(|| later(last, DEFAULT_INTERVAL)),
        }
    }

    /// How far apart two times are: the interval, or the shortest gap between the first occurrences of the
    /// schedule. Retries double up to this.
    pub fn interval_hint(&self) -> Duration {
        match self {
            Self::Interval(interval) => *interval,
            Self::Cron(schedule) => schedule.shortest_gap,
        }
    }
}

impl Schedule {
    fn compile(text: &str, zone: Option<&str>) -> Result<Self, RecheckError> {
        let zone = time_zone(zone)?;
        let refuse = |why: String| RecheckError {
            field: "schedule",
            found: format!("{text:?} ({why})"),
            expected: "a cron expression of five fields that has a next time, such as \"0 3 * * *\"".into(),
        };
        let fields = text.split_whitespace().count();
        if fields != CRON_FIELDS {
            return Err(refuse(format!("{fields} fields")));
        }
        let parser = CronParser::builder()
            .seconds(Seconds::Disallowed)
            .year(Year::Disallowed)
            .build();
        let cron = parser.parse(text).map_err(|error| refuse(error.to_string()))?;
        let shortest_gap = shortest_gap(&cron, zone).ok_or_else(|| refuse("it never comes".into()))?;
        Ok(Self {
            cron,
            zone,
            shortest_gap,
        })
    }

    fn next_after(&self, last: Timestamp) -> Option<Timestamp> {
        let last = DateTime::<Utc>::from_timestamp(last.as_second(), 0)?.with_timezone(&self.zone);
        let next = self.cron.find_next_occurrence(&last, false).ok()?;
        Timestamp::from_second(next.timestamp()).ok()
    }
}

/// Reads a duration of `spec.recheck`.
pub(crate) fn duration(field: &'static str, text: &str) -> Result<Duration, RecheckError> {
    api::parse_duration(text).map_err(|_| RecheckError {
        field,
        found: format!("{text:?}"),
        expected: "a duration above zero, such as \"6h\" or \"1h30m\"".into(),
    })
}

fn time_zone(name: Option<&str>) -> Result<Tz, RecheckError> {
    let Some(name) = name else { return Ok(Tz::UTC) };
    name.parse().map_err(|_| RecheckError {
        field: "timeZone",
        found: format!("{name:?}"),
        expected: "the name of an IANA time zone, such as \"Europe/Berlin\"".into(),
    })
}

/// None where the schedule has no occurrence at all.
fn shortest_gap(cron: &Cron, zone: Tz) -> Option<Duration> {
    let start = DateTime::<Utc>::from_timestamp(REFERENCE_SECOND, 0)?.with_timezone(&zone);
    let times: Vec<i64> = cron
        .iter_after(start)
        .take(OCCURRENCES_LOOKED_AT)
        .map(|occurrence| occurrence.timestamp())
        .collect();
    times.first()?;
    let shortest = times
        .windows(2)
        .filter_map(|pair| u64::try_from(pair[1] - pair[0]).ok())
        .min();
    Some(shortest.map_or(DEFAULT_INTERVAL, Duration::from_secs))
}

/// The end of time where the sum lies beyond it.
fn later(from: Timestamp, by: Duration) -> Timestamp {
    from.checked_add(by).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn scheduled(schedule: &str, zone: Option<&str>) -> Result<RecheckPlan, RecheckError> {
        RecheckPlan::compile(&Recheck {
            schedule: Some(schedule.to_owned()),
            time_zone: zone.map(str::to_owned),
            ..Recheck::default()
        })
    }

    #[test]
    fn without_a_plan_the_registry_is_asked_every_six_hours() {
        let plan = RecheckPlan::compile(&Recheck::default()).unwrap();
        assert_eq!(plan, RecheckPlan::Interval(Duration::from_secs(21_600)));
        assert_eq!(
            plan.next_after(at("2026-11-22T10:00:00Z")),
            at("2026-11-22T16:00:00Z")
        );
        assert_eq!(plan.interval_hint(), Duration::from_secs(21_600));
    }

    #[test]
    fn c5_13_an_interval_is_counted_from_the_last_time() {
        let plan = RecheckPlan::compile(&Recheck {
            interval: Some("1h30m".into()),
            ..Recheck::default()
        })
        .unwrap();
        assert_eq!(
            plan.next_after(at("2026-11-22T23:00:00Z")),
            at("2026-11-23T00:30:00Z")
        );
    }

    #[test]
    fn c5_13_a_schedule_is_read_in_its_time_zone() {
        let utc = scheduled("0 3 * * *", None).unwrap();
        assert_eq!(
            utc.next_after(at("2026-11-22T03:00:00Z")),
            at("2026-11-23T03:00:00Z")
        );
        let berlin = scheduled("0 3 * * *", Some("Europe/Berlin")).unwrap();
        assert_eq!(
            berlin.next_after(at("2026-11-22T01:59:59Z")),
            at("2026-11-22T02:00:00Z")
        );
        assert_eq!(berlin.interval_hint(), Duration::from_secs(86_400));
    }

    #[test]
    fn a_schedule_in_the_hour_that_summer_time_skips_still_comes_on_that_day() {
        let berlin = scheduled("30 2 * * *", Some("Europe/Berlin")).unwrap();
        let next = berlin.next_after(at("2026-03-28T12:00:00Z"));
        assert_eq!(next, at("2026-03-29T01:00:00Z"));
    }

    #[test]
    fn the_hint_of_a_schedule_is_its_shortest_gap() {
        let plan = scheduled("0 8,9,20 * * *", None).unwrap();
        assert_eq!(plan.interval_hint(), Duration::from_secs(3600));
    }

    #[test]
    fn the_next_time_lies_after_the_last_one_even_at_the_end_of_time() {
        let plan = scheduled("*/5 * * * *", None).unwrap();
        assert_eq!(
            plan.next_after(at("2026-11-22T10:05:00.5Z")),
            at("2026-11-22T10:10:00Z")
        );
        assert_eq!(
            RecheckPlan::Interval(DEFAULT_INTERVAL).next_after(Timestamp::MAX),
            Timestamp::MAX
        );
        assert!(plan.next_after(at("9000-01-01T00:00:00Z")) > at("9000-01-01T00:00:00Z"));
    }

    #[test]
    fn a_plan_that_cannot_be_read_is_refused_and_its_field_is_named() {
        let recheck = |interval: Option<&str>, schedule: Option<&str>, zone: Option<&str>| {
            RecheckPlan::compile(&Recheck {
                interval: interval.map(str::to_owned),
                schedule: schedule.map(str::to_owned),
                time_zone: zone.map(str::to_owned),
                max_staleness: None,
            })
            .unwrap_err()
            .field
        };
        assert_eq!(recheck(Some("0s"), None, None), "interval");
        assert_eq!(recheck(Some("1h"), Some("0 3 * * *"), None), "schedule");
        assert_eq!(recheck(None, None, Some("UTC")), "timeZone");
        assert_eq!(recheck(None, Some("0 3 * * *"), Some("Mars/Olympus")), "timeZone");
        for schedule in [
            "",
            "@daily",
            "0 3 * *",
            "0 0 3 * * *",
            "61 3 * * *",
            "a b c d e",
            "0 0 30 2 *",
        ] {
            assert_eq!(recheck(None, Some(schedule), None), "schedule", "{schedule}");
        }
    }
}
