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

/// How a consumer of [`mixed_consumers`] waits.
#[derive(Clone, Copy)]
enum By {
    Thread,
    Searcher,
    Descriptor,
}

/// Takes items until there are none left, as the consumers of a dispatcher do that poll when their descriptor is
/// readable: take the pager down, look; hang it up when nothing was found, and look once more.
fn by_descriptor(bell: &Bell, items: &AtomicUsize, ended: &AtomicUsize, take_one: &dyn Fn()) {
    let pager = Pager::new().unwrap();
    while ended.load(Ordering::SeqCst) == 0 {
        pager.wakeup.wait();
        bell.take_down(&pager);
        let mut got = take(items);
        if !got {
            bell.hang_up(&pager);
            got = take(items);
        }
        if got || ended.load(Ordering::SeqCst) > 0 {
            bell.retire(&pager);
            pager.wakeup.ring();
        }
        if got {
            take_one();
        }
    }
    bell.retire(&pager);
}

fn by_thread(bell: &Bell, items: &AtomicUsize, ended: &AtomicUsize, search: bool, take_one: &dyn Fn()) {
    while ended.load(Ordering::SeqCst) == 0 {
        let listener = bell.listen();
        if take(items) {
            drop(listener);
            take_one();
        } else if ended.load(Ordering::SeqCst) == 0 {
            match search {
                true => listener.search(Deadline::NEVER),
                false => listener.wait(Deadline::NEVER),
            };
        }
    }
}

/// As many items as there are consumers, each of whom takes one and then is busy until every item is taken: were
/// a ring to go to one who is busy while another is idle, that schedule would not end.
fn mixed_consumers(ways: &'static [By]) {
    let (bell, meeting) = (Arc::new(Bell::default()), Arc::new(Bell::default()));
    let (items, taken, ended) = (
        Arc::new(AtomicUsize::new(0)),
        Arc::new(AtomicUsize::new(0)),
        Arc::new(AtomicUsize::new(0)),
    );
    let all = ways.len();
    let consumers: Vec<_> = ways
        .iter()
        .map(|way| {
            let (bell, meeting) = (bell.clone(), meeting.clone());
            let (items, taken, ended) = (items.clone(), taken.clone(), ended.clone());
            shuttle::thread::spawn(move || {
                let take_one = || {
                    if taken.fetch_add(1, Ordering::SeqCst) + 1 == all {
                        ended.store(1, Ordering::SeqCst);
                        meeting.ring_all();
                        bell.ring_all();
                    }
                    loop {
                        let listener = meeting.listen();
                        if ended.load(Ordering::SeqCst) > 0 {
                            break;
                        }
                        listener.wait(Deadline::NEVER);
                    }
                };
                match way {
                    By::Descriptor => by_descriptor(&bell, &items, &ended, &take_one),
                    By::Thread => by_thread(&bell, &items, &ended, false, &take_one),
                    By::Searcher => by_thread(&bell, &items, &ended, true, &take_one),
                }
            })
        })
        .collect();
    for _ in 0..all {
        items.fetch_add(1, Ordering::SeqCst);
        bell.ring();
    }
    for consumer in consumers {
        consumer.join().unwrap();
    }
    assert_eq!(bell.waiting(), 0);
}

/// The same for more threads, of whose schedules fewer are tried.
fn glance(model: fn()) {
    shuttle::check_random(model, 1_000);
    shuttle::check_pct(model, 1_000, 3);
}

#[test]
fn no_ring_is_lost_on_descriptors() {
    explore(|| mixed_consumers(&[By::Descriptor, By::Descriptor]));
    glance(|| mixed_consumers(&[By::Descriptor, By::Descriptor, By::Descriptor]));
}

#[test]
fn no_ring_is_lost_between_threads_and_descriptors() {
    glance(|| mixed_consumers(&[By::Thread, By::Descriptor]));
    glance(|| mixed_consumers(&[By::Thread, By::Descriptor, By::Descriptor]));
    glance(|| mixed_consumers(&[By::Searcher, By::Descriptor]));
    glance(|| mixed_consumers(&[By::Searcher, By::Descriptor, By::Thread]));
}

/// One of two is rung for the only item, or is not, and goes without looking: the other one gets it.
#[test]
fn a_descriptor_that_goes_passes_its_ring_on() {
    explore(|| {
        let (bell, items) = (Arc::new(Bell::default()), Arc::new(AtomicUsize::new(0)));
        let (stays, goes) = (Pager::new().unwrap(), Pager::new().unwrap());
        bell.hang_up(&stays);
        bell.hang_up(&goes);
        let pusher = {
            let (bell, items) = (bell.clone(), items.clone());
            shuttle::thread::spawn(move || {
                items.fetch_add(1, Ordering::SeqCst);
                bell.ring();
            })
        };
        let goer = {
            let bell = bell.clone();
            shuttle::thread::spawn(move || bell.retire(&goes))
        };
        loop {
            stays.wakeup.wait();
            bell.take_down(&stays);
            if take(&items) {
                break;
            }
            bell.hang_up(&stays);
            if take(&items) {
                break;
            }
        }
        bell.retire(&stays);
        pusher.join().unwrap();
        goer.join().unwrap();
    });
}
