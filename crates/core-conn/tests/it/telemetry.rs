//! What a connection tells about itself: counts, and events of what is slow.

use std::time::Duration;

use redbrick_core_conn::{Config, Conn, ErrorKind, Event, Script, State, Statistics};
use redbrick_testkit::{Cluster, Fault};

use crate::{
    PATIENCE, eventually,
    optional::{listen, said},
    reach, server,
};

static ONE: Script = Script::new("test.telemetry", "return 1");

/// How many round trips `calls` took.
async fn trips<T>(conn: &Conn, calls: impl Future<Output = T>) -> u64 {
    let before = conn.statistics();
    calls.await;
    conn.statistics().since(&before).round_trips
}

#[tokio::test]
async fn each_operation_counts_the_round_trips_that_it_says() {
    let server = server();
    let conn = Conn::connect(server.url()).await.unwrap();
    assert_eq!(trips(&conn, async { conn.get::<u8>("k").await.unwrap() }).await, 1);
    assert_eq!(trips(&conn, async { conn.set("k", &1).await.unwrap() }).await, 1);
    assert_eq!(trips(&conn, async { conn.ping().await.unwrap() }).await, 1);
    assert_eq!(trips(&conn, async { conn.health().await }).await, 2);
    assert_eq!(trips(&conn, conn.get_many::<u8, _>(["a", "b", "k"])).await, 1);
    assert_eq!(trips(&conn, conn.delete_many(["a", "b"])).await, 1);
    assert_eq!(trips(&conn, async { conn.script(&ONE).run::<u32>().await.unwrap() }).await, 1);
    let ten = async {
        let mut pipeline = conn.pipeline();
        let tickets: Vec<_> = (0..10).map(|_| pipeline.add(conn.increment("n", 1))).collect();
        assert_eq!((tickets.len(), pipeline.len()), (10, 10));
        pipeline.send().await
    };
    assert_eq!(trips(&conn, ten).await, 1);
    let two = async {
        let mut transaction = conn.transaction();
        let _ = transaction.add(conn.increment("n", 1));
        let _ = transaction.add(conn.increment("n", 1));
        transaction.send().await.unwrap()
    };
    assert_eq!(trips(&conn, two).await, 1);
    assert_eq!(trips(&conn, async { conn.pipeline().send().await }).await, 0, "nothing to send");
    let list = conn.list("l");
    list.push_back("x").await.unwrap();
    let there = list.pop_front_within::<String>(PATIENCE);
    assert_eq!(trips(&conn, async { there.await.unwrap().unwrap() }).await, 1);
    let in_vain = list.pop_front_within::<String>(Duration::from_millis(5));
    assert_eq!(trips(&conn, async { in_vain.await.unwrap() }).await, 2, "a look and a wait");
}

#[tokio::test]
async fn what_goes_to_several_nodes_counts_for_each() {
    let starting = tokio::task::spawn_blocking(|| Cluster::builder().replicas(0).start());
    let cluster = starting.await.unwrap().unwrap();
    let nodes = cluster.nodes().iter().map(|node| node.address().to_string());
    let conn = Conn::connect(Config::builder().cluster(nodes)).await.unwrap();
    // Keys enough for each master to have some.
    let keys: Vec<String> = (0..100).map(|n| format!("k{n}")).collect();
    let many = async {
        let mut pipeline = conn.pipeline();
        for key in &keys {
            let _ = pipeline.add(conn.increment(key, 1));
        }
        pipeline.send().await
    };
    assert_eq!(trips(&conn, many).await, cluster.masters().unwrap().len() as u64);
}

#[tokio::test]
async fn what_is_lost_is_counted_and_so_is_what_comes_in_its_place() {
    let server = server();
    let proxy = server.proxy().unwrap();
    let conn = Conn::connect(proxy.url()).await.unwrap();
    let links = |now: Statistics| (now.links_made, now.links_lost, now.reconnects, now.links_up);
    assert_eq!(links(conn.statistics()), (1, 0, 0, 1));
    let mut changes = conn.state_changes();
    for lost in 1..=2 {
        proxy.reset();
        reach(&mut changes, State::Reconnecting).await;
        assert_eq!(links(conn.statistics()), (1, lost, lost - 1, 0));
        reach(&mut changes, State::Connected).await;
        assert_eq!(links(conn.statistics()), (1, lost, lost, 1));
    }
    assert_eq!(conn.statistics().links_replaced, 0);
    conn.close(PATIENCE).await;
    assert_eq!(links(conn.statistics()), (1, 2, 2, 0), "what is closed is not lost");
}

