//! Claiming: the lanes of a queue from the highest priority down. In a lane those set aside come before those in
//! line, and the line takes turns with the [flows](super::flows).

use super::flags::Listed;
use super::flows::{Taken, Turn};
use super::lane::{Lane, Lanes};
use super::queue::Queue;
use super::session::{Found, Leased, Session};
use crate::engine::Claim;

/// A claim under way.
struct Hunt<'h, 'c, 'e> {
    session: &'h mut Session<'e>,
    claim: &'h mut Claim<'c>,
    node: u16,
    /// How many more jobs the claim may take.
    left: usize,
    taken: usize,
    /// The bytes of those taken, if the queue counts them.
    bytes: usize,
    weighs: bool,
    newest: bool,
}

impl Session<'_> {
    /// Leases up to the claim's limit of jobs.
    pub(super) fn claim(&mut self, claim: &mut Claim<'_>) {
        let shared = &self.engine.shared;
        let open = |queue: &&Queue| !queue.paused() && !shared.sealed();
        let Some(queue) = shared.queues.find(claim.queue).filter(open) else {
            return;
        };
        let mut left = 0;
        for kind in &*claim.kinds {
            left = claim.limit.min(kind.allowance as usize + left);
            if left == claim.limit {
                break;
            }
        }
        let node = shared.nodes.number(claim.node);
        let number = self.number;
        let mut hunt = Hunt {
            session: self,
            claim,
            node,
            left,
            taken: 0,
            bytes: 0,
            weighs: queue.room.weighs(),
            newest: queue.newest_first(),
        };
        hunt.session.wake_flows(queue);
        loop {
            hunt.search_all(queue);
            if hunt.left == 0 || !hunt.session.limits_changed(queue, hunt.claim.keys) {
                break;
            }
        }
        let (taken, bytes) = (hunt.taken, hunt.bytes);
        if taken > 0 {
            queue.room.leave(number, taken, bytes);
            self.after.room = true;
        }
    }
}

impl Hunt<'_, '_, '_> {
    /// Takes what the claim may have.
    #[inline]
    fn search_all(&mut self, queue: &Queue) {
        for lane in queue.lanes.busy() {
            if self.left == 0 {
                break;
            }
            self.search(queue, lane);
            if lane.runs_low(queue) {
                self.session.after.hungry_lane = true;
                // What comes after it in the store comes before the lanes below.
                break;
            }
        }
    }

    /// Takes what the claim may have from one lane.
    #[inline]
    fn search(&mut self, queue: &Queue, lane: &Lane) {
        if lane.flows() {
            self.search_flows(queue, lane);
        }
        self.search_line(&queue.lanes, lane, usize::MAX);
    }

    /// Takes turns between the flows of a lane and its line, as long as there is a flow for the claim.
    #[cold]
    fn search_flows(&mut self, queue: &Queue, lane: &Lane) {
        while self.left > 0 && lane.flows() {
            match self.session.next_turn(queue, lane, self.claim) {
                Turn::Flow(taken) => self.lease_of_flow(queue, lane, taken),
                Turn::Line => self.search_line(&queue.lanes, lane, 1),
                Turn::Nobody => break,
            }
        }
    }

    fn lease_of_flow(&mut self, queue: &Queue, lane: &Lane, taken: Taken) {
        self.session.engine.slab.fetch(None, taken.later);
        let found = Found {
            ticket: taken.ticket,
            lane,
            lanes: &queue.lanes,
            listed: Listed::Flow,
            key: taken.key,
        };
        if self.lease(found) != Leased::Yes {
            self.session.give_turn_back(queue, taken.key);
        }
    }

    /// Takes at most so many jobs from among those without a key.
    #[inline(always)]
    fn search_line(&mut self, lanes: &Lanes, lane: &Lane, most: usize) {
        let enough = self.left.saturating_sub(most);
        let found = |ticket, listed| Found {
            ticket,
            lane,
            lanes,
            listed,
            key: 0,
        };
        while self.left > enough && lane.has_aside() {
            let Some(ticket) = lane.take_aside(self.claim.kinds, self.newest) else {
                break;
            };
            self.lease(found(ticket, Listed::Aside));
        }
        while self.left > enough {
            let popped = lanes.pop(lane);
            self.session.after.everyone |= popped.ring;
            let Some(first) = popped.first else { break };
            self.session.engine.slab.fetch(first.soon, first.later);
            match self.lease(found(first.ticket, Listed::Lane)) {
                Leased::Gone => lane.swept(),
                // Somebody else may know the kind, and may have looked while the job was in our hands.
                Leased::Aside => self.session.after.everyone = true,
                Leased::Yes | Leased::Late => {}
            }
        }
    }

    fn lease(&mut self, found: Found<'_>) -> Leased {
        let leased = self.session.lease(found, self.claim, self.node);
        if leased == Leased::Yes {
            self.left -= 1;
            self.taken += 1;
            if self.weighs {
                let claimed = self.claim.out.last();
                self.bytes += claimed.map_or(0, |claimed| claimed.payload.len().unwrap_or(0));
            }
        }
        leased
    }
}
