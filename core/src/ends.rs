//! Where one who waits for many jobs is told of their ends: a list of interests, and of those that there is news of.
//!
//! An interest is there until its end is taken or it is taken back, whichever comes first, and both happen under one
//! lock: so each is told exactly once, or not at all.

use std::collections::{HashMap, VecDeque};

use crate::bell::Bell;
use crate::error::Result;
use crate::id::JobId;
use crate::job::State;
use crate::sync::{Mutex, lock};
use crate::wakeup::LateWakeup;

/// The interests of one who waits for many ends. Any thread.
#[derive(Debug, Default)]
pub(crate) struct Ends {
    heard: Mutex<Heard>,
    /// Rung for threads that wait.
    pub(crate) bell: Bell,
    pub(crate) wakeup: LateWakeup,
}

/// An interest: the number that whoever waits knows it by, and one that no other interest of the process has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Tag {
    pub(crate) name: u64,
    serial: u64,
}

/// The end of a job, as whoever [watches](crate::Watcher) it is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct WatchedEnd {
    /// What the job was watched under.
    pub tag: u64,
    /// Which job.
    pub id: JobId,
    /// Its final state; `None` if it was forgotten before anybody looked.
    pub state: Option<State>,
}

#[derive(Debug, Default)]
struct Heard {
    interests: HashMap<u64, Interest>,
    /// Those that there is news of, and some that are gone.
    news: VecDeque<Tag>,
}

#[derive(Debug)]
struct Interest {
    id: JobId,
    serial: u64,
    news: News,
}

/// What is known of a job since it was looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum News {
    None,
    /// Somebody should look.
    Some,
    Ended(State),
}

impl Ends {
    /// Notes an interest; `None` if there is one of that name.
    pub(crate) fn expect(&self, id: JobId, name: u64) -> Option<Tag> {
        use std::sync::atomic::{AtomicU64, Ordering};
        static SERIAL: AtomicU64 = AtomicU64::new(1);
        let mut heard = lock(&self.heard);
        if heard.interests.contains_key(&name) {
            return None;
        }
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let news = News::None;
        heard.interests.insert(name, Interest { id, serial, news });
        Some(Tag { name, serial })
    }

    /// There is news of a job: that it has ended so, or that somebody should look.
    pub(crate) fn tell(&self, tag: Tag, state: Option<State>) {
        let mut heard = lock(&self.heard);
        let Some(interest) = heard.interest(tag) else {
            return;
        };
        let known = interest.news;
        interest.news = match (state, known) {
            (Some(state), _) => News::Ended(state),
            (None, News::None) => News::Some,
            (None, known) => known,
        };
        if known == News::None {
            heard.news.push_back(tag);
        }
        drop(heard);
        self.bell.ring();
        self.wakeup.ring();
    }

    /// There may be news of every job.
    pub(crate) fn tell_all(&self) {
        let mut heard = lock(&self.heard);
        let Heard { interests, news } = &mut *heard;
        for (name, interest) in interests {
            if interest.news == News::None {
                interest.news = News::Some;
                news.push_back(interest.tag(*name));
            }
        }
        drop(heard);
        self.bell.ring_all();
        self.wakeup.ring();
    }

    /// Takes an interest back. `None` if it is not there, or if it is known to have ended.
    pub(crate) fn take_back(&self, name: u64) -> Option<(JobId, Tag)> {
        let mut heard = lock(&self.heard);
        let interest = heard.interests.get(&name)?;
        if matches!(interest.news, News::Ended(_)) {
            return None;
        }
        let (id, tag, news) = (interest.id, interest.tag(name), interest.news);
        heard.interests.remove(&name);
        if news == News::Some {
            heard.news.retain(|other| *other != tag);
        }
        Some((id, tag))
    }

    /// The same for one that was noted just now and has come to nothing; false if it is known to have ended.
    pub(crate) fn withdraw(&self, tag: Tag) -> bool {
        let mut heard = lock(&self.heard);
        let ended = |interest: &mut Interest| matches!(interest.news, News::Ended(_));
        if heard.interest(tag).is_some_and(ended) {
            return false;
        }
        heard.interests.remove(&tag.name);
        true
    }

    /// Takes one end. `look` says what a job is in of which there is news but not what: its state, or `None` if it is
    /// not known any more. `settled` hears of those whose end was found so.
    pub(crate) fn take(
        &self,
        look: impl Fn(JobId) -> Result<Option<State>>,
        settled: impl Fn(JobId, Tag),
    ) -> Result<Option<WatchedEnd>> {
        loop {
            let mut heard = lock(&self.heard);
            let Some(tag) = heard.news.pop_front() else {
                return Ok(None);
            };
            let Some(interest) = heard.interest(tag) else {
                continue;
            };
            let (id, news) = (interest.id, interest.news);
            if let News::Ended(state) = news {
                heard.interests.remove(&tag.name);
                let (tag, state) = (tag.name, Some(state));
                return Ok(Some(WatchedEnd { tag, id, state }));
            }
            // Before the look: what comes from now on is news.
            interest.news = News::None;
            drop(heard);
            let state = look(id).inspect_err(|_| self.tell(tag, None))?;
            if state.is_some_and(|state| !state.is_final()) {
                continue;
            }
            // It may have been taken back, or taken by another one, meanwhile.
            let mut heard = lock(&self.heard);
            let Some(interest) = heard.interest(tag) else {
                continue;
            };
            let state = match interest.news {
                News::Ended(state) => Some(state),
                _ => state,
            };
            heard.interests.remove(&tag.name);
            drop(heard);
            settled(id, tag);
            let tag = tag.name;
            return Ok(Some(WatchedEnd { tag, id, state }));
        }
    }

    /// Every job that is waited for.
    pub(crate) fn all(&self) -> Vec<(JobId, Tag)> {
        let heard = lock(&self.heard);
        let interests = heard.interests.iter();
        interests.map(|(name, i)| (i.id, i.tag(*name))).collect()
    }
}

impl Heard {
    fn interest(&mut self, tag: Tag) -> Option<&mut Interest> {
        let interest = self.interests.get_mut(&tag.name);
        interest.filter(|interest| interest.serial == tag.serial)
    }
}

impl Interest {
    fn tag(&self, name: u64) -> Tag {
        let serial = self.serial;
        Tag { name, serial }
    }
}

#[cfg(all(test, shuttle))]
mod shuttle_tests;
