use super::*;
use std::sync::atomic::AtomicUsize;

#[test]
fn a_ring_before_the_wait_is_heard() {
    let bell = Bell::default();
    let listener = bell.listen();
    bell.ring();
    assert!(listener.wait(Deadline::after(Duration::ZERO)));
    assert!(
        !bell.listen().wait(Deadline::after(Duration::ZERO)),
        "and only once"
    );
    assert_eq!(bell.waiting(), 0);
}

#[test]
fn a_dropped_listener_passes_the_ring_on() {
    let bell = Bell::default();
    let (first, second) = (bell.listen(), bell.listen());
    bell.ring();
    drop(first);
    // Which of the two was rung is not defined; after the drop it can only be the second.
    assert!(second.wait(Deadline::after(Duration::ZERO)) || bell.waiting() == 0);
}

#[test]
fn a_ring_for_all_cannot_be_heard_twice() {
    let bell = Bell::default();
    let (quick, slow) = (bell.listen(), bell.listen());
    bell.ring_all();
    assert!(quick.wait(Deadline::after(Duration::ZERO)));
    let again = bell.listen();
    assert!(
        !again.wait(Deadline::after(Duration::ZERO)),
        "that was the ring of the slow one"
    );
    assert!(slow.wait(Deadline::after(Duration::ZERO)));
}

#[test]
fn two_profiles_make_every_ring_loud() {
    let bell = Bell::default();
    for profile in [1, 1, 2] {
        bell.join(profile);
    }
    let listeners = [bell.listen(), bell.listen(), bell.listen()];
    bell.ring();
    assert!(
        listeners
            .into_iter()
            .all(|l| l.wait(Deadline::after(Duration::ZERO)))
    );
    bell.leave(2);
    let (a, b) = (bell.listen(), bell.listen());
    bell.ring();
    assert_eq!(bell.waiting(), 1);
    assert!(a.wait(Deadline::after(Duration::ZERO)));
    drop(b);
}

/// What was announced to one of the first profile is not swallowed by one of the second, who cannot use it.
#[test]
fn a_profile_that_joins_takes_no_ring_of_another() {
    for search in [false, true] {
        let bell = Bell::default();
        bell.join(1);
        let first = bell.listen();
        if search {
            // As if it searched.
            bell.search.store(SEARCHING, Ordering::SeqCst);
        }
        bell.ring();
        bell.join(2);
        let second = bell.listen();
        assert!(!second.wait(Deadline::after(Duration::ZERO)), "not its ring");
        bell.search.store(0, Ordering::SeqCst);
        assert!(first.wait(Deadline::after(Duration::ZERO)));
    }
}

#[test]
fn a_ring_for_everybody_reaches_who_was_rung_before() {
    let bell = Bell::default();
    let slow = bell.listen();
    bell.ring();
    // It was rung and sleeps on; the ring for everybody comes, and then one who takes its permit.
    bell.ring_all();
    let quick = bell.listen();
    assert!(
        !quick.wait(Deadline::after(Duration::ZERO)),
        "registered after it"
    );
    assert!(slow.wait(Deadline::after(Duration::ZERO)));
    assert_eq!(bell.waiting(), 0);
}

/// Three take items that one puts down, and ring for; nobody waits for ever while there is one.
fn leaves_no_item_behind(wait: impl Fn(Listener<'_>) + Sync) {
    let (bell, items, taken) = (Bell::default(), AtomicUsize::new(0), AtomicUsize::new(0));
    const N: usize = 50_000;
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while taken.load(Ordering::SeqCst) < N {
                    let listener = bell.listen();
                    let less = |n: usize| n.checked_sub(1);
                    if items
                        .fetch_update(Ordering::SeqCst, Ordering::SeqCst, less)
                        .is_ok()
                    {
                        drop(listener);
                        if taken.fetch_add(1, Ordering::SeqCst) + 1 == N {
                            bell.ring_all();
                        }
                    } else if taken.load(Ordering::SeqCst) < N {
                        wait(listener);
                    }
                }
            });
        }
        for _ in 0..N {
            items.fetch_add(1, Ordering::SeqCst);
            bell.ring();
        }
    });
    assert_eq!((taken.into_inner(), bell.waiting()), (N, 0));
}

#[test]
fn no_item_is_left_behind() {
    leaves_no_item_behind(|listener| {
        listener.wait(Deadline::NEVER);
    });
}

#[test]
fn no_item_is_left_behind_by_searchers() {
    leaves_no_item_behind(|listener| {
        listener.search(Deadline::NEVER);
    });
}

/// A ring that comes after the register was looked at, and before the search begins, and so on: whenever it
/// comes, the searcher hears it, and nobody is rung twice.
#[test]
fn a_searcher_hears_every_ring() {
    let bell = Bell::default();
    let (first, second) = (bell.listen(), bell.listen());
    bell.ring();
    assert!(first.search(Deadline::NEVER), "rung before it searched");
    assert!(!second.search(Deadline::after(Duration::ZERO)), "not rung");
    assert_eq!((bell.waiting(), bell.search.load(Ordering::SeqCst)), (0, 0));
}

#[test]
fn calls_beyond_its_own_wake_others() {
    let bell = Bell::default();
    let (searcher, others) = (bell.listen(), [bell.listen(), bell.listen()]);
    bell.search.store(SEARCHING, Ordering::SeqCst);
    for _ in 0..5 {
        bell.ring();
    }
    assert_eq!(
        bell.search.load(Ordering::SeqCst),
        SEARCHING + 3 * CALL,
        "there are three"
    );
    assert_eq!((bell.waiting(), bell.sleeps()), (3, 0));
    bell.search.store(0, Ordering::SeqCst);
    let mut register = lock(&bell.register);
    assert_eq!(register.ring(3), 3);
    assert!(searcher.answer(register, 2));
    assert!(
        others
            .into_iter()
            .all(|o| o.wait(Deadline::after(Duration::ZERO)))
    );
    assert_eq!(bell.waiting(), 0);
}

#[test]
fn a_ring_for_all_ends_a_search() {
    let bell = Bell::default();
    std::thread::scope(|scope| {
        for _ in 0..200 {
            let (searcher, sleeper) = (bell.listen(), bell.listen());
            let searching = scope.spawn(|| searcher.search(Deadline::NEVER));
            bell.ring_all();
            assert!(searching.join().unwrap() && sleeper.wait(Deadline::after(Duration::ZERO)));
        }
    });
    assert_eq!((bell.waiting(), bell.search.load(Ordering::SeqCst)), (0, 0));
}
