//! Round trips: each `evalsha` or `eval` (in a pipeline), and each command that no script runs, is one. What scripts do within theirs is counted too.

use std::time::Duration;

use redbrick_cache::{Cache, Change, Rules, Target};
use redbrick_core_conn::Conn;
use redbrick_testkit::Server;

use crate::{never, number, patient};

#[tokio::test]
async fn every_call_costs_what_it_says() {
    let server = Server::start().unwrap();
    let conn = Conn::connect(server.url()).await.unwrap();
    let (cache, cache_conn) = (patient::<u64>(conn.clone()), conn);
    let life = Duration::from_secs(5);
    let rules = Rules::builder().on("x", Change::Update, [Target::shorten("a", life)]);
    let rules = rules.build().unwrap();
    // The scripts are known to the server from here on.
    cache.get_or_load("first", || number(1)).tags(["first"]).await.unwrap();
    cache.set("first", &1).tags(["first"]).await.unwrap();
    cache.set_many([("first", &1), ("second", &2)]).tags(["first", "second"]).await.unwrap();
    cache.ttl("first").await.unwrap();
    cache.delete("first").await.unwrap();
    cache.increment("first", 1).await.unwrap();
    cache.publish_statistics().await.unwrap();
    cache.fleet_statistics().await.unwrap();
    cache.apply(&rules, "x", Change::Update, &[]).await.unwrap();
    let cost = async |calls: std::pin::Pin<Box<dyn Future<Output = ()> + Send + '_>>| {
        server.cost(calls).await.unwrap()
    };
    macro_rules! costs {
        ($call:expr, $cost:literal) => {
            let found = cost(Box::pin(async {
                let _ = $call.await.unwrap();
            }))
            .await;
            assert_eq!(found, $cost, "{}", stringify!($call));
        };
    }

    costs!(cache.get("a"), "get 1");
    costs!(cache.set("a", &1), "set 1");
    costs!(cache.get("a"), "get 1");
    costs!(cache.get_or_load("a", never), "get 1");
    costs!(cache.exists("a"), "get 1");
    costs!(cache.ttl("a"), "evalsha 1, getrange 1, pttl 1");
    costs!(cache.get_many(["a", "b"]), "mget 1");
    costs!(cache.delete("a"), "evalsha 1, getrange 1, unlink 1");
    costs!(cache.delete_many(["a", "b"]), "unlink 1");
    // One to look, one for the lease, one to store. What was deleted here is not looked for.
    costs!(cache.get_or_load("new", || number(1)), "evalsha 2, get 2, getrange 1, set 2");
    costs!(cache.get_or_load("a", || number(1)), "evalsha 2, get 1, getrange 1, set 2");

    // How old an entry is, the server's clock says, for which it is asked once.
    let revalidating = Cache::<u64>::builder(cache_conn, "products").redis_timeout(crate::PATIENCE);
    let revalidating = revalidating.stale_while_revalidate(life).build().unwrap();
    costs!(revalidating.get_or_load("a", never), "get 1, time 1");
    costs!(revalidating.get_or_load("a", never), "get 1");
    costs!(revalidating.get("a"), "get 1");

    costs!(cache.set("t", &1).tags(["x"]), "evalsha 1, get 1, set 2");
    costs!(cache.get("t"), "get 1, mget 1");
    costs!(cache.get_or_load("t", never), "get 1, mget 1");
    costs!(cache.get_many(["t", "a"]), "mget 2");
    costs!(cache.invalidate_tag("x"), "unlink 1");
    costs!(cache.invalidate_tags(["x", "y"]), "unlink 1");
    costs!(
        cache.get_or_load("t", || number(1)).tags(["x"]),
        "evalsha 3, get 4, getrange 1, mget 1, set 3"
    );
    costs!(cache.get_or_load("t", never).tags(["x"]), "get 1, mget 1");

    // Where nothing is expected, the lease is asked for at once.
    cache.delete("t").await.unwrap();
    costs!(cache.get_or_load("t", || number(1)), "evalsha 2, get 1, getrange 1, set 2");
    costs!(
        cache.refresh("t", || number(1)),
        "evalsha 2, get 2, getrange 3, pttl 1, set 2, unlink 1"
    );

    // Several entries go out in a pipeline, which carries the text of its script.
    costs!(cache.set("t", &1).tags(["x", "y"]), "evalsha 1, get 2, pttl 1, set 2");
    let tags: Vec<String> = (0..301).map(|n| n.to_string()).collect();
    costs!(cache.set("v", &1).tags(&tags[..300]), "evalsha 1, get 300, set 301");
    costs!(cache.set("v", &1).tags(&tags), "eval 2, evalsha 299, get 301, pttl 300, set 2");
    costs!(cache.set_many([("t", &1), ("u", &2)]).tags(["x"]), "evalsha 1, get 1, pttl 1, set 2");

    costs!(cache.increment("n", 1), "evalsha 1, get 1, incrby 1, pexpire 1, pttl 1");
    costs!(cache.decrement("n", 1), "decrby 1, evalsha 1, get 1, pttl 1");
    costs!(cache.count("n"), "get 1");
    costs!(cache.delete_count("n"), "unlink 1");

    costs!(
        cache.apply(&rules, "x", Change::Update, &[]),
        "eval 1, getrange 1, pexpire 1, pttl 1, setrange 1, time 1"
    );
    costs!(cache.publish_statistics(), "evalsha 1, hincrby 12, pexpire 1");
    costs!(cache.fleet_statistics(), "evalsha 1, hgetall 1");
    costs!(cache.clear(["nothing"]), "scan 1");
    costs!(cache.clear_all(), "scan 1, unlink 1");
}
