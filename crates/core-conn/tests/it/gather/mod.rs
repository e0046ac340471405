//! Calls of many tasks that leave as one.

#![expect(clippy::unwrap_used, reason = "the helpers here are part of the tests")]

mod faults;
mod reads;
mod rights;
mod scripts;

use std::{
    future::poll_fn,
    task::{Context, Poll, Waker},
};

use redbrick_core_conn::{Call, Conn, Result};
use tokio::task::JoinSet;

/// Begins a call: another one that comes now finds it under way.
fn begin<T>(call: &mut (impl Future<Output = T> + Unpin)) {
    let mut cx = Context::from_waker(Waker::noop());
    assert!(std::pin::Pin::new(call).poll(&mut cx).is_pending(), "no answer is as fast as that");
}

/// Makes `calls` at the same time, on one task, and returns what comes of each, in their order.
pub(crate) async fn at_once<T>(calls: impl IntoIterator<Item = Call<'_, T>>) -> Vec<Result<T>> {
    let mut calls: Vec<_> = calls.into_iter().map(|call| (Some(call), None)).collect();
    poll_fn(|cx| {
        let mut is_over = true;
        for (call, result) in &mut calls {
            if let Some(running) = call {
                match std::pin::Pin::new(running).poll(cx) {
                    Poll::Ready(done) => (*call, *result) = (None, Some(done)),
                    Poll::Pending => is_over = false,
                }
            }
        }
        if is_over { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    calls.into_iter().filter_map(|(_, result)| result).collect()
}

/// Reads `key` on `tasks` tasks, `times` times each, and passes every result to `check`.
async fn read_on_tasks(
    conn: &Conn,
    tasks: usize,
    times: usize,
    key: impl Fn(usize) -> String + Clone + Send + Sync + 'static,
    check: impl Fn(usize, Result<Option<usize>>) + Clone + Send + Sync + 'static,
) {
    let mut running = JoinSet::new();
    for task in 0..tasks {
        let (conn, key, check) = (conn.clone(), key.clone(), check.clone());
        running.spawn(async move {
            for time in 0..times {
                let number = task * times + time;
                check(number, conn.get::<usize>(key(number)).await);
            }
        });
    }
    running.join_all().await;
}
