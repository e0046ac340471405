use std::{sync::Arc, time::Duration};

use redbrick_core_conn::{BatchScript, Bytes, Config, Conn, ErrorKind, Replay, Reply, ServerMode};
use redbrick_testkit::{Cluster, Fault, Server};

use super::{at_once, begin};
use crate::{cost, eventually, server};

/// Adds to a counter, unless it is told to do something else.
static COUNT: BatchScript = BatchScript::new(
    "test.count",
    "
    local step = tonumber(SHARED[1])
    return function(key, what)
        if what == 'fail' then error('told to') end
        if what == 'refuse' then return redis.error_reply('-REFUSED as told') end
        if what == 'type' then return redis.call('LPUSH', key, 'x') end
        if what == 'nothing' then return nil end
        if what == 'text' then return key end
        if what == 'list' then return {key, {what, step}} end
        return redis.call('INCRBY', key, step * tonumber(what))
    end",
);

async fn conn(server: &Server) -> Conn {
    let conn = Conn::connect(server.url()).await.unwrap();
    conn.batch_script(&COUNT).shared(1).key("first").arg(0).run::<i64>().await.unwrap();
    conn
}

#[tokio::test]
async fn calls_at_the_same_time_share_runs_and_each_has_its_own_result() {
    let server = server();
    let conn = conn(&server).await;
    let calls = cost(&server, async {
        let calls = (0..100).map(|n: i64| {
            conn.batch_script(&COUNT).shared(2).key(format!("n:{n}")).arg(n).run::<i64>()
        });
        for (n, found) in (0..).zip(at_once(calls).await) {
            assert_eq!(found.unwrap(), 2 * n);
        }
    });
    assert_eq!(calls.await, "evalsha 4, incrby 100");
}

#[tokio::test]
async fn callers_with_the_same_key_come_one_after_the_other() {
    let server = server();
    let conn = conn(&server).await;
    let call = |_| conn.batch_script(&COUNT).shared(1).key("n").arg(1).run::<i64>();
    let mut found: Vec<_> =
        at_once((0..200).map(call)).await.into_iter().map(|found| found.unwrap()).collect();
    found.sort_unstable();
    assert_eq!(found, (1..=200).collect::<Vec<_>>());
}

#[tokio::test]
async fn only_what_shares_its_arguments_is_one_run() {
    let server = server();
    let conn = conn(&server).await;
    let calls = cost(&server, async {
        let call = |n: i64| conn.batch_script(&COUNT).shared(n % 3).key("n").arg(1).run::<i64>();
        for found in at_once((0..30).map(call)).await {
            found.unwrap();
        }
    });
    assert_eq!(calls.await, "evalsha 9, incrby 30");
}

#[tokio::test]
async fn an_error_of_one_caller_is_no_other_callers() {
    let server = server();
    let conn = conn(&server).await;
    let words = ["1", "fail", "refuse", "type", "nothing", "text", "list", "1"];
    let call = |n: usize| {
        let word = words[n % words.len()];
        conn.batch_script(&COUNT).shared(1).key(format!("k:{}", n % 8)).arg(word).run::<Reply>()
    };
    for (n, found) in at_once((0..80).map(call)).await.into_iter().enumerate() {
        let key = || Reply::Bytes(format!("k:{}", n % 8).into());
        match words[n % words.len()] {
            "1" => assert_eq!(found.unwrap(), Reply::Int(i64::try_from(n / 8 + 1).unwrap())),
            "fail" => {
                let err = found.unwrap_err();
                assert_eq!((err.kind(), err.code()), (ErrorKind::Server, None), "{err:?}");
            }
            "refuse" => assert_eq!(found.unwrap_err().code(), Some("REFUSED")),
            "type" => {
                // The list is its own.
                found.unwrap();
            }
            "nothing" => assert_eq!(found.unwrap(), Reply::Nil),
            "text" => assert_eq!(found.unwrap(), key()),
            _ => {
                let inner = vec![Reply::Bytes(Bytes::from_static(b"list")), Reply::Int(1)];
                assert_eq!(found.unwrap(), Reply::List(vec![key(), Reply::List(inner)]));
            }
        }
    }
    server.command(["SET", "k:3", "text"]).unwrap();
    for (n, found) in at_once((0..8).map(call)).await.into_iter().enumerate() {
        if n == 3 {
            assert_eq!(found.unwrap_err().kind(), ErrorKind::WrongType);
        } else {
            assert_eq!(found.is_err(), n == 1 || n == 2);
        }
    }
}

