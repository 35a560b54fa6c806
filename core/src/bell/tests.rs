use super::*;
use crate::wakeup::readable;
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

fn pagers<const N: usize>() -> [Arc<Pager>; N] {
    std::array::from_fn(|_| Pager::new().expect("there are descriptors"))
}

fn lit(pagers: &[Arc<Pager>]) -> usize {
    let lit = pagers.iter().filter(|pager| readable(pager.wakeup.fd()));
    lit.count()
}

#[test]
fn a_ring_reaches_one_pager() {
    let (bell, pagers) = (Bell::default(), pagers::<3>());
    pagers.iter().for_each(|pager| bell.hang_up(pager));
    assert_eq!((lit(&pagers), bell.waiting()), (0, 3));
    for rung in 1..=3 {
        bell.ring();
        assert_eq!((lit(&pagers), bell.waiting()), (rung, 3 - rung));
    }
    bell.ring();
    assert!(pagers.iter().all(|pager| bell.take_down(pager)));
}

#[test]
fn a_ring_for_all_reaches_every_pager() {
    let (bell, pagers) = (Bell::default(), pagers::<3>());
    pagers.iter().for_each(|pager| bell.hang_up(pager));
    bell.ring_threads();
    assert_eq!((lit(&pagers), bell.waiting()), (0, 3), "that is for threads");
    bell.ring_all();
    assert_eq!((lit(&pagers), bell.waiting()), (3, 0));
}

#[test]
fn a_pager_that_is_taken_down_is_not_rung() {
    let (bell, pagers) = (Bell::default(), pagers::<3>());
    pagers.iter().for_each(|pager| bell.hang_up(pager));
    // The last one moves to its place.
    assert!(!bell.take_down(&pagers[0]));
    assert!(!bell.take_down(&pagers[2]));
    bell.ring();
    assert_eq!((lit(&pagers[1..2]), lit(&pagers)), (1, 1));
    // Hung up twice it is there once.
    (0..2).for_each(|_| bell.hang_up(&pagers[1]));
    assert_eq!((lit(&pagers), bell.waiting()), (0, 1));
}

#[test]
fn a_pager_that_goes_passes_its_ring_on() {
    let (bell, pagers) = (Bell::default(), pagers::<2>());
    pagers.iter().for_each(|pager| bell.hang_up(pager));
    bell.ring();
    let rung = usize::from(lit(&pagers[1..]) == 1);
    bell.retire(&pagers[rung]);
    assert_eq!((lit(&pagers), bell.waiting()), (2, 0));
    bell.retire(&pagers[1 - rung]);
    // One that was not rung has nothing to pass on.
    let [first, second] = self::pagers();
    bell.hang_up(&first);
    bell.hang_up(&second);
    bell.retire(&first);
    assert_eq!((lit(&[second]), bell.waiting()), (0, 1));
}

#[test]
fn a_listener_that_leaves_with_a_ring_pages() {
    let (bell, [pager]) = (Bell::default(), pagers());
    bell.hang_up(&pager);
    let listener = bell.listen();
    bell.ring();
    assert_eq!(lit(std::slice::from_ref(&pager)), 0, "a thread comes for certain");
    drop(listener);
    assert_eq!(
        (lit(&[pager]), bell.waiting()),
        (1, 0),
        "it has found another one"
    );
}

#[test]
fn a_searcher_pages_for_the_calls_it_leaves_behind() {
    let (bell, pagers) = (Bell::default(), pagers::<2>());
    pagers.iter().for_each(|pager| bell.hang_up(pager));
    let searcher = bell.listen();
    bell.search.store(SEARCHING, Ordering::SeqCst);
    for _ in 0..5 {
        bell.ring();
    }
    let calls = bell.search.swap(0, Ordering::SeqCst) / CALL;
    assert_eq!(
        (calls, lit(&pagers)),
        (3, 0),
        "there are three, and no call pages"
    );
    let mut register = lock(&bell.register);
    assert_eq!(register.ring(1), 1);
    assert!(searcher.answer(register, calls - 1));
    assert_eq!((lit(&pagers), bell.waiting()), (2, 0));
}
