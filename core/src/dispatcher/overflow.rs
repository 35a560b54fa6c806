//! A queue is full: its policy says whether the newcomer is refused, shed, or let in for another.

use super::push::Prepared;
use super::settle::{Ended, random};
use super::{Inner, Pushed};
use crate::admission::Overflow;
use crate::engine::{Applied, Inserted, Located, Victim};
use crate::error::{Error, ErrorKind, Result};
use crate::names::QueueId;
use crate::outcome::{Outcome, ShedReason};
use crate::payload::Payload;
use crate::time::Timestamp;

/// What a push does next that found its queue full.
pub(super) enum Next {
    /// It fails, or waits for room.
    Refuse,
    /// It tries again: other jobs have made room.
    Again,
    /// It is stored as one that was shed.
    Shed(ShedReason),
}

impl Inner {
    /// What the policy of the queue says to newcomers that found it full, of whom `first` is the first and there
    /// are `count`.
    pub(super) fn overflow(&self, first: &Prepared<'_>, count: usize, now: Timestamp) -> Result<Next> {
        let Some(policy) = self.rules(first.queue).on_full else {
            return Ok(Next::Refuse);
        };
        let mut step = policy.step(random());
        if let Overflow::MakeRoom(reason) = step {
            if self.make_room(first, reason, count, now)? {
                return Ok(Next::Again);
            }
            step = policy.otherwise();
        }
        Ok(match step {
            Overflow::ShedNewcomer(reason) => Next::Shed(reason),
            Overflow::Refuse | Overflow::MakeRoom(_) => Next::Refuse,
        })
    }

    /// Sheds up to `count` jobs that wait, for this reason; true if there was one.
    fn make_room(
        &self,
        newcomer: &Prepared<'_>,
        reason: ShedReason,
        count: usize,
        now: Timestamp,
    ) -> Result<bool> {
        let victim = match reason {
            ShedReason::Lowest => Victim::Lowest {
                below: newcomer.priority(),
            },
            ShedReason::Coalesced => match newcomer.concurrency_key() {
                Some(key) => Victim::OfKey(key),
                None => return Ok(false),
            },
            _ => Victim::Oldest,
        };
        // Only what stands for the oldest does not depend on who comes next.
        let count = if victim == Victim::Oldest { count } else { 1 };
        let mut made = false;
        for _ in 0..count {
            let Some(at) = self.engine.evict(newcomer.queue, victim, reason, now)? else {
                break;
            };
            self.announce_shed(&at, reason, now);
            made = true;
        }
        Ok(made)
    }

    /// Tells whoever listens that the engine has shed a job that stood there.
    fn announce_shed(&self, at: &Located, reason: ShedReason, now: Timestamp) {
        let mut ended = Ended::located(at, Outcome::Shed(reason));
        let transition = self.decide(&mut ended);
        self.announce(&ended, &transition, Applied::Yes, now);
        // Whoever waits for an empty queue should look again.
        self.cells.idle.ring_all();
    }

    /// Stores a newcomer as one that was shed.
    pub(super) fn shed_newcomer(
        &self,
        prepared: &Prepared<'_>,
        reason: ShedReason,
        now: Timestamp,
    ) -> Result<Pushed> {
        let empty = Payload::empty();
        let insert = prepared.shed(&empty, reason);
        let mut receipts = Vec::with_capacity(1);
        self.engine
            .insert(std::slice::from_ref(&insert), now, &mut receipts)?;
        let pushed = self.receive(prepared, receipts[0], now)?;
        if receipts[0] != Inserted::New {
            return Ok(pushed);
        }
        if let Some(at) = self.engine.standing(prepared.id)? {
            self.announce_shed(&at, reason, now);
        }
        Ok(Pushed {
            shed: Some(reason),
            ..pushed
        })
    }

    /// Whether one push could ever have room for these bytes.
    pub(super) fn check_weight(&self, queue: QueueId, payload: &Payload) -> Result<()> {
        let most = self.bounds(queue).bytes;
        match payload.len() {
            Some(len) if most > 0 && len > most => {
                let name = self.engine.names().queue_name(queue);
                let text = format!(
                    "payload has {len} bytes; queue {name:?} takes {most} in all (option capacity_bytes)"
                );
                Err(Error::new(ErrorKind::Invalid, text))
            }
            _ => Ok(()),
        }
    }
}
