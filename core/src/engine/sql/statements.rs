//! The statements of the engines that claim by SQL: one constant each, with the index it walks and the rows it
//! locks.
//!
//! All of them but the ones said to read run inside a transaction that began as a writer (`BEGIN IMMEDIATE` in
//! SQLite), so that what they find is still so when they write. Every write to a job names its row, its id, the
//! state it is expected in and the fence of the claim.

/// The store's clock. One row.
pub(crate) const CLOCK: &str = "SELECT now, place FROM clock WHERE one = 1";
/// One row.
pub(crate) const SET_CLOCK: &str = "UPDATE clock SET now = ?1, place = ?2 WHERE one = 1";

/// How many jobs wait in a queue, and how many bytes. Key of `counters`.
pub(crate) const WAITING: &str = "SELECT blocked + scheduled + queued, bytes FROM counters WHERE queue = ?1";
/// Adds to the counts of a queue. Key of `counters`.
pub(crate) const COUNT: &str = "UPDATE counters SET
    blocked = blocked + ?2, scheduled = scheduled + ?3, queued = queued + ?4, running = running + ?5, kept =
    kept + ?6, bytes = bytes + ?7, pushed = pushed + ?8, restored = restored + ?9, claimed = claimed + ?10,
    succeeded = succeeded + ?11, failed = failed + ?12, cancelled = cancelled + ?13, expired = expired + ?14,
    retried = retried + ?15, returned = returned + ?16, stale = stale + ?17, refused = refused + ?18,
    shed_newest = shed_newest + ?19, shed_oldest = shed_oldest + ?20, shed_lowest = shed_lowest + ?21,
    shed_coalesced = shed_coalesced + ?22, shed_sampled = shed_sampled + ?23, shed_delayed = shed_delayed +
    ?24
    WHERE queue = ?1";
/// The first counts of a queue.
pub(crate) const COUNT_FIRST: &str = "INSERT INTO counters (queue,
    blocked, scheduled, queued, running, kept, bytes, pushed, restored, claimed, succeeded, failed,
    cancelled, expired, retried, returned, stale, refused, shed_newest, shed_oldest, shed_lowest,
    shed_coalesced, shed_sampled, shed_delayed)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23,
    ?24)";
/// The counts of every queue. Reads all of `counters`, one row per queue.
pub(crate) const COUNTS: &str = "SELECT queue,
    blocked, scheduled, queued, running, kept, bytes, pushed, restored, claimed, succeeded, failed,
    cancelled, expired, retried, returned, stale, refused, shed_newest, shed_oldest, shed_lowest,
    shed_coalesced, shed_sampled, shed_delayed
    FROM counters";
/// How many finished jobs are kept. Reads all of `counters`, one row per queue.
pub(crate) const KEPT: &str = "SELECT coalesce(sum(kept), 0) FROM counters";
/// Every queue that was ever used or paused. Reads.
pub(crate) const QUEUES: &str = "SELECT queue FROM counters UNION SELECT name FROM queues";
/// Whether a queue is paused. Key of `queues`.
pub(crate) const PAUSED: &str = "SELECT paused FROM queues WHERE name = ?1";
/// Every queue with whether it is paused. Reads.
pub(crate) const ALL_PAUSED: &str = "SELECT name, paused FROM queues";
/// Pauses or resumes. Key of `queues`.
pub(crate) const SET_PAUSED: &str = "INSERT INTO queues (name, paused) VALUES (?1, ?2)
    ON CONFLICT (name) DO UPDATE SET paused = excluded.paused";

/// Stores a job, unless there is one with its id (index `jobs_id`): then no row is changed.
pub(crate) const INSERT: &str = "INSERT INTO jobs (id, queue, kind, state, priority, run_at, created, attempt,
    max_attempts, fence, crashes, cancel_requested, started, deadline, timeout, key, fingerprint, retry, headers,
    waits, payload, content_type, history, place, due, error, error_kind, concurrency_key, finished)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, 0, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21,
    ?22, ?23, ?24, ?25, ?26, ?27, ?28) ON CONFLICT (id) DO NOTHING";
