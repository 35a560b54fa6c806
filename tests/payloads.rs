//! How often payloads ask the allocator for memory. The count is of the whole process, so there is one test
//! here and nothing beside it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use forebay::Payload;

#[global_allocator]
static COUNTING: Counting = Counting;
static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator, with a count of what it was asked for.
struct Counting;

// SAFETY: all is left to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: as required of the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as required of the caller.
        unsafe { System.dealloc(block, layout) }
    }
}

const WARM_UP: usize = 20_000;
const COUNTED: usize = 100_000;
const QUEUE: usize = 1_000;

/// One thread makes payloads and keeps a clone for a moment, another drops them: once there are as many
/// blocks as the queue between them holds, no more memory is asked for.
#[test]
fn small_payloads_use_their_memory_again() {
    for (name, make) in MAKERS {
        let (to, from) = sync_channel(QUEUE);
        let (empty, emptied) = sync_channel(1);
        let worker = thread::spawn(move || work(&from, &empty));
        push(&to, *make, WARM_UP);
        emptied.recv().expect("the worker is there");
        let before = ALLOCATIONS.load(Relaxed);
        push(&to, *make, COUNTED);
        emptied.recv().expect("the worker is there");
        let count = ALLOCATIONS.load(Relaxed) - before;
        drop(to);
        worker.join().expect("the worker met what it expected");
        assert!(
            count * 20 <= COUNTED,
            "{name}: {count} allocations for {COUNTED} payloads"
        );
    }
}

type Make = fn(usize) -> Payload;

const MAKERS: &[(&str, Make)] = &[
    ("100 bytes", |n| Payload::from(&[n as u8; 100])),
    ("0 to 248 bytes", |n| Payload::from(&[n as u8; 248][..n % 249])),
    ("text", |_| Payload::from("to be or not to be")),
    ("JSON", |n| {
        Payload::json(&("a string", n, [1.5, 2.5])).expect("JSON")
    }),
    ("nothing", |_| Payload::empty()),
];

fn push(to: &SyncSender<Option<Payload>>, make: Make, count: usize) {
    for n in 0..count {
        let payload = make(n);
        to.send(Some(payload.clone())).expect("the worker is there");
        drop(payload);
    }
    to.send(None).expect("the worker is there");
}

/// Says each time when the queue has run empty.
fn work(from: &Receiver<Option<Payload>>, empty: &SyncSender<()>) {
    for payload in from {
        match payload {
            Some(payload) => assert!(payload.as_bytes().is_some_and(|bytes| bytes.len() <= 248)),
            None => empty.send(()).expect("the test waits"),
        }
    }
}