/// Reads all values at once before it does anything.
static SUM: BatchScript = BatchScript::new(
    "test.sum",
    "
    if redis.call('EXISTS', 'stop') == 1 then error('stopped') end
    local read, values = redis.call('MGET', unpack(KEYS)), {}
    for n = 1, #KEYS do values[KEYS[n]] = tonumber(read[n] or 0) end
    return function(key, more) return values[key] + tonumber(more) end",
);

#[tokio::test]
async fn what_runs_for_all_can_fail_for_all() {
    let server = server();
    let conn = conn(&server).await;
    let call = |n: i64| conn.batch_script(&SUM).key(format!("n:{n}")).arg(n).run::<i64>();
    for (n, found) in (0..).zip(at_once((0..30).map(call)).await) {
        assert_eq!(found.unwrap(), n);
    }
    server.command(["SET", "stop", "1"]).unwrap();
    for found in at_once((0..30).map(call)).await {
        assert_eq!(found.unwrap_err().kind(), ErrorKind::Server);
    }
    server.command(["DEL", "stop"]).unwrap();
    for (n, found) in (0..).zip(at_once((0..30).map(call)).await) {
        assert_eq!(found.unwrap(), n);
    }
}

/// Says what else it is given, which is nothing.
static GIVEN: BatchScript = BatchScript::new(
    "test.given",
    "return function(...)
        local key, first, second, third = ...
        return {select('#', ...), key, first, second, third or 'none'}
    end",
);

#[tokio::test]
async fn a_caller_sees_its_own_keys_and_arguments_only() {
    let server = server();
    let conn = conn(&server).await;
    let call = |n: usize| {
        let call = conn.batch_script(&GIVEN).key(format!("k:{n}")).arg(n);
        call.arg("second").run::<Vec<Reply>>()
    };
    for (n, found) in at_once((0..20).map(call)).await.into_iter().enumerate() {
        let text = |text: &str| Reply::Bytes(Bytes::copy_from_slice(text.as_bytes()));
        let (key, n) = (format!("k:{n}"), n.to_string());
        let expected = [Reply::Int(3), text(&key), text(&n), text("second"), text("none")];
        assert_eq!(found.unwrap(), expected);
    }
}

/// Takes its shared argument out of the list, and more.
static TAKES: BatchScript = BatchScript::new(
    "test.takes",
    "
    local factor = tonumber(table.remove(SHARED))
    COUNT, KEYS[1], ARGV[3] = {}, 'other', nil
    return function(key, number)
        table.remove(KEYS)
        return {key, factor * tonumber(number)}
    end",
);

#[tokio::test]
async fn what_a_script_does_to_the_lists_changes_nothing_for_its_callers() {
    let server = server();
    let conn = conn(&server).await;
    let call = |n: i64| {
        conn.batch_script(&TAKES).shared(10).key(format!("k:{n}")).arg(n).run::<(String, i64)>()
    };
    for (n, found) in (0..).zip(at_once((0..18).map(call)).await) {
        assert_eq!(found.unwrap(), (format!("k:{n}"), 10 * n));
    }
}

#[tokio::test]
async fn calls_that_share_nothing_all_have_their_results() {
    let server = server();
    let conn = conn(&server).await;
    let call = |n: usize| conn.batch_script(&COUNT).shared(n).key("n").arg(0).run::<i64>();
    for found in at_once((0..3000).map(call)).await {
        found.unwrap();
    }
}

#[tokio::test]
async fn more_of_its_own_than_a_function_takes_is_refused() {
    let server = server();
    let conn = conn(&server).await;
    let filled = |n: usize| {
        let call = conn.batch_script(&GIVEN).key("k");
        (0..n).fold(call, |call, _| call.arg("x")).run::<Vec<Reply>>()
    };
    let found = filled(1023).await.unwrap();
    assert_eq!(found[0], Reply::Int(1024));
    assert_eq!(filled(1024).await.unwrap_err().kind(), ErrorKind::InvalidArgument);
}

