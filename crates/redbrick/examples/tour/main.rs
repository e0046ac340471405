//! A tour of redbrick on a private server: what it does, and how long each step took.
//!
//! It starts a server of its own, kills it and starts it again, so it never touches one that is in use.

#![expect(clippy::print_stdout, reason = "a tour talks")]

mod cache;
mod core_conn;
mod lock;
mod outage;
mod pubsub;
mod ratelimit;
mod resource;
mod session;
mod steps;

use std::{error::Error, time::Duration};

use redbrick::prelude::*;
use redbrick_testkit::Server;
use steps::Tour;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut tour = Tour::begin();

    tour.step("A server of our own");
    let server = Server::start()?;
    tour.say(format_args!("{} answers at {}", server.version(), server.url()));

    tour.step("Connect, and ask how it is");
    let config = Config::builder()
        .url(server.url())
        .key_prefix("tour")
        .client_name("redbrick-tour")
        .command_timeout(Duration::from_secs(10))
        .build()?;
    let conn = Conn::connect(config).await?;
    tour.say(format_args!("state: {}", conn.state()));
    tour.say(conn.health().await);
    let capabilities: Vec<_> = conn.capabilities().await?.iter().collect();
    tour.say(format_args!("beyond the basics it has {capabilities:?}"));

    core_conn::values(&mut tour, &conn).await?;
    core_conn::several(&mut tour, &conn).await?;
    core_conn::messages(&mut tour, &conn, &server).await?;
    core_conn::changes(&mut tour, &conn).await?;
    core_conn::poison(&mut tour, &conn).await?;
    core_conn::mistakes(&mut tour).await;
    cache::walk(&mut tour, &conn).await?;
    lock::walk(&mut tour, &conn).await?;
    ratelimit::walk(&mut tour, &conn).await?;
    session::walk(&mut tour, &conn).await?;
    pubsub::walk(&mut tour, &conn).await?;
    resource::walk(&mut tour, &conn).await?;
    left(&mut tour, &conn).await?;
    outage::walk(&mut tour, &conn, &server).await?;

    tour.step("Close");
    let report = conn.close(Duration::from_secs(5)).await;
    tour.say(format_args!("every call ended by itself: {}", report.is_clean()));
    let err = conn.ping().await.expect_err("the connection is closed");
    tour.say(format_args!("a call after that: {err}"));
    drop(server);
    tour.say("the server is stopped and its files are gone");
    println!("\nThe code of this tour: {}", file!());
    Ok(())
}

/// What the bricks leave on the server: nothing without an end.
async fn left(tour: &mut Tour, conn: &Conn) -> Result<(), Box<dyn Error>> {
    tour.step("What the bricks leave behind");
    for brick in ["cache", "lock", "ratelimit", "session", "pubsub", "resource"] {
        let mut keys = Vec::new();
        let mut walk = conn.scan(Prefix::new(brick).all());
        while let Some(found) = walk.next().await? {
            keys.extend(found);
        }
        let mut ends = 0;
        for key in &keys {
            ends += u32::from(matches!(conn.ttl(key).await?, Ttl::Expires(_)));
        }
        tour.say(format_args!(
            "{brick}: {} keys, {ends} of which expire by themselves",
            keys.len()
        ));
    }
    Ok(())
}
