#![expect(clippy::unwrap_used, reason = "the helpers here are part of the tests")]

use std::{sync::Arc, time::Duration};

use redbrick_core_conn::Conn;
use redbrick_resource::Resource;
use redbrick_testkit::Server;
use serde_json::json;

use crate::{User, eventually, user};

fn is_empty(server: &Server) -> bool {
    server.command(["DBSIZE"]).unwrap().as_int() == Some(0)
}

async fn own() -> (Arc<Server>, Resource<User>) {
    let server = Arc::new(Server::start().unwrap());
    let users = Resource::new(Conn::connect(server.url()).await.unwrap());
    (server, users)
}

#[tokio::test]
async fn nothing_stays_of_records_that_were_removed() {
    let (server, users) = own().await;
    for n in 0..20 {
        users.create(&user(n)).await.unwrap();
        users.update(n.to_string(), &json!({"city": n.to_string(), "nick": "x"})).await.unwrap();
        users.touch(n.to_string()).time_to_live(Duration::from_secs(60)).await.unwrap();
        users.save(&user(n)).await.unwrap();
    }
    assert!(!is_empty(&server));
    for n in 0..20 {
        if n % 2 == 0 {
            users.delete(n.to_string()).await.unwrap().unwrap();
        } else {
            users.pick(n.to_string()).await.unwrap();
        }
    }
    assert!(is_empty(&server));
}

#[tokio::test]
async fn nothing_stays_of_records_that_expired_and_were_never_asked_for_again() {
    let (server, users) = own().await;
    for n in 0..20_u64 {
        users.create(&user(n)).time_to_live(Duration::from_millis(50 + n)).await.unwrap();
    }
    users.create(&user("endless")).await.unwrap();
    users.delete("endless").await.unwrap();
    eventually("an empty server", move || is_empty(&server)).await;
}

#[tokio::test]
async fn nothing_stays_of_what_expired_among_others_once_those_go() {
    let (server, users) = own().await;
    users.create(&user("endless")).await.unwrap();
    for n in 0..20 {
        users.create(&user(n)).time_to_live(Duration::from_millis(20)).await.unwrap();
    }
    let wait = async { while users.exists("19").await.unwrap() {} };
    tokio::time::timeout(crate::PATIENCE, wait).await.unwrap();
    users.delete("endless").await.unwrap();
    // A server counts keys whose time is over until it comes by.
    eventually("an empty server", move || is_empty(&server)).await;
}

#[tokio::test]
async fn nothing_stays_of_messages_and_calls_that_were_given_up() {
    let (server, users) = own().await;
    let messages = users.subscribe::<u8>().await.unwrap();
    let subscribed = || {
        let list = server.command(["PUBSUB", "CHANNELS", "resource*"]).unwrap();
        list.as_array().unwrap().len()
    };
    assert_eq!(subscribed(), 1);
    drop(messages);
    users.publish(&1).await.unwrap();
    for _ in 0..10 {
        let list = users.list();
        drop(tokio::time::timeout(Duration::ZERO, list.into_future()).await);
        drop(tokio::time::timeout(Duration::ZERO, users.get("x")).await);
    }
    let asked = Arc::clone(&server);
    eventually("nobody subscribed", move || {
        let list = asked.command(["PUBSUB", "CHANNELS", "resource*"]).unwrap();
        list.as_array().unwrap().is_empty()
    })
    .await;
    assert!(is_empty(&server));
}
