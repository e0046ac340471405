//! Calls that wait at the server.

use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
    task::Poll,
    time::Duration,
};

use redbrick_core_conn::{Codec, Config, Conn, ErrorKind, State};
use redbrick_testkit::{Cluster, Fault, Server};
use tokio::{task::JoinSet, time::Instant};

use crate::{
    PATIENCE, alone::is_long, chance::Chance, client_list, connect, cost, eventually,
    faults::forward, reach, server,
};

const SHORT: Duration = Duration::from_millis(100);

/// Waits until so many clients wait at the server.
async fn blocked(server: &Arc<Server>, count: usize) {
    let looked_at = Arc::clone(server);
    let is_blocked = |line: &String| line.contains(" flags=b");
    eventually("calls wait at the server", move || {
        client_list(&looked_at).iter().filter(|line| is_blocked(line)).count() == count
    })
    .await;
}

#[tokio::test]
async fn however_short_a_wait_is_it_ends() {
    let conn = connect("pop-short").await;
    let list = conn.list("none");
    // From here on there is a link to wait on.
    assert_eq!(list.pop_front_within::<String>(SHORT).await.unwrap(), None);
    let waits = async {
        for micros in 1..20 {
            let wait = Duration::from_micros(micros * 150);
            assert_eq!(list.pop_front_within::<String>(wait).await.unwrap(), None);
        }
    };
    tokio::time::timeout(PATIENCE / 2, waits).await.expect("none is for ever");
}

#[tokio::test]
async fn an_item_is_waited_for_at_both_ends() {
    let conn = connect("pop-within").await;
    let list = conn.list("jobs");
    list.extend(["first", "middle", "last"]).await.unwrap();
    assert_eq!(list.pop_front_within::<String>(SHORT).await.unwrap().as_deref(), Some("first"));
    assert_eq!(list.pop_back_within::<String>(SHORT).await.unwrap().as_deref(), Some("last"));
    assert_eq!(
        list.pop_front_within::<String>(Duration::ZERO).await.unwrap().as_deref(),
        Some("middle")
    );
    let started = Instant::now();
    assert_eq!(list.pop_front_within::<String>(SHORT).await.unwrap(), None);
    let took = started.elapsed();
    assert!(took >= SHORT && took < PATIENCE / 2, "{took:?}");
    assert_eq!(list.pop_back_within::<String>(Duration::ZERO).await.unwrap(), None);

    let waiting = tokio::spawn({
        let conn = conn.clone();
        async move { conn.list("jobs").pop_front_within::<String>(PATIENCE).await }
    });
    tokio::task::yield_now().await;
    list.push_back("late").await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap().as_deref(), Some("late"));
    conn.set("text", "x").await.unwrap();
    let err = conn.list("text").pop_front_within::<String>(SHORT).await.unwrap_err();
    assert_eq!(err.kind(), ErrorKind::WrongType, "{err:?}");
}

#[tokio::test]
async fn nothing_else_waits_behind_it_and_its_links_are_kept() {
    let server = server();
    let conn = Conn::connect(server.url()).await.unwrap();
    let clients = client_list(&server).len();
    for _ in 0..3 {
        let mut waiting = JoinSet::new();
        for n in 0..4 {
            let conn = conn.clone();
            waiting.spawn(async move {
                conn.list(format!("empty{n}")).pop_front_within::<i32>(PATIENCE).await
            });
        }
        blocked(&server, 4).await;
        let started = Instant::now();
        conn.set("k", &1).await.unwrap();
        assert_eq!(conn.get::<i32>("k").await.unwrap(), Some(1));
        assert!(started.elapsed() < Duration::from_secs(1));
        for n in 0..4 {
            conn.list(format!("empty{n}")).push_back(&n).await.unwrap();
        }
        while let Some(item) = waiting.join_next().await {
            assert!(item.unwrap().unwrap().is_some());
        }
    }
    assert_eq!(client_list(&server).len(), clients + 4, "the same four links");
    let spent = cost(&server, async {
        conn.list("none").pop_front_within::<i32>(SHORT).await.unwrap();
    });
    assert_eq!(spent.await, "blpop 1, lpop 1");
}

