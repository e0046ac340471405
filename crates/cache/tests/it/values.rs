use std::{future::IntoFuture, time::Duration};

use redbrick_cache::{Cache, LONG, MEDIUM, SHORT, STATIC, VERY_LONG};
use redbrick_core_conn::{Codec, Conn, Ttl};
use redbrick_testkit::unique;
use serde::{Deserialize, Serialize};

use crate::{PATIENCE, connect, connect_below, numbers, numbers_below, patient};

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Product {
    name: String,
    price: f64,
}

fn lives(ttl: Ttl, about: Duration) -> bool {
    matches!(ttl, Ttl::Expires(left) if left <= about && left + PATIENCE * 3 > about)
}

#[tokio::test]
async fn a_value_is_stored_read_and_deleted() {
    let cache: Cache<Product> = patient(connect("values").await);
    let lamp = Product { name: "Lamp".to_owned(), price: 12.5 };
    assert_eq!(cache.get("7").await.unwrap(), None);
    assert!(!cache.exists("7").await.unwrap());
    assert_eq!(cache.ttl("7").await.unwrap(), Ttl::Missing);
    assert!(!cache.delete("7").await.unwrap());

    cache.set("7", &lamp).await.unwrap();
    assert_eq!(cache.get("7").await.unwrap().as_ref(), Some(&lamp));
    assert!(cache.exists("7").await.unwrap());
    assert_eq!(cache.get("8").await.unwrap(), None);

    assert!(cache.delete("7").await.unwrap());
    assert!(!cache.delete("7").await.unwrap());
    assert_eq!(cache.get("7").await.unwrap(), None);
}

#[tokio::test]
async fn an_entry_lives_for_an_hour_unless_the_cache_or_the_call_says_otherwise() {
    let conn = connect("lives").await;
    let cache = Cache::<u64>::new(conn.clone(), "a");
    cache.set("default", &1).await.unwrap();
    assert!(lives(cache.ttl("default").await.unwrap(), MEDIUM));
    for (name, life) in
        [("short", SHORT), ("long", LONG), ("very long", VERY_LONG), ("static", STATIC)]
    {
        cache.set(name, &1).time_to_live(life).await.unwrap();
        assert!(lives(cache.ttl(name).await.unwrap(), life), "{name}");
    }
    let other = Cache::<u64>::builder(conn, "b").time_to_live(LONG).build().unwrap();
    other.set("default", &1).await.unwrap();
    assert!(lives(other.ttl("default").await.unwrap(), LONG));
    other.set("gone", &1).time_to_live(Duration::from_millis(1)).await.unwrap();
    while other.exists("gone").await.unwrap() {}
    assert_eq!(
        [SHORT, MEDIUM, LONG, VERY_LONG, STATIC].map(|life| life.as_secs() / 60),
        [5, 60, 24 * 60, 7 * 24 * 60, 30 * 24 * 60]
    );
}

#[tokio::test]
async fn many_are_stored_read_and_deleted_at_once() {
    let cache = numbers("many").await;
    let keys: Vec<String> = (0..600).map(|n| format!("key {n}")).collect();
    let values: Vec<u64> = (0..600).collect();
    cache.set_many(keys.iter().zip(&values)).tags(["all"]).time_to_live(LONG).await.unwrap();
    assert!(lives(cache.ttl("key 599").await.unwrap(), LONG));

    let mut asked = keys.clone();
    asked.push("missing".to_owned());
    let found = cache.get_many(&asked).await.unwrap();
    assert_eq!(found[..600], values.iter().copied().map(Some).collect::<Vec<_>>());
    assert_eq!(found[600], None);

    assert_eq!(cache.delete_many(&asked[590..]).await.unwrap(), 10);
    cache.invalidate_tag("all").await.unwrap();
    assert!(cache.get_many(&keys).await.unwrap().iter().all(Option::is_none));

    cache.set_many(Vec::<(&str, &u64)>::new()).await.unwrap();
    assert!(cache.get_many(Vec::<&str>::new()).await.unwrap().is_empty());
    assert_eq!(cache.delete_many(Vec::<&str>::new()).await.unwrap(), 0);
}

#[tokio::test]
async fn caches_of_one_name_share_entries_and_those_of_two_do_not() {
    let prefix = unique("names");
    let (one, same) = (numbers_below(&prefix).await, numbers_below(&prefix).await);
    let other = Cache::<u64>::new(connect_below(&prefix).await, "other");
    one.set("a", &1).await.unwrap();
    assert_eq!(same.get("a").await.unwrap(), Some(1));
    assert_eq!(one.clone().get("a").await.unwrap(), Some(1));
    assert_eq!(other.get("a").await.unwrap(), None);
    assert_eq!(one.prefix().to_string(), "cache:products");
}

#[tokio::test]
async fn the_codec_is_that_of_the_connection_and_both_headers_are_read() {
    let prefix = unique("codec");
    let conn = connect_below(&prefix).await;
    let json: Cache<Product> = patient(conn.with_codec(Codec::Json));
    let packed: Cache<Product> = patient(conn.clone());
    let lamp = Product { name: "Lamp".to_owned(), price: 0.5 };
    json.set("a", &lamp).await.unwrap();
    let stored = conn.with_codec(Codec::Plain).get::<String>("cache:products:{a}").await;
    stored.expect_err("there are bytes before the JSON that are no text");
    assert_eq!(packed.get("a").await.unwrap(), Some(lamp.clone()));
    packed.set("b", &lamp).await.unwrap();
    assert_eq!(json.get("b").await.unwrap(), Some(lamp));
}

#[test]
fn handles_are_sent_and_shared_whatever_the_values_are() {
    fn is<T: Send + Sync + 'static + Clone>() {}
    fn sent<T: Send>(value: T) -> T {
        value
    }
    is::<Cache<std::cell::Cell<u64>>>();
    let conn = || Conn::connect_lazy("redis://127.0.0.1:1").unwrap();
    let cache = Cache::<u64>::new(conn(), "a");
    drop(sent(cache.get("a")));
    drop(sent(cache.set("a", &1).into_future()));
    drop(sent(cache.get_many(["a"])));
    drop(sent(cache.clear(["a"])));
    drop(sent(cache.get_or_load("a", || crate::number(1)).into_future()));
    drop(sent(cache.warm(["a"], std::num::NonZeroUsize::MIN, |_| crate::number(1))));
    drop(sent(cache.invalidate_tags(["a"])));
}
