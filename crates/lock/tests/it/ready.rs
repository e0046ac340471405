use std::time::Duration;

use redbrick_core_conn::{Config, Conn};
use redbrick_lock::{Error, Lock};
use redbrick_testkit::Server;
use tokio::time::timeout;

use crate::{PATIENCE, connect};

#[tokio::test]
async fn answers_while_the_server_is_there() {
    let lock = Lock::new(connect("answers").await);

    let ready = timeout(PATIENCE, lock.ready()).await;

    ready.expect("it answers in time").expect("the server is there");
}

#[test]
fn its_name_is_part_of_its_keys() {
    let conn = || Conn::connect_lazy("redis://127.0.0.1:1").expect("the address is right");

    let named = Lock::builder(conn()).name("a:b").build();

    assert_eq!(Lock::new(conn()).prefix().to_string(), "lock");
    assert_eq!(named.prefix().to_string(), "lock:a%3Ab");
}

#[tokio::test]
async fn says_that_redis_is_away_and_may_come_back() {
    let server = Server::start().expect("a server of its own");
    let config = Config::builder().url(server.url()).connect_timeout(Duration::from_millis(300));
    let lock = Lock::new(Conn::connect_lazy(config).expect("the config is right"));
    server.kill().expect("the server is killed");

    let Err(error) = lock.ready().await else { panic!("nobody is there to answer") };

    assert!(error.is_retryable(), "{error:?}");
    let Error::Conn(source) = &error else { panic!("{error:?}") };
    assert_eq!(error.is_timeout(), source.is_timeout(), "{error:?}");
    assert_eq!(error.is_outcome_unknown(), source.is_outcome_unknown(), "{error:?}");
}