#[tokio::test]
async fn as_many_wait_as_may_and_the_others_look() {
    let server = server();
    let config = Config::builder().url(server.url()).blocking_links(2.try_into().unwrap());
    let conn = Conn::connect(config).await.unwrap();
    let wait = |key: &'static str, wait| {
        let conn = conn.clone();
        tokio::spawn(async move { conn.list(key).pop_front_within::<i32>(wait).await })
    };
    let (first, second) = (wait("a", PATIENCE), wait("b", PATIENCE));
    blocked(&server, 2).await;
    conn.list("c").push_back(&1).await.unwrap();
    let list = conn.list("c");
    let there = list.pop_front_within::<i32>(PATIENCE).await.unwrap();
    assert_eq!(there, Some(1), "what is there needs no link");
    assert_eq!(list.pop_front_within::<i32>(SHORT).await.unwrap(), None);
    let third = wait("c", PATIENCE);
    for (key, n) in [("a", 1), ("c", 3), ("b", 2)] {
        conn.list(key).push_back(&n).await.unwrap();
    }
    for (call, n) in [(first, 1), (third, 3), (second, 2)] {
        assert_eq!(call.await.unwrap().unwrap(), Some(n));
    }
}

/// Calls are given up at every moment of their lives, while items come; none is lost, and none is there twice.
async fn given_up_at_any_moment(conn: &Conn, server: &Arc<Server>, rounds: u64) {
    let mut chance = Chance::new("blocking::given_up");
    let patient = conn.with_command_timeout(PATIENCE);
    let mut taken = Vec::new();
    for round in 0..rounds {
        let waiting = tokio::spawn({
            let conn = conn.clone();
            async move { conn.list("jobs").pop_front_within::<u64>(PATIENCE).await }
        });
        let pushing = tokio::spawn({
            let patient = patient.clone();
            async move { patient.list("jobs").push_back(&round).await }
        });
        let moments = chance.of(0..60);
        for _ in 0..moments {
            tokio::task::yield_now().await;
        }
        let started = std::time::Instant::now();
        let busy = Duration::from_micros(chance.of(0..400));
        while started.elapsed() < busy {
            std::hint::spin_loop();
        }
        waiting.abort();
        if let Ok(item) = waiting.await {
            taken.push(item.expect("no error").expect("there is one"));
        }
        pushing.await.expect("the task").expect("pushed");
    }
    blocked(server, 0).await;
    // What was put back may be on its way still.
    let expected = usize::try_from(rounds).expect("a count");
    let looked_at = Arc::clone(server);
    let already = taken.len();
    eventually("all items are there", move || {
        let left = looked_at.command(["LLEN", "jobs"]).expect("the server").as_int();
        left == i64::try_from(expected - already).ok()
    })
    .await;
    taken.extend(patient.list("jobs").range::<u64>(..).await.expect("the list"));
    taken.sort_unstable();
    assert_eq!(taken, (0..rounds).collect::<Vec<_>>(), "each once");
}

