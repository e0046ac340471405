use std::time::Duration;

use redbrick_cache::Invalidated;
use redbrick_testkit::unique;
use tokio::time::timeout;

use crate::{PATIENCE, numbers_below};

#[tokio::test]
async fn changes_by_others_are_said_and_what_is_no_entry_is_not() {
    let prefix = unique("feed");
    let (cache, other) = (numbers_below(&prefix).await, numbers_below(&prefix).await);
    let mut feed = cache.invalidations().await.unwrap();
    let next = async |feed: &mut redbrick_cache::Invalidations| {
        timeout(PATIENCE, feed.next()).await.expect("in time").expect("the connection is open")
    };
    assert_eq!(next(&mut feed).await, Invalidated::Everything, "at first");

    other.increment("counter", 1).await.unwrap();
    other.set("a:{1}", &1).await.unwrap();
    assert_eq!(next(&mut feed).await, Invalidated::Entry("a:{1}".into()));
    other.delete("a:{1}").await.unwrap();
    assert_eq!(next(&mut feed).await, Invalidated::Entry("a:{1}".into()));
    other.set("b", &1).tags(["t"]).await.unwrap();
    let said = [next(&mut feed).await, next(&mut feed).await];
    assert!(said.contains(&Invalidated::Tag("t".into())), "{said:?}");
    assert!(said.contains(&Invalidated::Entry("b".into())), "{said:?}");
    other.invalidate_tag("t").await.unwrap();
    assert_eq!(next(&mut feed).await, Invalidated::Tag("t".into()));
    other.set("c", &1).time_to_live(Duration::from_millis(20)).await.unwrap();
    assert_eq!(next(&mut feed).await, Invalidated::Entry("c".into()), "stored");
    assert_eq!(next(&mut feed).await, Invalidated::Entry("c".into()), "expired");
}
