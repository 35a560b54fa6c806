//! Jobs with a concurrency key over a file.

use std::collections::HashMap;

use super::*;

/// A dispatcher that runs one job of a key at a time.
fn one_at_a_time(path: &Path) -> Dispatcher {
    let engine = Arc::new(DurableEngine::open(path, NEVER).unwrap());
    let mut options = Options::default();
    options.set("key_concurrency", "1").unwrap();
    Dispatcher::with_engine(engine, options).unwrap()
}

fn push_keys(d: &Dispatcher, letters: &str) -> Vec<JobId> {
    let push = |letter: char| match letter {
        '-' => push(d),
        _ => d.push(job().concurrency_key(letter.to_string())).unwrap().id,
    };
    letters.chars().map(push).collect()
}

/// The places in `ids` of the jobs that can be claimed, as they are given out.
fn order(d: &Dispatcher, ids: &[JobId]) -> (Vec<usize>, Vec<Lease>) {
    let leases: Vec<Lease> = std::iter::from_fn(|| claim(d)).collect();
    let place = |lease: &Lease| ids.iter().position(|id| *id == lease.id()).unwrap();
    (leases.iter().map(place).collect(), leases)
}

#[test]
fn keys_take_turns_again_after_a_crash() {
    let rig = Rig::new();
    let d = rig.open();
    let ids = push_keys(&d, "aaab-b-");
    let copy = rig.crashed();
    let again = copy.open();
    // The line has the first turn, then the keys as they were read.
    assert_eq!(order(&again, &ids).0, [4, 0, 3, 6, 1, 5, 2]);
    stop(&d);
    stop(&again);
}

#[test]
fn what_ran_when_the_process_died_is_counted_until_it_is_decided() {
    let rig = Rig::new();
    let d = one_at_a_time(&rig.path());
    let ids = push_keys(&d, "aab");
    let (first, leases) = order(&d, &ids);
    assert_eq!(first, [0, 2]);
    d.flush().unwrap();
    let copy = rig.crashed();
    let again = one_at_a_time(&copy.path());
    again.upkeep().unwrap();
    // Both ran: they come back behind those that waited, and one of a key runs at a time.
    let (next, running) = order(&again, &ids);
    assert_eq!(next.len(), 2, "{next:?}");
    assert!(next.contains(&1) && next.contains(&2));
    let done = running
        .into_iter()
        .map(|lease| lease.complete(Outcome::done()).unwrap());
    assert_eq!(done.count(), 2);
    assert_eq!(order(&again, &ids).0, [0]);
    drop(leases);
    stop(&d);
    stop(&again);
}

#[test]
fn jobs_with_a_key_stay_in_memory_and_keep_their_order() {
    let rig = Rig::new();
    let (engine, d) = spilling(&rig.path());
    let letters: Vec<char> = "-a-b-".repeat(MANY / 5).chars().collect();
    let of_letter = |letter: &char| match letter {
        '-' => job(),
        _ => job().concurrency_key(letter.to_string()),
    };
    let jobs: Vec<_> = letters.iter().map(of_letter).collect();
    let ids: Vec<JobId> = d.push_many(&jobs).unwrap().iter().map(|p| p.id).collect();
    let spilled = engine.memory.spilled();
    assert!(0 < spilled && spilled <= MANY * 3 / 5, "{spilled}");
    let letter: HashMap<JobId, char> = ids.iter().copied().zip(letters).collect();
    let seen = run_all(&d);
    for wanted in ['-', 'a', 'b'] {
        let of =
            |ids: &[JobId]| -> Vec<JobId> { ids.iter().copied().filter(|id| letter[id] == wanted).collect() };
        assert!(of(&seen) == of(&ids), "{wanted}: each flow in its order");
    }
    stop(&d);
}