fn rounds() -> u64 {
    if is_long() { 5000 } else { 500 }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_given_up_loses_no_item() {
    let server = server();
    let conn = Conn::connect(server.url()).await.unwrap();
    given_up_at_any_moment(&conn, &server, rounds()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nor_without_the_right_to_stop_it() {
    let server = Server::builder().user("limited", "pw", "+@all -client ~* &*").start().unwrap();
    let server = Arc::new(server);
    let config = Config::builder().url(server.url()).username("limited").password("pw");
    let conn = Conn::connect(config.blocking_links(512.try_into().unwrap())).await.unwrap();
    given_up_at_any_moment(&conn, &server, rounds() / 10).await;
}

#[tokio::test]
async fn what_is_put_back_is_where_it_was() {
    let server = server();
    let conn = Conn::connect(server.url()).await.unwrap();
    for front in [true, false] {
        let waiting = tokio::spawn({
            let conn = conn.clone();
            async move {
                let list = conn.list("jobs");
                if front {
                    list.pop_front_within::<i32>(PATIENCE).await
                } else {
                    list.pop_back_within::<i32>(PATIENCE).await
                }
            }
        });
        blocked(&server, 1).await;
        // The item is taken, and its taker gone before it could look.
        server.command(["RPUSH", "jobs", "item"]).unwrap();
        waiting.abort();
        assert!(waiting.await.unwrap_err().is_cancelled());
        let looked_at = Arc::clone(&server);
        eventually("the item is back", move || {
            looked_at.command(["LLEN", "jobs"]).unwrap().as_int() == Some(1)
        })
        .await;
        blocked(&server, 0).await;
        let plain = conn.with_codec(Codec::Plain);
        assert_eq!(
            plain.list("jobs").pop_front::<String>().await.unwrap().as_deref(),
            Some("item")
        );
    }
}

#[tokio::test]
async fn closing_ends_those_that_wait_at_once() {
    let server = server();
    let before = client_list(&server).len();
    let conn = Conn::connect(server.url()).await.unwrap();
    let waiting = tokio::spawn({
        let conn = conn.clone();
        async move { conn.list("jobs").pop_front_within::<i32>(PATIENCE).await }
    });
    blocked(&server, 1).await;
    let report = conn.close(PATIENCE).await;
    assert!(report.is_clean() && report.took < Duration::from_secs(2), "{report:?}");
    assert_eq!(waiting.await.unwrap().unwrap_err().kind(), ErrorKind::Closed);
    drop(conn);
    let looked_at = Arc::clone(&server);
    eventually("no connection is left", move || client_list(&looked_at).len() == before).await;
    let metrics = tokio::runtime::Handle::current().metrics();
    eventually("no task is left", move || metrics.num_alive_tasks() == 0).await;
}

/// Workers are stopped, and the connection is closed right behind them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_waits_for_what_is_put_back() {
    let server = server();
    for round in 0..50 {
        let conn = Conn::connect(server.url()).await.unwrap();
        let waiting = tokio::spawn({
            let conn = conn.clone();
            async move { conn.list("jobs").pop_front_within::<u64>(PATIENCE).await }
        });
        blocked(&server, 1).await;
        let pushed = conn.list("jobs");
        let (pushed, ()) = tokio::join!(pushed.push_back(&round), async { waiting.abort() });
        pushed.unwrap();
        let taken = waiting.await.is_ok();
        assert!(conn.close(PATIENCE).await.is_clean());
        let left = server.command(["LLEN", "jobs"]).unwrap().as_int().unwrap();
        assert_eq!(left, i64::from(!taken), "round {round}");
        server.command(["DEL", "jobs"]).unwrap();
    }
}

#[tokio::test]
async fn a_call_that_finds_another_type_opens_no_link() {
    let server = server();
    let conn = Conn::connect(server.url()).await.unwrap();
    conn.set("text", "x").await.unwrap();
    let clients = client_list(&server).len();
    for _ in 0..20 {
        let failed = conn.list("text").pop_front_within::<i32>(SHORT).await;
        assert_eq!(failed.unwrap_err().kind(), ErrorKind::WrongType);
    }
    assert_eq!(client_list(&server).len(), clients);
}

#[tokio::test]
async fn closing_puts_back_what_nobody_took() {
    let server = server();
    let conn = Conn::connect(server.url()).await.unwrap();
    let list = conn.list("jobs");
    let mut unpolled = Box::pin(list.pop_front_within::<i32>(PATIENCE));
    let waits = poll_fn(|cx| Poll::Ready(unpolled.as_mut().poll(cx).is_pending())).await;
    assert!(waits);
    blocked(&server, 1).await;
    server.command(["RPUSH", "jobs", "item"]).unwrap();
    blocked(&server, 0).await;
    let report = conn.close(PATIENCE).await;
    assert!(report.is_clean() && report.took < Duration::from_secs(2), "{report:?}");
    assert_eq!(server.command(["LLEN", "jobs"]).unwrap().as_int(), Some(1));
    assert_eq!(unpolled.await.unwrap_err().kind(), ErrorKind::Closed);
}

/// The order to stop is there before the call that is to be stopped.
#[tokio::test]
async fn an_order_to_stop_that_comes_too_early_is_given_again() {
    let server = server();
    let proxy = server.proxy().unwrap();
    let config = Config::builder().url(proxy.url()).blocking_links(1.try_into().unwrap());
    let conn = Conn::connect(config).await.unwrap();
    // Its link is the newest one, and stays.
    assert_eq!(conn.list("a").pop_front_within::<i32>(SHORT).await.unwrap(), None);
    proxy.set_for_newest(Fault::Latency { up: 2 * SHORT, down: Duration::ZERO });
    let list = conn.list("a");
    let given_up = tokio::time::timeout(SHORT, list.pop_front_within::<i32>(PATIENCE)).await;
    assert!(given_up.is_err());
    let turn = Instant::now();
    let waiting = tokio::spawn({
        let conn = conn.clone();
        async move { conn.list("b").pop_front_within::<i32>(PATIENCE).await }
    });
    // Each of the three has looked, and the last one waits for its turn.
    let looked_at = Arc::clone(&server);
    eventually("it has looked", move || looked_at.command_counts().unwrap().of("lpop") == 3).await;
    conn.list("b").push_back(&1).await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap(), Some(1));
    assert!(turn.elapsed() < Duration::from_secs(3), "{:?}", turn.elapsed());
}

/// As behind a load balancer: an idle link is not used once the commands go elsewhere.
#[tokio::test]
async fn a_wait_follows_the_commands_to_another_server_behind_the_address() {
    let (old, new) = (server(), server());
    let target = Arc::new(AtomicU16::new(old.port()));
    let port = forward(Arc::clone(&target)).await;
    let conn = Conn::connect(format!("redis://127.0.0.1:{port}")).await.unwrap();
    assert_eq!(conn.list("a").pop_front_within::<i32>(SHORT).await.unwrap(), None);
    let mut changes = conn.state_changes();
    target.store(new.port(), Ordering::Relaxed);
    // The one that answers commands, which is older than the one that waits.
    let older =
        client_list(&old).first().and_then(|line| line.split(' ').next().map(str::to_owned));
    let id = older.unwrap().replace("id=", "");
    old.command(["CLIENT", "KILL", "ID", &id]).unwrap();
    reach(&mut changes, State::Connected).await;
    let waiting = tokio::spawn({
        let conn = conn.clone();
        async move { conn.list("a").pop_front_within::<i32>(PATIENCE).await }
    });
    blocked(&new, 1).await;
    conn.list("a").push_back(&1).await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap(), Some(1));
}

