//! A cluster: it forms, moves slots, fails over, and can be had behind proxies.

use std::{
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use redbrick_testkit::{Cluster, Error, Fault, Server};

use crate::client::Client;

#[test]
fn forms_with_all_slots_and_replicas() {
    let cluster = Cluster::start().unwrap();
    assert_eq!(cluster.nodes().len(), 6);
    assert_eq!(cluster.masters().unwrap(), [0, 1, 2]);
    assert_eq!(cluster.replicas().unwrap(), [3, 4, 5]);
    let owners = [0, 8191, 16_383].map(|slot| cluster.slot_owner(slot).unwrap());
    assert_eq!(owners, [0, 1, 2]);
    let urls: Vec<_> = cluster.nodes().iter().map(Server::url).collect();
    assert_eq!(cluster.urls(), urls);
    let others: Vec<_> = urls[1..].iter().map(|url| url.replace("redis://", "node=")).collect();
    let first = urls[0].replace("redis", "redis-cluster");
    assert_eq!(cluster.url(), format!("{first}?{}", others.join("&")));
}

#[test]
fn follows_redirections() {
    let cluster = one();
    for key in ["a", "b", "c", "d"] {
        assert_eq!(cluster.command(["SET", key, "1"]).unwrap().as_str(), Some("OK"));
    }
    let refused = cluster.command(["INCR"]).unwrap_err();
    assert!(refused.reply().unwrap().starts_with("ERR wrong number"), "{refused}");
}

#[test]
fn counts_what_its_nodes_ran() {
    let cluster = one();
    let before = cluster.command_counts().unwrap();
    cluster.command(["SET", "counted", "1"]).unwrap();
    let owner = cluster.slot_owner(cluster.slot_of("counted").unwrap()).unwrap();
    let mut client = Client::connect(cluster.nodes()[owner].address()).unwrap();
    client.ask("STRLEN counted").unwrap();
    let since = cluster.command_counts().unwrap().since(&before);
    assert_eq!((since.of("strlen"), since.of("cluster")), (1, 0), "{since:?}");
}

#[test]
fn moves_a_slot_with_its_keys() {
    let cluster = one();
    let slot = cluster.slot_of("{move}").unwrap();
    let from = cluster.slot_owner(slot).unwrap();
    for n in 0..250 {
        cluster.command(["SET", &format!("{{move}}{n}"), "1"]).unwrap();
    }
    let to = other_master(&cluster, from);
    cluster.migrate_slot(slot, to).unwrap();
    assert_eq!(cluster.slot_owner(slot).unwrap(), to);
    let count = |node: usize| {
        let command = ["CLUSTER", "COUNTKEYSINSLOT", &slot.to_string()];
        cluster.nodes()[node].command(command).unwrap().as_int()
    };
    assert_eq!((count(from), count(to)), (Some(0), Some(250)));
    assert_eq!(cluster.command(["GET", "{move}7"]).unwrap().as_str(), Some("1"));
    let again = cluster.migrate_slot(slot, to);
    assert!(matches!(again, Err(Error::Reply { .. })), "it is there already");
    let replica = cluster.replicas().unwrap()[0];
    assert!(matches!(cluster.migrate_slot(slot, replica), Err(Error::Reply { .. })));
}

#[test]
fn a_migration_redirects_until_it_is_finished() {
    let cluster = one();
    let slot = cluster.slot_of("{ask}").unwrap();
    cluster.command(["SET", "{ask}1", "1"]).unwrap();
    let from = cluster.slot_owner(slot).unwrap();
    let to = other_master(&cluster, from);
    let migration = cluster.start_migration(slot, to).unwrap();
    assert_eq!((migration.from(), migration.to()), (from, to));
    let old = &cluster.nodes()[from];
    let refusal = |key| old.command(["GET", key]).unwrap_err().reply().unwrap().to_owned();
    assert_eq!(old.command(["GET", "{ask}1"]).unwrap().as_str(), Some("1"));
    assert!(refusal("{ask}2").starts_with("ASK "));
    cluster.command(["SET", "{ask}2", "2"]).unwrap();
    assert_eq!(migration.move_keys(10).unwrap(), 1);
    assert!(refusal("{ask}1").starts_with("ASK "));
    migration.finish().unwrap();
    assert!(refusal("{ask}1").starts_with("MOVED "));
    assert_eq!(cluster.command(["GET", "{ask}2"]).unwrap().as_str(), Some("2"));
}

#[test]
fn fails_over_in_good_order() {
    let cluster = one();
    let slot = cluster.slot_of("kept").unwrap();
    cluster.command(["SET", "kept", "1"]).unwrap();
    let old = cluster.slot_owner(slot).unwrap();
    let new = cluster.failover(old).unwrap();
    assert_eq!(cluster.slot_owner(slot).unwrap(), new);
    assert!(cluster.replicas().unwrap().contains(&old));
    assert_eq!(cluster.command(["GET", "kept"]).unwrap().as_str(), Some("1"));
    assert!(matches!(cluster.failover(old), Err(Error::Reply { .. })), "it is a replica now");
}

#[test]
fn survives_the_death_of_a_master() {
    let cluster = one();
    let old = cluster.slot_owner(cluster.slot_of("left").unwrap()).unwrap();
    // On one connection, for a WAIT counts the writes of its own.
    let mut client = Client::connect(cluster.nodes()[old].address()).unwrap();
    assert_eq!(client.ask("SET left 2").unwrap(), "+OK");
    assert_eq!(client.ask("WAIT 1 10000").unwrap(), ":1");
    let new = cluster.kill_master(old).unwrap();
    assert_ne!(new, old);
    assert_eq!(cluster.command(["GET", "left"]).unwrap().as_str(), Some("2"));
    cluster.heal().unwrap();
    assert!(cluster.replicas().unwrap().contains(&old));
}

#[test]
fn hides_behind_proxies() {
    let cluster = Cluster::builder().masters(3).replicas(0).proxied().start().unwrap();
    assert_eq!(cluster.nodes().len(), 3);
    let slot = cluster.slot_of("a").unwrap();
    let owner = cluster.slot_owner(slot).unwrap();
    let other = other_master(&cluster, owner);
    let mut client = Client::connect(cluster.proxy(other).address()).unwrap();
    let moved = format!("-MOVED {slot} {}", cluster.proxy(owner).address());
    assert_eq!(client.ask("SET a 1").unwrap(), moved, "redirections lead to proxies");
    assert_eq!(cluster.urls()[owner], cluster.proxy(owner).url());
    assert_eq!(cluster.command(["SET", "a", "1"]).unwrap().as_str(), Some("OK"));

    let mut client = Client::connect(cluster.proxy(owner).address()).unwrap();
    cluster.proxy(owner).set(Fault::Stall);
    client.send("GET a").unwrap();
    assert!(client.is_silent(Duration::from_millis(200)));
    let mut untouched = Client::connect(cluster.proxy(other).address()).unwrap();
    assert_eq!(untouched.ask("PING").unwrap(), "+PONG");
    cluster.proxy(owner).clear();
    assert_eq!(client.bulk().unwrap(), b"1");
    cluster.migrate_slot(slot, other).unwrap();
    let moved = format!("-MOVED {slot} {}", cluster.proxy(other).address());
    assert_eq!(client.ask("GET a").unwrap(), moved);
}

#[test]
fn replicas_follow_through_proxies() {
    let cluster = Cluster::builder().proxied().start().unwrap();
    let slot = cluster.slot_of("a").unwrap();
    let owner = cluster.slot_owner(slot).unwrap();
    let heir = cluster.failover(owner).unwrap();
    let mut client = Client::connect(cluster.proxy(heir).address()).unwrap();
    assert_eq!(client.ask("SET a 1").unwrap(), "+OK");
    assert_eq!(client.ask("WAIT 1 10000").unwrap(), ":1");
}

#[test]
fn needs_a_master() {
    assert!(matches!(Cluster::builder().masters(0).start(), Err(Error::Config { .. })));
}

/// One for the tests that leave it whole, one after the other.
fn one() -> MutexGuard<'static, Cluster> {
    static ONE: OnceLock<Mutex<Cluster>> = OnceLock::new();
    let start = || Mutex::new(Cluster::start().expect("a cluster"));
    let cluster = ONE.get_or_init(start).lock().unwrap_or_else(PoisonError::into_inner);
    // A test that failed may have left something open.
    cluster.heal().expect("a cluster that is well");
    cluster
}

fn other_master(cluster: &Cluster, master: usize) -> usize {
    let masters = cluster.masters().expect("masters");
    *masters.iter().find(|other| **other != master).expect("another master")
}
