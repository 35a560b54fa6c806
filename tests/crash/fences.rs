//! An answer that comes too late changes nothing. The cases are the engines' own; they stand here too because
//! a planted bug is active in a whole process, and this is the one that is started with it.

use std::sync::Arc;

use forebay::conformance::contract;
use forebay::engine::Engine;
use forebay::engine::memory::MemoryEngine;

#[test]
fn a_late_answer_changes_nothing() {
    let make = || Arc::new(MemoryEngine::new(100)) as Arc<dyn Engine>;
    contract::a_stale_fence_changes_nothing(&make);
    contract::the_fence_only_grows(&make);
}