/// Whether there is a job with this id. Index `jobs_id`.
pub(crate) const KNOWN: &str = "SELECT 1 FROM jobs WHERE id = ?1";
/// Who holds a key. Index `jobs_key`.
pub(crate) const KEY_HOLDER: &str = "SELECT id, kind, fingerprint FROM jobs
    WHERE key = ?1 AND key IS NOT NULL AND state NOT IN ('cancelled', 'shed')
    ORDER BY row DESC LIMIT 1";

/// The scheduled jobs that may start, in order. Index `jobs_scheduled`.
pub(crate) const STARTS: &str = "SELECT row, queue FROM jobs
    WHERE state = 'scheduled' AND run_at <= ?1 ORDER BY run_at, place, row LIMIT ?2";
/// When the next scheduled job may start. First entry of the index `jobs_scheduled`.
pub(crate) const NEXT_START: &str =
    "SELECT run_at FROM jobs WHERE state = 'scheduled' ORDER BY run_at, place LIMIT 1";
/// Queues a scheduled job. One row.
pub(crate) const PROMOTE: &str = "UPDATE jobs SET state = 'queued', place = ?1
    WHERE row = ?2 AND state = 'scheduled'";

/// The next kind of which a job is queued. One entry of the index `jobs_queued`, however many jobs there are.
pub(crate) const NEXT_KIND: &str = "SELECT kind FROM jobs WHERE state = 'queued' AND queue = ?1 AND kind > ?2
    ORDER BY kind LIMIT 1";
/// The jobs of a kind that come first. As many entries of the index `jobs_queued` as are asked for, and those
/// whose deadline has passed.
pub(crate) const FIRST_OF_KIND: &str = "SELECT row, priority, place FROM jobs
    WHERE state = 'queued' AND queue = ?1 AND kind = ?2 AND (deadline IS NULL OR deadline > ?3)
    ORDER BY priority DESC, place, row LIMIT ?4";
/// Claims a job. One row; its fence grows by one.
pub(crate) const CLAIM: &str = "UPDATE jobs SET state = 'running', attempt = attempt + 1, fence = fence + 1,
    started = ?2, max_attempts = coalesce(max_attempts, ?3), overdue = ?4, lease_until = ?5, due = ?6,
    node = ?7, worker = ?8, owner = ?9
    WHERE row = ?1 AND state = 'queued'";
/// What a claimer needs to know of a job. One row.
pub(crate) const CANDIDATE: &str = "SELECT id, priority, attempt, max_attempts, fence, created, deadline,
    timeout, payload, content_type, key, fingerprint, retry, headers, concurrency_key, run_at FROM jobs WHERE row = ?1";

/// Stores a first success, which is what most attempts come to: nothing of the past has to be looked at. One
/// row; none if the job is not running under this claim, was asked to stop, or has a past.
pub(crate) const SUCCEED: &str = "UPDATE jobs SET state = 'succeeded', finished = ?4, result = ?5,
    result_type = ?6, payload = NULL, content_type = NULL, waits = NULL, lease_until = NULL, overdue = NULL,
    due = NULL, owner = NULL
    WHERE row = ?1 AND id = ?2 AND fence = ?3 AND state = 'running' AND cancel_requested = 0
    AND history IS NULL RETURNING queue";
/// What a transition has to know of a job. One row.
pub(crate) const STANDS: &str =
    "SELECT state, fence, cancel_requested, queue, attempt, node, worker, started,
    deadline, history, coalesce(length(payload), 0) FROM jobs WHERE row = ?1 AND id = ?2";
/// Ends a job. One row.
pub(crate) const END: &str = "UPDATE jobs SET state = ?4, finished = ?5, attempt = ?6, history = ?7,
    waits = NULL, cancel_requested = 0, lease_until = NULL, overdue = NULL, due = NULL,
    owner = NULL WHERE row = ?1 AND id = ?2 AND fence = ?3";
/// Puts the result in the place of the payload. One row.
pub(crate) const SET_RESULT: &str = "UPDATE jobs SET result = ?2, result_type = ?3, payload = NULL,
    content_type = NULL WHERE row = ?1";
