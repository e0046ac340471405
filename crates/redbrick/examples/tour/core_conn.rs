//! The connection, and what it offers by itself.

use std::{error::Error, time::Duration};

use redbrick::prelude::*;
use redbrick_testkit::Server;
use serde::{Deserialize, Serialize};

use crate::steps::Tour;

#[derive(Debug, Deserialize, PartialEq, Serialize)]
struct User {
    name: String,
    born: u16,
}

/// Typed values and counters.
pub(crate) async fn values(tour: &mut Tour, conn: &Conn) -> Result<(), Box<dyn Error>> {
    tour.step("Typed values");
    let ada = User { name: "Ada".to_owned(), born: 1815 };
    conn.set("user:1", &ada).time_to_live(Duration::from_secs(3600)).await?;
    tour.say("stored a struct for an hour, as MessagePack");
    let found: Option<User> = conn.get("user:1").await?;
    assert_eq!(found.as_ref(), Some(&ada));
    tour.say(format_args!("read it back: {found:?}; {:?}", conn.ttl("user:1").await?));

    conn.with_codec(Codec::Json).set("user:2", &ada).await?;
    let found: Option<User> = conn.get("user:2").await?;
    tour.say(format_args!("and one as JSON; reading needs no choice: {}", found == Some(ada)));

    let first = conn.set("seen", &true).if_absent().await?;
    let second = conn.set("seen", &true).if_absent().await?;
    tour.say(format_args!("stored only if absent: {first}, then {second}"));
    for _ in 0..3 {
        conn.increment("visits", 1).await?;
    }
    tour.say(format_args!("a counter after three visits: {:?}", conn.count("visits").await?));
    Ok(())
}

/// Takes from a stock as long as there is enough.
static TAKE: Script = Script::new(
    "tour.take",
    "local left = tonumber(redis.call('GET', KEYS[1]) or 0)
     if left < tonumber(ARGV[1]) then return {0, left} end
     return {1, redis.call('DECRBY', KEYS[1], ARGV[1])}",
);

/// Several calls in one round trip, several as one, and a script.
pub(crate) async fn several(tour: &mut Tour, conn: &Conn) -> Result<(), Box<dyn Error>> {
    tour.step("Several calls");
    let mut pipeline = conn.pipeline();
    for n in 0..1000 {
        let _ = pipeline.add(conn.set(format!("page:{n}"), &n));
    }
    pipeline.send().await.check()?;
    tour.say("a pipeline stored 1,000 values in one round trip");

    let mut transaction = conn.transaction();
    let left = transaction.add(conn.increment("stock:{7}", 5));
    let sold = transaction.add(conn.hash("ledger:{7}").increment("bought", 5));
    let mut results = transaction.send().await?;
    let (left, sold) = (results.take(left)?, results.take(sold)?);
    tour.say(format_args!("a transaction, all or nothing: {left} in stock, {sold} bought"));

    for wanted in [3, 3] {
        let (taken, left): (bool, i64) =
            conn.script(&TAKE).key("stock:{7}").arg(wanted).run().await?;
        tour.say(format_args!("a script, atomically: take {wanted}? {taken}, {left} left"));
    }

    let deleted = conn.delete_matching(Pattern::new("page:*")?).await?;
    tour.say(format_args!("found and deleted {deleted} keys, a thousand in a step"));
    Ok(())
}

/// Subscriptions that say what they miss, and waiting for work.
pub(crate) async fn messages(
    tour: &mut Tour,
    conn: &Conn,
    server: &Server,
) -> Result<(), Box<dyn Error>> {
    tour.step("Messages, and a link that is killed");
    let mut orders = conn.subscribe().channel("orders").await?;
    conn.publish("orders", "order 1").await?;
    if let Some(Event::Message(message)) = orders.next().await {
        tour.say(format_args!("a message: {}", message.value::<String>()?));
    }
    server.command(["CLIENT", "KILL", "TYPE", "pubsub"])?;
    if let Some(Event::Gap { .. }) = orders.next().await {
        tour.say("the link is gone: a gap, in which messages may be missing");
    }
    if let Some(Event::Resumed) = orders.next().await {
        tour.say("subscribed again, by itself");
    }

    let worker = tokio::spawn({
        let conn = conn.clone();
        async move { conn.list("jobs").pop_front_within::<String>(Duration::from_secs(10)).await }
    });
    conn.list("jobs").push_back("a job").await?;
    tour.say(format_args!("a worker that waited at the server has {:?}", worker.await??));
    Ok(())
}

/// What a copy in this process is kept true by.
pub(crate) async fn changes(tour: &mut Tour, conn: &Conn) -> Result<(), Box<dyn Error>> {
    tour.step("What changes on the server, as it happens");
    let mut feed = conn.track().prefix("user:").await?;
    tour.say(format_args!("first, forget everything: {:?}", feed.next().await));
    conn.set("user:1", &true).await?;
    tour.say(format_args!("somebody wrote: {:?}", feed.next().await));
    Ok(())
}

/// Words of the protocol as data, which must not confuse anybody.
pub(crate) async fn poison(tour: &mut Tour, conn: &Conn) -> Result<(), Box<dyn Error>> {
    tour.step("Words of the protocol, stored as values");
    let plain = conn.with_codec(Codec::Plain);
    plain.list("words").extend(["subscribe", "message", "OK"]).await?;
    let words: Vec<String> = plain.list("words").range(..).await?;
    tour.say(format_args!(
        "read back {words:?}, and the next call still gets its own answer: {:?}",
        conn.count("visits").await?
    ));
    Ok(())
}

/// What goes wrong says what to do.
pub(crate) async fn mistakes(tour: &mut Tour) {
    tour.step("Mistakes, and what they say");
    let wrong = [
        ("REDIS_PORT=sixty", Config::from_vars([("REDIS_PORT", "sixty")])),
        (
            "REDIS_URL=redis://cache/1 REDIS_DB=2",
            Config::from_vars([("REDIS_URL", "redis://cache/1"), ("REDIS_DB", "2")]),
        ),
        ("localhost:6379", Config::from_url("localhost:6379")),
    ];
    for (mistake, result) in wrong {
        if let Err(err) = result {
            tour.say(format_args!("{mistake}: {err}"));
        }
    }
    if let Err(err) = Conn::connect("redis://127.0.0.1:1").await {
        tour.say(format_args!("redis://127.0.0.1:1: {err}"));
    }
}
