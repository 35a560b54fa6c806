//! Which processes share the file: a row each, with a number that is never used again.
//!
//! Whether one still lives is not told by its row but by its seat, a byte of the lock file that only it has
//! locked: that is true at every instant and needs no heartbeat. So two live nodes of one name are told apart
//! from one that was killed and started again.

use rusqlite::{Connection, TransactionBehavior, params};

use crate::engine::sql::lock::{Lock, boot};
use crate::engine::sql::{failure, shared, statements as sql};
use crate::error::{Error, ErrorKind, Result};
use crate::time::Timestamp;

/// Rows of nodes that have ended are kept for a while, for people.
const KEPT: i64 = 1000;

/// Makes the file ready to be shared, and enters this process among those who do. Returns its number.
///
/// # Errors
/// `AlreadyOpen` if a live node has this name; of the store.
pub(super) fn join(
    db: &mut Connection,
    path: &str,
    lock: &Lock,
    seat: Option<u32>,
    name: Option<&str>,
    now: Timestamp,
) -> Result<i64> {
    let fail = |e: rusqlite::Error| failure(&e, path);
    let whole = db
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(fail)?;
    shared::share(&whole).map_err(fail)?;
    let now = now.as_micros();
    if let Some(seat) = seat {
        // Whoever had it before is gone, or the seat would not have been free.
        whole.execute(sql::VACATE, (seat, now)).map_err(fail)?;
    }
    if let Some(name) = name {
        refuse_twin(&whole, path, lock, name)?;
    }
    let (pid, boot) = (std::process::id(), boot());
    let row = params![name, seat, pid, boot, now];
    whole.execute(sql::JOIN, row).map_err(fail)?;
    let node = whole.last_insert_rowid();
    whole.execute(sql::FORGET_NODES, [node - KEPT]).map_err(fail)?;
    whole.commit().map_err(fail)?;
    Ok(node)
}

/// Refuses a name that another live node has.
fn refuse_twin(db: &Connection, path: &str, lock: &Lock, name: &str) -> Result<()> {
    let fail = |e: rusqlite::Error| failure(&e, path);
    let mut same = db.prepare(sql::NAMESAKES).map_err(fail)?;
    let rows = same.query_map([name], |row| {
        Ok((row.get::<_, Option<u32>>(0)?, row.get::<_, u32>(1)?))
    });
    for row in rows.map_err(fail)? {
        let (seat, pid) = row.map_err(fail)?;
        if seat.is_some_and(|seat| lock.is_taken(seat)) {
            let text = format!(
                "node {name:?} is open in process {pid}, and no two may have one name: give this one another \
                 with option node, or leave it to `auto`"
            );
            return Err(Error::new(ErrorKind::AlreadyOpen, text));
        }
    }
    Ok(())
}
