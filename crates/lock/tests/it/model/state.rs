//! The model: what the server has, and what it does when it is asked.

use super::{
    AT_TIMES, Asker, MAILBOXES, MOST_PERMITS, Step, Terms, What,
    server::{Answer, Message},
};

/// So many of those who released it last are remembered.
const REMEMBERED: usize = 64;

#[derive(Debug)]
pub(super) struct Model {
    terms: Vec<Terms>,
    lock: Thing,
    permits: Thing,
    /// How many permits there are.
    pub(super) count: u32,
    /// Whether somebody reads the mailbox that is read at times.
    pub(super) is_read: bool,
    /// The highest that was ever granted.
    pub(super) last_fence: u64,
    /// What the counter has; nothing where it is lost.
    counter: u64,
    /// In milliseconds.
    now: i64,
}

/// A lock, or permits.
#[derive(Debug, Default)]
pub(super) struct Thing {
    pub(super) had: Vec<Had>,
    pub(super) queue: Vec<Waiter>,
    /// The tokens that released it, the last one first.
    pub(super) released: Vec<Vec<u8>>,
}

/// What somebody has.
#[derive(Debug)]
pub(super) struct Had {
    pub(super) who: Asker,
    pub(super) weight: u32,
    pub(super) fence: u64,
    ends: i64,
    left: i64,
    /// Its lease has ended, and nobody has looked since.
    pub(super) ended: bool,
}

/// One that stands in the queue.
#[derive(Clone, Debug)]
pub(super) struct Waiter {
    pub(super) bytes: Vec<u8>,
    /// Nothing where another program wrote it.
    who: Option<Asker>,
}

/// What is to come of a step.
#[derive(Debug)]
pub(super) struct Expected {
    pub(super) answer: Answer,
    /// Those who are granted it, one after the other.
    pub(super) granted: Vec<Asker>,
    pub(super) told: Vec<Told>,
    /// What the queue lives for at least.
    pub(super) queue_left: Option<(What, i64)>,
}

/// What somebody is told.
#[derive(Clone, Copy, Debug)]
pub(super) enum Told {
    Granted(Asker),
    /// It is the first, and it may be its turn in so long.
    First(Asker, i64),
}

impl Asker {
    pub(super) fn token(self) -> Vec<u8> {
        format!("{:<15}{}", format!("{:?}", self.what), self.number).into_bytes()
    }

    /// In milliseconds, and another one for each.
    pub(super) fn lease(self) -> i64 {
        i64::try_from(self.number + 1).unwrap_or(1) * 100_000
    }
}

impl Had {
    pub(super) fn left(&self) -> i64 {
        self.left
    }
}

impl Thing {
    /// How much of it is out.
    pub(super) fn out(&self) -> u32 {
        self.had.iter().filter(|one| !one.ended).map(|one| one.weight).sum()
    }

    fn of(&self, who: Asker) -> Option<usize> {
        self.had.iter().position(|one| one.who == who)
    }
}

/// A call under way.
struct Call<'m> {
    thing: &'m mut Thing,
    terms: &'m [Terms],
    count: u32,
    is_read: bool,
    now: i64,
    granted: Vec<Asker>,
    told: Vec<Told>,
}

impl Model {
    pub(super) fn new(terms: &[Terms]) -> Self {
        Self {
            terms: terms.to_vec(),
            lock: Thing::default(),
            permits: Thing::default(),
            count: MOST_PERMITS,
            is_read: true,
            last_fence: 0,
            counter: 0,
            now: 0,
        }
    }

    pub(super) fn thing(&self, what: What) -> &Thing {
        match what {
            What::Lock => &self.lock,
            What::Permits => &self.permits,
        }
    }

    fn thing_mut(&mut self, what: What) -> &mut Thing {
        match what {
            What::Lock => &mut self.lock,
            What::Permits => &mut self.permits,
        }
    }

    pub(super) fn weight(&self, who: Asker) -> u32 {
        weight(&self.terms, who)
    }

    pub(super) fn mailbox(&self, who: Asker) -> usize {
        terms(&self.terms, who).mailbox
    }

    pub(super) fn has_fence(&mut self, who: Asker, fence: u64) {
        (self.last_fence, self.counter) = (fence, fence);
        let had = self.thing_mut(who.what).had.iter_mut().find(|one| one.who == who);
        if let Some(had) = had {
            had.fence = fence;
        }
    }

    pub(super) fn fence_of(&self, who: Asker) -> Option<u64> {
        self.thing(who.what).had.iter().find(|one| one.who == who).map(|one| one.fence)
    }

    pub(super) fn last_fence_kept(&self) -> u64 {
        self.counter
    }

