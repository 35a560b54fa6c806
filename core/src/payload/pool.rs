//! Memory for small blocks, which one thread takes and another gives back.
//!
//! A job is made by a producer and dropped by a worker. That is the dear path of a general allocator: it
//! returns each block by itself to the arena it came from, under that arena's lock. Here a thread keeps two
//! [magazines](super::magazine) of free blocks per size, and exchanges a full one for an empty one, or the
//! other way round, at a depot that all threads share: two atomic steps per 62 blocks, and no memory from
//! the system once there are as many blocks as were ever in use at a time. The scheme is Bonwick's
//! (*Magazines and Vmem*, 2001).
//!
//! Memory that was needed once is kept to be used again; none goes back to the system. What a thread hoards
//! is bounded by its two magazines per size, and goes to the depot when it ends.

use std::alloc::{Layout, alloc, dealloc};
use std::cell::Cell;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr, Ordering};

use crossbeam_utils::CachePadded;

use super::magazine::{Held, Magazines, ROUNDS, Stack};

/// The sizes of blocks. All are multiples of the alignment.
const SIZES: [usize; CLASSES] = [16, 32, 48, 64, 80, 96, 112, 144, 192, 256];
const CLASSES: usize = 10;
const ALIGN: usize = 16;
/// The largest size that is pooled.
pub(super) const LARGEST: usize = SIZES[CLASSES - 1];

/// The smallest class that fits, by the size in units of the alignment, rounded up.
const FITTING: [u8; LARGEST / ALIGN + 1] = {
    let mut table = [0; LARGEST / ALIGN + 1];
    let (mut units, mut class) = (0, 0);
    while units < table.len() {
        if SIZES[class] < units * ALIGN {
            class += 1;
        }
        table[units] = class as u8;
        units += 1;
    }
    table
};

#[cfg(not(shuttle))]
static DEPOT: Depot = Depot::new();

#[cfg(not(shuttle))]
thread_local! {
    static CACHE: Own = const { Own(Cache::new()) };
}

/// Memory of this layout; `None` if there is none.
#[cfg(not(shuttle))]
#[inline]
pub(super) fn allocate(layout: Layout) -> Option<NonNull<u8>> {
    match class(layout) {
        Some(class) => CACHE
            .try_with(|own| own.0.take(&DEPOT, class))
            .unwrap_or_else(|_| DEPOT.take(class)),
        None => from_system(layout),
    }
}

/// Gives memory back, on any thread, however far that has ended.
///
/// # Safety
/// It came from [`allocate`] with the same layout, and nobody uses it any more.
#[cfg(not(shuttle))]
#[inline]
pub(super) unsafe fn free(block: NonNull<u8>, layout: Layout) {
    match class(layout) {
        Some(class) => CACHE
            .try_with(|own| own.0.give(&DEPOT, class, block))
            .unwrap_or_else(|_| DEPOT.give(class, block)),
        // SAFETY: as required of the caller; memory without a class is the system's.
        None => unsafe { dealloc(block.as_ptr(), layout) },
    }
}

/// Statics would outlive a run of the model checker: the depot is modelled by itself, and everybody else
/// has the system's memory.
#[cfg(shuttle)]
pub(super) fn allocate(layout: Layout) -> Option<NonNull<u8>> {
    from_system(layout)
}

#[cfg(shuttle)]
pub(super) unsafe fn free(block: NonNull<u8>, layout: Layout) {
    // SAFETY: as required of the caller.
    unsafe { dealloc(block.as_ptr(), layout) };
}

fn from_system(layout: Layout) -> Option<NonNull<u8>> {
    debug_assert_ne!(layout.size(), 0, "every block has a header");
    // SAFETY: the layout is not empty.
    NonNull::new(unsafe { alloc(layout) })
}

/// The class that serves a layout, if one does.
#[inline]
fn class(layout: Layout) -> Option<usize> {
    let units = layout.size().div_ceil(ALIGN);
    let class = FITTING.get(units).filter(|_| layout.align() <= ALIGN)?;
    Some(usize::from(*class))
}

/// The cache of this thread, as long as it has one.
#[cfg(not(shuttle))]
struct Own(Cache<'static>);

#[cfg(not(shuttle))]
impl Drop for Own {
    fn drop(&mut self) {
        self.0.give_up(&DEPOT);
    }
}

/// What one thread keeps.
struct Cache<'d> {
    pairs: [Pair<'d>; CLASSES],
}

/// Two magazines of one class, so that taking and giving by turns does not go to the depot each time. Whoever
/// works with them takes them out: an allocator of the program's that came back here would find none.
struct Pair<'d> {
    loaded: Cell<Option<Held<'d>>>,
    spare: Cell<Option<Held<'d>>>,
}