#[tokio::test]
async fn without_keys_calls_are_gathered_on_one_server_and_not_on_a_cluster() {
    static SHARE: BatchScript =
        BatchScript::new("test.share", "return function(number) return tonumber(number) end");
    let server = server();
    let cluster = Cluster::start().unwrap();
    for url in [server.url(), cluster.url()] {
        let conn = Conn::connect(url).await.unwrap();
        let before = conn.statistics();
        let call = |n: i64| conn.batch_script(&SHARE).arg(n).run::<i64>();
        for (n, found) in (0..).zip(at_once((0..18).map(call)).await) {
            assert_eq!(found.unwrap(), n);
        }
        let batches = conn.statistics().since(&before).batches;
        assert_eq!(
            batches,
            u64::from(conn.server_info().await.unwrap().mode == ServerMode::Standalone)
        );
    }
}

/// No batch script, as it returns no function.
static WRONG: BatchScript = BatchScript::new("test.wrong", "return 7");

#[tokio::test]
async fn a_script_that_returns_no_function_says_so() {
    let server = server();
    let conn = conn(&server).await;
    for found in at_once((0..3).map(|_| conn.batch_script(&WRONG).key("k").run::<i64>())).await {
        let err = found.unwrap_err();
        assert_eq!((err.kind(), err.code()), (ErrorKind::Server, Some("NOFUNCTION")));
    }
}

#[tokio::test]
async fn a_script_that_fails_for_all_keeps_no_other_apart() {
    let server = server();
    let conn = conn(&server).await;
    for found in at_once((0..10).map(|_| conn.batch_script(&WRONG).key("k").run::<i64>())).await {
        found.unwrap_err();
    }
    let calls = cost(&server, async {
        let call = |n: i64| conn.batch_script(&COUNT).shared(1).key("n").arg(n).run::<i64>();
        for found in at_once((0..10).map(call)).await {
            found.unwrap();
        }
    });
    assert_eq!(calls.await, "evalsha 3, incrby 10");
}

#[tokio::test]
async fn a_key_that_may_not_be_touched_is_an_error_for_its_caller_only() {
    let server = Server::builder().user("app", "pw", "~open:* &* +@all").start().unwrap();
    let config = Config::builder().url(server.url()).username("app").password("pw");
    let conn = Conn::connect(config).await.unwrap();
    for round in 1..=3 {
        let key = |n| if n == 4 { "closed:4".to_owned() } else { format!("open:{n}") };
        let call = |n| conn.batch_script(&COUNT).shared(1).key(key(n)).arg(1).run::<i64>();
        for (n, found) in at_once((0..10).map(call)).await.into_iter().enumerate() {
            match found {
                // Nobody was counted twice, although their batch was refused.
                Ok(found) => assert_eq!(found, round),
                Err(err) => assert_eq!((n, err.kind()), (4, ErrorKind::Denied)),
            }
        }
    }
}

#[tokio::test]
async fn after_an_unclear_outcome_nobody_is_counted_twice() {
    let server = server();
    let proxy = server.proxy().unwrap();
    let conn = Conn::connect(proxy.url()).await.unwrap();
    let call = |n: usize| {
        let call = conn.batch_script(&COUNT).shared(1).key(format!("n:{n}")).arg(1);
        call.run::<i64>()
    };
    call(100).await.unwrap();
    proxy.set_for_open(Fault::DropReplies);
    let cut = async {
        eventually("they have run", {
            let server = Arc::clone(&server);
            move || server.command_counts().is_ok_and(|counts| counts.of("incrby") == 21)
        })
        .await;
        proxy.reset();
    };
    let (found, ()) = tokio::join!(at_once((0..20).map(call)), cut);
    for found in found {
        assert!(found.unwrap_err().is_outcome_unknown());
    }
    for n in 0..20 {
        assert_eq!(conn.count(format!("n:{n}")).await.unwrap(), Some(1));
    }
}

#[tokio::test]
async fn what_may_be_repeated_is() {
    static TOUCH: BatchScript = BatchScript::new(
        "test.touch",
        "return function(key, value) return redis.call('SETNX', key, value) end",
    )
    .replay(Replay::Idempotent);
    let server = server();
    let proxy = server.proxy().unwrap();
    let conn = Conn::connect(proxy.url()).await.unwrap();
    let call = |n: usize| conn.batch_script(&TOUCH).key(format!("n:{n}")).arg(1).run::<i64>();
    call(100).await.unwrap();
    proxy.set_for_open(Fault::DropReplies);
    let cut = async {
        eventually("they have run", {
            let server = Arc::clone(&server);
            move || server.command_counts().is_ok_and(|counts| counts.of("setnx") == 21)
        })
        .await;
        proxy.reset();
    };
    let (found, ()) = tokio::join!(at_once((0..20).map(call)), cut);
    for found in found {
        assert_eq!(found.unwrap(), 0, "it was there already, by the first attempt");
    }
}

