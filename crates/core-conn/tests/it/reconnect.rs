//! What happens to calls and states when the link breaks.

use std::time::Duration;

use redbrick_core_conn::{Config, Conn, ErrorKind, State};
use redbrick_testkit::{Fault, Server};
use tokio::time::Instant;

use crate::{PATIENCE, eventually, reach, server};

#[tokio::test]
async fn a_killed_and_restarted_server_is_found_again_and_the_states_say_so() {
    let server = server();
    let conn = Conn::connect(server.url()).await.unwrap();
    let mut changes = conn.state_changes();

    server.kill().unwrap();
    let down = reach(&mut changes, State::Reconnecting).await;
    assert_eq!(down[0].previous, State::Connected);
    let error = down[0].error.as_ref().expect("why it is down");
    assert!(error.is_retryable(), "{error}");
    assert!(!conn.is_connected());

    server.restart().unwrap();
    let up = reach(&mut changes, State::Connected).await;
    assert_eq!(up.last().unwrap().previous, State::Reconnecting);
    conn.set("k", &1).await.unwrap();
    assert_eq!(conn.get::<i32>("k").await.unwrap(), Some(1));
}

#[tokio::test]
async fn calls_made_while_the_server_is_away_wait_for_it() {
    let server = server();
    let config = Config::builder().url(server.url()).command_timeout(PATIENCE);
    let conn = Conn::connect(config).await.unwrap();
    let mut changes = conn.state_changes();
    server.kill().unwrap();
    reach(&mut changes, State::Reconnecting).await;

    let waiting: Vec<_> = (0..50)
        .map(|_| {
            let conn = conn.clone();
            tokio::spawn(async move { conn.increment("n", 1).await })
        })
        .collect();
    server.restart().unwrap();
    for call in waiting {
        call.await.unwrap().unwrap();
    }
    assert_eq!(conn.increment("n", 0).await.unwrap(), 50, "each counted once");
}

#[tokio::test]
async fn a_call_that_waits_in_vain_says_that_it_was_not_sent() {
    let server = server();
    let conn = Conn::connect(server.url()).await.unwrap();
    let mut changes = conn.state_changes();
    server.kill().unwrap();
    reach(&mut changes, State::Reconnecting).await;

    let timeout = Duration::from_millis(200);
    let started = Instant::now();
    let err = conn.with_command_timeout(timeout).increment("n", 1).await.unwrap_err();
    let took = started.elapsed();
    assert_eq!(err.kind(), ErrorKind::Connect, "{err:?}");
    assert!(!err.is_outcome_unknown() && err.to_string().contains("nothing was sent"), "{err}");
    assert!(took >= timeout && took < timeout + Duration::from_secs(2), "{took:?}");

    server.restart().unwrap();
    reach(&mut changes, State::Connected).await;
    assert_eq!(conn.increment("n", 1).await.unwrap(), 1, "the first one never ran");
}

#[tokio::test]
async fn an_increment_whose_reply_is_lost_runs_once_and_says_that_it_is_unclear() {
    let server = server();
    let proxy = server.proxy().unwrap();
    let conn = Conn::connect(proxy.url()).await.unwrap();
    let mut changes = conn.state_changes();

    proxy.set(Fault::DropReplies);
    let call = tokio::spawn({
        let conn = conn.clone();
        async move { conn.increment("n", 1).await }
    });
    let counting = server.clone();
    eventually("the increment", move || counting.command_counts().unwrap().of("incrby") == 1).await;
    proxy.reset();
    proxy.clear();
    let err = call.await.unwrap().unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Interrupted, "{err:?}");
    assert!(err.is_outcome_unknown());
    reach(&mut changes, State::Connected).await;
    assert_eq!(conn.increment("n", 0).await.unwrap(), 1);
}

#[tokio::test]
async fn a_read_whose_reply_is_lost_is_sent_again() {
    let server = server();
    let proxy = server.proxy().unwrap();
    let conn = Conn::connect(proxy.url()).await.unwrap();
    conn.set("k", &7).await.unwrap();

    proxy.set(Fault::DropReplies);
    let call = tokio::spawn({
        let conn = conn.clone();
        async move { conn.get::<i32>("k").await }
    });
    let counting = server.clone();
    eventually("the read", move || counting.command_counts().unwrap().of("get") == 1).await;
    proxy.reset();
    proxy.clear();
    assert_eq!(call.await.unwrap().unwrap(), Some(7));
}

#[tokio::test]
async fn a_server_that_is_paused_costs_the_timeout_and_leaves_the_link_in_step() {
    let server = server();
    let conn = Conn::connect(server.url()).await.unwrap();
    conn.set("k", &1).await.unwrap();
    let hasty = conn.with_command_timeout(Duration::from_millis(200));

    let paused = server.pause().unwrap();
    let err = hasty.get::<i32>("k").await.unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Timeout, "{err:?}");
    assert!(err.is_timeout() && err.is_outcome_unknown());
    paused.resume();
    for n in 0..20 {
        conn.set(format!("k{n}"), &n).await.unwrap();
        assert_eq!(conn.get::<i32>(format!("k{n}")).await.unwrap(), Some(n));
    }
}

