//! How this process is told that a lock was handed on to it: a channel for each partition in which it has waited.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use redbrick_core_conn::{Conn, Error, ErrorKind, Event, Key, Result, Subscription, Token};
use tokio::{
    sync::{OnceCell, watch},
    task::AbortHandle,
    time::Instant,
};

use crate::{claim::Claim, hold::Hold};

/// How long a mailbox's name is, in characters.
const ID_LEN: usize = 16;

/// The mailbox of a group in this process.
pub(crate) struct Post {
    conn: Conn,
    id: Arc<str>,
    /// By partition; as long as this is there.
    lines: Mutex<HashMap<Key, Arc<OnceCell<Line>>>>,
    left: Arc<Left>,
}

/// Those who wait no more, what they waited for, and until when the server may not know: what is handed to them is handed on.
#[derive(Default)]
struct Left(Mutex<Leavers>);

#[derive(Default)]
struct Leavers {
    by_token: HashMap<Token, (Claim, Instant)>,
    /// How many there may be before it is looked whose time is over.
    most: usize,
}

/// How many at most, and for how long; where there are more, all are forgotten, and the lease ends what is handed to them.
const MOST_LEFT: usize = 10_000;
const FEW_LEFT: usize = 64;
const LONGEST_LEFT: Duration = Duration::from_secs(60 * 60);

/// The channel of a partition, and who waits for what comes over it.
#[derive(Debug)]
struct Line {
    waiting: Arc<Waiting>,
    reader: AbortHandle,
}

/// By their tokens; nothing once nobody reads any more.
#[derive(Debug)]
struct Waiting(Mutex<Option<HashMap<Token, watch::Sender<News>>>>);

/// What somebody who waits was told.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct News {
    /// The lock is its own.
    pub(crate) granted: Option<Grant>,
    /// It is the first who waits since then, and another one has the lock for so long.
    pub(crate) first: Option<(Instant, Duration)>,
    /// How often the link came back, after which nobody knows what was said meanwhile.
    pub(crate) gaps: u64,
}

/// A lock that was handed over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grant {
    pub(crate) fence: u64,
    /// When, by the server's clock, in microseconds.
    pub(crate) at: u64,
    /// When that was heard.
    pub(crate) heard: Instant,
}

/// A token for which this process listens; no more when it is dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    token: Token,
    waiting: Arc<Waiting>,
    pub(crate) news: watch::Receiver<News>,
}

impl Post {
    pub(crate) fn new(conn: Conn) -> Self {
        let id = Token::<{ ID_LEN / 2 }>::random().expose().into();
        Self { conn, id, lines: Mutex::default(), left: Arc::default() }
    }

    /// The name of the mailbox, by which scripts find it.
    pub(crate) fn id(&self) -> &Arc<str> {
        &self.id
    }

    /// Listens for a token, if this process listens in that partition already.
    pub(crate) fn seat(&self, partition: &Key, token: &Token) -> Option<Seat> {
        let line = self.lines().get(partition).cloned()?;
        line.get()?.seat(token)
    }

    /// Listens for a token; nothing where it cannot be heard yet. Two round trips, where this process does not listen in that partition yet.
    pub(crate) async fn listen(&self, partition: &Key, token: &Token) -> Result<Option<Seat>> {
        loop {
            let cell = Arc::clone(self.lines().entry(partition.clone()).or_default());
            let subscribe = || self.subscribe(partition.join(&*self.id));
            let line = match cell.get_or_try_init(subscribe).await {
                Ok(line) => line,
                Err(None) => return Ok(None),
                Err(Some(error)) => return Err(error),
            };
            if let Some(seat) = line.seat(token) {
                return Ok(Some(seat));
            }
            // Nobody reads it any more: the next one is another.
            let mut lines = self.lines();
            if lines.get(partition).is_some_and(|there| Arc::ptr_eq(there, &cell)) {
                lines.remove(partition);
            }
        }
    }

    /// Somebody waits no more, and is about to say so.
    pub(crate) fn leaves(&self, hold: &Hold) {
        let (mut left, now) = (self.left.lock(), Instant::now());
        if left.by_token.len() >= left.most {
            left.by_token.retain(|_, (_, until)| now < *until);
            if left.by_token.len() >= MOST_LEFT {
                left.by_token.clear();
            }
            left.most = (left.by_token.len() * 2).clamp(FEW_LEFT, MOST_LEFT);
        }
        left.by_token.insert(hold.token, (hold.claim.clone(), now + LONGEST_LEFT));
    }

