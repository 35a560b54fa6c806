//! Where the callers of one transaction wait for it: opened once, for all of them, with one call to the system.

use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

/// Closed until it is opened, and open from then on.
#[derive(Debug, Default)]
pub(super) struct Gate {
    open: AtomicU32,
    #[cfg(not(target_os = "linux"))]
    bell: crate::bell::Bell,
}

impl Gate {
    pub(super) fn open(&self) {
        self.open.store(1, SeqCst);
        self.wake();
    }

    pub(super) fn wait(&self) {
        while self.open.load(SeqCst) == 0 {
            self.sleep();
        }
    }

    #[cfg(target_os = "linux")]
    fn wake(&self) {
        super::wake::wake_all(&self.open);
    }

    #[cfg(target_os = "linux")]
    fn sleep(&self) {
        super::wake::sleep_while(&self.open, 0);
    }

    #[cfg(not(target_os = "linux"))]
    fn wake(&self) {
        self.bell.ring_all();
    }

    #[cfg(not(target_os = "linux"))]
    fn sleep(&self) {
        let listener = self.bell.listen();
        if self.open.load(SeqCst) == 0 {
            listener.wait(crate::time::Deadline::NEVER);
        }
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    #[test]
    fn everybody_gets_through() {
        let gate = Gate::default();
        std::thread::scope(|scope| {
            let waiting: Vec<_> = (0..8).map(|_| scope.spawn(|| gate.wait())).collect();
            gate.open();
            waiting
                .into_iter()
                .for_each(|w| w.join().expect("it came through"));
        });
        gate.wait();
    }
}