#[tokio::test]
async fn closing_does_not_wait_for_those_that_wait_for_a_server() {
    let server = server();
    let conn = Conn::connect(server.url()).await.unwrap();
    let mut changes = conn.state_changes();
    server.kill().unwrap();
    reach(&mut changes, State::Reconnecting).await;
    let waiting = tokio::spawn({
        let conn = conn.clone();
        async move { conn.list("jobs").pop_front_within::<i32>(PATIENCE).await }
    });
    tokio::task::yield_now().await;
    let report = conn.close(PATIENCE).await;
    assert!(report.is_clean() && report.took < Duration::from_secs(2), "{report:?}");
    assert_eq!(waiting.await.unwrap().unwrap_err().kind(), ErrorKind::Closed);
}

#[tokio::test]
async fn a_server_that_goes_away_meanwhile_is_waited_for_or_the_outcome_is_unclear() {
    let server = server();
    let conn = Conn::connect(server.url()).await.unwrap();
    let waiting = tokio::spawn({
        let conn = conn.clone();
        async move { conn.list("jobs").pop_front_within::<i32>(PATIENCE).await }
    });
    blocked(&server, 1).await;
    server.kill().unwrap();
    let err = waiting.await.unwrap().unwrap_err();
    assert!(err.is_outcome_unknown() && err.is_retryable(), "{err:?}");
    // While it is away nothing is taken.
    let waiting = tokio::spawn({
        let conn = conn.clone();
        async move { conn.list("jobs").pop_front_within::<i32>(PATIENCE).await }
    });
    tokio::task::yield_now().await;
    server.restart().unwrap();
    blocked(&server, 1).await;
    conn.list("jobs").push_back(&1).await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap(), Some(1));
    let mut changes = conn.state_changes();
    server.kill().unwrap();
    reach(&mut changes, State::Reconnecting).await;
    let hasty = conn.with_command_timeout(SHORT);
    let err = hasty.list("jobs").pop_front_within::<i32>(SHORT).await.unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Connect, "{err:?}");
}