    /// It has said so. What it had asked before may come to the server after that, over another link.
    pub(crate) fn left(&self, token: &Token) {
        if let Some((_, until)) = self.left.lock().by_token.get_mut(token) {
            let late = self.conn.command_timeout().saturating_mul(2).min(LONGEST_LEFT);
            *until = Instant::now() + late;
        }
    }

    fn lines(&self) -> MutexGuard<'_, HashMap<Key, Arc<OnceCell<Line>>>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Post {
    /// Subscribes, and looks whether that can be heard which is published here.
    async fn subscribe(&self, channel: Key) -> std::result::Result<Line, Option<Error>> {
        let conn = &self.conn;
        let (subscription, heard) = match conn.subscribe().sharded(&channel).await {
            // Before Redis 7, where a script of a cluster cannot tell whether anybody listens.
            Err(error) if error.kind() == ErrorKind::Unsupported && !conn.is_cluster() => {
                let subscription = conn.subscribe().channel(&channel).await?;
                (subscription, conn.publish(&channel, "").needs_server().await?)
            }
            subscription => {
                (subscription?, conn.publish_sharded(&channel, "").needs_server().await?)
            }
        };
        if heard == 0 {
            return Err(None);
        }
        let waiting = Arc::new(Waiting(Mutex::new(Some(HashMap::new()))));
        let reader = Reader { waiting: Arc::clone(&waiting), left: Arc::clone(&self.left) };
        // Others wait for it who may live longer than this call's runtime.
        let reader = conn.spawn(reader.run(subscription))?;
        Ok(Line { waiting, reader })
    }
}

impl Left {
    fn lock(&self) -> MutexGuard<'_, Leavers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    /// Listens for a token; nothing where nobody reads any more.
    fn seat(&self, token: &Token) -> Option<Seat> {
        let (token, (sender, news)) = (*token, watch::channel(News::default()));
        self.waiting.lock().as_mut()?.insert(token, sender);
        Some(Seat { token, waiting: Arc::clone(&self.waiting), news })
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// Who reads a channel. Where it ends, as when the connection is closed or the runtime has ended, who waits is told by the end of its news.
struct Reader {
    waiting: Arc<Waiting>,
    left: Arc<Left>,
}

impl Reader {
    async fn run(self, mut subscription: Subscription) {
        while let Some(event) = subscription.next().await {
            match event {
                Event::Message(message) => {
                    if let Some(token) = self.waiting.told(message.payload()) {
                        self.hand_on(token);
                    }
                }
                Event::Gap { .. } => {}
                // Something may have been said that was not heard.
                _ => {
                    let waiting = self.waiting.lock();
                    let all = waiting.iter().flat_map(HashMap::values);
                    all.for_each(|one| one.send_modify(|news| news.gaps += 1));
                }
            }
        }
    }

    /// Hands on what was handed to somebody who waits no more.
    fn hand_on(&self, token: Token) {
        let Some((claim, _)) = self.left.lock().by_token.remove(&token) else { return };
        // It ends by the command timeout.
        drop(tokio::spawn(async move {
            if let Err(error) = claim.release(&token, None).await {
                tracing::debug!(%error, "what was handed to nobody could not be handed on; its lease ends it");
            }
        }));
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        *self.waiting.lock() = None;
    }
}

impl Waiting {
    /// Hands out what a script has said. Returns the token that was granted something for which nobody here waits.
    fn told(&self, message: &[u8]) -> Option<Token> {
        let (kind, rest) = message.split_first()?;
        let (token, rest) = rest.split_first_chunk()?;
        let token = Token::from(*token);
        let (number, rest) = rest.split_first_chunk::<8>()?;
        let (number, now) = (u64::from_be_bytes(*number), Instant::now());
        let waiting = self.lock();
        let one = waiting.as_ref().and_then(|all| all.get(&token));
        match (kind, rest.first_chunk::<8>(), one) {
            (b'g', Some(_), None) => return Some(token),
            (b'g', Some(at), Some(one)) => {
                let grant = Grant { fence: number, at: u64::from_be_bytes(*at), heard: now };
                one.send_modify(|news| news.granted = Some(grant));
            }
            (b'f', None, Some(one)) => {
                let first = Some((now, Duration::from_millis(number)));
                one.send_modify(|news| news.first = first);
            }
            _ => {}
        }
        None
    }

    fn lock(&self) -> MutexGuard<'_, Option<HashMap<Token, watch::Sender<News>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// How often the link came back so far.
    pub(crate) fn gaps(&self) -> u64 {
        self.news.borrow().gaps
    }

    /// Whether nobody listens for it any more.
    pub(crate) fn is_over(&self) -> bool {
        self.news.has_changed().is_err()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(waiting) = &mut *self.waiting.lock() {
            waiting.remove(&self.token);
        }
    }
}
