//! How this process is told that a lock was handed on to it: a channel for each partition in which it has waited.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use redbrick_core_conn::{Conn, ErrorKind, Event, Key, Result, Subscription, Token};
use tokio::{
    sync::{OnceCell, watch},
    task::AbortHandle,
    time::Instant,
};

/// How long a mailbox's name is, in characters.
const ID_LEN: usize = 16;
const TOKEN_LEN: usize = 16;

/// The mailbox of a group in this process.
#[derive(Debug)]
pub(crate) struct Post {
    conn: Conn,
    id: String,
    /// By partition; as long as this is there.
    lines: Mutex<HashMap<Key, Arc<OnceCell<Line>>>>,
}

/// The channel of a partition, and who waits for what comes over it.
#[derive(Debug)]
struct Line {
    waiting: Arc<Waiting>,
    reader: AbortHandle,
}

#[derive(Debug, Default)]
struct Waiting(Mutex<HashMap<[u8; TOKEN_LEN], watch::Sender<News>>>);

/// What somebody who waits was told.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct News {
    /// The lock is its own, with this fence, since this moment by the server's clock, in microseconds.
    pub(crate) granted: Option<(u64, u64)>,
    /// It is the first who waits since then, and another one has the lock for so long.
    pub(crate) first: Option<(Instant, Duration)>,
    /// How often the link came back, after which nobody knows what was said meanwhile.
    pub(crate) gaps: u64,
}

/// A token for which this process listens; no more when it is dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    token: [u8; TOKEN_LEN],
    waiting: Arc<Waiting>,
    pub(crate) news: watch::Receiver<News>,
}

impl Post {
    pub(crate) fn new(conn: Conn) -> Self {
        let id = Token::<{ ID_LEN / 2 }>::random().expose();
        Self { conn, id, lines: Mutex::default() }
    }

    /// The name of the mailbox, by which scripts find it.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Listens for a token, if this process listens in that partition already.
    pub(crate) fn seat(&self, partition: &Key, token: &Token) -> Option<Seat> {
        let line = self.lines().get(partition).cloned()?;
        line.get().filter(|line| !line.reader.is_finished()).map(|line| line.seat(token))
    }

    /// Listens for a token. One round trip, where this process does not listen in that partition yet.
    pub(crate) async fn enter(&self, partition: &Key, token: &Token) -> Result<Seat> {
        let line = {
            let mut lines = self.lines();
            let line = lines.entry(partition.clone()).or_default();
            if line.get().is_some_and(|line| line.reader.is_finished()) {
                *line = Arc::default();
            }
            Arc::clone(line)
        };
        let line =
            line.get_or_try_init(|| Line::open(&self.conn, partition.join(&self.id))).await?;
        Ok(line.seat(token))
    }

    fn lines(&self) -> MutexGuard<'_, HashMap<Key, Arc<OnceCell<Line>>>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    async fn open(conn: &Conn, channel: Key) -> Result<Self> {
        let subscription = match conn.subscribe().sharded(&channel).await {
            // Before Redis 7, where a script of a cluster cannot tell whether anybody listens.
            Err(error) if error.kind() == ErrorKind::Unsupported && !conn.is_cluster() => {
                conn.subscribe().channel(&channel).await?
            }
            subscription => subscription?,
        };
        let waiting = Arc::new(Waiting::default());
        let reader = tokio::spawn(Arc::clone(&waiting).read(subscription)).abort_handle();
        Ok(Self { waiting, reader })
    }

    fn seat(&self, token: &Token) -> Seat {
        let (token, (sender, news)) = (*token.as_bytes(), watch::channel(News::default()));
        self.waiting.lock().insert(token, sender);
        Seat { token, waiting: Arc::clone(&self.waiting), news }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Waiting {
    async fn read(self: Arc<Self>, mut subscription: Subscription) {
        let end = End(&self);
        while let Some(event) = subscription.next().await {
            match event {
                Event::Message(message) => self.told(message.payload()),
                Event::Gap { .. } => {}
                // Something may have been said that was not heard.
                _ => {
                    let waiting = self.lock();
                    waiting.values().for_each(|one| one.send_modify(|news| news.gaps += 1));
                }
            }
        }
        drop(end);
    }

    /// Hands out what a script has said; what is of another form, nobody here waits for.
    fn told(&self, message: &[u8]) {
        let Some((kind, rest)) = message.split_first() else { return };
        let Some((token, rest)) = rest.split_first_chunk::<TOKEN_LEN>() else { return };
        let Some((number, rest)) = rest.split_first_chunk::<8>() else { return };
        let (number, now) = (u64::from_be_bytes(*number), Instant::now());
        let waiting = self.lock();
        let Some(one) = waiting.get(token) else { return };
        one.send_modify(|news| match (kind, rest.first_chunk::<8>()) {
            (b'g', Some(at)) => news.granted = Some((number, u64::from_be_bytes(*at))),
            (b'f', None) => news.first = Some((now, Duration::from_millis(number))),
            _ => {}
        });
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<[u8; TOKEN_LEN], watch::Sender<News>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where nobody reads any more, as when the connection is closed or the runtime has ended, who waits is told by the end of its news.
struct End<'a>(&'a Waiting);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.lock().clear();
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.waiting.lock().remove(&self.token);
    }
}