#[tokio::test]
async fn what_is_never_repeated_is_never_gathered() {
    let server = server();
    let conn = conn(&server).await;
    let calls = cost(&server, async {
        let call = |n: i64| {
            let call = conn.batch_script(&COUNT).shared(1).key("n").arg(n).run::<i64>();
            call.replay(Replay::Never)
        };
        for found in at_once((0..10).map(call)).await {
            found.unwrap();
        }
    });
    assert_eq!(calls.await, "evalsha 10, incrby 10");
}

#[tokio::test]
async fn it_is_a_call_like_any_other() {
    let server = server();
    let conn = Conn::connect(server.url()).await.unwrap();
    let call = |n: i64| conn.batch_script(&COUNT).shared(1).key("n").arg(n).run::<i64>();
    let mut pipeline = conn.pipeline();
    let (one, two) = (pipeline.add(call(1)), pipeline.add(call(2)));
    let mut results = pipeline.send().await;
    assert_eq!((results.take(one).unwrap(), results.take(two).unwrap()), (1, 3));
    let mut transaction = conn.transaction();
    let three = transaction.add(call(3));
    let fail = conn.batch_script(&COUNT).shared(1).key("n").arg("refuse").run::<i64>();
    let fail = transaction.add(fail);
    let mut results = transaction.send().await.unwrap();
    assert_eq!(results.take(three).unwrap(), 6);
    assert_eq!(results.take(fail).unwrap_err().code(), Some("REFUSED"));
    assert_eq!(call(1).timeout(Duration::from_secs(1)).await.unwrap(), 7);
}

#[tokio::test]
async fn on_a_cluster_those_of_one_slot_share_runs() {
    let cluster = Cluster::start().unwrap();
    let conn = Conn::connect(cluster.url()).await.unwrap();
    let call = |key: String| conn.batch_script(&COUNT).shared(1).key(key).arg(1).run::<i64>();
    for master in 0..3 {
        call(format!("warm:{master}")).await.unwrap();
    }
    call("{one}".to_owned()).await.unwrap();
    let before = cluster.command_counts().unwrap();
    for found in at_once((0..40).map(|n| call(format!("{{one}}{n}")))).await {
        assert_eq!(found.unwrap(), 1);
    }
    let used = cluster.command_counts().unwrap().since(&before);
    assert_eq!(used.of("evalsha"), 4);
    for found in at_once((0..40).map(|n| call(format!("n:{n}")))).await {
        assert_eq!(found.unwrap(), 1);
    }
}

#[tokio::test]
async fn a_server_that_has_forgotten_the_script_is_told_again() {
    let server = server();
    let conn = conn(&server).await;
    for round in 1..=3 {
        server.command(["SCRIPT", "FLUSH"]).unwrap();
        let call = |n: i64| conn.batch_script(&COUNT).shared(1).key(format!("n:{n}")).arg(1);
        for found in at_once((0..20).map(|n| call(n).run::<i64>())).await {
            assert_eq!(found.unwrap(), round);
        }
    }
}

#[tokio::test]
async fn who_has_left_is_not_served_later_where_the_server_has_forgotten_the_script() {
    let server = server();
    let proxy = server.proxy().unwrap();
    let conn = Conn::connect(proxy.url()).await.unwrap();
    let call = |n| conn.batch_script(&COUNT).shared(1).key(format!("n:{n}")).arg(1).run::<i64>();
    call(0).await.unwrap();
    server.command(["SCRIPT", "FLUSH"]).unwrap();
    proxy.set(Fault::StallReplies);
    let before = server.command_counts().unwrap();
    let mut calls: Vec<_> = (1..=50).map(call).collect();
    calls.iter_mut().for_each(begin);
    let counts = Arc::clone(&server);
    let sent = move || counts.command_counts().unwrap().since(&before).of("evalsha");
    eventually("two by themselves and a batch are sent", move || sent() >= 3).await;
    drop(calls);
    proxy.clear();
    for n in 0..=50 {
        let found = conn.count(format!("n:{n}")).await.unwrap();
        assert_eq!(found, (n == 0).then_some(1), "{n}");
    }

    let found = at_once((1..=50).map(call)).await;
    found.into_iter().for_each(|found| assert_eq!(found.unwrap(), 1));
}
