//! The same history of a cache that is none: it stores what was loaded, whatever happened meanwhile.

#![expect(clippy::unwrap_used, reason = "a part of the test")]

use std::{sync::Arc, time::Duration};

use redbrick_core_conn::Conn;
use redbrick_testkit::Server;
use tokio::task::JoinSet;

use super::{
    chance,
    database::{Database, Place, Value, Who, connect},
    member::millis,
};
use crate::PATIENCE;

const READERS: usize = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cache_that_stores_whatever_was_loaded_is_found_out() {
    let (server, source) = (Server::start().unwrap(), Server::start().unwrap());
    let database = Arc::new(Database::connect(&source.url()).await);
    let mut chance = chance("naive");
    let place = Place::random(&mut chance);
    let mut tasks = JoinSet::new();
    for _ in 0..READERS {
        let (conn, database) = (connect(&server.url(), "naive").await, Arc::clone(&database));
        tasks.spawn(read(conn, database, place, chance.fork()));
    }
    let conn = connect(&server.url(), "naive").await;
    tasks.spawn(write(conn, Arc::clone(&database), place, chance.fork()));
    let violation = database.violation(PATIENCE).await.expect("the checker finds it");
    assert!(violation.starts_with("naive of"), "{violation}");
}

async fn read(conn: Conn, database: Arc<Database>, place: Place, mut chance: fastrand::Rng) {
    loop {
        let floor = database.floor(place).await;
        let value = match conn.get::<Value>(place.id()).await.unwrap() {
            Some(value) => value,
            None => {
                let value = database.load(place).await;
                crate::rest(millis(&mut chance, 0..3)).await;
                conn.set(place.id(), &value).time_to_live(Duration::from_secs(1)).await.unwrap();
                value
            }
        };
        database.check("naive", place, floor, &value).await;
    }
}

async fn write(conn: Conn, database: Arc<Database>, place: Place, mut chance: fastrand::Rng) {
    loop {
        let changed = database.change(&[place]).await;
        conn.delete(place.id()).await.unwrap();
        database.changed(Who::All, &changed).await;
        crate::rest(millis(&mut chance, 1..10)).await;
    }
}