#[tokio::test]
async fn a_link_with_subscriptions_counts_too() {
    let server = server();
    let proxy = server.proxy().unwrap();
    let conn = Conn::connect(proxy.url()).await.unwrap();
    let mut subscription = conn.subscribe().channel("c").await.unwrap();
    let now = conn.statistics();
    assert_eq!((now.links_made, now.links_up), (2, 1), "{now:?}");
    proxy.reset();
    let resumed = tokio::time::timeout(PATIENCE, async {
        while !matches!(subscription.next().await.unwrap(), Event::Resumed) {}
    });
    resumed.await.expect("it comes back");
    // The link for commands comes back by itself.
    let watched = conn.clone();
    eventually("both links", move || watched.statistics().reconnects == 2).await;
    let now = conn.statistics();
    assert_eq!((now.links_made, now.links_lost, now.links_up), (2, 2, 1), "{now:?}");
}

#[tokio::test]
async fn a_stuck_link_is_replaced_and_not_lost() {
    let server = server();
    let proxy = server.proxy().unwrap();
    let conn = Conn::connect(proxy.url()).await.unwrap();
    proxy.set_for_open(Fault::Stall);
    let watched = conn.clone();
    eventually("another link", move || watched.statistics().links_replaced == 1).await;
    conn.ping().await.unwrap();
    let now = conn.statistics();
    assert_eq!((now.links_made, now.links_lost, now.reconnects), (1, 0, 0), "{now:?}");
}

#[tokio::test]
async fn calls_that_wait_are_seen_and_counted_when_their_time_is_over() {
    let server = server();
    let conn = Conn::connect(server.url()).await.unwrap();
    let hasty = conn.with_command_timeout(Duration::from_millis(100));
    let paused = server.pause().unwrap();
    let mut pipeline = hasty.pipeline();
    let ticket = pipeline.add(hasty.get::<u8>("k"));
    let _ = pipeline.add(hasty.get::<u8>("k"));
    let mut sending = Box::pin(pipeline.send());
    tokio::select! {
        biased;
        _ = &mut sending => panic!("the server stands still"),
        () = tokio::task::yield_now() => {}
    }
    assert_eq!(conn.statistics().calls_waiting, 2);
    let err = sending.await.take(ticket).unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Timeout, "{err:?}");
    let now = conn.statistics();
    assert_eq!((now.timeouts, now.calls_waiting), (1, 0), "{now:?}");
    paused.resume();
}

#[tokio::test]
async fn what_is_slow_is_logged_without_keys_or_values_and_at_most_once_in_a_second() {
    listen();
    let server = server();
    let config = Config::builder().url(server.url()).slow_threshold(Duration::from_nanos(1));
    let conn = Conn::connect(config).await.unwrap();
    for _ in 0..3 {
        let mut pipeline = conn.pipeline();
        let _ = pipeline.add(conn.set("hunter2", "hunter2"));
        let _ = pipeline.send().await;
    }
    assert_eq!(conn.statistics().slow_operations, 3);
    let said = said();
    let [said] = &said[..] else { panic!("{said:?}") };
    assert!(said.starts_with("message=a slow operation command=\"PIPELINE\" took="), "{said}");
    assert!(said.contains("outcome=\"ok\" more=0"), "{said}");
    assert!(!said.contains("hunter2"), "{said}");
}

#[tokio::test]
async fn slow_operations_are_said_nowhere_where_that_is_turned_off() {
    listen();
    let server = server();
    let config = Config::builder().url(server.url()).slow_threshold(Duration::ZERO);
    let conn = Conn::connect(config).await.unwrap();
    let mut pipeline = conn.pipeline();
    let _ = pipeline.add(conn.increment("n", 1));
    let _ = pipeline.send().await;
    assert_eq!(conn.statistics().slow_operations, 0);
    assert_eq!(said(), [""; 0]);
}

#[tokio::test]
async fn waiting_as_long_as_one_was_told_is_not_slow() {
    let server = server();
    let config = Config::builder().url(server.url()).slow_threshold(Duration::from_millis(50));
    let conn = Conn::connect(config).await.unwrap();
    let list = conn.list("l");
    assert_eq!(list.pop_front_within::<u8>(Duration::from_millis(100)).await.unwrap(), None);
    assert_eq!(conn.statistics().slow_operations, 0);
}

/// For single calls.
mod calls {
    use super::*;

