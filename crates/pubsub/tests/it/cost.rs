use redbrick_pubsub::{Message, PubSub};

use crate::{Texts, some};

async fn ignore<T>(call: impl Future<Output = T>) {
    let _ = call.await;
}

#[tokio::test]
async fn each_call_is_one_round_trip() {
    let server = crate::server();
    let conn = redbrick_core_conn::Conn::connect(server.url()).await.unwrap();
    let pubsub = PubSub::new(conn, "tests");
    let room: Texts = pubsub.room("lobby");
    // The server learns the scripts, and opens the link for messages.
    let _stream = pubsub.subscribe::<u8>().channel("warm").await.unwrap();
    room.join("warm", &"x".into()).await.unwrap();
    room.keep("warm").await.unwrap();
    room.members().await.unwrap();
    room.count().await.unwrap();
    room.broadcast(&"x".into()).await.unwrap();
    room.recent().await.unwrap();
    room.leave("warm").await.unwrap();

    let mut stream = None;
    let mut handler = None;
    let info = "x".to_owned();
    for (what, cost, expected) in [
        (
            "publish",
            server.cost(ignore(async { pubsub.publish("a", "k", &1).await.unwrap() })).await,
            "publish 1",
        ),
        (
            "publish_many",
            server
                .cost(ignore(async {
                    pubsub.publish_many(["a", "b", "c"], "k", &1).await.unwrap()
                }))
                .await,
            "publish 3",
        ),
        (
            "subscribe",
            server
                .cost(async { stream = Some(pubsub.subscribe::<u8>().channel("a").await.unwrap()) })
                .await,
            "subscribe 1",
        ),
        (
            "on",
            server
                .cost(async {
                    handler = Some(pubsub.on("b", |_: Message<u8>| async {}).await.unwrap());
                })
                .await,
            "subscribe 1",
        ),
        (
            "join",
            server.cost(ignore(async { room.join("ada", &info).await.unwrap() })).await,
            "evalsha 1, hset 1, pexpireat 2, time 1, zadd 1, zrange 1, zrangebyscore 1, zscore 1",
        ),
        (
            "keep",
            server.cost(ignore(async { room.keep("ada").await.unwrap() })).await,
            "evalsha 1, hexists 1, pexpireat 2, time 1, zadd 1, zrange 1, zscore 1",
        ),
        (
            "members",
            server.cost(ignore(async { room.members().await.unwrap() })).await,
            "evalsha 1, hgetall 1, time 1, zrange 1, zrangebyscore 1",
        ),
        (
            "count",
            server.cost(ignore(async { room.count().await.unwrap() })).await,
            "evalsha 1, time 1, zcount 1",
        ),
        (
            "leave",
            server.cost(ignore(async { room.leave("ada").await.unwrap() })).await,
            "evalsha 1, hdel 1, time 1, zrem 1, zscore 1",
        ),
        (
            "broadcast",
            server.cost(ignore(async { room.broadcast(&info).await.unwrap() })).await,
            "evalsha 1, lpush 1, ltrim 1, pexpire 1, publish 1",
        ),
        (
            "recent",
            server.cost(ignore(async { room.recent_n(some(50)).await.unwrap() })).await,
            "evalsha 1, lrange 1",
        ),
        ("nothing", server.cost(ignore(async { pubsub.active().len() })).await, ""),
    ] {
        assert_eq!(cost.unwrap(), expected, "{what}");
    }
}