    /// Who asks, as it stands in the queue.
    pub(super) fn waiter(&self, who: Asker, waits: bool) -> Vec<u8> {
        let mailbox = if waits { mailbox(self.mailbox(who)) } else { " ".repeat(16) };
        let lease = who.lease().to_be_bytes();
        let weight = self.weight(who).to_be_bytes();
        [&who.token(), mailbox.as_bytes(), &lease, &weight, b"somebody"].concat()
    }

    /// Does what is to come of it, and says what the server is to answer.
    pub(super) fn step(&mut self, step: Step, micros: u64) -> Expected {
        self.now = i64::try_from(micros / 1000).unwrap_or_default();
        for one in self.lock.had.iter_mut().chain(&mut self.permits.had) {
            one.left = one.ends - self.now;
        }
        let count = self.count;
        let none = |answer| Expected { answer, granted: vec![], told: vec![], queue_left: None };
        match step {
            Step::Ask(who, waits) => self.ask(who, waits),
            Step::Release(who, waits) => self.release(who, waits),
            Step::Extend(who) => {
                let had = self.thing_mut(who.what).had.iter_mut().find(|one| one.who == who);
                let had = had.filter(|one| !one.ended);
                none(Answer::Is(had.map(|one| one.extend(who.lease() + 50_000)).is_some()))
            }
            Step::Force => self.call(What::Lock, |call| {
                let had = !call.thing.had.is_empty();
                call.thing.had.clear();
                call.hand_on(None);
                Answer::Is(had)
            }),
            Step::End(what, nth) => {
                let thing = self.thing_mut(what);
                if let Some(at) = nth.checked_rem(thing.had.len()) {
                    thing.had[at].ended = true;
                }
                // Of a lock nothing is left.
                self.lock.had.retain(|one| !one.ended);
                none(Answer::Nothing)
            }
            Step::Turn => {
                self.is_read = !self.is_read;
                none(Answer::Nothing)
            }
            Step::Count(permits) => {
                self.count = permits;
                none(Answer::Nothing)
            }
            Step::Foreign(what, first, length) => {
                let queue = &mut self.thing_mut(what).queue;
                let waiter = Waiter { bytes: vec![0; length], who: None };
                queue.retain(|other| other.bytes != waiter.bytes);
                let at = if first { 0 } else { queue.len() };
                queue.insert(at, waiter);
                none(Answer::Nothing)
            }
            Step::ClockBack => {
                self.counter = self.last_fence.max(micros) + 1_000_000_000_000;
                self.last_fence = self.counter;
                none(Answer::Nothing)
            }
            Step::Forget => {
                self.counter = 0;
                none(Answer::Nothing)
            }
            Step::Again => unreachable!("{count} permits and no call"),
        }
    }

    fn ask(&mut self, who: Asker, waits: bool) -> Expected {
        let waiter = Waiter { bytes: self.waiter(who, waits), who: Some(who) };
        let (mut queue_left, last) = (None, self.last_fence_kept());
        let mut expected = self.call(who.what, |call| {
            if let Some(had) = call.thing.had.iter().find(|one| one.who == who && !one.ended) {
                return Answer::Had { who: Some(who), left: had.left, fence: 0 };
            }
            let others = call.hand_on(Some(&waiter));
            let weight = call.weight(who);
            if !others && call.granted.iter().all(|own| *own != who) && call.is_free(weight) {
                call.grant(who);
            }
            if call.granted.contains(&who) {
                return Answer::Had { who: Some(who), left: who.lease(), fence: 0 };
            }
            if !waits {
                return Answer::Busy { place: -1, free_in: -1, last };
            }
            let queue = &mut call.thing.queue;
            let place = queue.iter().position(|other| other.bytes == waiter.bytes);
            let place = place.unwrap_or_else(|| {
                queue.push(waiter.clone());
                queue.len() - 1
            });
            let longest = call.thing.had.iter().filter(|one| !one.ended).map(|one| one.left);
            let longest = longest.chain([who.lease()]).max().unwrap_or_default();
            queue_left = Some((who.what, 2 * longest + 60_000));
            let free_in = call.free_in(weight);
            Answer::Busy { place: i64::try_from(place).unwrap_or(-1), free_in, last }
        });
        expected.queue_left = queue_left;
        expected
    }

    fn release(&mut self, who: Asker, waits: bool) -> Expected {
        let waiter = Waiter { bytes: self.waiter(who, true), who: Some(who) };
        self.call(who.what, |call| {
            let had = call.thing.of(who).map(|at| call.thing.had.remove(at));
            if had.is_some_and(|had| !had.ended) {
                call.thing.released.insert(0, who.token());
                call.thing.released.truncate(REMEMBERED);
                call.hand_on(waits.then_some(&waiter));
                return Answer::Is(true);
            }
            if waits {
                let place = call.thing.queue.iter().position(|other| other.bytes == waiter.bytes);
                if let Some(place) = place {
                    call.thing.queue.remove(place);
                }
                call.hand_on(Some(&waiter));
                if place == Some(0) {
                    call.tell_first();
                }
            }
            Answer::Is(call.thing.released.contains(&who.token()))
        })
    }

