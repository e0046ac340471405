use redbrick_cache::Error;
use redbrick_core_conn::ErrorKind;

use crate::{number, numbers};

#[tokio::test]
async fn entries_go_by_patterns_over_their_keys_as_given_and_are_counted() {
    let cache = numbers("clear").await;
    let keys =
        ["user:1", "user:2", "user:2:posts", "list:a*b", "list:ab", "{user:1}", "", "sämtlich"];
    for key in keys {
        cache.set(key, &1).await.unwrap();
        cache.increment(key, 1).await.unwrap();
    }
    assert_eq!(cache.clear(["user:*:posts"]).await.unwrap(), 1);
    assert_eq!(cache.clear([r"list:a\*b"]).await.unwrap(), 1);
    assert_eq!(cache.clear(["user:*", "{user*}", "nothing:*"]).await.unwrap(), 3);
    assert_eq!(cache.clear(["s*mt*"]).await.unwrap(), 1);
    assert_eq!(cache.get_many(["list:ab", ""]).await.unwrap(), [Some(1), Some(1)]);
    assert_eq!(cache.clear_all().await.unwrap(), 2);
    assert_eq!(cache.clear_all().await.unwrap(), 0);
    assert_eq!(cache.count("user:1").await.unwrap(), Some(1), "counters stay");
    assert_eq!(cache.get_or_load("user:1", || number(2)).await.unwrap(), 2);
}

#[tokio::test]
async fn a_wrong_pattern_is_refused_before_anything_is_deleted() {
    let cache = numbers("wrong pattern").await;
    cache.set("a", &1).await.unwrap();
    for wrong in ["a?", "[a]", r"a\"] {
        let Error::Conn(error) = cache.clear(["*", wrong]).await.unwrap_err() else { panic!() };
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{wrong}");
    }
    assert_eq!(cache.get("a").await.unwrap(), Some(1));
}
