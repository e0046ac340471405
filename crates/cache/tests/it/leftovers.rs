#![expect(clippy::unwrap_used, reason = "the helpers here are part of the tests")]

use std::time::Duration;

use redbrick_core_conn::Conn;
use redbrick_testkit::Server;

use crate::{number, patient, until};

fn keys(server: &Server) -> Vec<String> {
    // There are few, so that one step finds them all.
    let step = server.command(["SCAN", "0", "COUNT", "1000"]).unwrap();
    let keys = &step.as_array().unwrap()[1];
    let mut keys: Vec<_> = keys.as_strings().unwrap().into_iter().map(str::to_owned).collect();
    keys.sort();
    keys
}

#[tokio::test]
async fn every_key_has_a_life_and_entries_leases_and_counters_leave_nothing() {
    let server = Server::start().unwrap();
    let conn = Conn::connect(server.url()).await.unwrap();
    let cache = redbrick_cache::Cache::<u64>::builder(conn, "a")
        .time_to_live(Duration::from_millis(300))
        .load_timeout(Duration::from_millis(300))
        .redis_timeout(crate::PATIENCE)
        .build()
        .unwrap();
    cache.set("set", &1).await.unwrap();
    cache.get_or_load("loaded", || number(1)).await.unwrap();
    let failed = cache.get_or_load("failed", async || Err::<u64, _>(std::io::Error::other("no")));
    failed.await.unwrap_err();
    cache.increment("counted", 1).await.unwrap();
    until("the server is empty", move || server.command(["DBSIZE"]).unwrap().as_int() == Some(0))
        .await;
}

#[tokio::test]
async fn tags_and_published_statistics_stay_for_a_stated_time() {
    let server = Server::start().unwrap();
    let cache = patient::<u64>(Conn::connect(server.url()).await.unwrap());
    cache.set("a", &1).tags(["t"]).await.unwrap();
    cache.get_or_load("b", || number(1)).tags(["t"]).await.unwrap();
    cache.publish_statistics().await.unwrap();
    cache.clear_all().await.unwrap();
    assert_eq!(keys(&server), ["cache:products:statistics", "cache:products:tag:{t}"]);
    let days = |key: &str| server.command(["TTL", key]).unwrap().as_int().unwrap() / 86_400;
    assert!((29..=30).contains(&days("cache:products:tag:{t}")));
    assert!((6..=7).contains(&days("cache:products:statistics")));
    cache.invalidate_tag("t").await.unwrap();
    assert_eq!(keys(&server), ["cache:products:statistics"]);
}

#[tokio::test]
async fn a_tag_lives_as_long_as_the_entries_that_use_it() {
    let server = Server::start().unwrap();
    let cache = patient::<u64>(Conn::connect(server.url()).await.unwrap());
    let day = Duration::from_secs(86_400);
    let days =
        || server.command(["TTL", "cache:products:tag:{t}"]).unwrap().as_int().unwrap() / 86_400;
    cache.set("a", &1).tags(["t"]).await.unwrap();
    cache.set("b", &1).tags(["t"]).time_to_live(day * 100).await.unwrap();
    assert!((199..=200).contains(&days()), "{}", days());
    cache.set("c", &1).tags(["t"]).await.unwrap();
    assert!((199..=200).contains(&days()), "never shorter");
    assert_eq!(cache.get_many(["a", "b", "c"]).await.unwrap(), [Some(1); 3], "nor another version");
}
