//! Sentinels, and masters that know nothing of each other.

use redbrick_testkit::{Error, Masters, Sentinel, wait_until};
use std::time::Duration;

use crate::client::Client;

#[test]
fn sentinels_replace_a_master() {
    let sentinel = Sentinel::start().unwrap();
    let places = sentinel.sentinel_addresses();
    assert_eq!(places.len(), 3);
    let url = format!(
        "redis-sentinel://{}?node={}&node={}&sentinelServiceName=mymaster",
        places[0], places[1], places[2]
    );
    assert_eq!(sentinel.url(), url);
    let first = sentinel.master().unwrap();
    assert_eq!(first.port(), sentinel.servers()[0].port());
    let mut asked = Client::connect(places[1]).unwrap();
    assert_eq!(asked.ask("SENTINEL GET-MASTER-ADDR-BY-NAME mymaster").unwrap(), "*2");

    let mut client = Client::connect(first.address()).unwrap();
    assert_eq!(client.ask("SET a 1").unwrap(), "+OK");
    assert_eq!(client.ask("WAIT 1 10000").unwrap(), ":1");
    let second = sentinel.kill_master().unwrap();
    assert_ne!(second.port(), first.port());
    assert_eq!(sentinel.master().unwrap().port(), second.port());
    assert_eq!(sentinel.command(["GET", "a"]).unwrap().as_str(), Some("1"));
    sentinel.command(["SET", "b", "1"]).unwrap();

    sentinel.heal().unwrap();
    let copied = || first.command(["GET", "b"]).is_ok_and(|value| value.as_str() == Some("1"));
    assert!(wait_until(Duration::from_secs(20), copied), "the old master is a replica");

    let third = sentinel.failover().unwrap();
    assert_eq!(third.port(), first.port());
    assert_eq!(sentinel.replica().unwrap().port(), second.port());
    assert_eq!(sentinel.command(["SET", "c", "1"]).unwrap().as_str(), Some("OK"));

    second.kill().unwrap();
    assert!(matches!(sentinel.failover(), Err(Error::Down { .. })), "nobody is there to take over");
    assert!(matches!(sentinel.kill_master(), Err(Error::Down { .. })));
    assert!(third.is_running());
}

#[test]
fn masters_know_nothing_of_each_other() {
    let masters = Masters::start(5).unwrap();
    assert_eq!((masters.servers().len(), masters.urls().len()), (5, 5));
    masters.servers()[0].command(["SET", "a", "1"]).unwrap();
    for other in &masters.servers()[1..] {
        assert!(other.command(["GET", "a"]).unwrap().is_nil());
    }
}