    fn call(&mut self, what: What, call: impl FnOnce(&mut Call<'_>) -> Answer) -> Expected {
        let (thing, count) = match what {
            What::Lock => (&mut self.lock, 1),
            What::Permits => (&mut self.permits, self.count),
        };
        let (terms, is_read, now) = (&self.terms, self.is_read, self.now);
        let (granted, told) = (Vec::new(), Vec::new());
        let mut own = Call { thing, terms, count, is_read, now, granted, told };
        let answer = call(&mut own);
        Expected { answer, granted: own.granted, told: own.told, queue_left: None }
    }
}

impl Had {
    fn extend(&mut self, lease: i64) {
        self.ends += lease - self.left;
        self.left = lease;
    }
}

impl Call<'_> {
    fn weight(&self, who: Asker) -> u32 {
        weight(self.terms, who)
    }

    fn is_free(&self, weight: u32) -> bool {
        self.thing.out() + weight <= self.count
    }

    /// In how long so much may be free: when as many leases end as it takes, those first that end first.
    fn free_in(&self, weight: u32) -> i64 {
        let mut missing = self.thing.out() + weight;
        let mut had: Vec<_> = self.thing.had.iter().filter(|one| !one.ended).collect();
        had.sort_by_key(|one| one.ends);
        let mut left = 0;
        for one in had {
            if missing <= self.count {
                break;
            }
            missing -= one.weight;
            left = one.left;
        }
        left
    }

    fn is_there(&self, who: Asker) -> bool {
        match terms(self.terms, who).mailbox {
            AT_TIMES => self.is_read,
            mailbox => mailbox + 1 < MAILBOXES,
        }
    }

    fn grant(&mut self, who: Asker) {
        // Whoever looks finds those no more whose lease has ended.
        self.thing.had.retain(|one| !one.ended);
        let (weight, left) = (self.weight(who), who.lease());
        let ends = self.now + left;
        self.thing.had.push(Had { who, weight, fence: 0, ends, left, ended: false });
        self.granted.push(who);
    }

    /// Those who came first are first, and who is gone is passed over, also where what is free is not enough for it; returns whether others
    /// wait then.
    fn hand_on(&mut self, asks: Option<&Waiter>) -> bool {
        let mut moved = false;
        // Nobody looks at the queue while nothing is free.
        while self.is_free(1) {
            let Some(waiter) = self.thing.queue.first().cloned() else { return false };
            match waiter.who {
                Some(who) if !self.is_free(self.weight(who)) => {
                    // Whoever asks learns it by the answer.
                    let asks = asks.is_some_and(|asks| asks.who == waiter.who);
                    if !asks && self.is_there(who) {
                        self.told.push(Told::First(who, self.free_in(self.weight(who))));
                    }
                    if asks || self.is_there(who) {
                        return true;
                    }
                }
                Some(who) if asks.is_some_and(|asks| asks.who == waiter.who) => self.grant(who),
                Some(who) if self.is_there(who) => {
                    self.grant(who);
                    self.told.push(Told::Granted(who));
                }
                _ => {}
            }
            self.thing.queue.remove(0);
            moved = true;
        }
        if moved {
            self.tell_first();
        }
        true
    }

    /// Who is first by now is told when to look; who is gone is passed over.
    fn tell_first(&mut self) {
        while let Some(waiter) = self.thing.queue.first() {
            if let Some(who) = waiter.who.filter(|who| self.is_there(*who)) {
                let left = self.free_in(self.weight(who));
                self.told.push(Told::First(who, left));
                return;
            }
            self.thing.queue.remove(0);
        }
    }
}

impl Told {
    /// Whether a message says this.
    pub(super) fn is(&self, message: &Message, model: &Model) -> bool {
        let (Self::Granted(who) | Self::First(who, _)) = self;
        let to_it = message.mailbox == model.mailbox(*who) && message.token == who.token();
        to_it
            && match self {
                Self::Granted(who) => {
                    message.kind == b'g' && Some(message.number) == model.fence_of(*who)
                }
                Self::First(_, left) => {
                    let told = i64::try_from(message.number).unwrap_or(-1);
                    message.kind == b'f' && message.at.is_none() && super::near(*left, told)
                }
            }
    }
}

fn terms(terms: &[Terms], who: Asker) -> Terms {
    match who.what {
        What::Lock => Terms { weight: 1, ..terms[who.number] },
        What::Permits => terms[terms.len() / 2 + who.number],
    }
}

fn weight(all: &[Terms], who: Asker) -> u32 {
    terms(all, who).weight
}

/// The name of a mailbox.
pub(super) fn mailbox(number: usize) -> String {
    format!("{:-<16}", format!("mailbox-{number}"))
}