    #[tokio::test]
    async fn a_slow_call_is_said_by_its_name_and_how_it_ended() {
        listen();
        let server = server();
        let config = Config::builder().url(server.url()).slow_threshold(Duration::from_nanos(1));
        let conn = Conn::connect(config).await.unwrap();
        conn.with_command_timeout(PATIENCE).set("hunter2", "hunter2").await.unwrap();
        conn.increment("hunter2", 1).await.unwrap_err();
        let said = said();
        let [said] = &said[..] else { panic!("{said:?}") };
        assert!(said.starts_with("message=a slow operation command=\"SET\" took="), "{said}");
        assert!(said.contains("outcome=\"ok\" more=0") && !said.contains("hunter2"), "{said}");
        assert_eq!(conn.statistics().slow_operations, 2);
    }

    #[tokio::test]
    async fn a_call_without_an_answer_is_a_timeout_whatever_it_answers_with() {
        let server = server();
        let conn = Conn::connect(server.url()).await.unwrap();
        let hasty = conn.with_command_timeout(Duration::from_millis(100));
        let paused = server.pause().unwrap();
        assert!(hasty.get::<u8>("k").await.unwrap_err().is_timeout());
        assert_eq!(conn.statistics().timeouts, 1);
        assert_eq!(hasty.get::<u8>("k").or_empty().await.unwrap(), None);
        assert_eq!(conn.statistics().timeouts, 2);
        paused.resume();
    }
}

/// With the feature `metrics`.
#[cfg(feature = "metrics")]
mod metrics {
    use redbrick_core_conn::Pattern;
    use redbrick_testkit::{Metrics, unique};

    use super::*;

    fn duration(name: &str, more: &str) -> String {
        let labels = format!("db.operation.name={name},db.system.name=redis{more}");
        format!("db.client.operation.duration{{{labels}}}")
    }

    fn ended(name: &str) -> String {
        duration(name, "")
    }

    fn failed(name: &str, error: &str) -> String {
        duration(name, &format!(",error.type={error}"))
    }

    /// A series of a connection called `pool`.
    fn of(metric: &str, pool: &str, more: &str) -> String {
        format!("{metric}{{db.client.connection.pool.name={pool}{more}}}")
    }

    #[tokio::test]
    async fn durations_have_the_names_of_opentelemetry_and_say_how_it_failed() {
        let metrics = Metrics::new();
        let _listening = metrics.listen();
        let server = server();
        let conn = Conn::connect(server.url()).await.unwrap();
        conn.set("hunter2", "hunter2").await.unwrap();
        let mut pipeline = conn.pipeline();
        let _ = pipeline.add(conn.get::<String>("hunter2"));
        let _ = pipeline.send().await;
        let mut pipeline = conn.pipeline();
        let _ = pipeline.add(conn.get::<String>("hunter2"));
        let _ = pipeline.add(conn.hash("hunter2").len());
        let _ = pipeline.send().await;
        let mut transaction = conn.transaction();
        let _ = transaction.add(conn.get::<String>("hunter2"));
        let _ = transaction.send().await.unwrap();
        conn.list("none").pop_front_within::<u8>(Duration::from_millis(5)).await.unwrap();

        for series in
            [ended("PIPELINE"), failed("PIPELINE", "WRONGTYPE"), ended("MULTI"), ended("BLPOP")]
        {
            let [took] = metrics.histogram(&series)[..] else {
                panic!("{series} in {:?}", metrics.series())
            };
            assert!(took > 0.0 && took < PATIENCE.as_secs_f64(), "{series}: {took}");
        }
        let (unit, about) = metrics.described("db.client.operation.duration").unwrap();
        assert_eq!(unit.unwrap().as_canonical_label(), "s");
        assert!(!about.is_empty());
        assert!(!metrics.series().concat().contains("hunter2"), "{:?}", metrics.series());
    }

    #[tokio::test]
    async fn links_are_seen_to_go_and_come_under_the_name_of_the_connection() {
        let metrics = Metrics::new();
        let _listening = metrics.listen();
        let server = server();
        let pool = unique("pool").replace(':', "-");
        let config = Config::builder().url(server.url()).client_name(&pool);
        let conn = Conn::connect(config).await.unwrap();
        let links = |state: &str| {
            let state = format!(",redbrick.state={state}");
            metrics.gauge(&of("redbrick.connection.count", &pool, &state))
        };
        assert_eq!((links("up"), links("down")), (Some(1.0), Some(0.0)));
        let mut changes = conn.state_changes();
        server.kill().unwrap();
        reach(&mut changes, State::Reconnecting).await;
        assert_eq!((links("up"), links("down")), (Some(0.0), Some(1.0)));
        assert_eq!(metrics.counter(&of("redbrick.connection.lost", &pool, "")), 1);
        server.restart().unwrap();
        reach(&mut changes, State::Connected).await;
        assert_eq!((links("up"), links("down")), (Some(1.0), Some(0.0)));
        assert_eq!(metrics.counter(&of("redbrick.connection.reconnects", &pool, "")), 1);
        drop(conn);
        assert_eq!((links("up"), links("down")), (Some(0.0), Some(0.0)), "it is gone");
    }

