//! Rules that are changed or taken away while they hold something back, and rules at their edges.

use super::*;
use crate::Timestamp;
use crate::dispatcher::pace::{Pace, Starts};

#[test]
fn starts_given_back_late_are_not_had_twice() {
    let pace = Pace::new("10/s burst=10".parse().unwrap(), None);
    let at = |s| Timestamp::EPOCH.after(Duration::from_secs(s));
    let take = |now, want| match pace.take(now, want) {
        Starts::Some(got) => got,
        Starts::NotBefore(_) => 0,
    };
    assert_eq!(take(at(0), 10), 10);
    // That claim takes its time. Meanwhile all of them would be there again.
    assert_eq!(take(at(100), 10), 0, "they may yet be used");
    assert!(pace.settle(at(0), 3, 7), "somebody found none");
    assert_eq!(take(at(100), 7), 7);
    assert_eq!(take(at(100), 7), 3);
    assert!(!pace.settle(at(100), 1, 2));
    assert!(!pace.settle(at(100), 7, 0));
    assert_eq!((take(at(100), 9), take(at(100), 9)), (2, 0));
    let _ = pace.settle(at(100), 0, 2);
    let slower = Pace::new("1/s".parse().unwrap(), Some(&pace));
    let next = at(100).after(Duration::from_millis(800));
    assert_eq!(slower.next(at(100)), next, "what was used counts at another rate");
}