#[tokio::test]
async fn a_link_that_falls_silent_ends_the_wait_and_is_not_used_again() {
    let server = server();
    let proxy = server.proxy().unwrap();
    let config = Config::builder().url(proxy.url()).command_timeout(Duration::from_millis(500));
    let conn = Conn::connect(config).await.unwrap();
    // An idle link.
    assert_eq!(conn.list("jobs").pop_front_within::<i32>(SHORT).await.unwrap(), None);
    proxy.set_for_newest(Fault::Stall);
    let err = conn.list("jobs").pop_front_within::<i32>(SHORT).await.unwrap_err();
    assert!(err.is_timeout() && err.is_outcome_unknown(), "{err:?}");
    conn.list("jobs").push_back(&1).await.unwrap();
    let next = conn.list("jobs").pop_front_within::<i32>(SHORT).await.unwrap();
    assert_eq!(next, Some(1), "over another link");
}

/// Its last item is taken by a call that has gone, and the key is not at either node any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_on_the_move_is_found_and_put_back() {
    let cluster = Cluster::builder().replicas(0).start().unwrap();
    let conn = Conn::connect(cluster.url()).await.unwrap();
    let slot = cluster.slot_of("jobs").unwrap();
    let from = cluster.slot_owner(slot).unwrap();
    let to = cluster.masters().unwrap().into_iter().find(|node| *node != from).unwrap();
    let waiting = tokio::spawn({
        let conn = conn.clone();
        async move { conn.list("jobs").pop_front_within::<i32>(PATIENCE).await }
    });
    let is_blocked = |node: usize| {
        client_list(&cluster.nodes()[node]).iter().any(|line| line.contains(" flags=b"))
    };
    assert!(redbrick_testkit::wait_until(PATIENCE, || is_blocked(from)));
    let migration = cluster.start_migration(slot, to).unwrap();
    // Every new item is at the target from now on.
    conn.list("jobs").push_back(&1).await.unwrap();
    assert_eq!(conn.list("jobs").pop_front_within::<i32>(PATIENCE).await.unwrap(), Some(1));
    waiting.abort();
    let _ = waiting.await;
    conn.list("jobs").push_back(&2).await.unwrap();
    let list = conn.list("jobs");
    let mut given_up = Box::pin(list.pop_front_within::<i32>(PATIENCE));
    // Looked at once, so that it is on its way.
    let waits = poll_fn(|cx| Poll::Ready(given_up.as_mut().poll(cx).is_pending())).await;
    // The item is taken, and nobody looks.
    let counted = async { while list.len().await.unwrap() > 0 {} };
    counted.await;
    drop(given_up);
    assert!(waits);
    let back = async { while list.len().await.unwrap() != 1 {} };
    tokio::time::timeout(PATIENCE, back).await.expect("the item is back");
    drop(migration);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_whose_slot_moves_is_waited_for_where_it_is() {
    let cluster = Cluster::builder().replicas(1).start().unwrap();
    let conn = Conn::connect(cluster.url()).await.unwrap();
    let wait = || {
        let conn = conn.clone();
        tokio::spawn(async move { conn.list("jobs").pop_front_within::<i32>(PATIENCE).await })
    };
    let is_blocked = |node: usize| {
        client_list(&cluster.nodes()[node]).iter().any(|line| line.contains(" flags=b"))
    };
    let slot = cluster.slot_of("jobs").unwrap();
    let from = cluster.slot_owner(slot).unwrap();
    let to = cluster.masters().unwrap().into_iter().find(|node| *node != from).unwrap();
    let waiting = wait();
    assert!(redbrick_testkit::wait_until(PATIENCE, || is_blocked(from)));
    cluster.migrate_slot(slot, to).unwrap();
    conn.list("jobs").push_back(&1).await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap(), Some(1));

    let waiting = wait();
    assert!(redbrick_testkit::wait_until(PATIENCE, || is_blocked(to)));
    cluster.failover(to).unwrap();
    conn.with_command_timeout(PATIENCE).list("jobs").push_back(&2).await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap(), Some(2));
}