impl<'d> Cache<'d> {
    const fn new() -> Self {
        let pairs = [const {
            Pair {
                loaded: Cell::new(None),
                spare: Cell::new(None),
            }
        }; CLASSES];
        Self { pairs }
    }

    #[inline]
    fn take(&self, depot: &'d Depot, class: usize) -> Option<NonNull<u8>> {
        let pair = &self.pairs[class];
        let mut loaded = pair.loaded.take();
        let block = loaded.as_mut().and_then(Held::pop);
        if block.is_some() {
            pair.loaded.set(loaded);
            return block;
        }
        self.reload(depot, class, loaded)
    }

    #[inline]
    fn give(&self, depot: &'d Depot, class: usize, block: NonNull<u8>) {
        let pair = &self.pairs[class];
        let mut loaded = pair.loaded.take();
        if loaded.as_mut().is_some_and(|held| held.push(block)) {
            pair.loaded.set(loaded);
            return;
        }
        self.unload(depot, class, loaded, block);
    }

    /// Takes a block when the loaded magazine has none.
    #[cold]
    fn reload(&self, depot: &'d Depot, class: usize, empty: Option<Held<'d>>) -> Option<NonNull<u8>> {
        let pair = &self.pairs[class];
        let (mut loaded, spare) = match pair.spare.take() {
            Some(spare) if spare.len() > 0 => (Some(spare), empty),
            spare => match (depot.full[class].pop(&depot.magazines), empty, spare) {
                (Some(full), Some(empty), Some(spare)) => {
                    depot.empty.push(spare);
                    (Some(full), Some(empty))
                }
                (Some(full), empty, spare) => (Some(full), empty.or(spare)),
                (None, empty, spare) => (depot.carved(class, empty), spare),
            },
        };
        let block = loaded.as_mut().and_then(Held::pop);
        pair.loaded.set(loaded);
        pair.spare.set(spare);
        block
    }

    /// Gives a block back when the loaded magazine has no room.
    #[cold]
    fn unload(&self, depot: &'d Depot, class: usize, full: Option<Held<'d>>, block: NonNull<u8>) {
        let pair = &self.pairs[class];
        let mut loaded = match pair.spare.take() {
            Some(spare) if spare.len() < ROUNDS => Some(spare),
            spare => {
                spare.into_iter().for_each(|held| depot.full[class].push(held));
                depot.blank()
            }
        };
        // Without memory for another magazine the block is lost, and nothing else.
        let _ = loaded.as_mut().is_some_and(|held| held.push(block));
        pair.loaded.set(loaded);
        pair.spare.set(full);
    }

    /// Gives everything back.
    fn give_up(&self, depot: &'d Depot) {
        for (class, pair) in self.pairs.iter().enumerate() {
            let both = [pair.loaded.take(), pair.spare.take()];
            both.into_iter()
                .flatten()
                .for_each(|held| depot.merge(class, held));
        }
    }
}

/// What all threads share.
struct Depot {
    /// Magazines with blocks, by class. Only those that a thread left when it ended may have room.
    full: [CachePadded<Stack>; CLASSES],
    /// Magazines without blocks.
    empty: CachePadded<Stack>,
    magazines: Magazines,
    /// All memory that was ever had from the system, so that tools which look for leaks find it.
    chunks: AtomicPtr<Chunk>,
}

/// The head of memory that is cut into as many blocks as a magazine holds. As large as a line, so that
/// blocks of whole lines lie in whole lines.
#[repr(C, align(64))]
struct Chunk {
    class: usize,
    next: *mut Chunk,
}