/// The last failure, or none. One row.
pub(crate) const SET_ERROR: &str = "UPDATE jobs SET error = ?2, error_kind = ?3 WHERE row = ?1";
/// The queue of a job. One row.
pub(crate) const QUEUE_OF: &str = "SELECT queue FROM jobs WHERE row = ?1 AND id = ?2";
/// Lets a job wait again: where it stood, if it is given no other time and place. One row.
pub(crate) const AGAIN: &str =
    "UPDATE jobs SET state = ?4, run_at = coalesce(?5, run_at), place = coalesce(?6, place), attempt = ?7, history = ?8,
    due = ?9, waits = NULL, cancel_requested = 0, lease_until = NULL,
    overdue = NULL, owner = NULL WHERE row = ?1 AND id = ?2 AND fence = ?3";
/// Asks a running job to stop. One row.
pub(crate) const REQUEST_CANCEL: &str = "UPDATE jobs SET cancel_requested = 1
    WHERE row = ?1 AND id = ?2 AND fence = ?3 AND state = 'running'";
/// Moves the end of a lease. One row.
pub(crate) const EXTEND: &str =
    "UPDATE jobs SET lease_until = ?4, due = coalesce(min(overdue, ?4), overdue, ?4)
    WHERE row = ?1 AND id = ?2 AND fence = ?3 AND state = 'running' RETURNING cancel_requested, due";

/// What a token meets. Index `jobs_id`.
pub(crate) const BLOCKED: &str = "SELECT row, queue, waits, run_at FROM jobs
    WHERE id = ?1 AND state = 'blocked'";
/// Takes a token off a job's list. One row.
pub(crate) const SET_WAITS: &str = "UPDATE jobs SET waits = ?2 WHERE row = ?1 AND state = 'blocked'";
/// Frees a job of its last token: it could not have started before. One row.
pub(crate) const UNBLOCK: &str =
    "UPDATE jobs SET waits = NULL, state = ?2, place = ?3, run_at = max(run_at, ?4)
    WHERE row = ?1 AND state = 'blocked'";

/// What needs a decision first, or will. The first entries of the index `jobs_due`. Reads.
pub(crate) const DUE: &str = "SELECT due, state, lease_until, overdue, owner FROM jobs WHERE due IS NOT NULL
    ORDER BY due LIMIT ?1";
/// What needs a decision now. The first entries of the index `jobs_due`. Reads.
pub(crate) const OVERDUE: &str = "SELECT row, id, fence, queue, kind, state, attempt, max_attempts,
    cancel_requested, started, key, fingerprint, retry, headers, concurrency_key, lease_until, overdue, owner, crashes,
    due FROM jobs WHERE due IS NOT NULL AND due <= ?1 ORDER BY due LIMIT ?2";
/// Where a job stands. Index `jobs_id`. Reads.
pub(crate) const STANDING: &str = "SELECT row, id, fence, queue, kind, state, attempt, max_attempts,
    cancel_requested, started, key, fingerprint, retry, headers, concurrency_key FROM jobs WHERE id = ?1";

/// The finished jobs of a state that ended before an instant, oldest first. Index `jobs_finished`.
pub(crate) const ENDED_BEFORE: &str = "SELECT row, queue FROM jobs
    WHERE finished IS NOT NULL AND state = ?1 AND finished < ?2 ORDER BY finished LIMIT ?3";
/// The finished jobs of a state, oldest first. Index `jobs_finished`.
pub(crate) const OLDEST: &str = "SELECT row, queue, finished FROM jobs
    WHERE finished IS NOT NULL AND state = ?1 ORDER BY finished LIMIT ?2";
/// Forgets a job. One row.
pub(crate) const FORGET: &str = "DELETE FROM jobs WHERE row = ?1";

/// The unfinished jobs in the order in which they would start, by state. The queued ones by name of the queue
/// and by lane, over the rows of all queued jobs. Reads.
pub(crate) const EXPORT: [(&str, &str); 4] = [
    ("queued", "queue, priority DESC, place, row"),
    ("running", "started, place, row"),
    ("scheduled", "run_at, place, row"),
    ("blocked", "created, id"),
];

