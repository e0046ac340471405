//! Whoever reads while others write and the server's word is lost keeps nothing that is not there.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use redbrick_cache::Local;
use redbrick_testkit::Server;
use tokio::task::JoinSet;

use super::{builder, connect, cut_feed};
use crate::is_long;

const KEYS: u64 = 16;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_reader_keeps_what_was_overwritten_while_it_read() {
    let (writes, cuts) = if is_long() { (20_000, 100) } else { (3_000, 15) };
    let server = Server::start().unwrap();
    let local = Local::new().bound(Duration::from_millis(100));
    let cache = builder(connect(&server).await).local(local).build().unwrap();
    let other = crate::patient::<u64>(connect(&server).await);
    let (done, mut readers) = (Arc::new(AtomicBool::new(false)), JoinSet::new());
    for first in 0..4 {
        let (cache, done) = (cache.clone(), Arc::clone(&done));
        readers.spawn(async move {
            let mut key = first;
            while !done.load(Ordering::SeqCst) {
                key = (key + 1) % KEYS;
                cache.get(key.to_string()).await.unwrap();
            }
        });
    }
    for n in 1..=writes {
        other.set((n % KEYS).to_string(), &n).await.unwrap();
        if n % (writes / cuts) == 0 {
            cut_when_there(&server).await;
        }
    }
    // Whatever was said by now is known after the bound, or else is asked for.
    let _elapsed =
        tokio::time::timeout(Duration::from_millis(100), std::future::pending::<()>()).await;
    for key in 0..KEYS {
        let last = (0..KEYS).map(|back| writes - back).find(|n| n % KEYS == key);
        for _ in 0..3 {
            assert_eq!(cache.get(key.to_string()).await.unwrap(), last);
        }
    }
    done.store(true, Ordering::SeqCst);
    readers.join_all().await;
    let statistics = cache.statistics();
    assert!(statistics.local_hits > 100 && statistics.revalidated > 0, "{statistics:?}");
}

/// Cuts the link when it is there: it takes a moment to come back.
async fn cut_when_there(server: &Server) {
    let late = tokio::time::Instant::now() + crate::PATIENCE;
    loop {
        let clients = server.command(["CLIENT", "LIST", "TYPE", "pubsub"]).unwrap();
        if clients.as_str().is_some_and(|clients| clients.contains("id=")) {
            return cut_feed(server);
        }
        assert!(tokio::time::Instant::now() < late, "the link does not come back");
        tokio::task::yield_now().await;
    }
}
