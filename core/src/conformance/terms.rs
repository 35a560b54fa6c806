//! Named leases with a growing term: who leads.

use std::time::Duration;

use super::Make;
use super::stage::{Raw, SECOND};
use crate::engine::Coordinator;

fn coordinator(raw: &Raw) -> &dyn Coordinator {
    raw.engine.coordinator()
}

/// A lease has one holder until it ends, and the next one has a higher term.
pub fn a_term_has_one_holder(make: Make<'_>) {
    let raw = Raw::new(make);
    let leads = coordinator(&raw);
    let first = leads
        .acquire("cron", "a", SECOND * 10, raw.now())
        .unwrap()
        .unwrap();
    assert_eq!(
        (&*first.name, &*first.holder, first.until),
        ("cron", "a", raw.in_(SECOND * 10))
    );
    for holder in ["a", "b"] {
        assert_eq!(leads.acquire("cron", holder, SECOND, raw.now()).unwrap(), None);
    }
    let other = leads.acquire("other", "b", SECOND, raw.now()).unwrap();
    assert!(other.is_some(), "names are apart");
    assert!(leads.release(&first).unwrap());
    assert!(!leads.release(&first).unwrap(), "it is over");
    let second = leads.acquire("cron", "b", SECOND, raw.now()).unwrap().unwrap();
    assert!(second.term > first.term);
    assert_eq!(leads.renew(&first, SECOND, raw.now()).unwrap(), None);
    assert!(
        !leads.release(&first).unwrap(),
        "whoever held it before ends nothing"
    );
    assert_eq!(leads.acquire("cron", "a", SECOND, raw.now()).unwrap(), None);
}

/// F5: a lease that is renewed goes on, and one that has ended can be taken, but not renewed.
pub fn a_term_ends_with_its_time(make: Make<'_>) {
    let raw = Raw::new(make);
    let leads = coordinator(&raw);
    let first = leads
        .acquire("cron", "a", SECOND * 10, raw.now())
        .unwrap()
        .unwrap();
    raw.advance(SECOND * 9);
    let renewed = leads.renew(&first, SECOND * 10, raw.now()).unwrap().unwrap();
    assert_eq!((renewed.term, renewed.until), (first.term, raw.in_(SECOND * 10)));
    raw.advance(SECOND * 10 - Duration::from_micros(1));
    assert_eq!(leads.acquire("cron", "b", SECOND, raw.now()).unwrap(), None);
    raw.advance(Duration::from_micros(1));
    assert_eq!(
        leads.renew(&renewed, SECOND, raw.now()).unwrap(),
        None,
        "it is too late"
    );
    let second = leads.acquire("cron", "b", SECOND, raw.now()).unwrap().unwrap();
    assert!(second.term > renewed.term);
}

/// Of many who ask at once, one gets it; terms are never given twice.
pub fn a_term_is_given_once(make: Make<'_>) {
    let raw = Raw::new(make);
    let (engine, now) = (&raw.engine, raw.now());
    let mut terms: Vec<u64> = std::thread::scope(|scope| {
        let ask = || {
            let (mut mine, leads) = (Vec::new(), engine.coordinator());
            while mine.len() < 20 {
                if let Some(term) = leads.acquire("cron", "x", SECOND, now).unwrap() {
                    mine.push(term.term);
                    assert!(leads.release(&term).unwrap());
                }
            }
            mine
        };
        let asking: Vec<_> = (0..3).map(|_| scope.spawn(ask)).collect();
        asking.into_iter().flat_map(|a| a.join().unwrap()).collect()
    });
    terms.sort_unstable();
    terms.dedup();
    assert_eq!(terms.len(), 60);
}
