//! Asking the server what time it is.

use std::{
    future::{IntoFuture, poll_fn},
    task::Poll,
    time::Duration,
};

use redbrick_cache::Cache;
use redbrick_core_conn::{Config, Conn};
use redbrick_testkit::Server;
use tokio::time::{Instant, timeout};

use crate::{PATIENCE, number, numbers};

#[tokio::test]
async fn a_call_that_asks_for_the_time_and_is_not_polled_holds_nobody_up() {
    let cache = numbers("parked").await;
    let mut parked = Box::pin(cache.set("a", &1).into_future());
    let is_parked = poll_fn(|context| Poll::Ready(parked.as_mut().poll(context).is_pending()));
    assert!(is_parked.await, "it is the first one, and asks for the time");
    let others = async {
        cache.set("b", &2).await.unwrap();
        cache.get_or_load("c", || number(3)).await.unwrap()
    };
    assert_eq!(timeout(PATIENCE, others).await.expect("nobody waits for it"), 3);
    parked.await.unwrap();
    assert_eq!(cache.get_many(["a", "b"]).await.unwrap(), [Some(1), Some(2)]);
}

#[tokio::test]
async fn a_set_waits_no_longer_for_the_time_than_its_connection_for_an_answer() {
    let server = Server::start().unwrap();
    let config = Config::builder().url(server.url()).command_timeout(Duration::from_millis(100));
    let cache = Cache::<u64>::builder(Conn::connect(config).await.unwrap(), "products");
    let cache = cache.redis_timeout(PATIENCE).build().unwrap();
    let _paused = server.pause().unwrap();
    let began = Instant::now();
    assert!(cache.set("a", &1).await.unwrap_err().is_timeout());
    assert!(began.elapsed() < PATIENCE / 2, "{:?}", began.elapsed());
}
