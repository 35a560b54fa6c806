//! Running jobs that can be overdue, by a timeout or the end of a lease.
//!
//! Nearly every attempt ends long before, so an entry must cost little: it is appended by the claim and
//! taken out by the finish if that comes soon and on the same thread. Other entries stay, and are recognised
//! as old by their fence when somebody looks through the list; that happens at least whenever it has
//! doubled.

use crate::engine::Handle;

/// Handles and fences of claims that can be overdue.
#[derive(Debug, Default)]
pub(super) struct Running {
    claims: Vec<(Handle, u64)>,
    /// How many entries were good when the list was looked through last.
    good: usize,
}

/// How many of the latest entries a finish looks at.
const RECENT: usize = 16;
/// Fewer entries than this are never looked through.
const FEW: usize = 64;

impl Running {
    /// Notes a claim. True if it is time to [look through](Running::retain) the list.
    pub(super) fn push(&mut self, job: Handle, fence: u64) -> bool {
        self.claims.push((job, fence));
        self.claims.len() > FEW.max(2 * self.good)
    }

    /// Forgets a claim, if it is one of the latest here.
    pub(super) fn remove(&mut self, job: Handle, fence: u64) {
        let recent = self.claims.len().saturating_sub(RECENT);
        let place = self.claims[recent..].iter().rposition(|c| *c == (job, fence));
        if let Some(place) = place {
            self.claims.swap_remove(recent + place);
        }
    }

    /// Looks through the list and keeps what `good` says is still running.
    pub(super) fn retain(&mut self, mut good: impl FnMut(Handle, u64) -> bool) {
        self.claims.retain(|(job, fence)| good(*job, *fence));
        self.good = self.claims.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_entries_do_not_pile_up() {
        let mut running = Running::default();
        let mut looks = 0;
        for n in 0..100_000 {
            if running.push(Handle(n), 1) {
                running.retain(|job, _| job.0 < 10);
                looks += 1;
            }
            assert!(running.claims.len() <= FEW + 1);
        }
        assert!(looks < 2000, "{looks}");
    }

    #[test]
    fn the_latest_are_taken_out_at_once() {
        let mut running = Running::default();
        for n in 0..20 {
            running.push(Handle(n), 7);
        }
        running.remove(Handle(19), 6);
        running.remove(Handle(19), 7);
        running.remove(Handle(5), 7);
        running.remove(Handle(0), 7);
        assert_eq!(
            running.claims.len(),
            18,
            "one had another fence, one is not among the latest"
        );
    }
}
