//! What each call costs: the commands that the server runs, those inside scripts included.

use std::time::Duration;

use redbrick_session::{Device, Saved, SessionId};

use crate::{cart, own};

const TOUCH: &str =
    "evalsha 1, hmget 1, hset 1, pexpireat 2, pttl 1, time 1, zadd 1, zremrangebyscore 1";

/// Runs a call that must succeed, once for its script and once for its cost.
macro_rules! assert_cost {
    ($server:expr, $call:expr, $expected:expr) => {{
        let _ = $call.await.unwrap();
        let cost = $server.cost(async {
            let _ = $call.await.unwrap();
        });
        let cost = cost.await.unwrap();
        assert_eq!(cost, $expected, "{}", stringify!($call));
    }};
}

#[tokio::test]
async fn calls_by_id_take_one_round_trip() {
    let (server, sessions) = own().await;
    let mut made =
        sessions.create("ada", cart("x")).time_to_live(Duration::from_secs(60)).await.unwrap();
    let id: SessionId = *made.id();
    assert_cost!(
        server,
        sessions.create("ada", cart("x")).time_to_live(Duration::from_secs(30)),
        "evalsha 1, exists 1, hset 2, pexpireat 1, pttl 1, time 1, zadd 1, zremrangebyscore 1"
    );
    let full = || {
        let device = Device::new().user_agent("x").ip([192, 0, 2, 7]);
        let create = sessions.create("ada", cart("x")).device(device).role("r").email("e");
        create.metadata([("a", "b")]).time_to_live(Duration::from_secs(30))
    };
    assert_cost!(
        server,
        full(),
        "evalsha 1, exists 1, hset 7, pexpireat 1, pttl 1, time 1, zadd 1, zremrangebyscore 1"
    );
    assert_cost!(server, sessions.get(&id), "evalsha 1, hgetall 1");
    assert_cost!(server, sessions.is_valid(&id), "hexists 1");
    // The index follows the end of its last session, and costs one command less when there is a later one.
    assert_cost!(server, sessions.extend(&id, Duration::from_secs(60)), TOUCH);
    sessions.create("ada", cart("x")).time_to_live(Duration::from_secs(3600)).await.unwrap();
    let touch = TOUCH.replace("pexpireat 2", "pexpireat 1");
    assert_cost!(server, sessions.touch(&id), touch);
    let get_and_touch = touch.replace("hmget 1", "hgetall 1, hmget 1");
    assert_cost!(server, sessions.get_and_touch(&id), get_and_touch);
    assert_cost!(
        server,
        sessions.update_activity(&id),
        "evalsha 1, hmget 1, hset 1, time 1, zremrangebyscore 1"
    );
    assert_cost!(server, sessions.update(&id, &cart("y")), "evalsha 1, hmget 1, hset 2");
    assert_cost!(
        server,
        sessions.update_metadata(&id, [("a", Some("b")), ("c", None)]),
        "evalsha 1, hdel 1, hmget 1, hset 2"
    );
    made = sessions.get(made.id()).await.unwrap().unwrap();
    assert_cost!(server, sessions.save(&mut made), "evalsha 1, hdel 4, hkeys 1, hmget 1, hset 3");
    assert_eq!(sessions.save(&mut made).await.unwrap(), Saved::Saved);
    assert_cost!(server, sessions.delete(&id), "del 1, evalsha 1, hget 1");
    let other = sessions.create("ada", cart("x")).await.unwrap();
    let cost = server.cost(async { assert!(sessions.delete(other.id()).await.unwrap()) });
    assert_eq!(cost.await.unwrap(), "del 1, evalsha 1, hget 1, zrem 1");
}

#[tokio::test]
async fn calls_by_user_take_two_round_trips_at_most() {
    let (server, sessions) = own().await;
    for _ in 0..2 {
        for _ in 0..3 {
            sessions.create("ada", cart("x")).await.unwrap();
        }
        sessions.list("ada").await.unwrap();
        let cost = server.cost(async { assert_eq!(sessions.list("ada").await.unwrap().len(), 3) });
        let expected = "evalsha 2, hgetall 3, time 1, zrange 1, zremrangebyscore 1";
        assert_eq!(cost.await.unwrap(), expected);
        let cost = server.cost(async { assert_eq!(sessions.count("ada").await.unwrap(), 3) });
        assert_eq!(cost.await.unwrap(), "evalsha 1, time 1, zrange 1, zremrangebyscore 1");
        let cost = server.cost(async { assert_eq!(sessions.count("eve").await.unwrap(), 0) });
        assert_eq!(cost.await.unwrap(), "evalsha 1, time 1, zrange 1, zremrangebyscore 1");
        // The script is there from the first round on.
        sessions.delete_key("eve", &sessions.list("ada").await.unwrap()[0].key).await.unwrap();
        let list = sessions.list("ada").await.unwrap();
        let cost = server.cost(async {
            assert!(sessions.delete_key("ada", &list[0].key).await.unwrap());
        });
        assert_eq!(cost.await.unwrap(), "del 1, evalsha 1, zrem 1");
        let current = sessions.create("ada", cart("x")).await.unwrap();
        let cost = server.cost(async {
            assert_eq!(sessions.delete_others("ada", current.id()).await.unwrap(), 2);
        });
        let expected = "del 2, evalsha 2, time 1, zrange 1, zrem 2, zremrangebyscore 1";
        assert_eq!(cost.await.unwrap(), expected);
        let cost = server.cost(async { assert_eq!(sessions.delete_all("ada").await.unwrap(), 1) });
        let expected = "del 1, evalsha 2, time 1, zrange 1, zrem 1, zremrangebyscore 1";
        assert_eq!(cost.await.unwrap(), expected);
    }
}
