//! What stays on the server when every life is over and every owner gone.

use std::{borrow::Cow, convert::Infallible, num::NonZeroU32, sync::Arc, time::Duration};

use redbrick::prelude::*;
use redbrick_testkit::{Server, wait_until};
use serde::{Deserialize, Serialize};

use crate::PATIENCE;

/// How long everything lives here.
const LIFE: Duration = Duration::from_millis(500);

#[derive(Deserialize, Serialize)]
struct Note {
    id: String,
    author: String,
}

impl Record for Note {
    const NAME: &'static str = "notes";
    const LOOKUP: &'static [&'static str] = &["author"];

    fn id(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.id)
    }
}

/// How many keys the server has, and the bytes that its data takes.
fn size(server: &Server) -> (i64, u64) {
    let keys = server.command(["DBSIZE"]).expect("the server").as_int().expect("a number");
    let info = server.command(["INFO", "memory"]).expect("the server");
    let line = info
        .as_str()
        .and_then(|text| text.lines().find_map(|line| line.strip_prefix("used_memory_dataset:")));
    (keys, line.and_then(|bytes| bytes.trim().parse().ok()).expect("a number of bytes"))
}

/// A hundred of everything that a brick keeps, forgotten by who made it.
async fn use_all(conn: &Conn) -> Result<(), Box<dyn std::error::Error>> {
    let one = NonZeroU32::MIN;
    let cache: Cache<String> =
        Cache::builder(conn.clone(), "c").time_to_live(LIFE).load_timeout(LIFE).build()?;
    let locks = Locks::builder(conn.clone()).lease(LIFE).fence_memory(LIFE).build()?;
    let limiter = RateLimiter::builder(conn.clone(), "r", Quota::per(one, LIFE));
    let limiter = limiter.redis_timeout(PATIENCE).build()?;
    let sessions: Sessions = Sessions::builder(conn.clone()).time_to_live(LIFE).build();
    let notes = Resource::<Note>::builder(conn.clone()).time_to_live(LIFE).build();
    let pubsub = PubSub::new(conn.clone(), "test");
    for n in 0..100 {
        let id = n.to_string();
        let load = || async { Ok::<_, Infallible>("x".repeat(100)) };
        cache.get_or_load(&id, load).tags([&id]).await?;
        cache.increment(&id, 1).await?;
        let _token = locks.try_lock(&id).await?.expect("it is free").into_token();
        let _token =
            locks.semaphore(&id, one).try_acquire().await?.expect("it is free").into_token();
        assert!(limiter.consume(&id).await?.is_allowed());
        sessions.create(&id, ()).await?;
        notes.create(&Note { id: id.clone(), author: "ada".to_owned() }).await?;
        let room = pubsub.room::<(), String>(&id).lease(LIFE).history_life(LIFE);
        room.join("ada", &()).await?;
        room.broadcast(&id).await?;
    }
    // The versions of tags outlive the entries; whoever invalidates a tag removes its own.
    cache.invalidate_tags((0..100).map(|n| n.to_string())).await?;
    Ok(())
}

/// Waits until the server has no key.
async fn empty(server: &Arc<Server>) {
    let waiting = tokio::task::spawn_blocking({
        let server = Arc::clone(server);
        move || wait_until(PATIENCE, || size(&server).0 == 0)
    });
    let is_empty = waiting.await.expect("the wait itself");
    assert!(is_empty, "{:?}", server.command(["SCAN", "0", "COUNT", "1000"]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::print_stdout, reason = "the figures are what people ask for")]
async fn nothing_stays_when_every_life_is_over() {
    let server = Arc::new(Server::start().unwrap());
    let conn = Conn::connect(server.url()).await.unwrap();
    // Once, so that the server knows the scripts, which it keeps.
    use_all(&conn).await.unwrap();
    empty(&server).await;
    let (_, before) = size(&server);

    use_all(&conn).await.unwrap();
    let (keys, during) = size(&server);
    assert!(keys > 0, "none of it has expired so soon");
    empty(&server).await;
    let (none, after) = size(&server);
    println!(
        "{keys} keys with {during} bytes of data; at the end {none} keys, {after} bytes; at first {before}"
    );
    assert!(after < before + (during - before) / 4, "{before}, {during}, {after}");
}