#[tokio::test]
async fn cancelled_calls_leave_the_link_in_step() {
    let server = server();
    let conn = Conn::connect(server.url()).await.unwrap();
    conn.set("right", "right").await.unwrap();
    conn.set("wrong", "wrong").await.unwrap();
    for polls in 0..50 {
        let mut call = Box::pin(conn.get::<String>("wrong"));
        for _ in 0..polls % 5 {
            tokio::select! {
                biased;
                _ = &mut call => break,
                () = tokio::task::yield_now() => {}
            }
        }
        drop(call);
        assert_eq!(conn.get::<String>("right").await.unwrap().as_deref(), Some("right"));
    }
}

#[tokio::test]
async fn a_changed_password_ends_in_the_error_state_and_calls_fail_at_once() {
    let server = Server::builder().password("old").start().unwrap();
    let conn = Conn::connect(Config::builder().url(server.url()).password("old")).await.unwrap();
    let mut changes = conn.state_changes();
    server.command(["CONFIG", "SET", "requirepass", "new"]).unwrap();
    server.command(["CLIENT", "KILL", "TYPE", "normal"]).unwrap();

    let seen = reach(&mut changes, State::Error).await;
    assert_eq!(seen.last().unwrap().error.as_ref().unwrap().kind(), ErrorKind::Auth);
    let started = Instant::now();
    assert_eq!(conn.ping().await.unwrap_err().kind(), ErrorKind::Auth);
    assert!(started.elapsed() < Duration::from_secs(1));
}

#[tokio::test]
async fn refused_credentials_are_tried_again_where_that_is_asked_for() {
    let server = Server::builder().password("old").start().unwrap();
    let config = Config::builder()
        .url(server.url())
        .password("old")
        .retry_auth_errors(true)
        .reconnect_delay(Duration::from_millis(10), Duration::from_millis(50));
    let conn = Conn::connect(config).await.unwrap();
    let mut changes = conn.state_changes();
    server.command(["CONFIG", "SET", "requirepass", "new"]).unwrap();
    server.command(["CLIENT", "KILL", "TYPE", "normal"]).unwrap();
    reach(&mut changes, State::Reconnecting).await;
    server.command(["CONFIG", "SET", "requirepass", "old"]).unwrap();
    reach(&mut changes, State::Connected).await;
    conn.ping().await.unwrap();
}

#[tokio::test]
async fn absurd_timeouts_neither_panic_nor_hang() {
    let server = server();
    let conn = Conn::connect(server.url()).await.unwrap();
    conn.with_command_timeout(Duration::MAX).ping().await.unwrap();
    let paused = server.pause().unwrap();
    assert!(conn.with_command_timeout(Duration::ZERO).ping().await.unwrap_err().is_timeout());
    paused.resume();
    assert!(conn.close(Duration::MAX).await.is_clean());
}

#[tokio::test]
async fn a_full_queue_refuses_at_once() {
    let server = server();
    let most = 10;
    let config = Config::builder().url(server.url()).max_waiting(most.try_into().unwrap());
    let conn = Conn::connect(config).await.unwrap();
    let mut changes = conn.state_changes();
    server.kill().unwrap();
    reach(&mut changes, State::Reconnecting).await;

    let waiting: Vec<_> = (0..most)
        .map(|_| {
            let conn = conn.clone();
            tokio::spawn(async move { conn.increment("n", 1).await })
        })
        .collect();
    // On this one thread the tasks run up to their first wait.
    tokio::task::yield_now().await;
    let started = Instant::now();
    let err = conn.increment("n", 1).await.unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Busy, "{err:?}");
    assert_eq!(conn.count("n").or_empty().await.unwrap(), None, "where nothing will do");
    assert!(started.elapsed() < Duration::from_secs(1));
    server.restart().unwrap();
    for call in waiting {
        call.await.unwrap().unwrap();
    }
    assert_eq!(conn.increment("n", 0).await.unwrap(), 10, "the refused one did not run");
}

#[tokio::test]
async fn no_room_for_another_client_says_so() {
    let server = Server::builder().config("maxclients", "3").start().unwrap();
    let config =
        || Config::builder().url(server.url()).reconnect_delay(PATIENCE / 10, PATIENCE / 10);
    let mut conns = Vec::new();
    let err = loop {
        match Conn::connect(config()).await {
            Ok(conn) => conns.push(conn),
            Err(err) => break err,
        }
        assert!(conns.len() < 4, "the server takes no more than three");
    };
    assert_eq!(err.kind(), ErrorKind::Connect, "{err:?}");
    assert!(err.to_string().contains("maxclients"), "{err}");
}