impl Depot {
    const fn new() -> Self {
        Self {
            full: [const { CachePadded::new(Stack::new()) }; CLASSES],
            empty: CachePadded::new(Stack::new()),
            magazines: Magazines::new(),
            chunks: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// A block for a thread without a cache.
    #[cold]
    fn take(&self, class: usize) -> Option<NonNull<u8>> {
        let full = self.full[class].pop(&self.magazines);
        let mut held = full.or_else(|| self.carved(class, None))?;
        let block = held.pop();
        self.put(class, held);
        block
    }

    /// A block back from a thread without a cache. Without memory for a magazine it is lost.
    #[cold]
    fn give(&self, class: usize, block: NonNull<u8>) {
        if let Some(mut held) = self.blank() {
            let _ = held.push(block);
            self.merge(class, held);
        }
    }

    /// A magazine without blocks, unless there is no memory for one.
    fn blank(&self) -> Option<Held<'_>> {
        let used = self.empty.pop(&self.magazines);
        used.or_else(|| self.magazines.make())
    }

    /// Puts a magazine back.
    fn put(&self, class: usize, held: Held<'_>) {
        let stack = if held.len() > 0 {
            &self.full[class]
        } else {
            &self.empty
        };
        stack.push(held);
    }

    /// Puts a magazine back, first filling up the one on top: blocks that come one by one, or from threads
    /// that come and go, shall not take a magazine each.
    fn merge(&self, class: usize, mut held: Held<'_>) {
        if let Some(mut top) = self.full[class].pop(&self.magazines) {
            while top.len() < ROUNDS
                && let Some(block) = held.pop()
            {
                let _ = top.push(block);
            }
            self.full[class].push(top);
        }
        self.put(class, held);
    }

    /// A magazine of new blocks: this one, which is empty, or another. Without memory it stays empty.
    fn carved<'d>(&'d self, class: usize, empty: Option<Held<'d>>) -> Option<Held<'d>> {
        let mut held = empty.or_else(|| self.blank())?;
        let Some(chunk) = from_system(Chunk::layout(class)) else {
            return Some(held);
        };
        for round in (0..ROUNDS).rev() {
            // SAFETY: the layout has room for a head and this many blocks.
            let block = unsafe { chunk.add(size_of::<Chunk>() + round * SIZES[class]) };
            let _ = held.push(block);
        }
        self.keep(chunk.cast(), class);
        Some(held)
    }

    /// Adds a chunk to the list of all.
    fn keep(&self, chunk: NonNull<Chunk>, class: usize) {
        let mut next = self.chunks.load(Ordering::Relaxed);
        loop {
            // SAFETY: the chunk begins with its head, and nobody else knows it yet.
            unsafe { chunk.write(Chunk { class, next }) };
            let added =
                self.chunks
                    .compare_exchange_weak(next, chunk.as_ptr(), Ordering::Release, Ordering::Relaxed);
            match added {
                Ok(_) => return,
                Err(now) => next = now,
            }
        }
    }
}

impl Chunk {
    fn layout(class: usize) -> Layout {
        let size = size_of::<Self>() + ROUNDS * SIZES[class];
        Layout::from_size_align(size, align_of::<Self>()).expect("a few kilobytes are a valid size")
    }
}

/// The depot of the process lives as long as the process; those of tests do not.
impl Drop for Depot {
    fn drop(&mut self) {
        let mut chunk = *self.chunks.get_mut();
        while let Some(head) = NonNull::new(chunk) {
            // SAFETY: a chunk of the list begins with a head that was written before it was added.
            let Chunk { class, next } = unsafe { head.read() };
            // SAFETY: it was had with this layout. Who drops a depot has dropped what borrows it, and with
            // the magazines the only way to its blocks.
            unsafe { dealloc(chunk.cast(), Chunk::layout(class)) };
            chunk = next;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    impl Depot {
        /// How many blocks, by magazine, the depot has of a class; it has none of them afterwards.
        fn drained(&self, class: usize) -> Vec<usize> {
            let popped = std::iter::from_fn(|| self.full[class].pop(&self.magazines));
            popped.map(|held| held.len()).collect()
        }

        fn magazines_made(&self) -> u32 {
            self.magazines.made()
        }
    }

    #[test]
    fn the_smallest_class_that_fits_serves() {
        for size in 1..=LARGEST {
            let class = class(Layout::from_size_align(size, 8).unwrap()).unwrap();
            assert!(SIZES[class] >= size, "{size}");
            assert!(class == 0 || SIZES[class - 1] < size, "{size}");
        }
        assert_eq!(class(Layout::from_size_align(LARGEST + 1, 8).unwrap()), None);
        assert_eq!(class(Layout::from_size_align(64, 32).unwrap()), None);
        assert_eq!(
            SIZES[class(Layout::from_size_align(8 + 100, 8).unwrap()).unwrap()],
            112
        );
    }

    #[test]
    fn what_a_thread_leaves_others_use() {
        let depot = Depot::new();
        let cache = Cache::new();
        let blocks: Vec<_> = (0..3 * ROUNDS).map(|_| cache.take(&depot, 2).unwrap()).collect();
        assert_eq!(blocks.iter().collect::<HashSet<_>>().len(), blocks.len());
        blocks.iter().for_each(|block| cache.give(&depot, 2, *block));
        cache.give_up(&depot);
        let next = Cache::new();
        let again: HashSet<_> = (0..3 * ROUNDS).map(|_| next.take(&depot, 2).unwrap()).collect();
        assert_eq!(again, blocks.into_iter().collect());
    }

    /// Threads that come, free one block and go do not cost a magazine each, nor do blocks that come back
    /// from threads without a cache.
    #[test]
    fn single_blocks_are_gathered() {
        let depot = Depot::new();
        let blocks: Vec<_> = (0..4 * ROUNDS).map(|_| depot.take(0).unwrap()).collect();
        for (number, block) in blocks.iter().enumerate() {
            if number % 2 == 0 {
                depot.give(0, *block);
            } else {
                let cache = Cache::new();
                cache.give(&depot, 0, *block);
                cache.give_up(&depot);
            }
        }
        assert!(depot.magazines_made() <= 6, "{}", depot.magazines_made());
        assert_eq!(depot.drained(0), [ROUNDS; 4]);
    }

    /// A thread that takes and one that gives, for long: no more memory than is out at a time.
    #[test]
    fn a_pipeline_does_not_grow() {
        let depot = Depot::new();
        let (taker, giver) = (Cache::new(), Cache::new());
        for _ in 0..100 {
            let out: Vec<_> = (0..ROUNDS + 7).map(|_| taker.take(&depot, 6).unwrap()).collect();
            out.into_iter().for_each(|block| giver.give(&depot, 6, block));
        }
        [taker, giver].iter().for_each(|cache| cache.give_up(&depot));
        let blocks: usize = depot.drained(6).into_iter().sum();
        assert!(blocks <= 6 * ROUNDS, "{blocks}");
        assert!(depot.magazines_made() <= 8, "{}", depot.magazines_made());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 64 }))]