/// Enters a process among the nodes; its number is never used again.
pub(crate) const JOIN: &str = "INSERT INTO nodes (name, seat, pid, boot, opened) VALUES (?1, ?2, ?3, ?4, ?5)";
/// Notes the end of whoever had a seat. Reads all of `nodes`, which is bounded.
pub(crate) const VACATE: &str = "UPDATE nodes SET closed = ?2 WHERE seat = ?1 AND closed IS NULL";
/// The nodes of a name that have not ended in order. Reads all of `nodes`, which is bounded.
pub(crate) const NAMESAKES: &str = "SELECT seat, pid FROM nodes WHERE name = ?1 AND closed IS NULL";
/// Notes the end of a node. One row.
pub(crate) const LEAVE: &str = "UPDATE nodes SET closed = ?2 WHERE node = ?1";
/// Forgets nodes that have ended. A range of the key.
pub(crate) const FORGET_NODES: &str = "DELETE FROM nodes WHERE node < ?1 AND closed IS NOT NULL";

/// The last term of a name, and when it ends or ended. Key of `terms`.
pub(crate) const TERM: &str = "SELECT term, until FROM terms WHERE name = ?1";
/// Begins a term that is higher than the last. Key of `terms`.
pub(crate) const SET_TERM: &str = "INSERT INTO terms (name, holder, term, until) VALUES (?1, ?2, ?3, ?4)
    ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, term = excluded.term, until = excluded.until
    WHERE excluded.term > terms.term";
/// Renews a term that has not ended. Key of `terms`.
pub(crate) const RENEW_TERM: &str = "UPDATE terms SET until = ?4
    WHERE name = ?1 AND holder = ?2 AND term = ?3 AND until > ?5";
/// Ends a term. Key of `terms`.
pub(crate) const END_TERM: &str = "UPDATE terms SET holder = NULL, until = 0
    WHERE name = ?1 AND holder = ?2 AND term = ?3 AND until > 0";

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use crate::engine::sql::{schema, shared};

    /// How SQLite means to find the rows of a statement.
    fn plan(db: &Connection, text: &str) -> String {
        let mut statement = db.prepare(&format!("EXPLAIN QUERY PLAN {text}")).unwrap();
        let mut rows = statement.raw_query();
        let mut plan = String::new();
        while let Some(row) = rows.next().unwrap() {
            plan += &row.get::<_, String>(3).unwrap();
            plan += "\n";
        }
        plan
    }

    /// A backlog is never walked: each statement uses the index that its comment names, and sorts nothing.
    #[test]
    fn every_statement_uses_its_index() {
        let mut db = Connection::open_in_memory().unwrap();
        schema::migrate(&mut db, "x").unwrap();
        shared::share(&db).unwrap();
        let row = "INTEGER PRIMARY KEY";
        for (text, index) in [
            (super::KNOWN, "jobs_id"),
            (super::STANDING, "jobs_id"),
            (super::BLOCKED, "jobs_id"),
            (super::KEY_HOLDER, "jobs_key"),
            (super::STARTS, "jobs_scheduled"),
            (super::NEXT_START, "jobs_scheduled"),
            (super::NEXT_KIND, "jobs_queued"),
            (super::FIRST_OF_KIND, "jobs_queued"),
            (super::DUE, "jobs_due"),
            (super::OVERDUE, "jobs_due"),
            (super::ENDED_BEFORE, "jobs_finished"),
            (super::OLDEST, "jobs_finished"),
            (super::CANDIDATE, row),
            (super::CLAIM, row),
            (super::SUCCEED, row),
            (super::STANDS, row),
            (super::END, row),
            (super::AGAIN, row),
            (super::EXTEND, row),
            (super::REQUEST_CANCEL, row),
            (super::PROMOTE, row),
            (super::UNBLOCK, row),
            (super::FORGET, row),
        ] {
            let plan = plan(&db, text);
            assert!(plan.contains(index), "{text}\n{plan}");
            assert!(!plan.contains("B-TREE"), "it sorts: {text}\n{plan}");
        }
    }
}
