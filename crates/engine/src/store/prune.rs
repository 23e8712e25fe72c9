//! What is dropped from the store: the records of subjects that have not run for some days, or, beyond a
//! size, those that were checked longest ago; and bodies that no record needs. Never what runs.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use image::Digest;
use jiff::{SignedDuration, Timestamp};
use redb::{Database, ReadableDatabase, ReadableTable};

use super::{BODIES, SUBJECTS, SubjectRecord, body};
use crate::lookup::stored;

/// A subject that does not run is kept so long after its last complete look-up.
const KEPT: SignedDuration = SignedDuration::from_hours(7 * 24);
/// Beyond so many bytes of bodies, subjects that do not run are dropped although they are younger.
const SIZE: u64 = 2 * 1024 * 1024 * 1024;

/// One record, with the bodies it may be read again from.
struct Row {
    key: String,
    runs: bool,
    checked: Timestamp,
    needs: BTreeSet<Digest>,
}

/// Drops what nothing uses. Bodies that no record ever named may belong to a look-up under way: they go
/// only if they were among `orphans` already. Answers those that are left.
pub(super) fn prune(
    database: &Database,
    running: &HashSet<String>,
    orphans: &HashSet<Digest>,
    now: Timestamp,
) -> Result<HashSet<Digest>, redb::Error> {
    prune_to(database, running, orphans, now, SIZE)
}

fn prune_to(
    database: &Database,
    running: &HashSet<String>,
    orphans: &HashSet<Digest>,
    now: Timestamp,
    limit: u64,
) -> Result<HashSet<Digest>, redb::Error> {
    let sizes = sizes(database)?;
    let (rows, mut unreadable) = rows(database, running)?;
    let (dropped, kept) = divided(rows, &sizes, now, limit);
    let needed: HashSet<Digest> = kept.iter().flat_map(|row| row.needs.iter().cloned()).collect();
    let was_needed: HashSet<Digest> = dropped.iter().flat_map(|row| row.needs.iter().cloned()).collect();
    let (mut gone, mut left) = (Vec::new(), HashSet::new());
    for digest in sizes.keys().filter(|digest| !needed.contains(*digest)) {
        if was_needed.contains(digest) || orphans.contains(digest) {
            gone.push(digest.clone());
        } else {
            left.insert(digest.clone());
        }
    }
    unreadable.extend(dropped.into_iter().map(|row| row.key));
    delete(database, &gone, &unreadable)?;
    if !gone.is_empty() || !unreadable.is_empty() {
        tracing::info!(
            bodies = gone.len(),
            subjects = unreadable.len(),
            "dropped evidence that nothing uses"
        );
    }
    Ok(left)
}

/// Which records go and which stay.
fn divided(rows: Vec<Row>, sizes: &HashMap<Digest, u64>, now: Timestamp, limit: u64) -> (Vec<Row>, Vec<Row>) {
    let oldest = now.checked_sub(KEPT).unwrap_or(Timestamp::MIN);
    let (mut dropped, mut kept): (Vec<Row>, Vec<Row>) = rows
        .into_iter()
        .partition(|row| !row.runs && row.checked < oldest);
    let mut users: BTreeMap<Digest, usize> = BTreeMap::new();
    for digest in kept.iter().flat_map(|row| &row.needs) {
        *users.entry(digest.clone()).or_default() += 1;
    }
    let size = |digest: &Digest| sizes.get(digest).copied().unwrap_or(0);
    let mut total: u64 = users.keys().map(size).sum();
    kept.sort_by_key(|row| (row.runs, row.checked));
    let mut too_many = 0;
    while total > limit && kept.get(too_many).is_some_and(|row| !row.runs) {
        for digest in &kept[too_many].needs {
            if let Some(left) = users.get_mut(digest) {
                *left -= 1;
                total -= if *left == 0 { size(digest) } else { 0 };
            }
        }
        too_many += 1;
    }
    dropped.extend(kept.drain(..too_many));
    (dropped, kept)
}

fn sizes(database: &Database) -> Result<HashMap<Digest, u64>, redb::Error> {
    let transaction = database.begin_read()?;
    let mut sizes = HashMap::new();
    for entry in transaction.open_table(BODIES)?.iter()? {
        let (key, bytes) = entry?;
        if let Ok(digest) = key.value().parse() {
            sizes.insert(digest, bytes.value().len() as u64);
        }
    }
    Ok(sizes)
}

/// Every record, and the keys of those that do not parse.
fn rows(database: &Database, running: &HashSet<String>) -> Result<(Vec<Row>, Vec<String>), redb::Error> {
    let transaction = database.begin_read()?;
    let (mut rows, mut unreadable) = (Vec::new(), Vec::new());
    for entry in transaction.open_table(SUBJECTS)?.iter()? {
        let (key, bytes) = entry?;
        let key = key.value().to_owned();
        match serde_json::from_slice::<SubjectRecord>(bytes.value()) {
            Ok(record) => rows.push(Row {
                runs: running.contains(&key),
                checked: record.checked.unwrap_or(Timestamp::MIN),
                needs: stored::reach(&|digest| body(database, digest), &record),
                key,
            }),
            Err(_) => unreadable.push(key),
        }
    }
    Ok((rows, unreadable))
}