        /// However threads take, give and end: a block is with one of them at a time, and none is lost.
        #[test]
        fn no_block_is_given_twice(
            steps in prop::collection::vec((0..3usize, 0..2usize, any::<bool>(), 1..80usize), 1..60),
        ) {
            let depot = Depot::new();
            let mut caches = [Cache::new(), Cache::new(), Cache::new()];
            let (mut out, mut seen) = ([Vec::new(), Vec::new()], HashSet::new());
            for (who, class, take, count) in steps {
                for _ in 0..count {
                    if take {
                        let block = caches[who].take(&depot, class).unwrap();
                        seen.insert((class, block));
                        prop_assert!(!out[class].contains(&block));
                        out[class].push(block);
                    } else if let Some(block) = out[class].pop() {
                        caches[who].give(&depot, class, block);
                    }
                }
                if count == 79 {
                    caches[who].give_up(&depot);
                    caches[who] = Cache::new();
                }
            }
            caches.iter().for_each(|cache| cache.give_up(&depot));
            for (class, out) in out.iter().enumerate() {
                let all = depot.drained(class).into_iter().sum::<usize>() + out.len();
                prop_assert_eq!(all % ROUNDS, 0, "only whole chunks are made");
                prop_assert!(seen.iter().filter(|(of, _)| *of == class).count() <= all);
            }
        }
    }

    /// Threads that exchange blocks in both directions, each writing its name into what it holds.
    #[test]
    #[cfg(not(shuttle))]
    fn blocks_belong_to_one_thread_at_a_time() {
        struct Moved(NonNull<u8>);
        // SAFETY: whoever sends a block does not touch it any more.
        unsafe impl Send for Moved {}
        let depot = Depot::new();
        let rounds = if cfg!(miri) { 3 } else { 300 };
        let (to, from): (Vec<_>, Vec<_>) = (0..3).map(|_| crossbeam_channel::unbounded()).unzip();
        std::thread::scope(|scope| {
            for (me, from) in from.into_iter().enumerate() {
                let (to, depot) = (to[(me + 1) % 3].clone(), &depot);
                scope.spawn(move || {
                    let cache = Cache::new();
                    for _ in 0..rounds {
                        let mine: Vec<_> = (0..ROUNDS * 5 / 4)
                            .map(|_| cache.take(depot, 0).unwrap())
                            .collect();
                        // SAFETY: the blocks were just taken, and have 16 bytes.
                        mine.iter().for_each(|block| unsafe { block.cast().write(me) });
                        for block in mine {
                            // SAFETY: as above; nobody else may have written.
                            assert_eq!(unsafe { block.cast::<usize>().read() }, me);
                            to.send(Moved(block)).unwrap();
                        }
                        for Moved(block) in from.try_iter() {
                            // SAFETY: the sender has left it to this thread.
                            assert_eq!(unsafe { block.cast::<usize>().read() }, (me + 2) % 3);
                            cache.give(depot, 0, block);
                        }
                    }
                    drop(to);
                    from.iter().for_each(|Moved(block)| cache.give(depot, 0, block));
                    cache.give_up(depot);
                });
            }
            drop(to);
        });
        assert!(depot.drained(0).iter().all(|len| *len <= ROUNDS));
    }
}
