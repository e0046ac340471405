use std::{
    collections::VecDeque,
    io,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::watch,
    time::{Instant, sleep_until},
};

use super::{
    Gauges,
    fault::{Direction, Plan},
    link::Open,
};

/// How one direction of a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Its source had no more, and its target was told so.
    Finished,
    /// It broke, or the fault says so: both sides must be reset.
    Broken,
}

/// Carries one direction of a connection under the fault of the moment.
pub(super) struct Pump<'a, R, W> {
    from: R,
    to: W,
    direction: Direction,
    plan: watch::Receiver<Plan>,
    /// The number of the connection, by which the plan may spare it.
    connection: u64,
    gauges: &'a Gauges,
    /// What was read and not yet written, with the moment when it is due.
    queue: VecDeque<(Instant, Vec<u8>)>,
    queued: usize,
    /// The source has no more.
    finished: bool,
    /// Bytes were thrown away.
    holed: bool,
    /// Written since the fault was set.
    written: u64,
    epoch: u64,
    /// When the throttle allows the next read.
    next_read: Instant,
}

impl<'a, R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Pump<'a, R, W> {
    pub(super) fn new(
        from: R,
        to: W,
        direction: Direction,
        plan: watch::Receiver<Plan>,
        open: &'a Open,
    ) -> Self {
        let epoch = plan.borrow().epoch;
        Self {
            from,
            to,
            direction,
            plan,
            connection: open.number(),
            gauges: open.gauges(),
            queue: VecDeque::new(),
            queued: 0,
            finished: false,
            holed: false,
            written: 0,
            epoch,
            next_read: Instant::now(),
        }
    }

    pub(super) async fn run(mut self) -> End {
        self.carry().await.unwrap_or(End::Broken)
    }

    async fn carry(&mut self) -> io::Result<End> {
        let mut buffer = vec![0; CHUNK];
        loop {
            let plan = self.plan.borrow_and_update().clone().of(self.connection);
            if plan.epoch != self.epoch {
                self.epoch = plan.epoch;
                self.written = 0;
                self.next_read = Instant::now();
            }
            if self.holed && !plan.drops(self.direction) {
                return Ok(End::Broken);
            }
            let cut = plan.cut(self.direction);
            if cut.is_some_and(|cut| self.written >= cut && (cut > 0 || !self.queue.is_empty())) {
                return Ok(End::Broken);
            }
            if self.finished && self.queue.is_empty() {
                self.to.shutdown().await?;
                return Ok(End::Finished);
            }

            let now = Instant::now();
            let flows = !plan.stalls(self.direction);
            let reads = flows && !self.finished && self.queued < LIMIT;
            let due = self.queue.front().map(|(due, _)| *due);
            let writes = flows && due.is_some_and(|due| due <= now);
            let room = plan
                .rate()
                .map_or(CHUNK, |rate| usize::try_from(rate / 20).unwrap_or(CHUNK).clamp(1, CHUNK));
            let front = self.queue.front().map(|(_, bytes)| &**bytes).unwrap_or_default();
            let left = cut.map_or(u64::MAX, |cut| cut - self.written);
            let front = &front[..front.len().min(usize::try_from(left).unwrap_or(usize::MAX))];
            // What to wait for besides the sockets: the next bytes' time, or the throttle.
            let wake = [
                due.filter(|_| flows && !writes),
                Some(self.next_read).filter(|&at| reads && at > now),
            ];
            let wake = wake.into_iter().flatten().min();

            tokio::select! {
                changed = self.plan.changed() => {
                    // The proxy is going: its thread ends this connection.
                    if changed.is_err() {
                        return Ok(End::Broken);
                    }
                }
                wrote = self.to.write(front), if writes => {
                    let wrote = wrote?;
                    self.wrote(wrote);
                }
                read = self.from.read(&mut buffer[..room]), if reads && self.next_read <= now => {
                    self.took(&buffer[..read?]);
                }
                () = sleep_until(wake.unwrap_or(now)), if wake.is_some() => {}
            }
        }
    }

    fn took(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            self.finished = true;
            return;
        }
        // Looked at again: what is read after a fault was set is subject to it.
        let plan = self.plan.borrow().clone().of(self.connection);
        if plan.drops(self.direction) {
            self.holed = true;
            count(&self.gauges.dropped_bytes, bytes.len());
            return;
        }
        let now = Instant::now();
        self.queue.push_back((now + plan.delay(self.direction), bytes.to_vec()));
        self.queued += bytes.len();
        if let Some(rate) = plan.rate() {
            let nanos = bytes.len() as u64 * 1_000_000_000 / rate;
            // Timers fire late, which the next reads make up for.
            let due = self.next_read.max(now.checked_sub(LATENESS).unwrap_or(now));
            self.next_read = due + Duration::from_nanos(nanos);
        }
    }

    fn wrote(&mut self, bytes: usize) {
        self.queued -= bytes;
        self.written += bytes as u64;
        let gauge = match self.direction {
            Direction::Requests => &self.gauges.request_bytes,
            Direction::Replies => &self.gauges.reply_bytes,
        };
        count(gauge, bytes);
        if let Some((_, front)) = self.queue.front_mut() {
            front.drain(..bytes);
            if front.is_empty() {
                self.queue.pop_front();
            }
        }
    }
}

fn count(gauge: &AtomicU64, bytes: usize) {
    gauge.fetch_add(bytes as u64, Ordering::Relaxed);
}

/// How much is read at once.
const CHUNK: usize = 16 << 10;
/// How much later than due a throttled read may be made up for.
const LATENESS: Duration = Duration::from_millis(50);
/// How much is held back in one direction of one connection; more stays with the sender.
const LIMIT: usize = 4 << 20;