fn delete(database: &Database, bodies: &[Digest], subjects: &[String]) -> Result<(), redb::Error> {
    if bodies.is_empty() && subjects.is_empty() {
        return Ok(());
    }
    let transaction = database.begin_write()?;
    {
        let mut table = transaction.open_table(BODIES)?;
        for digest in bodies {
            table.remove(digest.to_string().as_str())?;
        }
        let mut table = transaction.open_table(SUBJECTS)?;
        for key in subjects {
            table.remove(key.as_str())?;
        }
    }
    Ok(transaction.commit()?)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::lookup::Seen;
    use crate::store::Store;

    const DAY: i64 = 24 * 3600;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// A subject that was checked at a time and needs this body.
    fn subject(store: &Store, name: &str, body: &'static [u8], checked: Timestamp) -> Digest {
        let digest = Digest::sha256(body);
        store.keep_body(digest.clone(), Bytes::from_static(body));
        let record = SubjectRecord {
            checked: Some(checked),
            seen: BTreeMap::from([(digest.clone(), Seen::default())]),
            ..SubjectRecord::default()
        };
        store.keep_subject(name.to_owned(), &record);
        digest
    }

    fn prune_all(store: &Store, running: &[&str], orphans: &HashSet<Digest>, limit: u64) -> HashSet<Digest> {
        store.flush();
        let running = running.iter().map(|name| (*name).to_owned()).collect();
        prune_to(&store.database, &running, orphans, at(100 * DAY), limit).unwrap()
    }

    /// Weakened once: without the check for what runs, `old-runs` goes too.
    #[test]
    fn what_has_not_run_for_days_goes_and_what_runs_stays_however_old() {
        let store = Store::open(None).unwrap();
        let old = subject(&store, "old", b"old", at(90 * DAY));
        let runs = subject(&store, "old-runs", b"old-runs", at(DAY));
        let young = subject(&store, "young", b"young", at(99 * DAY));
        prune_all(&store, &["old-runs"], &HashSet::new(), SIZE);
        assert_eq!(
            [old, runs, young].map(|digest| store.body(&digest).is_some()),
            [false, true, true]
        );
        assert_eq!(
            ["old", "old-runs", "young"].map(|name| store.subject(name).is_some()),
            [false, true, true]
        );
    }

    /// Weakened once: sorted the other way round, the younger one goes.
    #[test]
    fn beyond_the_size_the_oldest_goes_first_and_what_runs_never() {
        let store = Store::open(None).unwrap();
        let runs = subject(&store, "runs", b"0123456789", at(DAY));
        let older = subject(&store, "older", b"abcdefghij", at(98 * DAY));
        let younger = subject(&store, "younger", b"ABCDEFGHIJ", at(99 * DAY));
        prune_all(&store, &["runs"], &HashSet::new(), 20);
        assert_eq!(
            [runs.clone(), older.clone(), younger.clone()].map(|digest| store.body(&digest).is_some()),
            [true, false, true]
        );
        prune_all(&store, &["runs"], &HashSet::new(), 1);
        assert_eq!(
            [runs, older, younger].map(|digest| store.body(&digest).is_some()),
            [true, false, false]
        );
    }

    #[test]
    fn a_body_that_two_need_stays_while_one_of_them_does() {
        let store = Store::open(None).unwrap();
        subject(&store, "old", b"shared", at(90 * DAY));
        let shared = subject(&store, "runs", b"shared", at(99 * DAY));
        prune_all(&store, &["runs"], &HashSet::new(), SIZE);
        assert!(store.body(&shared).is_some());
    }

    /// Weakened once: dropped at first sight, a look-up under way loses what it just read.
    #[test]
    fn a_body_that_no_record_needs_goes_at_the_second_sight() {
        let store = Store::open(None).unwrap();
        let digest = Digest::sha256(b"orphan");
        store.keep_body(digest.clone(), Bytes::from_static(b"orphan"));
        let orphans = prune_all(&store, &[], &HashSet::new(), SIZE);
        assert!(store.body(&digest).is_some());
        prune_all(&store, &[], &orphans, SIZE);
        assert!(store.body(&digest).is_none());
    }

    #[test]
    fn a_record_that_does_not_parse_goes() {
        let store = Store::open(None).unwrap();
        store.send(super::super::Write::Subject(
            "broken".into(),
            Bytes::from_static(b"{"),
        ));
        prune_all(&store, &["broken"], &HashSet::new(), SIZE);
        let rows = rows(&store.database, &HashSet::new()).unwrap();
        assert!(rows.0.is_empty() && rows.1.is_empty());
    }
}