    #[tokio::test]
    async fn a_stuck_link_says_why_it_was_replaced() {
        let metrics = Metrics::new();
        let _listening = metrics.listen();
        let server = server();
        let proxy = server.proxy().unwrap();
        let pool = unique("stuck").replace(':', "-");
        let config = Config::builder().url(proxy.url()).client_name(&pool);
        let conn = Conn::connect(config).await.unwrap();
        proxy.set_for_open(Fault::Stall);
        let watched = conn.clone();
        eventually("another link", move || watched.statistics().links_replaced == 1).await;
        let series = of("redbrick.connection.replaced", &pool, ",redbrick.reason=stuck");
        assert_eq!(metrics.counter(&series), 1, "{:?}", metrics.series());
    }

    #[tokio::test]
    async fn a_recorder_that_comes_late_sees_what_is_and_what_comes() {
        let server = server();
        let pool = unique("late").replace(':', "-");
        let config = Config::builder().url(server.url()).client_name(&pool);
        let conn = Conn::connect(config).await.unwrap();
        let metrics = Metrics::new();
        let _listening = metrics.listen();
        let paused = server.pause().unwrap();
        let waiting = tokio::spawn({
            let conn = conn.with_command_timeout(PATIENCE);
            async move { conn.get::<u8>("k").await }
        });
        let (seen, name) = (metrics.clone(), pool.clone());
        eventually("the call that waits", move || {
            let pending = of("redbrick.calls.waiting", &name, "");
            let up = ",redbrick.state=up";
            seen.gauge(&pending) == Some(1.0)
                && seen.gauge(&of("redbrick.connection.count", &name, up)) == Some(1.0)
        })
        .await;
        paused.resume();
        waiting.await.unwrap().unwrap();
        let described = metrics.described("redbrick.connection.count");
        assert!(described.is_some_and(|(_, about)| about.contains("links")));
    }

    #[tokio::test]
    async fn what_has_no_answer_in_time_is_counted() {
        let metrics = Metrics::new();
        let _listening = metrics.listen();
        let server = server();
        let pool = unique("timeouts").replace(':', "-");
        let config = Config::builder().url(server.url()).client_name(&pool);
        let conn = Conn::connect(config).await.unwrap();
        let paused = server.pause().unwrap();
        let hasty = conn.with_command_timeout(Duration::from_millis(50));
        let mut pipeline = hasty.pipeline();
        let _ = pipeline.add(hasty.get::<u8>("k"));
        let _ = pipeline.send().await;
        paused.resume();
        assert_eq!(metrics.counter(&of("redbrick.operation.timeouts", &pool, "")), 1);
        assert_eq!(metrics.histogram(&failed("PIPELINE", "timeout")).len(), 1);
    }

    /// For single calls.
    mod calls {
        use super::*;

        #[tokio::test]
        async fn each_call_has_a_duration_under_its_name() {
            let metrics = Metrics::new();
            let _listening = metrics.listen();
            let server = server();
            let conn = Conn::connect(server.url()).await.unwrap();
            conn.set("hunter2", "hunter2").await.unwrap();
            conn.get::<String>("hunter2").await.unwrap();
            conn.get::<String>("hunter2").await.unwrap();
            conn.get_many::<String, _>(["hunter2"]).await.unwrap();
            conn.script(&ONE).run::<u32>().await.unwrap();
            conn.hash("hunter2").len().await.unwrap_err();
            conn.hash("hunter2").len().or_empty().await.unwrap_err();
            conn.get::<u8>("hunter2").await.unwrap_err();
            conn.ping().await.unwrap();
            conn.scan(Pattern::new("*").unwrap()).next().await.unwrap();
            let count = |series: String| metrics.histogram(&series).len();
            assert_eq!((count(ended("SET")), count(ended("GET"))), (1, 2));
            assert_eq!((count(ended("MGET")), count(ended("test.telemetry"))), (1, 1));
            assert_eq!(count(failed("HLEN", "WRONGTYPE")), 2);
            assert_eq!(count(failed("GET", "codec")), 1);
            assert_eq!((count(ended("PING")), count(ended("SCAN"))), (1, 1));
            assert!(!metrics.series().concat().contains("hunter2"), "{:?}", metrics.series());
        }
    }
}
