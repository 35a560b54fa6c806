use super::*;
use shuttle::sync::Arc;
use shuttle::sync::atomic::AtomicUsize;

fn explore(model: fn()) {
    shuttle::check_random(model, 5_000);
    shuttle::check_pct(model, 5_000, 3);
}

/// Takes an item, if there is one.
fn take(items: &AtomicUsize) -> bool {
    let less = |n: usize| n.checked_sub(1);
    items
        .fetch_update(Ordering::SeqCst, Ordering::SeqCst, less)
        .is_ok()
}

/// Two consumers, three items: every schedule ends, so no ring is lost.
fn three_items(wait: fn(Listener<'_>)) {
    let bell = Arc::new(Bell::default());
    let items = Arc::new(AtomicUsize::new(0));
    let left = Arc::new(AtomicUsize::new(3));
    let consumers: Vec<_> = (0..2)
        .map(|_| {
            let (bell, items, left) = (bell.clone(), items.clone(), left.clone());
            shuttle::thread::spawn(move || {
                while left.load(Ordering::SeqCst) > 0 {
                    let listener = bell.listen();
                    if take(&items) {
                        drop(listener);
                        if left.fetch_sub(1, Ordering::SeqCst) == 1 {
                            bell.ring_all();
                        }
                    } else if left.load(Ordering::SeqCst) > 0 {
                        wait(listener);
                    }
                }
            })
        })
        .collect();
    for _ in 0..3 {
        items.fetch_add(1, Ordering::SeqCst);
        bell.ring();
    }
    for consumer in consumers {
        consumer.join().unwrap();
    }
}

#[test]
fn no_ring_is_lost() {
    explore(|| three_items(|listener| _ = listener.wait(Deadline::NEVER)));
}

#[test]
fn no_ring_is_lost_on_a_searcher() {
    explore(|| three_items(|listener| _ = listener.search(Deadline::NEVER)));
}

/// Two items and two consumers, each of which takes one and then is busy until the other has one too: every
/// schedule ends, so a searcher that leaves passes on what it was called for beyond its own.
#[test]
fn a_searcher_passes_the_wake_on() {
    explore(|| {
        let (bell, meeting) = (Arc::new(Bell::default()), Arc::new(Bell::default()));
        let (items, busy) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let consumers: Vec<_> = (0..2)
            .map(|_| {
                let (bell, meeting) = (bell.clone(), meeting.clone());
                let (items, busy) = (items.clone(), busy.clone());
                shuttle::thread::spawn(move || {
                    loop {
                        let listener = bell.listen();
                        if take(&items) {
                            break;
                        }
                        listener.search(Deadline::NEVER);
                    }
                    busy.fetch_add(1, Ordering::SeqCst);
                    meeting.ring_all();
                    loop {
                        let listener = meeting.listen();
                        if busy.load(Ordering::SeqCst) == 2 {
                            break;
                        }
                        listener.wait(Deadline::NEVER);
                    }
                })
            })
            .collect();
        for _ in 0..2 {
            items.fetch_add(1, Ordering::SeqCst);
            bell.ring();
        }
        for consumer in consumers {
            consumer.join().unwrap();
        }
    });
}

/// Two who wait for different things: every schedule ends, so a ring for all reaches both.
fn two_flags(wait: fn(Listener<'_>)) {
    let bell = Arc::new(Bell::default());
    let flags = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
    let waiters: Vec<_> = (0..2)
        .map(|i| {
            let (bell, flags) = (bell.clone(), flags.clone());
            shuttle::thread::spawn(move || {
                loop {
                    let listener = bell.listen();
                    if flags[i].load(Ordering::SeqCst) == 1 {
                        return;
                    }
                    wait(listener);
                }
            })
        })
        .collect();
    for flag in flags.iter() {
        flag.store(1, Ordering::SeqCst);
        bell.ring_all();
    }
    for waiter in waiters {
        waiter.join().unwrap();
    }
}

#[test]
fn a_ring_for_all_reaches_everyone() {
    explore(|| two_flags(|listener| _ = listener.wait(Deadline::NEVER)));
}

#[test]
fn a_ring_for_all_reaches_a_searcher() {
    explore(|| two_flags(|listener| _ = listener.search(Deadline::NEVER)));
}
